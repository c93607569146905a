"""Attributions: what each field of each note contributes to a prediction, by integrated gradients and by occlusion.

The score F of a piece is the logit of a class (or a standardised number) of a head: the mean over windows end to end,
weighted by their notes.  The baseline is the same piece with every field of every note masked; the frame stays.

*Integrated gradients* [1]_.  With the embeddings e of the tokens and e' of the masks, the contribution of field f of
note n is  (e_nf - e'_nf) . integral_0^1 dF/de_nf (e' + a (e - e')) da.  Contributions add up over fields, notes and
bars to F(piece) - F(baseline); the error of the sum, which the number of steps decides, is returned.  Since the
octuple is a linear map of its eight embeddings, the gradient of its vector is enough for all of its fields.  The
integral is a Gauss-Legendre sum, with twice the steps until the error is below 1 % of the difference.

*Occlusion*: F(piece) - F(the piece with the notes of one bar masked).

References
----------
.. [1] M. Sundararajan, A. Taly, Q. Yan. "Axiomatic attribution for deep networks." ICML, 2017.

Shapes: N notes of a piece, L octuples of a framed window, F = 8 fields, D model dimensions, B rows of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.octuple import BAR, FIELDS, MASK
from musicbert_plugin.errors import CheckpointError, OptionError
from musicbert_plugin.hub.musicbert import LONGEST_ROW, MusicBERTHub

logger = logging.getLogger(__name__)

FIRST_STEPS, MOST_STEPS = 16, 512
TOLERANCE = 0.01
"""Largest error of the sum, as a share of the difference that it explains."""
_SMALL = 1e-4  # a difference below it has no share

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """What a prediction is made of.

    Attributes
    ----------
    contributions : float64 [N, 8]
        Of each field of each note, in the order of ``octuples``.
    octuples : int64 [N, 8]
    score, baseline : float
        F of the piece, and with all notes masked.
    steps : int
        Largest number of steps of a window.
    """

    contributions: Array
    octuples: NDArray[np.int64]
    score: float
    baseline: float
    steps: int

    @property
    def error(self) -> float:
        """The sum of contributions minus the difference that they explain."""
        return float(self.contributions.sum()) - (self.score - self.baseline)

    def by_bar(self) -> Array:
        """The sum of the contributions of each bar, float64 [bars, 8]."""
        bars = int(self.octuples[:, BAR].max()) + 1
        total = np.zeros((bars, len(FIELDS)))
        np.add.at(total, self.octuples[:, BAR], self.contributions)
        return total


class Explainer:
    """Explains one output of one head of a model of notes.

    Parameters
    ----------
    hub : MusicBERTHub
        With heads for labels of pieces.
    head : str, optional
        May be omitted if there is one.
    target : str, optional
        The class, tag or quantity; by default the one with the largest output for each piece.

    Raises
    ------
    CheckpointError
        The model has no such heads.
    OptionError
        There is no such head or target.
    """

    def __init__(self, hub: MusicBERTHub, head: str | None = None, target: str | None = None) -> None:
        if hub.per_note:
            raise CheckpointError("the model has labels of notes; a model with labels of pieces can be explained.")
        sizes = {name: module.out_proj.out_features for name, module in hub.model.classification_heads.items()}
        sizes |= {task.name: task.size for task in hub.label_tasks}
        if not sizes:
            raise CheckpointError("the model has no heads for labels; a fine-tuned one is needed.")
        if head is None and len(sizes) == 1:
            head = next(iter(sizes))
        if head not in sizes:
            raise OptionError(f"the head is {head!r}, but the model has {', '.join(sizes)}.")
        names = next((list(task.classes) for task in hub.label_tasks if task.name == head), None)
        self.hub, self.head = hub, str(head)
        self.names = names or hub.labels.get(self.head) or [str(number) for number in range(sizes[self.head])]
        if target is not None and target not in self.names:
            raise OptionError(f"the target is {target!r}, but the head {head} has {', '.join(self.names)}.")
        self.target = target

    def outputs(self, octuples: NDArray[np.int64]) -> Array:
        """The head's outputs for a piece, float64 [C]: weighted means of those of its windows."""
        windows = list(self._windows(octuples))
        with torch.inference_mode():
            found = [self._logits(self._ids(octuple.frame(window)))[0].double().cpu().numpy() for window in windows]
        return np.average(found, axis=0, weights=[len(window) for window in windows])

    def number_of(self, octuples: NDArray[np.int64]) -> int:
        """The number of the target, or of the largest output for a piece."""
        return int(self.outputs(octuples).argmax()) if self.target is None else self.names.index(self.target)

    def attribute(self, octuples: NDArray[np.int64], number: int) -> Attribution:
        """Integrated gradients of one output.

        Parameters
        ----------
        octuples : int64 [N, 8]
            Of a piece, with ascending bars.
        number : int
            Of the output.
        """
        parts, score, baseline, steps = [], 0.0, 0.0, 0
        for window in self._windows(octuples):
            weight = len(window) / len(octuples)
            contributions, full, masked, used = self._window(window, number)
            parts.append(weight * contributions)
            score, baseline, steps = score + weight * full, baseline + weight * masked, max(steps, used)
        return Attribution(np.concatenate(parts), octuples, score, baseline, steps)

    def occlude(self, octuples: NDArray[np.int64], number: int) -> Array:
        """How much the output falls where the notes of one bar are masked, float64 [bars]; 0 for bars without notes."""
        fall = np.zeros(int(octuples[:, BAR].max()) + 1)
        begin = 0
        for window in self._windows(octuples):
            bar = octuples[begin : begin + len(window), BAR]
            begin += len(window)
            ids = octuple.frame(window).astype(np.int64)
            present = np.unique(bar)
            rows = np.repeat(ids[None], len(present) + 1, 0).reshape(len(present) + 1, -1, len(FIELDS))
            rows[1:, 1:-1] = np.where((present[:, None] == bar)[..., None], MASK, rows[1:, 1:-1])
            with torch.inference_mode():
                logits = [self._logits(batch)[:, number] for batch in self._batches(rows.reshape(len(rows), -1))]
            found = torch.cat(logits).double().cpu().numpy()
            fall[present] += (found[0] - found[1:]) * len(window) / len(octuples)
        return fall

    def _windows(self, octuples: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        for part in octuple.split_bars(octuples):
            for start in range(0, len(part), self.hub.label_window):
                yield part[start : start + self.hub.label_window]

    def _ids(self, ids: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.atleast_2d(ids).astype(np.int64)).to(self.hub.device)

    def _batches(self, rows: NDArray[Any]) -> Iterator[Tensor]:
        """Rows [R, T], some at a time."""
        together = max(LONGEST_ROW * len(FIELDS) // rows.shape[1], 1)
        for start in range(0, len(rows), together):
            yield self._ids(rows[start : start + together])

    def _logits(self, ids_BT: Tensor) -> Tensor:
        """[B, C]"""
        model = self.hub.model
        if self.head in model.head_sizes:
            return model.label_logits(ids_BT)[self.head].float()
        return model(ids_BT, classification_head_name=self.head)[0].float()

    def _window(self, window: NDArray[Any], number: int) -> tuple[Array, float, float, int]:
        """Contributions [n, 8] of a window, its output with and without its notes, and the steps."""
        ids = octuple.frame(window).astype(np.int64)
        masked = ids.reshape(-1, len(FIELDS)).copy()
        masked[1:-1] = MASK
        encoder: Any = self.hub.model.encoder.sentence_encoder
        with torch.no_grad():
            both = self._ids(np.stack([ids, masked.ravel()]))
            full, empty = self._logits(both)[:, number].double().tolist()
            difference_LFD = torch.sub(*encoder.embed_tokens(both.view(2, -1, len(FIELDS))))
            blocks_FDD = torch.stack(encoder.downsampling[0].weight.chunk(len(FIELDS), dim=1))
            shift_LFD = torch.einsum("lfd,fed->lfe", difference_LFD, blocks_FDD)
        steps = FIRST_STEPS
        while True:
            found = self._integral(ids, shift_LFD, number, steps)
            if abs(found.sum() - (full - empty)) <= TOLERANCE * max(abs(full - empty), _SMALL):
                break
            if steps >= MOST_STEPS:
                logger.warning(
                    "after %d steps, contributions add up to %.4g, not to %.4g", steps, found.sum(), full - empty
                )
                break
            steps *= 2
        return found[1:-1], full, empty, steps

    def _integral(self, ids: NDArray[np.int64], shift_LFD: Tensor, number: int, steps: int) -> Array:
        """Contributions [L, F] by a Gauss-Legendre sum."""
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        path, weights = (nodes + 1) / 2, weights / 2
        norm = self.hub.model.encoder.sentence_encoder.emb_layer_norm
        total = torch.zeros(shift_LFD.shape[0], shift_LFD.shape[2], dtype=torch.float64, device=shift_LFD.device)
        rows = np.repeat(ids[None], steps, axis=0)
        first = 0
        for batch in self._batches(rows):
            point_B = torch.from_numpy(path[first : first + len(batch)]).to(shift_LFD)
            weight_B = torch.from_numpy(weights[first : first + len(batch)]).to(shift_LFD.device)
            first += len(batch)
            gradient = self._gradient(norm, batch, shift_LFD.sum(1), point_B, number)
            total += torch.einsum("b,bld->ld", weight_B, gradient.double())
        return torch.einsum("ld,lfd->lf", total, shift_LFD.double()).cpu().numpy()

    def _gradient(self, norm: Any, batch: Tensor, shift_LD: Tensor, point_B: Tensor, number: int) -> Tensor:
        """The gradient [B, L, D] at the vectors of the octuples, where row b is at the point a_b of the path."""
        inputs: list[Tensor] = []

        def move(_: Any, arguments: tuple[Tensor, ...]) -> Tensor:
            x_BLD = arguments[0].detach().view(len(point_B), *shift_LD.shape)
            moved = (x_BLD - (1 - point_B)[:, None, None] * shift_LD).requires_grad_()
            inputs.append(moved)
            return moved.flatten(0, 1)

        handle = norm.register_forward_pre_hook(move)
        try:
            with torch.enable_grad():
                output = self._logits(batch)[:, number].sum()
                (gradient,) = torch.autograd.grad(output, inputs)
        finally:
            handle.remove()
        return gradient


def deletion(
    explain: Callable[[NDArray[np.int64]], float], octuples: NDArray[np.int64], bars: NDArray[np.int64]
) -> float:
    """How much an output changes where the notes of some bars are deleted; the bars that stay keep their numbers."""
    kept = octuples[~np.isin(octuples[:, BAR], bars)]
    return explain(kept) - explain(octuples)
