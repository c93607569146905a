"""Headers of audio files that state fewer samples than there are, and how to read past that number.

libsndfile reads no more samples than the header of a file states, or, for an mp3 without one, than its first frame
suggests.  Headers are wrong where a file was written as a stream and never completed, or was cut and joined by a
program that did not update them.  :func:`endless` shows libsndfile the same file with a header that states no end, so
that reading ends where the sound ends.  What is changed:

======================  ===========================================================================================
FLAC                    STREAMINFO's number of samples becomes 0, "unknown": always, since nothing else states it.
                        It serves to read on behind those samples, where there usually is nothing, or a tag
Ogg Vorbis, Ogg Opus    the position of the last page, if it is missing, 0, or below the position of a page before
mp3                     without a Xing or VBRI header the file is shown as a longer one; a header with no frames, with
                        too few for its bytes, or with fewer bytes than there are, states many frames
wav, aiff, caf, au      the length of the sound, if it is 0 or unknown, or if it is followed by more than 64 KiB that
                        are no chunk
======================  ===========================================================================================

Headers that state more than there is need no change: reading ends with the file.

Notes
-----
An mp3 header that states too few frames and no number of bytes is believed.  The last page of an ogg file may trim up
to a page of sound, so a wrong trim of that size is not noticed.  Less than 64 KiB behind the sound of a wav file are
taken for what programs leave there.
"""

from __future__ import annotations

import io
import sys
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
_TAG = 128  # bytes of ID3v1, at the end of an mp3, and of other files of careless programs


class View(io.RawIOBase):
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
        self._file, self._offset, self._instead = file, offset, instead
        self._end = file.seek(0, io.SEEK_END) if end is None else end
        self._length = self._end if length is None else length
        self._at = 0

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

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer, or what there is of it."""
        if self._at >= self._end:  # the end of a longer file is looked at (ID3v1), the middle is not
            count = min(len(buffer), self._length - self._at) if self._at >= self._length - _TAG else 0
            buffer[:count] = bytes(count)
            self._at += max(count, 0)
            return max(count, 0)
        part = memoryview(buffer)[: self._end - self._at]
        self._file.seek(self._at)
        count = self._file.readinto(part)  # type: ignore[attr-defined]
        first, last = max(self._offset, self._at), min(self._offset + len(self._instead), self._at + count)
        if first < last:
            part[first - self._at : last - self._at] = self._instead[first - self._offset : last - self._offset]
        self._at += count
        return count

    def close(self) -> None:
        """Close the file below."""
        self._file.close()
        super().close()


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


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    """Bytes at an offset, which a damaged header may have put anywhere; none behind the end."""
    file.seek(min(offset, sys.maxsize))
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


def _mp3(file: BinaryIO, start: int, size: int) -> View | None:
    head = _at(file, start, 256)
    if len(head) < 256 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    newer, mono, unprotected = head[1] >> 3 & 1, head[3] >> 6 == 3, head[1] & 1
    offset = 4 + ((17 if mono else 32) if newer else (9 if mono else 17))
    end = size - _TAG if _at(file, size - _TAG, 3) == b"TAG" else size
    length = end * _TIMES_LONGER
    if head[36:40] == b"VBRI":
        return None
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
            return View(file, start + at + 8, _MANY_FRAMES, end)
    return View(file, end=end, length=length)
