"""MIDI files as bytes: what a parser does not tell, and what can be mended before it reads them.

The notes are read by a parser (see ``score``).  This module looks at the bytes themselves:

* the header need not be the first thing in a file: RMID containers are unwrapped, and ``MThd`` is looked for in the
  first :data:`SEARCHED` bytes (after a MacBinary header of 128 bytes, the head of an HTTP answer, a stray byte);
* an over-long header chunk is cut to its six defined bytes;
* an End of Track that is not the end of its track is replaced by an empty text, if all that follows it are MIDI events
  and music is among them;
* time signatures that no music can have are found, since parsers wrap them (they read 2/2**33 as 2/2), and so are
  tempi of 0 microseconds or of another length than three bytes, which are left out, and times beyond 31 bits;
* data bytes above 127 are counted.

The common file needs none of this: :func:`is_odd` looks for it in a pass over the bytes, which no loop of Python makes.
Only odd files are taken apart event by event.

References
----------
The Complete MIDI 1.0 Detailed Specification, Standard MIDI Files 1.0.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from musicbert_plugin.errors import ScoreError

SEARCHED = 1024
"""Bytes at the beginning of a file in which its header may begin."""

HIGH_BYTE = "data byte above 127, read as 127"
BEFORE_HEADER = "byte before the header, left out"
CONTAINER_SIZE = "wrong size of the RMID container, ignored"
EARLY_END = "End of Track inside a track, read on"
UNREAD_END = "End of Track inside a track, what follows left out"
IDLE_METER = "invalid time signature without effect, ignored"
BAD_TEMPO = "invalid tempo, ignored"

LAST_TICK = 2**31 - 1
_M = ord("M")  # of the header of a track
_HIGH = bytes(range(128, 256))
_FAR = re.compile(rb"\xff[\x80-\xff]{2}[\x00-\x7f]")
_TEXT, _END, _TEMPO, _METER, _UNUSED = 0x01, 0x2F, 0x51, 0x58, 0x7F  # types of meta events
_UNDEFINED = (0xF4, 0xF5, 0xF9, 0xFD)
_KNOWN = {
    b"PK\x03\x04": "a zip archive",
    b"OggS": "an Ogg recording",
    b"ID3": "an mp3 recording",
    b"fLaC": "a FLAC recording",
    b"%PDF": "a PDF document",
    b"<": "a page of HTML or XML",
    b"MZ": "a program",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
}


Event = tuple[int, int, int, int, bool]
"""An event of a track: tick, status, begin, end, running.

The tick counts from the beginning of the track.  The status byte is 0x80 to 0xEF, 0xF0, 0xF7, 0xFF (a meta event), ...;
``running`` tells whether it is that of an earlier event.  [begin, end) are the offsets of the bytes after the status
byte: the data, or type, length and content of a meta event.
"""


# ----------------------------------------------------------------------------------------------------------- containers


def unwrap(data: bytes, name: str) -> tuple[bytes, Counter[str]]:
    """The MIDI file inside a file's bytes, which begins with its header, and the repairs that finding it took.

    Raises
    ------
    ScoreError
        Reason ``"unreadable"``: there is none.
    """
    repairs: Counter[str] = Counter()
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        data = _riff_content(data, repairs)
    if data[:4] != b"MThd":
        begin = _header_offset(data)
        if begin < 0:
            raise ScoreError("unreadable", f"{name}: {_what_it_is(data)}")
        repairs[BEFORE_HEADER] += begin
        data = data[begin:]
    if len(data) >= 14:
        size = int.from_bytes(data[4:8], "big")
        if 6 < size <= len(data) - 8:
            data = b"MThd\0\0\0\6" + data[8:14] + data[8 + size :]
    return data, repairs


def _riff_content(data: bytes, repairs: Counter[str]) -> bytes:
    """The content of the chunk ``data`` of an RMID container; all that follows its head, if its size is too small."""
    chunk = 12
    while chunk + 8 <= len(data):
        size = int.from_bytes(data[chunk + 4 : chunk + 8], "little")
        if data[chunk : chunk + 4] == b"data":
            if size < 14:  # shorter than a header
                repairs[CONTAINER_SIZE] += 1
                return data[chunk + 8 :]
            return data[chunk + 8 : chunk + 8 + size]
        chunk += 8 + size + (size & 1)
    return data


def _header_offset(data: bytes) -> int:
    """Where ``MThd`` begins, in the first :data:`SEARCHED` bytes, or -1; one that a length of 6 follows comes first."""
    found = data.find(b"MThd\0\0\0\6", 0, SEARCHED + 8)
    return found if found >= 0 else data.find(b"MThd", 0, SEARCHED + 4)


def _what_it_is(data: bytes) -> str:
    """A sentence about bytes that hold no MIDI header."""
    if not data:
        return "the file is empty; a MIDI file is needed."
    if data[:2] == b"\x1f\x8b":
        return "this is a gzip file; decompress it to a MIDI file first."
    if not data.strip(b"\0"):
        return f"not a MIDI file: all of its {len(data):,} bytes are 0."
    what = f"a RIFF file of the form {data[8:12]!r}" if data[:4] == b"RIFF" else ""
    for signature, known in _KNOWN.items():
        if data[:SEARCHED].lstrip()[: len(signature)] == signature:
            what = known
    found = f"not a MIDI file (it begins with {data[:4]!r}, not b'MThd'"
    return f"{found}: this is {what})." if what else f"{found}, and none is in its first {SEARCHED:,} bytes)."


def track_chunks(data: bytes) -> list[tuple[int, int]]:
    """[begin, end) of the content of every track that the header counts, in the bytes of a MIDI file."""
    count = int.from_bytes(data[10:12], "big")
    tracks: list[tuple[int, int]] = []
    offset = 14
    while offset + 8 <= len(data) and len(tracks) < count:
        begin = offset + 8
        end = begin + int.from_bytes(data[offset + 4 : begin], "big")
        if data[offset : offset + 4] == b"MTrk":
            tracks.append((begin, min(end, len(data))))
        offset = end
    return tracks


# --------------------------------------------------------------------------------------------------------------- events


def number_at(data: bytes, offset: int) -> tuple[int, int]:
    """The variable-length number at an offset, and the offset after it."""
    number = 0
    while offset < len(data):
        byte = data[offset]
        offset += 1
        number = number << 7 | byte & 127
        if byte < 128:
            break
    return number, offset


def events_of(data: bytes, begin: int, end: int) -> tuple[list[Event], int]:
    """The events in ``data[begin:end]``, the content of a track, and where they end.

    An End of Track is an event as any other.  The second value is ``end``, or the beginning of the first event that is
    damaged: one that is cut off, or has no status.
    """
    events: list[Event] = []
    tick = running = 0
    offset = begin
    while offset < end:
        start = offset
        delta = data[offset]
        offset += 1
        if delta > 127:
            delta, offset = number_at(data, start)
        if offset >= end:
            return events, start
        tick += delta
        status = data[offset]
        is_running = status < 0x80
        if is_running:
            status = running
        else:
            offset += 1
        body = offset
        if 0x80 <= status < 0xF0:
            running = status
            offset += 1 if 0xC0 <= status < 0xE0 else 2  # a program change and a channel pressure have one data byte
        elif status in (0xF0, 0xF7):
            length, offset = number_at(data, offset)
            offset += length
        elif status == 0xFF:
            length, offset = number_at(data, offset + 1)
            offset += length
        elif status > 0xF0:
            offset += {0xF1: 1, 0xF2: 2, 0xF3: 1}.get(status, 0)
        else:  # a data byte before any status
            return events, start
        if offset > end:
            return events, start
        events.append((tick, status, body, offset, is_running))
    return events, end


def high_data_bytes(data: bytes) -> int:
    """The number of data bytes above 127 in the channel messages of a MIDI file.

    Of a damaged track, only the part before the damage is counted.
    """
    count = 0
    for begin, end in track_chunks(data):
        for _, status, first, after, _ in events_of(data, begin, end)[0]:
            if status < 0xF0:
                count += sum(byte > 127 for byte in data[first:after])
    return count


# -------------------------------------------------------------------------------------------------------------- mending


@dataclass
class Mended:
    """The bytes of a MIDI file that a parser can be given, and what it must not be trusted with.

    Attributes
    ----------
    data : bytes
    repairs : Counter of str
        From kind to number.
    meters : list of (int, str)
        Tick and text of every invalid time signature that no other one replaces at its tick; the parser sees none.
    unread : list of (int, int)
        Number of every track, from 1, whose End of Track precedes bytes that are no MIDI events, and their number.
    """

    data: bytes
    repairs: Counter[str] = field(default_factory=Counter)
    meters: list[tuple[int, str]] = field(default_factory=list)
    unread: list[tuple[int, int]] = field(default_factory=list)


def is_odd(data: bytes) -> bool:
    """Whether something of a MIDI file needs :func:`mend`, in few calls of numpy, since this is done with every file.

    Tempi of 0, which a parser shows as they are, are not looked for; times beyond 31 bits are, where delta times that
    begin with the byte 255 lead to them.
    """
    padded = data + b"\0\0\0\0"
    values = np.frombuffer(padded, np.uint8)
    meta = (values == 0xFF).nonzero()[0]
    kinds = values[meta + 1]
    if (values[meta[kinds == _TEMPO] + 2] != 3).any():
        return True
    types = kinds.tobytes()
    at = types.find(_METER)
    while at >= 0:
        offset = int(meta[at])
        length, numerator, exponent = padded[offset + 2 : offset + 5]
        if length != 4 or numerator == 0 or exponent > 7:
            return True
        at = types.find(_METER, at + 1)
    ends = []
    at = types.find(_END)
    while at >= 0:
        ends.append(int(meta[at]))
        at = types.find(_END, at + 1)
    tracks = int.from_bytes(data[10:12], "big")
    if len(ends) != tracks or data[-3:] != b"\xff\x2f\x00" or any(padded[end + 3] != _M for end in ends[:-1]):
        if _ends_early(data, ends):
            return True
    if len(types) - len(types.translate(None, _HIGH)) < 16:
        return False
    return len(_FAR.findall(data)) >= 8  # with fewer such delta times, no tick reaches 2**31


def _ends_early(data: bytes, ends: list[int]) -> bool:
    """Whether music follows one of what may be Ends of Track, at offsets ``ends``, inside its track."""
    for begin, end in track_chunks(data):
        for offset in ends:
            if begin <= offset < end - 3:
                if _has_music(data, events_of(data, offset + 3, end)[0]):
                    return True
    return False


def mend(data: bytes, name: str) -> Mended:
    """Mend the bytes of a MIDI file as this module describes.

    Raises
    ------
    ScoreError
        Reason ``"bad time"``: a note, tempo or time signature is beyond tick 2**31.
    """
    mended = Mended(data)
    patched = bytearray(data)
    meters: list[tuple[int, int, bool, str]] = []  # tick, number of the event, whether it is valid, and its text
    for number, (begin, end) in enumerate(track_chunks(data), start=1):
        events, stop = events_of(data, begin, end)
        kinds = [data[first] if status == 0xFF else -1 for _, status, first, _, _ in events]
        if _END in kinds[:-1] or (kinds and kinds[-1] == _END and stop < end):
            ended = kinds.index(_END)
            after = events[ended][3]
            if _is_music(data, events[ended + 1 :]) and stop == end:
                for event, kind in zip(events[:-1], kinds[:-1], strict=True):
                    if kind == _END:
                        patched[event[2]] = _TEXT
                mended.repairs[EARLY_END] += 1
            else:
                events, kinds = events[:ended], kinds[:ended]
                if data[after:end].strip(b"\0"):
                    mended.unread.append((number, end - after))
        for event, kind in zip(events, kinds, strict=True):
            tick, status, first, _, _ = event
            if tick > LAST_TICK and (status < 0xF0 or kind in (_TEMPO, _METER)):
                raise ScoreError(
                    "bad time", f"{name}: an event at tick {tick:,}; MIDI tools support times below 2**31 ticks."
                )
            if kind == _TEMPO and not _is_tempo(data, event):
                patched[first] = _UNUSED
                mended.repairs[BAD_TEMPO] += 1
            elif kind == _METER:
                text, valid = _meter(data, event)
                if not valid:
                    patched[first] = _UNUSED
                meters.append((tick, len(meters), valid, text))
    meters.sort()
    for number, (tick, _, valid, text) in enumerate(meters, start=1):
        if not valid and number < len(meters) and meters[number][0] == tick:
            mended.repairs[IDLE_METER] += 1
        elif not valid:
            mended.meters.append((tick, text))
    mended.data = bytes(patched)
    return mended


def _is_accepted(data: bytes, event: Event) -> bool:
    """Whether a parser accepts an event."""
    _, status, first, after, _ = event
    return not (status < 0xF0 and max(data[first:after]) > 127) and status not in _UNDEFINED


def _has_music(data: bytes, events: list[Event]) -> bool:
    """Whether events that begin a stretch of a track have notes or tempi before the first that no parser accepts."""
    if not events or events[0][4]:  # the first must have its own status, or any bytes would be events
        return False
    for event in events:
        _, status, first, _, _ = event
        if not _is_accepted(data, event):
            return False
        if (status >> 4 == 9 and data[first + 1] > 0) or (status == 0xFF and data[first] in (_TEMPO, _METER)):
            return True
    return False


def _is_music(data: bytes, events: list[Event]) -> bool:
    """Whether a parser accepts all events that begin a stretch of a track, and notes or tempi are among them."""
    return _has_music(data, events) and all(_is_accepted(data, event) for event in events)


def _is_tempo(data: bytes, event: Event) -> bool:
    """Whether a tempo event has three bytes that are not all 0."""
    content = data[event[2] + 1 : event[3]]
    return content[:1] == b"\3" and any(content[1:])


def _meter(data: bytes, event: Event) -> tuple[str, bool]:
    """A time signature as text, and whether music can have it and a parser reads it so."""
    length, begin = number_at(data, event[2] + 1)
    if length < 2:
        return f"of {length} bytes", False
    numerator, exponent = data[begin : begin + 2]
    denominator = f"2**{exponent}" if exponent > 7 else str(2**exponent)
    return f"of {numerator}/{denominator}", numerator > 0 and exponent <= 7 and length < 128
