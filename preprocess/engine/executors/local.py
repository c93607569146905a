"""Runs tasks in worker processes of this machine, with a time limit for each; see ``workers``."""

from __future__ import annotations

import contextlib
import math
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from musicbert_plugin.errors import DatasetError
from preprocess.engine.cli import ProgressBar
from preprocess.engine.workers import RunnerConfig, Task, Worker

BATCH_FILES = 64
BATCH_BYTES = 4 << 20  # of tasks that carry the content of their file
FUTILE_STARTS = 3  # largest number of consecutive workers that end before their first task


@dataclass(frozen=True)
class Progress:
    """Number of tasks that ended, and, if one was lost, its number and ``"timeout"`` or ``"crashed"``."""

    files: int
    lost: tuple[int, str] | None = None


class Executor(Protocol):
    """The interface of everything that runs tasks."""

    def run(self, tasks: Iterable[Task], config: RunnerConfig, work_folder: Path) -> Iterator[Progress]:
        """Process tasks; their results are written to folders ``run-<number>`` of ``work_folder``.

        Raises
        ------
        DatasetError
            Workers cannot start, or cannot write.
        """


def batches(tasks: Iterable[Task], files: int = BATCH_FILES) -> Iterator[list[Task]]:
    """Tasks in batches of bounded number and bytes."""
    batch: list[Task] = []
    size = 0
    for task in tasks:
        batch.append(task)
        size += task.sent_bytes
        if len(batch) >= files or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def new_run_folder(work_folder: Path) -> Path:
    """Make a run folder that did not exist before."""
    for number in range(1, 10**9):
        folder = work_folder / f"run-{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise DatasetError(f"{work_folder}: no more run folders can be made.")


@dataclass
class LocalExecutor:
    """Worker processes of this machine; see :class:`Executor`.

    Attributes
    ----------
    jobs : int
        Number of processes.
    time_limit : float
        Seconds that one task may take.
    batch_files : int
        Largest number of tasks that a worker gets at a time.
    """

    jobs: int
    time_limit: float = math.inf
    batch_files: int = BATCH_FILES

    def run(self, tasks: Iterable[Task], config: RunnerConfig, work_folder: Path) -> Iterator[Progress]:
        waiting: deque[list[Task]] = deque()
        source = batches(tasks, self.batch_files)
        idle: list[Worker] = []
        busy: list[Worker] = []
        futile = 0
        tick = min(1.0, self.time_limit / 4)
        try:
            while True:
                while len(busy) < self.jobs:
                    batch = waiting.popleft() if waiting else next(source, None)
                    if batch is None:
                        break
                    worker = idle.pop() if idle else Worker(new_run_folder(work_folder), config)
                    busy.append(worker)
                    if worker.ready:
                        worker.give(batch)
                    else:
                        worker.batch = batch
                if not busy:
                    return
                answered = wait([worker.connection for worker in busy], timeout=tick)
                for worker in list(busy):
                    if worker.connection in answered:
                        reason = self._receive(worker)
                    else:
                        reason = "timeout" if worker.overdue(self.time_limit) else "busy"
                    if reason == "busy":
                        continue
                    busy.remove(worker)
                    batch = worker.batch
                    if reason == "done":
                        idle.append(worker)
                        futile = 0
                        yield Progress(len(batch))
                        continue
                    position = worker.position
                    worker.end()
                    if 0 <= position < len(batch):
                        futile = 0
                        waiting.extend(part for part in (batch[:position], batch[position + 1 :]) if part)
                        yield Progress(1, (batch[position].number, reason))
                    else:
                        futile += 1
                        if futile >= FUTILE_STARTS:
                            raise DatasetError("Worker processes end before they have read anything; is memory short?")
                        waiting.append(batch)
        finally:
            for worker in busy:
                worker.end()
            for worker in idle:
                worker.finish()

    @staticmethod
    def _receive(worker: Worker) -> str:
        """``"done"`` if the worker has finished its batch, ``"busy"`` if it starts the batch, or ``"crashed"``."""
        try:
            complaint = worker.connection.recv()
            if complaint:
                raise DatasetError(complaint)
            if worker.ready:
                return "done"
            worker.ready = True
            worker.give(worker.batch)
            return "busy"
        except (EOFError, OSError):
            return "crashed"


# ---------------------------------------------------------------------------------------------------------------- calls


class _Call(NamedTuple):
    number: int
    arguments: tuple[Any, ...]
    sent_bytes: int = 0


@dataclass(frozen=True)
class _Function:
    """A runner configuration that calls a function and pickles the results to the run folder."""

    function: Callable[..., Any]

    def open(self, folder: Path) -> _FunctionRunner:
        return _FunctionRunner(self.function, open(folder / "results.pickle", "wb"))


@dataclass
class _FunctionRunner:
    function: Callable[..., Any]
    file: BinaryIO

    def process_file(self, call: _Call) -> None:
        pickle.dump((call.number, self.function(*call.arguments)), self.file)

    def flush(self) -> None:
        self.file.flush()


def call_all(
    function: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    jobs: int,
    batch_files: int = 1,
    total: int | None = None,
) -> tuple[dict[int, Any], dict[int, str]]:
    """Call a function with each of several argument tuples, in worker processes, and show the progress.

    Parameters
    ----------
    function : callable
        Defined in a module, so that a worker can import it.
    arguments : iterable of tuple
        Taken when a worker is free.
    jobs : int
        Number of processes.
    batch_files : int
        Number of calls that a worker gets at a time.
    total : int, optional
        The number of calls, at most; by default the length of ``arguments``.

    Returns
    -------
    dict of int to result
        The results, by the index of their arguments.
    dict of int to str
        The calls whose process ended, by the same index, with the reason (``"crashed"``).
    """
    results: dict[int, Any] = {}
    lost: dict[int, str] = {}
    calls = (_Call(index, values) for index, values in enumerate(arguments))
    total = len(cast(Sized, arguments)) if total is None else total
    with tempfile.TemporaryDirectory() as work_folder:
        executor = LocalExecutor(max(1, min(jobs, total)), batch_files=batch_files)
        with ProgressBar(total) as bar:
            for progress in executor.run(calls, _Function(function), Path(work_folder)):
                bar.advance(progress.files)
                if progress.lost:
                    lost[progress.lost[0]] = progress.lost[1]
        for path in Path(work_folder).glob("run-*/results.pickle"):
            with open(path, "rb") as file:
                with contextlib.suppress(EOFError, pickle.UnpicklingError):  # the worker ended while writing
                    while True:
                        number, result = pickle.load(file)
                        results[number] = result
    return results, lost
