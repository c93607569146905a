"""Classification metrics: how well are classes of recordings predicted?

Aim
---
Two kinds of tasks occur in music tagging.  Either an excerpt has exactly one class (genre, composer), which is
predicted or not; or it has any number of tags (moods, instruments), and each tag ranks all excerpts: those with the tag
should come first.

Conventions
-----------
Classes are numbered from 0.  ``reference`` and ``estimate`` are integers [N].  Tags are ``reference`` bool [N, C] and
``score`` float [N, C], of which only the order within a column matters, or ``estimate`` bool [N, C], those that are
predicted.  Undefined numbers are NaN: the ROC area of a tag that all excerpts or none have, the F1 of a class that
occurs in neither array.  Means leave NaN out.

Metrics
-------
* :func:`accuracy`: share of correct predictions.
* :func:`macro_f1`: mean over classes of the harmonic mean of precision and recall [1]_; over the classes that occur in
  the reference or the estimate.  :func:`weighted_f1` weights them by how often they occur in the reference, and
  :func:`micro_f1` is that of all decisions together (of classes, the accuracy).  All take classes or sets of tags.
* :func:`samples_f1`: mean over excerpts of the F1 of their sets of tags.
* :func:`balanced_accuracy`: mean over the classes of the reference of the share of them that is found (recall).
* :func:`roc_auc`: probability that an excerpt with the tag is ranked above one without, ties counting half [2]_.
* :func:`pr_auc`: average precision, the area under the step function of precision over recall [3]_.
* :func:`majority_class`: the majority baseline.
* :func:`class_scores`, :func:`tag_scores`: precision, recall and F1 [1]_ of each class or tag, and how often it occurs.
* :func:`confusion`: how often each class is predicted as each other; :func:`tag_confusion`: how often each tag is
  predicted where another one is present.

References
----------
.. [1] C. J. van Rijsbergen. "Information Retrieval", 2nd edition, chapter 7. Butterworths, 1979.
.. [2] J. A. Hanley, B. J. McNeil. "The meaning and use of the area under a receiver operating characteristic (ROC)
   curve." Radiology 143 (1), 1982.
.. [3] M. Zhu. "Recall, precision and average precision." University of Waterloo, working paper 2004-09, 2004.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicbert_plugin.metrics.means import mean_of_defined, mean_ranks

__all__ = [
    "ClassScores",
    "accuracy",
    "balanced_accuracy",
    "class_scores",
    "confusion",
    "macro_f1",
    "majority_class",
    "mean_of_defined",
    "micro_f1",
    "pr_auc",
    "roc_auc",
    "samples_f1",
    "tag_confusion",
    "tag_scores",
    "weighted_f1",
]


class ClassScores(NamedTuple):
    """Scores of each of C classes or tags.

    Attributes
    ----------
    precision : float64 [C]
        Share of the excerpts that are predicted as the class and have it; NaN if none is predicted.
    recall : float64 [C]
        Share of the excerpts of the class that are predicted as such; NaN if none has it.
    f1 : float64 [C]
        2 TP / (2 TP + FP + FN); NaN if the class occurs in neither.
    support, predicted : int64 [C]
        Excerpts that have the class, and that are predicted to have it.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @classmethod
    def of_counts(cls, right: ArrayLike, support: ArrayLike, predicted: ArrayLike) -> ClassScores:
        """The scores of classes with ``right`` correct predictions, all int [C]."""
        right, support, predicted = (np.asarray(values, dtype=np.int64) for values in (right, support, predicted))
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
            return cls(right / predicted, right / support, 2 * right / (support + predicted), support, predicted)


def validate_classes(reference: ArrayLike, estimate: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Check the arguments of :func:`accuracy` and :func:`macro_f1`, and return them as int64 [N].

    Raises
    ------
    ValueError
        If they are not one-dimensional integers of one length, or are negative.
    """
    arrays = []
    for name, values in (("reference", np.asarray(reference)), ("estimate", np.asarray(estimate))):
        if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
            raise ValueError(
                f"{name} has shape {values.shape} and type {values.dtype}; one-dimensional integers are expected."
            )
        if values.size and values.min() < 0:
            raise ValueError(f"{name} has the class {values.min()}; classes are numbered from 0.")
        arrays.append(values.astype(np.int64))
    if len(arrays[0]) != len(arrays[1]):
        raise ValueError(f"reference has {len(arrays[0])} excerpts, but estimate has {len(arrays[1])}.")
    return arrays[0], arrays[1]


def validate_tags(reference: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Check the arguments of :func:`roc_auc` and :func:`pr_auc`, and return them as bool and float64, both [N, C].

    Raises
    ------
    ValueError
        If they are not two-dimensional and of one shape, if the reference holds anything but 0 and 1, or if a score is
        not a number.
    """
    truth, values = np.asarray(reference), np.asarray(score, dtype=np.float64)
    if truth.ndim != 2 or truth.shape != values.shape:
        raise ValueError(f"reference has shape {truth.shape} and score {values.shape}; both are [N, C].")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("reference holds other values than 0 and 1.")
    if np.isnan(values).any():
        raise ValueError("score holds NaN, which cannot be ranked.")
    return truth.astype(bool), values


def accuracy(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Share of correct predictions.

    Parameters
    ----------
    reference, estimate : int [N]

    Returns
    -------
    float, 0 to 1, NaN without excerpts

    Examples
    --------
    >>> accuracy([0, 1, 2, 2], [0, 1, 2, 0])
    0.75
    """
    truth, guess = validate_classes(reference, estimate)
    return float((truth == guess).mean()) if len(truth) else float("nan")


def balanced_accuracy(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Mean over the classes of the reference of the share of their excerpts that are predicted as such.

    Parameters
    ----------
    reference, estimate : int [N]

    Returns
    -------
    float, 0 to 1, NaN without excerpts

    Examples
    --------
    >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
    0.5
    """
    return mean_of_defined(_scores_of(reference, estimate)[0].recall)


def macro_f1(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN), over the classes that occur in either array.

    Parameters
    ----------
    reference, estimate : int [N], or bool [N, C]

    Returns
    -------
    float, 0 to 1, NaN where no class occurs
    """
    return mean_of_defined(_scores_of(reference, estimate)[0].f1)


def weighted_f1(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN), weighted by the number of excerpts that have the class.

    Parameters
    ----------
    reference, estimate : int [N], or bool [N, C]

    Returns
    -------
    float, 0 to 1, NaN if no excerpt has a class
    """
    scores, _ = _scores_of(reference, estimate)
    had = scores.support > 0
    return float(np.average(scores.f1[had], weights=scores.support[had])) if had.any() else float("nan")


def micro_f1(reference: ArrayLike, estimate: ArrayLike) -> float:
    """2 TP / (2 TP + FP + FN) of all classes together; of classes [N] this is the accuracy.

    Parameters
    ----------
    reference, estimate : int [N], or bool [N, C]

    Returns
    -------
    float, 0 to 1, NaN where no class occurs

    Examples
    --------
    >>> micro_f1([[1, 0], [1, 1]], [[1, 1], [0, 1]])
    0.6666666666666666
    """
    scores, right = _scores_of(reference, estimate)
    decisions = int((scores.support + scores.predicted).sum())
    return 2 * int(right.sum()) / decisions if decisions else float("nan")


def samples_f1(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Mean over excerpts of 2 TP / (2 TP + FP + FN) of their tags, over those that have a tag or get one.

    Parameters
    ----------
    reference, estimate : bool [N, C]

    Returns
    -------
    float, 0 to 1, NaN without tags
    """
    truth, guess = _validate_tag_sets(reference, estimate)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return mean_of_defined(2 * (truth & guess).sum(axis=1) / (truth.sum(axis=1) + guess.sum(axis=1)))


def _scores_of(reference: ArrayLike, estimate: ArrayLike) -> tuple[ClassScores, NDArray[np.int64]]:
    """The scores of classes [N] or tags [N, C], and the number of correct predictions of each."""
    if np.ndim(reference) == 2:
        truth, guess = _validate_tag_sets(reference, estimate)
        right = (truth & guess).sum(axis=0)
        return ClassScores.of_counts(right, truth.sum(axis=0), guess.sum(axis=0)), right
    first, second = validate_classes(reference, estimate)
    table = confusion(first, second, int(np.concatenate([first, second]).max(initial=0)) + 1)
    return ClassScores.of_counts(table.diagonal(), table.sum(axis=1), table.sum(axis=0)), table.diagonal()


def confusion(reference: ArrayLike, estimate: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Number of excerpts of each class (rows) that are predicted as each class (columns).

    Parameters
    ----------
    reference, estimate : int [N]
        Below ``classes``.
    classes : int
        C.

    Returns
    -------
    int64 [C, C]

    Raises
    ------
    ValueError
        A class is not below ``classes``.

    Examples
    --------
    >>> confusion([0, 1, 1], [0, 1, 0], 2)
    array([[1, 0],
           [1, 1]])
    """
    truth, guess = validate_classes(reference, estimate)
    if len(truth) and max(truth.max(), guess.max()) >= classes:
        raise ValueError(f"the class {max(truth.max(), guess.max())} is not among {classes} classes.")
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def class_scores(reference: ArrayLike, estimate: ArrayLike, classes: int) -> ClassScores:
    """Precision, recall, F1 and counts of each class.

    Parameters
    ----------
    reference, estimate : int [N]
        Below ``classes``.
    classes : int
        C.

    Returns
    -------
    ClassScores

    Examples
    --------
    >>> class_scores([0, 1, 1], [0, 1, 0], 2).recall
    array([1. , 0.5])
    """
    table = confusion(reference, estimate, classes)
    return ClassScores.of_counts(table.diagonal(), table.sum(axis=1), table.sum(axis=0))


def tag_scores(reference: ArrayLike, estimate: ArrayLike) -> ClassScores:
    """Precision, recall, F1 and counts of each tag.

    Parameters
    ----------
    reference, estimate : bool [N, C]
        The tags of each excerpt, and those that are predicted.

    Returns
    -------
    ClassScores
    """
    truth, guess = _validate_tag_sets(reference, estimate)
    return ClassScores.of_counts((truth & guess).sum(axis=0), truth.sum(axis=0), guess.sum(axis=0))


def tag_confusion(reference: ArrayLike, estimate: ArrayLike) -> NDArray[np.int64]:
    """Number of excerpts with each tag (rows) for which each tag (columns) is predicted.

    Parameters
    ----------
    reference, estimate : bool [N, C]

    Returns
    -------
    int64 [C, C]
        On the diagonal are the correct predictions.
    """
    truth, guess = _validate_tag_sets(reference, estimate)
    return truth.astype(np.int64).T @ guess.astype(np.int64)


def _validate_tag_sets(reference: ArrayLike, estimate: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    truth, guess = validate_tags(reference, estimate)
    if not np.isin(guess, (0, 1)).all():
        raise ValueError("estimate holds other values than 0 and 1.")
    return truth, guess.astype(bool)


def roc_auc(reference: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Area under the receiver operating characteristic of each tag.

    Parameters
    ----------
    reference : bool [N, C]
    score : float [N, C]

    Returns
    -------
    float64 [C], 0 to 1 (0.5 is chance), NaN for a tag that all excerpts or none have

    Examples
    --------
    >>> roc_auc([[1], [0], [1], [0]], [[0.9], [0.1], [0.4], [0.6]])
    array([0.75])
    """
    truth, values = validate_tags(reference, score)
    areas = np.full(truth.shape[1], np.nan)
    for tag in range(truth.shape[1]):
        with_tag = truth[:, tag]
        positives, negatives = int(with_tag.sum()), int((~with_tag).sum())
        if positives and negatives:
            rank_sum = mean_ranks(values[:, tag])[with_tag].sum()
            areas[tag] = (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
    return areas


def pr_auc(reference: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Average precision of each tag: the sum over thresholds of (gain in recall) times precision.

    Excerpts of equal score share one threshold.

    Parameters
    ----------
    reference : bool [N, C]
    score : float [N, C]

    Returns
    -------
    float64 [C], 0 to 1 (the share of excerpts with the tag is chance), NaN for a tag that no clip has
    """
    truth, values = validate_tags(reference, score)
    areas = np.full(truth.shape[1], np.nan)
    for tag in range(truth.shape[1]):
        order = np.argsort(-values[:, tag], kind="stable")
        hits = np.cumsum(truth[order, tag])
        if not len(hits) or not hits[-1]:
            continue
        ends = np.flatnonzero(np.diff(values[order, tag], append=-np.inf))  # the last clip of each threshold
        precision = hits[ends] / (ends + 1.0)
        areas[tag] = float((np.diff(hits[ends], prepend=0) * precision).sum() / hits[-1])
    return areas


def majority_class(reference: ArrayLike) -> int:
    """The most frequent class (of several, the smallest).

    Parameters
    ----------
    reference : int [N], N at least 1
        Of the training data.

    Raises
    ------
    ValueError
        Without excerpts.
    """
    truth, _ = validate_classes(reference, reference)
    if not len(truth):
        raise ValueError("there are no excerpts, so no class is the most frequent one.")
    return int(np.bincount(truth).argmax())
