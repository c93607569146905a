"""``python -m preprocess.remi build|encode|decode|pairs``: MIDI files, MuseCoco's REMI, and data to train on.

``build``   a folder, archive or list of MIDI files into a dataset folder for ``attribute_to_music``
``encode``  MIDI files into lines of words on stdout, one line per file
``decode``  lines of words into MIDI files
``pairs``   conditions and answers: of MIDI files, or of the user's own lines, into a dataset folder to fine-tune on

``build`` stores windows, up to three per piece, drawn from the seed and the piece's content: ``--window-bars`` bars (a
number, or a range from which each window draws) that begin at different bars.  A window without a note is left out, and
so is one of more than ``--max-tokens`` words, which is counted.  The key is that of the whole piece.  An item is the
words and ``</s>``; beside ``{split}.bin`` and ``.idx`` lies ``{split}.attributes.npy``, uint8 [items, 63], the class of
every command word (see ``musicbert_plugin.codecs.attributes``), and ``{split}.ends.npy``, bool [items], true for
windows that are the end of their piece (see ``musicbert_plugin.data.prefix_lm_dataset``).

``pairs`` of MIDI are two neighbouring bars in the layout ``notes``: the condition is ``PITCH``, then for each onset of
the second bar ``o`` and its distinct pitches from high to low, ``INS`` and its instruments, ``HIST`` and the first bar;
the answer is the second bar, which has a note.  Conditions are in ``{split}_input.bin`` and ``.idx``, answers in
``{split}.bin`` and ``.idx``.  With a SRC that holds ``{split}_input.txt``, ``{split}.txt`` and ``dict.txt``, these
lines are taken as they are: their answers are compared with the grammars of all layouts, the one that fits is that of
the dataset, and the first line that does not fit is named.  Words that a dictionary lacks take the place of words that
nothing uses: the number of rows stays, so that a checkpoint's embeddings fit.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.conditions import CONDITION_WORDS
from musicbert_plugin.codecs.reading_options import ReadingOptions, add_reading_options, reading_options_of
from musicbert_plugin.codecs.remi import FREE, LAYOUTS, NOTES_ALONE
from musicbert_plugin.codecs.score import Score
from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import given_path
from preprocess.engine.cli import add_options, option, options_of, run_command, say
from preprocess.engine.encode_decode import decode_lines, encode_files
from preprocess.engine.pipeline import BuildOptions, build
from preprocess.engine.remi_pairs import ConditionsWriter, PairSpec, is_own, own_pairs
from preprocess.engine.remi_windows import AttributesWriter, RemiSpec, check_max_tokens


@dataclass(frozen=True)
class RemiOptions(ReadingOptions):
    """What only the REMI builder takes."""

    layout: str = option("bar-tempo", "of the words", choices=LAYOUTS)
    window_bars: str = option("16", "bars of a window, a number or MIN-MAX", metavar="N")
    max_tokens: int = option(5120, "leave out windows with more words")
    labels: str = option("", "CSV with a column file, and any of artist, genre and emotion", metavar="CSV")
    chords: bool = option(False, "recognise chords, for the attribute C1 (seconds per file)")
    legacy: bool = option(False, "attributes with the original's defects")


def parse_window_bars(text: str) -> tuple[int, int]:
    """``16`` or ``8-16`` as (least, most).

    Raises
    ------
    OptionError
    """
    match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most <= 256:
        raise OptionError(f"--window-bars {text}: a number of bars from 1 to 256, or two as MIN-MAX, is accepted.")
    return least, most


@dataclass(frozen=True)
class PairOptions(ReadingOptions):
    """What only ``pairs`` takes."""

    max_tokens: int = option(5120, "leave out pairs with more words")
    layout: str = option(
        "auto",
        "order of the words: of MIDI files notes (default) or notes-by-program; of one's own lines the layout whose "
        "grammar admits most answers, or free if that is fewer than 95 %",
        choices=("auto", *LAYOUTS, FREE),
    )
    dictionary_rows: int = option(
        0, "of one's own lines: number of rows of the model's dictionary, if not 1,249 or 3,241", metavar="N"
    )


# Options of ``pairs`` that a user's own lines have no use for, with their defaults.
_ONLY_MIDI = {
    declared.name: declared.default
    for options in (BuildOptions, ReadingOptions)
    for declared in fields(options)
    if declared.name not in ("dest", "jobs", "format", "seed", "time_limit")
}


def parse_renames(given: list[str]) -> list[tuple[str, str]]:
    """``OLD=NEW`` as pairs.

    Raises
    ------
    OptionError
    """
    renames = []
    for text in given:
        old, _, new = text.partition("=")
        if not old or not new or " " in text:
            raise OptionError(f"--rename {text}: OLD=NEW is needed, two words.")
        renames.append((old, new))
    return renames


def encode(files: list[str], layout: str, plain: bool, reading: ReadingOptions) -> int:
    """Print one line per file; name those that fail, and those that lose notes."""

    def line_of(score: Score, file: str) -> str:
        grid = remi.grid_for(score, layout, plain=plain)
        if grid.lost:
            listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(grid.lost.items()))
            say(f"{file}: lost: {listed}")
        return remi.to_words(remi.encode_grid(grid, layout)[0])

    return encode_files(files, line_of, reading)


def decode(path: str, dest: str, layout: str | None, meter: str) -> int:
    """Write every piece of a file of lines as MIDI."""
    given = remi.parse_meter(meter)
    return decode_lines(path, dest, lambda words: remi.decode_with_repairs(remi.from_words(words), given, layout))


def pairs(source: list[str], general: BuildOptions, options: PairOptions, renames: list[str] | None) -> int:
    """Pairs of MIDI files, or of one folder of lines."""
    own = [folder for folder in source if is_own(Path(folder))]
    if own and len(source) > 1:
        raise OptionError(f"{own[0]} holds lines of your own, which are taken alone; {len(source)} sources are given.")
    if own:
        check_max_tokens(options.max_tokens)
        for name, value in (asdict(general) | asdict(options)).items():
            if name in _ONLY_MIDI and value != _ONLY_MIDI[name]:
                raise OptionError(
                    f"--{name.replace('_', '-')} {value}: it is for MIDI files; lines of your own are taken as they "
                    "are."
                )
        return own_pairs(
            Path(own[0]),
            general.dest,
            format=general.format,
            layout=options.layout,
            max_tokens=options.max_tokens,
            renames=None if renames is None else parse_renames(renames),
            dictionary_rows=options.dictionary_rows or None,
        )
    if options.dictionary_rows:
        raise OptionError("--dictionary-rows belongs to lines of your own, a folder with train_input.txt.")
    if renames:
        raise OptionError("--rename belongs to lines of your own, a folder with train_input.txt.")
    layout = PairSpec.layout if options.layout == "auto" else options.layout
    if layout not in NOTES_ALONE:
        raise OptionError(
            f"--layout {layout} belongs to lines of your own, a folder with train_input.txt; of MIDI files "
            f"{' or '.join(NOTES_ALONE)} is accepted."
        )
    spec = PairSpec(
        options.max_bytes,
        options.max_notes,
        options.max_events,
        general.seed,
        layout,
        options.max_tokens,
        channel_programs=options.channel_programs,
    )
    return build(source, spec, general, ConditionsWriter(general.format))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m preprocess.remi", description="MIDI files and MuseCoco's REMI.")
    commands = top.add_subparsers(dest="command", required=True)
    source_help = "folder, archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), MIDI file, or .txt list of paths"
    command = commands.add_parser("build", help="MIDI files into a dataset of windows and attributes")
    command.add_argument("source", nargs="+", metavar="SRC", help=source_help)
    add_options(command, BuildOptions)
    add_options(command, RemiOptions)
    command = commands.add_parser("pairs", help="MIDI files, or lines of your own, into a dataset of pairs")
    command.add_argument("source", nargs="+", metavar="SRC", help=f"{source_help}; or a folder with train_input.txt")
    command.add_argument(
        "--rename",
        action="append",
        metavar="OLD=NEW",
        help="with one's own lines: a new word for a row of dict.txt (default: d-96 to d-101 become "
        f"{', '.join(CONDITION_WORDS)})",
    )
    add_options(command, BuildOptions)
    add_options(command, PairOptions)
    command = commands.add_parser("encode", help="MIDI files into lines of words on stdout")
    command.add_argument("files", nargs="+", type=given_path, metavar="FILE", help="MIDI file")
    command.add_argument("--layout", default="bar-tempo", choices=LAYOUTS, help="of the words (default: bar-tempo)")
    command.add_argument("--plain", action="store_true", help="leave silence, key and shortest lengths as they stand")
    add_reading_options(command)
    command = commands.add_parser("decode", help="lines of words into MIDI files")
    command.add_argument("lines", type=given_path, metavar="LINES", help="file of lines, or - for standard input")
    command.add_argument("--dest", required=True, metavar="DIR", help="folder for 0.mid, 1.mid, ...")
    command.add_argument("--layout", choices=LAYOUTS, help="what the lines should be (default: as they look)")
    command.add_argument(
        "--meter",
        default="4/4",
        metavar="N/D",
        help="for layouts without time-signature tokens (default: 4/4)",
    )
    return top


def main(arguments: list[str]) -> int:
    """Run a command; returns its status."""
    given = parser().parse_args(arguments)
    if given.command == "encode":
        return encode(given.files, given.layout, given.plain, reading_options_of(given))
    if given.command == "decode":
        return decode(given.lines, given.dest, given.layout, given.meter)
    general = options_of(given, BuildOptions)
    if given.command == "build":
        own = options_of(given, RemiOptions)
        least, most = parse_window_bars(own.window_bars)
        spec = RemiSpec(
            own.max_bytes,
            own.max_notes,
            own.max_events,
            general.seed,
            own.layout,
            own.max_tokens,
            least,
            most,
            own.chords,
            own.legacy,
            channel_programs=own.channel_programs,
        )
        return build(given.source, spec, general, AttributesWriter(own.labels))
    pair_options = options_of(given, PairOptions)
    return pairs(given.source, general, pair_options, given.rename)


if __name__ == "__main__":
    run_command(main)
