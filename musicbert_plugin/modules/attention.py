"""Self-attention inside pieces of different lengths, without a mask tensor.

The octuples of a batch lie end to end (see ``pieces.py``).  Pieces of one length are stacked and go through PyTorch's scaled
dot-product attention at once; no mask is passed, so that a GPU runs its flash kernel.  Pieces of different lengths go through
the variable-length flash kernel on a GPU in half precision, and one after the other elsewhere.

Shapes: N octuples that give keys and values, M octuples that ask (M = N, or those that the loss needs), H heads,
K dimensions per head, D = H * K, P pieces.
"""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(
    q_MHK: Tensor, k_NHK: Tensor, v_NHK: Tensor, query_lengths: tuple[int, ...], lengths: tuple[int, ...], dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(K)) v for each piece alone.

    Args:
        query_lengths, lengths: how many queries and how many keys each piece has, in order; a piece may have no query.
        dropout: probability of dropping an attention weight.

    Returns:
        [M, H, K].
    """
    if len(set(lengths)) == 1 and len(set(query_lengths)) == 1 and query_lengths[0]:
        pieces = len(lengths)
        q, k, v = (x.view(pieces, -1, *x.shape[1:]).transpose(1, 2) for x in (q_MHK, k_NHK, v_NHK))
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).reshape(q_MHK.shape)
    out = []
    for q, k, v in zip(q_MHK.split(query_lengths), k_NHK.split(lengths), v_NHK.split(lengths)):
        if len(q):
            q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
            out.append(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).squeeze(0).transpose(0, 1))
    return torch.cat(out) if out else q_MHK


class SelfAttention(nn.Module):
    """Multi-head attention with the four projections that RoBERTa's checkpoints name."""

    def __init__(self, embed_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        if embed_dim % heads:
            raise ValueError(f"embed_dim {embed_dim} is not a multiple of {heads} attention heads")
        self.heads = heads
        self.dropout = dropout
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)

    def forward(
        self,
        x_ND: Tensor,
        lengths: tuple[int, ...],
        needed_M: Tensor | None = None,
        needed_lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """[N, D] to [N, D], or to [M, D] if only the octuples ``needed_M`` (ascending) ask."""
        if needed_M is None:
            weight = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
            bias = torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias])
            q, k, v = F.linear(x_ND, weight, bias).chunk(3, dim=1)
        else:
            q = self.q_proj(x_ND.index_select(0, needed_M))
            weight = torch.cat([self.k_proj.weight, self.v_proj.weight])
            bias = torch.cat([self.k_proj.bias, self.v_proj.bias])
            k, v = F.linear(x_ND, weight, bias).chunk(2, dim=1)
        q, k, v = (x.unflatten(1, (self.heads, -1)) for x in (q, k, v))
        out = attend(q, k, v, needed_lengths or lengths, lengths, self.dropout if self.training else 0.0)
        return self.out_proj(out.flatten(1))
