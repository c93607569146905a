"""Pitch-class profiles of a constant-Q transform, and estimates of tuning, of samples that come in blocks.

The transform is librosa's ``chroma_cqt`` with 144 bins per octave over the seven octaves from C1, by recursive
sub-sampling (Schoerkhuber and Klapuri, "Constant-Q transform toolbox for music processing", SMC 2010): the filters of
the top octave are applied to the signal, those of the next one to the signal at half the rate, and so on.  Each rate
comes from the one above it by soxr's HQ recipe, whose output does not depend on how its input is cut, and each frame is
transformed alone.  So the profile of a recording in blocks is librosa's profile of the whole, to the bit in most places
and to 1e-6 in all.  librosa makes the filters and the transforms; a test holds the result to its own.

Memory does not depend on the length of the recording, apart from the peaks of :class:`Tuning`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from musicbert_plugin.audio.framing import Block, Framer

BINS, OCTAVES = 144, 7  # per octave
FRAMES = 256  # of a piece
_LOWEST = 440 * 2 ** (-45 / 12)  # Hz, C1
_SPARSITY = 0.01
_HANN_BANDWIDTH = 1.50018310546875  # equivalent noise bandwidth of a Hann window, as librosa has it, in bins
_MOST_PEAKS = 1 << 24


def relative_bandwidths(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bandwidth of each filter in units of its frequency, from the distance of its neighbours, float64 [N]."""
    squared = 2.0 ** (2 / (1 / np.gradient(np.log2(hertz))))
    return (squared - 1) / (squared + 1)


def highest_frequency(tuning: float) -> float:
    """The frequency in Hz up to which the highest filter reaches; half the sample rate must be at least that."""
    hertz = _LOWEST * 2.0 ** ((np.arange(BINS * OCTAVES) + tuning) / BINS)
    return float((hertz * (1 + 0.5 * _HANN_BANDWIDTH * relative_bandwidths(hertz))).max())


class _Halving:
    """Samples at a fraction of their rate, ceil(S * ratio) of them, with the power that they had per second."""

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor
        self._stream = soxr.ResampleStream(divisor, 1, 1, "float32", "HQ")
        self._taken = self._given = 0

    def _scaled(self, samples: Block) -> Block:
        samples /= np.sqrt(1 / self._divisor)
        self._given += len(samples)
        return samples

    def add(self, samples: Block) -> Block:
        self._taken += len(samples)
        return self._scaled(self._stream.resample_chunk(np.ascontiguousarray(samples)))

    def finish(self) -> Block:
        rest = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        wanted = -(-self._taken // self._divisor) - self._given
        return self._scaled(np.pad(rest, (0, max(wanted - len(rest), 0)))[:wanted])


class _Octave:
    """The filters of one octave: from samples at its rate to amplitudes [144, t]."""

    def __init__(self, librosa: Any, rate: float, hop: int, hertz: Any, width: Any, length: Any, gain: float) -> None:
        self._librosa, self._hop = librosa, hop
        basis, lengths = librosa.filters.wavelet(freqs=hertz, sr=rate, alpha=width)
        self._size = basis.shape[1]
        basis *= lengths[:, None] / float(self._size)
        spectra = librosa.get_fftlib().fft(basis, axis=1)[:, : self._size // 2 + 1]
        self._filters = librosa.util.sparsify_rows(spectra, quantile=_SPARSITY, dtype=np.complex64)
        self._filters *= gain
        self._root = np.sqrt(length)[:, None]
        self._framer = Framer(self._size, hop, FRAMES)
        self.columns: deque[NDArray[np.float32]] = deque()

    def _apply(self, pieces: Iterator[Block]) -> None:
        for piece in pieces:
            spectrum = self._librosa.stft(piece, n_fft=self._size, hop_length=self._hop, window="ones", center=False)
            response = self._filters.dot(spectrum)
            response /= self._root
            self.columns.append(np.abs(response))

    def add(self, samples: Block) -> None:
        self._apply(self._framer.add(samples))

    def finish(self) -> None:
        self._apply(self._framer.finish())


class ConstantQProfile:
    """Rows of 144 pitch classes (twelfths of a semitone), each divided by the largest of its frame.

    Parameters
    ----------
    librosa : module
    rate : int
        Hz, at least twice :func:`highest_frequency`.
    hop : int
        Samples from frame to frame, a multiple of 64.
    tuning : float
        Bins (twelfths of a semitone) above 440 Hz.
    """

    def __init__(self, librosa: Any, rate: int, hop: int, tuning: float) -> None:
        self._librosa = librosa
        lowest = librosa.note_to_hz("C1")
        hertz = librosa.interval_frequencies(
            BINS * OCTAVES, fmin=lowest * 2.0 ** (tuning / BINS), intervals="equal", bins_per_octave=BINS, sort=True
        )
        width = relative_bandwidths(hertz)
        above = math.ceil(math.log2(rate / 2 / highest_frequency(tuning))) - 2  # halvings that lose no filter
        twos = (hop & -hop).bit_length() - 1
        self._first = _Halving(2**early) if (early := min(max(above, 0), twos - OCTAVES + 1)) > 0 else None
        top_rate, hop = rate / 2 ** max(early, 0), hop >> max(early, 0)
        lengths, _ = librosa.filters.wavelet_lengths(freqs=hertz, sr=top_rate, alpha=width)
        self._octaves: list[_Octave] = []
        self._halvings: list[_Halving] = []
        for octave in range(OCTAVES):
            part = slice(len(hertz) - BINS * (octave + 1), len(hertz) - BINS * octave)
            level = top_rate / 2**octave
            self._octaves.append(
                _Octave(
                    librosa, level, hop >> octave, hertz[part], width[part], lengths[part], np.sqrt(top_rate / level)
                )
            )
        self._halvings = [_Halving(2) for _ in range(OCTAVES - 1)]
        self._folding = librosa.filters.cq_to_chroma(
            len(hertz), bins_per_octave=BINS, n_chroma=BINS, fmin=lowest, window=None
        )

    def add(self, samples: Block) -> Iterator[NDArray[np.float32]]:
        """Rows [t, 144] that samples complete."""
        if self._first:
            samples = self._first.add(samples)
        self._octaves[0].add(samples)
        for halving, octave in zip(self._halvings, self._octaves[1:], strict=True):
            samples = halving.add(samples)
            octave.add(samples)
        yield from self._rows()

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """The remaining rows."""
        rest = self._first.finish() if self._first else np.zeros(0, np.float32)
        self._octaves[0].add(rest)
        for halving, octave in zip(self._halvings, self._octaves[1:], strict=True):
            rest = np.concatenate((halving.add(rest), halving.finish()))
            octave.add(rest)
        for octave in self._octaves:
            octave.finish()
        yield from self._rows()

    def _rows(self) -> Iterator[NDArray[np.float32]]:
        while all(octave.columns for octave in self._octaves):
            parts = [octave.columns.popleft() for octave in self._octaves[::-1]]
            count = min(part.shape[1] for part in parts)
            amplitudes = np.empty((BINS * OCTAVES, count), np.float32, order="F")
            for number, part in enumerate(parts):
                amplitudes[BINS * number : BINS * (number + 1)] = part[:, :count]
            profile = np.einsum("cf,ft->ct", self._folding, amplitudes, optimize=True)
            yield self._librosa.util.normalize(profile, norm=np.inf, axis=-2).T


class Tuning:
    """Estimates how far the music is above 440 Hz, as librosa does, from spectra that come in pieces.

    The frequencies of spectral peaks that are at least as strong as the median are counted by their distance from the
    nearest bin; the most frequent distance is the estimate.  Of more than 16 million peaks (an hour of noise, several
    hours of music) only the first are used.

    Parameters
    ----------
    librosa : module
    rate : int
        Hz.
    """

    def __init__(self, librosa: Any, rate: int) -> None:
        self._librosa, self._rate = librosa, rate
        self._pitches: list[NDArray[np.float32]] = []
        self._strengths: list[NDArray[np.float32]] = []
        self._count = 0

    def add(self, spectrum: NDArray[np.float32]) -> None:
        """Count the peaks of magnitudes, or powers, [bins, t]."""
        if self._count > _MOST_PEAKS:
            return
        pitch, strength = self._librosa.piptrack(S=spectrum, sr=self._rate, n_fft=2 * len(spectrum) - 2)
        peak = pitch > 0
        self._pitches.append(pitch[peak])
        self._strengths.append(strength[peak])
        self._count += len(self._pitches[-1])

    def estimate(self, bins: int) -> float:
        """Tuning in units of a bin, of which ``bins`` make an octave: -0.5 to 0.5; 0 without any peak."""
        if not self._count:
            return 0.0
        pitches, strengths = np.concatenate(self._pitches), np.concatenate(self._strengths)
        return float(self._librosa.pitch_tuning(pitches[strengths >= np.median(strengths)], bins_per_octave=bins))
