"""Decoding: audio files to one channel of samples at a wanted rate, whole or in part.

libsndfile (by ``soundfile``) reads wav, flac, ogg, mp3, aiff, au and caf; m4a and aac need a conversion first.
Channels are averaged, and soxr changes the rate with its VHQ recipe (linear phase, 28 bits), which computes in float64.
With HQ, which computes in float32, the last bits of a sample depend on where its block of samples begins; the logarithm
of quiet bands shows that (up to 1e-3 in ln units).

Samples are float32, full scale is -1 to 1, and sample k lies at k / rate seconds, so that the first of a file stays the
first.  A file of S samples at rate r gives round(S * rate / r) samples at ``rate``.

A part of a file is decoded from a little before it: soxr's filter reaches over :data:`REACH` seconds, and both
ends of what it is given are thrown away, so that a part equals that part of the whole (to 1e-7, and exactly where
the rate stays).  The start is a multiple of the rates' common period, since only there do both rates have a sample.  An
mp3 is decoded from :func:`samples_before` still earlier: its frames borrow bytes from frames before them (the bit
reservoir), and without those the first tenths of a second after a seek would be wrong or silent (below 32 kHz, rounding
in its synthesis still differs by up to 6e-8 of full scale with the start).  An ogg file is always
decoded from its beginning: libsndfile's seeking in it is off by up to a window now and then (libsndfile issue 885).

The length in a header is not relied on: a file is read to where its sound ends, or to ``stop`` (see ``file_headers``).
Any number of threads may decode at once.  libmpg123, inside libsndfile, writes comments on damaged mp3 files to file
descriptor 2 and has no switch for it.  Redirecting that descriptor would lose the messages of all other threads, so
only the builders' worker processes do it, once, before they start (see ``preprocess.engine.workers``).
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from musicbert_plugin.audio.file_headers import View, endless
from musicbert_plugin.errors import RecordingError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".au", ".caf")
QUALITY = "VHQ"  # of soxr
REACH = 0.05  # seconds around a part that the resampler may look at; its filter is shorter from 4 kHz on
SILENCE = 1e-4  # of full scale, -80 dB
SHORTEST = 0.5  # seconds
_FAILURES = (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError)  # of files that are not sound
_UNKNOWN = 1 << 60  # samples: what libsndfile says of a FLAC file without a length is more
_SMALL_BLOCK = 1 << 12
_BLOCK = 1 << 18  # samples that are decoded at a time: the channels of a long file are never in memory at once


@dataclass(frozen=True)
class Recording:
    """The header of an audio file.

    Attributes
    ----------
    sample_rate : int
        Hz.
    channels : int
    samples : int
        Of each channel, as the header says, which may be anything; :func:`decode` finds what there is.
    """

    sample_rate: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.sample_rate


def require_sound(samples: NDArray[np.float32], rate: int, name: str, shortest: float = SHORTEST) -> None:
    """Refuse samples [S] that no features should be made of.

    Raises
    ------
    RecordingError
        ``too short`` (than ``shortest`` seconds), ``NaN``, or ``silent`` (never above -80 dB).
    """
    seconds = len(samples) / rate
    if not len(samples) or seconds < shortest:
        raise RecordingError("too short", f"{name}: {seconds:.2f} seconds; at least {shortest:g} are needed.")
    if not np.isfinite(samples).all():
        raise RecordingError("NaN", f"{name}: holds samples that are no finite numbers.")
    if max(float(samples.max()), -float(samples.min())) < SILENCE:
        raise RecordingError("silent", f"{name}: never louder than -80 dB.")


class _Sequential(soundfile.SoundFile):
    """A file that is read sequentially; :meth:`seek` works.

    Of a seekable file, soundfile seeks after every read to where it is already.  In an mp3 that forgets what the next
    frames borrow, and up to 40 ms at each join would be wrong or silent; in an ogg it may change the position.
    """

    def seekable(self) -> bool:
        """False, so that reading does not seek."""
        return False


class _Content(io.BytesIO):
    """The content of a file.  Seeking before its beginning, as libsndfile does in damaged files, has no effect."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):  # raised through libsndfile, it would be printed and not end anything
            return self.tell()


def _open(source: str | Path | bytes, name: str) -> soundfile.SoundFile:
    """The file as its header describes it; see :func:`_open_endless`."""
    if not isinstance(source, bytes) and not Path(source).exists():
        where = "" if name == str(source) else f" ({name})"
        raise RecordingError("undecodable", f"{source}{where}: there is no such file.")
    if not isinstance(source, bytes) and Path(source).is_dir():
        raise RecordingError("undecodable", f"{source} is a folder; a recording is needed.")
    try:
        if isinstance(source, bytes):
            return _Sequential(_Content(source))
        # as bytes, since soundfile refuses names that are no UTF-8
        return _Sequential(str(source) if os.name == "nt" else os.fsencode(source))
    except _FAILURES as error:
        file = _open_endless(source)  # some headers are so wrong that they are refused
        if file is not None:
            return file
        what = str(getattr(error, "error_string", error)).strip().rstrip(".")
        if any(said in what for said in ("Format not recognised", "does not exist")):  # of any odd content
            what = "no kind of audio that libsndfile knows"
        raise RecordingError(
            "undecodable", f"{name}: cannot be decoded ({what}); {', '.join(s[1:] for s in SUFFIXES)} are accepted."
        ) from None


class _Endless(_Sequential):
    """A file whose header does not end it before its sound does."""

    def __init__(self, view: View) -> None:
        self._view = view
        super().__init__(view)

    def close(self) -> None:
        """Close both files."""
        super().close()
        self._view.close()


def _open_endless(source: str | Path | bytes) -> soundfile.SoundFile | None:
    """The file with a header that does not end it before its sound does, or None where its own header does not."""
    file: Any = None
    try:
        file = _Content(source) if isinstance(source, bytes) else open(source, "rb", buffering=1 << 16)
        view = endless(file)
        if view is not None:
            return _Endless(view)
    except _FAILURES:
        pass
    if file is not None:
        file.close()
    return None


def probe(source: str | Path | bytes, name: str = "") -> Recording:
    """What kind of recording a file holds, without decoding it.

    Raises
    ------
    RecordingError
        ``undecodable``.
    """
    with _open(source, name or str(source)) as file:
        return Recording(file.samplerate, file.channels, file.frames)


def samples_before(sample_rate: int) -> int:
    """How many samples before a part an mp3 must be decoded, so that every byte that its frames borrow is known.

    A frame may borrow from 511 bytes before it (MPEG-1, from 32 kHz on; 1,152 samples), or 255 (MPEG-2, below; 576
    samples).  The shortest frames of stereo leave 60 bytes (32 kbit/s at 48 kHz) and 3 bytes (8 kbit/s at 24 kHz) for
    them: 9 and 85 frames.  One more frame is for the overlap of the transform, and the rest is a safety margin.
    """
    return 12 * 1152 if sample_rate >= 32000 else 96 * 576


def _is_mpeg(file: Any) -> bool:
    return file.subtype.startswith("MPEG")


def _read_mono(file: Any, start: int, stop: int | None, name: str) -> NDArray[np.float32]:
    """Samples [start, stop) at the file's own rate, fewer where it ends; channels averaged."""
    blocks = []
    position = 0
    try:
        early = samples_before(file.samplerate) if _is_mpeg(file) else 0
        if start > early and file.format != "OGG":
            position = file.seek(start - early)
        while stop is None or position < stop:
            wanted = _BLOCK if stop is None else min(_BLOCK, stop - position)
            block = file.read(wanted, dtype="float32", always_2d=True)
            if not len(block):
                break
            position += len(block)
            if position > start:
                blocks.append(_mean_of_channels(block[max(start - position, -len(block)) :]))
    except _FAILURES as error:
        what = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise RecordingError("undecodable", f"{name}: cannot be decoded after sample {position} ({what}).") from None
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _read_beyond(file: Any, start: int, stop: int | None) -> NDArray[np.float32]:
    """Samples [start, stop) after those that the header counts, up to the first that cannot be decoded."""
    blocks = [np.zeros(0, np.float32)]
    with contextlib.suppress(*_FAILURES):
        position = file.seek(start)
        while stop is None or position < stop:
            # small ones, since a block with something undecodable behind its samples is lost
            block = file.read(_SMALL_BLOCK if stop is None else min(_SMALL_BLOCK, stop - position), "float32", True)
            if not len(block):
                break
            position += len(block)
            blocks.append(_mean_of_channels(block))
    return np.concatenate(blocks)


def _mean_of_channels(block: NDArray[np.float32]) -> NDArray[np.float32]:
    if block.shape[1] == 1:
        return block[:, 0]
    mono = block[:, 0] + block[:, 1]  # column by column: several times as fast as mean(axis=1)
    for channel in range(2, block.shape[1]):
        mono += block[:, channel]
    mono *= np.float32(1 / block.shape[1])
    return mono


def decode(
    source: str | Path | bytes, rate: int, start: int = 0, stop: int | None = None, name: str = ""
) -> NDArray[np.float32]:
    """Samples of a recording, one channel, at ``rate``.

    Parameters
    ----------
    source : path, or bytes of a file
    rate : int
        Hz.
    start, stop : int
        Of samples at ``rate``; ``stop`` is exclusive, and None is the end.
    name : str
        How errors call it.

    Returns
    -------
    float32 [S]
        Fewer than asked for where the recording ends.

    Raises
    ------
    RecordingError
        ``undecodable``: no audio file, of an unknown format, or damaged.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "recording")
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(_open(source, name))
        native = file.samplerate
        first, last, begin = start, stop, 0
        if native != rate:
            common = math.gcd(native, rate)
            step_in, step_out = native // common, rate // common
            margin = math.ceil(REACH * native / step_in)  # in periods
            period = max(start // step_out - margin, 0)
            first, begin = period * step_in, period * step_out
            last = None if stop is None else (-(-stop // step_out) + margin) * step_in
        stated = file.frames
        # an mp3's header also says where its sound begins, so that a wrong one matters everywhere
        doubtful = last is None or last > stated or stated > _UNKNOWN or _is_mpeg(file)
        whole = _open_endless(source) if doubtful else None
        if whole is not None:
            opened.enter_context(whole)
        if whole is None or file.format != "FLAC" or stated > _UNKNOWN:
            samples = _read_mono(whole or file, first, last, name)
        else:  # not further than the header says, since the tags after some FLAC files are not sound
            samples = _read_mono(file, first, stated, name) if first < stated else np.zeros(0, np.float32)
            if len(samples) == max(stated - first, 0):
                samples = np.concatenate((samples, _read_beyond(whole, max(first, stated), last)))
    if native == rate or not len(samples):
        return samples
    at_rate = soxr.resample(samples, native, rate, quality=QUALITY)
    return at_rate[start - begin : None if stop is None else stop - begin]
