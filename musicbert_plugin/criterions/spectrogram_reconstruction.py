"""Error of restored spectrograms on masked cells, beside that of two baselines without a model.

The loss is summed over the masked cells of standardised features, in float32: Huber's (quadratic up to
``--huber-delta``, then linear), the absolute error, or half the squared one.  Its denominator (``sample_size``) is
the number of masked cells.  With a code head, the cross-entropy of the codes of positions with masked frames is
added; it is weighted by the cells of such a position, so that after division by the cells it is a mean per position,
whatever the batch.

Logged, in fairseq's manner, as sums that may be added over batches and workers; units of the squared errors are
variances of a channel over the training data:

* ``loss``: mean per masked cell; ``mse``: mean squared error;
* ``mse_frames``, ``mse_channels``, ``mse_patches``: of cells masked in this way alone (a cell in a masked frame and in
  a masked channel is part of ``mse`` only);
* ``mean_...`` and ``interp_...`` for each of them: the same cells filled with the mean of the channel's visible cells
  in the window, and by linear interpolation between visible cells (``modules.interpolation``); cells that the model
  sees unchanged or replaced are hidden from both;
* ``vs_mean...`` and ``vs_interp...``: the model's error divided by the baseline's; below 1, the model is better;
* ``loss_code``, ``acc_code`` (with a code head); ``frames/s``, all workers together.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor, nn

from musicbert_plugin.criterions.logged_sums import log_mean, total
from musicbert_plugin.data.spectrogram_masking import CHANNELS, FRAMES, PATCHES
from musicbert_plugin.errors import OptionError
from musicbert_plugin.modules.interpolation import channel_means, interpolate_gaps
from musicbert_plugin.modules.packed_batch import padding_mask

LOSS_CHOICES = ChoiceEnum(("huber", "l1", "l2"))
TARGET_KINDS = {"": 0, "_frames": FRAMES, "_channels": CHANNELS, "_patches": PATCHES}
"""Suffix of a metric to the bits of its cells in the target mask; 0 for all masked cells."""
SOURCES = ("mse", "mean", "interp")


@dataclass
class SpectrogramReconstructionConfig(FairseqDataclass):
    reconstruction_loss: LOSS_CHOICES = field(
        default="huber", metadata={"help": "huber, l1, or l2 (half the squared error), on masked cells"}
    )
    huber_delta: float = field(default=1.0, metadata={"help": "where Huber's loss becomes linear, in deviations"})
    code_weight: float = field(default=1.0, metadata={"help": "weight of the cross-entropy of codes (--codes)"})


def cell_loss(estimate: Tensor, target: Tensor, kind: str, delta: float = 1.0) -> Tensor:
    """The loss of each cell, in float32, same shape; ``kind`` is huber, l1 or l2."""
    error = (estimate.float() - target.float()).abs()
    if kind == "l1":
        return error
    if kind == "l2":
        return 0.5 * error.square()
    return torch.where(error <= delta, 0.5 * error.square(), delta * (error - 0.5 * delta))


def masked_sums(values: Tensor, target_mask: Tensor) -> Tensor:
    """Sums of per-cell values over each of :data:`TARGET_KINDS`, float64 [4]."""
    masks = (target_mask == bits if bits else target_mask > 0 for bits in TARGET_KINDS.values())
    return torch.stack([values[mask].sum(dtype=torch.float64) for mask in masks])


@torch.no_grad()
def error_sums(estimate: Tensor, target: Tensor, target_mask: Tensor, lengths: Sequence[int]) -> Tensor:
    """Count of cells, and summed squared errors of a model and of both baselines, for each of :data:`TARGET_KINDS`.

    Parameters
    ----------
    estimate, target : Tensor [B, T, F]
        Standardised.
    target_mask : uint8 Tensor [B, T, F]
    lengths : sequence of int
        Frames of each window.

    Returns
    -------
    float64 Tensor [4, 4]
    """
    visible = (target_mask == 0) & ~padding_mask(lengths, target.shape[1], target.device)[..., None]
    errors = [
        torch.ones_like(target),
        (estimate.float() - target).square(),
        (channel_means(target, visible) - target).square(),
        (interpolate_gaps(target, visible) - target).square(),
    ]
    return torch.stack([masked_sums(values, target_mask) for values in errors])


@register_criterion("spectrogram_reconstruction", dataclass=SpectrogramReconstructionConfig)
class SpectrogramReconstructionCriterion(FairseqCriterion):
    """Loss on masked cells, and the baselines on the same cells; see the module."""

    def __init__(self, task: Any, reconstruction_loss: str, huber_delta: float, code_weight: float) -> None:
        super().__init__(task)
        if not huber_delta > 0:
            raise OptionError(f"--huber-delta is {huber_delta:g}, but a number above 0 is accepted.")
        if not code_weight >= 0:
            raise OptionError(f"--code-weight is {code_weight:g}, but a number of at least 0 is accepted.")
        self.kind, self.delta, self.code_weight = str(reconstruction_loss), huber_delta, code_weight

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss (a scalar, summed over masked cells), number of masked cells, and what to log."""
        net_output = model(**sample["net_input"])
        estimate, extra = net_output
        target, target_mask = model.get_targets(sample, net_output), sample["target_mask"]
        masked = target_mask > 0
        loss = cell_loss(estimate[masked], target[masked], self.kind, self.delta).sum()
        sample_size = sample["n_targets"]
        logging_output = {
            "reconstruction_loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["nsentences"],
            "sample_size": sample_size,
            "sums": error_sums(estimate.detach(), target, target_mask, sample["net_input"]["lengths"]),
        }
        if extra["code_logits"] is not None:
            code_loss, code_sums = self._code_loss(model, sample, extra)
            loss = loss + self.code_weight * code_loss
            logging_output["code_sums"] = code_sums
        logging_output["loss"] = loss.detach()
        return loss, sample_size, logging_output

    def _code_loss(self, model: nn.Module, sample: dict[str, Any], extra: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the codes of masked positions, in cells; and positions, its sum and right guesses [3]."""
        masked_BTF = (sample["target_mask"] & FRAMES) > 0
        masked_BS = model.stack(masked_BTF, sample["net_input"]["lengths"])[0].any(-1)
        code_NG = model.code_targets(sample["target"], sample["net_input"]["lengths"])[masked_BS]
        logits_NGK = extra["code_logits"][masked_BS].float()
        nll = F.cross_entropy(logits_NGK.flatten(0, 1), code_NG.flatten(), reduction="sum") / max(code_NG.shape[1], 1)
        right = (logits_NGK.argmax(-1) == code_NG).double().mean(1).sum() if len(code_NG) else nll.new_zeros(())
        sums = torch.stack([nll.new_tensor(len(code_NG)).double(), nll.detach().double(), right.double()])
        return nll * masked_BTF.shape[2] * model.frame_stack, sums

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Sum what batches and workers logged, and turn sums into means and ratios."""
        log_mean("loss", total(logging_outputs, "loss"), total(logging_outputs, "sample_size"))
        counts, *sums = sum(output["sums"] for output in logging_outputs).tolist()
        for kind, suffix in enumerate(TARGET_KINDS):
            if suffix and not counts[kind]:
                continue
            for source, values in zip(SOURCES, sums, strict=True):
                log_mean(source + suffix, values[kind], counts[kind], priority=20)
            for baseline in SOURCES[1:]:
                metrics.log_derived(f"vs_{baseline}{suffix}", _ratio(f"mse{suffix}", baseline + suffix), priority=30)
        if any("code_sums" in output for output in logging_outputs):
            positions, nll, right = sum(output["code_sums"] for output in logging_outputs).tolist()
            log_mean("loss_code", nll, positions, priority=40)
            log_mean("acc_code", right, positions, priority=40)
        metrics.log_speed("frames/s", total(logging_outputs, "ntokens"), priority=90, round=1)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _ratio(numerator: str, denominator: str) -> Callable[[metrics.MetersDict], float]:
    def ratio(meters: metrics.MetersDict) -> float:
        # None: no such cells since the meters were last reset
        above, below = meters[numerator].avg, meters[denominator].avg
        return round(float(above) / float(below), 4) if above is not None and below else float("nan")

    return ratio
