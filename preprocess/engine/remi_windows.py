"""Windows of REMI with the classes of their attributes, which ``preprocess.remi build`` makes from MIDI files."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import class_vector, extract, read_given, with_given
from musicbert_plugin.codecs.chords import brightness
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import escaped, read_regular
from preprocess.engine.cli import say
from preprocess.engine.dataset_spec import Item, Piece
from preprocess.engine.midi import MidiSpec
from preprocess.engine.sidecars import SidecarWriter
from preprocess.engine.sources import Collection
from preprocess.engine.splits import SPLITS

WINDOWS = 3  # per piece, at most
TOO_LONG, EMPTY = "windows too long", "no windows"
SLOTS = 63


def check_max_tokens(most: int) -> None:
    """Raise :class:`OptionError` if ``--max-tokens`` is below 1."""
    if most < 1:
        raise OptionError(f"--max-tokens {most}: 1 or more is needed.")


@dataclass(frozen=True)
class BarsSpec(MidiSpec):
    """How a MIDI file becomes items that are whole bars of REMI; see ``dataset_spec.DatasetSpec``.

    Attributes
    ----------
    candidate, empty : str
        The name of a possible item in messages, and the message for a piece that has none.
    """

    layout: str = "bar-tempo"
    max_tokens: int = 5120

    candidate = ""
    empty = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_tokens(self.max_tokens)

    def read_piece(self, data: bytes, name: str) -> Piece:
        """Read the piece in a MIDI file; raises :class:`ScoreError` if it has no items."""
        score = self.read(data, name)
        try:
            grid = remi.grid_for(score, self.layout)
        except ScoreError as error:
            raise ScoreError(error.reason, f"{name}: {error.sentence}") from None
        ids, ends = remi.encode_grid(grid, self.layout)
        exact = hashlib.sha256(ids.tobytes()).digest()[:16]
        items, sidecars, too_long = self.cut(grid, ids, ends, exact)
        counts: dict[str, object] = {"too_long": too_long} if too_long else {}
        if not items:
            if too_long:
                sentence = f"{name}: every {self.candidate} ({too_long}) has more than {self.max_tokens} words."
                raise ScoreError(TOO_LONG, sentence, counts)
            raise ScoreError(EMPTY, f"{name}: {self.empty}")
        lost = dict(grid.lost)
        sidecars |= counts | ({"lost": lost} if lost else {})
        fingerprint = self.fingerprint(score)
        return Piece(
            len(grid.onset),
            items,
            exact,
            fingerprint,
            sidecars,
            lost=lost,
            repairs=score.repairs,
            other_program=score.other_program,
        )

    def cut(
        self, grid: remi.Grid, ids: NDArray[np.uint16], ends: NDArray[np.int64], exact: bytes
    ) -> tuple[list[Item], dict[str, Any], int]:
        """Cut a piece into items.

        Parameters
        ----------
        grid : Grid
        ids : uint16 [T]
            The words of the piece.
        ends : int64 [B]
            End of each bar in ``ids``.
        exact : bytes
            Hash of ``ids``.

        Returns
        -------
        list of uint16 [n], dict, int
            The items, the entries for the sidecars, and the number of candidates of more than ``max_tokens`` words.
        """
        raise NotImplementedError

    def left_out(self, reason: str) -> bool:
        """Whether the reason is one of a filter."""
        return reason in (TOO_LONG, EMPTY)

    def settings(self) -> dict[str, Any]:
        """The options that determine the items, except the seed."""
        return {"layout": self.layout, "max_tokens": self.max_tokens, **self.reading_settings()}


@dataclass(frozen=True)
class RemiSpec(BarsSpec):
    """How a MIDI file becomes windows of REMI."""

    least_bars: int = 16
    most_bars: int = 16
    chords: bool = False
    legacy: bool = False

    name = "remi"
    candidate = "window drawn"
    empty = "no window drawn has a note."

    def cut(
        self, grid: remi.Grid, ids: NDArray[np.uint16], ends: NDArray[np.int64], exact: bytes
    ) -> tuple[list[Item], dict[str, Any], int]:
        """Windows with ``</s>``, their attributes, and whether each is the end of the piece."""
        chords = brightness(grid) if self.chords else None
        items: list[Item] = []
        classes, last, too_long = [], [], 0
        for begin, end in draw_windows(grid.first_note, self.least_bars, self.most_bars, self.seed, exact):
            window = ids[ends[begin - 1] if begin else 0 : ends[end - 1]]
            if len(window) > self.max_tokens:
                too_long += 1
                continue
            items.append(np.append(window, np.uint16(remi.EOS)))
            classes.append(class_vector(extract(grid, begin, end, legacy=self.legacy, chords=chords)))
            last.append(end == grid.bars)
        return items, {"classes": np.array(classes, np.uint8), "ends": np.array(last, np.bool_)}, too_long

    def line(self, item: Item) -> str:
        """The words; fairseq-preprocess appends ``</s>`` itself."""
        return remi.to_words(item[:-1])

    def dictionary(self) -> bytes:
        """``dict.txt``."""
        return remi.dictionary_text().encode()

    def settings(self) -> dict[str, Any]:
        """The options that determine the items, except the seed."""
        own = ("least_bars", "most_bars", "chords", "legacy")
        return super().settings() | {name: getattr(self, name) for name in own}


def draw_windows(
    first_note: NDArray[np.int64], least: int, most: int, seed: int, content: bytes
) -> list[tuple[int, int]]:
    """Up to three windows of bars [begin, end) with at least one note, at different starting bars, in order.

    Parameters
    ----------
    first_note : int [B + 1]
        Index of the first note of every bar, and the number of notes.
    least, most : int
        Smallest and largest number of bars of a window, drawn for each.  A piece of fewer bars is one window.
    seed : int
    content : bytes
        A hash of the piece, on which the random numbers depend besides the seed.
    """
    random = np.random.default_rng([seed, int.from_bytes(content, "little")])
    bars = len(first_note) - 1
    starts = bars - min(least, bars) + 1
    windows = []
    for begin in sorted(random.choice(starts, min(WINDOWS, starts), replace=False).tolist()):
        end = begin + int(random.integers(min(least, bars), min(most, bars - begin) + 1))
        if first_note[begin] < first_note[end]:
            windows.append((begin, end))
    return windows


class BarsSidecarWriter(SidecarWriter):
    """Counts the candidates that :class:`BarsSpec` leaves out; subclasses write the files.

    Parameters
    ----------
    items : str
        The plural noun for items in messages.
    """

    def __init__(self, items: str) -> None:
        self._items = items
        self._too_long, self._lost = 0, Counter[str]()

    def write(self, index: int, split: str, sidecars: dict[str, Any]) -> None:
        """Write the rows of a piece."""
        raise NotImplementedError

    def close(self) -> None:
        """Complete the files."""
        raise NotImplementedError

    def add(self, index: int, split: str, sidecars: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a piece, and count its lost notes."""
        self.write(index, split, sidecars)
        self.leave_out(sidecars)
        self._lost.update(sidecars.get("lost", {}))
        return {key: sidecars[key] for key in ("too_long", "lost") if key in sidecars}

    def leave_out(self, sidecars: dict[str, Any]) -> None:
        """Count the candidates that were too long."""
        self._too_long += sidecars.get("too_long", 0)

    def finish(self) -> dict[str, Any]:
        """Complete the files."""
        self.close()
        if self._too_long:
            say(f"{self._too_long:,} {self._items} too long are left out.")
        return {f"{self._items}_too_long": self._too_long, "lost_notes": dict(self._lost)}


class AttributesWriter(BarsSidecarWriter):
    """Writes ``{split}.attributes.npy``, uint8 [items, 63], and ``{split}.ends.npy``, bool [items].

    Artist, genre and emotion come from a CSV.  A window of which ``ends`` is true is the end of its piece.  A build
    that an older version began has no such marks, and neither has its dataset.

    Parameters
    ----------
    labels : str
        Path of the CSV, or "".
    """

    files = tuple(f"{split}.attributes.npy" for split in SPLITS)
    optional_files = tuple(f"{split}.ends.npy" for split in SPLITS)

    def __init__(self, labels: str = "") -> None:
        super().__init__("windows")
        self._given = read_given(labels) if labels else {}
        self._labels = labels
        self._given_of: dict[int, dict[str, Any]] = {}  # by index
        self._rows: dict[str, IO[bytes]] = {}
        self._ends: dict[str, list[NDArray[np.bool_]]] = {split: [] for split in SPLITS}
        self._marked = True

    def description(self) -> dict[str, Any]:
        """Name and content of the CSV."""
        digest = hashlib.sha256(read_regular(self._labels)).hexdigest()[:32] if self._labels else ""
        return {"labels": escaped(self._labels), "labels_sha256": digest}

    def check(self, collection: Collection) -> None:
        """Raise :class:`OptionError` if none of the labelled files is in the source."""
        known, missing = collection.values_by_file(self._given)
        self._given_of = {collection.find(file): values for file, values in known.items()}
        if self._given and not self._given_of:
            raise OptionError(
                f"--labels {self._labels}: none of its files is in the source, {next(iter(self._given))} ..."
            )
        if missing:
            say(f"--labels: {len(missing):,} of {len(self._given):,} files are not in the source.")

    def begin(self, out: Path) -> None:
        """Open a file of rows for each split."""
        self._out = out
        self._rows = {split: open(out / f"{split}.rows", "w+b") for split in SPLITS}

    def write(self, index: int, split: str, sidecars: dict[str, Any]) -> None:
        """Write the classes of a piece's windows."""
        classes = sidecars["classes"].reshape(-1, SLOTS)
        if index in self._given_of:
            classes = with_given(classes, self._given_of[index])
        self._rows[split].write(classes.tobytes())
        self._marked &= "ends" in sidecars
        self._ends[split].append(sidecars.get("ends", np.zeros(0, np.bool_)))

    def close(self) -> None:
        """Write the final files: a header, which needs the number of rows, and the rows."""
        for split, rows in self._rows.items():
            count = rows.tell() // SLOTS
            rows.seek(0)
            with open(self._out / f"{split}.attributes.npy", "wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, SLOTS)}
                np.lib.format.write_array_header_1_0(file, header)
                shutil.copyfileobj(rows, file)
            rows.close()
            (self._out / f"{split}.rows").unlink()
        if not self._marked:
            say("the build was begun by an older version, so windows that end their piece are not marked.")
            return
        for split, ends in self._ends.items():
            with open(self._out / f"{split}.ends.npy", "wb") as file:
                np.save(file, np.concatenate([np.zeros(0, np.bool_), *ends]), allow_pickle=False)
