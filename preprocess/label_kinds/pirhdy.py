"""``preprocess.labels phrases SRC --pirhdy --ids FILE``: the pairs of phrases that PiRhDy published, as octuples.

SRC is a folder with the files ``train`` and ``test`` (and perhaps ``valid``; ``.txt`` and ``.csv`` are accepted too), a
pair per line: 1,025 whole numbers, joined by commas.  They are two phrases of 128 steps (32 to the bar), each as pitch
id, octave, velocity and state of all steps, one after the other; the last number is 1 for a true pair and else 0.  In
``valid`` and ``test``, 50 lines in a row are the candidates of a query.

Conversion, as in MusicBERT's own (muzic, ``gen_nsp.py``):

* A note begins at a step of state 3, or of state 2 at step 0, whose pitch id is in the table ``--ids``, and lasts as
  long as the states after it are 1 or 2.  A step is two positions.
* The table gives the pitch classes of an id; a text instead of them (ids 13, unknown, and 14, over number) stands for
  all twelve.  The MIDI pitch of a class is class + 12 (octave - 1).
* The velocities of the codes 1 to 10 are :data:`VELOCITIES`, and 0 is the last of them; the tempo code is 35 and the
  time signature 4/4.  Phrases have program 80; the second one of accompaniment suggestion 0.
* In melody completion the second phrase comes later by as many steps as the first has pitch ids above 0, so it already
  lies where it is in a pair of one sequence (``second_bar`` 0 in ``config.json``).

A line is left out and named if it has another length, or a number that is none or has no meaning; and counted, if a
phrase of it has no notes.  The table is JSON, ``{id: [pitch class, ...] or text}``, or a pickle that holds nothing but
dict, list, set, tuple, int and str: anything else in it is refused before it is made, so that no code of it can run.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import octuple
from musicbert_plugin.data.dataset_folder import read_config, write_config
from musicbert_plugin.data.indexed_dataset import IndexedDatasetWriter
from musicbert_plugin.data.labelled_octuples import FIXED_COLUMNS, PAIR_COLUMNS, labels_path, pairs_path
from musicbert_plugin.errors import OptionError
from musicbert_plugin.parsing import parse_json, shortened, whole_number
from preprocess.engine.cli import DONE, SOME_FAILED, Heartbeat, say
from preprocess.engine.destination import Destination
from preprocess.engine.splits import SPLITS

Ints = NDArray[np.int64]

STEPS, FEATURES = 128, 4
NUMBERS = 2 * FEATURES * STEPS + 1
SUFFIXES = ("", ".txt", ".csv")
VELOCITIES = np.array([8, 20, 31, 42, 53, 64, 80, 96, 112, 127])
OFF, HOLD, ON = 1, 2, 3
PER_STEP = 2  # positions
PROGRAMS = {"completion": (80, 80), "accompaniment": (80, 0)}
CANDIDATES = 50
LARGEST_TABLE = 1 << 24  # bytes
LARGEST_ID = 1 << 16
_BLOCK = 512  # lines
_NAMED = 20  # lines that messages name
DAMAGED = "damaged line"


class _Table(pickle.Unpickler):
    """Reads a pickle of plain values; what would import or call anything else raises UnpicklingError."""

    def find_class(self, module: str, name: str) -> Any:
        """``set``, which protocols below 4 name as a function; nothing else."""
        if module in ("builtins", "__builtin__") and name == "set":
            return set
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, identity: Any) -> Any:
        """Refused."""
        raise pickle.UnpicklingError("it asks for an object outside the file")


def _read_pickle(data: bytes) -> Any:
    """The plain values of a pickle; raises UnpicklingError, ValueError and others for anything else.

    A few bytes may ask for a place of any number in the reader's memory of values, which would take that much memory.
    So they are looked at first: no pickle needs more places than it has bytes.
    """
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument is not None and argument > len(data):
            raise pickle.UnpicklingError(f"it asks for {argument} places")
    return _Table(io.BytesIO(data)).load()


def read_ids(path: str) -> NDArray[np.bool_]:
    """The pitch classes of each id, bool [largest id + 1, 12]; none for ids that the table lacks.

    Raises
    ------
    OptionError
        The table cannot be read, or asks for more than plain values, or is no table of pitch classes.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_TABLE + 1)
    except OSError as error:
        raise OptionError(f"--ids {path}: {error.strerror or error}.") from None
    if len(data) > LARGEST_TABLE:
        raise OptionError(f"--ids {path}: larger than {LARGEST_TABLE:,} bytes.")
    accepted = "accepted is {id: [pitch class, ...] or text}, as JSON or as a pickle of plain values"
    table: Any
    try:
        table = parse_json(data) if data.lstrip()[:1] == b"{" else _read_pickle(data)
    except Exception as error:  # a damaged pickle raises anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OptionError(f"--ids {path}: {reason[:120]}; {accepted}.") from None
    if type(table) is not dict or not table:
        raise OptionError(f"--ids {path}: it holds {shortened(table)}; {accepted}.")
    masks: dict[int, NDArray[np.bool_]] = {}
    for key, value in table.items():
        number = whole_number(key) if type(key) is str else key if type(key) is int else None
        classes = list(value) if type(value) in (list, set, tuple) else None
        mask = np.zeros(12, bool)
        if type(value) is str:
            mask[:] = True
        elif type(value) is int and 0 <= value < 12:
            mask[value] = True
        elif classes and all(type(name) is int and 0 <= name < 12 for name in classes):
            mask[classes] = True
        if number is None or not 0 < number < LARGEST_ID or not mask.any():
            raise OptionError(f"--ids {path}: {shortened(key)} is {shortened(value)}; {accepted}.")
        masks[number] = mask
    found = np.zeros((max(masks) + 1, 12), bool)
    found[list(masks)] = list(masks.values())
    return found


def phrases_of(numbers: Ints, masks: NDArray[np.bool_], task: str) -> list[list[Ints]]:
    """The octuples of both phrases of L lines, int64 [n, 8] each.

    Parameters
    ----------
    numbers : int64 [L, 1024]
        Without the label.
    masks : bool [ids, 12]
        What :func:`read_ids` gives.
    task : str
        ``completion`` or ``accompaniment``.
    """
    lines = len(numbers)
    pitch, octave, velocity, state = numbers.reshape(lines, 2, FEATURES, STEPS).transpose(2, 0, 1, 3)
    step = np.arange(STEPS)
    begins = (state == ON) | ((state == HOLD) & (step == 0))
    known = (pitch > 0) & (pitch < len(masks))
    begins &= known & masks[np.where(known, pitch, 0)].any(axis=-1)
    goes_on = (state == OFF) | (state == HOLD)
    stop = np.where(goes_on, STEPS, step)  # the next step that ends a note
    stop = np.minimum.accumulate(stop[..., ::-1], axis=-1)[..., ::-1]
    stop = np.concatenate([stop[..., 1:], np.full((lines, 2, 1), STEPS)], axis=-1)

    line, part, where = np.nonzero(begins)
    note, pitch_class = np.nonzero(masks[pitch[line, part, where]])  # a row per pitch class
    line, part, where = line[note], part[note], where[note]
    shift = np.zeros((lines, 2), np.int64)
    if task == "completion":
        shift[:, 1] = (pitch[:, 0] > 0).sum(axis=-1)
    onset = (where + shift[line, part]) * PER_STEP
    rows = np.empty((len(line), len(octuple.FIELDS)), np.int64)
    rows[:, octuple.BAR], rows[:, octuple.POSITION] = np.divmod(onset, octuple.POSITIONS_PER_WHOLE)
    rows[:, octuple.PROGRAM] = np.array(PROGRAMS[task])[part]
    rows[:, octuple.PITCH] = pitch_class + 12 * (octave[line, part, where] - 1)
    rows[:, octuple.DURATION] = octuple.duration_code((stop[line, part, where] - where) * PER_STEP)
    rows[:, octuple.VELOCITY] = VELOCITIES[velocity[line, part, where] - 1] >> 2
    rows[:, octuple.TIME_SIGNATURE] = octuple.DEFAULT_METER_CODE
    rows[:, octuple.TEMPO] = octuple.DEFAULT_TEMPO_CODE
    order = np.lexsort((*rows.T[::-1], part, line))
    counts = np.bincount(line * 2 + part, minlength=2 * lines)
    pieces = np.split(rows[order], np.cumsum(counts)[:-1])
    return [pieces[2 * number : 2 * number + 2] for number in range(lines)]


def _complaint(numbers: Ints) -> str:
    """What is wrong with the numbers of a line, without its label; "" if nothing is."""
    pitch, octave, velocity, state = numbers.reshape(2, FEATURES, STEPS).transpose(1, 0, 2)
    everywhere = np.ones_like(state, bool)
    sounds = (state >= HOLD) & (pitch > 0)  # where a note may begin
    for name, values, low, high, where in (
        ("pitch id", pitch, 0, LARGEST_ID - 1, everywhere),
        ("octave", octave, 1, 10, sounds),
        ("velocity", velocity, 0, len(VELOCITIES), sounds),
        ("state", state, 0, ON, everywhere),
    ):
        wrong = where & ((values < low) | (values > high))
        if wrong.any():
            return f"{name} {values[wrong][0]}, but {low} to {high} is accepted"
    return ""


class Lines:
    """The usable lines of a file, in blocks, and what is wrong with the others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed = 0

    def blocks(self) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Numbers of pairs, from 0, int64 [L]; what their lines hold [L, 1024]; and labels [L]."""
        numbers, rows = [], []
        with open(self.path, "rb") as file:
            given = ((number, line) for number, line in enumerate(file, 1) if line.strip())
            for pair, (number, line) in enumerate(given):  # queries are counted without empty lines
                row = self._parse(line, number)
                if row is None:
                    continue
                numbers.append(pair)
                rows.append(row)
                if len(rows) == _BLOCK:
                    yield self._block(numbers, rows)
                    numbers, rows = [], []
        if rows:
            yield self._block(numbers, rows)

    @staticmethod
    def _block(numbers: list[int], rows: list[Ints]) -> tuple[Ints, Ints, Ints]:
        table = np.stack(rows)
        return np.array(numbers), table[:, :-1], table[:, -1]

    def _parse(self, line: bytes, number: int) -> Ints | None:
        cells = line.split(b",")
        reason = "" if len(cells) == NUMBERS else f"{len(cells):,} numbers, but {NUMBERS:,} are needed"
        row = np.empty(0, np.int64)
        if not reason:
            try:
                row = np.array(cells, np.int64)
            except (ValueError, OverflowError):
                reason = "it holds something else than whole numbers joined by commas"
        if not reason:
            reason = "" if row[-1] in (0, 1) else f"label {row[-1]}, but 0 and 1 are accepted"
        reason = reason or _complaint(row[:-1])
        if not reason:
            return row
        self.failed += 1
        if self.failed <= _NAMED:
            say(f"{self.path}, line {number:,}: {reason}; it is left out.")
        return None


class _SplitWriter:
    """Writes the items, labels and pairs of a split."""

    def __init__(self, out: Path, split: str, file: str) -> None:
        self.split, self._file = split, file
        self._items = IndexedDatasetWriter(out / split, "uint16")
        self._labels = open(labels_path(out, split), "w", encoding="utf-8", newline="")
        self._pairs = open(pairs_path(out, split), "w", encoding="utf-8", newline="")
        self._labels.write(",".join((*FIXED_COLUMNS, "part")) + "\n")
        self._pairs.write(",".join(PAIR_COLUMNS) + "\n")
        self.count = 0
        self.notes = 0
        self.true = 0
        self.queries: Counter[int] = Counter()

    def add(self, pair: int, phrases: list[Ints], label: int, parts: tuple[str, str]) -> None:
        """Add a pair, given its number in the file."""
        query = pair // CANDIDATES if self.split != SPLITS[0] else -1
        group = f"{self.split} {query if query >= 0 else pair}"
        for rows, part in zip(phrases, parts, strict=True):
            self._items.add(octuple.frame(rows))
            piece = f"{self._file}:{pair + 1}"
            self._labels.write(f"{piece},{self.count},{len(rows)},{piece} {part},{group},,{part}\n")
            self.count += 1
            self.notes += len(rows)
        cells = (self.count - 2, self.count - 1, label, query if query >= 0 else "")
        self._pairs.write(",".join(map(str, cells)) + "\n")
        self.true += label
        self.queries[query] += 1

    def progress(self) -> str:
        """How far it is."""
        return f"{self.split}: {self.count // 2:,} pairs"

    def close(self) -> None:
        """Complete the files."""
        self._items.close()
        self._labels.close()
        self._pairs.close()


def pirhdy(folder: Path, dest: str, ids: str, task: str) -> int:
    """Convert PiRhDy's files into a dataset of phrases; returns the status.

    Raises
    ------
    OptionError
        It cannot start.
    """
    files = {}
    for split in SPLITS:
        found = [folder / f"{split}{suffix}" for suffix in SUFFIXES if (folder / f"{split}{suffix}").is_file()]
        if found:
            files[split] = found[0]
    if SPLITS[0] not in files:
        raise OptionError(f"{folder}: no file train (or train.txt, train.csv), as PiRhDy's dataset has.")
    masks = read_ids(ids)
    settings = {
        "windows": "drawn",
        "dictionary_sha256": octuple.DICTIONARY_SHA256,
        "phrases": {"task": task, "bars": 4, "second_bar": 0},
    }
    content = hashlib.sha256(masks.tobytes())
    for split in SPLITS:
        content.update(_digest(files[split]) if split in files else b"-")
    description = {"kind": "octuple", **settings, "source": [str(folder)], "source_sha256": content.hexdigest()}
    names = [name for split in SPLITS for name in (f"{split}.bin", f"{split}.idx")]
    names += [table("", split).name for split in SPLITS for table in (labels_path, pairs_path)]
    destination = Destination(Path(dest), description, [*names, "dict.txt", "config.json"])
    if destination.finished and not destination.begun:
        destination.finish_cleaning()
        say(f"{dest}: finished already with these options and files; nothing to do.")
        left_out = read_config(Path(dest) / "config.json").get("left_out", {})
        return SOME_FAILED if DAMAGED in left_out else DONE
    destination.begin()
    parts = ("melody", "melody" if task == "completion" else "accompaniment")
    counts, failed, empty = {}, 0, 0
    heartbeat = Heartbeat()
    try:
        out = destination.new_output()
        for split in SPLITS:
            writer = _SplitWriter(out, split, files[split].name if split in files else "")
            counts[split] = writer
            lines = Lines(files[split]) if split in files else None
            for numbers, table, labels in lines.blocks() if lines else ():
                for number, label, phrases in zip(
                    numbers.tolist(), labels.tolist(), phrases_of(table, masks, task), strict=True
                ):
                    if min(map(len, phrases)):
                        writer.add(number, phrases, label, parts)
                    else:
                        empty += 1
                heartbeat.say(writer.progress)
            writer.close()
            failed += lines.failed if lines else 0
        (out / "dict.txt").write_text(octuple.dictionary_text())
        splits = {
            split: {"items": writer.count, "notes": writer.notes, "pairs": writer.count // 2}
            for split, writer in counts.items()
        }
        left_out = {reason: count for reason, count in ((DAMAGED, failed), ("no notes", empty)) if count}
        write_config(out, "octuple", {**settings, "build": description, "splits": splits, "left_out": left_out})
        if not counts[SPLITS[0]].count:
            destination.give_up()
            raise OptionError(f"{files[SPLITS[0]]}: no pair of it could be used, of {failed + empty:,} lines.")
        destination.publish()
        destination.clean()
    except OSError as error:
        raise OptionError(f"{dest}: cannot be written ({error.strerror or error}).") from None
    for split, writer in counts.items():
        pairs = writer.count // 2
        said = f"{writer.true:,} of them true" if split == SPLITS[0] else f"{len(writer.queries):,} queries"
        say(f"{split:<8}{pairs:>12,} pairs, {said}")
    if failed:
        say(f"left out: {DAMAGED}{failed:>18,}  (failed)")
    if empty:
        say(f"left out: no notes{empty:>22,}")
    return SOME_FAILED if failed else DONE


def _digest(path: Path) -> bytes:
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.digest()
