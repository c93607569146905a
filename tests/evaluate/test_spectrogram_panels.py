"""Pictures of restored spectrograms, whose axes can be read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.audio.filterbanks import mel_edges
from musicbert_plugin.evaluate.figures import new_figure
from musicbert_plugin.evaluate.spectrogram_panels import _frequency_axis, draw_spectrograms

pytest.importorskip("matplotlib", reason="pictures are an extra (requirements-quickstart.txt)")


def test_four_panels_are_pixels_and_a_file(tmp_path: Path) -> None:
    original = np.random.default_rng(0).normal(size=(40, 12))
    region = np.zeros((40, 12), np.int64)
    region[5:9] = 1
    masked = np.where(region > 0, np.nan, original)
    cells = {"masked": masked, "original": original, "restored": original + 1, "region": region}
    pixels = draw_spectrograms(tmp_path / "new" / "a.png", **cells, frame_rate=43.0)
    assert pixels.dtype == np.uint8 and pixels.shape == (720, 800, 3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_frequencies_do_not_stand_on_one_another() -> None:
    frequencies = mel_edges(96, 0.0, 11025.0)[1:-1]
    figure = new_figure(10, 9, dpi=80)
    axis = figure.subplots(4, 1)[0]
    axis.set_ylim(-0.5, len(frequencies) - 0.5)
    _frequency_axis(axis, frequencies)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["100", "500", "1,000", "2,000", "5,000", "10,000"]
    assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))
