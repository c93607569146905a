"""Worker processes that examine files, and what happens when one of them hangs or dies.

A worker gets files in batches and appends what it makes of them to files of its own (a *run* folder):

``items.bin``      the items of every piece (values, or lines of text), one piece after the other
``shingles.bin``   the sorted shingle hashes of every piece, uint32
``journal.jsonl``  first versions, then a line per file, written after the two others: what the journal names is whole

So a run folder is valid up to its last whole line at any moment, and nothing large passes between processes.  A
worker tells by a counter in shared memory which file it is at.  One that stays at a file longer than the time limit
is ended, as one that dies is replaced; either costs the file it was at, and the rest of its batch is done again by
another.

Processes are spawned, not forked, on every system.  What C libraries of theirs write to stderr is not shown: libmpg123
comments on every odd frame that it masters.  Python's own messages are.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from musicbert_plugin.errors import DatasetError, ScoreError
from preprocess.engine.near_duplicates import SAMPLES, SKETCH, Identity
from preprocess.engine.sources import Source

BATCH_FILES = 64
BATCH_BYTES = 4 << 20  # of files whose bytes are sent along
START_UP = 120.0  # seconds that a worker may take until its first file
Task = tuple[int, int, str, str, Any]  # index, source, name inside the source, name, place


@dataclass(frozen=True, eq=False)
class Piece:
    """What a file has become.

    Attributes
    ----------
    notes : int
        For the manifest.
    items : list of array
        What the dataset will hold, values [n] each.
    exact : bytes
        Hash of the content in this dataset's own terms: equal ones are duplicates even for ``--duplicates exact``.
    identity : Identity
        What makes it the same piece as another.
    extra : dict
        What the kind's companion will want to know of it (see ``builder.Companion``), as JSON knows it.
    lost : dict of str to int
        Notes that could not be kept, by reason.
    repaired : int
        Data bytes of the file that had to be repaired.
    """

    notes: int
    items: list[np.ndarray]
    exact: bytes
    identity: Identity
    extra: dict[str, Any] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    repaired: int = 0


class Kind(Protocol):
    """What the builder must know of one kind of dataset; it is sent to the workers."""

    @property
    def name(self) -> str:
        """Goes into ``config.json``."""

    @property
    def dtype(self) -> str:
        """Of the values of an item."""

    @property
    def unit(self) -> str:
        """What the length of a piece is counted in."""

    @property
    def batch_files(self) -> int:
        """How many files a worker gets at a time: few where each takes long, so that all workers have some."""

    @property
    def share_of_copies(self) -> float:
        """Share of equal shingles from which on two pieces are near copies."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files it reads."""

    @property
    def largest_file(self) -> int:
        """Bytes."""

    def examine(self, data: bytes, name: str) -> Piece:
        """A file's bytes as a piece; a :class:`ScoreError` where it can't become one or a filter leaves it out."""

    def left_out(self, reason: str) -> bool:
        """Whether a reason of :meth:`examine` is a filter's (the user's wish), not a failure."""

    def line(self, item: np.ndarray) -> str:
        """An item as a line for ``--format text``."""

    def dictionary(self) -> bytes:
        """Content of ``dict.txt``; empty where the values are no words."""

    def settings(self) -> dict[str, Any]:
        """What else ``config.json`` says."""

    def versions(self) -> dict[str, str]:
        """Of the libraries that decide what a file becomes; called in the workers."""


@dataclass(frozen=True)
class Assignment:
    """All that a worker must know from the start."""

    kind: Kind
    sources: tuple[Source, ...]
    text: bool


class Run:
    """A run folder being written."""

    def __init__(self, folder: Path, assignment: Assignment) -> None:
        self._assignment = assignment
        self._items = open(folder / "items.bin", "wb", buffering=0)
        self._shingles = open(folder / "shingles.bin", "wb", buffering=0)
        self._journal = open(folder / "journal.jsonl", "wb", buffering=0)
        self._blocks: list[Any] = []  # of items, not yet written
        self._hashes: list[np.ndarray] = []
        self._held = 0
        self._places = [0, 0]
        self._lines: list[str] = [json.dumps({"versions": assignment.kind.versions()})]

    def examine(self, task: Task, stamp: int) -> None:
        """Read a file and write what becomes of it."""
        index, number, inner, name, place = task
        kind = self._assignment.kind
        record: dict[str, Any] = {"file": name, "index": index, "stamp": stamp}
        try:
            data = self._assignment.sources[number].read(inner, place, kind.largest_file)
            record["hash"] = hashlib.sha256(data).hexdigest()[:32]
            piece = kind.examine(data, name)
        except ScoreError as error:
            record["reason"], record["detail"] = error.reason, error.sentence
            if error.extra:
                record["extra"] = error.extra
        except MemoryError:
            record["reason"], record["detail"] = "too large", f"{name}: not enough memory for it."
        except Exception as error:  # a defect of ours must cost one file, not the run
            record["reason"], record["detail"] = "error", f"{name}: {type(error).__name__}: {error}"
        else:
            blocks: list[Any] = piece.items
            if self._assignment.text:
                blocks = [kind.line(item).encode() + b"\n" for item in piece.items]
            lengths = list(map(len, blocks))
            size = sum(lengths) if self._assignment.text else sum(item.nbytes for item in piece.items)
            self._blocks += blocks
            self._hashes.append(piece.identity.shingles)
            self._held += size
            if self._held > BATCH_BYTES:
                self._write()
            record["notes"] = piece.notes
            record["exact"] = piece.exact.hex()
            record["sequence"] = piece.identity.sequence
            record["contour"] = piece.identity.contour
            record["span"] = piece.identity.span
            record["timing"] = piece.identity.timing.tobytes().hex()
            record["sketch"] = piece.identity.sketch.tobytes().hex()
            record["shingles"] = [self._places[1], len(piece.identity.shingles)]
            record["items"] = [self._places[0], size]
            record["lengths"] = lengths
            if piece.extra:
                record["extra"] = piece.extra
            if piece.lost:
                record["lost"] = piece.lost
            if piece.repaired:
                record["repaired"] = piece.repaired
            self._places[0] += size
            self._places[1] += 4 * len(piece.identity.shingles)
        self._lines.append(json.dumps(record, separators=(",", ":")))

    def _write(self) -> None:
        pairs: list[tuple[Any, list[Any]]] = [(self._items, self._blocks), (self._shingles, self._hashes)]
        for file, blocks in pairs:
            _write_all(file, b"".join(blocks))
            blocks.clear()
        self._held = 0

    def flush(self) -> None:
        """Make everything so far last."""
        self._write()
        _write_all(self._journal, ("\n".join(self._lines) + "\n").encode())
        self._lines.clear()


def _write_all(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def keep_stderr_from_libraries() -> None:
    """Turn file descriptor 2 away for good; ``sys.stderr`` goes on to where it led.

    For a process of our own, before it has a second thread: a descriptor belongs to all threads of a process.
    """
    sys.stderr.flush()
    sys.stderr = open(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)


def work(connection: Any, folder: str, assignment: Assignment) -> None:
    """A worker's life: batches in, word of each finished batch out, until the other side closes."""
    import gc
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    keep_stderr_from_libraries()
    gc.disable()  # nothing here makes cycles that matter, and a run holds little at a time
    with open(Path(folder) / "progress", "r+b") as file:
        progress = mmap.mmap(file.fileno(), 8)
    try:
        run = Run(Path(folder), assignment)
        run.flush()
        connection.send(None)
        while True:
            batch = connection.recv()
            for position, (task, stamp) in enumerate(batch):
                progress[:] = struct.pack("<q", position)
                run.examine(task, stamp)
            progress[:] = struct.pack("<q", len(batch))
            run.flush()
            gc.collect(0)
            connection.send(None)
    except (EOFError, ConnectionError):
        return
    except OSError as error:  # the disk is full, say
        connection.send(f"{folder}: cannot be written ({error.strerror or error}).")


class Worker:
    """The parent's side of one worker process."""

    def __init__(self, folder: Path, assignment: Assignment) -> None:
        import multiprocessing

        with open(folder / "progress", "w+b") as file:
            file.write(struct.pack("<q", -1))
            file.flush()
            self._progress = mmap.mmap(file.fileno(), 8)
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(other, str(folder), assignment), daemon=True)
        self._process.start()
        other.close()
        self.batch: list[tuple[Task, int]] = []
        self.ready = False
        self._seen = (-1, time.monotonic())

    def give(self, batch: list[tuple[Task, int]]) -> None:
        """Send a batch to an idle worker."""
        self.batch = batch
        self._progress[:] = struct.pack("<q", -1)
        self._seen = (-1, time.monotonic())
        self.connection.send(batch)

    @property
    def position(self) -> int:
        """Which file of the batch it is at; -1 before the first, and their number after the last."""
        return struct.unpack("<q", self._progress[:])[0]

    def overdue(self, limit: float) -> bool:
        """Whether it has been at the same file for longer than ``limit`` seconds."""
        position, now = self.position, time.monotonic()
        if position != self._seen[0]:
            self._seen = (position, now)
        waiting = position < 0 or position >= len(self.batch)
        return now - self._seen[1] > (max(limit, START_UP) if waiting else limit)

    def end(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self._process.kill()
        self._process.join()
        self._progress.close()

    def finish(self) -> None:
        """Let an idle worker go."""
        self.connection.close()
        self._process.join(10)
        self.end()


@dataclass(frozen=True)
class Progress:
    """Files that are done with, and one that was lost (its index, and ``"timeout"`` or ``"crashed"``)."""

    files: int
    lost: tuple[int, str] | None = None


def batches(tasks: Iterable[tuple[Task, int]], files: int = BATCH_FILES) -> Iterator[list[tuple[Task, int]]]:
    """Tasks in batches of bounded number and bytes."""
    batch: list[tuple[Task, int]] = []
    size = 0
    for task in tasks:
        batch.append(task)
        size += len(task[0][4]) if isinstance(task[0][4], bytes) else 0
        if len(batch) >= files or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def new_run(work_folder: Path) -> Path:
    """A run folder that did not exist before."""
    for number in range(1, 10**9):
        folder = work_folder / f"run-{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise DatasetError(f"{work_folder}: no more run folders can be made.")


def examine_all(
    tasks: Iterable[tuple[Task, int]], assignment: Assignment, work_folder: Path, jobs: int, time_limit: float
) -> Iterator[Progress]:
    """Examine files with ``jobs`` workers; what becomes of them is in the run folders.

    Parameters
    ----------
    tasks : iterable of (Task, stamp)
    assignment : Assignment
    work_folder : Path
        Where run folders are made.
    jobs : int
    time_limit : float
        Seconds that one file may take.

    Yields
    ------
    Progress

    Raises
    ------
    DatasetError
        Workers can't start, or can't write.
    """
    from multiprocessing.connection import wait

    waiting: deque[list[tuple[Task, int]]] = deque()
    source = batches(tasks, assignment.kind.batch_files)
    idle: list[Worker] = []
    busy: list[Worker] = []
    stillborn = 0
    tick = min(1.0, time_limit / 4)
    try:
        while True:
            while len(busy) < jobs:
                batch = waiting.popleft() if waiting else next(source, None)
                if batch is None:
                    break
                worker = idle.pop() if idle else Worker(new_run(work_folder), assignment)
                busy.append(worker)
                if worker.ready:
                    worker.give(batch)
                else:
                    worker.batch = batch
            if not busy:
                return
            answered = wait([worker.connection for worker in busy], timeout=tick)
            for worker in list(busy):
                reason = ""
                if worker.connection in answered:
                    try:
                        complaint = worker.connection.recv()
                        if complaint:
                            raise DatasetError(complaint)
                        if not worker.ready:
                            worker.ready = True
                            worker.give(worker.batch)
                            continue
                    except (EOFError, OSError):
                        reason = "crashed"
                    else:
                        busy.remove(worker)
                        idle.append(worker)
                        stillborn = 0
                        yield Progress(len(worker.batch))
                elif worker.overdue(time_limit):
                    reason = "timeout"
                if reason:
                    busy.remove(worker)
                    position = worker.position
                    worker.end()
                    batch = worker.batch
                    if 0 <= position < len(batch):
                        stillborn = 0
                        waiting.extend(part for part in (batch[:position], batch[position + 1 :]) if part)
                        yield Progress(1, (batch[position][0][0], reason))
                    else:
                        stillborn += 1
                        if stillborn >= 3:
                            raise DatasetError("Worker processes end before they have read anything; is memory short?")
                        waiting.append(batch)
    finally:
        for worker in busy:
            worker.end()
        for worker in idle:
            worker.finish()


class Records:
    """The records in all run folders of a work folder, for files that have not changed since.

    Parameters
    ----------
    work_folder : Path
    find : callable
        The index of a name (second argument: a guess), or -1.
    stamps : sequence of int
    """

    def __init__(self, work_folder: Path, find: Any, stamps: Sequence[int]) -> None:
        count = len(stamps)
        self.folders: list[Path] = []
        self.run = np.full(count, -1, np.int32)
        self.place = np.zeros(count, np.int64)
        self.notes = np.full(count, -1, np.int32)  # -1: did not become a piece
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
        """Read what has been written since."""
        for folder in sorted(self._work_folder.glob("run-*"), key=lambda path: int(path.name[4:])):
            journal = folder / "journal.jsonl"
            if not journal.is_file():
                continue
            if folder not in self.folders:
                self.folders.append(folder)
            with open(journal, "rb") as file:
                place = self._read_to.get(folder, 0)
                file.seek(place)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # its writer was killed
                    self._add(self.folders.index(folder), place, json.loads(line))
                    place += len(line)
                self._read_to[folder] = place

    def _add(self, run: int, place: int, record: dict[str, Any]) -> None:
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
        self.run[index], self.place[index] = run, place
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
        """The whole record of a file that has one."""
        journal = self.file(int(self.run[index]), "journal.jsonl")
        journal.seek(int(self.place[index]))
        return json.loads(journal.readline())

    def shingles_of(self, index: int) -> np.ndarray:
        """The sorted shingle hashes of a piece, uint32 [M]."""
        place, count = self.shingles[index].tolist()
        file = self.file(int(self.run[index]), "shingles.bin")
        file.seek(place)
        return np.frombuffer(file.read(4 * count), np.uint32)

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close()
        self._open.clear()
