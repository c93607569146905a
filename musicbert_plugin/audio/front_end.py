"""Front-ends: from samples to the features that a model sees, T frames of F numbers.

=================  ======  ======  =====  =======  =====================================================  =============
name               rate    window  hop    shape    features, in this order                                normalised
=================  ======  ======  =====  =======  =====================================================  =============
``logmel96``       22,050  1,024   512    Hann     96 mel                                                 no
``musicoder324``   44,100  2,048   1,024  Hamming  12 chroma, 20 MFCC, 20 delta, 128 mel, 144 chroma-CQT  no
``m3bert324``      44,100  2,048   1,024  Hamming  the same                                               per clip
=================  ======  ======  =====  =======  =====================================================  =============

``logmelN`` is ``logmel96`` with N bands; rate, window length, hop and bands of each can be chosen.

The features
------------
Frame t is centred on sample t * hop; outside the recording there is silence.  S samples give 1 + S // hop frames.  All
but the last of the features come from the power |STFT|^2 of one windowed transform (periodic windows).

mel
    ln(10 x + 1e-6) of the power x in each Slaney mel band, from 0 Hz to half the rate.  Silence gives -13.8.
MFCC
    The first 20 coefficients of the orthonormal cosine transform of the mel powers in dB (10 log10, at least 1e-10),
    cut off 80 dB below the recording's loudest value.  So they depend on the whole recording, as librosa's do.
delta
    The slope of each MFCC per frame: that of the line fitted to nine frames; at both ends, to the first or last nine.
chroma
    Power in each pitch class, divided by each frame's largest.
chroma-CQT
    ln(10 x + 1e-6) of the 144-bin pitch-class profile (twelfths of a semitone) of a constant-Q transform over seven
    octaves, divided by each frame's largest.  The originals call it "CQT", but octaves are folded: it is no spectrum.
    It is computed by librosa, an optional requirement, and by far the slowest of all.

``tuning`` (semitones above 440 Hz, -0.5 to 0.5) moves the pitch classes of chroma and chroma-CQT; None has librosa
estimate it, for each of the two as the originals do.

Normalisation
-------------
``none``
    as above; the mean and deviation over the training split make the zero of a mask the mean.
``clip`` (M3BERT)
    each feature minus its mean over the recording, divided by its deviation there.  The original divides by the
    deviation plus 1e-16, which turns the rounding errors of an empty band (above the low-pass of an mp3) into noise as
    loud as music; here the deviation is at least 0.001.
``frame`` (MusiCoder's extraction)
    in each frame, the mean over the block's features is subtracted from each of its features.  The original meant to
    subtract each feature's mean over time; its library reads rows as observations, and so it removed the loudness of
    each frame.  It is for comparison with features that were made so.

Sources: "MusiCoder" (arXiv 2008.00781), section on features and table 3; M3BERT (Scientific Reports 2023).
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicbert_plugin.audio.decoding import decode
from musicbert_plugin.audio.filterbanks import PITCH_CLASSES, chroma_filters, cosine_transform, mel_edges, mel_filters
from musicbert_plugin.errors import OptionError, RecordingError
from musicbert_plugin.extras import missing

NORMALISATIONS = ("none", "clip", "frame")
WINDOWS = ("hann", "hamming")
MFCC, CQT = 20, 144
SMALLEST_DEVIATION = 1e-3
_FRAMES = 256  # that are transformed at a time, which a processor's cache holds
_DELTA_WIDTH = 9
_DECIBELS_BELOW_LOUDEST = 80.0


@dataclass(frozen=True)
class FrontEnd:
    """One way from samples to features.

    Attributes
    ----------
    name : str
    sample_rate : int
        Hz.
    n_fft : int
        Samples of a window, even.
    hop : int
        Samples from frame to frame.
    window : str
        ``"hann"`` or ``"hamming"``.
    n_mels : int
        Mel bands.
    stack : bool
        Whether chroma, MFCC and delta come before the mel bands, and chroma-CQT after.
    normalisation : str
        ``"none"``, ``"clip"`` or ``"frame"``.
    tuning : float or None
        Semitones; None is an estimate for each recording.  Without a stack it means nothing.

    Raises
    ------
    OptionError
        Values that no transform can work with.
    """

    name: str
    sample_rate: int = 22050
    n_fft: int = 1024
    hop: int = 512
    window: str = "hann"
    n_mels: int = 96
    stack: bool = False
    normalisation: str = "none"
    tuning: float | None = 0.0

    def __post_init__(self) -> None:
        for value, lowest, highest, what in (
            (self.sample_rate, 1000, 384_000, "sample rate"),
            (self.n_fft, 16, 1 << 16, "window"),
            (self.hop, 1, self.n_fft, "hop"),
            (self.n_mels, 1, self.n_fft // 2, "number of mel bands"),
        ):
            if not lowest <= value <= highest:
                raise OptionError(f"{self.name}: a {what} of {value}; {lowest} to {highest} is accepted.")
        if self.n_fft % 2:
            raise OptionError(f"{self.name}: a window of {self.n_fft} samples; an even number is accepted.")
        for text, known, what in (
            (self.window, WINDOWS, "window"),
            (self.normalisation, NORMALISATIONS, "normalisation"),
        ):
            if text not in known:
                raise OptionError(f"{self.name}: the {what} {text!r}; {', '.join(known)} are accepted.")
        if self.tuning is not None and not -0.5 <= self.tuning <= 0.5:
            raise OptionError(f"{self.name}: a tuning of {self.tuning} semitones; -0.5 to 0.5 is accepted.")
        if self.stack and self.hop % 64:
            raise OptionError(f"{self.name}: a hop of {self.hop}; the constant-Q transform needs a multiple of 64.")
        mel_filters(self.sample_rate, self.n_fft, self.n_mels, 0.0, self.sample_rate / 2)  # refuses empty bands

    @property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """Kind of feature to its columns, [begin, end)."""
        sizes = {"mel": self.n_mels}
        if self.stack:
            sizes = {"chroma": len(PITCH_CLASSES), "mfcc": MFCC, "delta": MFCC, "mel": self.n_mels, "cqt": CQT}
        ends = np.cumsum(list(sizes.values())).tolist()
        return {name: (end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}

    @property
    def num_features(self) -> int:
        """F."""
        return max(end for _, end in self.blocks.values())

    @property
    def feature_names(self) -> list[str]:
        """A name per column: ``"chroma C"``, ``"mfcc 0"``, ``"mel 95"``, ..."""
        return [
            f"{block} {PITCH_CLASSES[number] if block == 'chroma' else number}"
            for block, (begin, end) in self.blocks.items()
            for number in range(end - begin)
        ]

    @property
    def frequencies(self) -> NDArray[np.float32]:
        """Centre of each mel band in Hz, float32 [F]; nan for other features."""
        hertz = np.full(self.num_features, np.nan, np.float32)
        begin, end = self.blocks["mel"]
        hertz[begin:end] = mel_edges(self.n_mels, 0.0, self.sample_rate / 2)[1:-1]
        return hertz

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    @property
    def whole_recording(self) -> bool:
        """Whether a frame depends on the whole recording, so that a part cannot be computed alone."""
        return self.stack or self.normalisation == "clip"

    def frames_of(self, samples: int) -> int:
        """Number of frames that so many samples give."""
        return 1 + samples // self.hop

    def settings(self) -> dict[str, Any]:
        """Numbers, text and None; :meth:`of` is the inverse."""
        return asdict(self)

    @classmethod
    def of(cls, settings: dict[str, Any]) -> FrontEnd:
        """The front-end with these :meth:`settings`."""
        return cls(**settings)

    def extract(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of a whole recording.

        Parameters
        ----------
        samples : float32 [S]
            At :attr:`sample_rate`, full scale 1, S > 0.

        Returns
        -------
        float32 [1 + S // hop, F]

        Raises
        ------
        OptionError
            librosa is needed and not installed.
        """
        features = self._stack(samples) if self.stack else self._log_mel(self._padded(samples)).numpy()
        return self.normalise(features)

    def normalise(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features [T, F] of one recording, normalised by this front-end."""
        if self.normalisation == "clip":
            exact = features.astype(np.float64)
            return ((exact - exact.mean(0)) / np.maximum(exact.std(0), SMALLEST_DEVIATION)).astype(np.float32)
        if self.normalisation == "frame":
            features = features.copy()
            for begin, end in self.blocks.values():
                features[:, begin:end] -= features[:, begin:end].mean(1, dtype=np.float64, keepdims=True)
        return features

    def read(self, path: str | Path, frames: int, start: int, stop: int, name: str = "") -> NDArray[np.float32]:
        """Frames [start, stop) of an audio file of so many frames, decoding no more of it than they need.

        Returns
        -------
        float32 [stop - start, F]

        Raises
        ------
        RecordingError
            The file can't be decoded, or is shorter than ``frames``.
        """
        if self.whole_recording:
            features = self.extract(decode(path, self.sample_rate, name=name))
            self._check_length(len(features), frames, name or str(path))
            return features[start:stop]
        half = self.n_fft // 2
        first, last = start * self.hop - half, (stop - 1) * self.hop + half
        samples = decode(path, self.sample_rate, max(first, 0), last, name=name)
        if max(first, 0) + len(samples) < last:
            self._check_length(self.frames_of(max(first, 0) + len(samples)), frames, name or str(path))
        padded = np.zeros(last - first, np.float32)
        padded[max(-first, 0) : max(-first, 0) + len(samples)] = samples
        return self.normalise(self._log_mel(torch.from_numpy(padded)).numpy())

    def _check_length(self, found: int, expected: int, name: str) -> None:
        if found < expected:
            raise RecordingError(
                "too short",
                f"{name}: has {found} frames, but had {expected} when it was listed; build the dataset again.",
            )

    def _padded(self, samples: NDArray[np.float32]) -> torch.Tensor:
        half = self.n_fft // 2
        return torch.nn.functional.pad(torch.from_numpy(np.ascontiguousarray(samples)), (half, half))

    def _squares(self, padded: torch.Tensor) -> Iterator[torch.Tensor]:
        """Squared real and imaginary parts of the STFT of samples whose first frame begins with them.

        float32 [t, n_fft + 2] at a time, the two parts of a bin side by side: filters whose rows are all doubled add
        them, in the same matrix product.  The transform is float64: in float32, a quiet band beside loud ones would be
        off by up to 4e-4 in ln units, more than librosa's is.
        """
        window = _window(self.window, self.n_fft)
        frames = 1 + (len(padded) - self.n_fft) // self.hop
        for first in range(0, frames, _FRAMES):
            count = min(_FRAMES, frames - first)
            part = padded[first * self.hop : (first + count - 1) * self.hop + self.n_fft].double()
            spectrum = torch.stft(part, self.n_fft, self.hop, window=window, center=False, return_complex=True)
            yield torch.view_as_real(spectrum.T).float().square_().reshape(count, -1)

    def _log_mel(self, padded: torch.Tensor) -> torch.Tensor:
        filters = _mel(self.sample_rate, self.n_fft, self.n_mels)
        return torch.cat([compress(squares @ filters) for squares in self._squares(padded)])

    def _stack(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        librosa = _librosa(self.name)
        padded = self._padded(samples)
        tuning = self.tuning
        if tuning is None:
            spectrum = torch.cat([squares.unflatten(1, (-1, 2)).sum(-1) for squares in self._squares(padded)])
            tuning = float(librosa.estimate_tuning(S=spectrum.T.numpy(), sr=self.sample_rate, n_fft=self.n_fft))
            del spectrum
        filters = torch.cat(
            [_mel(self.sample_rate, self.n_fft, self.n_mels), _chroma(self.sample_rate, self.n_fft, tuning)], 1
        )
        powers = torch.cat([squares @ filters for squares in self._squares(padded)])
        mel, chroma = powers[:, : self.n_mels], powers[:, self.n_mels :]
        loudest = chroma.amax(1, keepdim=True)
        chroma = chroma / torch.where(loudest < torch.finfo(loudest.dtype).tiny, 1.0, loudest)
        decibels = 10 * mel.double().clamp(min=1e-10).log10()  # a loud recording's first coefficient is about -1,000
        decibels = decibels.clamp(min=float(decibels.max()) - _DECIBELS_BELOW_LOUDEST)
        mfcc = decibels @ _cosine(self.n_mels, MFCC)
        profile = librosa.feature.chroma_cqt(
            y=samples,
            sr=self.sample_rate,
            hop_length=self.hop,
            n_chroma=CQT,
            bins_per_octave=None,
            tuning=None if self.tuning is None else self.tuning * (CQT // len(PITCH_CLASSES)),
        )
        cqt = torch.from_numpy(np.ascontiguousarray(profile.T[: len(mel)], np.float32))
        return torch.cat([chroma, mfcc, slope(mfcc), compress(mel), compress(cqt)], 1).float().numpy()


def compress(power: torch.Tensor) -> torch.Tensor:
    """ln(10 x + 1e-6), the originals' compression."""
    return power.mul(10).add_(1e-6).log_()


def slope(values: torch.Tensor) -> torch.Tensor:
    """Slope per frame of the line fitted to nine frames around each; values and slopes float [T, C].

    The first and last four frames have the slope of the first and last nine; of fewer than nine frames, all have that
    of all (a single frame has none).
    """
    count = len(values)
    width = min(_DELTA_WIDTH, count)
    if width == 1:
        return torch.zeros_like(values)
    weights = torch.arange(width, dtype=values.dtype) - (width - 1) / 2
    weights = weights / weights.square().sum()
    inner = torch.tensordot(values.unfold(0, width, 1), weights, dims=1)
    before = (count - len(inner)) // 2
    return torch.cat([inner[:1].expand(before, -1), inner, inner[-1:].expand(count - len(inner) - before, -1)])


def front_end(name: str, **chosen: Any) -> FrontEnd:
    """The front-end of a name, with some of its settings chosen otherwise.

    Raises
    ------
    OptionError
        Unknown, or values that can't work.
    """
    if match := re.fullmatch(r"logmel(\d{1,4})", name):
        front = {"n_mels": int(match[1])} | chosen
        return FrontEnd(f"logmel{front['n_mels']}", **front)
    if name in ("musicoder324", "m3bert324"):
        shared = FrontEnd(name, 44100, 2048, 1024, "hamming", 128, stack=True, tuning=None)
        return replace(shared, **({"normalisation": "clip" if name == "m3bert324" else "none"} | chosen))
    raise OptionError(
        f"the front-end {name!r} is unknown; logmel96 (any number), musicoder324 and m3bert324 are known."
    )


@functools.lru_cache(8)
def _window(name: str, size: int) -> torch.Tensor:
    make = torch.hann_window if name == "hann" else torch.hamming_window
    return make(size, periodic=True, dtype=torch.float64)


@functools.lru_cache(8)
def _mel(sample_rate: int, n_fft: int, bands: int) -> torch.Tensor:
    return _doubled(mel_filters(sample_rate, n_fft, bands, 0.0, sample_rate / 2))


@functools.lru_cache(64)
def _chroma(sample_rate: int, n_fft: int, tuning: float) -> torch.Tensor:
    return _doubled(chroma_filters(sample_rate, n_fft, tuning))


def _doubled(filters: NDArray[np.float64]) -> torch.Tensor:
    """Filters [C, bins] as float32 [2 bins, C], each row twice."""
    return torch.from_numpy(filters.T.repeat(2, axis=0)).float()


@functools.lru_cache(8)
def _cosine(inputs: int, coefficients: int) -> torch.Tensor:
    return torch.from_numpy(cosine_transform(inputs, coefficients).T)


def _librosa(name: str) -> Any:
    """Import librosa, without its warnings about short or silent recordings.

    The filters stay: some for the time of a call would be undone in the wrong order where threads meet.
    """
    try:
        import librosa

        for advice in (r"n_fft=\d+ is too large for", "Trying to estimate tuning from empty"):
            warnings.filterwarnings("ignore", advice, UserWarning)
    except ImportError:
        raise missing("librosa", f"the chroma-CQT of {name}") from None
    return librosa
