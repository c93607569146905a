"""Redrawing notes: every other note keeps its time in seconds, and meter and tempo stay unless they are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.codecs.octuple import (
    BAR,
    FIELD_SIZES,
    POSITION,
    PROGRAM,
    TEMPO,
    TEMPO_VALUES,
    TIME_SIGNATURE,
    encode,
    meter_code,
    positions,
    tempo_code,
)
from musicbert_plugin.codecs.score import Score
from musicbert_plugin.errors import OptionError
from musicbert_plugin.generation.infilling import BAR_FIELDS, Sampling, infill

COLUMNS = ("onset", "end", "program", "pitch", "velocity", "track")


def seconds(score: Score, ticks: np.ndarray) -> np.ndarray:
    """When ticks sound, from the tempo changes one after the other."""
    times = np.zeros(len(ticks))
    changes = [(0, 120.0), *zip(score.tempo_tick.tolist(), score.tempo_bpm.tolist(), strict=True)]
    ends = [tick for tick, _ in changes[1:]] + [2**40]
    for (begin, bpm), end in zip(changes, ends, strict=True):
        times += np.clip(ticks - begin, 0, max(end - begin, 0)) * (60.0 / bpm / score.resolution)
    return times


def guesses(random: np.random.Generator, asked: np.ndarray) -> list[np.ndarray]:
    """Log-probabilities of a model that knows nothing."""
    return [np.log(random.dirichlet(np.ones(n), asked[:, f].sum()) + 1e-300) for f, n in enumerate(FIELD_SIZES)]


@st.composite
def pieces(draw: st.DrawFn) -> Score:
    """Twelve bars of 4/4 or as long in other meters and tempi, which change anywhere; one to three instruments."""
    resolution = draw(st.sampled_from([1, 7, 24, 96, 100, 480, 2047, 9601]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    programs = draw(st.sampled_from([[0], [128], [40, 0], [0, 5, 128]]))
    n = draw(st.integers(1, 60))
    end = 12 * 4 * resolution
    onset = random.integers(0, end, n)
    tempo_tick, meter_tick = (np.sort(random.integers(0, end, random.integers(0, 5))).tolist() for _ in range(2))
    return Score.of(
        resolution, onset, onset + random.integers(0, 3 * resolution + 1, n), random.integers(0, 128, n),
        random.integers(1, 128, n), random.choice(programs, n), random.integers(0, 2, n),
        tempi=[(t, float(random.integers(20, 250))) for t in tempo_tick],
        meters=[(t, int(random.integers(1, 9)), int(2 ** random.integers(1, 4))) for t in meter_tick],
    )  # fmt: skip


@st.composite
def wishes(draw: st.DrawFn, score: Score) -> tuple[list[int], list[int], object]:
    """Some bars (often the last), some instruments, and perhaps other numbers of notes, zero among them."""
    rows = encode(score)
    last = int(rows[-1, BAR])
    bars = draw(st.sets(st.sampled_from([last, *rows[:, BAR].tolist()]), min_size=1, max_size=3))
    programs = np.unique(rows[:, PROGRAM]).tolist()
    chosen = draw(st.sets(st.sampled_from(programs), min_size=1))
    masked = np.isin(rows[:, BAR], list(bars)) & np.isin(rows[:, PROGRAM], list(chosen))
    counts = st.one_of(st.integers(0, 4), st.dictionaries(st.sampled_from(sorted(bars)), st.integers(0, 4)))
    notes = draw(counts if not masked.any() else st.none() | counts)
    return sorted(bars), sorted(chosen), notes


@settings(max_examples=200, deadline=None)
@given(data=st.data(), score=pieces(), seed=st.integers(0, 1000), window=st.sampled_from([1, 5, 1000]))
def test_every_other_note_keeps_its_time_in_seconds(data: st.DataObject, score: Score, seed: int, window: int) -> None:
    bars, programs, notes = data.draw(wishes(score))
    random = np.random.default_rng(seed)

    def predict(octuples: np.ndarray, unknown: np.ndarray, asked: np.ndarray) -> list[np.ndarray]:
        assert not unknown[:, BAR_FIELDS].any(), "the model sees the meter and the tempo of masked notes too"
        return guesses(random, asked)

    options = {"window": window, "instruments": programs, "notes": notes, "seed": seed}
    filled = infill(score, bars, predict, sampling=Sampling(passes=2), **options)  # type: ignore[arg-type]

    finer = filled.resolution // score.resolution
    assert filled.resolution == finer * score.resolution
    for name in ("tempo_tick", "meter_tick"):
        np.testing.assert_array_equal(getattr(filled, name), finer * getattr(score, name))
    for name in ("tempo_bpm", "meter_numerator", "meter_denominator"):
        np.testing.assert_array_equal(getattr(filled, name), getattr(score, name))

    bar_of = {int(onset): int(bar) for onset, bar in zip(np.sort(score.onset), encode(score)[:, BAR], strict=True)}
    redrawn = np.isin([bar_of[onset] for onset in score.onset.tolist()], bars) & np.isin(score.program, programs)
    stayed = int((~redrawn).sum())
    np.testing.assert_allclose(seconds(filled, filled.onset[:stayed]), seconds(score, score.onset[~redrawn]), 1e-12)
    np.testing.assert_allclose(seconds(filled, filled.end[:stayed]), seconds(score, score.end[~redrawn]), 1e-12)
    for name in ("program", "pitch", "velocity", "track"):
        np.testing.assert_array_equal(getattr(filled, name)[:stayed], getattr(score, name)[~redrawn])
    if notes is None:
        assert len(filled) <= len(score), "fewer where drawn notes coincide"
    new = filled.select(np.arange(stayed, len(filled)))
    if len(new):
        assert np.isin(encode(new)[:, BAR], bars).all(), "new notes stay in their bars"
    for index in range(stayed, len(filled)):
        key = [getattr(filled, name) == getattr(filled, name)[index] for name in ("track", "program", "pitch")]
        inside = (filled.onset >= filled.onset[index]) & (filled.onset < filled.end[index])
        assert np.flatnonzero(np.all(key, axis=0) & inside).tolist() == [index], "no key is struck while it sounds"


def code_at(ticks: np.ndarray, codes: np.ndarray, default: int, score: Score, position: int) -> int:
    """The last of the changes up to a position."""
    earlier = np.flatnonzero(positions(ticks, score.resolution) <= position)
    return int(codes[earlier[-1]]) if len(earlier) else default


@settings(max_examples=100, deadline=None)
@given(score=pieces(), seed=st.integers(0, 1000))
def test_the_model_sees_the_meter_and_tempo_that_hold_where_a_note_stands(score: Score, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = encode(score)
    bars = random.choice(np.unique(rows[:, BAR]), 2).tolist()
    tempi = tempo_code(score.tempo_bpm)
    meters = np.array(
        [meter_code(n, d) for n, d in zip(score.meter_numerator, score.meter_denominator, strict=True)], int
    )
    starts: dict[int, int] = {}
    for onset, bar, place in zip(
        np.sort(positions(score.onset, score.resolution)).tolist(), *rows[:, [BAR, POSITION]].T.tolist(), strict=True
    ):
        starts[bar] = onset - place

    def predict(octuples: np.ndarray, unknown: np.ndarray, asked: np.ndarray) -> list[np.ndarray]:
        for note in octuples[~unknown[:, POSITION]]:
            position = starts[int(note[BAR])] + int(note[POSITION])
            assert note[TEMPO] == code_at(score.tempo_tick, tempi, 35, score, position)
            assert note[TIME_SIGNATURE] == code_at(score.meter_tick, meters, 9, score, position)
        return guesses(random, asked)

    infill(score, bars, predict, window=1000, sampling=Sampling(passes=4), seed=seed)


def tune() -> Score:
    """Four bars of 2/4, eighth notes of one instrument; 90 quarter notes a minute, and 180 from the middle of bar 1."""
    onset = np.arange(16) * 240
    tempi = [(0, 90.0), (1440, 180.0)]
    return Score.of(480, onset, onset + 200, 60 + np.arange(16) % 5, tempi=tempi, meters=[(0, 2, 4)])


def always(**values: int):  # type: ignore[no-untyped-def]
    """A model that is sure of one meter and one tempo, and what it was asked for."""
    asked_for: set[int] = set()

    def predict(octuples: np.ndarray, unknown: np.ndarray, asked: np.ndarray) -> list[np.ndarray]:
        asked_for.update(np.flatnonzero(asked.any(0)).tolist())
        out = [np.zeros((asked[:, field].sum(), size)) for field, size in enumerate(FIELD_SIZES)]
        for field, value in (TIME_SIGNATURE, values["meter"]), (TEMPO, values["tempo"]):
            out[field][:, value] = 50.0
        return out

    return predict, asked_for


def test_by_default_a_tune_in_2_4_stays_in_2_4_and_its_tempo_changes_inside_the_bar_stay() -> None:
    predict, asked_for = always(meter=meter_code(2, 2), tempo=48)
    filled = infill(tune(), [1], predict, window=100)
    assert not asked_for & set(BAR_FIELDS)
    assert list(zip(filled.meter_numerator, filled.meter_denominator, strict=True)) == [(2, 4)]
    assert list(zip(filled.tempo_tick, filled.tempo_bpm, strict=True)) == [(0, 90.0), (1440, 180.0)]


def test_a_meter_alone_may_be_redrawn_and_the_tempo_changes_stay() -> None:
    predict, asked_for = always(meter=meter_code(2, 2), tempo=48)
    score = replace(tune(), keys=((0, 2, False), (1920, -7, True)))
    filled = infill(score, [1], predict, window=100, redraw="meter")
    assert filled.keys == ((0, 2, False), (2880, -7, True)), "what follows a longer bar moves, its key too"
    assert asked_for & set(BAR_FIELDS) == {TIME_SIGNATURE}
    meters = zip(filled.meter_tick, filled.meter_numerator, filled.meter_denominator, strict=True)
    assert list(meters) == [(0, 2, 4), (960, 2, 2), (2880, 2, 4)]
    assert list(zip(filled.tempo_tick, filled.tempo_bpm, strict=True)) == [(0, 90.0), (1440, 180.0)]
    assert np.sort(filled.onset[:12])[4:].tolist() == (960 + np.arange(8, 16) * 240).tolist()


def test_a_tempo_change_beyond_the_end_of_a_shortened_bar_comes_at_its_end() -> None:
    predict, _ = always(meter=meter_code(1, 4), tempo=48)
    filled = infill(tune(), [1], predict, window=100, redraw=["meter"])
    assert list(zip(filled.tempo_tick, filled.tempo_bpm, strict=True)) == [(0, 90.0), (1440, 180.0)]
    meters = zip(filled.meter_tick, filled.meter_numerator, filled.meter_denominator, strict=True)
    assert list(meters) == [(0, 2, 4), (960, 1, 4), (1440, 2, 4)]
    score = tune()
    late = Score.of(480, score.onset, score.end, score.pitch, tempi=[(0, 90.0), (1800, 180.0)], meters=[(0, 2, 4)])
    filled = infill(late, [1], predict, window=100, redraw=["meter"])
    assert list(zip(filled.tempo_tick, filled.tempo_bpm, strict=True)) == [(0, 90.0), (1440, 180.0)]
    later = Score.of(
        480, score.onset, score.end, score.pitch, tempi=[(0, 90.0), (1800, 180.0), (1920, 60.0)], meters=[(0, 2, 4)]
    )
    filled = infill(later, [1], predict, window=100, redraw=["meter"])
    assert list(zip(filled.tempo_tick, filled.tempo_bpm, strict=True)) == [(0, 90.0), (1440, 60.0)]


def test_a_tempo_alone_may_be_redrawn_and_every_note_keeps_its_tick() -> None:
    predict, asked_for = always(meter=meter_code(2, 2), tempo=40)
    filled = infill(tune(), [1], predict, window=100, redraw=("tempo",))
    assert asked_for & set(BAR_FIELDS) == {TEMPO}
    assert list(zip(filled.meter_numerator, filled.meter_denominator, strict=True)) == [(2, 4)]
    assert list(zip(filled.tempo_tick, filled.tempo_bpm, strict=True)) == [
        (0, 90.0),
        (960, TEMPO_VALUES[40]),
        (1920, 180),
    ]
    np.testing.assert_array_equal(filled.onset[:12], np.delete(tune().onset, slice(4, 8)))


def test_only_meter_and_tempo_can_be_redrawn_beside_the_notes() -> None:
    predict, _ = always(meter=0, tempo=0)
    for redraw in ("key", "meter,pitch", ["meter", "bars"]):
        with pytest.raises(OptionError, match="meter, tempo or both"):
            infill(tune(), [1], predict, window=100, redraw=redraw)
