"""A Transformer encoder layer, post-LN as in RoBERTa or pre-LN, with the exact (erf) GELU.

* post-LN: x = LN(x + attention(x)); x = LN(x + fc2(gelu(fc1(x))))
* pre-LN (``norm_first``): x = x + attention(LN(x)); x = x + fc2(gelu(fc1(LN(x))))

References
----------
Vaswani et al. 2017, "Attention Is All You Need", section 3.1; Devlin et al. 2019, "BERT", for GELU and its sizes; Xiong
et al. 2020, "On layer normalization in the Transformer architecture", for pre-LN.

Shapes: N positions that are not padding, M of them whose result is needed, D model dimensions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from musicbert_plugin.modules.attention import SelfAttention, VarlenMetadata
from musicbert_plugin.modules.dropout import dropout


class EncoderLayer(nn.Module):
    """Attention and feed-forward network, each with dropout, residual and LayerNorm.

    Parameters
    ----------
    embed_dim, ffn_dim, heads : int
    dropout, attention_dropout, activation_dropout : float
    norm_first : bool
        Pre-LN instead of post-LN.
    eps : float
        Of the LayerNorms.
    """

    def __init__(
        self,
        embed_dim: int,
        ffn_dim: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
        norm_first: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.activation_dropout = activation_dropout
        self.norm_first = norm_first
        self.self_attn = SelfAttention(embed_dim, heads, attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(embed_dim, eps=eps)
        self.fc1 = nn.Linear(embed_dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, embed_dim)
        self.final_layer_norm = nn.LayerNorm(embed_dim, eps=eps)

    def forward(self, x_ND: Tensor, metadata: VarlenMetadata, needed_M: Tensor | None = None) -> Tensor:
        """[N, D] to [N, D], or to [M, D] at the positions ``needed_M`` (ascending), which ``metadata`` then counts."""
        residual = x_ND if needed_M is None else x_ND.index_select(0, needed_M)
        if self.norm_first:
            x = residual + self._dropped(self.self_attn(self.self_attn_layer_norm(x_ND), metadata, needed_M))
            return x + self._feed_forward(self.final_layer_norm(x))
        x = self.self_attn_layer_norm(residual + self._dropped(self.self_attn(x_ND, metadata, needed_M)))
        return self.final_layer_norm(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self._dropped(self.fc2(dropout(F.gelu(self.fc1(x)), self.activation_dropout, self.training)))

    def _dropped(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)
