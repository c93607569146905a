"""``python -m preprocess.octuple build|encode|decode``: MIDI files, OctupleMIDI tokens, MusicBERT's pre-training data.

``build``   a folder, archive or list of MIDI files into a dataset folder for ``octuple_masked_lm``
``encode``  MIDI files into lines of words on stdout, one line per file
``decode``  lines of words into MIDI files

With ``--windows drawn`` (the default) an item is one part of a piece: eight ``<s>``, the octuples of at most 256 bars
counted from 0, eight ``</s>``; the task draws windows from it.  With ``--windows stored`` items are the original's
(MusicBERT's preprocessing): windows of 1,000 notes every 250, the first beginning up to 999 notes before the piece,
all bars of a window moved by one random number that keeps them inside 0..255; each is drawn from the seed and the
piece's content.  Unlike the original's, equal pieces so give equal windows on every machine.

What ``encode`` prints and what stored windows hold is the published encoding, which leaves out notes from position
65,536 on (1,024 bars of 4/4): ``encode`` warns of them, the manifest and the summary of ``build`` count them.  Drawn
windows need no such limit and hold these notes too.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.reading_options import ReadingOptions, add_reading_options, reading_options_of
from musicbert_plugin.codecs.score import Score
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import given_path
from preprocess.engine.cli import add_options, option, options_of, run_command, say
from preprocess.engine.dataset_spec import Item, Piece
from preprocess.engine.encode_decode import decode_lines, encode_files
from preprocess.engine.midi import MidiSpec

DRAWN, STORED = "drawn", "stored"
WINDOW_NOTES, WINDOW_STEP = 1000, 250
FILTERS = ("not 4/4", "onset perplexity")


@dataclass(frozen=True)
class OctupleOptions(ReadingOptions):
    """What only the octuple builder takes."""

    windows: str = option(
        DRAWN, "drawn: whole pieces, the task draws windows; stored: the original's windows", choices=(DRAWN, STORED)
    )
    only_4_4: bool = option(False, "leave out pieces with a note in any other meter than 4/4")
    max_onset_perplexity: float = option(
        0.0, "leave out pieces whose onsets use more than so many of a quarter's 16 positions (perplexity; 0: no limit)"
    )


@dataclass(frozen=True)
class OctupleSpec(MidiSpec):
    """How a MIDI file becomes items of OctupleMIDI; see ``dataset_spec.DatasetSpec``."""

    windows: str = DRAWN
    only_4_4: bool = False
    max_onset_perplexity: float = 0.0

    name = "octuple"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_onset_perplexity < float("inf"):
            raise OptionError(f"--max-onset-perplexity {self.max_onset_perplexity}: 0 (no limit) or more is needed.")

    def read_piece(self, data: bytes, name: str) -> Piece:
        """The piece in a MIDI file, or a :class:`ScoreError`."""
        return self.piece_of(self.read(data, name), name)

    def piece_of(self, score: Score, name: str) -> Piece:
        """A score as a piece, or a :class:`ScoreError`."""
        octuples = octuple.encode(score, octuple.REACH if self.windows == DRAWN else octuple.PUBLISHED_END)
        self._filter(octuples, name)
        fingerprint = self.fingerprint(score)
        if self.windows == DRAWN:
            items = [octuple.frame(part) for part in octuple.split_bars(octuples)]
            content = hashlib.sha256(items[0].data)
            for item in items[1:]:
                content.update(item.data)
            exact = content.digest()[:16]
        else:
            exact = hashlib.sha256(octuples.tobytes()).digest()[:16]
            items = [octuple.frame(window) for window in stored_windows(octuples, self.seed, exact)]
        out_of_reach = len(score) - len(octuples)
        lost = {"note out of reach": out_of_reach} if out_of_reach else {}
        return Piece(
            len(octuples),
            items,
            exact,
            fingerprint,
            lost=lost,
            repairs=score.repairs,
            other_program=score.other_program,
        )

    def _filter(self, octuples: NDArray[np.integer], name: str) -> None:
        if self.only_4_4 and (octuples[:, octuple.TIME_SIGNATURE] != octuple.DEFAULT_METER_CODE).any():
            raise ScoreError("not 4/4", f"{name}: a note in another meter than 4/4.")
        if self.max_onset_perplexity:
            counts = np.bincount(octuples[:, octuple.POSITION] % octuple.POSITIONS_PER_QUARTER)
            perplexity = onset_perplexity(counts)
            if perplexity > self.max_onset_perplexity:
                raise ScoreError("onset perplexity", f"{name}: the perplexity of its onsets is {perplexity:.2f}.")

    def comparer(self) -> OctupleSpec:
        """Without the filters; the octuples find copies whose onsets differ by less than a position."""
        return OctupleSpec(
            **{declared.name: getattr(self, declared.name) for declared in fields(MidiSpec)}, windows=self.windows
        )

    def left_out(self, reason: str) -> bool:
        """Whether a filter gave this reason."""
        return reason in FILTERS

    def line(self, item: Item) -> str:
        """What fairseq-preprocess makes an item of; it appends the last ``</s>`` itself."""
        octuples, _ = octuple.unframe(item)
        return " ".join(["<s>"] * 8 + [octuple.to_words(octuples)] + ["</s>"] * 7)

    def dictionary(self) -> bytes:
        """``dict.txt``."""
        return octuple.dictionary_text().encode()

    def settings(self) -> dict[str, Any]:
        """What decides the content of the items, apart from the seed."""
        return {
            "windows": self.windows,
            "only_4_4": self.only_4_4,
            "max_onset_perplexity": self.max_onset_perplexity,
            **self.reading_settings(),
        }


def onset_perplexity(counts: NDArray[np.integer]) -> float:
    """``2 ** H`` of the distribution of counts (int [16]): 1 if all onsets share a position, 16 if all are alike."""
    shares = counts[counts > 0] / counts.sum()
    return float(2 ** -(shares * np.log2(shares)).sum())


def stored_windows(octuples: NDArray[np.integer], seed: int, content: bytes) -> list[NDArray[np.integer]]:
    """The original's overlapping windows of a piece (MusicBERT's preprocess.py, as spec'd by its published constants).

    Parameters
    ----------
    octuples : int [N, 8]
        A whole piece; bars may exceed 255.
    seed : int
    content : bytes
        What the random numbers depend on besides the seed.

    Returns
    -------
    list of int [n, 8]
        Notes ``[p, p + 1000)`` for p from ``-r`` in steps of 250, r in 0..999; bars moved by a number that keeps them
        in 0..255 (the first bar becomes 0 where they span more, and the window ends where bar 256 would come).
    """
    random = np.random.default_rng([seed, int.from_bytes(content, "little")])
    windows = []
    for start in range(-int(random.integers(WINDOW_NOTES)), len(octuples), WINDOW_STEP):
        window = octuples[max(start, 0) : start + WINDOW_NOTES].copy()
        low, high = -int(window[0, 0]), 255 - int(window[-1, 0])
        window[:, 0] += int(random.integers(low, high + 1)) if low <= high else low
        windows.append(window[: int(np.searchsorted(window[:, 0], 256))])
    return windows


def words_of(score: Score, file: str) -> str:
    """The score of a file as a line of words of the published encoding; says how many notes that leaves out."""
    octuples = octuple.encode(score, octuple.PUBLISHED_END)
    if len(octuples) < len(score):
        say(
            f"{file}: lost: {len(score) - len(octuples):,} of {len(score):,} notes, since the published encoding ends "
            f"at position {octuple.PUBLISHED_END:,}"
        )
    return octuple.to_words(octuples)


def score_of(words: str) -> tuple[Score, Counter[str]]:
    """The score of a line of words, and what had to be repaired."""
    octuples, dropped = octuple.from_words(words)
    score, repairs = octuple.decode_with_repairs(octuples)
    if dropped:
        repairs["word that is part of no octuple"] = dropped
    return score, repairs


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from preprocess.engine.pipeline import BuildOptions

    top = argparse.ArgumentParser(prog="python -m preprocess.octuple", description="MIDI files and OctupleMIDI tokens.")
    commands = top.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="MIDI files into a pre-training dataset")
    build.add_argument(
        "source",
        nargs="+",
        metavar="SRC",
        help="folder, archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), MIDI file, or .txt list of paths",
    )
    add_options(build, BuildOptions)
    add_options(build, OctupleOptions)
    _encode_arguments(commands.add_parser("encode", help="MIDI files into lines of words on stdout"))
    _decode_arguments(commands.add_parser("decode", help="lines of words into MIDI files"))
    return top


def _encode_arguments(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("files", nargs="+", type=given_path, metavar="FILE", help="MIDI file")
    add_reading_options(command)
    return command


def _decode_arguments(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("lines", type=given_path, metavar="LINES", help="file of lines, or - for standard input")
    command.add_argument("--dest", required=True, metavar="DIR", help="folder for 0.mid, 1.mid, ...")
    return command


def main(arguments: list[str]) -> int:
    """Run a command; returns its status."""
    if arguments[:1] in (["encode"], ["decode"]):  # they start without what only build needs
        small = argparse.ArgumentParser(prog=f"python -m preprocess.octuple {arguments[0]}")
        if arguments[0] == "encode":
            given = _encode_arguments(small).parse_args(arguments[1:])
            return encode_files(given.files, words_of, reading_options_of(given))
        given = _decode_arguments(small).parse_args(arguments[1:])
        return decode_lines(given.lines, given.dest, score_of)
    namespace = parser().parse_args(arguments)
    from dataclasses import asdict

    from preprocess.engine.pipeline import BuildOptions, build

    options = options_of(namespace, BuildOptions)
    spec = OctupleSpec(**asdict(options_of(namespace, OctupleOptions)), seed=options.seed)
    return build(namespace.source, spec, options)


if __name__ == "__main__":
    run_command(main)
