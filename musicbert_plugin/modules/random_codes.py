"""Discrete targets from a random projection: each frame becomes one of K codes, without training.

Chiu, Qin, Zhang, Yu, Wu 2022, "Self-supervised learning with random-projection quantizer for speech recognition"
(ICML), section 3.1: standardised frames go through a fixed random matrix, and the code is the nearest of K fixed random
vectors, both of length one.  A model that predicts the codes of masked frames decides between sounds instead of
averaging over them.  Several codebooks give several targets.

Shapes: ... any dimensions, F features, P projected dimensions, K codes, G codebooks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RandomCodes(nn.Module):
    """Frozen projections and codebooks, drawn from ``seed`` alone and saved with the model.

    Parameters
    ----------
    features : int
        F.
    codes : int
        K, codes of a codebook.
    dim : int
        P.
    codebooks : int
        G.
    seed : int
    """

    def __init__(self, features: int, codes: int, dim: int = 16, codebooks: int = 1, seed: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        # Xavier's range, as in the paper; only directions matter.
        bound = (6 / (features + dim)) ** 0.5
        projection_GFP = torch.rand(codebooks, features, dim, generator=generator) * 2 * bound - bound
        vectors_GKP = F.normalize(torch.randn(codebooks, codes, dim, generator=generator), dim=-1)
        self.register_buffer("projection", projection_GFP)
        self.register_buffer("vectors", vectors_GKP)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Standardised frames [..., F] to codes [..., G], int64, 0 to K - 1; computed in float32."""
        flat_NF = x.flatten(0, -2).float()
        projected_GNP = F.normalize(torch.matmul(flat_NF, self.projection.float()), dim=-1)
        # Of two vectors of length one, the nearest is the one with the largest product.
        codes_GN = torch.matmul(projected_GNP, self.vectors.float().transpose(1, 2)).argmax(-1)
        return codes_GN.T.reshape(*x.shape[:-1], -1)
