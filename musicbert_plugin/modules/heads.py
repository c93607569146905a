"""What stands on the encoder: up-projection to sub-tokens, language-model head, classification head.

The encoder gives one vector per octuple.  The up-projection, a D -> 8D matrix, turns it into eight, one per field, from
which the language-model head predicts the field's token.  A loss over masked fields needs the block of the matrix that
belongs to the masked field, for that octuple alone: :func:`project_fields` computes no more than that.

Shapes: N octuples, F = 8 fields, D model dimensions, V vocabulary, M masked fields, B rows, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def project_fields(x_ND: Tensor, octuple_M: Tensor, field_M: Tensor, projection: nn.Linear, fields: int = 8) -> Tensor:
    """Up-project single fields of single octuples.

    Args:
        x_ND: the encoder's vectors.
        octuple_M, field_M: which octuple (row of ``x_ND``) and which field (0 .. fields-1).
        projection: Linear(D, fields * D).

    Returns:
        [M, D]; row m equals ``projection(x_ND[octuple_M[m]])`` in the slice of ``field_M[m]``.
    """
    order_M = field_M.argsort(stable=True)
    counts = torch.bincount(field_M, minlength=fields).tolist()
    groups = x_ND.index_select(0, octuple_M[order_M]).split(counts)
    weights, biases = projection.weight.chunk(fields), projection.bias.chunk(fields)
    by_field = torch.cat([F.linear(x, w, b) for x, w, b in zip(groups, weights, biases, strict=True)])
    back_M = torch.empty_like(order_M)
    back_M[order_M] = torch.arange(len(order_M), device=order_M.device)
    return by_field.index_select(0, back_M)


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


class ClassificationHead(nn.Module):
    """RoBERTa's sentence head on the first sub-token: dropout, dense, tanh, dropout, linear."""

    def __init__(self, embed_dim: int, inner_dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(embed_dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, classes)

    def forward(self, features: Tensor) -> Tensor:
        """[B, any, D] to [B, C]; only ``features[:, 0]`` is looked at."""
        x = torch.tanh(self.dense(self.dropout(features[:, 0])))
        return self.out_proj(self.dropout(x))
