"""Names of files in pictures: as they stand, in a font that has them, or escaped; never a formula, never a box."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures are an extra (requirements-quickstart.txt)")

from musicbert_plugin.codecs.score import Score
from musicbert_plugin.plots import figure
from musicbert_plugin.plots.figure import new_figure, user_text, user_texts
from musicbert_plugin.plots.heat_map import draw_heat_map
from musicbert_plugin.plots.piano_roll import Panel, draw_piano_rolls
from musicbert_plugin.plots.spectrogram import draw_spectrograms

NAMES = [
    "Caf\udce9.mid",
    "a$b$.mid",
    "$x^{$.mid",
    "日本の歌.mid",
    "two\nlines \x1b.mid",
    r"C:\frac{$1$}.mid",
    "Café Ж.mid",
]


def pixels(text: str, **style: object) -> np.ndarray:
    picture = new_figure(3, 0.5, dpi=60)
    picture.text(0, 0, text, **style)
    picture.canvas.draw()
    return np.asarray(picture.canvas.buffer_rgba()).copy()


@pytest.fixture
def no_fonts_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure, "_font_with", lambda characters: None)


def test_dollar_signs_are_dollar_signs() -> None:
    text, style = user_text("a$b$ and $x^{$")
    assert text == "a$b$ and $x^{$"
    apart, _ = user_text("a$b")
    assert np.array_equal(pixels(apart, **style), pixels("a$b")), "one alone is no formula for matplotlib either"
    assert not np.array_equal(pixels("a$b$", **style), pixels("a$b$"))


def test_what_no_font_has_is_escaped(no_fonts_of_the_system: None) -> None:
    assert user_text("日 é Ж \U0001f3b5 \udce9 \n")[0] == r"\u65e5 é Ж \U0001f3b5 \xe9 \x0a"
    assert user_texts(["日", "plain"])[0] == [r"\u65e5", "plain"]


def test_what_another_font_has_is_drawn_with_it() -> None:
    from matplotlib.font_manager import FontProperties, findfont

    own, other = (
        figure._characters_of(str(findfont(FontProperties(family=[name])))) for name in ("DejaVu Sans", "cmr10")
    )
    character = min(figure._characters_of(findfont(FontProperties(family=["STIXGeneral"]))) - own - other)
    text, style = user_text(f"a{character}")
    assert text == f"a{character}" and len(style["fontfamily"]) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that is missing
        pixels(text, **style)


@pytest.mark.parametrize("name", [NAMES[0] + NAMES[1], NAMES[2] + NAMES[3], NAMES[4] + NAMES[5]])
def test_every_picture_shows_every_name(name: str, tmp_path: Path, no_fonts_of_the_system: None) -> None:
    score = Score.of(480, [0], [480], [60])
    ones = np.ones((4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_piano_rolls([Panel(name, score)], tmp_path / "roll.png", title=name)
        draw_heat_map(ones, [name, "b", "c"], tmp_path / "map.png")
        draw_spectrograms(
            tmp_path / "spectrogram.png",
            masked=ones,
            original=np.arange(12.0).reshape(4, 3),
            restored=ones,
            target_mask=np.eye(4, 3, dtype=int),
            frame_rate=10.0,
            title=name,
        )
    assert all((tmp_path / f"{name}.png").stat().st_size for name in ("roll", "map", "spectrogram"))
