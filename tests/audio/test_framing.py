"""Frames do not depend on how the samples before them were cut."""

from __future__ import annotations

import numpy as np
import pytest

from musicbert_plugin.audio.framing import Framer


@pytest.mark.parametrize(
    ("size", "hop", "length"), [(8, 4, 0), (8, 4, 1), (8, 4, 43), (8, 3, 44), (16, 2, 100), (8, 8, 64)]
)
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_pieces_hold_every_frame_once(size, hop, length, block):
    samples = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    pieces = list(Framer(size, hop, 5).all(samples[first : first + block] for first in range(0, length, block)))
    padded = np.pad(samples, size // 2)
    expected = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    frames = [np.lib.stride_tricks.sliding_window_view(piece, size)[::hop] for piece in pieces]
    np.testing.assert_array_equal(np.concatenate(frames), expected)
    assert len(expected) == 1 + length // hop
    assert all(len(part) == 5 for part in frames[:-1]) and 0 < len(frames[-1]) <= 5
