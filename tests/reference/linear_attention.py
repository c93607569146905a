"""Linear attention as its formula stands, with all L x L weights."""

from __future__ import annotations

import torch
from torch import Tensor

from musicbert_plugin.modules.linear_attention import EPSILON, feature_map


def quadratic_linear_attention(
    q_BLHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, padding_mask_BL: Tensor | None = None
) -> Tensor:
    """The formula as it stands, with all L x L weights, in the type of its inputs."""
    r = feature_map(k_BLHK)
    if padding_mask_BL is not None:
        r = r * ~padding_mask_BL[:, :, None, None]
    weights = torch.einsum("blhk,bjhk->bhlj", feature_map(q_BLHK), r).tril()
    out = torch.einsum("bhlj,bjhk->blhk", weights, v_BLHK)
    return out / (weights.sum(-1) + EPSILON).transpose(1, 2).unsqueeze(-1)
