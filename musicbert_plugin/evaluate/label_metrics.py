"""All metrics of a head: those of the validation and many more, with intervals by group on request.

==========  ============================================================================================================
single      ``accuracy``, ``balanced_accuracy``, ``f1_macro``, ``f1_weighted``, ``calibration_error``
multi       ``f1_macro``, ``f1_micro``, ``f1_weighted``, ``f1_samples`` of tags from a probability of 0.5 on;
            ``roc_auc``, ``pr_auc`` and ``calibration_error``, means over tags
regression  ``r2``, ``ccc``, ``pearson``, ``spearman``, means over quantities; ``pooled_r2`` of standardised numbers
==========  ============================================================================================================

Items that lack a label of a class or of any tag are left out; of numbers, what is present counts for each quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.metrics import classification, regression
from musicbert_plugin.metrics.bootstrap import bootstrap_interval
from musicbert_plugin.metrics.calibration import calibration_error, tag_calibration_error
from musicbert_plugin.metrics.means import mean_of_defined

THRESHOLD = 0.5
"""Smallest probability of a predicted tag."""

_MOST_DRAWN = 50_000_000

Array = NDArray[Any]
Metric = Callable[[Array, Array], float]


def _of_tags(measure: Metric) -> Metric:
    return lambda truth, found: measure(truth, found >= THRESHOLD)


def _of_classes(measure: Metric) -> Metric:
    return lambda truth, found: measure(truth, found.argmax(axis=1))


def _mean(measure: Callable[[Array, Array], Array]) -> Metric:
    return lambda truth, found: mean_of_defined(measure(truth, found))


def _present(measure: Callable[[Array, Array], Array]) -> Metric:
    """The mean over quantities of a metric of the numbers that are present (not NaN)."""

    def mean(truth: Array, found: Array) -> float:
        known = ~np.isnan(truth)
        pairs = [(truth[rows, number], found[rows, number]) for number, rows in enumerate(known.T)]
        return mean_of_defined([measure(*pair)[0] for pair in pairs])

    return mean


def _pooled(truth: Array, found: Array) -> float:
    known = ~np.isnan(truth)
    return regression.pooled_r2(truth[known], found[known])


METRICS: dict[str, dict[str, Metric]] = {
    "single": {
        "accuracy": _of_classes(classification.accuracy),
        "balanced_accuracy": _of_classes(classification.balanced_accuracy),
        "f1_macro": _of_classes(classification.macro_f1),
        "f1_weighted": _of_classes(classification.weighted_f1),
        "calibration_error": calibration_error,
    },
    "multi": {
        "f1_macro": _of_tags(classification.macro_f1),
        "f1_micro": _of_tags(classification.micro_f1),
        "f1_weighted": _of_tags(classification.weighted_f1),
        "f1_samples": _of_tags(classification.samples_f1),
        "roc_auc": _mean(classification.roc_auc),
        "pr_auc": _mean(classification.pr_auc),
        "calibration_error": _mean(tag_calibration_error),
    },
    "regression": {
        "r2": _present(regression.r2),
        "pooled_r2": _pooled,
        "ccc": _present(regression.ccc),
        "pearson": _present(regression.pearson),
        "spearman": _present(regression.spearman),
    },
}
"""By the type of a task, functions of labels and outputs; missing numbers are NaN."""


def label_metrics(
    task: LabelTask,
    outputs: NDArray[np.float64],
    labels: NDArray[np.float64],
    present: NDArray[np.bool_],
    *,
    groups: Sequence[str] | NDArray[Any] | None = None,
    draws: int = 0,
    seed: int = 1,
) -> dict[str, dict[str, Any]]:
    """The metrics of a head.

    Parameters
    ----------
    task : LabelTask
    outputs : float64 [N, C]
        Probabilities, or standardised numbers.
    labels, present : float64, bool [N, K]
        Labels (standardised numbers), and which are present.
    groups : sequence of str [N], optional
        Items that depend on each other, for intervals (default: every item its own).
    draws : int
        Bootstrap resamples of the intervals; 0 for none, since each computes every metric.  Of many items fewer are
        drawn (at least 100), so that no more than 50 million labels are.
    seed : int

    Returns
    -------
    dict
        From metric to ``value`` and, with draws, ``interval`` (95 %); NaN where it is undefined.
    """
    if draws:
        draws = min(draws, max(_MOST_DRAWN // max(labels.size, 1), 100))
    here = present.any(axis=1) if task.type == "regression" else present.all(axis=1)
    outputs = np.asarray(outputs, np.float64)[here]
    truth = np.where(present, labels, np.nan)[here]
    if task.type == "single":
        truth = truth[:, 0].astype(np.int64)
    elif task.type == "multi":
        truth = truth > 0.5
    of_items = None if groups is None else np.asarray(groups)[here]
    found: dict[str, dict[str, Any]] = {}
    for name, metric in METRICS[task.type].items():
        found[name] = {"value": metric(truth, outputs) if len(truth) else float("nan")}
        if draws and len(truth):
            interval = bootstrap_interval(
                truth, outputs, statistic=metric, groups=of_items, keep_missing=True, draws=draws, seed=seed
            )
            found[name]["interval"] = list(interval)
    return found


def metrics_table(title: str, found: dict[str, dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """The metrics of a head with their intervals, as a table (title, header, rows)."""
    rows = []
    for name, values in found.items():
        low, high = values.get("interval", (float("nan"), float("nan")))
        cells = ["-" if np.isnan(value) else f"{value:.3f}" for value in (values["value"], low, high)]
        rows.append([name.replace("_", " "), cells[0], f"[{cells[1]}, {cells[2]}]"])
    return f"{title}, 95 % intervals", ["metric", "value", "interval"], rows
