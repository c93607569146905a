"""Rows of any number: kept in memory while they are few, else in a temporary file; and their means and deviations."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 32 << 20  # bytes
BLOCK = 4096  # rows that are processed at a time


class RowStore:
    """An array [T, F] that grows at its end.

    Parameters
    ----------
    width : int
        F.
    dtype : data type
    in_memory : int, optional
        Bytes (default: :data:`IN_MEMORY`) from which on the rows are written to a temporary file, which vanishes with
        the last array made of it.
    """

    def __init__(self, width: int, dtype: Any = np.float32, in_memory: int | None = None) -> None:
        self._width, self._dtype = width, np.dtype(dtype)
        self._in_memory = IN_MEMORY if in_memory is None else in_memory
        self._blocks: list[NDArray[Any]] = []
        self._held = 0  # bytes in memory
        self._length = 0
        self._file: Any = None

    def __len__(self) -> int:
        return self._length

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows [t, F], converted to the data type."""
        rows = rows.astype(self._dtype)
        self._blocks.append(rows)
        self._held += rows.nbytes
        self._length += len(rows)
        if self._held > self._in_memory:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="rows-")
            self._spill()

    def _spill(self) -> None:
        for rows in self._blocks:
            self._file.write(np.ascontiguousarray(rows).data)
        self._blocks.clear()
        self._held = 0

    def array(self) -> NDArray[Any]:
        """All rows [T, F]: an array in memory, or the mapped file."""
        if self._file is None:
            return np.concatenate(self._blocks) if self._blocks else np.zeros((0, self._width), self._dtype)
        self._spill()
        self._file.flush()
        os.fsync(self._file.fileno())  # pages that are written already can be dropped when memory is short
        return np.memmap(self._file, self._dtype, "r+", shape=(self._length, self._width))


def drop_pages(array: NDArray[Any]) -> None:
    """Let the pages of a mapped file, which :meth:`RowStore.array` may be, go from memory; they can be read again."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def column_moments(rows: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of the columns of [T, F], and sums of squared deviations from them, float64 [F] each.

    The sums are those of numpy over the whole array, to the bit, but only :data:`BLOCK` rows are float64 at a time.
    """
    mean = _column_sums(rows, None) / len(rows)
    return mean, _column_sums(rows, mean)


def _column_sums(rows: NDArray[np.floating[Any]], mean: NDArray[np.float64] | None) -> NDArray[np.float64]:
    total: NDArray[np.float64] | None = None
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK].astype(np.float64)
        if mean is not None:
            block = (block - mean) ** 2
        # numpy adds rows one after the other, so that the sum so far may go before them as a row
        total = (block if total is None else np.concatenate((total[None], block))).sum(0)
        drop_pages(rows)
    return np.zeros(rows.shape[1]) if total is None else total
