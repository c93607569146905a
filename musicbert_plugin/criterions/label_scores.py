"""Losses and scores of labelled items, and the meter that collects predictions over a validation.

Several windows of one item may be predicted apart: the prediction of the item is the mean of their outputs, weighted by
their lengths.

Scores of an item's labels that are absent are not computed.  They are:

* single: ``accuracy``, ``f1`` (macro);
* multi: ``roc_auc``, ``pr_auc`` (mean over tags that some items have and some lack);
* regression: ``r2``, ``ccc`` (mean over quantities).

Shapes: B windows or items of a batch, C outputs of a head, K labels of an item, N items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.logging import metrics
from fairseq.logging.meters import MetersDict
from torch import Tensor

from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.metrics import classification, regression

METRICS = {"single": ("accuracy", "f1"), "multi": ("roc_auc", "pr_auc"), "regression": ("r2", "ccc")}


def label_losses(logits: Tensor, label: Tensor, task: LabelTask) -> Tensor:
    """Loss of each label, float32 [B, K], of a head's output [B, C] and labels [B, K]; of absent ones any number."""
    logits = logits.float()
    if task.type == "single":
        target = label[:, 0].long()
        losses = F.cross_entropy(logits, target, reduction="none", label_smoothing=task.label_smoothing)
        if task.class_weights:
            losses = losses * logits.new_tensor(task.class_weights)[target]
        return losses[:, None]
    target = label.to(logits.dtype)
    if task.type == "multi":
        target = target * (1 - task.label_smoothing) + task.label_smoothing / 2
        weight = logits.new_full((logits.shape[1],), task.pos_weight)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=weight)
    measures: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "huber": F.huber_loss, "l1": F.l1_loss}
    return measures[task.loss](logits, target, reduction="none")


def item_losses(losses: Tensor, present: Tensor) -> Tensor:
    """Mean over the present labels of each item, [B, K] to [B]; 0 for an item without any."""
    weight = present.to(losses.dtype)
    # where, and not a product: an absent label's loss may be anything, infinity included
    return torch.where(present, losses, 0.0).sum(1) / weight.sum(1).clamp(min=1)


def outputs_of(logits: Tensor, task: LabelTask) -> Tensor:
    """Outputs that may be averaged over windows: probabilities or standardised numbers, float32 [B, C]."""
    if task.type == "single":
        return logits.float().softmax(-1)
    return logits.float().sigmoid() if task.type == "multi" else logits.float()


def label_scores(outputs: np.ndarray, labels: np.ndarray, present: np.ndarray, task: LabelTask) -> dict[str, float]:
    """Compute the metrics of a task.

    Parameters
    ----------
    outputs : float [N, C]
        Probabilities, or standardised numbers, of each item.
    labels, present : float, bool [N, K]
    """
    outputs, labels = np.asarray(outputs, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if task.type == "single":
        here = present[:, 0]
        truth, guess = labels[here, 0].astype(np.int64), outputs[here].argmax(1)
        return {"accuracy": classification.accuracy(truth, guess), "f1": classification.macro_f1(truth, guess)}
    if task.type == "multi":
        here = present.all(1)
        truth, score = labels[here] > 0.5, outputs[here]
        both = truth.any(0) & ~truth.all(0) if len(truth) else np.zeros(task.size, bool)
        areas = {"roc_auc": classification.roc_auc(truth, score), "pr_auc": classification.pr_auc(truth, score)}
        return {name: classification.mean_of_defined(np.where(both, area, np.nan)) for name, area in areas.items()}
    scores = {"r2": [], "ccc": []}
    for quantity in range(task.size):
        here = present[:, quantity]
        truth, guess = (
            task.restore_units(table)[here, quantity] if here.any() else np.zeros(0) for table in (labels, outputs)
        )
        scores["r2"].append(regression.r2(truth, guess)[0] if here.any() else np.nan)
        scores["ccc"].append(regression.ccc(truth, guess)[0] if here.any() else np.nan)
    return {name: classification.mean_of_defined(values) for name, values in scores.items()}


class LabelMeter(MetersDict._DerivedMeter):
    """Collects the predictions of one task during a validation; a repeated window counts once.

    It is a derived meter because fairseq leaves those out of checkpoints; the class of any other meter would have to be
    one of fairseq's own.
    """

    def __init__(self, task: LabelTask) -> None:
        super().__init__(lambda meters: self.smoothed_value)
        self.task = task
        self.reset()

    def reset(self) -> None:
        """Discard everything collected."""
        self._found: list[tuple[np.ndarray, ...]] = []
        self._scores: dict[str, float] | None = None

    def update(self, logging_outputs: list[dict[str, Any]]) -> None:
        """Add the predictions of some batches."""
        self._scores = None
        for output in logging_outputs:
            found, name = output["predictions"], self.task.name
            columns = [found[key] for key in ("window", "item", "length")]
            columns += [found[key][name] for key in ("outputs", "labels", "present")]
            self._found.append(tuple(np.asarray(column) for column in columns))

    def items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Outputs [N, C], labels [N, K] and presence [N, K] of the items, in ascending order."""
        columns = [np.concatenate(parts) for parts in zip(*self._found, strict=True)]
        once = np.unique(columns[0], return_index=True)[1]
        _, item, length, outputs, labels, present = (column[once] for column in columns)
        _, first, row = np.unique(item, return_index=True, return_inverse=True)
        weights = np.bincount(row, length)
        sums = np.stack([np.bincount(row, length * values) for values in outputs.T.astype(np.float64)], 1)
        return sums / weights[:, None], labels[first], present[first]

    def score(self, metric: str) -> float:
        """One of the task's metrics over everything collected."""
        if self._scores is None:
            self._scores = label_scores(*self.items(), self.task)
        return round(self._scores[metric], 4)

    def state_dict(self) -> dict[str, Any]:
        """Empty: checkpoints do not keep predictions."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Discard everything collected."""
        self.reset()

    @property
    def smoothed_value(self) -> int:
        """Number of items collected."""
        return len(np.unique(np.concatenate([columns[1] for columns in self._found]))) if self._found else 0


def score_of(key: str, metric: str) -> Callable[[metrics.MetersDict], float]:
    """The function that fairseq calls to derive a score from the meter ``key``."""
    return lambda meters: meters[key].score(metric)
