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
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicbert_plugin.audio.constant_q import ConstantQProfile, Tuning, highest_frequency
from musicbert_plugin.audio.decoding import Sound, decode
from musicbert_plugin.audio.filterbanks import PITCH_CLASSES, chroma_filters, cosine_transform, mel_edges, mel_filters
from musicbert_plugin.audio.framing import Framer
from musicbert_plugin.audio.row_store import BLOCK, RowStore, column_moments, drop_pages
from musicbert_plugin.errors import OptionError, RecordingError
from musicbert_plugin.extras import missing

NORMALISATIONS = ("none", "clip", "frame")
WINDOWS = ("hann", "hamming")
MFCC, CQT = 20, 144
SMALLEST_DEVIATION = 1e-3
_FRAMES = 256  # that are transformed at a time, which a processor's cache holds
_DELTA_WIDTH = 9
_TUNING_WINDOW = 2048  # of librosa's estimate for the constant-Q transform
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
        if self.stack:
            bins = 0.5 if self.tuning is None else self.tuning * (CQT // len(PITCH_CLASSES))  # at most 0.5 is estimated
            lowest = math.ceil(2 * highest_frequency(bins))
            if self.sample_rate < lowest:
                raise OptionError(
                    f"{self.name}: a sample rate of {self.sample_rate}; the filters of its constant-Q transform "
                    f"reach up to {lowest / 2:,.0f} Hz, so that {lowest} or more is accepted."
                )

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
        return np.concatenate(list(self.feature_blocks(lambda: [np.ascontiguousarray(samples)])))

    def feature_blocks(self, again: Callable[[], Iterable[NDArray[np.float32]]]) -> Iterator[NDArray[np.float32]]:
        """Features of a whole recording that comes in blocks, and takes no more memory the longer it is.

        They do not depend on how the recording is cut.

        Parameters
        ----------
        again : callable
            Returns the blocks of samples, float32 [S] each, from the first; it is called once or twice.

        Yields
        ------
        float32 [t, F]

        Raises
        ------
        OptionError
            librosa is needed and not installed.
        """
        blocks = self._stack(again) if self.stack else self._log_mels(again())
        if self.normalisation != "clip":
            yield from map(self.normalise, blocks)
            return
        store = RowStore(self.num_features)
        for block in blocks:
            store.append(block)
        features = store.array()
        mean, deviation = _clip_statistics(features)
        for first in range(0, len(features), BLOCK):
            yield _standardised(features[first : first + BLOCK], mean, deviation)
            drop_pages(features)

    def normalise(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features [T, F] of one recording, normalised by this front-end."""
        if self.normalisation == "clip":
            return _standardised(features, *_clip_statistics(features))
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
            sound = Sound(path, self.sample_rate, name=name)
            store = RowStore(self.num_features)
            for block in self.feature_blocks(lambda: sound):
                store.append(block)
            self._check_length(len(store), frames, name or str(path))
            return np.array(store.array()[start:stop])
        half = self.n_fft // 2
        first, last = start * self.hop - half, (stop - 1) * self.hop + half
        samples = decode(path, self.sample_rate, max(first, 0), last, name=name)
        if max(first, 0) + len(samples) < last:
            self._check_length(self.frames_of(max(first, 0) + len(samples)), frames, name or str(path))
        padded = np.zeros(last - first, np.float32)
        padded[max(-first, 0) : max(-first, 0) + len(samples)] = samples
        filters = _mel(self.sample_rate, self.n_fft, self.n_mels)
        log_mel = torch.cat([compress(squares @ filters) for squares in self._squares(torch.from_numpy(padded))])
        return self.normalise(log_mel.numpy())

    def _check_length(self, found: int, expected: int, name: str) -> None:
        if found < expected:
            raise RecordingError(
                "too short",
                f"{name}: has {found} frames, but had {expected} when it was listed; build the dataset again.",
            )

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

    def _spectra(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[torch.Tensor]:
        """The :meth:`_squares` of samples in blocks."""
        for piece in Framer(self.n_fft, self.hop, _FRAMES).all(blocks):
            yield from self._squares(torch.from_numpy(piece))

    def _log_mels(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        filters = _mel(self.sample_rate, self.n_fft, self.n_mels)
        for squares in self._spectra(blocks):
            yield compress(squares @ filters).numpy()

    def _stack(self, again: Callable[[], Iterable[NDArray[np.float32]]]) -> Iterator[NDArray[np.float32]]:
        """All blocks of features in two passes over a recording, not normalised: float32 [t, F] at a time."""
        librosa = _librosa(self.name)
        stack = _Stack(self, librosa, *self._survey(librosa, again()))
        for block in again():
            yield from stack.add(block)
        yield from stack.finish()

    def _survey(self, librosa: Any, blocks: Iterable[NDArray[np.float32]]) -> tuple[float, float, float]:
        """What features depend on in the whole recording: its loudest mel power in dB, and its tuning.

        The tuning is that of chroma, in semitones, and that of chroma-CQT, in twelfths of a semitone.
        """
        filters = self._filters(self.tuning or 0.0)
        chroma, cqt = (Tuning(librosa, self.sample_rate) if self.tuning is None else None for _ in range(2))
        framer = Framer(self.n_fft, self.hop, _FRAMES)
        framer_of_cqt = Framer(_TUNING_WINDOW, _TUNING_WINDOW // 4, _FRAMES)
        loudest = -np.inf

        def hear(pieces: Iterator[NDArray[np.float32]], pieces_of_cqt: Iterator[NDArray[np.float32]]) -> None:
            nonlocal loudest
            for piece in pieces:
                for squares in self._squares(torch.from_numpy(piece)):
                    loudest = max(loudest, float(_decibels((squares @ filters)[:, : self.n_mels]).max()))
                    if chroma:
                        chroma.add(squares.unflatten(1, (-1, 2)).sum(-1).T.numpy())
            for piece in pieces_of_cqt if cqt else ():
                spectrum = librosa.stft(piece, n_fft=_TUNING_WINDOW, hop_length=_TUNING_WINDOW // 4, center=False)
                cqt.add(np.abs(spectrum))

        for block in blocks:
            hear(framer.add(block), framer_of_cqt.add(block) if cqt else iter(()))
        hear(framer.finish(), framer_of_cqt.finish() if cqt else iter(()))
        classes = len(PITCH_CLASSES)
        if chroma and cqt:
            return loudest, chroma.estimate(classes), cqt.estimate(CQT)
        assert self.tuning is not None
        return loudest, self.tuning, self.tuning * (CQT // classes)

    def _filters(self, tuning: float) -> torch.Tensor:
        """Filters of mel bands and pitch classes, float32 [n_fft + 2, n_mels + 12]."""
        return torch.cat(
            [_mel(self.sample_rate, self.n_fft, self.n_mels), _chroma(self.sample_rate, self.n_fft, tuning)], 1
        )


class _Stack:
    """The 324 features of a recording whose samples come in blocks; rows, float32 [t, F], leave as they are complete.

    Parameters
    ----------
    front : FrontEnd
    librosa : module
    loudest : float
        The recording's loudest mel power in dB.
    tuning, tuning_of_cqt : float
        In bins of the two.
    """

    def __init__(self, front: FrontEnd, librosa: Any, loudest: float, tuning: float, tuning_of_cqt: float) -> None:
        self._front = front
        self._filters = front._filters(tuning)
        self._quietest = loudest - _DECIBELS_BELOW_LOUDEST
        self._framer = Framer(front.n_fft, front.hop, _FRAMES)
        self._constant_q = ConstantQProfile(librosa, front.sample_rate, front.hop, tuning_of_cqt)
        self._mfcc_near = torch.zeros(0, MFCC, dtype=torch.float64)  # the last frames, which slopes to come depend on
        self._begun = False  # whether any slope has been computed, so that those of all but four of them are there
        # rows of chroma and MFCC, delta, mel, and chroma-CQT that wait for one another
        self._waiting: tuple[list[torch.Tensor], ...] = ([], [], [], [])

    def add(self, samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        self._hear(self._framer.add(samples), self._constant_q.add(samples))
        yield from self._rows()

    def finish(self) -> Iterator[NDArray[np.float32]]:
        self._hear(self._framer.finish(), self._constant_q.finish())
        if len(self._mfcc_near):
            rest = slope(self._mfcc_near)
            self._waiting[1].append(rest[_DELTA_WIDTH // 2 + 1 :] if self._begun else rest)
        yield from self._rows()

    def _hear(self, pieces: Iterator[NDArray[np.float32]], profiles: Iterator[NDArray[np.float32]]) -> None:
        for piece in pieces:
            for squares in self._front._squares(torch.from_numpy(piece)):
                powers = squares @ self._filters
                mel, chroma = powers[:, : self._front.n_mels], powers[:, self._front.n_mels :]
                loudest = chroma.amax(1, keepdim=True)
                chroma = chroma / torch.where(loudest < torch.finfo(loudest.dtype).tiny, 1.0, loudest)
                mfcc = _decibels(mel).clamp(min=self._quietest) @ _cosine(self._front.n_mels, MFCC)
                self._waiting[0].append(torch.cat([chroma, mfcc], 1))
                self._waiting[2].append(compress(mel))
                self._add_slopes(mfcc)
        for profile in profiles:
            self._waiting[3].append(compress(torch.from_numpy(np.ascontiguousarray(profile, np.float32))))

    def _add_slopes(self, mfcc: torch.Tensor) -> None:
        """Slopes of the frames that have four more behind them."""
        half = _DELTA_WIDTH // 2
        near = torch.cat([self._mfcc_near, mfcc])
        if len(near) >= _DELTA_WIDTH:
            self._waiting[1].append(slope(near)[half + 1 if self._begun else 0 : -half])
            self._begun = True
            near = near[-_DELTA_WIDTH:].clone()
        self._mfcc_near = near

    def _rows(self) -> Iterator[NDArray[np.float32]]:
        joined = [torch.cat(rows) if rows else torch.zeros(0, 1) for rows in self._waiting]
        count = min(map(len, joined))
        if count:
            yield torch.cat([rows[:count] for rows in joined], 1).float().numpy()
            for rows, whole in zip(self._waiting, joined, strict=True):
                rows[:] = [whole[count:].clone()]


def _decibels(power: torch.Tensor) -> torch.Tensor:
    """Float64; a loud recording's first cepstral coefficient is about -1,000."""
    return 10 * power.double().clamp(min=1e-10).log10()


def _clip_statistics(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each feature of a recording, for the normalisation ``clip``."""
    mean, squares = column_moments(features)
    return mean, np.maximum(np.sqrt(squares / len(features)), SMALLEST_DEVIATION)


def _standardised(
    features: NDArray[np.float32], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float32]:
    return ((features.astype(np.float64) - mean) / deviation).astype(np.float32)


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
