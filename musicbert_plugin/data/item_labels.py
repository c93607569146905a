"""The labels of a split's items as arrays, for the batches of labelled tasks on notes and on sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.labels import LabelTask, column_of, read_cells, read_weights


class ItemLabels:
    """Labels, presence and weights of N items for each task.

    Parameters
    ----------
    tasks : sequence of LabelTask
    columns : dict of str to list of str [N]
        The columns of a table of labels.
    where : str
        The file that messages name.
    names : sequence of str [N]
        Names of the items, for messages.

    Attributes
    ----------
    labels : dict of str to float64 [N, K]
        By task: the class number (single, K = 1), 0 or 1 per tag, or the standardised numbers; 0 where unlabelled.
    present : dict of str to bool [N, K]
        What is labelled.
    weights : dict of str to float64 [N, K]
        Weights of the loss, of tasks with a ``weight_column``.

    Raises
    ------
    DatasetError
        A column is missing, or a weight cannot be read.
    """

    def __init__(
        self, tasks: Sequence[LabelTask], columns: dict[str, list[str]], where: str, names: Sequence[str]
    ) -> None:
        self.labels: dict[str, NDArray[np.float64]] = {}
        self.present: dict[str, NDArray[np.bool_]] = {}
        for task in tasks:
            values, present = read_cells(task, column_of(task, columns, where), where, names=names)
            self.labels[task.name] = np.where(present, task.standardise(values), 0.0)
            self.present[task.name] = present
        self.weights = weights_of(tasks, columns, where, names)

    def of(self, items: NDArray[np.int64]) -> dict[str, Any]:
        """The entries ``labels``, ``present`` and ``weights`` of a batch, by task, of these rows of the table."""
        tables = {"labels": self.labels, "present": self.present, "weights": self.weights}
        return {key: {name: table[items] for name, table in by_task.items()} for key, by_task in tables.items()}


def weights_of(
    tasks: Sequence[LabelTask], columns: dict[str, list[str]], where: str, names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Weights of the loss by task, float64 [N, K], of tasks with a ``weight_column``; see :class:`ItemLabels`."""
    found = {task.name: read_weights(task, columns, where, names) for task in tasks}
    return {name: weights for name, weights in found.items() if weights is not None}
