"""A recording is as long as its sound, whatever its head says of it: nothing is cut off, nothing refused unheard."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from musicbert_plugin.audio.decoding import decode
from musicbert_plugin.audio.file_headers import _checksum, endless
from musicbert_plugin.audio.front_end import front_end
from musicbert_plugin.errors import RecordingError

RATE = 44100
SECONDS = 6


def sound() -> np.ndarray:
    """A quiet tone and then loud noise, so that the beginning of an mp3 takes fewer bytes than its end."""
    noise = np.random.default_rng(0).standard_normal(RATE * SECONDS)
    tone = np.sin(np.arange(RATE * SECONDS) / 9)
    return (0.2 * np.where(np.arange(RATE * SECONDS) < RATE * SECONDS / 2, tone, noise)).astype(np.float32)


def written(format: str, subtype: str | None = None, rate: int = RATE, **options: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(), rate, format=format, subtype=subtype, **options)
    return file.getvalue()


def flac(total: int) -> bytes:
    """With another number of samples in STREAMINFO (36 bits; 0: unknown)."""
    data = bytearray(written("FLAC"))
    other = int.from_bytes(data[18:26], "big") >> 36 << 36
    data[18:26] = (other | total).to_bytes(8, "big")
    return bytes(data)


def ogg(granule: int, subtype: str = "VORBIS", rate: int = RATE) -> bytes:
    """With another position on its last page, and that page's checksum."""
    data = bytearray(written("OGG", subtype, rate))
    page = data.rindex(b"OggS")
    data[page + 6 : page + 14] = struct.pack("<q", granule)
    data[page + 22 : page + 26] = bytes(4)
    data[page + 22 : page + 26] = struct.pack("<I", _checksum(data[page:]))
    return bytes(data)


def length_of_chunk(format: str, chunk: bytes, code: str, value: int, file_length: int | None = None) -> bytes:
    data = bytearray(written(format))
    place = data.index(chunk) + len(chunk)
    data[place : place + struct.calcsize(code)] = struct.pack(code, value)
    if file_length is not None:
        data[4:8] = struct.pack("<I", file_length)
    return bytes(data)


def au(length: int) -> bytes:
    data = bytearray(written("AU"))
    data[8:12] = struct.pack(">I", length)
    return bytes(data)


def mp3(frames: int | None) -> bytes:
    """Of a variable bit rate, with another number of frames in its head, or without that head."""
    data = bytearray(written("MP3", bitrate_mode="VARIABLE", compression_level=0.5))
    place = data.index(b"Xing")
    if frames is None:
        return bytes(data[data.index(data[:2], 4) :])
    data[place + 8 : place + 12] = struct.pack(">I", frames)
    return bytes(data)


LYING = {
    "flac: unknown": lambda: flac(0),
    "flac: too many": lambda: flac(2**36 - 1),
    "flac: too few": lambda: flac(1000),
    "flac: one too few": lambda: flac(RATE * SECONDS - 1),
    "flac: too few, and a tag": lambda: flac(1000) + b"TAG" + bytes(125),
    "flac: unknown, and a tag": lambda: flac(0) + b"TAG" + bytes(125),
    "flac: right, and a tag": lambda: written("FLAC") + b"TAG" + bytes(125),
    "ogg: too many": lambda: ogg(2**62),
    "ogg: too few": lambda: ogg(1000),
    "ogg: none": lambda: ogg(-1),
    "ogg: zero": lambda: ogg(0),
    "opus: too many": lambda: ogg(2**40, "OPUS", 48000),
    "opus: too few": lambda: ogg(1000, "OPUS", 48000),
    "opus: zero": lambda: ogg(0, "OPUS", 48000),
    "wav: streamed": lambda: length_of_chunk("WAV", b"data", "<I", 0xFFFFFFFF, 0xFFFFFFFF),
    "wav: never completed": lambda: length_of_chunk("WAV", b"data", "<I", 0, 0),
    "wav: zero": lambda: length_of_chunk("WAV", b"data", "<I", 0),
    "wav: too few": lambda: length_of_chunk("WAV", b"data", "<I", 1000),
    "wav: too many": lambda: length_of_chunk("WAV", b"data", "<I", 0x7FFFFFFF),
    "wav: right, and another chunk": lambda: written("WAV") + b"LIST\4\0\0\0INFO",
    "wav: right, and leavings": lambda: written("WAV") + bytes(512),
    "aiff: too few": lambda: length_of_chunk("AIFF", b"SSND", ">I", 1000),
    "caf: unknown": lambda: length_of_chunk("CAF", b"data", ">q", -1),
    "caf: too few": lambda: length_of_chunk("CAF", b"data", ">q", 1000),
    "au: unknown": lambda: au(0xFFFFFFFF),
    "au: zero": lambda: au(0),
    "mp3: too many": lambda: mp3(10**8),
    "mp3: too few": lambda: mp3(10),
    "mp3: zero": lambda: mp3(0),
    "mp3: no head": lambda: mp3(None),
}


@pytest.mark.parametrize("make", LYING.values(), ids=LYING.keys())
@pytest.mark.parametrize("as_file", [False, True])
def test_all_of_the_sound_is_decoded_in_whole_and_in_parts(make: Callable, as_file: bool, tmp_path, capfd) -> None:
    data = make()
    kind = {b"fLaC": "FLAC", b"OggS": "OGG", b"RIFF": "WAV", b"FORM": "AIFF", b"caff": "CAF", b".snd": "AU"}
    kind = kind.get(data[:4], "MP3")
    opus = b"OpusHead" in data[:100]
    rate = 48000 if opus else RATE
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5} if kind == "MP3" else {}
    good = decode(written(kind, "OPUS" if opus else None, rate, **options), rate)
    if kind == "MP3" and b"Xing" not in data[:64]:  # its head also says that the encoder began 1,105 samples early
        good = np.concatenate((decode(data, rate, 0, 1105), good))
    source = tmp_path / "recording"
    source.write_bytes(data)
    source = source if as_file else data
    whole = decode(source, rate)
    assert len(good) <= len(whole) <= len(good) + 2048  # the end of a page or a frame that a right head trims
    np.testing.assert_array_equal(whole[: len(good)], good)
    for start, stop in ((0, 999), (len(good) // 2 - 5000, len(good) // 2 + 5000), (len(good) - 700, len(good))):
        np.testing.assert_allclose(decode(source, rate, start, stop), good[start:stop], atol=3e-7)
    resampled = decode(source, 22050, RATE, RATE + 3000)
    np.testing.assert_allclose(resampled, decode(source, 22050)[RATE : RATE + 3000], atol=3e-7)
    assert "Traceback" not in capfd.readouterr().err


def test_heads_that_are_right_are_left_alone() -> None:
    for format, subtype in (
        ("OGG", "VORBIS"),
        ("WAV", None),
        ("AIFF", None),
        ("CAF", None),
        ("AU", None),
        ("MP3", None),
    ):
        assert endless(io.BytesIO(written(format, subtype))) is None
    for nothing in (b"", b"RIFF", b"OggS" * 9, b"ID3" * 90, b"fLaC", b"\xff\xfb" * 200):
        endless(io.BytesIO(nothing))  # must not fail


def test_a_file_cut_short_ends_there_without_an_error_of_the_view() -> None:
    for data in (flac(1000), ogg(-1), mp3(None), length_of_chunk("WAV", b"data", "<I", 0)):
        for share in (0.1, 0.5, 0.9):
            cut = data[: int(len(data) * share)]
            try:
                assert len(decode(cut, RATE)) <= RATE * SECONDS + 2048
            except RecordingError as error:
                assert error.reason == "undecodable"


@pytest.mark.parametrize(
    "lie", ["flac: unknown", "flac: too few", "ogg: too few", "mp3: no head", "wav: never completed"]
)
def test_frames_are_read_from_anywhere_in_such_a_file(lie: str, tmp_path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(LYING[lie]())
    front = front_end("logmel20")
    whole = front.extract(decode(path, front.sample_rate))
    for start, stop in ((0, 10), (len(whole) // 2, len(whole) // 2 + 30), (len(whole) - 9, len(whole))):
        np.testing.assert_allclose(front.read(path, len(whole), start, stop), whole[start:stop], atol=2e-3)
