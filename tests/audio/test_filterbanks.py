"""Filter banks are what their definitions say, and librosa's where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from musicbert_plugin.audio.filterbanks import (
    PITCH_CLASSES,
    chroma_filters,
    cosine_transform,
    hertz_to_mel,
    mel_edges,
    mel_filters,
    mel_to_hertz,
)
from musicbert_plugin.errors import OptionError

SHAPES = [(22050, 1024, 96), (44100, 2048, 128), (16000, 512, 40), (12000, 512, 96)]


@pytest.mark.parametrize(("rate", "n_fft", "bands"), SHAPES)
def test_mel_filters_equal_librosa(rate, n_fft, bands):
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands, dtype=np.float64)
    np.testing.assert_allclose(mel_filters(rate, n_fft, bands, 0, rate / 2), theirs, atol=1e-12)


@pytest.mark.parametrize(("rate", "n_fft", "bands"), SHAPES[:3])
@pytest.mark.parametrize("tuning", [0.0, -0.31, 0.5])
def test_chroma_filters_equal_librosa(rate, n_fft, bands, tuning):
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.chroma(sr=rate, n_fft=n_fft, tuning=tuning, dtype=np.float64)
    np.testing.assert_allclose(chroma_filters(rate, n_fft, tuning), theirs, atol=1e-12)


def test_bands_too_narrow_to_hold_a_bin_are_refused():
    with pytest.raises(OptionError, match="band 0 holds no bin"):
        mel_filters(22050, 256, 96, 0, 11025)


def test_the_mel_scale_is_linear_below_1000_hertz_and_logarithmic_above():
    np.testing.assert_allclose(hertz_to_mel(np.array([0.0, 100, 1000, 6400])), [0, 1.5, 15, 42])
    hertz = np.linspace(0, 11025, 500)
    np.testing.assert_allclose(mel_to_hertz(hertz_to_mel(hertz)), hertz, atol=1e-9)
    assert np.diff(mel_edges(96, 0, 11025)).min() > 0


def test_white_noise_is_equally_strong_in_all_mel_bands():
    weights = mel_filters(22050, 8192, 40, 0, 11025)
    np.testing.assert_allclose(weights.sum(1) * 22050 / 8192, 1, rtol=0.02)  # each triangle has unit area in Hz


@pytest.mark.parametrize("octave", [3, 4, 5])
def test_a_pure_tone_is_strongest_in_its_pitch_class(octave):
    weights = chroma_filters(44100, 16384, 0.0)
    for number, name in enumerate(PITCH_CLASSES):
        hertz = 440 * 2 ** ((number - 9) / 12 + octave - 4)
        assert PITCH_CLASSES[weights[:, round(hertz * 16384 / 44100)].argmax()] == name


def test_the_cosine_transform_is_orthonormal():
    transform = cosine_transform(64, 64)
    np.testing.assert_allclose(transform @ transform.T, np.eye(64), atol=1e-12)
    scipy_fft = pytest.importorskip("scipy.fft")
    values = np.random.default_rng(1).standard_normal(64)
    np.testing.assert_allclose(transform @ values, scipy_fft.dct(values, norm="ortho"), atol=1e-12)
