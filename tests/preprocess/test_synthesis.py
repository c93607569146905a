"""The synthesiser in numpy: pitches, lengths and levels are those of the notes, and programs sound different."""

from __future__ import annotations

import numpy as np
import pytest

from musicbert_plugin.codecs.general_midi import PROGRAM_NAMES
from preprocess.synthesis import DRUMS, FAMILIES, synthesise, timbre_of, tone

RATE = 16_000


def note(program: int, pitch: int = 69, velocity: int = 100, onset: float = 0.0, end: float = 0.5) -> np.ndarray:
    """One second with one note in it."""
    columns = [np.array([value]) for value in (onset, end, pitch, velocity, program)]
    return synthesise(*columns, 1.0, RATE)


def spectrum(samples: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(samples * np.hanning(len(samples))))


def test_general_midi_has_128_different_names_in_16_families() -> None:
    assert len(set(PROGRAM_NAMES)) == 128 and len(FAMILIES) == 16
    assert (PROGRAM_NAMES[0], PROGRAM_NAMES[40], PROGRAM_NAMES[73], PROGRAM_NAMES[127]) == (
        "acoustic_grand_piano",
        "violin",
        "flute",
        "gunshot",
    )


@pytest.mark.parametrize("program", [0, 19, 40, 56, 73])
@pytest.mark.parametrize("pitch", [45, 69, 81])
def test_a_tone_has_its_energy_at_the_multiples_of_its_frequency(program: int, pitch: int) -> None:
    power = spectrum(tone(program, pitch, RATE, RATE)) ** 2
    base = 440 * 2 ** ((pitch - 69) / 12)
    # A window of a second resolves 1 Hz; vibrato and stiffness move a partial by less than 4 %.
    hertz = np.arange(len(power))
    near = np.abs(hertz / base - np.round(hertz / base)) * base < np.maximum(3, 0.04 * hertz)
    assert power[near & (hertz > base / 2)].sum() > 0.9 * power.sum()


def test_the_sum_is_that_of_the_notes_alone() -> None:
    random = np.random.default_rng(0)
    onset = np.sort(random.random(12))
    end = onset + random.random(12) * 0.4
    pitch, velocity = random.integers(50, 54, 12), random.integers(1, 128, 12)
    program = np.where(np.arange(12) % 3, 5, 77)
    columns = (onset, end, pitch, velocity, program)
    together = synthesise(*columns, 1.5, RATE)
    alone = sum(synthesise(*(c[i : i + 1] for c in columns), 1.5, RATE).astype(float) for i in range(12))
    # Noise of a tone depends on its length, and only program 77 (a pipe) has some.
    assert np.abs(together - alone).max() < 0.2 * np.abs(alone).max()
    organ = np.full(12, 16)
    together = synthesise(onset, end, pitch, velocity, organ, 1.5, RATE)
    alone = sum(
        synthesise(*(c[i : i + 1] for c in (onset, end, pitch, velocity, organ)), 1.5, RATE).astype(float)
        for i in range(12)
    )
    assert np.allclose(together, alone, atol=1e-5)


def test_nothing_sounds_before_a_note_and_almost_nothing_long_after() -> None:
    for program in (0, 40, DRUMS):
        sound = note(program, pitch=60, onset=0.25, end=0.3)
        assert not sound[: RATE // 4].any()
        assert np.abs(sound[RATE // 4 : RATE // 2]).max() > 20 * np.abs(sound[-RATE // 20 :]).max()


def test_louder_keys_are_louder_and_struck_tones_die_away_where_bowed_ones_hold() -> None:
    assert np.abs(note(0, velocity=120)).max() > 2 * np.abs(note(0, velocity=60)).max()
    piano, organ = tone(0, 72, 2 * RATE, RATE), tone(19, 72, 2 * RATE, RATE)

    def fall(sound: np.ndarray) -> float:
        return float(np.sqrt((sound[-RATE // 4 :] ** 2).mean() / (sound[: RATE // 4] ** 2).mean()))

    assert fall(piano) < 0.4 and 0.9 < fall(organ) < 1.1


def test_all_programs_and_drums_are_finite_and_differ_from_each_other() -> None:
    seen = []
    for program in range(128):
        sound = note(program)
        assert sound.shape == (RATE,) and sound.dtype == np.float32
        assert np.isfinite(sound).all() and 0.001 < np.abs(sound).max() < 10
        seen.append(spectrum(sound) / np.linalg.norm(spectrum(sound)))
    likeness = np.array(seen) @ np.array(seen).T
    assert (likeness - np.eye(128)).max() < 0.99999
    families = likeness.reshape(16, 8, 16, 8).mean((1, 3))
    assert np.diag(families).mean() > 0.9 > 0.8 > (families.sum() - np.trace(families)) / (16 * 15)
    for key in range(27, 88):
        assert np.isfinite(note(DRUMS, pitch=key)).all()
    assert np.array_equal(note(DRUMS, pitch=38), note(DRUMS, pitch=38))


def test_within_a_family_the_later_program_is_brighter() -> None:
    assert timbre_of(47).slope < timbre_of(40).slope
    assert np.abs(tone(127, 127, 100, 4000)).max() > 0  # a fundamental above the highest frequency is kept alone


def test_no_notes_and_no_length_are_silence() -> None:
    empty = np.array([], np.int64)
    assert not synthesise(empty, empty, empty, empty, empty, 0.5, RATE).any()
    assert len(note(0)[:0]) == 0
    assert not note(0, onset=1.0, end=2.0).any()
