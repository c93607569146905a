"""Odd MIDI files: headers behind other bytes, early ends of tracks, invalid time signatures and tempi, far times."""

from __future__ import annotations

import logging
import struct

import numpy as np
import pytest

from musicbert_plugin.codecs import midi_bytes, octuple
from musicbert_plugin.codecs.score import read_midi
from musicbert_plugin.errors import ScoreError

NOTE = b"\x00\x90\x3c\x40\x60\x80\x3c\x40"  # of 96 ticks
END = b"\x00\xff\x2f\x00"


def smf(*tracks: bytes) -> bytes:
    """A MIDI file of 96 ticks per quarter note."""
    chunks = b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)
    return b"MThd" + struct.pack(">IHHH", 6, len(tracks) > 1, len(tracks), 96) + chunks


def meter(numerator: int, exponent: int, delta: int = 0) -> bytes:
    return bytes([delta, 0xFF, 0x58, 4, numerator, exponent, 24, 8])


def tempo(microseconds: int) -> bytes:
    return b"\x00\xff\x51\x03" + microseconds.to_bytes(3, "big")


def refusal(data: bytes) -> ScoreError:
    with pytest.raises(ScoreError) as error:
        read_midi(data, name="a.mid")
    assert str(error.value).startswith("a.mid: ") and "\n" not in str(error.value)
    return error.value


WHOLE = smf(NOTE + END)
MAC_BINARY = b"\0\5a.mid" + bytes(58) + b"MIDI" + bytes(55)
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: audio/midi\r\n\r\n"


@pytest.mark.parametrize("before", [b"\n", b"\xef\xbb\xbf", MAC_BINARY[:128].ljust(128, b"\0"), HTTP, b"xMThd"])
def test_a_header_behind_other_bytes_is_found_and_the_bytes_are_counted(before: bytes) -> None:
    score = read_midi(before + WHOLE + bytes(40))
    assert (len(score), score.repairs) == (1, {midi_bytes.BEFORE_HEADER: len(before)})


def test_a_header_is_looked_for_in_the_first_1024_bytes() -> None:
    assert len(read_midi(b"x" * 1024 + WHOLE)) == 1
    error = refusal(b"x" * 1025 + WHOLE)
    assert error.reason == "unreadable" and "b'xxxx', not b'MThd', and none is in its first 1,024 bytes" in str(error)


@pytest.mark.parametrize("size", [0, 3])
def test_an_rmid_container_of_a_wrong_size_is_read(size: int) -> None:
    container = b"RIFF" + struct.pack("<I", size) + b"RMIDdata" + struct.pack("<I", size) + WHOLE
    score = read_midi(container)
    assert (len(score), score.repairs) == (1, {midi_bytes.CONTAINER_SIZE: 1})
    right = b"RIFF" + struct.pack("<I", len(WHOLE) + 12) + b"RMIDdata" + struct.pack("<I", len(WHOLE)) + WHOLE
    assert read_midi(right).repairs == {}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04....", "a zip archive"),
        (b"  <html><body>404", "a page of HTML or XML"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a RIFF file of the form b'WAVE'"),
        (b"ID3\x03", "an mp3 recording"),
        (bytes(300), "all of its 300 bytes are 0"),
    ],
)
def test_what_is_no_midi_file_is_named(data: bytes, what: str) -> None:
    assert what in str(refusal(data)) and refusal(data).reason == "unreadable"


def test_what_follows_an_early_end_of_a_track_is_read() -> None:
    score = read_midi(smf(NOTE + END + NOTE + END + NOTE + END, NOTE + END))
    assert sorted(score.onset.tolist()) == [0, 0, 96, 192]
    assert score.repairs == {midi_bytes.EARLY_END: 1}, "the track is counted once"
    assert len(read_midi(smf(END + NOTE))) == 1, "the last End of Track may be missing, too"


@pytest.mark.parametrize("rest", [b"\0\0\0", END, b"\x12\x34\x56", b"\x00\x90\x3c", b"\0\x3c\x40\0", b"\0\x90\x3c\xf0"])
def test_what_is_no_music_after_an_end_of_track_changes_nothing(rest: bytes) -> None:
    score = read_midi(smf(NOTE + END + rest))
    assert (score.onset.tolist(), score.repairs) == ([0], {})


@pytest.mark.parametrize("damage", [b"\0\xf4\x01\x02", b"\0\x90\x3c\xf0", b"\0\xff\x01\x50"])
def test_music_after_an_end_of_track_that_is_damaged_further_on_is_counted_as_left_out(damage: bytes) -> None:
    score = read_midi(smf(NOTE + END + NOTE * 3 + damage))
    assert (score.onset.tolist(), score.repairs) == ([0], {midi_bytes.UNREAD_END: 1})


def test_a_track_without_notes_before_its_end_is_told_from_an_empty_one() -> None:
    error = refusal(smf(b"\0\xff\x01\0" + END + b"\x12\x34\x56"))
    assert error.reason == "no notes"
    assert "the End of Track of track 1 precedes 3 bytes, which are no MIDI events" in str(error)
    assert str(refusal(smf(END + bytes(3)))) == "a.mid: there are no notes in it."


@pytest.mark.parametrize(("numerator", "exponent"), [(0, 2), (2, 33), (2, 8), (4, 255), (2, 64)])
def test_an_invalid_time_signature_is_refused_where_it_holds_and_ignored_where_it_does_not(
    numerator: int, exponent: int
) -> None:
    """A parser reads 2/2**33 as 2/2."""
    wrong = meter(numerator, exponent)
    assert refusal(smf(wrong + NOTE + END)).reason == "bad meter"
    assert refusal(smf(meter(3, 2) + wrong + NOTE + END)).reason == "bad meter"
    assert refusal(smf(NOTE + wrong + NOTE + END)).reason == "bad meter"
    denominator = f"2**{exponent}" if exponent > 7 else "4"
    assert f"a time signature of {numerator}/{denominator} at tick 0" in str(refusal(smf(wrong + NOTE + END)))
    for idle in (smf(NOTE + wrong + END), smf(wrong + meter(3, 2) + NOTE + END), smf(wrong + END, meter(3, 2) + NOTE)):
        score = read_midi(idle)
        assert score.repairs == {midi_bytes.IDLE_METER: 1}
        assert score.meter_numerator.tolist() in ([], [3])
    assert read_midi(smf(b"\0\xff\x58\x02\x03\x02" + NOTE + END)).meter_numerator.tolist() == [3]


def test_a_time_signature_outside_the_vocabulary_is_refused_only_where_it_holds() -> None:
    plain = octuple.encode(read_midi(smf(meter(3, 2) + NOTE + END)))
    for idle in (smf(meter(3, 2) + NOTE + meter(3, 7) + END), smf(meter(3, 7) + meter(3, 2) + NOTE + END)):
        np.testing.assert_array_equal(octuple.encode(read_midi(idle)), plain)
    with pytest.raises(ScoreError, match="3/128 is outside the vocabulary"):
        octuple.encode(read_midi(smf(meter(3, 7) + NOTE + END)))


@pytest.mark.parametrize("wrong", [tempo(0), b"\0\xff\x51\x02\x07\xa1", b"\0\xff\x51\x00"])
def test_a_tempo_that_is_none_is_ignored(wrong: bytes) -> None:
    score = read_midi(smf(tempo(600_000) + wrong + NOTE + END))
    assert score.tempo_bpm.tolist() == [100.0] and score.repairs == {midi_bytes.BAD_TEMPO: 1}


def test_a_time_that_wraps_around_32_bits_is_refused() -> None:
    """17 of the longest delta times end at tick 2**32 + 268,435,439, which a parser reads as 268,435,439."""
    wait = b"\xff\xff\xff\x7f\xff\x01\x00"
    assert refusal(smf(wait * 17 + NOTE + END)).reason == "bad time"
    assert read_midi(smf(wait * 7 + NOTE + END)).onset.tolist() == [7 * (2**28 - 1)]
    assert len(read_midi(smf(NOTE + wait * 17 + END))) == 1, "a late End of Track harms nothing"


def test_only_odd_files_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("an intact file was taken apart")

    whole = smf(tempo(500_000) + meter(6, 3) + END, b"\0\xc0\5" + NOTE * 40 + END)
    monkeypatch.setattr(midi_bytes, "events_of", never)
    assert len(read_midi(whole)) == 40


def test_events_are_those_of_the_bytes() -> None:
    track = b"\0\x90\x3c\x40\x60\x3c\0\x81\0\xff\x01\x02ab\0\xf0\x01\xf7\0\xc0\5\0\x90\x3c"
    events, end = midi_bytes.events_of(track, 0, len(track))
    assert [(tick, status, track[begin:after], running) for tick, status, begin, after, running in events] == [
        (0, 0x90, b"\x3c\x40", False),
        (96, 0x90, b"\x3c\0", True),
        (224, 0xFF, b"\x01\x02ab", False),
        (224, 0xF0, b"\x01\xf7", False),
        (224, 0xC0, b"\5", False),
    ]
    assert end == len(track) - 3, "where the event that is cut off begins"


def test_repairs_of_several_kinds_are_named_together(tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mid"  # type: ignore[operator]
    path.write_bytes(b"\n" + smf(tempo(0) + NOTE + meter(0, 2) + END))
    with caplog.at_level(logging.WARNING):
        assert read_midi(path).repaired == 3
    assert caplog.messages == [
        f"{path}: repaired: byte before the header, left out (1), invalid tempo, ignored (1), "
        "invalid time signature without effect, ignored (1)"
    ]
