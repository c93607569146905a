"""Folds for cross-validation: units of equal share, and of each fold about as many files of every class.

A *unit* is what must not be divided: a split group (see ``split_plan``).  Units are assigned one after the other, the
largest first and equal ones in an order drawn by the seed, each to the fold in which the counts of its classes are
lowest, and among equal ones to the smallest fold.  Units of one file and one class so differ by one at most between
folds, in every class.  The result depends on the content of the units and the seed, not on names or order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preprocess.engine.splits import chance

MOST_FOLDS = 1000


def assign_folds(
    sizes: NDArray[np.int64], classes: NDArray[np.int64], keys: NDArray[np.uint64], folds: int, seed: int
) -> NDArray[np.int64]:
    """The fold of every unit.

    Parameters
    ----------
    sizes : int64 [U]
        Number of files.
    classes : int64 [U, C]
        Number of files of each class that is to be spread; C may be 0.
    keys : uint64 [U]
        Content hash of each unit, all different.
    folds : int
        K, at most U.
    seed : int

    Returns
    -------
    int64 [U]
        0 to K - 1; no fold is empty.
    """
    order = sorted(range(len(sizes)), key=lambda unit: (-int(sizes[unit]), chance(seed, int(keys[unit]))))
    fold = np.zeros(len(sizes), np.int64)
    held = np.zeros(folds, np.int64)
    counts = np.zeros((folds, classes.shape[1]), np.int64)
    weights = 1 / np.maximum(classes.sum(axis=0), 1)
    for position, unit in enumerate(order):
        # What this unit adds to the sum of squared counts, each class relative to its total.
        added = ((2 * counts + classes[unit]) * classes[unit] * weights).sum(axis=1).round(9)
        empty = len(order) - position <= np.count_nonzero(held == 0)  # as many folds are empty as units are left
        allowed = np.flatnonzero(held == 0) if empty else np.arange(folds)
        best = allowed[np.lexsort((held[allowed], added[allowed]))[0]]
        fold[unit] = best
        held[best] += sizes[unit]
        counts[best] += classes[unit]
    return fold


def class_counts(cells: list[list[str]], unit: NDArray[np.int64], units: int) -> NDArray[np.int64]:
    """Count the files of each unit that have a class.

    Parameters
    ----------
    cells : list of list of str [N]
        The classes of each file.
    unit : int64 [N]
        The unit of each file.
    units : int
        U.

    Returns
    -------
    int64 [U, C]
        Classes are in the order of their names.
    """
    number = {name: index for index, name in enumerate(sorted({name for found in cells for name in found}))}
    counts = np.zeros((units, len(number)), np.int64)
    pairs = [(row, number[name]) for row, found in zip(unit.tolist(), cells, strict=True) for name in set(found)]
    if pairs:
        rows, columns = np.array(pairs).T
        np.add.at(counts, (rows, columns), 1)
    return counts
