"""Causal linear attention: one layer's attention in time and memory that grow with the length, not with its square.

Katharopoulos et al. 2020, "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention" (ICML).
With phi(x) = elu(x) + 1 elementwise (no scaling by the head size), for every head and position l

    y_l = sum_{j <= l} (phi(q_l) . phi(k_j)) v_j  /  (sum_{j <= l} phi(q_l) . phi(k_j) + 1e-6)

The 1e-6 is kept as published: where all of q and k are far below zero it decides the result.  Two forms of it:

* :func:`linear_attention`: all positions at once, in chunks; inside a chunk a masked product, between chunks the state
  S = sum phi(k_j) [v_j, 1], whose last column is the sum of the keys.  Forward and backward are written by hand;
* :func:`linear_attention_step`: one more position, from the state, in constant memory.

Everything inside is float32 (float64 for float64 inputs), autocast or not, and the result is cast last: in half
precision features, their sums and the division overflow.  The result is a weighted mean of values: it fits their type.

With p = phi(q), r = phi(k), w = [v, 1] and o = [numerator, denominator], the gradient of y = n / (d + eps) is
g_o = [g_y, -g_y . y] / (d + eps), and, since o_l = sum_{j <= l} (p_l . r_j) w_j is linear in each of p, r, w,

    g_p_l = sum_{j <= l} (g_o_l . w_j) r_j
    g_r_j = sum_{l >= j} (g_o_l . w_j) p_l
    g_w_j = sum_{l >= j} (p_l . r_j) g_o_l

that is, linear attention again, twice of it backwards in time with the state R = sum p_l g_o_l; and phi' = min(phi, 1).

Shapes: B rows, L positions, H heads, K dimensions of a head, W = K + 1; G = B H rows of heads, N chunks of C positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPSILON = 1e-6
"""Added to the denominator, as in the published models."""

CHUNK = 64
"""Positions of a chunk: about the head sizes in use, where the work inside chunks and between them is balanced."""

_TOGETHER = 1 << 18
"""Elements per tensor and thread that a CPU works on together (1 MiB of float32), in memory that all blocks share: the
extra memory of a call does not grow with its length."""


def feature_map(x: Tensor, *, out: Tensor | None = None, low: Tensor | None = None) -> Tensor:
    """phi(x) = elu(x) + 1, computed as exp(min(x, 0)) + max(x, 0), which avoids the cancellation of exp(x) - 1 + 1.

    Parameters
    ----------
    x : Tensor
    out, low : Tensor, optional
        Memory, of the shape of ``x``, for the result and for a summand; ``out`` may be ``x`` itself.
    """
    low = torch.clamp(x, max=0, out=low).exp_()
    return torch.clamp(x, min=0, out=out).add_(low)


def linear_attention(q_BLHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, padding_mask_BL: Tensor | None = None) -> Tensor:
    """The parallel form, differentiable once.

    Parameters
    ----------
    q_BLHK, k_BLHK, v_BLHK : Tensor
        Of any floating type.
    padding_mask_BL : bool Tensor, optional
        True for padding: padded keys are ignored.

    Returns
    -------
    Tensor [B, L, H, K], of the type of ``v_BLHK``
    """
    return _LinearAttention.apply(q_BLHK, k_BLHK, v_BLHK, padding_mask_BL)


def linear_attention_with_state(
    q_BLHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, padding_mask_BL: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The parallel form, and the state after each row's last unpadded position, [B, H, K, W]; without gradients."""
    with torch.no_grad(), torch.autocast(q_BLHK.device.type, enabled=False):
        return _forward(q_BLHK, k_BLHK, v_BLHK, padding_mask_BL)[:2]


def empty_state(rows: int, heads: int, size: int, device: torch.device | None = None) -> Tensor:
    """The state before the first position, [B, H, K, W] in float32."""
    return torch.zeros(rows, heads, size, size + 1, device=device)


def linear_attention_step(q_BHK: Tensor, k_BHK: Tensor, v_BHK: Tensor, state_BHKW: Tensor) -> Tensor:
    """The recurrent form: add one position to the state (in place) and attend from it; without gradients.

    Parameters
    ----------
    q_BHK, k_BHK, v_BHK : Tensor
        The position's projections, of any floating type.
    state_BHKW : Tensor
        As :func:`linear_attention_with_state` returns it, contiguous; it is changed.

    Returns
    -------
    Tensor [B, H, K], of the type of ``v_BHK``
    """
    rows, heads, size = q_BHK.shape
    groups = rows * heads
    p, r = feature_map(torch.stack((q_BHK, k_BHK)).to(state_BHKW.dtype))
    w = nn.functional.pad(v_BHK.to(state_BHKW.dtype), (0, 1), value=1.0)
    y = step_features(
        p.view(groups, 1, size),
        r.view(groups, size, 1),
        w.view(groups, 1, size + 1),
        state_BHKW.view(groups, size, size + 1),
    )
    return y.view(rows, heads, size).to(v_BHK.dtype)


def step_features(
    p_G1K: Tensor,
    r_GK1: Tensor,
    w_G1W: Tensor,
    state_GKW: Tensor,
    *,
    o_G1W: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """:func:`linear_attention_step` after the feature map, [G, 1, K].

    Parameters
    ----------
    p_G1K, r_GK1, w_G1W, state_GKW : Tensor
        See the module; the state is changed.
    o_G1W, out : Tensor, optional
        Memory for o, and for the result [G, 1, K].
    """
    o = torch.bmm(p_G1K, state_GKW.baddbmm_(r_GK1, w_G1W), out=o_G1W)
    return torch.div(o[..., :-1], o[..., -1:].add_(EPSILON), out=out)


class _LinearAttention(torch.autograd.Function):
    """See the module's formulas.  Kept for the backward pass: inputs, result, denominators, and a state per block."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            out, _, denominators, starts = _forward(q, k, v, padding_mask)
        ctx.save_for_backward(q, k, v, padding_mask, out, denominators, *starts)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_out: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(g_out.device.type, enabled=False):
            return (*_backward(g_out, *ctx.saved_tensors), None)


Part = tuple[slice, slice]
"""Rows and heads that are worked on together."""


def _plan(shape: torch.Size, device: torch.device) -> tuple[list[Part], list[slice]]:
    """The parts to go through, and the blocks of positions (whole chunks, except the last) of each."""
    rows, length, heads, size = shape
    if device.type != "cpu":
        return [(slice(0, rows), slice(0, heads))], [slice(0, length)]
    together = _TOGETHER * torch.get_num_threads()
    block = max(1, together // (CHUNK * size)) * CHUNK
    heads_together = max(1, min(heads, together // (min(block, length) * size)))
    rows_together = max(1, together // (min(block, length) * size * heads))
    parts = [
        (slice(row, min(row + rows_together, rows)), slice(head, min(head + heads_together, heads)))
        for row in range(0, rows, rows_together)
        for head in range(0, heads, heads_together)
    ]
    return parts, [slice(start, min(start + block, length)) for start in range(0, length, block)]


class Workspace:
    """Memory that all blocks use in turn: one tensor per name, which grows as needed."""

    def __init__(self, like: Tensor) -> None:
        self.options = {"dtype": _working(like.dtype), "device": like.device}
        self.memory: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int) -> Tensor:
        count = math.prod(shape)
        if name not in self.memory or self.memory[name].numel() < count:
            self.memory[name] = torch.empty(count, **self.options)
        return self.memory[name][:count].view(shape)


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _pairs(block_NGCK: Tensor, x_BLHK: Tensor, part: Part, positions: slice) -> Iterator[tuple[Tensor, Tensor]]:
    """The chunks [N, B, H, C, K] of a block of positions beside their memory in a block: all full ones and the last."""
    rows, heads = part
    x = x_BLHK[rows, positions, heads].permute(0, 2, 1, 3)
    inside = block_NGCK.unflatten(1, x.shape[:2])
    full, rest = divmod(x.shape[2], CHUNK)
    if full:
        yield inside[:full], x[:, :, : full * CHUNK].unflatten(2, (full, CHUNK)).permute(2, 0, 1, 3, 4)
    if rest:
        yield inside[full, :, :, :rest], x[:, :, full * CHUNK :]


def _load(out_NGCK: Tensor, x_BLHK: Tensor, part: Part, positions: slice) -> Tensor:
    if (positions.stop - positions.start) % CHUNK:
        out_NGCK[-1].zero_()
    for inside, outside in _pairs(out_NGCK, x_BLHK, part, positions):
        inside.copy_(outside)
    return out_NGCK


def _store(block_NGCK: Tensor, x_BLHK: Tensor, part: Part, positions: slice) -> None:
    for inside, outside in _pairs(block_NGCK, x_BLHK, part, positions):
        outside.copy_(inside)


class _Block:
    """p, r and w of some rows, heads and positions, in chunks that come first: [N G, C, K] and [N G, C, W]."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        padding_mask: Tensor | None,
        part: Part,
        positions: slice,
        workspace: Workspace,
    ) -> None:
        size = q.shape[-1]
        groups = (part[0].stop - part[0].start) * (part[1].stop - part[1].start)
        self.shape = -(-(positions.stop - positions.start) // CHUNK), groups, CHUNK, size
        self.states_shape = self.shape[0] + 1, groups, size, size + 1
        self.part, self.positions, self.workspace = part, positions, workspace
        self.p = self._features("p", q, None)
        self.r = self._features("r", k, padding_mask)
        self.w = self.load("w", v, last=1.0)

    def load(self, name: str, x_BLHK: Tensor, last: float) -> Tensor:
        """[N G, C, W]: what is given, and a last column."""
        out = self.workspace.get(name, *self.shape[:3], self.shape[3] + 1)
        _load(out[..., :-1], x_BLHK, self.part, self.positions)
        out[..., -1] = last
        return out.flatten(0, 1)

    def _features(self, name: str, x_BLHK: Tensor, padding_mask_BL: Tensor | None) -> Tensor:
        # keys after the last position are ignored
        x = _load(self.workspace.get(name, *self.shape), x_BLHK, self.part, self.positions)
        feature_map(x, out=x, low=self.workspace.get("low", *self.shape))
        rest = (self.positions.stop - self.positions.start) % CHUNK
        if rest:
            x[-1, :, rest:] = 0
        if padding_mask_BL is not None:
            visible_BLH1 = ~padding_mask_BL[:, :, None, None].expand(-1, -1, x_BLHK.shape[2], 1)
            for inside, outside in _pairs(x, visible_BLH1, self.part, self.positions):
                inside.mul_(outside)
        return x.flatten(0, 1)

    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        """[N G, C, C]: a b^T, zero where b is later."""
        out = self.workspace.get("weights", len(a), CHUNK, CHUNK)
        return torch.bmm(a, b.transpose(1, 2), out=out).tril_()

    def states(self, start: Tensor | None) -> Tensor:
        """[N + 1, G, K, W]: sum of r w^T before each chunk, and after the last."""
        states = self.workspace.get("states", *self.states_shape)
        states[0] = 0.0 if start is None else start
        torch.bmm(self.r.transpose(1, 2), self.w, out=states[1:].flatten(0, 1))
        for n in range(self.shape[0]):
            states[n + 1].add_(states[n])
        return states

    def later_states(self, g: Tensor, end: Tensor | None) -> Tensor:
        """[N + 1, G, K, W]: sum of p g^T from each chunk on, and after the last."""
        states = self.workspace.get("later", *self.states_shape)
        states[-1] = 0.0 if end is None else end
        torch.bmm(self.p.transpose(1, 2), g, out=states[:-1].flatten(0, 1))
        for n in reversed(range(self.shape[0])):
            states[n].add_(states[n + 1])
        return states


def _forward(
    q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The result; the final state [B, H, K, W]; the denominators [B, L, H, 1]; the states before blocks 1, 2, ..."""
    rows, length, heads, size = q.shape
    workspace = Workspace(q)
    out = torch.empty(q.shape, dtype=v.dtype, device=v.device)
    denominators = torch.empty(rows, length, heads, 1, **workspace.options)
    parts, blocks = _plan(q.shape, q.device)
    states = [torch.zeros(rows, heads, size, size + 1, **workspace.options) for _ in blocks]
    for part in parts:
        start = None
        for positions, kept in zip(blocks, states, strict=True):
            block = _Block(q, k, v, padding_mask, part, positions, workspace)
            all_states = block.states(start)
            o = torch.bmm(block.weights(block.p, block.r), block.w, out=workspace.get("o", *block.w.shape))
            o.baddbmm_(block.p, all_states[:-1].flatten(0, 1))
            d = o[..., -1:].add_(EPSILON)
            _store(o[..., :-1].div_(d).view(block.shape), out, part, positions)
            _store(d.view(*block.shape[:3], 1), denominators, part, positions)
            start = all_states[-1].clone()
            kept[part] = start.view(kept[part].shape)
    final = states.pop() if states else torch.zeros(rows, heads, size, size + 1, **workspace.options)
    return out, final, denominators, states


def _backward(
    g_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    padding_mask: Tensor | None,
    out: Tensor,
    denominators: Tensor,
    *states: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    workspace = Workspace(q)
    g_q, g_k, g_v = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    parts, blocks = _plan(q.shape, q.device)
    for part in parts:
        end = None
        for number in reversed(range(len(blocks))):
            positions = blocks[number]
            block = _Block(q, k, v, padding_mask, part, positions, workspace)
            p, r, w = block.p, block.r, block.w
            start = states[number - 1][part].flatten(0, 1) if number else None
            before = block.states(start)[:-1].flatten(0, 1)
            g = block.load("g", g_out, last=0.0)
            y = _load(workspace.get("y", *block.shape), out, part, positions)
            d = _load(workspace.get("d", *block.shape[:3], 1), denominators, part, positions).view(*g.shape[:2], 1)
            rest = (positions.stop - positions.start) % CHUNK
            if rest:
                d.view(block.shape[:3])[-1, :, rest:] = 1
            g_y = g[..., :-1].div_(d)
            g[..., -1] = torch.mul(g_y, y.view_as(g_y), out=y.view_as(g_y)).sum(-1).neg_()
            later = block.later_states(g, end)
            behind = later[1:].flatten(0, 1)
            weights = block.weights(g, w)
            grad = workspace.get("y", *block.shape).flatten(0, 1)
            torch.bmm(weights, r, out=grad).baddbmm_(g, before.transpose(1, 2))
            slope = workspace.get("low", *block.shape).flatten(0, 1)
            _store(grad.mul_(torch.clamp(p, max=1, out=slope)).view(block.shape), g_q, part, positions)
            torch.bmm(weights.transpose(1, 2), p, out=grad).baddbmm_(w, behind.transpose(1, 2))
            _store(grad.mul_(torch.clamp(r, max=1, out=slope)).view(block.shape), g_k, part, positions)
            weights = block.weights(p, r)
            torch.bmm(weights.transpose(1, 2), g[..., :-1], out=grad).baddbmm_(r, behind[..., :-1])
            _store(grad.view(block.shape), g_v, part, positions)
            end = later[0].clone()
    return g_q, g_k, g_v
