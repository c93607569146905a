"""Sample-wise attribute accuracy (ASA): does a piece have what it was asked to have?

Aim
---
Of the attributes that a request names, the share that the generated piece has, averaged over pieces [1]_.

Conventions
-----------
Requests and findings are class vectors [N, S]: for each of S slots a class, the last of which (``not_given``) says
nothing.  Slots with members (instruments) have the classes 0 yes and 1 no.  ``attribute`` [S] numbers the attribute of
each slot.  Each slot that is asked for and not ``ignored`` is scored, each instrument on its own; "no" is right if the
member is not found, "yes" if it is, and any other class if it is the one found.  A request that names nothing scored
has accuracy NaN and does not enter a mean.  A piece that could not be made is 0 (``valid``).

Metrics
-------
* :func:`judged`: what is scored and what is right, slot by slot.
* :func:`sample_accuracy`: share of right ones, for each piece.
* :func:`attribute_sample_accuracy`: their mean.
* :func:`accuracy_per_attribute`: right and scored slots of each attribute over all pieces.
* :func:`bootstrap_interval`: percentile interval of a mean over pieces [2]_.

The published script also leaves out every piece whose accuracy is exactly 0, and a number of bars that cannot be told
(above 16): ``legacy=True``, for numbers made with it.

References
----------
.. [1] P. Lu, X. Xu, C. Kang, B. Yu, C. Xing, X. Tan, J. Bian. "MuseCoco: Generating Symbolic Music from Text." arXiv
   2306.00110, 2023.
.. [2] B. Efron. "Bootstrap methods: another look at the jackknife." Annals of Statistics 7 (1), 1979.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

YES, NO = 0, 1


def validate(requested: ArrayLike, found: ArrayLike, not_given: ArrayLike) -> None:
    """Check class vectors.

    Raises
    ------
    ValueError
        If the two are not [N, S] of one shape, S is not that of ``not_given``, or a class is above it.
    """
    first, second, last = np.asarray(requested), np.asarray(found), np.asarray(not_given)
    if first.ndim != 2 or first.shape != second.shape or last.shape != first.shape[1:]:
        raise ValueError(
            f"requested has shape {first.shape}, found {second.shape} and not_given {last.shape}; [N, S] twice and [S] "
            "are expected."
        )
    for name, table in (("requested", first), ("found", second)):
        if (table > last).any() or (table < 0).any():
            raise ValueError(f"{name} holds a class outside 0 to not_given.")


def judged(
    requested: ArrayLike,
    found: ArrayLike,
    not_given: ArrayLike,
    members: ArrayLike,
    ignored: ArrayLike,
    skipped_if_unknown: ArrayLike | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What is scored, and what of it is right.

    Parameters
    ----------
    requested, found : int [N, S]
        Class vectors.
    not_given : int [S]
        The class of every slot that says nothing.
    members : bool [S]
        Slots that say yes or no of a member.
    ignored : bool [S]
        Slots that no music tells.
    skipped_if_unknown : bool [S], optional
        Slots that are not scored where nothing is found.

    Returns
    -------
    bool [N, S], bool [N, S]

    Examples
    --------
    >>> scored, right = judged([[0, 1, 2]], [[0, 0, 1]], [2, 2, 2], [True, True, False], [False] * 3)
    >>> scored.tolist(), right.tolist()
    ([[True, True, False]], [[True, False, False]])
    """
    validate(requested, found, not_given)
    asked, there, last = np.asarray(requested), np.asarray(found), np.asarray(not_given)
    scored = (asked != last) & ~np.asarray(ignored, bool)
    if skipped_if_unknown is not None:
        scored &= ~(np.asarray(skipped_if_unknown, bool) & (there == last))
    has = there == YES
    right = np.where(np.asarray(members, bool), has == (asked == YES), asked == there)
    return scored, scored & right


def sample_accuracy(
    scored: ArrayLike, right: ArrayLike, valid: ArrayLike | None = None, *, legacy: bool = False
) -> NDArray[np.float64]:
    """Share of scored slots that are right, float64 [N]; NaN where none is, 0 for pieces that are not ``valid`` [N].

    With ``legacy``, pieces with accuracy 0 are NaN.
    """
    counts, hits = np.asarray(scored).sum(axis=1), np.asarray(right).sum(axis=1)
    if valid is not None:
        hits = hits * np.asarray(valid, bool)
    out = np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return np.where(out == 0, np.nan, out) if legacy else out


def attribute_sample_accuracy(accuracies: ArrayLike) -> float:
    """The mean of accuracies [N] that are not NaN; NaN if all are."""
    values = np.asarray(accuracies, np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def accuracy_per_attribute(scored: ArrayLike, right: ArrayLike, attribute: ArrayLike) -> NDArray[np.int64]:
    """Right and scored slots of each attribute, int64 [A, 2], over all pieces; ``attribute`` int [S] from 0."""
    number = np.asarray(attribute)
    columns = [np.bincount(number, np.asarray(table).sum(axis=0), int(number.max()) + 1) for table in (right, scored)]
    return np.stack(columns, axis=1).astype(np.int64)


def bootstrap_interval(
    values: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean of independent values [N]; NaN ones are left out.

    For the difference of two systems on the same pieces, give the differences.  With ``weights`` (float [N], above 0
    where a value is not NaN) it is that of the weighted mean: of all bars, where values are means over a piece's bars.

    Examples
    --------
    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    kept = np.asarray(values, np.float64)
    weight = np.ones(len(kept)) if weights is None else np.asarray(weights, np.float64)
    weight, kept = weight[~np.isnan(kept)], kept[~np.isnan(kept)]
    if len(kept) == 0:
        return float("nan"), float("nan")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; a number between 0 and 1 is expected.")
    random = np.random.default_rng(seed)
    rows = max(1, min(draws, 2_000_000 // len(kept)))  # at a time: a bound on memory
    means = []
    for at in range(0, draws, rows):
        drawn = random.integers(0, len(kept), (min(rows, draws - at), len(kept)))
        means.append((kept * weight)[drawn].sum(axis=1) / weight[drawn].sum(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)
