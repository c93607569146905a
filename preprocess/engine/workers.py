"""Worker processes that process tasks, and what happens when one of them hangs or dies.

A worker gets tasks in batches and writes what it makes of them to a folder of its own, so that nothing large passes
between processes (see ``journal``).  It reports by a counter in shared memory which task it is at.  A worker that
stays at a task longer than the time limit is ended, and one that ends is replaced; either costs the task it was at, and
the rest of its batch is given to another worker.

Processes are spawned, not forked, on every system.  What C libraries write to stderr in them is not shown: libmpg123
comments on every odd frame that it handles.  Python's own messages are shown.
"""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import signal
import struct
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

START_UP = 120.0  # seconds that a worker may take until its first task


class Task(Protocol):
    """What a worker can be given, apart from what its :class:`Runner` makes of it."""

    @property
    def number(self) -> int:
        """By which it is reported if it is lost."""

    @property
    def sent_bytes(self) -> int:
        """Roughly how many bytes are sent to the worker."""


class Runner(Protocol):
    """What processes tasks in a worker."""

    def process_file(self, task: Any) -> None:
        """Process a task; whatever is wrong with it must not raise, apart from an OSError of the worker's own files."""

    def flush(self) -> None:
        """Write everything so far: the batch is done."""


class RunnerConfig(Protocol):
    """What is sent to a worker, and gives its runner."""

    def open(self, folder: Path) -> Runner:
        """A runner that writes to an empty folder."""


def keep_stderr_from_libraries() -> None:
    """Redirect file descriptor 2 to nothing, and ``sys.stderr`` to where the descriptor led.

    Only for a process of our own that has a single thread so far, since all threads share the descriptor.
    """
    sys.stderr.flush()
    sys.stderr = open(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)


def work(connection: Connection, folder: str, config: RunnerConfig) -> None:
    """Run a worker: receive batches and report each that is done, until the other side closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    keep_stderr_from_libraries()
    tempfile.tempdir = folder  # where the results go: there is room, and /tmp may be memory
    gc.disable()  # nothing here makes cycles that matter, and a batch holds little at a time
    with open(Path(folder) / "progress", "r+b") as file:
        progress = mmap.mmap(file.fileno(), 8)
    try:
        runner = config.open(Path(folder))
        runner.flush()
        connection.send(None)
        while True:
            batch = connection.recv()
            for position, task in enumerate(batch):
                progress[:] = struct.pack("<q", position)
                runner.process_file(task)
            progress[:] = struct.pack("<q", len(batch))
            runner.flush()
            gc.collect(0)
            connection.send(None)
    except (EOFError, ConnectionError):
        return
    except OSError as error:  # the disk is full, say
        connection.send(f"{error.filename or folder}: cannot be written ({error.strerror or error}).")


class Worker:
    """The parent's side of one worker process."""

    def __init__(self, folder: Path, config: RunnerConfig) -> None:
        with open(folder / "progress", "w+b") as file:
            file.write(struct.pack("<q", -1))
            file.flush()
            self._progress = mmap.mmap(file.fileno(), 8)
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(other, str(folder), config), daemon=True)
        self._process.start()
        other.close()
        self.batch: list[Task] = []
        self.ready = False
        self._seen = (-1, time.monotonic())

    def give(self, batch: list[Task]) -> None:
        """Send a batch to an idle worker."""
        self.batch = batch
        self._progress[:] = struct.pack("<q", -1)
        self._seen = (-1, time.monotonic())
        self.connection.send(batch)

    @property
    def position(self) -> int:
        """Which task of the batch it is at; -1 before the first, and their number after the last."""
        return struct.unpack("<q", self._progress[:])[0]

    def overdue(self, limit: float) -> bool:
        """Whether it has been at the same task for longer than ``limit`` seconds."""
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
