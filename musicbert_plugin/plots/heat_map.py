"""Heat maps of the correlation between the units of each layer and features of the sound."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.plots.figure import new_figure, save_figure, user_texts


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
    figure = new_figure(2.5 + 0.35 * min(len(names), 60), 1.5 + 0.4 * len(strength), dpi=100)
    axis = figure.subplots()
    image = axis.imshow(strength, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="lower")
    axis.set_ylabel("layer (0: input)")
    axis.set_yticks(range(len(strength)))
    if len(names) <= 60:
        labels, style = user_texts(names)
        axis.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=8, **style)
    else:
        axis.set_xlabel("feature")
    axis.set_title("closest unit of each layer", fontsize=10)
    figure.colorbar(image, ax=axis, label="|correlation|")
    save_figure(figure, path)
