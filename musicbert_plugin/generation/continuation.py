"""A prompt and the music that a model wrote after it, as one score in which the prompt is as it was.

The prompt's words are an approximation of it: they lack leading rests and have coarser times, tempi and velocities.  So
only the music after them is decoded; it begins at the bar line after the prompt.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.octuple import TEMPO_VALUES, tempo_code
from musicbert_plugin.codecs.remi import POSITIONS_PER_QUARTER
from musicbert_plugin.codecs.score import Score

Events = list[tuple[int, Any]]
"""Ticks, ascending, and the value in effect from each."""


def prompt_bars(score: Score, end_tick: int) -> Score:
    """The music of a score before a bar line: notes that begin, and changes that lie before it."""
    tempi, meters = score.tempo_tick < end_tick, score.meter_tick < end_tick
    return replace(
        score.select(score.onset < end_tick),
        tempo_tick=score.tempo_tick[tempi],
        tempo_bpm=score.tempo_bpm[tempi],
        meter_tick=score.meter_tick[meters],
        meter_numerator=score.meter_numerator[meters],
        meter_denominator=score.meter_denominator[meters],
        keys=tuple(key for key in score.keys if key[0] < end_tick),
        end_tick=end_tick,
    )


def continued(prompt: Score, music: Score, begin: int, *, tempi: bool) -> tuple[Score, NDArray[np.bool_]]:
    """Join a prompt and its continuation.

    A tempo whose code (see :func:`.octuple.tempo_code`) is that of a tempo of the prompt is that tempo.  The resolution
    is that of the prompt, or a multiple in which twelfths of a quarter note are whole ticks; if this exceeds
    32,767, the limit of MIDI, it stays that of the prompt and new times are rounded.

    Parameters
    ----------
    prompt : Score
        Whole bars, up to its ``end_tick``; see :func:`prompt_bars`.
    music : Score
        The decoded words of the prompt and the continuation.
    begin : int
        The tick of ``music`` at which the continuation begins.
    tempi : bool
        Whether the layout has words for tempi; otherwise the prompt's last tempo stays in effect.

    Returns
    -------
    Score, bool [N]
        The notes and key signatures of the prompt, which are unchanged, and the notes of the continuation; and which
        notes are of the latter.  New notes are in the track of the prompt's first note of their program, or in a track
        for their program.
    """
    factor = POSITIONS_PER_QUARTER // gcd(prompt.resolution, POSITIONS_PER_QUARTER)
    prompt = prompt.finer(1 if factor * prompt.resolution > 32767 else factor)
    resolution, start = prompt.resolution, prompt.end_tick

    def moved(ticks: Any) -> Any:
        return start + np.rint((ticks - begin) * (resolution / music.resolution)).astype(np.int64)

    new = music.select(music.onset >= begin)
    values = [120.0, *prompt.tempo_bpm.tolist()]
    exact = dict(zip(TEMPO_VALUES[tempo_code(np.array(values))].tolist(), values, strict=True))  # of a code, the latest
    written = [(tick, exact.get(value, value)) for tick, value in _from(begin, _tempi(music), 120.0)]
    tempo = _joined(_tempi(prompt), written if tempi else [], 120.0, moved)
    meter = _joined(_meters(prompt), _from(begin, _meters(music), (4, 4)), (4, 4), moved)
    columns = {name: np.concatenate([getattr(prompt, name), getattr(new, name)]) for name in ("pitch", "velocity")}
    joined = replace(
        prompt,
        onset=np.concatenate([prompt.onset, moved(new.onset)]),
        end=np.concatenate([prompt.end, np.maximum(moved(new.end), moved(new.onset) + 1)]),
        program=np.concatenate([prompt.program, new.program]),
        track=np.concatenate([prompt.track, _tracks(prompt, new.program)]),
        tempo_tick=np.array([tick for tick, _ in tempo], np.int64),
        tempo_bpm=np.array([value for _, value in tempo], np.float64),
        meter_tick=np.array([tick for tick, _ in meter], np.int64),
        meter_numerator=np.array([numerator for _, (numerator, _) in meter], np.int64),
        meter_denominator=np.array([denominator for _, (_, denominator) in meter], np.int64),
        end_tick=int(moved(max(music.end_tick, begin))),
        track_names=prompt.track_names[: int(prompt.track.max()) + 1] if len(prompt) else (),  # new tracks have none
        pedal=None,
        **columns,
    )
    return joined, np.arange(len(joined)) >= len(prompt)


def _tempi(score: Score) -> Events:
    return list(zip(score.tempo_tick.tolist(), score.tempo_bpm.tolist(), strict=True))


def _meters(score: Score) -> Events:
    meters = zip(score.meter_numerator.tolist(), score.meter_denominator.tolist(), strict=True)
    return list(zip(score.meter_tick.tolist(), meters, strict=True))


def _from(begin: int, events: Events, default: Any) -> Events:
    """The events from a tick on, at which the value in effect is stated."""
    before = [value for tick, value in events if tick <= begin]
    return [(begin, before[-1] if before else default), *(event for event in events if event[0] > begin)]


def _joined(before: Events, after: Events, default: Any, moved: Any) -> Events:
    """The events of the prompt as they are, and those after it that change the value in effect."""
    events = list(before)
    for tick, value in after:
        if value != (events[-1][1] if events else default):
            events.append((int(moved(tick)), value))
    return events


def _tracks(prompt: Score, programs: NDArray[np.int16]) -> NDArray[np.int32]:
    """The track of the prompt's first note of each program, or one after the prompt's tracks."""
    present, first = np.unique(prompt.program, return_index=True)
    others = np.setdiff1d(programs, present)
    tracks = np.zeros(129, np.int32)
    tracks[others] = np.arange(len(others)) + (int(prompt.track.max()) + 1 if len(prompt) else 0)
    tracks[present] = prompt.track[first]
    return tracks[programs]
