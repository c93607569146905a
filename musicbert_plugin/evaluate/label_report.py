"""What is reported of each class, tag or quantity of a labelled task, whatever the items are.

A mean over classes can hide one that is never found; so every class is listed with its precision, recall, F1 and number
of items, and classes of which nothing is found are named in a warning.  A tag counts as predicted from a probability of
0.5 on.  Quantities have R2, CCC and the root of the mean squared error, in their own units.  The values also have all
metrics of ``label_metrics``.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.evaluate import make_folder
from musicbert_plugin.evaluate.label_metrics import THRESHOLD, label_metrics
from musicbert_plugin.metrics import classification, regression
from musicbert_plugin.plots.heat_map import draw_confusion
from musicbert_plugin.plots.scatter import draw_scatter

logger = logging.getLogger(__name__)

_MAX_NAMES = 8


class LabelReport(NamedTuple):
    """Values for JSON, a table (title, header, rows), and the picture that was written, if any."""

    values: dict[str, Any]
    table: tuple[str, list[str], list[list[str]]]
    picture: str | None


def report_labels(
    task: LabelTask,
    outputs: NDArray[np.float64],
    labels: NDArray[np.float64],
    present: NDArray[np.bool_],
    where: str,
    dest: Path | None = None,
    *,
    groups: NDArray[Any] | None = None,
    draws: int = 0,
) -> LabelReport:
    """Report each class, tag or quantity of a task.

    Parameters
    ----------
    task : LabelTask
    outputs : float64 [N, C]
        Probabilities, or standardised numbers.
    labels, present : float64, bool [N, K]
        Labels (standardised numbers), and which are present.
    where : str
        What the items are of, for messages.
    dest : Path, optional
        Folder to which a picture is written: ``confusion_TASK.png``, or ``scatter_TASK.png`` of numbers.
    groups, draws
        As in :func:`~musicbert_plugin.evaluate.label_metrics.label_metrics`.

    Returns
    -------
    LabelReport
        The values have ``metrics`` (see ``label_metrics``) and ``classes`` (``tags``, ``quantities``), from name to
        scores; for classes and tags also
        ``confusion``, the number of items of each class (rows) that are predicted as each class (columns), and
        ``not_found``, the names whose recall is 0.

    Raises
    ------
    OptionError
        A picture cannot be drawn or written.
    """
    if dest is not None:
        make_folder(dest)
    metrics = {"metrics": label_metrics(task, outputs, labels, present, groups=groups, draws=draws)}
    if task.type == "regression":
        report = _report_numbers(task, outputs, labels, present, where, dest)
        return report._replace(values=metrics | report.values)
    here = present.all(axis=1)
    truth, found = labels[here], outputs[here]
    if task.type == "single":
        classes, guess = truth[:, 0].astype(np.int64), found.argmax(axis=1)
        scores = classification.class_scores(classes, guess, task.size)
        counts = classification.confusion(classes, guess, task.size)
        areas = None
    else:
        tags = truth > 0.5
        scores = classification.tag_scores(tags, found >= THRESHOLD)
        counts = classification.tag_confusion(tags, found >= THRESHOLD)
        areas = classification.roc_auc(tags, found)
    columns: dict[str, Any] = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1}
    columns |= {} if areas is None else {"roc_auc": areas}
    columns |= {"count": scores.support, "predicted": scores.predicted}
    kind = "class" if task.type == "single" else "tag"
    not_found = [task.classes[number] for number in np.flatnonzero(scores.recall == 0).tolist()]
    if not_found:
        number_of = dict(zip(task.classes, scores.support.tolist(), strict=True))
        named = ", ".join(f"{name!r} ({number_of[name]})" for name in not_found[:_MAX_NAMES])
        logger.warning(
            "%s: none of the items with these labels of %s is found (recall 0): %s%s",
            where, task.name, named, ", ..." if len(not_found) > _MAX_NAMES else "",
        )  # fmt: skip
    picture = None
    if dest is not None:
        picture = str(dest / f"confusion_{task.name}.png")
        title = f"{where}: {task.name}" + ("" if areas is None else f", tags from a probability of {THRESHOLD:g} on")
        draw_confusion(counts, scores.support, task.classes, picture, title)
    values = metrics | {"classes" if kind == "class" else "tags": _by_name(task.classes, columns)}
    values |= {"confusion": counts.tolist(), "not_found": not_found}
    return LabelReport(values, _table(f"{where}: each {kind} of {task.name}", kind, task.classes, columns), picture)


def _report_numbers(
    task: LabelTask,
    outputs: NDArray[np.float64],
    labels: NDArray[np.float64],
    present: NDArray[np.bool_],
    where: str,
    dest: Path | None,
) -> LabelReport:
    true_units, found_units = task.restore_units(labels), task.restore_units(outputs)
    truth = [true_units[present[:, number], number] for number in range(task.size)]
    found = [found_units[present[:, number], number] for number in range(task.size)]
    columns: dict[str, Any] = {
        name: np.array([measure(*pair)[0] for pair in zip(truth, found, strict=True)])
        for name, measure in (("r2", regression.r2), ("ccc", regression.ccc), ("rmse", regression.rmse))
    }
    columns["count"] = present.sum(axis=0)
    picture = None
    if dest is not None:
        picture = str(dest / f"scatter_{task.name}.png")
        draw_scatter(truth, found, task.classes, picture)
    table = _table(f"{where}: each quantity of {task.name}", "quantity", task.classes, columns)
    return LabelReport({"quantities": _by_name(task.classes, columns)}, table, picture)


def _by_name(names: tuple[str, ...], columns: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {column: values[number].item() for column, values in columns.items()} for number, name in enumerate(names)
    }


def _table(
    title: str, kind: str, names: tuple[str, ...], columns: dict[str, Any]
) -> tuple[str, list[str], list[list[str]]]:
    header = [kind, *(column.replace("_", " ") for column in columns)]
    rows = []
    for number, name in enumerate(names):
        cells = [values[number].item() for values in columns.values()]
        rows.append([name, *(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)])
    return title, header, [[row[0], *("-" if cell == "nan" else cell for cell in row[1:])] for row in rows]
