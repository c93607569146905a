"""Pictures of scores: they appear whole, in the format of their name, and cope with empty and percussive music."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import OptionError
from musicbert_plugin.plots.piano_roll import Panel, draw_piano_rolls

pytest.importorskip("matplotlib", reason="pictures are an extra (requirements-quickstart.txt)")


def band() -> Score:
    return Score.of(480, [0, 480, 960], [480, 960, 1920], [60, 36, 67], program=[0, DRUMS, 40])


def test_a_picture_of_several_panels_is_written_whole(tmp_path: Path) -> None:
    silent = band().select(np.zeros(3, bool))
    panels = [Panel("band", band(), np.array([True, False, True])), Panel("silence", silent)]
    draw_piano_rolls(panels, tmp_path / "a.png", bar_lines=np.array([0, 1920]), shaded=(0, 480), title="two panels")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_without_bar_lines_time_is_in_quarter_notes_and_silence_is_a_picture_too(tmp_path: Path) -> None:
    draw_piano_rolls([Panel("nothing", band().select(np.zeros(3, bool)))], tmp_path / "a.svg")
    assert "</svg>" in (tmp_path / "a.svg").read_text()


def test_a_picture_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.png", tmp_path / "a.midi"):
        with pytest.raises(OptionError, match="cannot be written"):
            draw_piano_rolls([Panel("band", band())], path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
