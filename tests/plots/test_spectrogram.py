"""Pictures of restored spectrograms, whose axes can be read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.audio.filterbanks import mel_edges
from musicbert_plugin.plots.figure import new_figure
from musicbert_plugin.plots.spectrogram import _frequency_axis, draw_spectrograms, unit_of

matplotlib = pytest.importorskip("matplotlib", reason="pictures are an extra (requirements-quickstart.txt)")


def test_four_panels_are_pixels_and_a_file(tmp_path: Path) -> None:
    original = np.random.default_rng(0).normal(size=(40, 12))
    target_mask = np.zeros((40, 12), np.int64)
    target_mask[5:9] = 1
    masked = np.where(target_mask > 0, np.nan, original)
    cells = {"masked": masked, "original": original, "restored": original + 1, "target_mask": target_mask}
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


def test_levels_are_in_decibels_only_where_a_decibel_is_known() -> None:
    """M3BERT's front-end divides each feature by its deviation over the clip; .npy features may be anything."""
    mel = ["mel 0", "mel 1"]
    assert unit_of({"name": "logmel2", "normalisation": "none"}, mel) == "dB"
    assert unit_of({"name": "musicoder324", "normalisation": "frame"}, ["chroma C", *mel]) == "dB"
    assert unit_of({"name": "m3bert324", "normalisation": "clip"}, ["chroma C", *mel]) == "deviations of the clip"
    assert unit_of({"name": "npy", "num_features": 2}, ["feature 0", "feature 1"]) == "value"


@pytest.mark.parametrize("unit, error", [("dB", "8.7 dB"), ("deviations of the clip", "2 deviations of the clip")])
def test_axes_and_colours_name_their_units(tmp_path: Path, unit: str, error: str) -> None:
    original = np.linspace(-3, 3, 40).reshape(10, 4)
    target_mask = np.zeros((10, 4), np.int64)
    target_mask[3:5] = 1
    cells = {"masked": np.where(target_mask, np.nan, original), "original": original, "restored": original + 2}
    frequencies = np.array([100.0, 300.0, 1000.0, 3000.0])
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw_spectrograms(
            tmp_path / "drawn.svg", **cells, target_mask=target_mask, frame_rate=5.0, frequencies=frequencies, unit=unit
        )
    text = (tmp_path / "drawn.svg").read_text()
    assert f"absolute error (mean {error})" in text and text.count(f">{unit}<") == 4
    assert "time (s)" in text and "frequency (Hz)" in text
    assert ("dB" in text) == (unit == "dB")


def test_silence_and_a_clip_without_masks_are_drawn() -> None:
    flat = np.full((6, 3), -13.8)
    cells = {"masked": flat, "original": flat, "restored": flat}
    for mask in (np.zeros((6, 3), np.int64), np.ones((6, 3), np.int64)):
        picture = draw_spectrograms(None, **cells | {"target_mask": mask}, frame_rate=43.0, unit="value")
        assert picture.ndim == 3 and picture.shape[2] in (3, 4) and len(np.unique(picture)) > 2, "axes and a panel"
