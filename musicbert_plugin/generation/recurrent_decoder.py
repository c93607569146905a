"""Recurrent inference of a linear-attention decoder, in constant time per token.

The state of a row is one matrix per layer and head (Katharopoulos et al. 2020, section 3.4).  Prefixes are read in one
parallel pass (:meth:`~.linear_decoder.LinearDecoder.prefill`); then every token takes one pass over preallocated
memory, with query, key and value as one product.

Most of the time is spent on products of the weights with few rows (:class:`FusedLinear`).  The weights are laid out in
memory for these products, and the decoder's parameters become views of them, with unchanged values and shapes.

Shapes: B rows, D model dimensions, V vocabulary, H heads, K dimensions of a head, P = H K, W = K + 1; G = B H; I inputs
and O = N C outputs of a linear map, in N blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicbert_plugin.modules.linear_attention import feature_map, step_features
from musicbert_plugin.modules.linear_decoder import LinearDecoder, LinearDecoderLayer


class FusedLinear:
    """Several linear layers of the same input, computed as one, with float32 weights on a CPU read in place.

    A library for matrix products first copies the weights to its own layout, which for few rows takes longer than the
    product.  A batch of small products, one per block of outputs, needs no copy: for fewer than 16 rows it is fastest
    with the outputs of a row contiguous, for 16 with the rows of an output contiguous.  The weights are then stored as
    usual, [O, I].  For more than 16 rows, in half precision and on other devices, they are transposed, [I, O], and
    multiplied at once.  (AVX-512, I and O of 512 to 2,048: 2 to 16 rows take three quarters of the time of one product;
    64 rows would take a third longer.)

    Parameters
    ----------
    *linears : nn.Linear
        Layers of the same input.
    block : int
        C; it divides the number of outputs of each layer.
    """

    SIDE_BY_SIDE = 15
    IN_BLOCKS = 16

    def __init__(self, *linears: nn.Linear, block: int) -> None:
        self.linears, self.block = linears, block
        first, *others = linears
        bias = [
            linear.bias if linear.bias is not None else first.weight.new_zeros(linear.out_features)
            for linear in linears
        ]
        self.bias = torch.cat([part.data for part in bias])
        self.transposed = False
        self._hold(torch.cat([linear.weight.data for linear in linears]) if others else first.weight.data.contiguous())

    def _hold(self, weight: Tensor) -> None:
        self.weight = weight
        weight_OI = weight.t() if self.transposed else weight
        parts = weight_OI.split([linear.out_features for linear in self.linears])
        for linear, part in zip(self.linears, parts, strict=True):
            linear.weight.data = part
        self.weight_NCI = weight_OI.unflatten(0, (-1, self.block))
        self.weight_NIC = self.weight_NCI.transpose(1, 2)
        self.bias_NC1 = self.bias.view(-1, self.block, 1)
        self.bias_N1C = self.bias_NC1.transpose(1, 2)

    def prepare(self, rows: int) -> None:
        """Lay out the weights for inputs of ``rows`` rows."""
        transposed = rows > self.IN_BLOCKS or self.weight.dtype != torch.float32 or self.weight.device.type != "cpu"
        if transposed != self.transposed:
            self.transposed = transposed
            self._hold(self.weight.t().contiguous())

    def memory(self, rows: int) -> tuple[Tensor, Tensor]:
        """The output memory of a call with ``rows`` rows, and a view of it as [B, N, C]."""
        count, block, _ = self.weight_NCI.shape
        if self.transposed:
            out = self.weight.new_empty(rows, count * block)
            return out, out.view(rows, count, block)
        if rows == 1:
            out = self.weight.new_empty(count * block)
            return out, out.view(1, count, block)
        if rows <= self.SIDE_BY_SIDE:
            out = self.weight.new_empty(count, rows, block)
            return out, out.transpose(0, 1)
        out = self.weight.new_empty(count, block, rows)
        return out, out.permute(2, 0, 1)

    def __call__(self, x_BI: Tensor, out: Tensor) -> None:
        """Compute the layers; ``out`` is memory that :meth:`memory` returned."""
        rows, inputs = x_BI.shape
        if self.transposed:
            torch.addmm(self.bias, x_BI, self.weight, out=out)
        elif rows == 1:
            torch.addmv(self.bias, self.weight, x_BI.view(inputs), out=out)
        elif rows <= self.SIDE_BY_SIDE:
            torch.baddbmm(self.bias_N1C, x_BI.expand(len(out), rows, inputs), self.weight_NIC, out=out)
        else:
            x_NIB = x_BI.t().contiguous().expand(len(out), inputs, rows)
            torch.baddbmm(self.bias_NC1, self.weight_NCI, x_NIB, out=out)


def _block(size: int) -> int:
    """The divisor of ``size`` nearest to 64, the fastest block size (32 to 256 are nearly as fast)."""
    divisors = (divisor for divisor in range(1, size + 1) if size % divisor == 0)
    return min(divisors, key=lambda divisor: abs(math.log(divisor / 64)))


def _norm(norm: nn.LayerNorm) -> tuple[Any, Tensor, Tensor, float]:
    """The arguments of ``torch.layer_norm`` after its input."""
    return norm.normalized_shape, norm.weight.data, norm.bias.data, norm.eps


class _Layer:
    """The weights of a layer, laid out for a step."""

    def __init__(self, layer: LinearDecoderLayer) -> None:
        attention = layer.self_attn
        self.attention_norm, self.ffn_norm = _norm(layer.self_attn_layer_norm), _norm(layer.final_layer_norm)
        self.qkv = FusedLinear(attention.q_proj, attention.k_proj, attention.v_proj, block=attention.head_dim)
        self.out = FusedLinear(attention.out_proj, block=_block(attention.out_proj.out_features))
        self.fc1 = FusedLinear(layer.fc1, block=_block(layer.fc1.out_features))
        self.fc2 = FusedLinear(layer.fc2, block=_block(layer.fc2.out_features))
        self.linears = self.qkv, self.out, self.fc1, self.fc2


class Workspace:
    """The memory for intermediate results of a step of B rows, shared by all layers."""

    def __init__(self, rows: int, heads: int, size: int, layer: _Layer) -> None:
        options = {"dtype": torch.float32, "device": layer.qkv.weight.device}
        self.qkv, qkv_BNC = layer.qkv.memory(rows)
        self.qk = qkv_BNC[:, : 2 * heads].view(rows, 2, heads, size).transpose(0, 1)
        self.v = qkv_BNC[:, 2 * heads :]
        self.out, self.out_BNC = layer.out.memory(rows)
        self.fc1, self.fc1_BNC = layer.fc1.memory(rows)
        self.fc2, self.fc2_BNC = layer.fc2.memory(rows)
        self.features = torch.empty(2, rows, heads, size, **options)
        self.low = torch.empty_like(self.features)
        self.p_G1K = self.features[0].view(rows * heads, 1, size)
        self.r_GK1 = self.features[1].view(rows * heads, size, 1)
        self.w_G1W = torch.ones(rows * heads, 1, size + 1, **options)
        self.w_v = self.w_G1W.view(rows, heads, size + 1)[..., :-1]
        self.o_G1W = torch.empty_like(self.w_G1W)
        self.y_G1K = torch.empty(rows * heads, 1, size, **options)
        self.y_BP = self.y_G1K.view(rows, heads * size)


class RecurrentDecoder:
    """A decoder with the state of a batch of rows, without gradients.

    Parameters
    ----------
    decoder : LinearDecoder
        In evaluation mode, with any floating-point type.
    """

    def __init__(self, decoder: LinearDecoder) -> None:
        self.decoder = decoder
        attention = decoder.layers[0].self_attn
        self.heads, self.size = attention.heads, attention.head_dim
        with torch.no_grad():
            self.layers = [_Layer(layer) for layer in decoder.layers]
            self.output = FusedLinear(decoder.output_projection, block=_block(decoder.output_projection.out_features))
            self.norm = _norm(decoder.layer_norm)
            self.embedding = decoder.embed_tokens.weight.data
        self.scale = math.sqrt(self.embedding.shape[1])
        self.states: list[Tensor] = []
        self.rows_B = torch.empty(0, dtype=torch.int64)
        self._workspaces: dict[int, Workspace] = {}

    @torch.inference_mode()
    def start(self, prefixes: Sequence[Tensor], begins: Sequence[int], longest: int, copies: int = 1) -> Tensor:
        """Read prefixes; the state of earlier ones is discarded.

        Parameters
        ----------
        prefixes : sequence of int64 Tensor [L]
            Lengths L >= 1 may differ.
        begins : sequence of int
            The index in each prefix at which positions begin.
        longest : int
            The largest number of tokens that will follow.
        copies : int
            Number of consecutive rows that continue each prefix.

        Returns
        -------
        Tensor [B, V]
            Logits of the token after each row's prefix, B = copies * number of prefixes.
        """
        device = self.embedding.device
        lengths = torch.tensor([len(prefix) for prefix in prefixes])
        begin = torch.tensor(list(begins))
        tokens = torch.full((len(prefixes), int(lengths.max())), self.decoder.pad)
        for row, prefix in zip(tokens, prefixes, strict=True):
            row[: len(prefix)] = prefix
        positions = self.decoder.embed_positions
        positions.ensure(int((lengths - begin).max()) + longest)
        logits, states = self.decoder.prefill(tokens.to(device), begin.to(device))
        self.rows_B = (lengths - begin + positions.FIRST).to(device)
        self.states, self._workspaces = states, {}
        if copies > 1:
            index = torch.arange(len(prefixes), device=device).repeat_interleave(copies)
            self.select(index)
            logits = logits.index_select(0, index)
        with torch.inference_mode(False), torch.no_grad():  # parameters must not become inference tensors
            for linear in (self.output, *(linear for layer in self.layers for linear in layer.linears)):
                linear.prepare(len(logits))
        return logits

    @torch.inference_mode()
    def select(self, index_B: Tensor) -> None:
        """Continue with the rows ``index_B``; rows may be omitted, repeated or reordered.  All states are copied."""
        self.states = [state.index_select(0, index_B) for state in self.states]
        self.rows_B = self.rows_B.index_select(0, index_B)

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Add one token to each row; returns the logits [B, V] of the next token."""
        rows, heads, size = len(tokens_B), self.heads, self.size
        if rows not in self._workspaces:
            self._workspaces = {rows: Workspace(rows, heads, size, self.layers[0])}
        memory, norm = self._workspaces[rows], torch.layer_norm
        half = self.embedding.dtype != torch.float32
        x = torch.add(
            self.decoder.embed_positions.table.index_select(0, self.rows_B),
            self.embedding.index_select(0, tokens_B),
            alpha=self.scale,
        ).to(self.embedding.dtype)
        x_BNC = x.view(memory.out_BNC.shape)
        for layer, state_BHKW in zip(self.layers, self.states, strict=True):
            layer.qkv(norm(x, *layer.attention_norm), memory.qkv)
            qk = memory.qk.float() if half else memory.qk
            feature_map(qk, out=memory.features, low=memory.low)
            memory.w_v.copy_(memory.v)
            state = state_BHKW.view(rows * heads, size, size + 1)
            step_features(memory.p_G1K, memory.r_GK1, memory.w_G1W, state, o_G1W=memory.o_G1W, out=memory.y_G1K)
            layer.out(memory.y_BP.to(x.dtype) if half else memory.y_BP, memory.out)
            x_BNC.add_(memory.out_BNC)
            layer.fc1(norm(x, *layer.ffn_norm), memory.fc1)
            h_BNC = F.gelu(memory.fc1_BNC.float()).to(x.dtype) if half else F.gelu(memory.fc1_BNC)
            layer.fc2(h_BNC.reshape(rows, -1), memory.fc2)
            x_BNC.add_(memory.fc2_BNC)
        self.rows_B += 1
        out, logits_BNC = self.output.memory(rows)
        self.output(norm(x, *self.norm), out)
        return logits_BNC.reshape(rows, -1).contiguous()
