"""Which recordings are copies of one another: fingerprints of spectral peaks.

*Equal* recordings have the same samples, as 16-bit numbers at the front-end's rate.

*Near* copies are the same recording in another file format, at another bit rate, sample rate or loudness, or a few
samples later.  Their fingerprints are alike: the spectrum's peaks (louder than all within 0.2 seconds and 160 Hz, and
within 78 dB of the loudest) are joined to the next three in time.  The two frequencies of a pair, its distance in time
and which three seconds after the first peak it lies in are a *landmark* (after Wang, "An industrial-strength audio
search algorithm", ISMIR 2003; the three seconds are ours, and keep chance from finding more in longer recordings).
With A and B the multisets of landmarks, recordings are near copies from ``|A & B| / max(|A|, |B|)`` = :data:`SHARE` on.

Of 28 recordings of many styles, mp3 of 128 kbit/s, ogg, 16 kHz, a shift of 25 ms and noise at -40 dB left a share of
0.33 at least and mostly above 0.6.  Of the 1,485 pairs of 55 recordings, two were the same recording (0.63 and 0.74),
and all others shared 0.02 at most.  Of 44 scores rendered with one sound font, 28 of them for piano, no two shared more
than 0.10; random music of one synthetic instrument shares up to 0.14.

Limits: an excerpt is not found in the whole, nor another performance, a transposition or another tempo of the same
music: a group column says what of these belongs together.  Below :data:`FEWEST` landmarks only equal samples count.
Candidates are found by sketches, as in ``near_duplicates``: of pairs at a share of 0.33, one in seven is missed; at
0.5, one in seventy.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from preprocess.engine.near_duplicates import SAMPLES, SKETCH, Fingerprint

SHARE = 0.3
FEWEST = 32
_RATE, _WINDOW, _HOP, _BINS = 11025, 1024, 256, 400
_FRAMES = 512  # that are transformed at a time
_AROUND = (19, 31)  # frames and bins that a peak is the loudest of
_RANGE = 9.0  # of amplitudes, as a natural logarithm
_FAN, _FARTHEST = 3, 64  # peaks that each is joined to, and how many frames away they may be
_PART = round(3 * _RATE / _HOP)  # frames
_NOTHING = np.uint32(2**32 - 1)


def _fingerprint(content: bytes, shingles: NDArray[np.uint32]) -> Fingerprint:
    sequence = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
    sketch = np.full(SKETCH, _NOTHING, np.uint32)
    smallest = np.unique(shingles)[:SKETCH]
    sketch[: len(smallest)] = smallest
    return Fingerprint(sequence, sequence, 1, np.zeros(SAMPLES, np.uint16), shingles, sketch)


def fingerprint_of(samples: NDArray[np.float32], rate: int) -> Fingerprint:
    """The fingerprint of a recording: samples, float32 [S], at a rate in Hz."""
    whole = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    return _fingerprint(whole.tobytes(), landmarks(samples, rate))


def fingerprint_of_features(clips: list[NDArray[np.float32]]) -> Fingerprint:
    """The fingerprint of features, float32 [T, F] each: only equal ones are copies."""
    return _fingerprint(b"".join(clip.tobytes() for clip in clips), np.empty(0, np.uint32))


def landmarks(samples: NDArray[np.float32], rate: int) -> NDArray[np.uint32]:
    """Sorted hashes of the landmarks of a recording, with repetitions, uint32 [M]; M is 0 or at least FEWEST."""
    frame, band = _peaks(_spectrum(samples, rate))
    if len(frame) <= _FAN:
        return np.empty(0, np.uint32)
    pairs = []
    for ahead in range(1, _FAN + 1):
        distance = frame[ahead:] - frame[:-ahead]
        near = distance < _FARTHEST
        # Two bins and four frames are one: coding and a shift by part of a frame move a peak by no more.
        part = (frame[:-ahead] - frame[0]) // _PART
        pair = (part << 32 | band[:-ahead] // 2 << 20 | band[ahead:] // 2 << 8 | (distance + 2) // 4)[near]
        pairs.append(pair)
    codes = np.concatenate(pairs)
    if len(codes) < FEWEST:
        return np.empty(0, np.uint32)
    # Multiplicative hashing (Knuth): the codes of nearby peaks are spread over all 32 bits.
    mixed = codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.sort(((mixed ^ mixed >> np.uint64(29)) >> np.uint64(16)).astype(np.uint32))


def _spectrum(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Amplitudes below 4.3 kHz, float32 [T, _BINS]."""
    import soxr

    if rate != _RATE:
        samples = soxr.resample(samples, rate, _RATE, quality="MQ")
    padded = np.pad(samples, _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    window = np.hanning(_WINDOW).astype(np.float32)
    parts = [
        np.abs(np.fft.rfft(frames[first : first + _FRAMES] * window, axis=1)[:, :_BINS]).astype(np.float32)
        for first in range(0, len(frames), _FRAMES)
    ]
    return np.concatenate(parts)


def _peaks(amplitude: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames and bins of the peaks, in order of time, then frequency."""
    from scipy.ndimage import maximum_filter

    loudest = float(amplitude.max(initial=0))
    peak = (amplitude == maximum_filter(amplitude, _AROUND)) & (amplitude > loudest * np.exp(-_RANGE))
    frame, band = np.nonzero(peak)
    return frame, band
