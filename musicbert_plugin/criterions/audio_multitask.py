"""Loss over several labelled tasks at once, and each task's metrics over the whole validation set.

A clip's loss is the weighted sum over tasks of the mean over the task's labels that are present (0 if none is): the
cross-entropy of the class, the binary cross-entropy of each tag, or the error of each standardised number.  The loss
of a batch is the sum over its clips, and the denominator (``sample_size``) their number, so that any way of splitting
clips into batches gives the same gradient.

``--weighting``:

* ``fixed``: the weights of ``tasks.yaml``; ``equal``: all 1;
* ``uncertainty`` (Kendall, Gal, Cipolla 2018, "Multi-task learning using uncertainty to weigh losses", CVPR, section
  3.2): each task has a learned s = ln(variance); its loss L counts as L exp(-s) + s / 2 (for squared errors, L / 2),
  for clips that are labelled.  The weights of ``tasks.yaml`` multiply it.  (``fairseq-validate`` reads no parameters of
  criterions, so that its ``loss`` is then that of equal variances.)

Logged: ``loss`` (nats per clip), ``loss_<task>`` (mean over labelled clips), and in validation, of whole clips (the
prediction of a clip is the mean over its windows, weighted by their frames):

* single: ``<task>_accuracy``, ``<task>_f1`` (macro); multi: ``<task>_roc_auc``, ``<task>_pr_auc`` (mean over tags that
  some clips have and some lack); regression: ``<task>_r2``, ``<task>_ccc`` (mean over quantities).
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from fairseq.logging.meters import MetersDict
from torch import Tensor, nn

from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.metrics import classification, regression

WEIGHTING_CHOICES = ChoiceEnum(("fixed", "equal", "uncertainty"))
METRICS = {"single": ("accuracy", "f1"), "multi": ("roc_auc", "pr_auc"), "regression": ("r2", "ccc")}


@dataclass
class AudioMultitaskCriterionConfig(FairseqDataclass):
    weighting: WEIGHTING_CHOICES = field(
        default="fixed", metadata={"help": "weights of tasks: those of tasks.yaml, equal, or learned from uncertainty"}
    )


def label_losses(logits: Tensor, label: Tensor, task: LabelTask) -> Tensor:
    """Loss of each label, float32 [B, K], of a head's output [B, C] and labels [B, K]; of absent ones any number."""
    logits = logits.float()
    if task.type == "single":
        return F.cross_entropy(logits, label[:, 0].long(), reduction="none")[:, None]
    target = label.to(logits.dtype)
    if task.type == "multi":
        weight = logits.new_full((logits.shape[1],), task.pos_weight)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=weight)
    losses: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "huber": F.huber_loss, "l1": F.l1_loss}
    return losses[task.loss](logits, target, reduction="none")


def clip_losses(losses: Tensor, present: Tensor) -> Tensor:
    """Mean over the present labels of each clip, [B, K] to [B]; 0 for a clip without any."""
    weight = present.to(losses.dtype)
    # where, and not a product: an absent label's loss may be anything, infinity included
    return torch.where(present, losses, 0.0).sum(1) / weight.sum(1).clamp(min=1)


@register_criterion("audio_multitask", dataclass=AudioMultitaskCriterionConfig)
class AudioMultitaskCriterion(FairseqCriterion):
    """Weighted losses of several tasks; see the module."""

    def __init__(self, task: Any, weighting: str) -> None:
        super().__init__(task)
        self.label_tasks: list[LabelTask] = task.label_tasks
        self.weighting = str(weighting)
        if self.weighting == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(len(self.label_tasks)))

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss (a scalar, summed over clips), number of clips, and what to log."""
        logits = model(**sample["net_input"])[0]
        per_task = {}
        loss: Any = 0.0
        for number, task in enumerate(self.label_tasks):
            present = sample["present"][task.name]
            loss_B = clip_losses(label_losses(logits[task.name], sample["labels"][task.name], task), present)
            labelled = present.any(1).sum()
            loss = loss + self._weighted(number, task, loss_B.sum(), labelled)
            per_task |= {f"loss_{task.name}": loss_B.detach().sum(), f"labelled_{task.name}": labelled}
        logging_output = {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["nsentences"],
            "sample_size": sample["nsentences"],
            **per_task,
        }
        if not self.training:
            logging_output["predictions"] = self._predictions(logits, sample)
            logging_output["label_tasks"] = self.label_tasks
        return loss, sample["nsentences"], logging_output

    def load_state_dict(self, state_dict: Any, strict: bool = True, **options: Any) -> Any:
        """Take the learned weights of a checkpoint; one of pre-training has none, and they start afresh."""
        if not state_dict or "log_variance" not in state_dict:
            state_dict = self.state_dict()
        return super().load_state_dict(state_dict, strict, **options)

    def _weighted(self, number: int, task: LabelTask, loss: Tensor, labelled: Tensor) -> Tensor:
        """A task's part of the loss of a batch, of its sum over clips and the number of labelled ones."""
        if self.weighting == "equal":
            return loss
        if self.weighting == "fixed":
            return task.weight * loss
        s = self.log_variance[number].float()
        half = 0.5 if task.type == "regression" else 1.0
        return task.weight * (half * torch.exp(-s) * loss + 0.5 * s * labelled)

    def _predictions(self, logits: dict[str, Tensor], sample: dict[str, Any]) -> dict[str, Any]:
        """What the metrics of whole clips need, on the host."""
        return {
            "clip": sample["clip"].cpu().numpy(),
            "window": sample["id"].cpu().numpy(),
            "frames": np.array(sample["net_input"]["lengths"]),
            "outputs": {
                task.name: outputs_of(logits[task.name], task).cpu().numpy().astype(np.float32)
                for task in self.label_tasks
            },
            "labels": {name: label.cpu().numpy() for name, label in sample["labels"].items()},
            "present": {name: label.cpu().numpy() for name, label in sample["present"].items()},
        }

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Sum what batches and workers logged, and collect the predictions of a validation."""

        def total(key: str) -> float:
            return float(sum(output.get(key, 0) for output in logging_outputs))

        clips = total("sample_size")
        metrics.log_scalar("loss", total("loss") / (clips or 1), clips, round=4)
        metrics.log_speed("clips/s", total("nsentences"), priority=90, round=1)
        for key in sorted({key for output in logging_outputs for key in output if key.startswith("labelled_")}):
            loss = key.replace("labelled", "loss", 1)
            metrics.log_scalar(loss, total(loss) / (total(key) or 1), total(key), priority=40, round=4)
        predicted = [output for output in logging_outputs if "predictions" in output]
        for task in predicted[0]["label_tasks"] if predicted else ():
            metrics.log_custom(lambda task=task: ClipMeter(task), f"_{task.name}", predicted, priority=50)
            for metric in METRICS[task.type]:
                metrics.log_derived(f"{task.name}_{metric}", _score_of(f"_{task.name}", metric), priority=50)

    def logging_outputs_can_be_summed(self) -> bool:
        """In training; a validation gathers the predictions of all workers."""
        return self.training


def outputs_of(logits: Tensor, task: LabelTask) -> Tensor:
    """What may be averaged over windows: probabilities of classes or tags, or standardised numbers; float32 [B, C]."""
    if task.type == "single":
        return logits.float().softmax(-1)
    return logits.float().sigmoid() if task.type == "multi" else logits.float()


def clip_scores(outputs: np.ndarray, labels: np.ndarray, present: np.ndarray, task: LabelTask) -> dict[str, float]:
    """The metrics of a task.

    Parameters
    ----------
    outputs : float [N, C]
        Probabilities, or standardised numbers, of whole clips.
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


class ClipMeter(MetersDict._DerivedMeter):
    """Collects the predictions of one task during a validation; a window that comes twice counts once.

    fairseq leaves derived meters out of checkpoints: of any other it would look for the class among its own.
    """

    def __init__(self, task: LabelTask) -> None:
        super().__init__(lambda meters: self.smoothed_value)
        self.task = task
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.windows: dict[int, tuple[int, int, np.ndarray]] = {}
        self.truth: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._scores: dict[str, float] | None = None

    def update(self, logging_outputs: list[dict[str, Any]]) -> None:
        """Take the predictions of some batches."""
        self._scores = None
        for output in logging_outputs:
            found, name = output["predictions"], self.task.name
            rows = zip(
                found["window"].tolist(),
                found["clip"].tolist(),
                found["frames"].tolist(),
                found["outputs"][name],
                found["labels"][name],
                found["present"][name],
                strict=True,
            )
            for window, clip, frames, values, labels, present in rows:
                self.windows[window] = (clip, frames, values)
                self.truth[clip] = (labels, present)

    def clips(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Outputs [N, C], labels [N, K] and presence [N, K] of the clips, in ascending order."""
        order = sorted(self.truth)
        row = {clip: place for place, clip in enumerate(order)}
        sums, weights = np.zeros((len(order), self.task.size)), np.zeros((len(order), 1))
        for clip, frames, values in self.windows.values():
            sums[row[clip]] += frames * values.astype(np.float64)
            weights[row[clip]] += frames
        labels = np.array([self.truth[clip][0] for clip in order])
        present = np.array([self.truth[clip][1] for clip in order])
        return sums / weights, labels, present

    def score(self, metric: str) -> float:
        """One of the task's metrics over everything collected."""
        if self._scores is None:
            self._scores = clip_scores(*self.clips(), self.task)
        return round(self._scores[metric], 4)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: predictions are not kept in checkpoints."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start afresh."""
        self.reset()

    @property
    def smoothed_value(self) -> int:
        """How many clips were collected."""
        return len(self.truth)


def _score_of(key: str, metric: str) -> Callable[[metrics.MetersDict], float]:
    return lambda meters: meters[key].score(metric)
