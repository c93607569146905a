"""Packing: short windows share a row, so that no row is mostly padding.

Rows hold at most ``capacity`` octuples.  Lengths take few values (1,024 at most, by default), so the plan is made for
the histogram of lengths and not for the windows: best-fit decreasing, where all rows that look alike are handled at
once, as in Krell et al. 2021 (arXiv 2107.02027, section 3.1).  Millions of windows cost no more than thousands.  The
plan depends on the lengths alone, so an epoch has the same number of rows, of the same lengths, as every other; which
of the windows of a length go into which row is drawn for each epoch.

The segments of a row are independent: the row carries their lengths, attention stays inside a segment and positions
restart at each (see ``modules.packed_batch``).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Contents = tuple[tuple[int, int], ...]  # (length, copies) of the windows in a row


def pack_histogram(histogram: NDArray[np.int64], capacity: int) -> list[tuple[Contents, int]]:
    """Best-fit decreasing on a histogram of lengths.

    Parameters
    ----------
    histogram : int64 [<= capacity + 1]
        Number of windows of each length.
    capacity : int
        Longest row.

    Returns
    -------
    list of (contents, rows)
        ``rows`` rows hold ``copies`` windows of each ``(length, copies)`` in ``contents``.
    """
    open_rows: dict[int, list[tuple[Contents, int]]] = {}  # by free space
    free_spaces: list[int] = []  # the keys of open_rows, ascending

    def keep(free: int, contents: Contents, rows: int) -> None:
        if free not in open_rows:
            open_rows[free] = []
            insort(free_spaces, free)
        open_rows[free].append((contents, rows))

    for length in np.flatnonzero(histogram)[::-1].tolist():
        left = int(histogram[length])
        while left:
            tightest = bisect_left(free_spaces, length)
            if tightest < len(free_spaces):
                free = free_spaces[tightest]
                contents, rows = open_rows[free].pop()
                if not open_rows[free]:
                    del open_rows[free], free_spaces[tightest]
            else:
                free, contents, rows = capacity, (), left
            # The tightest row stays the tightest while windows of one length go in, so it is filled at once.
            copies = min(free // length, left)
            filled = min(rows, left // copies)
            keep(free - copies * length, (*contents, (length, copies)), filled)
            if contents and filled < rows:
                keep(free, contents, rows - filled)
            left -= filled * copies
    return [group for groups in open_rows.values() for group in groups]


@dataclass(frozen=True)
class RowPlan:
    """Which slots of which length each row has.

    Attributes
    ----------
    first_slot : int64 [rows + 1]
        Slots of row r are first_slot[r] to first_slot[r + 1] - 1.
    slots_by_length : int64 [windows]
        The slots, in ascending order of their length.
    row_lengths : int32 [rows]
        Octuples in each row.
    """

    first_slot: NDArray[np.int64]
    slots_by_length: NDArray[np.int64]
    row_lengths: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.row_lengths)

    def assign(self, lengths: NDArray[np.int32], rng: np.random.Generator | None = None) -> NDArray[np.int64]:
        """The window in each slot, int64 [windows]; windows of one length are shuffled, or keep their order without
        ``rng``."""
        windows = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
        windows = windows[np.argsort(lengths[windows].astype(np.uint16), kind="stable")]
        in_slot = np.empty_like(windows)
        in_slot[self.slots_by_length] = windows
        return in_slot


def plan_rows(lengths: NDArray[np.int32], capacity: int, pack: bool = True) -> RowPlan:
    """Plan rows of at most ``capacity`` octuples for windows of these lengths; without ``pack``, a row per window."""
    if not pack:
        return RowPlan(np.arange(len(lengths) + 1), np.argsort(lengths.astype(np.uint16), kind="stable"), lengths)
    groups = pack_histogram(np.bincount(lengths), capacity)
    slot_lengths, slot_counts, row_lengths = [], [], []
    for contents, rows in groups:
        row = np.repeat(*np.array(contents, dtype=np.int64).T)
        slot_lengths.append(np.tile(row, rows))
        slot_counts.append(np.full(rows, len(row)))
        row_lengths.append(np.full(rows, row.sum(), dtype=np.int32))
    first_slot = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(slot_counts))])
    slots_by_length = np.argsort(np.concatenate(slot_lengths).astype(np.uint16), kind="stable")
    return RowPlan(first_slot, slots_by_length, np.concatenate(row_lengths))
