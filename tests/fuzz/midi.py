"""MIDI files: what can be read is a valid score that every codec takes and that can be written again."""

from __future__ import annotations

import random
from pathlib import Path

from musicbert_plugin.codecs import attributes, octuple, remi
from musicbert_plugin.codecs.score import Score, read_midi, write_midi
from tests.fuzz.mutation import mutate_bytes

CASES = 250
WORDS = (b"MThd", b"MTrk", b"RIFF", b"RMIDdata", b"\xff\x2f\0", b"\xff\x51\x03\0\0\0", b"\xff\x58\x04\0\0\0\0")
WORDS += (
    b"\xff\x58\x04\x04\x02\x18\x08",
    b"\x90\x40\x40",
    b"\x80\x40\x40",
    b"\xc0\x01",
    b"\xf0\x05",
    b"\xf7",
    b"\x8f\xff\xff\x7f",
)


def seeds() -> list[bytes]:
    """Files of format 0 and 1, with and without running status, and in an RMID container."""
    tempo, meter = b"\0\xff\x51\x03\x07\xa1\x20", b"\0\xff\x58\x04\x03\x02\x18\x08"
    notes = b"\0\xc0\x18\0\x90\x3c\x40\x60\x40\x50\x60\x80\x3c\0\0\x90\x40\0"
    drums = b"\0\x99\x24\x64\x60\x89\x24\x40\x83\x60\x99\x26\x7f\x10\x89\x26\0"
    end = b"\0\xff\x2f\0"
    one = _file(0, tempo + meter + notes + drums + end)
    two = _file(1, tempo + meter + end, notes + end, drums + end)
    data = b"RMIDdata" + len(one).to_bytes(4, "little") + one
    riff = b"RIFF" + len(data).to_bytes(4, "little") + data
    return [one, two, riff]


def _file(kind: int, *tracks: bytes) -> bytes:
    head = b"MThd\0\0\0\6" + bytes([0, kind, 0, len(tracks), 0, 96])
    return head + b"".join(b"MTrk" + len(track).to_bytes(4, "big") + track for track in tracks)


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage bytes; half of the time the chunks' lengths are right again afterwards."""
    damaged = mutate_bytes(data, rng, WORDS, others)
    at = damaged.find(b"MTrk")
    if at < 0 or rng.random() < 0.5:
        return damaged
    track = damaged[at + 8 :].split(b"MTrk")[0]
    return damaged[: at + 4] + len(track).to_bytes(4, "big") + damaged[at + 8 :]


def check(data: bytes, folder: Path) -> None:
    """Read, encode in every scheme, write, and read again."""
    score = read_midi(data, name="file.mid")
    _valid(score)
    octuples = octuple.encode(score, octuple.PUBLISHED_END)
    octuple.decode(octuples)
    for layout in remi.LAYOUTS:
        remi.decode(remi.encode_grid(remi.grid_for(score, layout, plain=True), layout)[0])
    attributes.extract(remi.grid_for(score, remi.BAR_TEMPO))
    write_midi(score, folder / "again.mid")
    again = read_midi(folder / "again.mid")
    assert len(again) == len(score)


def _valid(score: Score) -> None:
    """Make the score again, with its own checks."""
    Score.of(
        score.resolution,
        score.onset,
        score.end,
        score.pitch,
        score.velocity,
        score.program,
        score.track,
        list(zip(score.tempo_tick, score.tempo_bpm, strict=True)),
        list(zip(score.meter_tick, score.meter_numerator, score.meter_denominator, strict=True)),
    )
    assert len(score) > 0
