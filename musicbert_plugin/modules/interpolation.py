"""What can be said about hidden cells of a spectrogram without any model: the mean of the clip, and interpolation.

Spectrograms are smooth, so that a straight line across a short gap is hard to beat.  Every reconstruction is therefore
measured beside these two, on the same cells.

Shapes: B clips, T frames, F features (channels).
"""

from __future__ import annotations

import torch
from torch import Tensor


def channel_means(x_BTF: Tensor, visible_BTF: Tensor) -> Tensor:
    """Each channel's mean over the visible cells of the clip; of a channel without any, the mean of the whole clip.

    Args:
        visible_BTF: bool; neither hidden nor padding.

    Returns:
        [B, 1, F]; 0 for a clip without visible cells.
    """
    weight = visible_BTF.to(x_BTF.dtype)
    count, total = weight.sum(1, keepdim=True), (x_BTF * weight).sum(1, keepdim=True)
    overall = total.sum(2, keepdim=True) / count.sum(2, keepdim=True).clamp(min=1)
    return torch.where(count > 0, total / count.clamp(min=1), overall)


def interpolate_gaps(x_BTF: Tensor, visible_BTF: Tensor) -> Tensor:
    """Fill what is not visible by straight lines: along time within a channel, else along the channels.

    A hidden cell lies on the line between the nearest visible cells before and after it in its channel, or takes the
    nearest one's value at an end of the clip.  Channels without a visible cell are then filled across the channels of
    each frame in the same way.  Visible cells stay; a clip without any becomes 0.

    Args:
        visible_BTF: bool; neither hidden nor padding.
    """
    channel_visible_BF = visible_BTF.any(1)
    x = _fill_lines(x_BTF, visible_BTF, dim=1)
    if bool(channel_visible_BF.all()):
        return x
    return _fill_lines(x, channel_visible_BF[:, None].expand_as(visible_BTF), dim=2)


def _fill_lines(x: Tensor, visible: Tensor, dim: int) -> Tensor:
    """Fill lines along ``dim``; lines without a visible cell become 0."""
    size = x.shape[dim]
    place = torch.arange(size, device=x.device).view([-1 if d == dim else 1 for d in range(x.dim())])
    before = torch.where(visible, place, -1).cummax(dim).values
    after = torch.where(visible, place, size).flip(dim).cummin(dim).values.flip(dim)
    is_first, is_last = before < 0, after >= size
    left = torch.where(is_first, after, before).clamp(0, size - 1)
    right = torch.where(is_last, before, after).clamp(0, size - 1)
    share = (place - left).to(x.dtype) / (right - left).clamp(min=1)
    share = torch.where(is_first | is_last, 0.0, share)
    line = torch.lerp(x.gather(dim, left), x.gather(dim, right), share)
    return torch.where(visible, x, line.masked_fill(is_first & is_last, 0.0))
