"""Self-attention inside segments of different lengths, without a mask tensor.

The positions of a batch lie end to end (see ``packed_batch``), and attention stays inside a segment:

* segments of one length are stacked and go through PyTorch's scaled dot-product attention (SDPA) at once, so that a GPU
  runs its flash kernel: no mask is passed;
* segments of different lengths go, on a GPU in half precision, through the flash kernel for variable lengths where this
  PyTorch has one that works, and through SDPA one segment after the other elsewhere;
* dropout of attention weights on a CPU, for which PyTorch has no fast kernel, is :class:`_DropoutAttention`: the same
  sums, block by block so that the weights stay in the processor's cache.

Shapes: N keys and values, M queries (M = N, or those that the loss needs), H heads, K dimensions per head, D = H * K,
P segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from musicbert_plugin.modules.dropout import drawn_keep, keep_scale

Lengths = tuple[int, ...]


class VarlenMetadata(NamedTuple):
    """Lengths of segments, and the kernel that serves them; made by :func:`varlen_metadata`."""

    query_lengths: Lengths
    """Queries of each segment, in order; a segment may have none."""
    lengths: Lengths
    """Keys of each segment."""
    stacked: int
    """P if all segments have equal lengths, else 0."""
    kernel: Callable[..., Tensor] | None
    """The variable-length kernel to use."""
    cu_seqlens: tuple[Tensor, Tensor, int, int] | None
    """Cumulative lengths of queries and of keys, int32 [P + 1], and the longest of each, for that kernel."""


def varlen_metadata(
    query_lengths: Lengths, lengths: Lengths, device: torch.device, dtype: torch.dtype, head_dim: int, dropout: float
) -> VarlenMetadata:
    """Choose how :func:`attend` computes segments of these lengths."""
    stacked = len(lengths) if len(set(lengths)) == 1 and len(set(query_lengths)) == 1 and query_lengths[0] else 0
    kernel, cu_seqlens = None, None
    if not stacked and any(query_lengths) and device.type == "cuda" and dtype in (torch.float16, torch.bfloat16):
        kernel = variable_length_kernel(device, dtype, head_dim, dropout > 0)
        if kernel is not None:
            cu_seqlens = _cu_seqlens(query_lengths, lengths, device)
    return VarlenMetadata(query_lengths, lengths, stacked, kernel, cu_seqlens)


def attend(q_MHK: Tensor, k_NHK: Tensor, v_NHK: Tensor, metadata: VarlenMetadata, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(K)) v within each segment.

    Parameters
    ----------
    q_MHK, k_NHK, v_NHK : Tensor
    metadata : VarlenMetadata
    dropout : float
        Probability of dropping an attention weight.

    Returns
    -------
    Tensor [M, H, K]
    """
    if dropout and q_MHK.device.type == "cpu":
        return _DropoutAttention.apply(q_MHK, k_NHK, v_NHK, metadata.query_lengths, metadata.lengths, dropout)
    if metadata.stacked:
        q, k, v = (x.unflatten(0, (metadata.stacked, -1)).transpose(1, 2) for x in (q_MHK, k_NHK, v_NHK))
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(0, 1)
    if metadata.kernel is not None:
        return metadata.kernel(q_MHK, k_NHK, v_NHK, *metadata.cu_seqlens, dropout)
    query_lengths, lengths = metadata.query_lengths, metadata.lengths
    parts = zip(q_MHK.split(query_lengths), k_NHK.split(lengths), v_NHK.split(lengths), strict=True)
    out = []
    for part in parts:
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in part)
        if q.shape[2]:
            out.append(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).squeeze(0).transpose(0, 1))
    return torch.cat(out) if out else q_MHK


class _DropoutAttention(torch.autograd.Function):
    """Attention with dropout of its weights on a CPU, a block of queries and heads at a time.

    Forward, for a block: P = softmax(q k^T / sqrt(K)), out = c (P * keep) v with c = 1 / (1 - p).
    Backward computes P again; with g = c * grad_out, and dP = (g v^T) * keep:
    dv = (P * keep)^T g;  dS = P * (dP - rowsum(P * dP));  dq = dS k / sqrt(K);  dk = dS^T q / sqrt(K).
    Only the kept/dropped bytes are stored between the two.  Half precision is computed in float32.
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx, q_MHK, k_NHK, v_NHK, query_lengths, lengths, p):
        q, k, v = (_working(x) for x in (q_MHK, k_NHK, v_NHK))
        scale, c = q.shape[-1] ** -0.5, keep_scale(p)
        out = torch.empty(q.shape, dtype=q.dtype)
        kept = []
        blocks = list(_blocks(query_lengths, lengths, q.shape[1]))
        workspace = _Workspace(blocks, q.dtype)
        for queries, keys, heads in blocks:
            qb, kb, vb = (x.transpose(0, 1) for x in (q[queries, heads], k[keys, heads], v[keys, heads]))
            weights, keep = workspace.get(len(qb), qb.shape[1], kb.shape[1])
            torch.bmm(qb * scale, kb.transpose(1, 2), out=weights)
            torch.softmax(weights, -1, out=weights)
            drawn_keep(keep, p, workspace.bits)
            kept.append(keep.to(torch.uint8))
            out[queries, heads] = torch.bmm(weights.mul_(keep), vb).mul_(c).transpose(0, 1)
        ctx.save_for_backward(q_MHK, k_NHK, v_NHK, *kept)
        ctx.blocks, ctx.c = blocks, c
        return out.to(q_MHK.dtype)

    @staticmethod
    @once_differentiable
    @torch.autocast("cpu", enabled=False)
    def backward(ctx, grad_out):
        q_MHK, k_NHK, v_NHK, *kept = ctx.saved_tensors
        q, k, v, grad = (_working(x) for x in (q_MHK, k_NHK, v_NHK, grad_out))
        scale = q.shape[-1] ** -0.5
        dq, dk, dv = (torch.zeros(x.shape, dtype=x.dtype) for x in (q, k, v))
        workspace = _Workspace(ctx.blocks, q.dtype)
        for (queries, keys, heads), keep_bytes in zip(ctx.blocks, kept, strict=True):
            qb, kb, vb = (x.transpose(0, 1) for x in (q[queries, heads], k[keys, heads], v[keys, heads]))
            gb = grad[queries, heads].transpose(0, 1) * ctx.c
            qb = qb * scale
            weights, keep = workspace.get(len(qb), qb.shape[1], kb.shape[1])
            torch.bmm(qb, kb.transpose(1, 2), out=weights)
            torch.softmax(weights, -1, out=weights)
            keep.copy_(keep_bytes)
            d = torch.bmm(gb, vb.transpose(1, 2)).mul_(keep)
            d = torch._softmax_backward_data(d, weights, -1, d.dtype)
            dv[keys, heads] += torch.bmm(weights.mul_(keep).transpose(1, 2), gb).transpose(0, 1)
            dk[keys, heads] += torch.bmm(d.transpose(1, 2), qb).transpose(0, 1)
            dq[queries, heads] = torch.bmm(d, kb).mul_(scale).transpose(0, 1)
        return dq.to(q_MHK.dtype), dk.to(k_NHK.dtype), dv.to(v_NHK.dtype), None, None, None


_BLOCK = 1 << 18
"""Attention weights of a block per thread: 1 MiB of float32, so that the few passes over them stay in the cache."""

Block = tuple[slice, slice, slice]


def _working(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _blocks(query_lengths: Lengths, lengths: Lengths, heads: int) -> Iterator[Block]:
    """Slices of queries, keys and heads that cover every segment."""
    block = _BLOCK * torch.get_num_threads()
    starts = zip(accumulate(query_lengths, initial=0), accumulate(lengths, initial=0), strict=True)
    for (query, key), queries, keys in zip(starts, query_lengths, lengths, strict=False):
        rows = min(queries, max(64, block // keys))
        group = min(heads, max(1, block // max(1, rows * keys)))
        for head in range(0, heads, group):
            for row in range(0, queries, max(1, rows)):
                yield (
                    slice(query + row, query + min(row + rows, queries)),
                    slice(key, key + keys),
                    slice(head, min(head + group, heads)),
                )


class _Workspace:
    """Memory that all blocks share, one after the other."""

    def __init__(self, blocks: list[Block], dtype: torch.dtype) -> None:
        largest = max((_weights(*block) for block in blocks), default=0)
        self.weights, self.keep = torch.empty(2, largest, dtype=dtype)
        self.bits = torch.empty(largest // 4 + 1, dtype=torch.int64)

    def get(self, *shape: int) -> tuple[Tensor, Tensor]:
        count = shape[0] * shape[1] * shape[2]
        return self.weights[:count].view(shape), self.keep[:count].view(shape)


def _weights(queries: slice, keys: slice, heads: slice) -> int:
    return (queries.stop - queries.start) * (keys.stop - keys.start) * (heads.stop - heads.start)


def _cu_seqlens(query_lengths: Lengths, lengths: Lengths, device: torch.device) -> tuple[Tensor, Tensor, int, int]:
    """Cumulative lengths of queries and keys, and the longest of each, as kernels for variable lengths take them."""
    ends = torch.tensor(
        [list(accumulate(query_lengths, initial=0)), list(accumulate(lengths, initial=0))], dtype=torch.int32
    ).to(device, non_blocking=True)
    return ends[0], ends[1], max(query_lengths), max(lengths)


def _public_kernel(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, p: float):
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn(q, k, v, cu_q, cu_k, max_q, max_k)


def _flash_kernel(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, p: float):
    return torch.ops.aten._flash_attention_forward(q, k, v, cu_q, cu_k, max_q, max_k, p, False, False)[0]


@cache
def variable_length_kernel(
    device: torch.device, dtype: torch.dtype, head_dim: int, with_dropout: bool
) -> Callable[..., Tensor] | None:
    """The flash kernel for variable lengths that works here, or None.

    PyTorch's public one (2.10 or newer) knows no dropout; the operator under it does and is older, but is not promised
    to stay as it is.  So each is compared with SDPA on two small segments, forwards and backwards, once per process.
    """
    for kernel in (_flash_kernel,) if with_dropout else (_public_kernel, _flash_kernel):
        try:
            if _agrees(kernel, device, dtype, head_dim):
                return kernel
        except (ImportError, AttributeError, RuntimeError, TypeError, ValueError, NotImplementedError):
            continue
    return None


def _agrees(kernel: Callable[..., Tensor], device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    lengths = (5, 3)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        qkv = torch.randn(3, 8, 2, head_dim, generator=generator).to(device, dtype).requires_grad_()
        out = kernel(*qkv, *_cu_seqlens(lengths, lengths, device), 0.0)
        (gradient,) = torch.autograd.grad(out.float().square().sum(), qkv)
        reference = qkv.detach().float().requires_grad_()
        parts = [
            F.scaled_dot_product_attention(*(x.transpose(0, 1)[None] for x in part))[0].transpose(0, 1)
            for part in reference.split(lengths, dim=1)
        ]
        expected = torch.cat(parts)
        (expected_gradient,) = torch.autograd.grad(expected.square().sum(), reference)
    close = torch.allclose(out.float(), expected, atol=0.05, rtol=0.05)
    return close and torch.allclose(gradient.float(), expected_gradient, atol=0.2, rtol=0.1)


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

    def forward(self, x_ND: Tensor, metadata: VarlenMetadata, needed_M: Tensor | None = None) -> Tensor:
        """[N, D] to [N, D], or to [M, D] if only the positions ``needed_M`` (ascending) are queries."""
        if needed_M is None:
            q, k, v = _fused(x_ND, self.q_proj, self.k_proj, self.v_proj)
        else:
            q = self.q_proj(x_ND.index_select(0, needed_M))
            k, v = _fused(x_ND, self.k_proj, self.v_proj)
        q, k, v = (x.unflatten(1, (self.heads, -1)) for x in (q, k, v))
        out = attend(q, k, v, metadata, self.dropout if self.training else 0.0)
        return self.out_proj(out.flatten(1))


def _fused(x: Tensor, *projections: nn.Linear) -> tuple[Tensor, ...]:
    """Several projections of one input as one product; copying the weights together costs less than it saves."""
    weight = torch.cat([projection.weight for projection in projections])
    bias = torch.cat([projection.bias for projection in projections])
    return F.linear(x, weight, bias).chunk(len(projections), dim=1)
