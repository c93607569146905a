"""Decoding: audio files to one channel of samples at a wanted rate, whole or in part.

libsndfile (by ``soundfile``) reads wav, w64, rf64, flac, ogg (Vorbis and Opus), mp3, mp2, aiff, au, caf, voc, sph, sf
and avr; m4a, aac, wma and a few others are read through ``ffmpeg`` (see there).  Channels are averaged, and soxr
changes the rate with its VHQ recipe (linear phase, 28 bits), which computes in float64.

Samples are float32, full scale is -1 to 1, and sample k lies at k / rate seconds, so that the first of a file stays the
first.  A file of S samples at rate r gives round(S * rate / r) samples at ``rate``.

A recording is decoded block by block (:class:`Sound`), and the result does not depend on the blocks, so that a long one
need never be in memory as a whole.

Parts
-----
A part of a file is decoded from a little before it: soxr's filter reaches over :data:`REACH` seconds, and both
ends of what it is given are thrown away, so that a part equals that part of the whole (to 1e-7, and exactly where
the rate stays).  The start is a multiple of the rates' common period, since only there do both rates have a sample.  An
mp3 is decoded from :func:`samples_before` still earlier: its frames borrow bytes from frames before them (the bit
reservoir), and without those the first tenths of a second after a seek would be wrong or silent (below 32 kHz, rounding
in its synthesis still differs by up to 6e-8 of full scale with the start).  An ogg file is always
decoded from its beginning: libsndfile's seeking in it is off by up to a window now and then (libsndfile issue 885); so
is whatever ffmpeg reads.

Lengths, damage, and files of several sections
----------------------------------------------
The length in a header is not relied on: a file is read to where its sound ends, or to ``stop`` (see ``file_headers``).
Where a file is damaged, or cut off, what can be decoded before is kept, and :attr:`Sound.damage` says so.  An ogg file
of several streams, one after the other, and an mp3 in which rate or channels change are read as one recording, each
section at its own rate.  A sample rate below 1 kHz or above 768 kHz, or more than 64 channels, is refused.

Any number of threads may decode at once.  libmpg123, inside libsndfile, writes comments on damaged mp3 files to file
descriptor 2 and has no switch for it.  Redirecting that descriptor would lose the messages of all other threads, so
only the builders' worker processes do it, once, before they start (see ``preprocess.engine.workers``); other commands
show those comments.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from musicbert_plugin.audio import ffmpeg
from musicbert_plugin.audio.file_headers import (
    View,
    Window,
    endless,
    missing_share,
    next_mp3,
    ogg_streams,
    samples_of_mp3,
)
from musicbert_plugin.errors import RecordingError
from musicbert_plugin.files import check_regular, open_regular

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".wav", ".wave", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    *(".rf64", ".bwf", ".voc", ".sph", ".nist", ".sf", ".ircam", ".avr"),
    *ffmpeg.SUFFIXES,
)
"""Of all files that :func:`decode` takes: what every command looks for in a folder of recordings.

Of the kinds that libsndfile reads, these are left out: sounds without a header (raw); matrices and features, which
need not be sounds (mat, htk); Sound Designer II, whose header is in another file; instruments and sample dumps (xi,
sds); and those of a few devices of the past (8svx, paf, pvf, wve).
"""

QUALITY = "VHQ"  # of soxr
REACH = 0.05  # seconds around a part that the resampler may look at; its filter is shorter from 4 kHz on
SILENCE = 1e-4  # of full scale, -80 dB
SHORTEST = 0.5  # seconds
LONGEST = 3600.0  # seconds
RATES = (1_000, 768_000)  # Hz
MOST_CHANNELS = 64
_FAILURES = (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError)  # of files that are not sound
_UNKNOWN = 1 << 35  # samples: what libsndfile says of a FLAC file without a length is more, as is what no file holds
_WIDTHS = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3}
_WIDTHS |= {"PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a sample, for encodings of a fixed size."""
_SMALL_BLOCK = 1 << 12
_BLOCK = 1 << 18  # samples that are decoded at a time: the channels of a long file are never in memory at once
_PADDING = 1 << 13  # samples that an mp3's encoder adds, at both ends together; fewer than 4,096 at each
_MISCOUNTED = 4  # frames by which the header of a whole mp3 may be wrong
_BEHIND_MP3 = 1 << 11  # bytes behind the last frame that libsndfile may leave unread

Source = str | Path | bytes
Block = NDArray[np.float32]


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


@dataclass(frozen=True)
class Damage:
    """Where a recording that goes on can no longer be decoded.

    Attributes
    ----------
    what : str
        What is wrong.
    kept : float
        Seconds that were decoded.
    lost : float
        Seconds that are missing, by the header or the size of the file; 0 if nothing tells.
    """

    what: str
    kept: float
    lost: float = 0.0

    def sentence(self, name: str) -> str:
        """The warning about a recording that is kept in part."""
        lost = f"about {self.lost:.2f} seconds are lost" if self.lost else "how much is lost is unknown"
        return f"{name}: {self.what}; {self.kept:.2f} seconds are kept, {lost}."


class SoundCheck:
    """Refuses recordings that no features should be made of, while their samples pass in blocks.

    Parameters
    ----------
    rate : int
        Hz.
    name : str
    shortest, longest : float
        Seconds.
    """

    def __init__(self, rate: int, name: str, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
        self._rate, self._name, self._shortest, self._longest = rate, name, shortest, longest
        self._count, self._peak = 0, 0.0

    def add(self, samples: Block) -> None:
        """Check the next samples.

        Raises
        ------
        RecordingError
            ``NaN``, or ``too long``.
        """
        if not len(samples):
            return
        self._count += len(samples)
        if self._count > self._longest * self._rate:
            raise RecordingError(
                "too long",
                f"{self._name}: more than {self._longest:g} seconds; --max-seconds accepts no more than that.",
            )
        if not np.isfinite(samples).all():
            raise RecordingError("NaN", f"{self._name}: holds samples that are no finite numbers.")
        self._peak = max(self._peak, float(samples.max()), -float(samples.min()))

    def finish(self, loudest_channel: float = 0.0) -> None:
        """Check the whole; ``loudest_channel`` is the largest sample of any channel before they were averaged.

        Raises
        ------
        RecordingError
            ``too short``, or ``silent`` (never above -80 dB).
        """
        seconds = self._count / self._rate
        if not self._count:
            raise RecordingError(
                "too short", f"{self._name}: holds no sound; nothing that can be decoded follows its header."
            )
        if seconds < self._shortest:
            raise RecordingError(
                "too short", f"{self._name}: {seconds:.2f} seconds; at least {self._shortest:g} are needed."
            )
        if self._peak >= SILENCE:
            return
        if loudest_channel >= SILENCE:
            raise RecordingError(
                "silent",
                f"{self._name}: its channels cancel each other (opposite phase), so that their mean is never louder "
                "than -80 dB; a file of one of the channels is accepted.",
            )
        raise RecordingError("silent", f"{self._name}: never louder than -80 dB.")


def require_sound(samples: Block, rate: int, name: str, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
    """Refuse samples [S] that no features should be made of; see :class:`SoundCheck`."""
    check = SoundCheck(rate, name, shortest, longest)
    check.add(samples)
    check.finish()


class _Sequential(soundfile.SoundFile):
    """A file that is read sequentially; :meth:`seek` works.

    Of a seekable file, soundfile seeks after every read to where it is already.  In an mp3 that forgets what the next
    frames borrow, and up to 40 ms at each join would be wrong or silent; in an ogg it may change the position.
    """

    def seekable(self) -> bool:
        """False, so that reading does not seek."""
        return False


class _Viewed(_Sequential):
    """A file that is read through a :class:`View`, which it closes."""

    def __init__(self, view: View) -> None:
        self.view = view
        super().__init__(view)

    def close(self) -> None:
        """Close both files."""
        super().close()
        self.view.close()


class _Content(io.BytesIO):
    """The content of a file.  Seeking before its beginning, as libsndfile does in damaged files, has no effect."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):  # raised through libsndfile, it would be printed and not end anything
            return self.tell()


def _binary(source: Source) -> BinaryIO:
    return _Content(source) if isinstance(source, bytes) else open_regular(source, 1 << 16)


def _reason(error: BaseException) -> str:
    what = str(getattr(error, "error_string", error)).strip().rstrip(".")
    if any(said in what for said in ("Format not recognised", "does not exist")):  # of any odd content
        return "no kind of audio that libsndfile knows"
    return what or "damaged"


def _check_exists(source: Source, name: str) -> None:
    if isinstance(source, bytes):
        return
    try:
        check_regular(source)
    except FileNotFoundError:
        raise RecordingError("undecodable", f"{name}: there is no such file.") from None
    except OSError as error:
        raise RecordingError("undecodable", f"{name}: cannot be read ({error.strerror or error}).") from None
    if Path(source).is_dir():
        raise RecordingError("undecodable", f"{name} is a folder; a recording is needed.")


def _open(source: Source, name: str) -> soundfile.SoundFile:
    """The file as its header describes it; see :func:`_open_endless`."""
    _check_exists(source, name)
    try:
        if isinstance(source, bytes):
            file = _Sequential(_Content(source))
        else:  # as bytes, since soundfile refuses names that are no UTF-8
            file = _Sequential(str(source) if os.name == "nt" else os.fsencode(source))
    except _FAILURES as error:
        file = _open_endless(source)  # some headers are so wrong that they are refused
        if file is None:
            kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
            raise RecordingError(
                "undecodable", f"{name}: cannot be decoded ({_reason(error)}); {kinds} are accepted."
            ) from None
    try:
        _check_format(file.samplerate, file.channels, name)
    except RecordingError:
        file.close()
        raise
    return file


def _check_format(sample_rate: int, channels: int, name: str) -> None:
    """Refuse rates and channels that nobody records with: what is decoded could be larger than any memory."""
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise RecordingError(
            "undecodable",
            f"{name}: its header states a sample rate of {sample_rate} Hz; {RATES[0]:,} to {RATES[1]:,} is accepted.",
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise RecordingError(
            "undecodable", f"{name}: its header states {channels} channels; 1 to {MOST_CHANNELS} are accepted."
        )


def _open_endless(source: Source) -> _Viewed | None:
    """The file with a header that does not end it before its sound does, or None where its own header does not."""
    file: Any = None
    try:
        file = _binary(source)
        view = endless(file)
        if view is not None:
            return _Viewed(view)
    except _FAILURES:
        pass
    if file is not None:
        file.close()
    return None


def _uses_ffmpeg(source: Source, name: str) -> bool:
    """Whether a file is for ffmpeg, by its name: the frames of an aac look like an mp3's to libsndfile."""
    path = name if isinstance(source, bytes) else str(source)
    return path.lower().endswith(ffmpeg.SUFFIXES)


def probe(source: Source, name: str = "") -> Recording:
    """What kind of recording a file holds, without decoding it.

    Raises
    ------
    RecordingError
        ``undecodable``.
    """
    name = name or str(source)
    if _uses_ffmpeg(source, name):
        _check_exists(source, name)
        with contextlib.closing(ffmpeg.FFmpegStream(source, name)) as stream:
            _check_format(stream.samplerate, stream.channels, name)
            return Recording(stream.samplerate, stream.channels, 0)
    with _open(source, name) as file:
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


def _mean_of_channels(block: NDArray[np.float32]) -> Block:
    if block.shape[1] == 1:
        return block[:, 0]
    with np.errstate(all="ignore"):  # of numbers that are not finite, which SoundCheck refuses
        mono = block[:, 0] + block[:, 1]  # column by column: several times as fast as mean(axis=1)
        for channel in range(2, block.shape[1]):
            mono += block[:, channel]
        mono *= np.float32(1 / block.shape[1])
    return mono


class Sound:
    """A recording, or a part of it: iterating over it decodes it, from its beginning each time.

    Parameters
    ----------
    source : path, or bytes of a file
    rate : int
        Hz.
    start, stop : int
        Of samples at ``rate``; ``stop`` is exclusive, and None is the end.
    name : str
        How errors call it.

    Attributes
    ----------
    sample_rate, channels : int
        Of the file; in a file of several sections, of the first.  0 before it is opened.
    damage : Damage or None
        What the last iteration found, if the recording could not be decoded to its end.
    loudest_channel : float
        The largest sample of any channel, as long as the mean of the channels was never above -80 dB.

    Yields
    ------
    float32 [S]
        Samples, in blocks.

    Raises
    ------
    RecordingError
        ``undecodable``, while iterating: no audio file, of an unknown format, or damaged before the first sample.
    """

    def __init__(self, source: Source, rate: int, start: int = 0, stop: int | None = None, name: str = "") -> None:
        self._source, self._rate, self._start, self._stop = source, rate, start, stop
        self._name = name or (str(source) if not isinstance(source, bytes) else "recording")
        self.sample_rate = self.channels = 0
        self._longest = math.inf
        self._reset()

    def _reset(self) -> None:
        self.damage: Damage | None = None
        self.loudest_channel = 0.0
        self._audible = False
        self._seconds = 0.0  # of the sections before
        self._sought = True  # whether the beginning of a part was found
        self._goes_on = False  # whether another section follows, so that an open end is none of the recording

    def __iter__(self) -> Iterator[Block]:
        self._reset()
        _check_exists(self._source, self._name)
        if _uses_ffmpeg(self._source, self._name):
            return _cut(self._through_ffmpeg(), self._start, self._stop)
        streams = self._ogg_streams()
        if streams:
            return _cut(self._chained(streams), self._start, self._stop)
        return self._simple()

    def checked(self, shortest: float = SHORTEST, longest: float = LONGEST) -> Iterator[Block]:
        """The blocks, and at the end, or before, the errors of a :class:`SoundCheck`.

        A file whose size alone shows that it is too long is not decoded.
        """
        self._longest = longest
        check = SoundCheck(self._rate, self._name, shortest, longest)
        for block in self:
            check.add(block)
            yield block
        check.finish(self.loudest_channel)

    # -------------------------------------------------------------------------------------------------------- sections

    def _through_ffmpeg(self) -> Iterator[Block]:
        _check_exists(self._source, self._name)
        with contextlib.closing(ffmpeg.FFmpegStream(self._source, self._name)) as stream:
            _check_format(stream.samplerate, stream.channels, self._name)
            self.sample_rate, self.channels = stream.samplerate, stream.channels
            count = 0

            def native() -> Iterator[Block]:
                nonlocal count
                while len(block := stream.read(max(_BLOCK // stream.channels, 1))):
                    count += len(block)
                    yield self._mono(block)

            yield from resampled(native(), stream.samplerate, self._rate)
            if stream.failure:
                if not count:
                    raise RecordingError("undecodable", f"{self._name}: cannot be decoded ({stream.failure}).")
                self._note(f"cannot be decoded to its end ({stream.failure})", count, 0.0, stream.samplerate)

    def _ogg_streams(self) -> list[tuple[int, int]]:
        """Bytes [begin, end) of the streams of an ogg file, if it holds several, one after the other."""
        try:
            with _binary(self._source) as file:
                return ogg_streams(file)
        except OSError:
            return []

    def _chained(self, streams: list[tuple[int, int]]) -> Iterator[Block]:
        for number, (begin, end) in enumerate(streams, 1):
            self._goes_on = number < len(streams)
            try:
                file = self._section(begin, end)
            except RecordingError as error:
                if not self.sample_rate:
                    raise
                self._note(f"stream {number} of {len(streams)} is left out ({error.sentence})", 0, 0.0, 1)
                continue
            with file:
                if not self.sample_rate:
                    self.sample_rate, self.channels = file.samplerate, file.channels
                yield from resampled(self._native(file, 0, None), file.samplerate, self._rate)
        if self.damage:
            self.damage = replace(self.damage, kept=self._seconds)

    def _section(self, begin: int, end: int | None) -> _Viewed:
        """Bytes [begin, end) as a file of their own; a :class:`RecordingError` if they are none."""
        data = _binary(self._source)
        try:
            window: Any = data if end is None else Window(data, begin, end)
            file = _Viewed(endless(window) or View(window))
            _check_format(file.samplerate, file.channels, self._name)
            return file
        except _FAILURES as error:
            data.close()
            raise RecordingError("undecodable", f"{self._name}: cannot be decoded ({_reason(error)}).") from None
        except RecordingError:
            data.close()
            raise

    def _simple(self) -> Iterator[Block]:
        """A file of one section, or an mp3, of which it becomes clear only at their end that they are not."""
        rate, start, stop = self._rate, self._start, self._stop
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(_open(self._source, self._name))
            native = self.sample_rate = file.samplerate
            self.channels = file.channels
            first, last, begin = start, stop, start
            if native != rate:
                common = math.gcd(native, rate)
                step_in, step_out = native // common, rate // common
                margin = math.ceil(REACH * native / step_in)  # in periods
                period = max(start // step_out - margin, 0)
                first, begin = period * step_in, period * step_out
                last = None if stop is None else (-(-stop // step_out) + margin) * step_in
            stated = file.frames
            certain = self._certain_length(file)
            if certain > self._longest * native:
                raise RecordingError(
                    "too long",
                    f"{self._name}: {certain / native:,.1f} seconds, more than {self._longest:g} seconds; "
                    "--max-seconds accepts no more than that.",
                )
            # an mp3's header also says where its sound begins, so that a wrong one matters everywhere
            doubtful = last is None or last > stated or stated > _UNKNOWN or _is_mpeg(file)
            whole = _open_endless(self._source) if doubtful else None
            if whole is None and _is_mpeg(file):
                whole = self._section(0, None)
            if whole is not None:
                opened.enter_context(whole)
            blocks = self._native(file, first, last, whole)
            count = 0
            for block in _cut(resampled(blocks, native, rate), start - begin, None if stop is None else stop - begin):
                count += len(block)
                yield block
            if not isinstance(whole, _Viewed) or not _is_mpeg(whole) or self.damage:
                return
            if stop is not None and count >= stop - start:
                return
            behind = whole.view.tell()
        sections = self._later_sections(behind)
        if start == 0:
            yield from _cut(sections, 0, None if stop is None else stop - count)
        elif not self._sought or next(sections, None) is not None:
            # where later sections begin is only known from the beginning
            everything = Sound(self._source, rate, name=self._name)
            yield from _cut(iter(everything), start + count, stop)

    def _certain_length(self, file: Any) -> int:
        """Samples that a file surely has, by its header and its size; 0 where decoding alone shows it."""
        width = 0 if file.format == "FLAC" else _WIDTHS.get(file.subtype, 0)
        if not width:
            return 0
        size = len(self._source) if isinstance(self._source, bytes) else os.path.getsize(self._source)
        return min(file.frames, size // (width * file.channels))

    def _later_sections(self, behind: int) -> Iterator[Block]:
        """The sections of an mp3 after one at whose end libsndfile had read so many bytes."""
        while True:
            with _binary(self._source) as data:
                size = data.seek(0, io.SEEK_END)
                begin = next_mp3(data, max(behind - 4, 0)) if size - behind > _BEHIND_MP3 else None
            if begin is None:
                return
            try:
                file = self._section(begin, size)
            except RecordingError:
                return
            with file:
                yield from resampled(self._native(file, 0, None), file.samplerate, self._rate)
                behind = max(begin + file.view.tell(), begin + _BEHIND_MP3)
            if self.damage:
                return

    # --------------------------------------------------------------------------------------------------- native samples

    def _mono(self, block: NDArray[np.float32]) -> Block:
        mono = _mean_of_channels(block)
        if not self._audible and len(mono):
            self._audible = max(float(mono.max()), -float(mono.min())) >= SILENCE
            if not self._audible:
                self.loudest_channel = max(self.loudest_channel, float(np.abs(block).max()))
        return mono

    def _note(self, what: str, kept: int, missing: float, rate: int) -> None:
        """Record that samples are missing behind the ``kept`` that were decoded."""
        before = self.damage or Damage(what, 0.0)
        self.damage = Damage(before.what, self._seconds + kept / rate, before.lost + max(missing, 0.0) / rate)

    def _native(self, file: Any, start: int, stop: int | None, whole: Any = None) -> Iterator[Block]:
        """Samples [start, stop) at the file's own rate, fewer where it ends; ``whole`` is the file without an end."""
        stated = file.frames
        if whole is None or file.format != "FLAC" or stated > _UNKNOWN:
            yield from self._sequence(whole or file, start, stop, stated)
            return
        # not further than the header says, since the tags after some FLAC files are not sound
        end = stated if stop is None else min(stated, stop)
        if start < stated:
            yield from self._sequence(file, start, end, stated)
        if not self.damage and (stop is None or stop > stated):
            yield from self._beyond(whole, max(start, stated), stop)

    def _sequence(self, file: Any, start: int, stop: int | None, stated: int) -> Iterator[Block]:
        """Samples [start, stop) up to the first that cannot be decoded."""
        position = 0
        length = max(_BLOCK // max(file.channels, 1), 1)
        try:
            early = samples_before(file.samplerate) if _is_mpeg(file) else 0
            if start > early and file.format != "OGG":
                position = file.seek(start - early)
        except _FAILURES as error:
            if _is_mpeg(file):
                self._sought = False  # it may be in a later section
                return
            raise RecordingError(
                "undecodable", f"{self._name}: sample {start - early} cannot be found ({_reason(error)})."
            ) from None
        while stop is None or position < stop:
            block, failure = _read(file, length if stop is None else min(length, stop - position))
            position += len(block)
            if position > start and len(block):
                yield self._mono(block[max(start - position, -len(block)) :])
            if failure:
                if not position:
                    raise RecordingError("undecodable", f"{self._name}: cannot be decoded ({failure}).")
                seconds = position / file.samplerate
                missing = self._missing(file, position, stated, unread=True)
                what = f"cannot be decoded after {self._seconds + seconds:.2f} seconds ({failure})"
                self._note(what, position, missing, file.samplerate)
                return
            if not len(block):
                missing = self._missing(file, position, stated)
                if missing:
                    self._note("is cut off, or parts of it are damaged", position, missing, file.samplerate)
                break
        self._seconds += position / file.samplerate

    def _missing(self, file: Any, position: int, stated: int, unread: bool = False) -> float:
        """How many samples should follow, by the header, at the end of the file; negative if an unknown number should.

        An mp3 whose header counts no frames and that was not read to its end (``unread``) has about as many more as its
        bytes tell.
        """
        if not position:
            return 0.0
        if file.format == "FLAC":
            return float(stated - position) if stated <= _UNKNOWN else 0.0
        with contextlib.ExitStack() as opened:
            data = file.view.original if isinstance(file, _Viewed) else opened.enter_context(_binary(self._source))
            share = 0.0 if self._goes_on else missing_share(data)
            counted, frame = samples_of_mp3(data) if _is_mpeg(file) and not self._goes_on else (0, 0)
            if counted:  # libsndfile states the same without the encoder's padding, if it reads this kind of header
                missing = (stated if counted - _PADDING < stated <= counted else counted) - position
                return float(missing) if unread or missing > _MISCOUNTED * frame else 0.0
            if unread and _is_mpeg(file):
                read = max(file.view.tell(), 1)
                return position * max(file.view.end / read * (1 + max(share, 0.0)) - 1, 0.0)
            if share:
                return share * position
        return float(stated - position) if file.format == "OGG" and position + 4096 < stated <= _UNKNOWN else 0.0

    def _beyond(self, file: Any, start: int, stop: int | None) -> Iterator[Block]:
        """Samples [start, stop) after those that the header counts, up to the first that cannot be decoded."""
        with contextlib.suppress(*_FAILURES):
            position = file.seek(start)
            while stop is None or position < stop:
                block, failure = _read(file, _SMALL_BLOCK if stop is None else min(_SMALL_BLOCK, stop - position))
                if not len(block):
                    break
                position += len(block)
                yield self._mono(block)
                if failure:
                    break


def _read(file: Any, count: int) -> tuple[NDArray[np.float32], str]:
    """The next samples [at most count, channels], and why there are no more, if they cannot be decoded."""
    block = np.full((count, file.channels), np.nan, np.float32)
    try:
        return file.read(count, dtype="float32", always_2d=True, out=block), ""
    except _FAILURES as error:
        # What was decoded before is there; soundfile does not say how much it is.
        known = np.flatnonzero(~np.isnan(block[:, 0]))
        return block[: known[-1] + 1 if len(known) else 0], _reason(error)


def resampled(blocks: Iterable[Block], native: int, rate: int) -> Iterator[Block]:
    """Samples at another rate: the same, however they are cut."""
    if native == rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(native, rate, 1, "float32", QUALITY)
    given = False
    for block in blocks:
        given = True
        if len(at_rate := stream.resample_chunk(np.ascontiguousarray(block))):
            yield at_rate
    if given:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _cut(blocks: Iterator[Block], start: int, stop: int | None) -> Iterator[Block]:
    """Samples [start, stop) of blocks."""
    position = 0
    for block in blocks:
        first, last = max(start - position, 0), len(block) if stop is None else min(stop - position, len(block))
        position += len(block)
        if first < last:
            yield block[first:last]
        if stop is not None and position >= stop:
            return


def decode(source: Source, rate: int, start: int = 0, stop: int | None = None, name: str = "") -> Block:
    """Samples of a recording, one channel, at ``rate``; a whole one that is damaged is kept in part, with a warning.

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
        ``undecodable``: no audio file, of an unknown format, or damaged before the first sample.
    """
    sound = Sound(source, rate, start, stop, name)
    blocks = list(sound)
    if sound.damage and not start and stop is None:
        logger.warning("%s", sound.damage.sentence(sound._name))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
