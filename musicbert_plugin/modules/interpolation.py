"""Baselines for hidden cells of a spectrogram: the channel's mean, and linear interpolation.

Spectrograms are smooth, so a straight line across a short gap is hard to beat.  Every reconstruction is therefore
compared with these two, on the same cells.

Shapes: B windows, T frames, F features (channels).
"""

from __future__ import annotations

import torch
from torch import Tensor


def channel_means(x_BTF: Tensor, visible_BTF: Tensor) -> Tensor:
    """Mean of each channel over its visible cells; for a channel without any, the mean over the whole window.

    Parameters
    ----------
    x_BTF : Tensor
    visible_BTF : bool Tensor
        Cells that are neither hidden nor padding.

    Returns
    -------
    Tensor [B, 1, F]
        0 for a window without visible cells.
    """
    weight = visible_BTF.to(x_BTF.dtype)
    count, total = weight.sum(1, keepdim=True), (x_BTF * weight).sum(1, keepdim=True)
    overall = total.sum(2, keepdim=True) / count.sum(2, keepdim=True).clamp(min=1)
    return torch.where(count > 0, total / count.clamp(min=1), overall)


def interpolate_gaps(x_BTF: Tensor, visible_BTF: Tensor) -> Tensor:
    """Fill hidden cells by linear interpolation along time, or else across channels.

    A hidden cell lies on the line between the nearest visible cells before and after it in its channel, or takes the
    value of the nearest one at an end of the window.  Channels without a visible cell are then filled across the
    channels of each frame in the same way.  Visible cells stay; a window without any becomes 0.

    Parameters
    ----------
    x_BTF : Tensor
    visible_BTF : bool Tensor
        Cells that are neither hidden nor padding.

    Returns
    -------
    Tensor [B, T, F]
    """
    channel_visible_BF = visible_BTF.any(1)
    x = _fill_lines(x_BTF, visible_BTF, dim=1)
    if bool(channel_visible_BF.all()):
        return x
    return _fill_lines(x, channel_visible_BF[:, None].expand_as(visible_BTF), dim=2)


def _fill_lines(x: Tensor, visible: Tensor, dim: int) -> Tensor:
    """Fill lines along ``dim``; lines without a visible cell become 0."""
    size = x.shape[dim]
    index = torch.arange(size, device=x.device).view([-1 if d == dim else 1 for d in range(x.dim())])
    before = torch.where(visible, index, -1).cummax(dim).values
    after = torch.where(visible, index, size).flip(dim).cummin(dim).values.flip(dim)
    is_first, is_last = before < 0, after >= size
    left = torch.where(is_first, after, before).clamp(0, size - 1)
    right = torch.where(is_last, before, after).clamp(0, size - 1)
    share = (index - left).to(x.dtype) / (right - left).clamp(min=1)
    share = torch.where(is_first | is_last, 0.0, share)
    line = torch.lerp(x.gather(dim, left), x.gather(dim, right), share)
    return torch.where(visible, x, line.masked_fill(is_first & is_last, 0.0))
