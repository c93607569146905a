"""Heads for labelled items on any encoder: a mix of its layers, pooling over positions, and one head per task.

* Mix: the last state, one layer's, or a mean of all of them with learned weights (softmax; each state is normalised to
  mean 0 and deviation 1 per position first, so that weights are comparable).
* Pooling: the mean over an item's positions; mean and maximum side by side; or a mean weighted by learned attention.

Padding is ignored.

Shapes: B items, S positions per row, D model dimensions, L layers, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicbert_plugin.errors import OptionError
from musicbert_plugin.modules.packed_batch import padding_mask
from musicbert_plugin.parsing import whole_number

POOLINGS = ("mean", "attention", "mean+max")


def layer_number(layer_mix: str, layers: int) -> int | None:
    """The layer that ``layer_mix`` names: -1 for the last, None for a learned mix.

    Raises
    ------
    OptionError
        If it names none.
    """
    if layer_mix in ("last", "learned"):
        return -1 if layer_mix == "last" else None
    number = whole_number(layer_mix)
    if number is None or number > layers:
        raise OptionError(
            f"layer_mix is {layer_mix!r}, but it is last, learned, or a layer's number from 0 (the input) to {layers}"
        )
    return number


class Pooling(nn.Module):
    """[B, S, D] to one vector per item, [B, D] or (mean+max) [B, 2 D]."""

    def __init__(self, dim: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.size = 2 * dim if kind == "mean+max" else dim
        self.attention = nn.Linear(dim, 1) if kind == "attention" else None

    def forward(self, x_BSD: Tensor, padding_mask_BS: Tensor) -> Tensor:
        padding_BS1 = padding_mask_BS[..., None]
        if self.attention is not None:
            score_BS1 = self.attention(x_BSD).float().masked_fill(padding_BS1, float("-inf"))
            return (x_BSD * score_BS1.softmax(1).to(x_BSD.dtype)).sum(1)
        weight = (~padding_BS1).to(x_BSD.dtype)
        mean_BD = (x_BSD * weight).sum(1) / weight.sum(1)
        if self.kind == "mean":
            return mean_BD
        largest_BD = x_BSD.masked_fill(padding_BS1, float("-inf")).amax(1)
        return torch.cat([mean_BD, largest_BD], 1)


class PooledHeads(nn.Module):
    """One head per task on the pooled states of an item.

    Parameters
    ----------
    dim, layers : int
        Of the encoder.
    sizes : dict of str to int
        Outputs of each task, by name.
    pooling : {"mean", "attention", "mean+max"}
    layer_mix : str
        ``"last"``, ``"learned"``, or a layer's number from 0 (the input).
    dropout : float
    hidden : int
        Dimensions of a tanh layer in each head; 0 for linear heads.
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        sizes: dict[str, int],
        *,
        pooling: str = "mean",
        layer_mix: str = "last",
        dropout: float = 0.1,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        self.layer = layer_number(layer_mix, layers)
        self.mix = nn.Parameter(torch.zeros(layers + 1)) if self.layer is None else None
        self.pooling = Pooling(dim, pooling)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict()
        for name, size in sizes.items():
            wide = self.pooling.size
            self.heads[name] = (
                nn.Sequential(nn.Linear(wide, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, size))
                if hidden
                else nn.Linear(wide, size)
            )

    def forward(self, last_BSD: Tensor, states: Sequence[Tensor], positions: Sequence[int]) -> dict[str, Tensor]:
        """Logits [B, C] of each task, by name.

        Parameters
        ----------
        last_BSD : Tensor
            The encoder's final states.
        states : sequence of Tensor
            The states after the input and after each layer.
        positions : sequence of int
            Positions of each row that are not padding.
        """
        mask_BS = padding_mask(positions, last_BSD.shape[1], last_BSD.device)
        pooled = self.dropout(self.pooling(self._mixed(last_BSD, states), mask_BS))
        return {name: head(pooled) for name, head in self.heads.items()}

    def _mixed(self, last_BSD: Tensor, states: Sequence[Tensor]) -> Tensor:
        if self.layer is not None:
            return last_BSD if self.layer == -1 else states[self.layer]
        weights = self.mix.softmax(0)
        return sum(w * F.layer_norm(state, state.shape[-1:]) for w, state in zip(weights, states, strict=True))
