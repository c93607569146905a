"""Means of what is defined, and mean ranks.

Aim
---
Several metrics are undefined for some classes, bars or pieces (NaN); averages leave those out.  Several others compare
ranks, and values that are equal have no order.

Metrics
-------
* :func:`mean_of_defined`: mean of the values that are not NaN.
* :func:`mean_ranks`: ranks, of which equal values share the mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_of_defined(values: ArrayLike) -> float:
    """Mean of the values that are not NaN; NaN, without a warning, where there are none.

    Examples
    --------
    >>> mean_of_defined([1.0, float("nan"), 2.0])
    1.5
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if numbers.size else float("nan")


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank from 1 of each value of [N]; equal values share their mean rank.

    Examples
    --------
    >>> mean_ranks(np.array([5.0, 1.0, 5.0]))
    array([2.5, 1. , 2.5])
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place.ravel()]
