"""A post-LN Transformer layer as in RoBERTa: x = LN(x + attention(x)); x = LN(x + fc2(gelu(fc1(x)))), erf GELU.

Vaswani et al. 2017, "Attention Is All You Need", section 3.1; Devlin et al. 2019, "BERT", for GELU and its sizes.

Shapes: N octuples that exist in the batch, M of them whose result is needed, D model dimensions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from musicbert_plugin.modules.attention import SelfAttention, Spans
from musicbert_plugin.modules.dropout import dropout


class EncoderLayer(nn.Module):
    """Attention and feed-forward network, each with dropout, residual and LayerNorm (eps 1e-5)."""

    def __init__(
        self,
        embed_dim: int,
        ffn_dim: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.activation_dropout = activation_dropout
        self.self_attn = SelfAttention(embed_dim, heads, attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(embed_dim)
        self.fc1 = nn.Linear(embed_dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, embed_dim)
        self.final_layer_norm = nn.LayerNorm(embed_dim)

    def forward(self, x_ND: Tensor, spans: Spans, needed_M: Tensor | None = None) -> Tensor:
        """[N, D] to [N, D]; or to [M, D] for the octuples ``needed_M`` (ascending), whose spans are then given."""
        residual = x_ND if needed_M is None else x_ND.index_select(0, needed_M)
        x = self.self_attn(x_ND, spans, needed_M)
        x = self.self_attn_layer_norm(residual + dropout(x, self.dropout, self.training))
        h = dropout(F.gelu(self.fc1(x)), self.activation_dropout, self.training)
        return self.final_layer_norm(x + dropout(self.fc2(h), self.dropout, self.training))
