"""Calibration: do predicted probabilities come true as often as they say, and the temperature that makes them?

Aim
---
Of predictions with a probability of 0.8, four in five should be right.  A fine-tuned network is mostly too sure; one
number, by which all its logits are divided, mends most of that and changes no predicted class [1]_.

Conventions
-----------
N items, C classes or tags.  For classes ``reference`` is int [N] and ``probability`` float [N, C]; for tags
``reference`` is bool [N, C], each tag on its own.  Absent labels of tags are marked by ``present`` bool [N, C]; items
without a class are left out by the caller.  A result without items is NaN.

Metrics
-------
* :func:`calibration_error`: expected calibration error [2]_.  Items are put into bins of equal width by the probability
  of their predicted class, ((b - 1) / bins, b / bins]; it is the mean over items of the absolute difference between
  their bin's accuracy and its mean probability.  0 is perfect, and it is at most 1.
* :func:`tag_calibration_error`: the same of each tag: bins of the tag's probability, and how often items have the tag.
* :func:`fit_temperature`: the temperature T > 0 that minimises the mean cross-entropy of softmax(logits / T), or of
  sigmoid(logits / T) for tags.  The cross-entropy is convex in 1 / T, so there is one minimum.
* :func:`apply_temperature`: the probabilities at a temperature.

References
----------
.. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. "On calibration of modern neural networks." ICML, 2017.
.. [2] M. P. Naeini, G. F. Cooper, M. Hauskrecht. "Obtaining well calibrated probabilities using Bayesian binning."
   AAAI, 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicbert_plugin.metrics.classification import validate_classes, validate_tags

BINS = 15
LOWEST, HIGHEST = 0.01, 100.0
"""Temperatures between which the best one is searched for: of labels that are all predicted right, it would be 0."""
_HALVINGS = 60
_SMALLEST = 1e-12  # of a probability that is turned into a logit

Array = NDArray[np.float64]


def calibration_error(reference: ArrayLike, probability: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error of predicted classes.

    Parameters
    ----------
    reference : int [N]
    probability : float [N, C]
        Between 0 and 1.
    bins : int
        At least 1.

    Returns
    -------
    float, 0 to 1, NaN without items

    Examples
    --------
    >>> calibration_error([0, 0, 1, 1], [[0.75, 0.25], [0.75, 0.25], [0.75, 0.25], [0.25, 0.75]])
    0.0
    """
    values = _probabilities(probability)
    if not len(values):
        return float("nan")
    truth, guess = validate_classes(reference, values.argmax(axis=1))
    return _error(values.max(axis=1), truth == guess, bins)


def tag_calibration_error(
    reference: ArrayLike, probability: ArrayLike, present: ArrayLike | None = None, bins: int = BINS
) -> Array:
    """Expected calibration error of each tag, float64 [C]; NaN for a tag that no item has a label of.

    Parameters
    ----------
    reference : bool [N, C]
    probability : float [N, C]
        Between 0 and 1.
    present : bool [N, C], optional
        Labels that count (default: all).
    bins : int
        At least 1.
    """
    truth, values = validate_tags(reference, _probabilities(probability))
    known = np.ones(truth.shape, bool) if present is None else np.asarray(present, dtype=bool)
    columns = range(truth.shape[1])
    return np.array([_error(values[known[:, tag], tag], truth[known[:, tag], tag], bins) for tag in columns])


def _probabilities(probability: ArrayLike) -> Array:
    values = np.asarray(probability, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"probability has shape {values.shape}; [N, C] is expected.")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("probability holds numbers outside 0 to 1.")
    return values


def _error(confidence: Array, right: NDArray[np.bool_], bins: int) -> float:
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least 1 is expected.")
    if not len(confidence):
        return float("nan")
    number = np.maximum(np.ceil(confidence * bins).astype(np.int64) - 1, 0)
    difference = np.bincount(number, confidence - right, minlength=bins)
    return float(np.abs(difference).sum() / len(confidence))


def _log_normaliser(logits: Array) -> Array:
    highest = logits.max(axis=1, keepdims=True)
    return highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))


def apply_temperature(logits: ArrayLike, temperature: float, *, tags: bool = False) -> Array:
    """softmax(logits / temperature), or sigmoid for tags, float64 [N, C].

    Raises
    ------
    ValueError
        The temperature is not a finite number above 0.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"the temperature is {temperature}; a finite number above 0 is expected.")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if tags:
        return np.exp(-np.logaddexp(0.0, -scaled))
    return np.exp(scaled - _log_normaliser(scaled)[:, None])


def logits_of(probability: ArrayLike, *, tags: bool = False) -> Array:
    """Logits whose softmax, or sigmoid for tags, are these probabilities, float64 [N, C].

    Probabilities below 1e-12 count as 1e-12 (of tags, also those above 1 - 1e-12), so that logits are finite.
    """
    values = np.maximum(_probabilities(probability), _SMALLEST)
    return np.log(values) - np.log(np.maximum(1 - values, _SMALLEST)) if tags else np.log(values)


def cross_entropy(
    logits: ArrayLike, reference: ArrayLike, *, tags: bool = False, present: ArrayLike | None = None
) -> float:
    """Mean cross-entropy in nats, per item, or per label of tags that is present; NaN without any."""
    values, truth, known = _checked(logits, reference, tags, present)
    if not known.any():
        return float("nan")
    if tags:
        return float((np.logaddexp(0.0, values) - truth * values)[known].mean())
    return float((_log_normaliser(values) - values[np.arange(len(values)), truth]).mean())


def fit_temperature(
    logits: ArrayLike, reference: ArrayLike, *, tags: bool = False, present: ArrayLike | None = None
) -> float:
    """The temperature with the least cross-entropy, which bisection of its derivative by 1 / T finds.

    Parameters
    ----------
    logits : float [N, C]
        Outputs of a head for items that it was not trained on; of averaged probabilities, :func:`logits_of` them.
    reference : int [N], or bool [N, C]
    tags : bool
        Whether the labels are tags.
    present : bool [N, C], optional
        Labels of tags that count (default: all).

    Returns
    -------
    float
        Between :data:`LOWEST` and :data:`HIGHEST`.

    Raises
    ------
    ValueError
        Shapes or classes do not match, a logit is not finite, or there is no label.

    Examples
    --------
    >>> round(fit_temperature([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]], [0, 0, 0, 1]), 6)
    1.820478
    """
    values, truth, known = _checked(logits, reference, tags, present)
    if not known.any():
        raise ValueError("there is no label to fit a temperature to.")
    true_logit = (truth * values)[known].sum() if tags else values[np.arange(len(values)), truth].sum()

    def slope(inverse: float) -> float:
        expected = apply_temperature(values, 1 / inverse, tags=tags) * values
        return float(expected[known].sum() - true_logit) if tags else float(expected.sum() - true_logit)

    low, high = np.log(1 / HIGHEST), np.log(1 / LOWEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if slope(float(np.exp(middle))) > 0:
            high = middle
        else:
            low = middle
    return float(np.exp(-(low + high) / 2).clip(LOWEST, HIGHEST))


def _checked(
    logits: ArrayLike, reference: ArrayLike, tags: bool, present: ArrayLike | None
) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Logits [N, C], labels (int64 [N] or [N, C]) and, of tags, which of them count (else which items, all)."""
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"logits have shape {values.shape}; finite numbers [N, C] are expected.")
    if tags:
        flags, _ = validate_tags(reference, values)
        known = np.ones(flags.shape, bool) if present is None else np.asarray(present, dtype=bool)
        return values, flags.astype(np.int64), known
    truth, _ = validate_classes(reference, np.zeros(len(values), np.int64))
    if len(truth) and truth.max() >= values.shape[1]:
        raise ValueError(f"the class {truth.max()} is not among {values.shape[1]} classes.")
    return values, truth, np.ones(len(truth), bool)
