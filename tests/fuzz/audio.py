"""Audio files: headers are corrected, and what decodes is finite and no longer than the file can hold."""

from __future__ import annotations

import contextlib
import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from musicbert_plugin.audio.decoding import decode, probe
from musicbert_plugin.audio.file_headers import endless
from tests.fuzz.mutation import mutate_bytes

CASES = 120
RATE = 8000
WORDS = (b"RIFF", b"WAVEfmt ", b"data", b"fact", b"LIST", b"OggS", b"fLaC", b"FORM", b"AIFF", b"SSND", b"COMM", b".snd")
WORDS += (
    b"caff",
    b"desc",
    b"ID3\4\0\0\0\0\x7f\x7f",
    b"TAG",
    b"Xing",
    b"Info\0\0\0\3",
    b"\xff\xfb\x90\x64",
    b"\xff\xff\xff\xff",
)


def seeds() -> list[bytes]:
    """A tenth of a second in each container, some of stereo."""
    time = np.arange(RATE // 10) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    stereo = np.stack((tone, -0.5 * tone), axis=1)
    found = []
    for kind, subtype, sound in (
        ("WAV", "PCM_16", stereo),
        ("WAV", "FLOAT", tone),
        ("WAV", "IMA_ADPCM", tone),
        ("FLAC", "PCM_16", tone),
        ("OGG", "VORBIS", tone),
        ("OGG", "OPUS", tone),
        ("MP3", "MPEG_LAYER_III", tone),
        ("AIFF", "PCM_24", stereo),
        ("AU", "ULAW", tone),
        ("CAF", "ALAC_16", tone),
    ):
        file = io.BytesIO()
        soundfile.write(file, sound, RATE, format=kind, subtype=subtype)
        found.append(file.getvalue())
    return found


KEPT = {
    "a chunk of 2^64 bytes": b"caff\0\1\0\0desc" + b"\xff" * 8 + bytes(64),
    "a wav with a chunk that ends before it begins": b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff" + bytes(64),
}
"""Files that once ended in a traceback."""


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage bytes."""
    return mutate_bytes(data, rng, WORDS, others)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without libmpg123's comments, which it writes to file descriptor 2."""
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)


def check(data: bytes, folder: Path) -> None:
    """Correct the header, read it, and decode the whole and a part."""
    view = endless(io.BytesIO(data))
    if view is not None:
        size = view.seek(0, io.SEEK_END)
        view.seek(max(size - 64, 0))
        view.read(64)
    with _quiet():
        recording = probe(data, name="x.wav")
        assert recording.sample_rate > 0 and recording.channels > 0
        whole = decode(data, 16000, name="x.wav")
        assert whole.dtype == np.float32 and whole.ndim == 1
        part = decode(data, 16000, 100, 300, name="x.wav")
        assert len(part) <= 200
