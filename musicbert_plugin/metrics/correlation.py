"""Correlation of the hidden units of a layer with features of the sound.

Aim
---
A unit of a trained encoder may follow loudness, brightness, or a pitch class.  Pearson's correlation over the frames of
an excerpt measures how closely.  The correlations of many excerpts are averaged on Fisher's scale, on which their
errors are about equal.

Conventions
-----------
``units`` is float [T, U] and ``features`` float [T, F], T frames of one excerpt; correlations are float64 [U, F].  A
unit or a feature that is constant within an excerpt has no correlation there: NaN, left out of averages.

Metrics
-------
* :func:`pearson`: all correlations of an excerpt at once, as one matrix product of standardised columns.
* :class:`MeanCorrelation`: average over excerpts, on Fisher's scale [1]_, weighted by frames less three.

References
----------
.. [1] R. A. Fisher. "On the 'probable error' of a coefficient of correlation deduced from a small sample." Metron 1,
   1921.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SMALLEST_SPREAD = 1e-9  # relative to a column's size: below it, a column is constant up to rounding
_LARGEST = 1 - 1e-7  # keeps Fisher's z finite


def validate(units: ArrayLike, features: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check the arguments of :func:`pearson`, and return them as float64.

    Raises
    ------
    ValueError
        If they are not two-dimensional with one number of frames, or hold NaN or infinity.
    """
    x, y = np.asarray(units, dtype=np.float64), np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"units have shape {x.shape} and features {y.shape}; [T, U] and [T, F] are expected.")
    for name, values in (("units", x), ("features", y)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} hold numbers that are not finite.")
    return x, y


def _standardised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of mean 0 and length 1; NaN where a column is constant."""
    centred = x - x.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    constant = length <= _SMALLEST_SPREAD * np.sqrt(len(x)) * np.maximum(np.abs(x).max(axis=0), 1e-300)
    return centred / np.where(constant, np.nan, length)


def pearson(units: ArrayLike, features: ArrayLike) -> NDArray[np.float64]:
    """Pearson's correlation of every unit with every feature over the frames of an excerpt.

    Parameters
    ----------
    units : float [T, U]
    features : float [T, F]

    Returns
    -------
    float64 [U, F], -1 to 1, NaN for fewer than two frames and where a column is constant

    Examples
    --------
    >>> pearson([[1.0], [2.0], [3.0]], [[2.0, 1.0], [4.0, 0.0], [6.0, -1.0]])
    array([[ 1., -1.]])
    """
    x, y = validate(units, features)
    if len(x) < 2:
        return np.full((x.shape[1], y.shape[1]), np.nan)
    return np.clip(_standardised(x).T @ _standardised(y), -1.0, 1.0)


class MeanCorrelation:
    """Average of the correlations of many excerpts: tanh of the weighted mean of their inverse hyperbolic tangents."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | None = None
        self._weight: NDArray[np.float64] | None = None
        self.clips = 0

    def add(self, correlation: ArrayLike, frames: int) -> None:
        """Add the correlations of an excerpt [U, F] of so many frames; fewer than four frames are ignored."""
        r = np.asarray(correlation, dtype=np.float64)
        if frames < 4:
            return
        known = ~np.isnan(r)
        z = np.arctanh(np.clip(np.where(known, r, 0.0), -_LARGEST, _LARGEST))
        if self._sum is None or self._weight is None:
            self._sum, self._weight = np.zeros(r.shape), np.zeros(r.shape)
        self._sum += (frames - 3) * z
        self._weight += (frames - 3) * known
        self.clips += 1

    @property
    def value(self) -> NDArray[np.float64]:
        """The average, float64 [U, F]; NaN where no excerpt had a correlation.

        Raises
        ------
        ValueError
            Before the first excerpt.
        """
        if self._sum is None or self._weight is None:
            raise ValueError("there are no clips of four frames or more to average over.")
        mean = np.divide(self._sum, self._weight, out=np.full(self._sum.shape, np.nan), where=self._weight > 0)
        return np.tanh(mean)
