"""One token at a time from a linear-attention decoder: each costs the same, whatever came before.

Katharopoulos et al. 2020, section 3.4: the past of a row is one matrix per layer and head.  Prefixes are read in one
parallel pass (:meth:`~.linear_decoder.LinearDecoder.prefill`); then every token is one pass of few operations over
preallocated memory, with query, key and value as one product.

The decoder's weights are turned around in memory (a row per input, which a product with few rows reads fastest) and its
parameters become views of them: values and shapes stay, and nothing is stored twice.

Shapes: B rows, D model dimensions, V vocabulary, H heads, K dimensions of a head, P = H K, W = K + 1; G = B H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linear_attention import EPSILON
from .linear_decoder import LinearDecoder, LinearDecoderLayer


def _turned(*linears: nn.Linear) -> Tensor:
    """[inputs, outputs] of one or several linear maps of the same input, whose weights become views of it."""
    weight = torch.cat([linear.weight.data for linear in linears]).t().contiguous()
    parts = weight.split([linear.out_features for linear in linears], dim=1)
    for linear, part in zip(linears, parts, strict=True):
        linear.weight.data = part.t()
    return weight


def _norm(norm: nn.LayerNorm) -> tuple[Any, Tensor, Tensor, float]:
    """What ``torch.layer_norm`` asks for, behind its input."""
    return norm.normalized_shape, norm.weight.data, norm.bias.data, norm.eps


class _Layer:
    """A layer's weights as a step uses them."""

    def __init__(self, layer: LinearDecoderLayer) -> None:
        attention = layer.self_attn
        qkv = attention.q_proj, attention.k_proj, attention.v_proj
        self.attention_norm, self.ffn_norm = _norm(layer.self_attn_layer_norm), _norm(layer.final_layer_norm)
        self.qkv, self.qkv_bias = _turned(*qkv), torch.cat([projection.bias.data for projection in qkv])
        self.out, self.out_bias = _turned(attention.out_proj), attention.out_proj.bias.data
        self.fc1, self.fc1_bias = _turned(layer.fc1), layer.fc1.bias.data
        self.fc2, self.fc2_bias = _turned(layer.fc2), layer.fc2.bias.data


class _Memory:
    """What a step of B rows writes to."""

    def __init__(self, rows: int, heads: int, size: int, like: Tensor) -> None:
        options = {"dtype": torch.float32, "device": like.device}
        self.features = torch.empty(2, rows, heads, size, **options)
        self.low = torch.empty_like(self.features)
        self.p_G1K = self.features[0].view(rows * heads, 1, size)
        self.r_GK1 = self.features[1].view(rows * heads, size, 1)
        self.w_G1W = torch.ones(rows * heads, 1, size + 1, **options)
        self.v = self.w_G1W.view(rows, heads, size + 1)[..., :-1]
        self.o_G1W = torch.empty_like(self.w_G1W)
        self.numerator, self.denominator = self.o_G1W[..., :-1], self.o_G1W[..., -1:]
        self.y_G1K = torch.empty(rows * heads, 1, size, **options)
        self.y_BP = self.y_G1K.view(rows, heads * size)


class RecurrentDecoder:
    """A decoder with the state of a batch of rows; without gradients.

    Args:
        decoder: in evaluation mode; any floating type.
    """

    def __init__(self, decoder: LinearDecoder) -> None:
        self.decoder = decoder
        attention = decoder.layers[0].self_attn
        self.heads, self.size = attention.heads, attention.head_dim
        with torch.no_grad():
            self.layers = [_Layer(layer) for layer in decoder.layers]
            self.output = _turned(decoder.output_projection)
            self.norm = _norm(decoder.layer_norm)
            self.embedding = decoder.embed_tokens.weight.data
        self.scale = math.sqrt(self.embedding.shape[1])
        self.states: list[Tensor] = []
        self.rows_B = torch.empty(0, dtype=torch.int64)
        self._memory: dict[int, _Memory] = {}

    @torch.inference_mode()
    def start(self, prefixes: Sequence[Tensor], begins: Sequence[int], longest: int, copies: int = 1) -> Tensor:
        """Read prefixes, and forget what was there before.

        Args:
            prefixes: int64 [L] each, L >= 1, of any lengths.
            begins: the place where the positions of each begin.
            longest: no more tokens than this will follow.
            copies: how many rows continue each prefix; they come one after the other.

        Returns:
            logits [B, V] behind each row's prefix, B = copies * number of prefixes.
        """
        device = self.output.device
        lengths = torch.tensor([len(prefix) for prefix in prefixes])
        begin = torch.tensor(list(begins))
        tokens = torch.full((len(prefixes), int(lengths.max())), self.decoder.pad)
        for row, prefix in zip(tokens, prefixes, strict=True):
            row[: len(prefix)] = prefix
        positions = self.decoder.embed_positions
        positions.ensure(int((lengths - begin).max()) + longest)
        logits, states = self.decoder.prefill(tokens.to(device), begin.to(device))
        self.rows_B = (lengths - begin + positions.FIRST).to(device)
        self.states, self._memory = states, {}
        if copies > 1:
            index = torch.arange(len(prefixes), device=device).repeat_interleave(copies)
            self.select(index)
            logits = logits.index_select(0, index)
        return logits

    @torch.inference_mode()
    def select(self, index_B: Tensor) -> None:
        """Go on with these rows, in this order (some may be gone, some there several times); copies all states."""
        self.states = [state.index_select(0, index_B) for state in self.states]
        self.rows_B = self.rows_B.index_select(0, index_B)

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Take one more token per row; logits [B, V] of the next."""
        rows, heads, size = len(tokens_B), self.heads, self.size
        if rows not in self._memory:
            self._memory = {rows: _Memory(rows, heads, size, self.output)}
        memory, inner, norm = self._memory[rows], heads * size, torch.layer_norm
        half = self.embedding.dtype != torch.float32
        x = torch.add(
            self.decoder.embed_positions.table.index_select(0, self.rows_B),
            self.embedding.index_select(0, tokens_B),
            alpha=self.scale,
        ).to(self.embedding.dtype)
        for layer, state_BHKW in zip(self.layers, self.states, strict=True):
            qkv = torch.addmm(layer.qkv_bias, norm(x, *layer.attention_norm), layer.qkv)
            qk = qkv[:, : 2 * inner].view(rows, 2, heads, size).transpose(0, 1)
            if half:
                qk = qk.float()
            # phi(x) = exp(min(x, 0)) + max(x, 0)
            torch.clamp(qk, max=0, out=memory.low).exp_()
            torch.clamp(qk, min=0, out=memory.features).add_(memory.low)
            memory.v.copy_(qkv[:, 2 * inner :].view(rows, heads, size))
            state = state_BHKW.view(rows * heads, size, size + 1)
            torch.bmm(memory.p_G1K, state.baddbmm_(memory.r_GK1, memory.w_G1W), out=memory.o_G1W)
            torch.div(memory.numerator, memory.denominator.add_(EPSILON), out=memory.y_G1K)
            y = memory.y_BP.to(x.dtype) if half else memory.y_BP
            x.add_(torch.addmm(layer.out_bias, y, layer.out))
            h = torch.addmm(layer.fc1_bias, norm(x, *layer.ffn_norm), layer.fc1)
            h = F.gelu(h.float()).to(h.dtype) if half else F.gelu(h)
            x.add_(torch.addmm(layer.fc2_bias, h, layer.fc2))
        self.rows_B += 1
        return torch.mm(norm(x, *self.norm), self.output)
