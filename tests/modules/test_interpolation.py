"""Baselines: means and straight lines over visible cells, against numpy cell by cell."""

import numpy as np
import pytest
import torch

from musicbert_plugin.modules.interpolation import channel_means, interpolate_gaps


def random_case(seed, frames=17, channels=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, frames, channels)), rng.random((3, frames, channels)) < 0.6


def lines_by_numpy(x, visible):
    """np.interp along time for channels with something visible, then along the channels of each frame."""
    out = x.copy()
    channels = visible.any(0)
    for c in np.flatnonzero(channels):
        at = np.flatnonzero(visible[:, c])
        out[:, c] = np.where(visible[:, c], x[:, c], np.interp(np.arange(len(x)), at, x[at, c]))
    for t in range(len(x)):
        at = np.flatnonzero(channels)
        out[t, ~channels] = np.interp(np.flatnonzero(~channels), at, out[t, at]) if len(at) else 0
    return out


@pytest.mark.parametrize("seed", range(4))
def test_lines_are_numpys(seed):
    x, visible = random_case(seed)
    visible[0, :, 2] = False  # a masked channel
    visible[1, :, :2] = False
    visible[2, 5:9] = False
    expected = np.stack([lines_by_numpy(*case) for case in zip(x, visible, strict=True)])
    found = interpolate_gaps(torch.from_numpy(x), torch.from_numpy(visible))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_gap_in_a_straight_line_is_filled_exactly():
    x = torch.arange(10.0)[None, :, None] * torch.tensor([1.0, -2.0])
    visible = torch.ones_like(x, dtype=torch.bool)
    visible[:, 3:8] = False
    torch.testing.assert_close(interpolate_gaps(x, visible), x)


@pytest.mark.parametrize("seed", range(2))
def test_means_are_of_visible_cells_and_of_the_clip_where_a_channel_has_none(seed):
    x, visible = random_case(seed)
    visible[0, :, 1] = False
    found = channel_means(torch.from_numpy(x), torch.from_numpy(visible))[:, 0].numpy()
    for clip in range(3):
        for channel in range(5):
            where = visible[clip, :, channel]
            expected = x[clip, where, channel].mean() if where.any() else x[clip][visible[clip]].mean()
            assert found[clip, channel] == pytest.approx(expected)


def test_a_clip_without_visible_cells_becomes_zero():
    x, nothing = torch.randn(1, 4, 3), torch.zeros(1, 4, 3, dtype=torch.bool)
    assert not interpolate_gaps(x, nothing).any() and not channel_means(x, nothing).any()


def test_padding_changes_no_baseline():
    x, visible = (torch.from_numpy(array) for array in random_case(3))
    longer, shown = torch.randn(3, 30, 5, dtype=x.dtype), torch.zeros(3, 30, 5, dtype=torch.bool)
    longer[:, :17], shown[:, :17] = x, visible
    torch.testing.assert_close(interpolate_gaps(longer, shown)[:, :17], interpolate_gaps(x, visible))
    torch.testing.assert_close(channel_means(longer, shown), channel_means(x, visible))
