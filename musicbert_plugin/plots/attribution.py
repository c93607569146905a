"""A picture of what a prediction is made of: the notes of a piece, its bars, and the fields of its bars."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.plots.figure import new_figure, save_figure, user_text

COLOURS = "RdBu_r"


def draw_attribution(
    onset: NDArray[np.float64],
    end: NDArray[np.float64],
    pitch: NDArray[np.int64],
    contributions: NDArray[np.float64],
    bars: NDArray[np.float64],
    occlusion: NDArray[np.float64],
    fields: Sequence[str],
    path: str | os.PathLike[str],
    title: str = "",
) -> None:
    """Draw a piano roll in the colours of contributions (red for, blue against), above bars and their fields.

    Parameters
    ----------
    onset, end : float64 [N]
        In bars from 0.
    pitch : int64 [N]
    contributions : float64 [N]
        Of each note.
    bars : float64 [bars, F]
        Of each field of each bar.
    occlusion : float64 [bars]
    fields : sequence of str [F]
    path : path
        A file whose suffix is the format (``.png``, ``.svg``, ``.pdf``).
    title : str

    Raises
    ------
    OptionError
        matplotlib is not installed, or the file cannot be written.
    """
    figure = new_figure(11, 7, dpi=110)
    from matplotlib.collections import PolyCollection

    roll, strip, table = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.2, 1.6))
    right = np.maximum(end, onset + 1 / 32)
    corners = np.stack(
        [onset, pitch - 0.45, onset, pitch + 0.45, right, pitch + 0.45, right, pitch - 0.45], axis=1
    ).reshape(-1, 4, 2)  # fmt: skip
    notes = PolyCollection(list(corners), cmap=COLOURS, edgecolors="0.6", linewidths=0.3)
    largest = float(np.abs(contributions).max(initial=0)) or 1.0
    notes.set_array(contributions)
    notes.set_clim(-largest, largest)
    roll.add_collection(notes)
    roll.set_xlim(0, len(bars))
    roll.set_ylim(int(pitch.min()) - 2, int(pitch.max()) + 2)
    roll.set_ylabel("pitch")
    figure.colorbar(notes, ax=roll, label="contribution")
    if title:
        text, style = user_text(title)
        roll.set_title(text, loc="left", fontsize=10, **style)

    middle = np.arange(len(bars)) + 0.5
    strip.bar(middle - 0.2, bars.sum(axis=1), width=0.4, color="#d55e00", label="integrated gradients")
    strip.bar(middle + 0.2, occlusion, width=0.4, color="#0072b2", label="occlusion")
    strip.axhline(0, color="0.3", linewidth=0.6)
    strip.set_ylabel("bar")
    strip.legend(fontsize=7, ncols=2)

    strongest = float(np.abs(bars).max(initial=0)) or 1.0
    image = table.imshow(
        bars.T, cmap=COLOURS, vmin=-strongest, vmax=strongest, aspect="auto", extent=(0, len(bars), len(fields), 0)
    )
    table.set_yticks(np.arange(len(fields)) + 0.5, [name.replace("_", " ") for name in fields], fontsize=7)
    table.set_xlabel("bar")
    figure.colorbar(image, ax=table)
    step = max(1, len(bars) // 24)
    table.set_xticks(middle[::step], [str(bar + 1) for bar in range(0, len(bars), step)])
    save_figure(figure, path)
