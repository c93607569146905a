"""Headers of audio files that state fewer samples than there are, and how to read past that number.

Also: how much is missing by a header that states more, and where the sections of a file begin that has several.

libsndfile reads no more samples than the header of a file states, or, for an mp3 without one, than its first frame
suggests.  Headers are wrong where a file was written as a stream and never completed, or was cut and joined by a
program that did not update them.  :func:`endless` shows libsndfile the same file with a header that states no end, so
that reading ends where the sound ends.  What is changed:

======================  ===========================================================================================
FLAC                    STREAMINFO's number of samples becomes 0, "unknown": always, since nothing else states it.
                        It serves to read on behind those samples, where there usually is nothing, or a tag
Ogg Vorbis, Ogg Opus    the position of the last page, if it is missing, 0, or below the position of a page before
mp3                     without a Xing header the file is shown as a longer one, also with a VBRI header, which
                        libmpg123 does not read; a Xing header with no frames, with too few for its bytes, or with fewer
                        bytes than there are, states many frames
wav, aiff, caf, au      the length of the sound, if it is 0 or unknown, or if it is followed by more than 64 KiB that
                        are no chunk
======================  ===========================================================================================

Headers that state more than there is need no change: reading ends with the file, and :func:`missing_share` tells how
much is missing, or for an mp3 whose header counts frames, :func:`samples_of_mp3`.

Notes
-----
An mp3 header that states too few frames and no number of bytes is believed.  The last page of an ogg file may trim up
to a page of sound, so a wrong trim of that size is not noticed.  Less than 64 KiB behind the sound of a wav file are
taken for what programs leave there.  Lengths from 0x7FFF0000 on are those of streams, in which nothing is missing.
Less than 4 KiB do not count as missing, since some programs count a header as sound.  Of an mp3 without a Xing or
VBRI header, and of an IRCAM file, it is unknown whether something is missing.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from typing import BinaryIO

UNKNOWN = b"\xff\xff\xff\xff"
_LEFTOVER = 1 << 16  # bytes behind the sound that are no sound
_SMALL_LEFTOVER = 1 << 12
_LARGEST_PAGE = 27 + 255 + 255 * 255
_FAR = (1 << 40).to_bytes(8, "little")
_TIMES_LONGER = 256  # more than the ratio of the largest frame of an mp3 to the smallest
_LARGEST_FRAME = 1441
_MANY_FRAMES = b"\x7f\xff\xff\xff"
_STREAMED = 0x7FFF0000  # bytes: a length from here on was written before anybody knew it
_SCANNED = 1 << 20  # bytes that are searched at a time
_FARTHEST = 1 << 62  # bytes: no file is as long
_TAG = 128  # bytes of ID3v1, at the end of an mp3, and of other files of careless programs


class _Positioned(io.RawIOBase):
    """A file above a file, with a place of its own to read at."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._length, self._at = file, length, 0

    def seekable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The next byte that is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def close(self) -> None:
        """Close the file below."""
        self._file.close()
        super().close()


class View(_Positioned):
    """A file with some bytes replaced, an earlier end, or a greater apparent length.

    Parameters
    ----------
    file : binary file
    offset : int
        Offset of ``instead``.
    instead : bytes
    end : int, optional
        What lies from here on is not shown.
    length : int, optional
        What seeking to the end gives; by default the end.
    """

    def __init__(
        self, file: BinaryIO, offset: int = 0, instead: bytes = b"", end: int | None = None, length: int | None = None
    ) -> None:
        self._end = file.seek(0, io.SEEK_END) if end is None else end
        super().__init__(file, self._end if length is None else length)
        self._offset, self._instead = offset, instead

    @property
    def original(self) -> BinaryIO:
        """The file without the replacement."""
        return self._file

    @property
    def end(self) -> int:
        """Number of bytes that are shown."""
        return self._end

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer, or what there is of it."""
        if self._at >= self._end:  # the end of a longer file is looked at (ID3v1), the middle is not
            count = max(min(len(buffer), self._length - self._at), 0) if self._at >= self._length - _TAG else 0
            buffer[:count] = bytes(count)
            self._at += count
            return count
        part = memoryview(buffer)[: self._end - self._at]
        self._file.seek(self._at)
        count = self._file.readinto(part)  # type: ignore[attr-defined]
        first, last = max(self._offset, self._at), min(self._offset + len(self._instead), self._at + count)
        if first < last:
            part[first - self._at : last - self._at] = self._instead[first - self._offset : last - self._offset]
        self._at += count
        return count


class Window(_Positioned):
    """Bytes [begin, end) of a file, as a file of their own."""

    def __init__(self, file: BinaryIO, begin: int, end: int) -> None:
        super().__init__(file, end - begin)
        self._begin = begin

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer, or what there is of it."""
        part = memoryview(buffer)[: max(self._length - self._at, 0)]
        self._file.seek(self._begin + self._at)
        count = self._file.readinto(part)  # type: ignore[attr-defined]
        self._at += count
        return count


def endless(file: BinaryIO) -> View | None:
    """The file with a head that does not end it before its sound does, or None where its own head does not."""
    size = file.seek(0, io.SEEK_END)
    start = _behind_id3(file)
    magic = _at(file, start, 4)
    if magic == b"fLaC":
        return _flac(file, start)
    if magic == b"OggS":
        return _ogg(file, size)
    if magic in _CHUNKS:
        return _chunks(file, size, *_CHUNKS[magic])
    if magic == b".snd":
        return _au(file, size)
    return _mp3(file, start, size)


def missing_share(file: BinaryIO) -> float:
    """How much of the sound that the header states is not in a file, as a share of what is there.

    0 if nothing is missing, or nothing tells; -1 if something is and its length is unknown.  Only what is missing at
    the end of the file counts.  The position in the file stays.
    """
    position = file.tell()
    try:
        size = file.seek(0, io.SEEK_END)
        start = _behind_id3(file)
        magic = _at(file, start, 4)
        if magic == b"OggS":
            return _missing_of_ogg(file, size)
        if magic in _CHUNKS:
            begin, stated = _chunk_of_sound(file, *_CHUNKS[magic])
        elif magic == b".snd":
            head = _at(file, 4, 8)
            begin, stated = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
        elif magic == b"riff":
            begin, stated = _sound_of_w64(file)
        elif magic == b"RF64":  # the length is in the first chunk, ds64
            begin, stated = _chunk_of_sound(file, *_CHUNKS[b"RIFF"])[0], int.from_bytes(_at(file, 28, 8), "little")
        elif magic == b"NIST":
            begin, stated = _sound_of_sphere(file)
        elif magic == b"2BIT":
            begin, stated = 128, _bytes_of_avr(_at(file, 0, 30))
        elif magic == b"Crea":
            begin, stated = _sound_of_voc(file, size)
        else:
            begin, stated = start, _bytes_of_mp3(file, start)
        there, missing = size - begin, stated - (size - begin)
        longest = 1 << 62 if magic in (b"caff", b"riff", b"RF64") else _STREAMED
        return missing / there if there > 0 and missing > _SMALL_LEFTOVER and stated < longest else 0.0
    finally:
        file.seek(position)


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    if offset >= _FARTHEST:  # by a wrong length of 64 bits
        return b""
    file.seek(offset)
    return file.read(count)


def _behind_id3(file: BinaryIO) -> int:
    """Where the file begins behind its ID3v2 tags, in which each byte of a length has 7 bits."""
    offset = 0
    while (tag := _at(file, offset, 10))[:3] == b"ID3" and len(tag) == 10:
        offset += 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        offset += 10 if tag[5] & 16 else 0
    return offset


def _flac(file: BinaryIO, start: int) -> View | None:
    offset = start + 21  # behind "fLaC", the block's head and 13 bytes: 4 bits of something else and 36 of the length
    stated = _at(file, offset, 5)
    unknown = bytes([stated[0] & 0xF0, 0, 0, 0, 0]) if len(stated) == 5 else stated
    size = file.seek(0, io.SEEK_END)
    end = size - _TAG if _at(file, max(size - _TAG, 0), 3) == b"TAG" else size
    return View(file, offset, unknown, end) if stated != unknown or end < size else None


# ------------------------------------------------------------------------------------------------------------- chunks

_CHUNKS = {  # begin of the first chunk, bytes of a length, their order, the chunk of the sound
    b"RIFF": (12, 4, "little", b"data"),
    b"RIFX": (12, 4, "big", b"data"),
    b"FORM": (12, 4, "big", b"SSND"),
    b"caff": (8, 8, "big", b"data"),
}


_SPHERE = (b"sample_count", b"sample_n_bytes", b"channel_count")


def _chunks(file: BinaryIO, size: int, offset: int, width: int, order: str, sound: bytes) -> View | None:
    while len(head := _at(file, offset, 4 + width)) == 4 + width:
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        begin = offset + 4 + width
        offset = begin + length + (length % 2 if width == 4 else 0)
        if head[:4] != sound:
            continue
        rest = size - begin
        if width == 8:
            wrong = length > rest or _is_cut(file, offset, size, length, width, order)
            return View(file, begin - width, rest.to_bytes(8, "big")) if wrong else None
        return View(file, begin - width, UNKNOWN) if _is_cut(file, offset, size, length, width, order) else None
    return None


def _chunk_of_sound(file: BinaryIO, offset: int, width: int, order: str, sound: bytes) -> tuple[int, int]:
    """Where the sound begins, and its length in bytes as its chunk states it; 0 if there is none."""
    while len(head := _at(file, offset, 4 + width)) == 4 + width:
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        if head[:4] == sound:
            return offset + 4 + width, length
        offset += 4 + width + length + (length % 2 if width == 4 else 0)
    return 0, 0


def _sound_of_w64(file: BinaryIO) -> tuple[int, int]:
    """As :func:`_chunk_of_sound`, of a Wave64 file: names of 16 bytes, lengths that count the chunk's own head."""
    offset = 40
    while len(head := _at(file, offset, 24)) == 24:
        length = int.from_bytes(head[16:], "little")
        if head[:4] == b"data":
            return offset + 24, length - 24
        if length < 24:
            break
        offset += length + -length % 8
    return 0, 0


def _sound_of_sphere(file: BinaryIO) -> tuple[int, int]:
    """As :func:`_chunk_of_sound`, of a NIST Sphere file, whose head of 1,024 bytes is lines of text."""
    head = _at(file, 0, 1024)
    found = [re.search(rb"\n%s -i (\d{1,12})\s" % key, head) for key in _SPHERE]
    return 1024, math.prod(int(match[1]) for match in found if match) if found[0] and found[1] else 0


def _bytes_of_avr(head: bytes) -> int:
    """How many bytes of sound an AVR file states: samples of a channel, one channel or two, and bits of a sample."""
    samples, bits = int.from_bytes(head[26:30], "big"), int.from_bytes(head[14:16], "big")
    return samples * (2 if any(head[12:14]) else 1) * bits // 8


def _sound_of_voc(file: BinaryIO, size: int) -> tuple[int, int]:
    """As :func:`_chunk_of_sound`, of a Creative Voice file: from its first block to the end of its last."""
    begin = offset = int.from_bytes(_at(file, 20, 2), "little")
    while offset < size and len(head := _at(file, offset, 4)) == 4 and head[0]:  # a block of type 0 is the end
        offset += 4 + int.from_bytes(head[1:], "little")
    return begin, offset - begin


def _is_cut(file: BinaryIO, offset: int, size: int, length: int, width: int, order: str) -> bool:
    """Whether a chunk of sound of so many bytes goes on where it should end."""
    if offset >= size:
        return False
    head = _at(file, offset, 4 + width)
    known = all(32 <= byte < 127 for byte in head[:4]) and len(head) == 4 + width
    if known and offset + 4 + width + int.from_bytes(head[4:], order) <= size + 1:  # type: ignore[arg-type]
        return False
    return not length or size - offset > _LEFTOVER


def _au(file: BinaryIO, size: int) -> View | None:
    head = _at(file, 4, 8)
    begin, length = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
    cut = begin + length < size and (not length or size - begin - length > _LEFTOVER)
    return View(file, 8, UNKNOWN) if cut else None


# ---------------------------------------------------------------------------------------------------------------- Ogg


def _ogg(file: BinaryIO, size: int) -> View | None:
    """A granule position is that of the last packet that ends on a page; -1 where none does."""
    base = max(size - 3 * _LARGEST_PAGE, 0)
    tail = _at(file, base, size - base)
    last, before = b"", -1
    offset = len(tail)
    while (offset := tail.rfind(b"OggS\0", 0, offset)) >= 0:
        page = tail[offset : offset + 27 + 255]
        if len(page) < 27 or (last and page[14:18] != last[14:18]):
            continue
        granule = int.from_bytes(page[6:14], "little", signed=True)
        lacing = page[27 : 27 + page[26]]
        if not last:
            end = offset + 27 + len(lacing) + sum(lacing)
            if end > len(tail) or not any(length < 255 for length in lacing):
                return None  # cut short: libsndfile takes the page before
            last, found, position = tail[offset:end], offset, granule
        elif granule >= 0:
            before = granule
            break
    if not last or int.from_bytes(last[18:22], "little") < 2:  # headers alone
        return None
    if position > 0 and position >= before:
        return None
    page = bytearray(last)
    page[6:14], page[22:26] = _FAR, bytes(4)
    page[22:26] = _checksum(page).to_bytes(4, "little")
    return View(file, base + found + 6, bytes(page[6:26]))


def _missing_of_ogg(file: BinaryIO, size: int) -> float:
    """-1 if the last page is cut, or is not marked as the last of its stream."""
    base = max(size - 3 * _LARGEST_PAGE, 0)
    tail = _at(file, base, size - base)
    offset = tail.rfind(b"OggS\0")
    page = tail[offset : offset + 27 + 255] if offset >= 0 else b""
    lacing = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) > 26 and offset + 27 + len(lacing) + sum(lacing) <= len(tail)
    return 0.0 if whole and page[5] & 4 else -1.0


def ogg_streams(file: BinaryIO) -> list[tuple[int, int]]:
    """Bytes [begin, end) of the streams of a chained ogg file, one after the other; none if there is only one.

    Streams that are mixed (their first pages follow one another) count as one.
    """
    if _at(file, 0, 4) != b"OggS":
        return []
    size = file.seek(0, io.SEEK_END)
    begins: list[int] = []
    following = -1  # where a page behind a first page begins
    for base in range(0, size, _SCANNED):
        for match in re.finditer(rb"OggS\0[\x02\x06]", _at(file, base, _SCANNED + 5)):
            offset = base + match.start()
            page = _at(file, offset, 27 + 255)
            if len(page) < 27:
                break
            if offset != following:
                begins.append(offset)
            following = offset + 27 + page[26] + sum(page[27 : 27 + page[26]])
    return list(zip(begins, [*begins[1:], size], strict=True)) if len(begins) > 1 else []


def _checksum(page: bytes | bytearray) -> int:
    """CRC-32 as Ogg has it: polynomial 04C11DB7, neither reflected nor inverted."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return value


def _crc_table() -> Iterator[int]:
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value >> 31 else value << 1) & 0xFFFFFFFF
        yield value


_CRC = tuple(_crc_table())

# ---------------------------------------------------------------------------------------------------------------- mp3


_TAGS = (13, 15, 21, 23, 36, 38)  # bytes of the first frame, with or without a checksum, before a Xing header


def _mp3(file: BinaryIO, start: int, size: int) -> View | None:
    changes = _changes_of_mp3(file, start, size)
    return None if changes is None else View(file, *changes)


def _changes_of_mp3(file: BinaryIO, start: int, size: int) -> tuple[int, bytes, int, int] | None:
    """How a :class:`View` shows an mp3 without an end: offset, instead, end, length; None if there is no need."""
    head = _at(file, start, 256)
    if len(head) < 256 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    newer, mono, unprotected = head[1] >> 3 & 1, head[3] >> 6 == 3, head[1] & 1
    offset = 4 + ((17 if mono else 32) if newer else (9 if mono else 17))
    end = size - _TAG if _at(file, size - _TAG, 3) == b"TAG" else size
    for at in (offset, offset + 2 * (not unprotected)):
        if head[at : at + 4] in (b"Xing", b"Info"):
            flags = int.from_bytes(head[at + 4 : at + 8], "big")
            numbers = head[at + 8 : at + 16]
            if not flags & 1:
                break
            frames = int.from_bytes(numbers[:4], "big")
            stated = int.from_bytes(numbers[4:], "big") if flags & 2 else end
            most = min(stated + _LEFTOVER, frames * _LARGEST_FRAME + _SMALL_LEFTOVER)
            if frames and end - start <= most:
                return None
            return start + at + 8, _MANY_FRAMES, end, end
    return 0, b"", end, end * _TIMES_LONGER


def samples_of_mp3(file: BinaryIO) -> tuple[int, int]:
    """How many samples of each channel the Xing, Info or VBRI header of an mp3 states, and how many a frame has.

    The samples that the encoder added at both ends are counted too.  (0, 0) if there is no such header, it counts no
    frames, or the file is longer than it states, as when several files were joined.  The position in the file stays.
    """
    position = file.tell()
    try:
        size = file.seek(0, io.SEEK_END)
        start = _behind_id3(file)
        head = _at(file, start, 256)
        if not _length_of_frame(head[:4]):
            return 0, 0
        frame, count = 1152 if head[1] & 8 else 576, 0
        if head[36:40] == b"VBRI":
            stated, count = int.from_bytes(head[46:50], "big"), int.from_bytes(head[50:54], "big")
            count = count if size - start <= stated + _LEFTOVER else 0
        elif _changes_of_mp3(file, start, size) is None:
            tags = (head[at : at + 12] for at in _TAGS if head[at : at + 4] in (b"Xing", b"Info"))
            count = next((int.from_bytes(tag[8:], "big") for tag in tags if tag[7] & 1), 0)
        return (frame * count, frame) if count else (0, 0)
    finally:
        file.seek(position)


def _bytes_of_mp3(file: BinaryIO, start: int) -> int:
    """How many bytes of frames the Xing or VBRI header states; 0 without one."""
    head = _at(file, start, 256)
    if head[36:40] == b"VBRI":
        return int.from_bytes(head[46:50], "big")
    for at in _TAGS:
        if head[at : at + 4] in (b"Xing", b"Info") and head[at + 7] & 2:
            numbers = head[at + 8 + (4 if head[at + 7] & 1 else 0) :]
            return int.from_bytes(numbers[:4], "big")
    return 0


_KBITS = {  # by MPEG-1 or not, and layer
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_FRAMES_IN_A_ROW = 3  # that make sure that bytes are no accident


def _length_of_frame(head: bytes) -> int:
    """Bytes of the MPEG frame with these first four bytes; 0 if they are none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)  # version 3: MPEG-1, 2: MPEG-2, 0: 2.5
    rate, kbits = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer == 4 or rate == 3 or not 0 < kbits < 15:
        return 0
    hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits, padding = 1000 * _KBITS[version == 3, layer][kbits], head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (144 if layer == 2 or version == 3 else 72) * bits // hertz + padding


def next_mp3(file: BinaryIO, start: int) -> int | None:
    """The first byte from ``start`` on at which three MPEG frames follow one another; None if there is none."""
    size = file.seek(0, io.SEEK_END)
    for base in range(start, size, _SCANNED):
        data = _at(file, base, _SCANNED + _FRAMES_IN_A_ROW * 4 * _LARGEST_FRAME)
        for match in re.finditer(rb"\xff[\xe0-\xff]", data):
            end = offset = match.start()
            if offset >= _SCANNED:
                break
            for _ in range(_FRAMES_IN_A_ROW):
                length = _length_of_frame(data[end : end + 4])
                end += length
                if not length or end > len(data):
                    break
            else:
                return base + offset
    return None
