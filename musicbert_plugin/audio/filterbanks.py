"""Filter banks: from the power spectrum to mel bands, pitch classes and cepstral coefficients, as matrices.

Mel (Slaney's Auditory Toolbox, 1998)
    Linear below 1,000 Hz (200/3 Hz per mel), logarithmic above (27 mels per factor 6.4).  Band b is a triangle over the
    centres of its two neighbours, scaled to unit area in Hz, so that white noise gives the same in every band.
Chroma (Ellis, 2007)
    A bin of the spectrum goes to the pitch classes around its own by a Gaussian whose width is the bin's width in
    semitones; each bin's weights have unit Euclidean norm, and then fall off over two octaves around A5's octave.
Cepstrum
    The orthonormal type-II cosine transform.

All are float64 here and equal librosa 0.11's to rounding; a test holds them to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import OptionError

PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_LINEAR_HZ = 200 / 3  # width of a mel below the break
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27
_CENTRE_OCTAVE, _OCTAVE_WIDTH = 5.0, 2.0


def hertz_to_mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Slaney mels of frequencies in Hz."""
    hertz = np.asarray(hertz, np.float64)
    return np.where(
        hertz < _BREAK_HZ, hertz / _LINEAR_HZ, _BREAK_MEL + np.log(np.maximum(hertz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    )


def mel_to_hertz(mel: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Frequencies in Hz of Slaney mels."""
    mel = np.asarray(mel, np.float64)
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))


def mel_edges(bands: int, lowest: float, highest: float) -> NDArray[np.float64]:
    """Edges of the triangles in Hz, float64 [bands + 2]: band b rises from b, peaks at b + 1 and ends at b + 2."""
    return mel_to_hertz(np.linspace(hertz_to_mel(lowest), hertz_to_mel(highest), bands + 2))


def mel_filters(sample_rate: int, n_fft: int, bands: int, lowest: float, highest: float) -> NDArray[np.float64]:
    """Weights of every bin of the power spectrum in every mel band, float64 [bands, n_fft / 2 + 1].

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_fft : int
        Samples of a window.
    bands : int
    lowest, highest : float
        Hz; ``highest`` is at most half the sample rate.

    Raises
    ------
    OptionError
        A band lies between two bins of the spectrum and would always be empty.
    """
    edges = mel_edges(bands, lowest, highest)
    bins = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    widths = np.diff(edges)
    rising = (bins - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - bins) / widths[1:, None]
    weights = np.maximum(np.minimum(rising, falling), 0) * (2 / (edges[2:] - edges[:-2]))[:, None]
    empty = np.flatnonzero(weights.max(axis=1) == 0)
    if len(empty):
        raise OptionError(
            f"{bands} mel bands between {lowest:g} and {highest:g} Hz are too narrow for windows of {n_fft} samples at "
            f"{sample_rate} Hz: band {empty[0]} holds no bin of the spectrum; take fewer bands or longer windows."
        )
    return weights


def chroma_filters(sample_rate: int, n_fft: int, tuning: float) -> NDArray[np.float64]:
    """Weights of every bin of the power spectrum in every pitch class, float64 [12, n_fft / 2 + 1].

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_fft : int
    tuning : float
        How far A4 is above 440 Hz, in semitones.
    """
    classes = len(PITCH_CLASSES)
    hertz = np.arange(1, n_fft) * (sample_rate / n_fft)
    semitone = classes * np.log2(hertz / (440 / 16 * 2 ** (tuning / classes)))  # above A0
    semitone = np.concatenate(([semitone[0] - 1.5 * classes], semitone))  # the constant: away from its neighbour
    width = np.concatenate((np.maximum(np.diff(semitone), 1), [1]))
    distance = semitone - np.arange(classes)[:, None]
    distance = np.mod(distance + classes / 2, classes) - classes / 2
    weights = np.exp(-2 * (distance / width) ** 2)
    weights /= np.linalg.norm(weights, axis=0)
    weights *= np.exp(-0.5 * ((semitone / classes - _CENTRE_OCTAVE) / _OCTAVE_WIDTH) ** 2)
    return np.roll(weights, -3, axis=0)[:, : n_fft // 2 + 1]  # from C, not from A


def cosine_transform(inputs: int, coefficients: int) -> NDArray[np.float64]:
    """The first rows of the orthonormal type-II cosine transform, float64 [coefficients, inputs]."""
    angle = np.pi / inputs * np.outer(np.arange(coefficients), np.arange(inputs) + 0.5)
    transform = np.sqrt(2 / inputs) * np.cos(angle)
    transform[0] /= np.sqrt(2)
    return transform
