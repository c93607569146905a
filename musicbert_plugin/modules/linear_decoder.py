"""The decoder of MuseCoco's attribute-to-music model: pre-LN Transformer layers with linear attention.

Lu et al. 2023, "MuseCoco: Generating Symbolic Music from Text" (arXiv 2306.00110), section 3.3.

    x = sqrt(D) embedding + position
    x = x + attention(LN(x)), then x = x + fc2(gelu(fc1(LN(x)))), in each layer
    logits = W LN(x)

GELU is the exact one, in float32.  The output matrix W is not the embedding.  Query, key and value are P = H * (D // H)
wide, which is less than D where H does not divide D: the published models are so.

Each row has its own index at which positions begin: before it (the attributes) the position vector is zero, and the
index itself has the first vector of the table.

Names and shapes of all parameters are the published ones.

Shapes: B rows, L positions, D model dimensions, V vocabulary, H heads, K dimensions of a head, P = H K.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from musicbert_plugin.modules.dropout import dropout
from musicbert_plugin.modules.linear_attention import linear_attention, linear_attention_with_state


class SinusoidalPositions(nn.Module):
    """Vaswani et al. 2017, section 3.5, in fairseq's arrangement: sines, then cosines, frequencies 1 to 1/10,000.

    The first position has the angle 2 (fairseq counts from the padding id + 1).  The table grows as needed and is not
    part of a checkpoint; ``_float_tensor`` padding_mask because published files hold an entry of that name.
    """

    FIRST = 2

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.register_buffer("_float_tensor", torch.zeros(1))
        self.register_buffer("table", self._rows(1026), persistent=False)

    def _rows(self, count: int) -> Tensor:
        # in float32, step by step as in fairseq: for large positions, another order of rounding gives other angles
        half = self.embed_dim // 2
        frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000) / (half - 1)))
        angles = torch.arange(count, dtype=torch.float32).unsqueeze(1) * frequencies.unsqueeze(0)
        table = torch.cat([angles.sin(), angles.cos()], 1)
        table = F.pad(table, (0, self.embed_dim % 2))
        table[1] = 0
        return table

    def make_table(self) -> None:
        """Compute the table of a module that was built without memory (on the device ``meta``)."""
        self.table = self._rows(1026)

    def ensure(self, count: int) -> None:
        """Extend the table to this many positions."""
        if self.FIRST + count > len(self.table):
            rows = self._rows(max(self.FIRST + count, 2 * len(self.table)))
            self.table = rows.to(self.table.device, self.table.dtype)

    def forward(self, position_offset_B: Tensor, length: int) -> Tensor:
        """Position vectors [B, L, D] of rows whose positions begin at the indices ``position_offset_B``."""
        self.ensure(length + max(0, -int(position_offset_B.min())) if len(position_offset_B) else length)
        position = torch.arange(length, device=position_offset_B.device) - position_offset_B.unsqueeze(1)
        # row 1 of the table is zero
        return self.table[torch.where(position >= 0, position + self.FIRST, torch.ones_like(position))]


class LinearSelfAttention(nn.Module):
    """The four projections around causal linear attention."""

    def __init__(self, embed_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = embed_dim // heads
        inner = heads * self.head_dim
        self.k_proj = nn.Linear(embed_dim, inner)
        self.v_proj = nn.Linear(embed_dim, inner)
        self.q_proj = nn.Linear(embed_dim, inner)
        self.out_proj = nn.Linear(inner, embed_dim)

    def project(self, x_BLD: Tensor) -> list[Tensor]:
        """Query, key and value, each [B, L, H, K]."""
        return [
            projection(x_BLD).unflatten(-1, (self.heads, self.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        ]

    def forward(self, x_BLD: Tensor, padding_mask_BL: Tensor | None) -> Tensor:
        """[B, L, D]."""
        return self.out_proj(linear_attention(*self.project(x_BLD), padding_mask_BL).flatten(2))


class LinearDecoderLayer(nn.Module):
    """Attention and feed-forward network, each after its LayerNorm (eps 1e-5) and with a residual connection."""

    def __init__(self, embed_dim: int, ffn_dim: int, heads: int, dropout: float, activation_dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.activation_dropout = activation_dropout
        self.self_attn = LinearSelfAttention(embed_dim, heads)
        self.self_attn_layer_norm = nn.LayerNorm(embed_dim)
        self.fc1 = nn.Linear(embed_dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, embed_dim)
        self.final_layer_norm = nn.LayerNorm(embed_dim)
        for linear in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x_BLD: Tensor, padding_mask_BL: Tensor | None) -> Tensor:
        """[B, L, D]."""
        x = self.self_attn(self.self_attn_layer_norm(x_BLD), padding_mask_BL)
        return self._feed_forward(x_BLD + dropout(x, self.dropout, self.training))

    def with_state(self, x_BLD: Tensor, padding_mask_BL: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same, and the attention's state after each row; without gradients."""
        projected = self.self_attn.project(self.self_attn_layer_norm(x_BLD))
        out, state = linear_attention_with_state(*projected, padding_mask_BL)
        return self._feed_forward(x_BLD + self.self_attn.out_proj(out.flatten(2))), state

    def _feed_forward(self, x: Tensor) -> Tensor:
        h = self.fc1(self.final_layer_norm(x))
        h = dropout(F.gelu(h.float()).to(h.dtype), self.activation_dropout, self.training)
        return x + dropout(self.fc2(h), self.dropout, self.training)


class LinearDecoder(nn.Module):
    """Embedding, positions, layers, final LayerNorm and output matrix."""

    def __init__(
        self,
        vocabulary_size: int,
        embed_dim: int,
        ffn_dim: int,
        layers: int,
        heads: int,
        *,
        pad: int,
        dropout: float = 0.0,
        activation_dropout: float = 0.0,
        checkpoint_activations: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.pad = pad
        self.dropout = dropout
        self.checkpoint_activations = checkpoint_activations
        self.embed_tokens = nn.Embedding(vocabulary_size, embed_dim, pad)
        self.embed_positions = SinusoidalPositions(embed_dim)
        self.layers = nn.ModuleList(
            LinearDecoderLayer(embed_dim, ffn_dim, heads, dropout, activation_dropout) for _ in range(layers)
        )
        self.layer_norm = nn.LayerNorm(embed_dim)
        self.output_projection = nn.Linear(embed_dim, vocabulary_size, bias=False)
        self.register_buffer("version", torch.tensor([3.0]))
        nn.init.normal_(self.embed_tokens.weight, std=embed_dim**-0.5)
        nn.init.normal_(self.output_projection.weight, std=embed_dim**-0.5)
        with torch.no_grad():
            self.embed_tokens.weight[pad].zero_()

    def _embed(self, tokens_BL: Tensor, position_offset_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """The first layer's input [B, L, D]; and True for padding [B, L], or None without padding."""
        padding_mask: Tensor | None = tokens_BL == self.pad
        positions = self.embed_positions(position_offset_B, tokens_BL.shape[1])
        if not bool(padding_mask.any()):
            padding_mask = None
        else:
            positions = positions * ~padding_mask.unsqueeze(-1)
        tokens = self.embed_tokens(tokens_BL)
        x = math.sqrt(tokens.shape[-1]) * tokens + positions.to(tokens.dtype)
        return dropout(x, self.dropout, self.training), padding_mask

    def forward(
        self, tokens_BL: Tensor, position_offset_B: Tensor, return_all: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Run all layers.

        Parameters
        ----------
        tokens_BL : int64 Tensor
            Ids; padding may be anywhere.
        position_offset_B : int64 Tensor
            The index at which each row's positions begin.
        return_all : bool
            Return the states after the embedding and after each layer.

        Returns
        -------
        features : Tensor [B, L, D]
            After the final LayerNorm.
        states : list of Tensor [B, L, D]
        """
        x, padding_mask = self._embed(tokens_BL, position_offset_B)
        states = [x] if return_all else []
        for layer in self.layers:
            if self.checkpoint_activations and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, padding_mask, use_reentrant=False)
            else:
                x = layer(x, padding_mask)
            if return_all:
                states.append(x)
        return self.layer_norm(x), states

    @torch.no_grad()
    def prefill(self, tokens_BL: Tensor, position_offset_B: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Read prefixes in one pass.

        Parameters
        ----------
        tokens_BL : int64 Tensor
            Ids, padded on the right.
        position_offset_B : int64 Tensor
            The index at which each row's positions begin.

        Returns
        -------
        logits : Tensor [B, V]
            After each row's last token.
        states : list of Tensor [B, H, K, K + 1]
            The attention state of each layer.
        """
        x, padding_mask = self._embed(tokens_BL, position_offset_B)
        states = []
        for layer in self.layers:
            x, state = layer.with_state(x, padding_mask)
            states.append(state)
        last = (tokens_BL != self.pad).sum(1) - 1
        x = x[torch.arange(len(x), device=x.device), last]
        return self.output_projection(self.layer_norm(x)), states
