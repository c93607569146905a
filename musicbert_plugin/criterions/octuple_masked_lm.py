"""Masked cross-entropy over octuples, reported per field.

The loss is the sum over all masked tokens of -ln p(true token), in float32; its denominator (``sample_size``) is the
number of masked tokens.  fairseq divides the summed gradient by the summed denominator, so one worker that accumulates
two batches and two workers with a batch each take the same step.

Logged, in fairseq's manner, as sums that may be added over batches and workers:

* ``loss`` (bits per masked token, frames included) and ``ppl`` = 2 ** loss;
* ``loss_<field>`` (bits) and ``acc_<field>`` for each of the eight fields, and ``acc`` over all of them, of notes
  alone: the eight ``<s>`` or ``</s>`` of the frame octuples are easy to predict; in validation also ``ppl_<field>``;
* ``notes/s``, all workers together;
* ``mfu`` (training on a GPU): percent of the peak of dense bf16 arithmetic, 989 TFLOP/s for each of the GPUs (an H100
  or H200), that the matrix products and attention of the forward pass, times three, amount to.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from torch import Tensor, nn

from musicbert_plugin.codecs.octuple import BOS, EOS, FIELDS, PAD
from musicbert_plugin.criterions.logged_sums import log_mean, total

PEAK_FLOPS = 989e12  # dense bf16 of one H100 or H200 (SXM), per second
BACKWARD_FACTOR = 3  # the backward pass costs two forward passes


@dataclass
class OctupleMaskedLmConfig(FairseqDataclass):
    pass


def _sums_per_field(nll: Tensor, is_right: Tensor, target: Tensor, field: Tensor) -> Tensor:
    """Count, summed loss and correct predictions of each field: float64 [3, 8].  Frame tokens are left out."""
    is_note = (target != BOS) & (target != EOS)
    values = torch.stack([torch.ones_like(nll), nll, is_right.to(nll.dtype)]).double() * is_note
    return values.new_zeros(3, len(FIELDS)).index_add_(1, field, values)


@register_criterion("octuple_masked_lm", dataclass=OctupleMaskedLmConfig)
class OctupleMaskedLmCriterion(FairseqCriterion):
    """Masked cross-entropy with losses and accuracies per field; see the module."""

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss (a scalar in nats, summed over targets), number of targets, and what to log."""
        is_target = sample["target"].ne(PAD)
        logits = model(**sample["net_input"], masked_tokens=is_target)[0].float()
        target = sample["target"][is_target]
        nll = F.cross_entropy(logits, target, reduction="none")
        loss = nll.sum()
        sample_size = sample["n_targets"]
        with torch.no_grad():
            field = is_target.nonzero()[:, 1] % len(FIELDS)
            sums_per_field = _sums_per_field(nll, logits.argmax(dim=-1) == target, target, field)
        logging_output = {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["nsentences"],
            "sample_size": sample_size,
            "n_notes": sample["n_notes"],
            "sums_per_field": sums_per_field,
            "evaluating": int(not model.training),
            "flops": self._flops(model, sample) if logits.is_cuda and model.training else 0.0,
        }
        return loss, sample_size, logging_output

    @staticmethod
    def _flops(model: nn.Module, sample: dict[str, Any]) -> float:
        """Floating-point operations of forward and backward pass, by the count of the model (0 if it keeps none)."""
        count = getattr(model, "forward_flops", None)
        return BACKWARD_FACTOR * count(torch.from_numpy(sample["piece_lengths"]), sample["n_targets"]) if count else 0.0

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Sum what batches and workers logged, and turn sums into means."""
        log_mean("loss", total(logging_outputs, "loss") / math.log(2), total(logging_outputs, "sample_size"), digits=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["loss"].avg))
        counts, losses, rights = sum(output["sums_per_field"] for output in logging_outputs).tolist()
        log_mean("acc", sum(rights), sum(counts), priority=21)
        for name, count, loss, right in zip(FIELDS, counts, losses, rights, strict=True):
            log_mean(f"loss_{name}", loss / math.log(2), count, priority=40, digits=3)
            log_mean(f"acc_{name}", right, count, priority=50)
            if total(logging_outputs, "evaluating"):
                metrics.log_derived(f"ppl_{name}", _perplexity_of(f"loss_{name}"), priority=45)
        metrics.log_speed("notes/s", total(logging_outputs, "n_notes"), priority=90, round=1)
        if total(logging_outputs, "flops"):
            peak = PEAK_FLOPS * distributed_utils.get_data_parallel_world_size()
            metrics.log_speed("_flops", total(logging_outputs, "flops"))
            metrics.log_derived("mfu", lambda meters: round(100 * float(meters["_flops"].avg) / peak, 1), priority=91)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _perplexity_of(key: str) -> Callable[[metrics.MetersDict], float]:
    return lambda meters: utils.get_perplexity(meters[key].avg)
