"""Pictures of restored spectrograms: panels of the masked input, original, reconstruction and error.

Time is in seconds, frequency in hertz (with the spacing of the front-end's bands), level in decibels: a log-mel of x ln
units is x * 10 / ln 10 dB of power.  If the front-end standardises each recording (M3BERT's), levels are in standard
deviations; levels of unknown features are shown in their own unit.  The first three panels have the same range of
levels; the error panel shows the outline of the mask.  Only log-mel bands are drawn, not chroma or MFCC.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.plots.figure import new_figure, save_figure, user_text

DECIBELS = 10.0 / math.log(10.0)
"""Decibels of power in one ln unit."""
RANGE = 80.0
"""Range of the colour scale below the loudest cell, in decibels."""
ERROR_RANGE = 20.0
"""Range of the colour scale of errors, in decibels."""
MARK_HEIGHT = 0.06
"""Smallest distance of frequency labels, as a share of the panel."""


def mel_columns(feature_names: list[str]) -> NDArray[np.int64]:
    """Columns of the log-mel bands among the features, or all columns if none is named ``mel ...``."""
    columns = np.array([column for column, name in enumerate(feature_names) if name.split()[0] == "mel"], np.int64)
    return columns if len(columns) else np.arange(len(feature_names))


def unit_of(front_end: dict[str, Any], feature_names: list[str]) -> str:
    """The unit of a picture: ``dB``, ``deviations of the clip`` or, for unknown features, ``value``.

    Parameters
    ----------
    front_end : dict
        Settings of the front-end that made the features.
    feature_names : list of str
    """
    if front_end.get("normalisation") == "clip":
        return "deviations of the clip"
    return "dB" if any(name.split()[0] == "mel" for name in feature_names) else "value"


def draw_spectrograms(
    path: str | os.PathLike[str] | None,
    *,
    masked: NDArray[np.floating[Any]],
    original: NDArray[np.floating[Any]],
    restored: NDArray[np.floating[Any]],
    target_mask: NDArray[np.integer[Any]],
    frame_rate: float,
    frequencies: NDArray[np.floating[Any]] | None = None,
    title: str = "",
    start: float = 0.0,
    unit: str = "dB",
) -> NDArray[np.uint8]:
    """Draw an excerpt, and, with a path, save the picture.

    Parameters
    ----------
    path : path or None
        A file whose suffix is the format (``.png``, ``.svg``, ``.pdf``).
    masked, original, restored : float [T, F]
        In ln units if ``unit`` is ``dB``, else in that unit; ``masked`` is NaN for masked cells.
    target_mask : int [T, F]
        Not 0 for cells to restore; the others are shown as in ``original``.
    frame_rate : float
        Frames per second.
    frequencies : float [F], optional
        Centre of each band in hertz, ascending.
    title : str
    start : float
        Time of the first frame, in seconds.
    unit : str
        Unit of the levels, see :func:`unit_of`.

    Returns
    -------
    uint8 [height, width, 3]
        The picture's pixels.

    Raises
    ------
    OptionError
        matplotlib is not installed, or the file cannot be written.
    """
    hidden = target_mask > 0
    scale = DECIBELS if unit == "dB" else 1.0
    levels = {
        "masked input": masked * scale,
        "original": original * scale,
        "reconstruction (masked cells)": np.where(hidden, restored, original) * scale,
    }
    loudest, quietest = float(np.nanmax(levels["original"])), float(np.nanmin(levels["original"]))
    largest_error = (loudest - quietest) / 2 or 1.0
    if unit == "dB":
        quietest, largest_error = max(quietest, loudest - RANGE), ERROR_RANGE
    error = np.where(hidden, np.abs(restored - original), np.nan) * scale

    figure = new_figure(10, 9, dpi=80)
    axes = figure.subplots(4, 1, sharex=True)
    frames, bands = original.shape
    extent = (start, start + frames / frame_rate, -0.5, bands - 0.5)
    common: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": extent, "interpolation": "nearest"}
    for axis, (name, values) in zip(axes, levels.items(), strict=False):
        axis.set_facecolor("0.85")
        image = axis.imshow(values.T, vmin=quietest, vmax=loudest, cmap="magma", **common)
        axis.set_title(name, fontsize=10, loc="left")
        figure.colorbar(image, ax=axis, label=unit, pad=0.01)
    axes[3].set_facecolor("0.95")
    image = axes[3].imshow(error.T, vmin=0, vmax=largest_error, cmap="viridis", **common)
    mean = float(np.nanmean(error)) if hidden.any() else 0.0
    axes[3].set_title(f"absolute error (mean {mean:.2g} {unit})", fontsize=10, loc="left")
    figure.colorbar(image, ax=axes[3], label=unit, pad=0.01, extend="max")
    if hidden.any() and not hidden.all():
        axes[3].contour(hidden.T, levels=[0.5], colors="k", linewidths=0.5, extent=extent)
    for axis in axes:
        _frequency_axis(axis, frequencies)
    axes[3].set_xlabel("time (s)")
    if title:
        text, style = user_text(title)
        figure.suptitle(text, fontsize=11, **style)
    figure.canvas.draw()
    if path is not None:
        save_figure(figure, path)
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _frequency_axis(axis: Any, frequencies: NDArray[np.floating[Any]] | None) -> None:
    """Label the axis with round frequencies, or, if there are none, as features."""
    if frequencies is None or not np.isfinite(frequencies).all() or len(frequencies) < 2:
        axis.set_ylabel("feature")
        return
    rounds = [f for f in (100, 200, 500, 1000, 2000, 5000, 10000) if frequencies[0] <= f <= frequencies[-1]]
    heights = np.interp(rounds, frequencies, np.arange(len(frequencies)))
    shown = np.diff(heights, prepend=-np.inf) > MARK_HEIGHT * len(frequencies)
    labels = [f"{frequency:,}" for frequency, kept in zip(rounds, shown, strict=True) if kept]
    axis.set_yticks(heights[shown], labels, fontsize=8)
    axis.set_ylabel("frequency (Hz)")
