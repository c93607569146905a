"""Dropout whose random numbers are cheap on a CPU.

PyTorch draws a float per element; on one CPU thread that costs more than the matrix product before it.  Here 16 random
bits decide about an element, so p is rounded to a multiple of 1/65,536.  Elsewhere (GPU) this is PyTorch's dropout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 1 << 16


def drawn_keep(out: Tensor, p: float, bits: Tensor | None = None) -> Tensor:
    """Fill the contiguous float32 or float64 CPU tensor ``out`` with 1 (keep) or, with probability ``p``, 0.

    Parameters
    ----------
    out : Tensor
    p : float
    bits : int64 Tensor, optional
        Workspace of at least ``out.numel() / 4`` elements, to save an allocation.

    Returns
    -------
    Tensor
        ``out``.
    """
    words = -(-out.numel() // 4)
    bits = torch.empty(words, dtype=torch.int64) if bits is None else bits[:words]
    bits.random_(-(2**63), None)
    out.copy_(bits.view(torch.int16)[: out.numel()].view_as(out))
    return out.ge_(round(p * _STEPS) - _STEPS // 2)


def keep_scale(p: float) -> float:
    """Factor of kept elements that preserves the expectation: 1 / (1 - p), with p as rounded here."""
    return _STEPS / (_STEPS - round(p * _STEPS))


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Drop elements with probability ``p`` (0 <= p < 1) while training, and scale the others by 1 / (1 - p)."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    keep = drawn_keep(torch.empty(x.shape, dtype=torch.float32), p).mul_(keep_scale(p))
    return x * keep.to(x.dtype)
