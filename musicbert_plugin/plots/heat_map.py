"""Heat maps: correlations of units with features of the sound, and confusions of classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.plots.figure import new_figure, save_figure, user_text, user_texts

MOST_NAMES = 60
"""Largest number of names along an axis; more are left out."""
MOST_NUMBERS = 20
"""Largest number of classes whose counts are written into a confusion."""


def draw_heat_map(strength: NDArray[np.float64], names: list[str], path: str | os.PathLike[str]) -> None:
    """Draw absolute correlations, layers from the input (0) upwards.

    Parameters
    ----------
    strength : float64 [layers + 1, features]
        For each layer and feature, the largest absolute correlation of a unit.
    names : list of str
        Names of the features, which are shown if there are at most 60.
    path : path
        A file whose suffix is the format (``.png``, ``.svg``, ``.pdf``).

    Raises
    ------
    OptionError
        matplotlib is not installed, or the file cannot be written.
    """
    figure = new_figure(2.5 + 0.35 * min(len(names), MOST_NAMES), 1.5 + 0.4 * len(strength), dpi=100)
    axis = figure.subplots()
    image = axis.imshow(strength, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="lower")
    axis.set_ylabel("layer (0: input)")
    axis.set_yticks(range(len(strength)))
    _name_columns(axis, names, "feature")
    axis.set_title("closest unit of each layer", fontsize=10)
    figure.colorbar(image, ax=axis, label="|correlation|")
    save_figure(figure, path)


def draw_confusion(
    counts: NDArray[np.int64],
    totals: NDArray[np.int64],
    names: Sequence[str],
    path: str | os.PathLike[str],
    title: str = "",
) -> None:
    """Draw what the items of each class (rows) are predicted as (columns), as shares of the row.

    Parameters
    ----------
    counts : int64 [C, C]
        Items of each class by predicted class; of tags, items with each tag by predicted tag.
    totals : int64 [C]
        Items of each class or tag.
    names : sequence of str [C]
        Shown if there are at most 60; the counts are written into the cells if there are at most 20.
    path : path
        A file whose suffix is the format (``.png``, ``.svg``, ``.pdf``).
    title : str

    Raises
    ------
    OptionError
        matplotlib is not installed, or the file cannot be written.
    """
    shares = counts / np.maximum(totals, 1)[:, None]
    size = 0.35 * min(len(names), MOST_NAMES)
    figure = new_figure(3.5 + size, 2.5 + size, dpi=100)
    axis = figure.subplots()
    image = axis.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="equal")
    if len(names) <= MOST_NAMES:
        rows = [f"{name} ({total})" for name, total in zip(names, totals.tolist(), strict=True)]
        labels, style = user_texts(rows)
        axis.set_yticks(range(len(names)), labels, fontsize=8, **style)
    _name_columns(axis, names, "predicted")
    axis.set_ylabel("true (items)")
    axis.set_xlabel("predicted")
    text, style = user_text(title)
    axis.set_title(text, fontsize=10, **style)
    for row, column in np.argwhere(counts > 0).tolist() if len(names) <= MOST_NUMBERS else ():
        colour = "black" if shares[row, column] > 0.6 else "white"
        axis.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axis, label="share of the row", shrink=0.8)
    save_figure(figure, path)


def _name_columns(axis: Any, names: Sequence[str], what: str) -> None:
    if len(names) <= MOST_NAMES:
        labels, style = user_texts(names)
        axis.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=8, **style)
    else:
        axis.set_xlabel(what)
