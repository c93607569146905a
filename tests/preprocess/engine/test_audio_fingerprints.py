"""Fingerprints of one recording are alike in every guise, and those of two are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import soxr

from preprocess.engine.audio_fingerprints import FEWEST, SHARE, fingerprint_of, fingerprint_of_features, landmarks
from preprocess.engine.near_duplicates import share

RATE = 22050


def song(seed: int, seconds: float = 8.0) -> np.ndarray:
    """Random decaying notes with partials, float32 [S]."""
    random = np.random.default_rng(seed)
    sound = 3e-4 * random.standard_normal(round(RATE * seconds))
    time = np.arange(RATE // 2) / RATE
    for onset in np.cumsum(random.choice([0.1, 0.15, 0.2, 0.3], int(seconds / 0.12))):
        start = round(onset * RATE)
        hertz = 110 * 2 ** (random.integers(0, 36) / 12)
        note = sum(np.exp(-6 * time) * np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 7))
        place = sound[start : start + len(note)]
        place += note[: len(place)]
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def coded(sound: np.ndarray, format: str, **settings: object) -> np.ndarray:
    data = io.BytesIO()
    soundfile.write(data, sound, RATE, format=format, **settings)
    return soundfile.read(io.BytesIO(data.getvalue()), dtype="float32")[0]


GUISES = {
    "mp3": lambda sound: (coded(sound, "MP3", compression_level=0.7), RATE),
    "ogg": lambda sound: (coded(sound, "OGG", compression_level=0.7), RATE),
    "half the rate": lambda sound: (soxr.resample(sound, RATE, RATE // 2), RATE // 2),
    "a third of the loudness": lambda sound: (sound / 3, RATE),
    "25 ms later": lambda sound: (np.pad(sound, (550, 0)), RATE),
    "a second of silence before": lambda sound: (np.pad(sound, (RATE, 0)), RATE),
    "noise": lambda sound: (sound + 0.01 * sound.std() * np.random.default_rng(1).standard_normal(len(sound)), RATE),
}


@pytest.mark.parametrize("guise", GUISES)
def test_a_recording_in_another_guise_is_a_near_copy(guise):
    for seed in range(3):
        sound = song(seed)
        other, rate = GUISES[guise](sound)
        one, two = fingerprint_of(sound, RATE), fingerprint_of(other.astype(np.float32), rate)
        assert share(one.shingles, two.shingles) > 1.4 * SHARE
        assert len(np.intersect1d(one.sketch, two.sketch)) >= 2
        assert one.sequence != two.sequence


def test_different_recordings_are_no_copies_however_long():
    prints = [landmarks(song(seed, 25), RATE) for seed in range(4)]
    assert min(map(len, prints)) > 300
    assert max(share(prints[i], prints[j]) for i in range(4) for j in range(i)) < SHARE * 0.6


def test_equal_samples_are_equal_copies_in_any_container():
    sound = np.round(song(1) * 32767) / 32768
    assert fingerprint_of(sound, RATE).sequence == fingerprint_of(coded(sound, "FLAC", subtype="PCM_16"), RATE).sequence
    assert fingerprint_of(sound[:-1], RATE).sequence != fingerprint_of(sound, RATE).sequence


def test_a_recording_without_peaks_enough_has_no_landmarks():
    for sound in (np.zeros(RATE), np.sin(np.arange(RATE)), song(1)[:3000], np.ones(1)):
        found = landmarks(sound.astype(np.float32), RATE)
        assert len(found) == 0 or len(found) >= FEWEST


def test_features_are_copies_only_if_equal():
    rows = np.random.default_rng(1).standard_normal((20, 7)).astype(np.float32)
    one, same, other = (
        fingerprint_of_features([rows]),
        fingerprint_of_features([rows.copy()]),
        fingerprint_of_features([rows + 1e-6]),
    )
    assert one.sequence == same.sequence != other.sequence
    assert len(one.shingles) == 0
