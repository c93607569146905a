"""Criterion ``labels``: the loss over several labelled tasks, and each task's metrics over the whole validation set.

Labels are of windows, of sound or of notes, or of the notes in them.  The loss of a window (or note) is the weighted
sum over tasks of the mean over the task's labels that are present (0 if none is): the cross-entropy of the class, the
binary cross-entropy of each tag, or the error of each standardised number, times the weights of ``tasks.yaml``
(``class_weights``, ``weight_column``).  The loss of a batch is the sum over its windows, and the denominator
(``sample_size``) their number, or for labels of notes the number of notes that have a label, so that the gradient does
not depend on how windows are split into batches.

``--weighting``:

* ``fixed``: the weights of ``tasks.yaml``; ``equal``: all 1;
* ``uncertainty`` (Kendall, Gal, Cipolla 2018, "Multi-task learning using uncertainty to weigh losses", CVPR, section
  3.2): each task has a learned s = ln(variance); its loss L becomes L exp(-s) + s / 2 (for squared errors, L exp(-s)
  / 2 + s / 2) for labelled windows.  The weights of ``tasks.yaml`` multiply it.  (``fairseq-validate`` does not load
  parameters of criterions, so its ``loss`` is that of equal variances.)

Logged: ``loss`` (nats per window or labelled note), ``loss_<task>`` (mean over labelled windows), and in validation
``<task>_<metric>`` over whole items, see ``label_scores``.  ``audio_multitask`` is its former name.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor, nn

from musicbert_plugin.criterions.label_scores import (
    METRICS,
    LabelMeter,
    item_losses,
    label_losses,
    outputs_of,
    score_of,
)
from musicbert_plugin.criterions.logged_sums import log_mean, total
from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.errors import OptionError

WEIGHTING_CHOICES = ChoiceEnum(("fixed", "equal", "uncertainty"))


@dataclass
class LabelsCriterionConfig(FairseqDataclass):
    """Options of the criterion."""

    weighting: WEIGHTING_CHOICES = field(
        default="fixed", metadata={"help": "weights of tasks: those of tasks.yaml, equal, or learned from uncertainty"}
    )


@register_criterion("labels", dataclass=LabelsCriterionConfig)
class LabelsCriterion(FairseqCriterion):
    """Weighted losses of several tasks; see the module."""

    def __init__(self, task: Any, weighting: str) -> None:
        super().__init__(task)
        self.label_tasks: list[LabelTask] = task.label_tasks
        self.per_note: bool = getattr(task, "per_note", False)
        self.weighting = str(weighting)
        if self.weighting != "equal" and not any(label_task.weight for label_task in task.label_tasks):
            raise OptionError("every task of tasks.yaml has the weight 0, so that there is nothing to learn.")
        if self.weighting == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(len(self.label_tasks)))

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss (a scalar, summed over windows or notes), the number of them, and what to log."""
        logits = model(**sample["net_input"])[0]
        per_task = {}
        loss: Any = 0.0
        for number, task in enumerate(self.label_tasks):
            present, weights = sample["present"][task.name], sample.get("weights", {}).get(task.name)
            losses = label_losses(logits[task.name], sample["labels"][task.name], task)
            loss_B = item_losses(losses if weights is None else losses * weights.to(losses.dtype), present)
            labelled = present.any(1).sum()
            loss = loss + self._weighted(number, task, loss_B.sum(), labelled)
            per_task |= {f"loss_{task.name}": loss_B.detach().sum(), f"labelled_{task.name}": labelled}
        sample_size = sample["n_labelled"] if self.per_note else sample["nsentences"]
        logging_output = {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["nsentences"],
            "sample_size": sample_size,
            **per_task,
        }
        if not self.training:
            logging_output["predictions"] = self._predictions(logits, sample)
            logging_output["label_tasks"] = self.label_tasks
        return loss, sample_size, logging_output

    def load_state_dict(self, state_dict: Any, strict: bool = True, **options: Any) -> Any:
        """Load the learned weights of a checkpoint; if it has none (pre-training), they keep their initial values."""
        if not state_dict or "log_variance" not in state_dict:
            state_dict = self.state_dict()
        return super().load_state_dict(state_dict, strict, **options)

    def _weighted(self, number: int, task: LabelTask, loss: Tensor, labelled: Tensor) -> Tensor:
        """Weight a task's loss, summed over a batch with this number of labelled windows."""
        if self.weighting == "equal":
            return loss
        if self.weighting == "fixed":
            return task.weight * loss
        s = self.log_variance[number].float()
        half = 0.5 if task.type == "regression" else 1.0
        return task.weight * (half * torch.exp(-s) * loss + 0.5 * s * labelled)

    def _predictions(self, logits: dict[str, Tensor], sample: dict[str, Any]) -> dict[str, Any]:
        """Arrays on the host from which :class:`LabelMeter` computes the metrics of whole items."""
        return {
            **{key: sample[key].cpu().numpy() for key in ("item", "window", "length")},
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
        log_mean("loss", total(logging_outputs, "loss"), total(logging_outputs, "sample_size"))
        metrics.log_speed("windows/s", total(logging_outputs, "nsentences"), priority=90, round=1)
        for key in sorted({key for output in logging_outputs for key in output if key.startswith("labelled_")}):
            loss = key.replace("labelled", "loss", 1)
            log_mean(loss, total(logging_outputs, loss), total(logging_outputs, key), priority=40)
        predicted = [output for output in logging_outputs if "predictions" in output]
        for task in predicted[0]["label_tasks"] if predicted else ():
            metrics.log_custom(lambda task=task: LabelMeter(task), f"_{task.name}", predicted, priority=50)
            for metric in METRICS[task.type]:
                metrics.log_derived(f"{task.name}_{metric}", score_of(f"_{task.name}", metric), priority=50)

    def logging_outputs_can_be_summed(self) -> bool:
        """True in training; a validation gathers the predictions of all workers."""
        return self.training


# fairseq refuses two names of one class
@register_criterion("audio_multitask", dataclass=LabelsCriterionConfig)
class AudioMultitaskCriterion(LabelsCriterion):
    """:class:`LabelsCriterion` by its former name."""
