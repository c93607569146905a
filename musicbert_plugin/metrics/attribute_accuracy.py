"""Sample-wise attribute accuracy (ASA): does a piece have what it was asked to have?

Aim
---
Of the attributes that a request names, the share that the generated piece has, averaged over pieces [1]_.

Conventions
-----------
Requests and findings are class vectors [N, S]: for each of S slots a class, the last of which (``na``) means that
nothing is asked or known.  A multi-label attribute (instruments) has a slot for each label, with the classes 0 yes and
1 no.  ``attribute`` [S] numbers the attribute of each slot.  Every slot that is requested and not ``ignored`` is
scored, each label on its own: "no" is right if the label is not found, "yes" if it is, and any other class if it is the
one found.  A request without scored slots has accuracy NaN and does not enter a mean.  A piece that could not be made
(not ``valid``) has accuracy 0.  Slots that a generator keeps by force (limits) are ignored in a measure of how well it
follows requests.

Metrics
-------
* :func:`score_slots`: which slots are scored, and which of them are right.
* :func:`sample_accuracy`: share of right ones, for each piece.
* :func:`attribute_sample_accuracy`: their mean.
* :func:`accuracy_per_attribute`: right and scored slots of each attribute over all pieces.

Intervals are those of :func:`~musicbert_plugin.metrics.bootstrap.bootstrap_interval`.  The published script also leaves
out every piece whose accuracy is exactly 0, and numbers of bars above 16, which are not extracted: ``legacy=True``, to
compare with its results.

References
----------
.. [1] P. Lu, X. Xu, C. Kang, B. Yu, C. Xing, X. Tan, J. Bian. "MuseCoco: Generating Symbolic Music from Text." arXiv
   2306.00110, 2023.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicbert_plugin.metrics.bootstrap import bootstrap_interval
from musicbert_plugin.metrics.means import mean_of_defined

__all__ = [
    "accuracy_per_attribute",
    "attribute_sample_accuracy",
    "bootstrap_interval",
    "sample_accuracy",
    "score_slots",
    "validate",
]

YES, NO = 0, 1


def validate(requested: ArrayLike, found: ArrayLike, na: ArrayLike) -> None:
    """Check class vectors.

    Raises
    ------
    ValueError
        If the two are not [N, S] of one shape, S is not that of ``na``, or a class is above it.
    """
    first, second, last = np.asarray(requested), np.asarray(found), np.asarray(na)
    if first.ndim != 2 or first.shape != second.shape or last.shape != first.shape[1:]:
        raise ValueError(
            f"requested has shape {first.shape}, found {second.shape} and na {last.shape}; [N, S] twice and [S] "
            "are expected."
        )
    for name, table in (("requested", first), ("found", second)):
        if (table > last).any() or (table < 0).any():
            raise ValueError(f"{name} holds a class outside 0 to na.")


def score_slots(
    requested: ArrayLike,
    found: ArrayLike,
    na: ArrayLike,
    multi_label: ArrayLike,
    ignored: ArrayLike,
    skipped_if_unknown: ArrayLike | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which slots are scored, and which of them are right.

    Parameters
    ----------
    requested, found : int [N, S]
        Class vectors.
    na : int [S]
        The class NA of every slot.
    multi_label : bool [S]
        Slots of one label, whose classes are yes, no and NA.
    ignored : bool [S] or [N, S]
        Slots that are not scored: those that cannot be extracted from music, or that are limits.
    skipped_if_unknown : bool [S], optional
        Slots that are not scored where nothing is found.

    Returns
    -------
    bool [N, S], bool [N, S]

    Examples
    --------
    >>> scored, right = score_slots([[0, 1, 2]], [[0, 0, 1]], [2, 2, 2], [True, True, False], [False] * 3)
    >>> scored.tolist(), right.tolist()
    ([[True, True, False]], [[True, False, False]])
    """
    validate(requested, found, na)
    asked, present, last = np.asarray(requested), np.asarray(found), np.asarray(na)
    scored = (asked != last) & ~np.asarray(ignored, bool)
    if skipped_if_unknown is not None:
        scored &= ~(np.asarray(skipped_if_unknown, bool) & (present == last))
    has = present == YES
    right = np.where(np.asarray(multi_label, bool), has == (asked == YES), asked == present)
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
    return mean_of_defined(accuracies)


def accuracy_per_attribute(scored: ArrayLike, right: ArrayLike, attribute: ArrayLike) -> NDArray[np.int64]:
    """Right and scored slots of each attribute, int64 [A, 2], over all pieces; ``attribute`` int [S] from 0."""
    number = np.asarray(attribute)
    columns = [np.bincount(number, np.asarray(table).sum(axis=0), int(number.max()) + 1) for table in (right, scored)]
    return np.stack(columns, axis=1).astype(np.int64)
