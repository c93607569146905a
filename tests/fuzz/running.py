"""Running fuzz targets: each is a module of this folder with ``seeds`` and ``check``.

A target module has

``seeds() -> list of bytes``
    Valid inputs, made by code; :func:`run` first checks them as they are.
``check(data, folder) -> None``
    Read an input as the plugin does.  ``folder`` is an empty folder when a run begins, and the same for all its cases.
    The errors of ``ERRORS`` are the answer to a bad input; everything else that is raised is a failure.
``ERRORS`` (optional)
    Exceptions that are no failure; by default ``(MusicError,)``, whose text has to be one line.
``mutate(data, rng, others) -> bytes`` (optional)
    Damages an input; by default :func:`~tests.fuzz.mutation.mutate_bytes`.
``CASES`` (optional)
    Mutated inputs in the test suite; by default 200.
``KEPT`` (optional)
    A dict from a name to an input (bytes) that once failed.  Files of ``kept/TARGET/`` are such inputs too.

A case is a function of the target's name, the seed and the number of the case.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from musicbert_plugin.errors import MusicError
from tests.fuzz.mutation import mutate_bytes

HERE = Path(__file__).resolve().parent
NO_TARGETS = ("__main__", "mutation", "running")
DEFAULT_CASES = 200


@dataclass
class Failure:
    """An input on which a target raised something else than its errors."""

    name: str
    data: bytes
    traceback: str

    def __str__(self) -> str:
        return f"{self.name}: {self.data[:200]!r}\n{self.traceback}"


class TooSlow(BaseException):
    """A case took longer than the limit of :func:`run`."""


def targets() -> list[str]:
    """The names of all targets: modules of this folder, without tests and what targets are run with."""
    names = (path.stem for path in HERE.glob("*.py"))
    return sorted(name for name in names if name not in NO_TARGETS and not name.startswith("test_"))


def load_target(name: str) -> ModuleType:
    """The module of a target."""
    return importlib.import_module(f"tests.fuzz.{name}")


def kept_inputs(name: str) -> dict[str, bytes]:
    """The inputs of a target that once failed, by their names."""
    kept: dict[str, bytes] = dict(getattr(load_target(name), "KEPT", {}))
    for path in sorted((HERE / "kept" / name).glob("*")):
        kept[path.name] = path.read_bytes()
    return kept


def mutated(name: str, seed: int, number: int, inputs: list[bytes]) -> bytes:
    """Case ``number``: one of ``inputs``, damaged."""
    rng = random.Random(f"{name} {seed} {number}")
    mutate: Callable[..., bytes] = getattr(load_target(name), "mutate", _default_mutate)
    data = rng.choice(inputs)
    try:
        return mutate(data, rng, inputs)
    except Exception:  # an input that once failed may have no structure to change
        return _default_mutate(data, rng, inputs)


def _default_mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    return mutate_bytes(data, rng, others=others)


def failure_of(name: str, case: str, data: bytes, folder: Path, limit: float = 0) -> Failure | None:
    """Check one input; ``limit`` is in seconds, and 0 is none."""
    target = load_target(name)
    errors: tuple[type[BaseException], ...] = getattr(target, "ERRORS", (MusicError,))
    ignored: list[Any] = []  # what callbacks and finalizers raise, which Python only prints
    hook, sys.unraisablehook = sys.unraisablehook, ignored.append
    try:
        with _at_most(limit):
            target.check(data, folder)
    except errors as error:
        if isinstance(error, MusicError) and "\n" in str(error):
            return Failure(case, data, f"more than one line: {error}\n{traceback.format_exc()}")
    except KeyboardInterrupt:
        raise
    except BaseException:
        return Failure(case, data, traceback.format_exc())
    finally:
        sys.unraisablehook = hook
    for raised in ignored:
        lines = traceback.format_exception(raised.exc_type, raised.exc_value, raised.exc_traceback)
        return Failure(case, data, f"{raised.err_msg}\n{''.join(lines)}")
    return None


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    if not seconds or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise TooSlow(f"more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(name: str, folder: Path, *, seed: int, cases: int) -> list[Failure]:
    """Check the seeds, the kept inputs and ``cases`` mutated inputs of a target; returns the failures."""
    inputs, kept = load_target(name).seeds(), kept_inputs(name)
    every = [
        *((f"seed {number}", data) for number, data in enumerate(inputs)),
        *kept.items(),
        *((f"case {number}", mutated(name, seed, number, inputs)) for number in range(cases)),
    ]
    found = (failure_of(name, case, data, folder) for case, data in every)
    return [failure for failure in found if failure is not None]


def run_for(name: str, folder: Path, found: Path, *, seed: int, seconds: float, limit: float, most: int) -> int:
    """Check mutated inputs for a time; write each kind of failure to a file of ``found``; returns how many there are.

    Parameters
    ----------
    folder, found : path
        For the target's files, and for the inputs that fail.
    seconds, limit : float
        For all cases, and for each.
    most : int
        Stop after so many kinds of failures (by the last line of the plugin in the traceback).
    """
    seeds = load_target(name).seeds()
    for data in seeds:  # what they import takes its time once
        failure_of(name, "seed", data, folder)
    inputs = [*seeds, *kept_inputs(name).values()]
    end, number, kinds = time.monotonic() + seconds, 0, set()
    current = found / f"{name}-current"  # what a crash of the whole process leaves behind
    while time.monotonic() < end and len(kinds) < most:
        data = mutated(name, seed, number, inputs)
        current.write_bytes(data)
        failure = failure_of(name, f"case {number}", data, folder, limit)
        if failure is not None and (kind := _kind(failure)) not in kinds:
            kinds.add(kind)
            path = found / f"{name}-{seed}-{number}"
            path.write_bytes(data)
            path.with_name(path.name + ".txt").write_text(failure.traceback, encoding="utf-8", errors="replace")
            print(f"{name}: case {number} fails; the input is {path}\n{failure.traceback}", file=sys.stderr, flush=True)
        number += 1
    current.unlink(missing_ok=True)
    print(f"{name}: {number:,} cases, {len(kinds)} kinds of failures", file=sys.stderr)
    return len(kinds)


def _kind(failure: Failure) -> str:
    """What a failure has in common with others of its cause."""
    lines = failure.traceback.strip().splitlines()
    frames = [line for line in lines if line.startswith("  File ") and "/tests/fuzz/running.py" not in line]
    return "\n".join([*frames[-2:], lines[-1].partition(":")[0]])
