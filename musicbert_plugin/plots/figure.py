"""Creating figures without a display, and writing them atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from musicbert_plugin.errors import OptionError
from musicbert_plugin.extras import missing
from musicbert_plugin.files import atomic_path


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
