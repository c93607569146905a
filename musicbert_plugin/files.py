"""Writing files so that a name in a folder always stands for a whole file.

A process may be killed at any moment.  What is written here goes to a file of another name in the same folder and is
moved to its own name when it is complete; moving replaces an older file in one step.  Pure Python.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".unfinished"
"""Suffix of files that are being written, or that a killed process left behind."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; the file appears under ``path`` when the block ends, or never if it raises.

    Parameters
    ----------
    path : path
        The final name.  An existing file is replaced when the new one is complete, and not before.

    Yields
    ------
    Path
        A name in the same folder, ending in :data:`UNFINISHED`; deleted if the block raises.
    """
    final = Path(path)
    unfinished = final.with_name(final.name + UNFINISHED)
    try:
        yield unfinished
        os.replace(unfinished, final)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
