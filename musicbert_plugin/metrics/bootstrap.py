"""Confidence intervals of any statistic, by the bootstrap.

Aim
---
How far a measured number could lie from what many more pieces would give [1]_.

Conventions
-----------
Rows are drawn with replacement, as many as there are; the interval lies between two percentiles of the statistic over
the draws.  Rows that depend on each other (bars of a piece, recordings of a song) belong to one *group*, and groups are
drawn instead, each with all its rows.  To compare two systems on the same rows, rows of all arrays are drawn together:
:func:`paired_interval`, or differences of rows where the statistic is a mean.

Metrics
-------
* :func:`bootstrap_interval`: percentile interval of a mean, or of any other statistic.
* :func:`paired_interval`: percentile interval of the difference in a metric between two predictions of one reference.

References
----------
.. [1] B. Efron. "Bootstrap methods: another look at the jackknife." Annals of Statistics 7 (1), 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK = 2_000_000
"""Row numbers that are drawn at a time: a bound on memory."""


def bootstrap_interval(
    values: ArrayLike,
    *others: ArrayLike,
    statistic: Callable[..., float] | None = None,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    keep_missing: bool = False,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of independent rows or groups.

    Parameters
    ----------
    values : array_like [N] or [N, ...]
        With the default statistic float [N]; rows with NaN are left out of every array, unless ``keep_missing``.
    *others : array_like [N, ...]
        Further arguments of ``statistic``, drawn together with ``values``.
    statistic : callable, optional
        Of the drawn rows of each array; returns a number.  It is called once per draw.  Default: the mean.
    weights : array_like [N], optional
        Makes the default statistic a weighted mean: of all bars, where values are means over the bars of a piece.
    groups : array_like [N], optional
        Rows with equal entries are drawn together.
    keep_missing : bool
        Whether the statistic gets rows with NaN, of which it ignores what is missing (one of several labels, say).
    confidence : float
        Between 0 and 1.
    draws, seed : int

    Returns
    -------
    (float, float)
        NaN twice where no row is left.  Draws for which the statistic is NaN (no excerpt has a tag, say) are left out.

    Raises
    ------
    ValueError
        If lengths differ, ``confidence`` is not between 0 and 1, or ``weights`` come with a statistic or
        ``keep_missing`` without one.

    Examples
    --------
    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    >>> bootstrap_interval([1, 2, 4], [2, 3, 5], statistic=lambda a, b: float((b - a).mean()), draws=10)
    (1.0, 1.0)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; a number between 0 and 1 is expected.")
    if statistic is not None and weights is not None:
        raise ValueError("weights are those of the default statistic, the mean; give them to the statistic itself.")
    if statistic is None and keep_missing:
        raise ValueError("the mean of rows with NaN is NaN; give a statistic that ignores what is missing.")
    arrays = [np.asarray(values), *map(np.asarray, others)]
    weight = np.ones(len(arrays[0])) if weights is None else np.asarray(weights, np.float64)
    group = np.arange(len(arrays[0])) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if any(len(array) != len(arrays[0]) for array in (*arrays, weight, group)):
        raise ValueError(
            f"there are {[len(array) for array in (*arrays, weight, group)]} rows; one number is expected."
        )
    known = np.ones(len(arrays[0]), bool)
    for array in arrays:
        if array.dtype.kind == "f" and not keep_missing:
            known &= ~np.isnan(array).any(axis=tuple(range(1, array.ndim)))
    if not known.any():
        return float("nan"), float("nan")
    arrays, weight, group = [array[known] for array in arrays], weight[known], group[known]
    if statistic is None:
        # A mean of the drawn groups' rows is the quotient of two sums, one number per group each.
        sums, counts = np.bincount(group, arrays[0] * weight), np.bincount(group, weight)
        present = np.bincount(group) > 0
        sums, counts = sums[present], counts[present]
        found = [sums[rows].sum(axis=1) / counts[rows].sum(axis=1) for rows in _draw(len(sums), draws, seed)]
    else:
        order = np.argsort(group, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
        found = [
            np.array([_of_groups(statistic, arrays, [members[number] for number in row]) for row in rows])
            for rows in _draw(len(members), draws, seed)
        ]
    tail = (1 - confidence) / 2
    defined = np.concatenate(found)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def paired_interval(
    metric: Callable[[NDArray, NDArray], float],
    reference: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    keep_missing: bool = False,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of metric(reference, second) - metric(reference, first).

    Both are computed on the same drawn rows, so that what is hard or easy for both cancels out.  The difference is not
    shown where the interval contains 0.

    Parameters
    ----------
    metric : callable
        Of a reference and an estimate, as those of ``classification`` and ``regression``; returns a number.
    reference, first, second : array_like [N, ...]
    groups, keep_missing, confidence, draws, seed
        As in :func:`bootstrap_interval`.

    Returns
    -------
    (float, float)

    Examples
    --------
    >>> paired_interval(lambda truth, guess: float((truth == guess).mean()), [0, 1, 1], [1, 0, 0], [0, 1, 1], draws=10)
    (1.0, 1.0)
    """

    def difference(truth: NDArray, one: NDArray, other: NDArray) -> float:
        return metric(truth, other) - metric(truth, one)

    return bootstrap_interval(
        reference,
        first,
        second,
        statistic=difference,
        groups=groups,
        keep_missing=keep_missing,
        confidence=confidence,
        draws=draws,
        seed=seed,
    )


def _draw(count: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """``draws`` rows of ``count`` numbers below ``count``, some rows at a time."""
    random = np.random.default_rng(seed)
    rows = max(1, min(draws, _BLOCK // count))
    for start in range(0, draws, rows):
        yield random.integers(0, count, (min(rows, draws - start), count))


def _of_groups(statistic: Callable[..., float], arrays: list[NDArray], members: list[NDArray[np.int64]]) -> float:
    rows = np.concatenate(members)
    return float(statistic(*(array[rows] for array in arrays)))
