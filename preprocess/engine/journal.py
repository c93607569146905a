"""Run folders: the results of the workers on disk, written by them and read by the builder.

Each worker appends to the files of its own *run folder*:

``items.bin``      the items of every piece (values, or lines of text), one piece after the other
``shingles.bin``   the sorted shingle hashes of every piece, uint32
``sidecars.bin``   arrays that the sidecars of the dataset need
``journal.jsonl``  first the versions, then a line per file, written after the data in the other files

If a worker is killed, its run folder is valid up to the last complete line of the journal.  A line whose data are not
there counts as none: its file is read again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.audio.row_store import drop_pages
from musicbert_plugin.errors import DatasetError, ScoreError
from musicbert_plugin.parsing import parse_json, shortened, whole_number
from preprocess.engine.dataset_spec import DatasetSpec
from preprocess.engine.near_duplicates import SAMPLES, SKETCH
from preprocess.engine.repairs import entries_of
from preprocess.engine.sources import Files, Folder, Source, content_hash

BUFFER_BYTES = 4 << 20
DATA_FILES = ("items.bin", "shingles.bin", "sidecars.bin")
_OLDER_ARRAYS: dict[str, tuple[Callable[[str], bytes], type]] = {
    "classes": (base64.b64decode, np.uint8),
    "conditions": (base64.b64decode, np.uint16),
    "moments": (base64.b85decode, np.float64),
}
"""Arrays that journals before version 0.2.0 hold as text: the decoder and the data type of each."""


_DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)
"""What reading a damaged record raises."""


class FileTask(NamedTuple):
    """A file to process.

    Attributes
    ----------
    number : int
        Its index in the collection.
    source : int
        Number of its source.
    inner : str
        Its name in the source.
    name : str
        Its name in the collection.
    place : bytes
        Its location in the source, or, for tar archives, its content.
    stamp : int
        A number that changes with the file.
    """

    number: int
    source: int
    inner: str
    name: str
    place: bytes
    stamp: int

    @property
    def sent_bytes(self) -> int:
        """Number of bytes that are sent to a worker."""
        return len(self.place)


@dataclass(frozen=True)
class WorkerConfig:
    """The settings that a worker needs: the kind of dataset, the sources, and whether items are written as text."""

    spec: DatasetSpec
    sources: tuple[Source, ...]
    text: bool

    def open(self, folder: Path) -> RunWriter:
        """Create the files of a run folder."""
        return RunWriter(folder, self)


class RunWriter:
    """Writes a run folder."""

    def __init__(self, folder: Path, config: WorkerConfig) -> None:
        self._config = config
        self._files: list[BinaryIO] = [open(folder / name, "wb", buffering=0) for name in DATA_FILES]
        self._blocks: list[list[Any]] = [[] for _ in DATA_FILES]  # not yet written
        self._ends = [0 for _ in DATA_FILES]  # bytes
        self._held = 0
        self._journal: BinaryIO = open(folder / "journal.jsonl", "wb", buffering=0)
        self._lines: list[str] = [json.dumps({"versions": config.spec.versions()})]

    def _append(self, file: int, blocks: Sequence[Any], size: int) -> int:
        """Append blocks, ``size`` bytes in total, to a file; returns their offset."""
        self._blocks[file] += blocks
        self._held += size
        self._ends[file] += size
        return self._ends[file] - size

    def process_file(self, task: FileTask) -> None:
        """Read a file and record its piece, or the reason why there is none."""
        spec = self._config.spec
        record: dict[str, Any] = {"file": task.name, "index": task.number, "stamp": task.stamp}
        try:
            source = self._config.sources[task.source]
            data: Any
            if spec.reads_paths and isinstance(source, Folder | Files):
                record["hash"] = content_hash(source, task.inner, task.place, spec.largest_file)
                data = source.path_of(task.inner)
            else:
                data = source.read(task.inner, task.place, spec.largest_file)
                record["hash"] = hashlib.sha256(data).hexdigest()[:32]
            piece = spec.read_piece(data, task.name)
        except ScoreError as error:
            record["reason"], record["detail"] = error.reason, error.sentence
            if error.sidecars:
                record["extra"] = error.sidecars
        except MemoryError:
            record["reason"], record["detail"] = "too large", f"{task.name}: not enough memory for it."
        except Exception as error:  # a defect in this program fails one file, not the run
            record["reason"], record["detail"] = "error", f"{task.name}: {type(error).__name__}: {error}"
        else:
            blocks: list[Any] = piece.items
            if self._config.text:
                blocks = [spec.line(item).encode() + b"\n" for item in piece.items]
            lengths = list(map(len, blocks))
            size = sum(lengths) if self._config.text else sum(item.nbytes for item in piece.items)
            fingerprint = piece.fingerprint
            shingles = fingerprint.shingles
            record["notes"] = piece.notes
            record["exact"] = piece.exact.hex()
            record["sequence"] = fingerprint.sequence
            record["contour"] = fingerprint.contour
            record["span"] = fingerprint.span
            record["timing"] = fingerprint.timing.tobytes().hex()
            record["sketch"] = fingerprint.sketch.tobytes().hex()
            record["shingles"] = [self._append(1, [shingles], shingles.nbytes), len(shingles)]
            record["items"] = [self._append(0, blocks, size), size]
            record["lengths"] = lengths
            for name, value in piece.sidecars.items():
                if isinstance(value, np.ndarray):
                    offset = self._append(2, [value.tobytes()], value.nbytes)
                    record.setdefault("arrays", {})[name] = [offset, value.dtype.str, value.shape]
                else:
                    record.setdefault("extra", {})[name] = value
            if piece.lost:
                record["lost"] = piece.lost
            record.update(entries_of(piece.repairs, piece.other_program))
            if piece.detail:
                record["detail"] = piece.detail
            if self._held > BUFFER_BYTES:
                self._write()
        self._lines.append(json.dumps(record, separators=(",", ":")))

    def _write(self) -> None:
        for file, blocks in zip(self._files, self._blocks, strict=True):
            small: list[Any] = []
            for block in blocks:
                if memoryview(block).nbytes < BUFFER_BYTES:
                    small.append(block)
                    continue
                _write_all(file, b"".join(small))  # a large one is not copied
                data = memoryview(block).cast("B")
                for first in range(0, len(data), BUFFER_BYTES):
                    _write_all(file, data[first : first + BUFFER_BYTES])
                    drop_pages(block)
                small.clear()
            _write_all(file, b"".join(small))
            blocks.clear()
        self._held = 0

    def flush(self) -> None:
        """Write all data to the files, the journal last."""
        self._write()
        _write_all(self._journal, ("\n".join(self._lines) + "\n").encode())
        self._lines.clear()


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _has_data(record: dict[str, Any], sizes: list[int]) -> bool:
    """Whether the files of :data:`DATA_FILES`, of these sizes in bytes, hold what a record refers to."""
    if "items" not in record:
        return True
    (start, size), (first, count) = record["items"], record["shingles"]
    arrays = record.get("arrays", {}).values()
    ends = [offset + np.dtype(dtype).itemsize * int(np.prod(shape)) for offset, dtype, shape in arrays]
    needed = (start + size, first + 4 * count, max(ends, default=0))
    return all(end <= there for end, there in zip(needed, sizes, strict=True))


class Journal:
    """The records of all run folders of a work folder, except those of files that have changed since.

    Parameters
    ----------
    work_folder : Path
    find : callable
        Returns the index of a name (second argument: a guess), or -1.
    stamps : sequence of int
        Stamps of the N files.

    Attributes
    ----------
    folders : list of Path
        Run folders.
    run, place : int32 [N], int64 [N]
        Number of the run folder of each file, -1 if it has no record, and the offset of its line in the journal.
    notes : int32 [N]
        Length of each piece; -1 for files without one.
    repaired : bool [N]
    exact : uint64 [N, 2]
    shingles : int64 [N, 2]
        Offset in ``shingles.bin`` in bytes, and number.
    sequence, contour, span, timing, sketch
        See :class:`Fingerprint`.
    versions : dict, optional
        Versions of the libraries that made the records.
    """

    def __init__(self, work_folder: Path, find: Callable[[str, int], int], stamps: Sequence[int]) -> None:
        count = len(stamps)
        self.folders: list[Path] = []
        self.run = np.full(count, -1, np.int32)
        self.place = np.zeros(count, np.int64)
        self.notes = np.full(count, -1, np.int32)
        self.repaired = np.zeros(count, bool)
        self.sequence = np.zeros(count, np.uint64)
        self.exact = np.zeros((count, 2), np.uint64)
        self.shingles = np.zeros((count, 2), np.int64)
        self.contour = np.zeros(count, np.uint64)
        self.span = np.zeros(count, np.int64)
        self.timing = np.zeros((count, SAMPLES), np.uint16)
        self.sketch = np.zeros((count, SKETCH), np.uint32)
        self.versions: dict[str, str] | None = None
        self._work_folder = work_folder
        self._find, self._stamps = find, stamps
        self._read_to: dict[Path, int] = {}
        self._open: dict[tuple[int, str], BinaryIO] = {}

    def update(self) -> None:
        """Read the lines that were written since the last call."""
        numbered = ((whole_number(path.name[4:]), path) for path in self._work_folder.glob("run-*"))
        for _, folder in sorted((number, path) for number, path in numbered if number is not None):
            journal = folder / "journal.jsonl"
            if not journal.is_file():
                continue
            if folder not in self.folders:
                self.folders.append(folder)
            paths = (folder / name for name in DATA_FILES)
            sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
            with open(journal, "rb") as file:
                offset = self._read_to.get(folder, 0)
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # incomplete, since the worker was killed
                    try:
                        record = parse_json(line)
                        if _has_data(record, sizes):
                            self._add(self.folders.index(folder), offset, record)
                    except _DAMAGE as error:
                        raise DatasetError(
                            f"{journal}: the line at byte {offset} is damaged ({shortened(error)}); remove "
                            f"{self._work_folder} to begin the build again."
                        ) from None
                    offset += len(line)
                self._read_to[folder] = offset

    def _add(self, run: int, offset: int, record: dict[str, Any]) -> None:
        if "versions" in record:
            if self.versions not in (None, record["versions"]):
                raise DatasetError(
                    f"{self._work_folder}: begun with {self.versions}, but now it is {record['versions']}; "
                    "remove the folder to begin again."
                )
            self.versions = record["versions"]
            return
        index = self._find(record["file"], record["index"])
        if index < 0 or self._stamps[index] != record["stamp"] or self.run[index] >= 0:
            return
        self.run[index], self.place[index] = run, offset
        if "reason" not in record:
            self.notes[index] = record["notes"]
            self.repaired[index] = "repaired" in record
            self.sequence[index] = record["sequence"]
            self.exact[index] = np.frombuffer(bytes.fromhex(record["exact"]), np.uint64)
            self.shingles[index] = record["shingles"]
            self.contour[index], self.span[index] = record["contour"], record["span"]
            self.timing[index] = np.frombuffer(bytes.fromhex(record["timing"]), np.uint16)
            self.sketch[index] = np.frombuffer(bytes.fromhex(record["sketch"]), np.uint32)

    def file(self, run: int, name: str) -> BinaryIO:
        """An open file of a run folder."""
        if (run, name) not in self._open:
            if len(self._open) >= 64:
                self._open.pop(next(iter(self._open))).close()
            self._open[run, name] = open(self.folders[run] / name, "rb")
        return self._open[run, name]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The record of a file that has one."""
        journal = self.file(int(self.run[index]), "journal.jsonl")
        journal.seek(int(self.place[index]))
        return json.loads(journal.readline())

    def _array(self, run: int, name: str, offset: int, dtype: str, count: int) -> NDArray[Any]:
        file = self.file(run, name)
        file.seek(offset)
        return np.frombuffer(file.read(np.dtype(dtype).itemsize * count), dtype)

    def shingles_of(self, index: int) -> NDArray[np.uint32]:
        """The sorted shingle hashes of a piece, uint32 [M]."""
        offset, count = self.shingles[index].tolist()
        return self._array(int(self.run[index]), "shingles.bin", offset, "uint32", count)

    def items_of(self, index: int, dtype: str) -> list[NDArray[Any]]:
        """The items of a piece, values [n] each, of a dataset that is not written as text."""
        record = self[index]
        lengths = record["lengths"]
        values = self._array(int(self.run[index]), "items.bin", record["items"][0], dtype, sum(lengths))
        return np.split(values, np.cumsum(lengths)[:-1])

    def sidecars_of(self, index: int, record: dict[str, Any]) -> dict[str, Any]:
        """:attr:`Piece.sidecars` of a file, given its record."""
        values = dict(record.get("extra", {}))
        try:
            for name, (decode, value_type) in _OLDER_ARRAYS.items():
                if isinstance(values.get(name), str):
                    values[name] = np.frombuffer(decode(values[name]), value_type)
            for name, (offset, dtype, shape) in record.get("arrays", {}).items():
                array = self._array(int(self.run[index]), "sidecars.bin", offset, dtype, int(np.prod(shape)))
                values[name] = array.reshape(shape)
        except _DAMAGE as error:
            raise DatasetError(
                f"{self.folders[int(self.run[index])]}: the arrays of {shortened(record.get('file'))} are damaged "
                f"({shortened(error)}); remove {self._work_folder} to begin the build again."
            ) from None
        return values

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close()
        self._open.clear()
