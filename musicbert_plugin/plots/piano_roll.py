"""Piano rolls: pictures of scores, one panel below the other on a common time axis.

The axes are time in bars (or quarter notes) and pitch.  A note is a rectangle from onset to end in the colour of its
program; drums are grey, at the pitch of their keys.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.plots.figure import new_figure, save_figure, user_text

PITCH_CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
_DRUM_COLOUR = "0.35"


@dataclass(frozen=True)
class Panel:
    """The title and score of a piano roll, and the notes to emphasise (bool [N], or None for all)."""

    title: str
    score: Score
    emphasis: np.ndarray | None = None


def draw_piano_rolls(
    panels: list[Panel],
    path: str | os.PathLike[str],
    *,
    bar_lines: np.ndarray | None = None,
    first_bar: int = 1,
    shaded: tuple[float, float] | None = None,
    title: str = "",
) -> None:
    """Draw scores below one another, and save the picture.

    Parameters
    ----------
    panels : list of Panel
        Scores of equal resolution.
    path : path
        A file whose suffix is the format (``.png``, ``.svg``, ``.pdf``).
    bar_lines : int [K], optional
        Ticks of the bar lines, which limit the time axis; without them, time is in quarter notes.
    first_bar : int
        Number of the bar that begins at the first bar line.
    shaded : (first tick, last tick), optional
        A time range to shade in every panel.
    title : str
        Title of the figure.

    Raises
    ------
    OptionError
        matplotlib is not installed, or the file cannot be written.
    """
    figure = new_figure(11, 1.0 + 2.1 * len(panels), dpi=120)
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    programs = np.unique(np.concatenate([panel.score.program for panel in panels]))
    palette = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f", "#bcbd22")
    melodic = [int(program) for program in programs if program != DRUMS]
    colours = {program: palette[i % len(palette)] for i, program in enumerate(melodic)} | {DRUMS: _DRUM_COLOUR}

    pitches = np.concatenate([panel.score.pitch for panel in panels])
    low, high = (int(pitches.min()) - 2, int(pitches.max()) + 2) if len(pitches) else (58, 74)
    resolution = panels[0].score.resolution
    if bar_lines is None or len(bar_lines) < 2:
        last = max([int(panel.score.end.max()) for panel in panels if len(panel.score)], default=resolution)
        begin, stop = 0, last
    else:
        begin, stop = int(bar_lines[0]), int(bar_lines[-1])

    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        score = panel.score
        emphasis = np.ones(len(score), bool) if panel.emphasis is None else panel.emphasis
        right = np.maximum(score.end, score.onset + resolution // 16)
        bottom, top = score.pitch - 0.42, score.pitch + 0.42
        corners = np.stack([score.onset, bottom, score.onset, top, right, top, right, bottom], axis=1)
        for program in programs.tolist():
            for strong in (False, True):
                rows = (score.program == program) & (emphasis == strong)
                if rows.any():
                    colour = colours[program]
                    shapes = PolyCollection(
                        list(corners[rows].reshape(-1, 4, 2)),
                        facecolors=colour,
                        alpha=1.0 if strong else 0.35,
                        edgecolors="black" if strong and panel.emphasis is not None else "none",
                        linewidths=0.6,
                    )
                    axis.add_collection(shapes)
        if shaded is not None:
            axis.axvspan(*shaded, color="#f0e442", alpha=0.25, zorder=0)
        axis.set_xlim(begin, stop)
        axis.set_ylim(low, high)
        octaves = np.arange(low + (-low) % 12, high, 12)
        axis.set_yticks(octaves, [f"{PITCH_CLASSES[0]}{int(pitch) // 12 - 1}" for pitch in octaves])
        axis.grid(axis="y", alpha=0.25)
        axis.set_ylabel("pitch")
        text, style = user_text(panel.title)
        axis.set_title(text, loc="left", fontsize=10, **style)
        if bar_lines is not None and len(bar_lines) >= 2:
            step = max(1, len(bar_lines) // 24)
            axis.set_xticks(bar_lines[:-1:step], [str(first_bar + i) for i in range(0, len(bar_lines) - 1, step)])
            axis.grid(axis="x", alpha=0.5)
        else:
            beats = np.arange(begin, stop + 1, resolution * max(1, (stop - begin) // resolution // 24))
            axis.set_xticks(beats, [str(int(beat) // resolution) for beat in beats])
    axes[-1].set_xlabel("bar" if bar_lines is not None else "quarter note")
    handles = [Patch(color=colours[int(p)], label="drums" if p == DRUMS else f"program {p}") for p in programs[:9]]
    if len(programs) > 1:
        axes[0].legend(handles=handles, loc="upper right", fontsize=7, ncols=min(len(handles), 5))
    if title:
        text, style = user_text(title)
        figure.suptitle(text, fontsize=11, **style)
    save_figure(figure, path)
