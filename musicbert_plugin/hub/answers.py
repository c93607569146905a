"""Answers of the heads for one item: the mean over its windows, weighted by their lengths, as in validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from musicbert_plugin.criterions.label_scores import outputs_of
from musicbert_plugin.data.labels import LabelTask


class WindowMean:
    """Collects the logits of an item's windows.

    Parameters
    ----------
    tasks : sequence of LabelTask
    """

    def __init__(self, tasks: Sequence[LabelTask]) -> None:
        self.tasks = list(tasks)
        self._sums = {task.name: np.zeros(task.size) for task in self.tasks}
        self._length = 0

    def add(self, logits: Mapping[str, Tensor], lengths: Sequence[int]) -> None:
        """Add windows: logits [B, C] by task, and the notes or frames of each."""
        weights = np.asarray(lengths, np.float64)
        self._length += int(weights.sum())
        for task in self.tasks:
            self._sums[task.name] += weights @ outputs_of(logits[task.name], task).cpu().double().numpy()

    def answer(self) -> dict[str, dict[str, float]]:
        """Probabilities, or numbers in their own units, by task and name."""
        found = {}
        for task in self.tasks:
            values = self._sums[task.name] / self._length
            values = task.restore_units(values) if task.type == "regression" else values
            found[task.name] = dict(zip(task.classes, values.tolist(), strict=True))
        return found
