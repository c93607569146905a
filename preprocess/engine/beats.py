"""Beats in seconds, and the re-timing of a score onto them.

The ticks of a recorded or transcribed performance may have nothing to do with its beats: in POP909 the onsets lie 0.26
of a sixteenth off the nearest sixteenth of the ticks, which is what chance gives, and 0.02 off that of the annotated
beats.  :func:`retimed` moves every time linearly between the two beats that enclose it, so that beats are whole quarter
notes, and writes the time signatures that the annotated bar lines mean.

A beat file has a line per beat: its time in seconds of the MIDI file and, in any further columns, numbers; the last
column is 1 where the beat begins a bar and else 0 (POP909's ``beat_midi.txt``: time, every second beat, bar).  Without
further columns bars have four beats.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.score import Score, seconds_of
from musicbert_plugin.errors import ScoreError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RESOLUTION = 480  # ticks per quarter note of re-timed scores
REASON = "beats miss notes"
LEAST_INSIDE = 0.9  # share of the notes that must begin between the beats, or within MARGIN of them
MARGIN = 8  # beats
DEFAULT_BAR = 4  # beats, where nothing tells


class Beats(NamedTuple):
    """Annotated beats.

    Attributes
    ----------
    seconds : float64 [B]
        Ascending; B is at least 2.
    bar_begins : bool [B]
        Whether the beat begins a bar.
    """

    seconds: Floats
    bar_begins: NDArray[np.bool_]


def parse_beats(text: str, name: str) -> Beats:
    """The beats of a file.

    Raises
    ------
    ScoreError
        Reason ``"bad annotation"``: it has another form, or fewer than two beats, or beats that do not ascend.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    try:
        table = np.array(rows, np.float64)
    except ValueError:
        table = np.empty((0, 0))
    if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
        raise ScoreError(
            "bad annotation", f"{name}: two lines or more of a beat's seconds, and numbers behind them, are needed."
        )
    seconds = table[:, 0]
    if len(wrong := np.flatnonzero(np.diff(seconds) <= 0)):
        line = int(wrong[0]) + 2
        raise ScoreError("bad annotation", f"{name}, line {line}: beat {seconds[line - 1]:g} does not follow the last.")
    begins = table[:, -1] == 1 if table.shape[1] > 1 else np.arange(len(table)) % DEFAULT_BAR == 0
    return Beats(seconds, begins)


def beat_of(beats: Beats, seconds: Floats) -> Floats:
    """Times in seconds as numbers of beats from the first one, linear between beats and as the nearest two outside."""
    times = beats.seconds
    first = np.clip(np.searchsorted(times, seconds, side="right") - 1, 0, len(times) - 2)
    return first + (seconds - times[first]) / (times[first + 1] - times[first])


def retimed(score: Score, beats: Beats, name: str) -> Score:
    """The score with beats as quarter notes, the tempo of the median beat, and the annotated bars.

    Whole beats are put before the first one until no note precedes them and the first bar line is a multiple of four
    beats from the beginning.  The last bar has the length of the one before it.

    Raises
    ------
    ScoreError
        Reason :data:`REASON`: more than a tenth of the notes begin over eight beats before the first or after the last
        beat, so that the annotation belongs to other music.
    """
    onset = beat_of(beats, seconds_of(score, score.onset))
    inside = (onset >= -MARGIN) & (onset < len(beats.seconds) + MARGIN)
    if inside.mean() < LEAST_INSIDE:
        raise ScoreError(
            REASON,
            f"{name}: {np.count_nonzero(~inside):,} of {len(score):,} notes begin outside its beats, which go from "
            f"{beats.seconds[0]:.2f} to {beats.seconds[-1]:.2f} seconds.",
        )
    end = beat_of(beats, seconds_of(score, score.end))
    lines = np.flatnonzero(beats.bar_begins)
    lines = lines if len(lines) else np.zeros(1, np.int64)
    before = max(0, math.ceil(-float(onset.min())))
    before += -(before + int(lines[0])) % DEFAULT_BAR
    ticks = [_ticks(times + before) for times in (onset, end)]
    pedal = score.pedal
    if pedal is not None:
        pressed = _ticks(beat_of(beats, seconds_of(score, pedal.tick)) + before)
        pedal = pedal._replace(tick=np.maximum(pressed, 0))
    meter_tick, numerator = _bars(lines + before)
    tempo = 60.0 / float(np.median(np.diff(beats.seconds)))
    return replace(
        score,
        resolution=RESOLUTION,
        onset=ticks[0],
        end=np.maximum(ticks[1], ticks[0]),
        tempo_tick=np.zeros(1, np.int64),
        tempo_bpm=np.array([tempo]),
        meter_tick=meter_tick,
        meter_numerator=numerator,
        meter_denominator=np.full(len(numerator), 4),
        end_tick=0,
        pedal=pedal,
    )


def _ticks(beat: Floats) -> Ints:
    return np.rint(beat * RESOLUTION).astype(np.int64)


def _bars(lines: Ints) -> tuple[Ints, Ints]:
    """Ticks and numerators of time signatures for bar lines at these beats; bars of four beats lead to the first."""
    lengths = np.diff(lines)
    lengths = np.append(lengths, lengths[-1] if len(lengths) else DEFAULT_BAR)
    begins, lengths = np.append(0, lines), np.append(DEFAULT_BAR, lengths)
    changes = np.append(True, lengths[1:] != lengths[:-1])
    return begins[changes] * RESOLUTION, lengths[changes]
