"""Regression metrics: how well are numbers predicted (valence, arousal, tempo)?

Aim
---
A prediction may follow the variation of a quantity and yet miss its level or its range, or the other way round.  The
coefficient of determination compares its error with that of always predicting the mean; the concordance correlation
coefficient measures agreement of variation, level and range at once, and a correlation that of variation alone.

Conventions
-----------
``reference`` and ``estimate`` are float [N] or [N, D], D quantities side by side; a result has one number per quantity,
float64 [D] (D = 1 for [N]).  A result is undefined, NaN, without rows, for a reference without variance (R2; and CCC
if the estimate has none either and agrees; and a correlation, if one of the two has none).

Metrics
-------
* :func:`r2`: 1 - sum of squared errors / sum of squared deviations from the reference's mean; 1 is perfect, 0 is the
  mean, and it has no lower end.
* :func:`ccc`: 2 cov / (var + var + (difference of means)^2) [1]_, -1 to 1, with variances divided by N.
* :func:`pooled_r2`: R2 of all quantities as one row of numbers.  It also rewards the differences between the means of
  quantities, so that predicting these means alone has a value above 0; the mean of :func:`r2` over quantities (macro)
  does not.
* :func:`pearson`: linear correlation [2]_; :func:`spearman`: that of ranks [3]_, where equal numbers share their mean
  rank; both -1 to 1.
* :func:`rmse`: root of the mean squared error, in the quantity's own unit.

References
----------
.. [1] L. I.-K. Lin. "A concordance correlation coefficient to evaluate reproducibility." Biometrics 45 (1), 1989.
.. [2] K. Pearson. "Note on regression and inheritance in the case of two parents." Proc. Royal Society 58, 1895.
.. [3] C. Spearman. "The proof and measurement of association between two things." Am. J. Psychology 15 (1), 1904.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicbert_plugin.metrics.means import mean_ranks


def validate(reference: ArrayLike, estimate: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check the arguments, and return them as float64 [N, D].

    Raises
    ------
    ValueError
        If the shapes differ or are not [N] or [N, D], or a number is not finite.
    """
    truth, guess = np.asarray(reference, dtype=np.float64), np.asarray(estimate, dtype=np.float64)
    if truth.shape != guess.shape or truth.ndim not in (1, 2):
        raise ValueError(f"reference has shape {truth.shape} and estimate {guess.shape}; both are [N] or [N, D].")
    for name, values in (("reference", truth), ("estimate", guess)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds numbers that are not finite.")
    return (truth[:, None], guess[:, None]) if truth.ndim == 1 else (truth, guess)


def _divided(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def r2(reference: ArrayLike, estimate: ArrayLike) -> NDArray[np.float64]:
    """Coefficient of determination of each quantity.

    Parameters
    ----------
    reference, estimate : float [N] or [N, D]

    Returns
    -------
    float64 [D], at most 1, NaN without rows or where the reference is constant

    Examples
    --------
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    array([0.5])
    """
    truth, guess = validate(reference, estimate)
    if not len(truth):
        return np.full(truth.shape[1], np.nan)
    error = ((truth - guess) ** 2).sum(axis=0)
    return 1.0 - _divided(error, ((truth - truth.mean(axis=0)) ** 2).sum(axis=0))


def ccc(reference: ArrayLike, estimate: ArrayLike) -> NDArray[np.float64]:
    """Concordance correlation coefficient of each quantity.

    Parameters
    ----------
    reference, estimate : float [N] or [N, D]

    Returns
    -------
    float64 [D], -1 to 1, NaN without rows or where both are constant and equal
    """
    truth, guess = validate(reference, estimate)
    if not len(truth):
        return np.full(truth.shape[1], np.nan)
    means = truth.mean(axis=0), guess.mean(axis=0)
    covariance = ((truth - means[0]) * (guess - means[1])).mean(axis=0)
    return _divided(2 * covariance, truth.var(axis=0) + guess.var(axis=0) + (means[0] - means[1]) ** 2)


def pooled_r2(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Coefficient of determination of all numbers of all quantities together.

    Parameters
    ----------
    reference, estimate : float [N] or [N, D]
        Where some are missing, give those that are there as [N].

    Returns
    -------
    float, at most 1, NaN without rows or for a constant reference
    """
    truth, guess = validate(reference, estimate)
    return float(r2(truth.ravel(), guess.ravel())[0])


def pearson(reference: ArrayLike, estimate: ArrayLike) -> NDArray[np.float64]:
    """Linear correlation of each quantity.

    Parameters
    ----------
    reference, estimate : float [N] or [N, D]

    Returns
    -------
    float64 [D], -1 to 1, NaN without rows or where one of the two is constant

    Examples
    --------
    >>> pearson([1.0, 2.0, 3.0], [5.0, 7.0, 9.0])
    array([1.])
    """
    truth, guess = validate(reference, estimate)
    if not len(truth):
        return np.full(truth.shape[1], np.nan)
    varies = (np.ptp(truth, axis=0) > 0) & (np.ptp(guess, axis=0) > 0)
    truth, guess = truth - truth.mean(axis=0), guess - guess.mean(axis=0)
    norm = np.sqrt((truth**2).sum(axis=0) * (guess**2).sum(axis=0))
    return _divided((truth * guess).sum(axis=0), np.where(varies, norm, 0.0)).clip(-1, 1)


def spearman(reference: ArrayLike, estimate: ArrayLike) -> NDArray[np.float64]:
    """Correlation of the ranks of each quantity; equal numbers share their mean rank.

    Parameters
    ----------
    reference, estimate : float [N] or [N, D]

    Returns
    -------
    float64 [D], -1 to 1, NaN without rows or where one of the two is constant

    Examples
    --------
    >>> spearman([1.0, 2.0, 3.0], [5.0, 70.0, 900.0])
    array([1.])
    """
    truth, guess = validate(reference, estimate)
    ranks = [[mean_ranks(table[:, quantity]) for quantity in range(table.shape[1])] for table in (truth, guess)]
    first, second = (np.array(rows).T.reshape(truth.shape) for rows in ranks)
    return pearson(first, second)


def rmse(reference: ArrayLike, estimate: ArrayLike) -> NDArray[np.float64]:
    """Root of the mean squared error of each quantity, float64 [D], NaN without rows."""
    truth, guess = validate(reference, estimate)
    if not len(truth):
        return np.full(truth.shape[1], np.nan)
    return np.sqrt(((truth - guess) ** 2).mean(axis=0))
