"""The language-model head of the octuple encoder, and its up-projection to sub-tokens.

The encoder gives one vector per octuple.  The up-projection, a D -> 8D matrix, turns it into eight, one per field, from
which the language-model head predicts the field's token.  A loss over masked fields needs the block of the matrix that
belongs to the masked field, for that octuple alone: :func:`project_fields` computes no more than that.

Shapes: N octuples, F = 8 fields, D model dimensions, V vocabulary, M masked fields.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FieldGroups(NamedTuple):
    """Masked fields, grouped by field; made by :func:`group_fields`."""

    order_M: Tensor
    """The masked fields, field 0's first."""
    back_M: Tensor
    """Index of each of them in that order."""
    counts: list[int]
    """How many each field has."""


def group_fields(field_M: Tensor, fields: int = 8) -> FieldGroups:
    """Group masked fields, in any order, by field.  On a GPU this waits for the device: do it before the encoder."""
    order_M = field_M.argsort(stable=True)
    back_M = torch.empty_like(order_M)
    back_M[order_M] = torch.arange(len(order_M), device=order_M.device)
    return FieldGroups(order_M, back_M, torch.bincount(field_M, minlength=fields).tolist())


def project_fields(x_ND: Tensor, octuple_M: Tensor, groups: FieldGroups, projection: nn.Linear) -> Tensor:
    """Up-project single fields of single octuples.

    Parameters
    ----------
    x_ND : Tensor
        The encoder's vectors.
    octuple_M : Tensor
        The octuple (row of ``x_ND``) of each masked field.
    groups : FieldGroups
    projection : Linear(D, fields * D)

    Returns
    -------
    Tensor [M, D]
        Row m equals ``projection(x_ND[octuple_M[m]])`` in the slice of its field.
    """
    parts = x_ND.index_select(0, octuple_M[groups.order_M]).split(groups.counts)
    weights, biases = projection.weight.chunk(len(parts)), projection.bias.chunk(len(parts))
    by_field = torch.cat([F.linear(x, w, b) for x, w, b in zip(parts, weights, biases, strict=True)])
    return by_field.index_select(0, groups.back_M)


class LanguageModelHead(nn.Module):
    """Dense, GELU, LayerNorm, and a linear map to the vocabulary (its own matrix, not tied to the embedding)."""

    def __init__(self, embed_dim: int, vocabulary_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(embed_dim, embed_dim)
        self.layer_norm = nn.LayerNorm(embed_dim)
        self.weight = nn.Parameter(torch.empty(vocabulary_size, embed_dim))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to logits [..., V]."""
        return F.linear(self.layer_norm(F.gelu(self.dense(x))), self.weight, self.bias)
