"""Scatter plots of predicted against true numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.plots.figure import new_figure, save_figure, user_text


def draw_scatter(
    truth: Sequence[NDArray[np.float64]],
    estimate: Sequence[NDArray[np.float64]],
    names: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    """Draw the predictions of several quantities side by side, with the diagonal on which they would be exact.

    Parameters
    ----------
    truth, estimate : sequence of float64 [N]
        The numbers of each quantity, in its own units.
    names : sequence of str
        Titles, one per quantity.
    path : path
        A file whose suffix is the format (``.png``, ``.svg``, ``.pdf``).

    Raises
    ------
    OptionError
        matplotlib is not installed, or the file cannot be written.
    """
    columns = min(len(names), 5)
    rows = -(-len(names) // columns)
    figure = new_figure(3.2 * columns, 3.4 * rows, dpi=100)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, true, found, name in zip(axes, truth, estimate, names, strict=False):
        axis.scatter(true, found, s=12, alpha=0.6, linewidths=0)
        if len(true):
            low, high = min(true.min(), found.min()), max(true.max(), found.max())
            axis.plot([low, high], [low, high], color="grey", linewidth=1)
        text, style = user_text(name)
        axis.set_title(text, fontsize=10, **style)
        axis.set_xlabel("true")
        axis.set_ylabel("predicted")
    for axis in axes[len(names) :]:
        axis.remove()
    save_figure(figure, path)
