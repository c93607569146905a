"""Descriptors: a piece or a segment as a row of named numbers, which a plain model can learn from.

They describe how something is played (velocity, timing, articulation, pedal) and what is played (register, density,
pitch classes, intervals).  A linear model or a random forest on them is a strong baseline for labels of whole pieces.

==========  ========================================================================================================
velocity    MIDI velocity, 1 to 127
            ``velocity_mean``, ``_std``, ``_p10``, ``_p90`` over notes;
            ``velocity_range``: largest minus smallest moving mean over an eighth of the groups (at least three);
            ``velocity_step``: mean absolute change of the mean velocity from group to group;
            ``velocity_melody``: mean of the highest notes of the groups minus mean of all other notes;
            ``velocity_register``: mean of the notes at or above the median pitch minus mean of those below;
            ``velocity_pitch``: correlation with pitch, -1 to 1
timing      natural logarithm of the seconds from group to group (inter-onset interval)
            ``interval_mean``, ``_std``, ``_p10``, ``_p90``;
            ``interval_change``: mean absolute difference of successive ones;
            ``interval_fluctuation``: the same where they differ by less than a factor of 1.4, which is rubato rather
            than rhythm;
            ``asynchrony_mean``, ``_std``: seconds from the first to the last onset of groups of two or more notes
duration    natural logarithm of the seconds that a note is held
            ``duration_mean``, ``_std``, ``_p10``, ``_p90``;
            ``articulation_mean``, ``_std``: natural logarithm of duration over the time to the next group (the end of
            the music, for the last): below 0 detached, above 0 overlapping
register    MIDI pitch
            ``pitch_mean``, ``_std``, ``_p10``, ``_p90``; ``pitch_melody``: mean of the highest notes of the groups;
            ``pitch_range``: highest minus lowest
density     ``seconds``: natural logarithm of the length, from the first onset to the last end;
            ``notes_per_second``: natural logarithm; ``notes_per_group``: mean;
            ``polyphony``: mean number of notes that are held; ``silence``: share of the time at which none is;
            ``drums``: share of notes that are drums
harmony     shares of the held time
            ``pitch_class_0`` to ``_11``: semitones above the tonic; ``minor``: 1 in a minor key, else 0 (both of
            :func:`~musicbert_plugin.codecs.remi.key_of`); ``pitch_class_entropy``: nats
intervals   shares of the steps between the highest notes of successive groups, in semitones up or down
            ``melody_0``, ``_1_2``, ``_3_4``, ``_5_7``, ``_8_12``, ``_13``: the last is 13 and more;
            ``melody_up``: share that ascends
            and shares of neighbouring notes of a group, by their interval modulo the octave
            ``chord_octave`` (0), ``chord_second`` (1, 2, 10, 11), ``chord_third`` (3, 4), ``chord_fourth`` (5),
            ``chord_tritone`` (6), ``chord_fifth`` (7), ``chord_sixth`` (8, 9)
pedal       the sustain pedal, which is down at values from 64 on
            ``pedal_down``: share of the time; ``pedal_depth``: mean of its value / 127 over time;
            ``pedal_presses``: number per second; ``pedal_length_mean``, ``_std`` and ``pedal_gap``: natural
            logarithm of the seconds that it is down at a time, and up between two presses;
            ``pedal_delay``: mean seconds, at most 1, from the latest group to a press;
            ``pedal_held``: share of notes that end while it is down;
            ``sustained_mean``, ``_p10``: as ``duration_mean``, with notes lasting as long as the pedal holds them
==========  ========================================================================================================

A **group** is what sounds as one chord: notes of which each begins at most 50 ms after the one before.  ``_p10`` and
``_p90`` are percentiles.  Drums count in velocity, timing, duration and density; register, harmony and intervals are
those of the other notes.  Seconds follow the tempo changes of the score, and times below 1 ms count as 1 ms in
logarithms.  A number with nothing to measure (a correlation of one note, the register of drums alone) is 0.

The pedals of all tracks are taken as one, in the order of time.  A score without a pedal (one decoded from octuples,
say) gets the numbers of a piece in which it is never pressed; :data:`PEDAL` has their names, to leave them out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.remi import key_of
from musicbert_plugin.codecs.score import DRUMS, Score, seconds_of
from musicbert_plugin.errors import ScoreError

NAMES = (
    "velocity_mean", "velocity_std", "velocity_p10", "velocity_p90", "velocity_range", "velocity_step",
    "velocity_melody", "velocity_register", "velocity_pitch",
    "interval_mean", "interval_std", "interval_p10", "interval_p90", "interval_change", "interval_fluctuation",
    "asynchrony_mean", "asynchrony_std",
    "duration_mean", "duration_std", "duration_p10", "duration_p90", "articulation_mean", "articulation_std",
    "pitch_mean", "pitch_std", "pitch_p10", "pitch_p90", "pitch_melody", "pitch_range",
    "seconds", "notes_per_second", "notes_per_group", "polyphony", "silence", "drums",
    *(f"pitch_class_{semitones}" for semitones in range(12)), "minor", "pitch_class_entropy",
    "melody_0", "melody_1_2", "melody_3_4", "melody_5_7", "melody_8_12", "melody_13", "melody_up",
    "chord_octave", "chord_second", "chord_third", "chord_fourth", "chord_tritone", "chord_fifth", "chord_sixth",
    "pedal_down", "pedal_depth", "pedal_presses", "pedal_length_mean", "pedal_length_std", "pedal_gap", "pedal_delay",
    "pedal_held", "sustained_mean", "sustained_p10",
)  # fmt: skip
"""The names of the descriptors, in their order."""
PEDAL = NAMES[NAMES.index("pedal_down") :]
"""The names of those that the pedal changes, which are the last ones."""

GROUP_GAP = 0.05  # seconds
SHORTEST = 0.001  # seconds
LONGEST_DELAY = 1.0  # seconds
RUBATO = np.log(1.4)
_ROUNDING = 1e-9  # so that ratios of whole ticks do not depend on the rounding of seconds
DOWN = 64  # smallest value of a pedal that is down
_MELODY_STEPS = np.array([0, 1, 3, 5, 8, 13])  # first semitone of each class
_CHORD_CLASSES = np.array([0, 1, 1, 2, 2, 3, 4, 5, 6, 6, 1, 1])  # of an interval modulo the octave

Array = NDArray[np.float64]


class _Notes(NamedTuple):
    """Notes sorted by (onset, pitch), with times in seconds, and their groups, [N] each.

    ``first`` (int64 [G]) is the index of the first note of each group.
    """

    onset: Array
    end: Array
    pitch: Array
    velocity: Array
    group: NDArray[np.int64]
    first: NDArray[np.int64]

    @property
    def duration(self) -> Array:
        return np.maximum(self.end - self.onset, SHORTEST)

    @classmethod
    def of(cls, onset: Array, end: Array, pitch: Array, velocity: Array) -> _Notes:
        """From notes in any order."""
        order = np.lexsort((pitch, onset))
        onset = onset[order]
        begins = np.diff(onset, prepend=-np.inf) > GROUP_GAP + _ROUNDING
        return cls(
            onset, end[order], pitch[order], velocity[order], np.cumsum(begins) - 1, np.flatnonzero(begins)
        )  # fmt: skip


def descriptors(score: Score) -> Array:
    """The descriptors of a score.

    Parameters
    ----------
    score : Score
        With at least one note.

    Returns
    -------
    float64 [len(NAMES)]
        Finite; their meanings and units are those of the module.

    Raises
    ------
    ScoreError
        Reason ``"no notes"``.
    """
    if not len(score):
        raise ScoreError("no notes", "a score without notes has no descriptors.")
    onset, end = seconds_of(score, score.onset), seconds_of(score, score.end)
    pitch, velocity = score.pitch.astype(np.float64), score.velocity.astype(np.float64)
    melodic = score.program != DRUMS
    notes = _Notes.of(onset, end, pitch, velocity)
    pitched = _Notes.of(onset[melodic], end[melodic], pitch[melodic], velocity[melodic])
    values = {
        **_statistics("velocity", notes.velocity),
        **_velocity(notes, pitched),
        **_timing(notes),
        **_durations(notes),
        **_register(pitched),
        **_density(notes, float(1 - melodic.mean())),
        **_harmony(pitched),
        **_melody(pitched),
        **_chords(pitched),
        **_pedal(score, notes),
    }
    return np.array([values[name] for name in NAMES])


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else 0.0


def _deviation(values: Array) -> float:
    return float(values.std()) if len(values) else 0.0


def _log(values: Array | float) -> Any:
    return np.log(np.maximum(values, SHORTEST))


def _statistics(name: str, values: Array) -> dict[str, float]:
    low, high = np.percentile(values, [10, 90]) if len(values) else (0.0, 0.0)
    return {
        f"{name}_mean": _mean(values),
        f"{name}_std": _deviation(values),
        f"{name}_p10": float(low),
        f"{name}_p90": float(high),
    }


def _correlation(first: Array, second: Array) -> float:
    """Pearson's correlation; 0 if one of them is constant."""
    if not len(first) or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _highest(notes: _Notes) -> Array:
    """The highest pitch of each group, [G]."""
    return np.maximum.reduceat(notes.pitch, notes.first) if len(notes.first) else notes.pitch


def _difference(values: Array, chosen: NDArray[np.bool_]) -> float:
    """Mean of the chosen values minus mean of the others; 0 if one of the two is empty."""
    return _mean(values[chosen]) - _mean(values[~chosen]) if chosen.any() and not chosen.all() else 0.0


def _velocity(notes: _Notes, pitched: _Notes) -> dict[str, float]:
    per_group = np.bincount(notes.group, notes.velocity) / np.bincount(notes.group)
    width = min(max(3, len(per_group) // 8), len(per_group))
    sums = np.concatenate(([0.0], np.cumsum(per_group)))
    smooth = (sums[width:] - sums[:-width]) / width
    melody = pitched.pitch == _highest(pitched)[pitched.group]
    upper = pitched.pitch >= np.median(pitched.pitch) if len(pitched.pitch) else melody
    return {
        "velocity_range": float(np.ptp(smooth)),
        "velocity_step": _mean(np.abs(np.diff(per_group))),
        "velocity_melody": _difference(pitched.velocity, melody),
        "velocity_register": _difference(pitched.velocity, upper),
        "velocity_pitch": _correlation(pitched.velocity, pitched.pitch),
    }


def _timing(notes: _Notes) -> dict[str, float]:
    interval = _log(np.diff(notes.onset[notes.first]))
    change = np.abs(np.diff(interval))
    size = np.diff(notes.first, append=len(notes.onset))
    spread = (notes.onset[notes.first + size - 1] - notes.onset[notes.first])[size > 1]
    return {
        **_statistics("interval", interval),
        "interval_change": _mean(change),
        "interval_fluctuation": _mean(change[change < RUBATO - _ROUNDING]),
        "asynchrony_mean": _mean(spread),
        "asynchrony_std": _deviation(spread),
    }


def _durations(notes: _Notes) -> dict[str, float]:
    next_group = np.append(notes.onset[notes.first], notes.end.max())[notes.group + 1]
    articulation = np.log(notes.duration) - _log(next_group - notes.onset)
    return {
        **_statistics("duration", np.log(notes.duration)),
        "articulation_mean": _mean(articulation),
        "articulation_std": _deviation(articulation),
    }


def _register(pitched: _Notes) -> dict[str, float]:
    return {
        **_statistics("pitch", pitched.pitch),
        "pitch_melody": _mean(_highest(pitched)),
        "pitch_range": float(np.ptp(pitched.pitch)) if len(pitched.pitch) else 0.0,
    }


def _length(notes: _Notes) -> float:
    """Seconds from the first onset to the last end, at least :data:`SHORTEST`."""
    return max(float(notes.end.max() - notes.onset[0]), SHORTEST)


def _density(notes: _Notes, drums: float) -> dict[str, float]:
    length = _length(notes)
    held_until = np.maximum.accumulate(notes.end)
    silence = np.maximum(notes.onset[1:] - held_until[:-1], 0).sum()
    return {
        "seconds": float(np.log(length)),
        "notes_per_second": float(np.log(len(notes.onset) / length)),
        "notes_per_group": len(notes.onset) / len(notes.first),
        "polyphony": float((notes.end - notes.onset).sum()) / length,
        "silence": float(silence) / length,
        "drums": drums,
    }


def _harmony(pitched: _Notes) -> dict[str, float]:
    pitch = pitched.pitch.astype(np.int64)
    # Of pitches of one octave, so that every shift fits; whole milliseconds add up the same in any order.
    shift, major = key_of(pitch % 12 + 60, np.rint(pitched.duration * 1000))
    tonic = (-shift if major else 9 - shift) % 12
    share = np.bincount((pitch - tonic) % 12, pitched.duration, 12)
    share = share / (share.sum() or 1.0)
    present = share[share > 0]
    return {
        **{f"pitch_class_{semitones}": float(share[semitones]) for semitones in range(12)},
        "minor": float(major is False),
        "pitch_class_entropy": float(-(present * np.log(present)).sum()),
    }


def _shares(classes: NDArray[np.int64], count: int) -> Array:
    """The share of each class, float64 [count]; zeros without any."""
    return np.bincount(classes, minlength=count) / max(len(classes), 1)


def _melody(pitched: _Notes) -> dict[str, float]:
    step = np.diff(_highest(pitched))
    share = _shares(np.searchsorted(_MELODY_STEPS, np.abs(step), side="right") - 1, len(_MELODY_STEPS))
    names = [name for name in NAMES if name.startswith("melody_") and name != "melody_up"]
    return {**dict(zip(names, share.tolist(), strict=True)), "melody_up": _mean((step > 0).astype(np.float64))}


def _chords(pitched: _Notes) -> dict[str, float]:
    order = np.lexsort((pitched.pitch, pitched.group))
    interval = np.diff(pitched.pitch[order])[np.diff(pitched.group[order]) == 0].astype(np.int64)
    share = _shares(_CHORD_CLASSES[interval % 12], int(_CHORD_CLASSES.max()) + 1)
    names = [name for name in NAMES if name.startswith("chord_")]
    return dict(zip(names, share.tolist(), strict=True))


def _pedal(score: Score, notes: _Notes) -> dict[str, float]:
    tick = np.zeros(0, np.int64) if score.pedal is None else score.pedal.tick
    value = np.zeros(0) if score.pedal is None else score.pedal.value.astype(np.float64)
    start, stop = float(notes.onset[0]), float(notes.end.max())
    length = _length(notes)
    time = seconds_of(score, tick)
    # Depth over the music: the value of each event until the next one, 0 before the first.
    within = np.clip(np.append(time, stop), start, stop)
    depth = float(value / 127 @ np.diff(within)) / length

    is_down = value >= DOWN
    press = np.flatnonzero(np.diff(is_down, prepend=False) & is_down)
    release = np.flatnonzero(np.diff(is_down, prepend=False) & ~is_down)
    pressed = time[press]
    released = np.append(time[release], max(stop, time[-1]) if len(time) else stop)[: len(pressed)]
    sounding = np.maximum(released.clip(start, stop) - pressed.clip(start, stop), 0.0)

    latest = np.searchsorted(notes.onset[notes.first], pressed, side="right") - 1
    delay = (pressed - notes.onset[notes.first][latest])[latest >= 0]

    span = np.searchsorted(pressed, notes.end, side="right") - 1  # the last press up to the end of each note
    until = np.append(released, -np.inf)[span]
    held = until > notes.end
    sustained = _log(np.where(held, until, notes.end) - notes.onset)
    lengths = _log(released - pressed)
    return {
        "pedal_down": float(sounding.sum()) / length,
        "pedal_depth": depth,
        "pedal_presses": len(pressed) / length,
        "pedal_length_mean": _mean(lengths),
        "pedal_length_std": _deviation(lengths),
        "pedal_gap": _mean(_log(pressed[1:] - released[:-1])),
        "pedal_delay": _mean(np.minimum(delay, LONGEST_DELAY)),
        "pedal_held": float(held.mean()),
        "sustained_mean": _mean(sustained),
        "sustained_p10": float(np.percentile(sustained, 10)),
    }
