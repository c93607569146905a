"""Heads for labelled items on any encoder: a mix of its layers, pooling over positions, and one head per task.

* Mix: the last state, one layer's, or a mean of all of them with learned weights (softmax; each state is normalised to
  mean 0 and deviation 1 per position first, so that weights are comparable).
* Pooling: the mean over an item's positions; mean and maximum side by side; a mean weighted by learned attention; or
  none, where every position has logits of its own.  ``first`` is RoBERTa's: :class:`ClassificationHead` on the first
  position, as in the published models of octuples.

Positions of all items are laid end to end, without padding (see ``packed_batch``), so that an item has the same logits
alone, in a padded batch, and beside others in a packed row.

Shapes: B items of a batch, N positions of all of them, S positions per padded row, D model dimensions, L layers,
C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicbert_plugin.errors import OptionError
from musicbert_plugin.modules.packed_batch import pack_rows
from musicbert_plugin.parsing import whole_number

FIRST, NONE = "first", "none"
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
    """[N, D] to one vector per item, [B, D] or (mean+max) [B, 2 D]; without pooling, the positions as they are."""

    def __init__(self, dim: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.size = 2 * dim if kind == "mean+max" else dim
        self.attention = nn.Linear(dim, 1) if kind == "attention" else None

    def forward(self, x_ND: Tensor, lengths: Sequence[int]) -> Tensor:
        """Pool over the positions of each item; ``lengths`` are their numbers, at least 1 each, with the sum N."""
        if self.kind == NONE:
            return x_ND
        length_B = torch.tensor(lengths, device=x_ND.device)
        start_B = length_B.cumsum(0) - length_B
        if self.attention is None:
            pooled = self._reduced(x_ND, start_B, "mean")
            if self.kind == "mean+max":
                pooled = torch.cat([pooled, self._reduced(x_ND, start_B, "max")], 1)
            return pooled
        score_N1 = self.attention(x_ND)
        score_N1 = score_N1 if score_N1.dtype == torch.float64 else score_N1.float()
        # The largest score of an item is subtracted, which changes no weight and keeps exp finite.
        item_N = torch.repeat_interleave(length_B, output_size=len(x_ND))
        largest_B1 = self._reduced(score_N1.detach(), start_B, "max")
        exp_N1 = (score_N1 - largest_B1[item_N]).exp()
        weight_N1 = exp_N1 / self._reduced(exp_N1, start_B, "sum")[item_N]
        return self._reduced(x_ND, start_B, "sum", weight_N1[:, 0])

    @staticmethod
    def _reduced(x_ND: Tensor, start_B: Tensor, mode: str, weight_N: Tensor | None = None) -> Tensor:
        """Mean, maximum or (weighted) sum over each item, [B, D], computed in float32 at least."""
        exact = x_ND if x_ND.dtype == torch.float64 else x_ND.float()
        # An embedding bag of consecutive rows is the fastest reduction over stretches of different lengths.
        row_N = torch.arange(len(x_ND), device=x_ND.device)
        return F.embedding_bag(row_N, exact, start_B, mode=mode, per_sample_weights=weight_N).to(x_ND.dtype)


class PooledHeads(nn.Module):
    """One head per task on the pooled states of an item.

    Parameters
    ----------
    dim, layers : int
        Of the encoder.
    sizes : dict of str to int
        Outputs of each task, by name.
    pooling : {"mean", "attention", "mean+max", "none"}
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

    def forward(self, last_ND: Tensor, states: Sequence[Tensor], lengths: Sequence[int]) -> dict[str, Tensor]:
        """Logits of each task by name: [B, C], or [N, C] without pooling.

        Parameters
        ----------
        last_ND : Tensor
            The encoder's final states, items end to end.
        states : sequence of Tensor [N, D]
            The states after the input and after each layer; empty if :attr:`needs_states` is false.
        lengths : sequence of int [B]
            Positions of each item.
        """
        return self.logits(self.pooled(last_ND, states, lengths))

    def pooled(self, last_ND: Tensor, states: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
        """The input of the heads, before dropout; the parameters are those of :meth:`forward`."""
        return self.pooling(self._mixed(last_ND, states), lengths)

    def logits(self, pooled: Tensor) -> dict[str, Tensor]:
        """Logits of each task by name, of what :meth:`pooled` gives."""
        pooled = self.dropout(pooled)
        return {name: head(pooled) for name, head in self.heads.items()}

    def of_rows(self, last_BSD: Tensor, states: Sequence[Tensor], positions: Sequence[int]) -> dict[str, Tensor]:
        """The same for padded rows of ``positions`` positions each."""
        rows = pack_rows(positions, last_BSD.shape[1], last_BSD.device)
        states = [rows.flatten(state) for state in states] if self.needs_states else []
        return self(rows.flatten(last_BSD), states, rows.lengths)

    @property
    def learns(self) -> bool:
        """Whether the mix or the pooling has weights of its own."""
        return self.mix is not None or self.pooling.attention is not None

    @property
    def needs_states(self) -> bool:
        """Whether other states than the last are used."""
        return self.layer != -1

    def _mixed(self, last_ND: Tensor, states: Sequence[Tensor]) -> Tensor:
        if self.layer is not None:
            return last_ND if self.layer == -1 else states[self.layer]
        weights = self.mix.softmax(0)
        return sum(w * F.layer_norm(state, state.shape[-1:]) for w, state in zip(weights, states, strict=True))


class ClassificationHead(nn.Module):
    """RoBERTa's sentence head on the first sub-token: dropout, dense, tanh, dropout, linear."""

    def __init__(self, embed_dim: int, inner_dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(embed_dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, classes)

    def forward(self, features: Tensor) -> Tensor:
        """[B, any, D] to [B, C]; only ``features[:, 0]`` is used."""
        x = torch.tanh(self.dense(self.dropout(features[:, 0])))
        return self.out_proj(self.dropout(x))
