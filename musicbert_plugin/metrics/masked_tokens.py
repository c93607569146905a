"""Masked-token metrics of octuple sequences, per field, and the majority baseline.

Aim
---
A masked language model of OctupleMIDI gives, for each masked token, a probability of every word.  Two numbers per field
summarise them: how often the most probable word is right (accuracy), and the number of equally probable words that
would be as uncertain (perplexity).  Most fields repeat: always predicting "4/4" is nearly always right about time
signatures.  Accuracies are therefore compared with the majority baseline.

Conventions
-----------
Fields are numbered 0 to 7: bar, position, program, pitch, duration, velocity, time signature, tempo.  Tokens are
integers; whether they are dictionary ids or values of a field doesn't matter, as long as reference and estimate
agree.  Octuples are [N, 8] arrays of field values.  Negative log-likelihoods are in nats.  A field without tokens has
the value NaN.

Metrics
-------
* :func:`accuracy`: share of tokens predicted correctly, for each field.
* :func:`perplexity`: exponential of the mean negative log-likelihood, for each field [1]_.
* :func:`majority_tokens` and :func:`majority_accuracy`: the most frequent token of each field in the training data, and
  the accuracy of always predicting it.

References
----------
.. [1] F. Jelinek, R. L. Mercer, L. R. Bahl, J. K. Baker. "Perplexity: a measure of the difficulty of speech recognition
   tasks." Journal of the Acoustical Society of America 62 (S1), 1977.
.. [2] M. Zeng, X. Tan, R. Wang, Z. Ju, T. Qin, T.-Y. Liu. "MusicBERT: Symbolic Music Understanding with Large-Scale
   Pre-Training." Findings of ACL-IJCNLP 2021 (arXiv 2106.05630).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FIELD_COUNT = 8


def validate(reference: ArrayLike, estimate: ArrayLike, field: ArrayLike) -> None:
    """Check the arguments of :func:`accuracy`.

    Parameters
    ----------
    reference, estimate : int [N]
    field : int [N], 0 to 7

    Raises
    ------
    ValueError
        If the arrays are not one-dimensional integers of one length, or a field lies outside 0..7.
    """
    arrays = {"reference": np.asarray(reference), "estimate": np.asarray(estimate), "field": np.asarray(field)}
    for name, array in arrays.items():
        if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
            raise ValueError(
                f"{name} has shape {array.shape} and type {array.dtype}; one-dimensional integers are expected."
            )
        if array.shape != arrays["reference"].shape:
            raise ValueError(f"{name} has {array.size} tokens, but reference has {arrays['reference'].size}.")
    _validate_field(arrays["field"])


def _validate_field(field: NDArray[np.int_]) -> None:
    if field.size and not (0 <= field.min() and field.max() < FIELD_COUNT):
        raise ValueError(f"field lies between {field.min()} and {field.max()}; 0 to {FIELD_COUNT - 1} are expected.")


def _validate_octuples(octuples: NDArray[np.int_]) -> None:
    if octuples.ndim != 2 or octuples.shape[1] != FIELD_COUNT:
        raise ValueError(f"octuples have shape {octuples.shape}; [N, {FIELD_COUNT}] is expected.")


def _mean_per_field(values: NDArray[np.float64], field: NDArray[np.int_]) -> NDArray[np.float64]:
    field = field.astype(np.intp)
    counts = np.bincount(field, minlength=FIELD_COUNT)
    sums = np.bincount(field, weights=values, minlength=FIELD_COUNT)
    return np.divide(sums, counts, out=np.full(FIELD_COUNT, np.nan), where=counts > 0)


def accuracy(reference: ArrayLike, estimate: ArrayLike, field: ArrayLike) -> NDArray[np.float64]:
    """Share of tokens predicted correctly, for each field.

    Parameters
    ----------
    reference : int [N]
        True tokens.
    estimate : int [N]
        Predicted tokens.
    field : int [N], 0 to 7
        Field of each token.

    Returns
    -------
    float64 [8], 0 to 1, NaN for a field without tokens

    Examples
    --------
    >>> accuracy([60, 62, 9], [60, 64, 9], [3, 3, 6])[[3, 6]]
    array([0.5, 1. ])
    """
    validate(reference, estimate, field)
    return _mean_per_field((np.asarray(reference) == np.asarray(estimate)).astype(np.float64), np.asarray(field))


def perplexity(negative_log_likelihood: ArrayLike, field: ArrayLike) -> NDArray[np.float64]:
    """Exponential of the mean negative log-likelihood, for each field.

    Parameters
    ----------
    negative_log_likelihood : float [N], in nats
        Minus the logarithm of the probability that the model gave to each true token.
    field : int [N], 0 to 7

    Returns
    -------
    float64 [8], at least 1, NaN for a field without tokens

    Examples
    --------
    >>> perplexity(np.log([2.0, 8.0]), [3, 3])[3].round(6)
    np.float64(4.0)
    """
    values, fields = np.asarray(negative_log_likelihood, dtype=np.float64), np.asarray(field)
    if values.ndim != 1 or values.shape != fields.shape:
        raise ValueError(f"negative_log_likelihood has shape {values.shape} and field {fields.shape}; both are [N].")
    _validate_field(fields)
    return np.exp(_mean_per_field(values, fields))


def majority_tokens(octuples: ArrayLike) -> NDArray[np.int64]:
    """The most frequent value of each field (of several, the smallest).

    Parameters
    ----------
    octuples : int [N, 8], N at least 1, not negative
        Of the training data.

    Returns
    -------
    int64 [8]
    """
    table = np.asarray(octuples)
    _validate_octuples(table)
    if not len(table):
        raise ValueError("there are no octuples, so no value of a field is the most frequent one.")
    return np.array([np.bincount(column).argmax() for column in table.T], dtype=np.int64)


def majority_accuracy(octuples: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """Accuracy, for each field, of always predicting that field's majority token.

    Parameters
    ----------
    octuples : int [N, 8]
        Of the data to be predicted.
    tokens : int [8]
        From :func:`majority_tokens`.

    Returns
    -------
    float64 [8], 0 to 1, NaN without octuples
    """
    table = np.asarray(octuples)
    _validate_octuples(table)
    if not len(table):
        return np.full(FIELD_COUNT, np.nan)
    return (table == np.asarray(tokens)).mean(axis=0)
