"""Descriptors against loops over notes, by hand, and on scores in which there is little to measure."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.codecs import descriptors as module
from musicbert_plugin.codecs.descriptors import NAMES, PEDAL, descriptors
from musicbert_plugin.codecs.remi import key_of
from musicbert_plugin.codecs.score import DRUMS, Pedal, Score, seconds_of
from musicbert_plugin.errors import ScoreError


def with_pedal(score: Score, events: list[tuple[int, int]]) -> Score:
    """The score with events of the sustain pedal, (tick, value)."""
    tick, value = np.array(events, np.int64).reshape(-1, 2).T
    return replace(score, pedal=Pedal(tick, value.astype(np.int16), np.zeros(len(tick), np.int32)))


def described(score: Score) -> dict[str, float]:
    return dict(zip(NAMES, descriptors(score).tolist(), strict=True))


def second(score: Score, tick: float) -> float:
    """The time of a tick, stepping through the tempo changes."""
    time, before, tempo = 0.0, 0, 120.0
    for change, new in zip(score.tempo_tick.tolist(), score.tempo_bpm.tolist(), strict=True):
        if change > tick:
            break
        time += (change - before) * 60 / tempo / score.resolution
        before, tempo = change, new
    return time + (tick - before) * 60 / tempo / score.resolution


def mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def deviation(values: list[float]) -> float:
    return statistics.pstdev(values) if values else 0.0


def percentile(values: list[float], share: float) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def log(seconds: float) -> float:
    return math.log(max(seconds, 0.001))


def in_groups(notes: list[tuple[float, float, int, int]]) -> list[list[tuple[float, float, int, int]]]:
    groups: list[list[tuple[float, float, int, int]]] = []
    for note in sorted(notes, key=lambda note: (note[0], note[2])):
        if not groups or note[0] - groups[-1][-1][0] > 0.05 + 1e-9:
            groups.append([])
        groups[-1].append(note)
    return groups


def by_loops(score: Score, events: list[tuple[int, int]]) -> dict[str, float]:
    """All descriptors, one note after the other."""
    every, pitched = [], []
    for row in range(len(score)):
        note = (second(score, int(score.onset[row])), second(score, int(score.end[row])))
        every.append((*note, int(score.pitch[row]), int(score.velocity[row])))
        if score.program[row] != DRUMS:
            pitched.append(every[-1])
    found: dict[str, float] = {}

    def describe(name: str, values: list[float]) -> None:
        found.update({f"{name}_mean": mean(values), f"{name}_std": deviation(values)})
        found.update({f"{name}_p10": percentile(values, 0.1), f"{name}_p90": percentile(values, 0.9)})

    groups, chords = in_groups(every), in_groups(pitched)
    describe("velocity", [note[3] for note in every])
    loudness = [mean([note[3] for note in group]) for group in groups]
    width = min(max(3, len(groups) // 8), len(groups))
    moving = [mean(loudness[start : start + width]) for start in range(len(groups) - width + 1)]
    found["velocity_range"] = max(moving) - min(moving)
    found["velocity_step"] = mean([abs(b - a) for a, b in zip(loudness, loudness[1:], strict=False)])
    top = [max(note[2] for note in chord) for chord in chords]
    melody = [note[3] for chord, pitch in zip(chords, top, strict=True) for note in chord if note[2] == pitch]
    rest = [note[3] for chord, pitch in zip(chords, top, strict=True) for note in chord if note[2] != pitch]
    found["velocity_melody"] = mean(melody) - mean(rest) if rest else 0.0
    middle = statistics.median([note[2] for note in pitched]) if pitched else 0
    lower = [note[3] for note in pitched if note[2] < middle]
    found["velocity_register"] = mean([note[3] for note in pitched if note[2] >= middle]) - mean(lower) if lower else 0
    pairs = [[note[2] for note in pitched], [note[3] for note in pitched]]
    varied = all(len(set(values)) > 1 for values in pairs)
    found["velocity_pitch"] = statistics.correlation(*pairs) if varied else 0.0

    start = [group[0][0] for group in groups]
    interval = [log(b - a) for a, b in zip(start, start[1:], strict=False)]
    describe("interval", interval)
    change = [abs(b - a) for a, b in zip(interval, interval[1:], strict=False)]
    found["interval_change"] = mean(change)
    found["interval_fluctuation"] = mean([value for value in change if value < math.log(1.4) - 1e-9])
    spread = [group[-1][0] - group[0][0] for group in groups if len(group) > 1]
    found["asynchrony_mean"], found["asynchrony_std"] = mean(spread), deviation(spread)

    last = max(note[1] for note in every)
    describe("duration", [log(note[1] - note[0]) for note in every])
    articulation = [
        log(note[1] - note[0]) - log(following - note[0])
        for group, following in zip(groups, [*start[1:], last], strict=True)
        for note in group
    ]
    found["articulation_mean"], found["articulation_std"] = mean(articulation), deviation(articulation)

    describe("pitch", [note[2] for note in pitched])
    found["pitch_melody"] = mean(top)
    found["pitch_range"] = max(note[2] for note in pitched) - min(note[2] for note in pitched) if pitched else 0

    length = max(last - start[0], 0.001)
    found["seconds"] = math.log(length)
    found["notes_per_second"] = math.log(len(every) / length)
    found["notes_per_group"] = len(every) / len(groups)
    found["polyphony"] = sum(note[1] - note[0] for note in every) / length
    silence, until = 0.0, start[0]
    for note in sorted(every):
        silence += max(note[0] - until, 0)
        until = max(until, note[1])
    found["silence"] = silence / length
    found["drums"] = 1 - len(pitched) / len(every)

    weight = [max(note[1] - note[0], 0.001) for note in pitched]
    octave = np.array([60 + note[2] % 12 for note in pitched], np.int64)
    shift, major = key_of(octave, np.array([float(round(1000 * held)) for held in weight]))
    share = [0.0] * 12
    for note, held in zip(pitched, weight, strict=True):
        share[(note[2] + shift + (0 if major is not False else 3)) % 12] += held / sum(weight)
    found.update({f"pitch_class_{semitones}": share[semitones] for semitones in range(12)})
    found["minor"] = float(major is False)
    found["pitch_class_entropy"] = -sum(value * math.log(value) for value in share if value)

    steps = [b - a for a, b in zip(top, top[1:], strict=False)]
    for name, low, high in (
        ("melody_0", 0, 0), ("melody_1_2", 1, 2), ("melody_3_4", 3, 4),
        ("melody_5_7", 5, 7), ("melody_8_12", 8, 12), ("melody_13", 13, 127),
    ):  # fmt: skip
        found[name] = mean([float(low <= abs(step) <= high) for step in steps])
    found["melody_up"] = mean([float(step > 0) for step in steps])
    sounding = [sorted(note[2] for note in chord) for chord in chords]
    inner = [(b - a) % 12 for chord in sounding for a, b in zip(chord, chord[1:], strict=False)]
    for name, classes in (
        ("octave", {0}), ("second", {1, 2, 10, 11}), ("third", {3, 4}), ("fourth", {5}),
        ("tritone", {6}), ("fifth", {7}), ("sixth", {8, 9}),
    ):  # fmt: skip
        found[f"chord_{name}"] = mean([float(step in classes) for step in inner])

    time = [second(score, tick) for tick, _ in events]
    presses: list[list[float]] = []
    down = False
    for moment, (_, value) in zip(time, events, strict=True):
        if value >= 64 and not down:
            presses.append([moment])
        if value < 64 and down:
            presses[-1].append(moment)
        down = value >= 64
    if down:
        presses[-1].append(max(last, time[-1]))

    def in_music(moment: float) -> float:
        return min(max(moment, start[0]), last)

    found["pedal_down"] = sum(in_music(up) - in_music(press) for press, up in presses) / length
    found["pedal_depth"] = sum(
        value / 127 * (in_music(until) - in_music(moment))
        for (_, value), moment, until in zip(events, time, [*time[1:], last], strict=bool(time))
    ) / length  # fmt: skip
    found["pedal_presses"] = len(presses) / length
    held = [log(up - press) for press, up in presses]
    found["pedal_length_mean"], found["pedal_length_std"] = mean(held), deviation(held)
    found["pedal_gap"] = mean([log(b[0] - a[1]) for a, b in zip(presses, presses[1:], strict=False)])
    delays = [press - max(one for one in start if one <= press) for press, _ in presses if press >= start[0]]
    found["pedal_delay"] = mean([min(delay, 1.0) for delay in delays])
    ends = [max([up for press, up in presses if press <= note[1] < up], default=note[1]) for note in every]
    found["pedal_held"] = mean([float(end > note[1]) for end, note in zip(ends, every, strict=True)])
    sustained = [log(end - note[0]) for end, note in zip(ends, every, strict=True)]
    found["sustained_mean"], found["sustained_p10"] = mean(sustained), percentile(sustained, 0.1)
    return found


def drawn(seed: int, count: int, drums: float, longest: int) -> tuple[Score, list[tuple[int, int]]]:
    random = np.random.default_rng(seed)
    onset = random.integers(0, longest + 1, count)
    score = Score.of(
        96,
        onset,
        onset + random.integers(0, 200, count),
        random.integers(30, 100, count),
        random.integers(1, 128, count),
        np.where(random.random(count) < drums, DRUMS, 0),
        tempi=[(tick, bpm) for tick, bpm in zip((0, 500, 1500), random.integers(30, 240, 3), strict=True)],
    )
    ticks = np.sort(random.integers(0, longest + 300, random.integers(0, 12))).tolist()
    events = [(tick, int(value)) for tick, value in zip(ticks, random.integers(0, 128, len(ticks)), strict=True)]
    return with_pedal(score, events), events


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0, 300, 5000]))
def test_descriptors_are_those_of_loops(seed, count, drums, longest):
    """One note, chords at a single tick and drums alone are among the drawn scores."""
    score, events = drawn(seed, count, drums, longest)
    found, expected = described(score), by_loops(score, events)
    assert set(expected) == set(NAMES)
    assert np.isfinite(list(found.values())).all()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_names_are_unique_and_documented():
    assert len(set(NAMES)) == len(NAMES) == 73 and len(PEDAL) == 10
    assert descriptors(Score.of(4, [0], [4], [60])).dtype == np.float64
    text = module.__doc__
    for name in NAMES:
        suffix = name[name.rindex("_") :] if "_" in name else name
        assert name in text or f"``{suffix}``" in text or name.startswith(("pitch_class", "melody")), name


def test_a_scale_at_120():
    """C major in quarter notes, each held for a quarter of a second: intervals of half a second."""
    scale = [60, 62, 64, 65, 67, 69, 71, 72]
    onset = np.arange(8) * 480
    found = described(Score.of(480, onset, onset + 240, scale, [40, 50, 60, 70, 80, 90, 100, 110]))
    assert found["interval_mean"] == pytest.approx(math.log(0.5)) and found["interval_std"] == pytest.approx(
        0, abs=1e-9
    )
    assert found["duration_mean"] == pytest.approx(math.log(0.25))
    assert found["seconds"] == pytest.approx(math.log(3.75)) and found["silence"] == pytest.approx(7 * 0.25 / 3.75)
    assert found["pitch_class_0"] == pytest.approx(2 / 8) and found["minor"] == 0
    assert found["melody_1_2"] == found["melody_up"] == 1 and found["velocity_pitch"] == pytest.approx(1, abs=0.01)
    assert found["velocity_step"] == pytest.approx(10) and found["notes_per_group"] == 1


def test_a_piece_and_its_transposition_differ_in_register_alone():
    score, _ = drawn(3, 50, 0.0, 4000)
    higher = Score.of(
        96, score.onset, score.end, score.pitch + 5, score.velocity, score.program,
        tempi=list(zip(score.tempo_tick.tolist(), score.tempo_bpm.tolist(), strict=True)),
    )  # fmt: skip
    found, moved = described(with_pedal(score, [])), described(higher)
    register = {"pitch_mean", "pitch_p10", "pitch_p90", "pitch_melody"}
    for name in NAMES:
        assert moved[name] == pytest.approx(found[name] + 5 * (name in register)), name


def test_the_pedal_changes_its_own_numbers_alone():
    score = Score.of(480, [0, 480, 960], [240, 720, 1200], [60, 64, 67])
    plain = described(score)
    assert all(plain[name] == 0 for name in PEDAL if not name.startswith("sustained"))
    assert plain["sustained_mean"] == plain["duration_mean"]
    pedalled = described(with_pedal(score, [(120, 127), (600, 0)]))
    assert {name for name in NAMES if pedalled[name] != plain[name]} <= set(PEDAL)
    assert pedalled["pedal_down"] == pedalled["pedal_depth"] == pytest.approx(480 / 1200)
    assert pedalled["pedal_held"] == pytest.approx(1 / 3) and pedalled["pedal_delay"] == pytest.approx(0.125)
    assert pedalled["sustained_mean"] == pytest.approx(np.log([0.625, 0.25, 0.25]).mean())


def test_seconds_follow_tempo_changes_and_stay_finite():
    score = Score.of(100, [0], [100], [60], tempi=[(100, 60), (200, 1e-300)])
    assert seconds_of(score, np.array([0, 100, 150, 200])).tolist() == [0, 0.5, 1.0, 1.5]
    assert np.isfinite(seconds_of(score, np.array([2**31 - 1]))).all()


def test_a_score_without_notes_has_none():
    with pytest.raises(ScoreError, match="without notes"):
        descriptors(Score.of(480, [], [], []))
