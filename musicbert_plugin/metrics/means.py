"""Means of what is defined.

Aim
---
Several metrics are undefined for some classes, bars or pieces (NaN); averages leave those out.

Metrics
-------
* :func:`mean_of_defined`: mean of the values that are not NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


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
