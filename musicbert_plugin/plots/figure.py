"""Creating figures without a display, showing users' names in them, and writing them atomically."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from musicbert_plugin.errors import OptionError
from musicbert_plugin.extras import missing
from musicbert_plugin.files import atomic_path, shown

PLACEHOLDERS = ("Last Resort", "LastResort")
"""Fonts that have a box for every character."""


def new_figure(width: float, height: float, dpi: int) -> Any:
    """An empty ``matplotlib.figure.Figure`` of a size in inches, with an Agg canvas.

    Raises
    ------
    OptionError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise missing("matplotlib", "a picture") from None
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def user_text(text: str) -> tuple[str, dict[str, Any]]:
    """Text from outside (a file name, the name of a feature) as a picture can show it.

    matplotlib reads what stands between two dollar signs as a formula, and draws a box for a character that is not in
    its font.  The text is taken as it stands; characters that its font lacks come from a font of the system that has
    them all, if there is one, and are otherwise escaped (``\\u65e5``), like bytes that are no UTF-8 (``\\xe9``).

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        The text to draw.
    dict
        Keyword arguments for the function of matplotlib that draws it.
    """
    (drawn,), style = user_texts([text])
    return drawn, style


def user_texts(texts: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """As :func:`user_text`, for several texts in one style, such as the labels of ticks."""
    from matplotlib import rcParams

    texts = ["".join(_printable(character) for character in shown(text)) for text in texts]
    needed = frozenset("".join(texts)) - _characters_of(_default_font())
    families, escaped = list(rcParams["font.family"]), frozenset[str]()
    if needed:
        fallback = _font_with(needed)
        families += [fallback] if fallback else []
        escaped = frozenset() if fallback else needed
    texts = ["".join(_code_of(character) if character in escaped else character for character in t) for t in texts]
    return texts, {"parse_math": False, "fontfamily": families}


def _printable(character: str) -> str:
    return _code_of(character) if unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn") else character


def _code_of(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def _default_font() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return str(findfont(FontProperties()))


@functools.cache
def _characters_of(path: str) -> frozenset[str]:
    """The characters of a font that can be drawn at any size; none of a damaged one, or one of bitmaps."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (RuntimeError, OSError, ValueError):
        return frozenset()


@functools.cache
def _font_with(characters: frozenset[str]) -> str | None:
    """The family of a font of the system that has all of these characters, or None."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if entry.name.startswith(PLACEHOLDERS) or not characters <= _characters_of(entry.fname):
            continue
        if characters <= _characters_of(str(findfont(FontProperties(family=[entry.name])))):
            return str(entry.name)
    return None


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the suffix (``.png``, ``.svg``, ``.pdf``); missing folders are made.

    Raises
    ------
    OptionError
        The file cannot be written, or the format is unknown.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as unfinished:
            figure.savefig(unfinished, format=path.suffix[1:] or "png")
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: the picture cannot be written ({error}).") from None
