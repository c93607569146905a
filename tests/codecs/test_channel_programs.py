"""Programs as a synthesiser has them, against one that plays the messages of all tracks in the order of time."""

from __future__ import annotations

import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import mido
import numpy as np
import pytest

from musicbert_plugin.codecs import channel_programs
from musicbert_plugin.codecs.score import DRUMS, read_midi
from musicbert_plugin.errors import ScoreError

END = b"\x00\xff\x2f\x00"
XG_RESET = b"\0\xf0\x08\x43\x10\x4c\x00\x00\x7e\x00\xf7"


def smf(*tracks: bytes) -> bytes:
    """A MIDI file of 96 ticks per quarter note; tracks without their end."""
    chunks = b"".join(b"MTrk" + struct.pack(">I", len(track) + 4) + track + END for track in tracks)
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), 96) + chunks


def note(channel: int = 0, pitch: int = 60, delta: int = 0) -> bytes:
    """A note of 96 ticks."""
    return bytes([delta, 0x90 | channel, pitch, 64, 96, 0x80 | channel, pitch, 0])


def program(value: int, channel: int = 0, delta: int = 0) -> bytes:
    return bytes([delta, 0xC0 | channel, value])


def bank(value: int, channel: int = 0) -> bytes:
    return bytes([0, 0xB0 | channel, 0, value])


def gs_rhythm(part: int, value: int) -> bytes:
    return bytes([0, 0xF0, 10, 0x41, 0x10, 0x42, 0x12, 0x40, 0x10 | part, 0x15, value, 0, 0xF7])


def played(data: bytes) -> Counter[tuple[int, int, int]]:
    """(tick, pitch, program) of every note-on, of a synthesiser that plays one message after the other."""
    programs, banks, rhythm = [0] * 16, [0] * 16, [channel == 9 for channel in range(16)]
    xg, tick = False, 0
    notes: Counter[tuple[int, int, int]] = Counter()
    for message in mido.merge_tracks(mido.MidiFile(file=BytesIO(data), clip=True).tracks):
        tick += message.time
        if message.type == "program_change":
            programs[message.channel] = message.program
            if banks[message.channel] == 120 or (xg and banks[message.channel] in (126, 127)):
                rhythm[message.channel] = True
            elif banks[message.channel] == 121:
                rhythm[message.channel] = False
        elif message.type == "control_change" and message.control == 0:
            banks[message.channel] = message.value
        elif message.type == "sysex":
            content = bytes(message.data)
            xg = xg or content == XG_RESET[3:-1]
            if content[2:5] == b"\x42\x12\x40" and content[6:7] == b"\x15" and content[5] >> 4 == 1:
                part = content[5] & 15
                rhythm[9 if part == 0 else part - (part <= 9)] = content[7] > 0
        elif message.type == "note_on" and message.velocity:
            notes[tick, message.note, DRUMS if rhythm[message.channel] else programs[message.channel]] += 1
    return notes


def check(data: bytes, other: int, sounding: list[int], own: list[int]) -> None:
    """The number of notes of another program; the programs of all notes in the order of onset and pitch."""
    tracks, channels = read_midi(data), read_midi(data, channel_programs="use")
    assert tracks.other_program == channels.other_program == other
    for score, programs in ((tracks, own), (channels, sounding)):
        assert score.program[np.lexsort((score.pitch, score.onset))].tolist() == programs
    notes = zip(channels.onset.tolist(), channels.pitch.tolist(), channels.program.tolist(), strict=True)
    assert Counter(notes) == played(data)


def test_a_program_that_another_track_sets_is_counted_and_read_on_demand() -> None:
    check(smf(program(24) + program(40, 1), note(), note(1, 62)), 2, [24, 40], [0, 0])
    check(smf(program(24), program(40, 1) + note(1)), 0, [40], [40])


def test_the_latest_program_of_a_channel_holds_whichever_track_sets_it() -> None:
    data = smf(program(24) + note() + note() + note(), program(40, delta=96) + note(pitch=70))
    check(data, 1, [24, 24, 40, 40], [24, 24, 40, 24])  # at tick 96, track 1 precedes track 2


def test_programs_of_equal_channels_that_agree_are_no_difference() -> None:
    check(smf(program(24) + note(), program(24) + note(pitch=62)), 0, [24, 24], [24, 24])
    check(smf(program(0) + note(), note(pitch=62), program(7, 1) + note(1, 64)), 0, [0, 0, 7], [0, 0, 7])
    check(smf(program(9, 9) + note(9, 40), note(9, 41)), 0, [DRUMS, DRUMS], [DRUMS, DRUMS])


@pytest.mark.parametrize(
    ("before", "value", "drums"),
    [(b"", 120, True), (b"", 121, False), (b"", 127, False), (XG_RESET, 127, True), (XG_RESET, 126, True)],
)
def test_banks_make_channels_of_drums(before: bytes, value: int, drums: bool) -> None:
    data = smf(before + bank(value, 2) + program(16, 2) + note(2))
    check(data, int(drums), [DRUMS if drums else 16], [16])


def test_general_midi_2_makes_channel_10_melodic() -> None:
    check(smf(bank(121, 9) + program(16, 9) + note(9)), 1, [16], [DRUMS])


def test_gs_messages_make_channels_of_drums_and_back() -> None:
    check(smf(gs_rhythm(1, 1) + note() + gs_rhythm(1, 0) + note()), 1, [DRUMS, 0], [0, 0])
    check(smf(gs_rhythm(10, 2), note(10)), 1, [DRUMS], [0])
    check(smf(gs_rhythm(0, 0), note(9)), 1, [0], [DRUMS])


def test_bytes_that_only_look_like_program_changes_mislead_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delta time of 8,229 ticks is C0 25, as program 37 of channel 1."""
    later = b"\xc0\x25\x90\x3e\x40\x60\x80\x3e\x00"
    check(smf(program(24), note() + later), 2, [24, 24], [0, 0])
    running = b"\xc0\x25\x3e\x40\x60\x3e\x00"
    check(smf(program(24), b"\0\x90\x3c\x40\x60\x3c\0" + running), 2, [24, 24], [0, 0])
    seen: list[int] = []
    certain = channel_programs._certain_changes
    monkeypatch.setattr(channel_programs, "_certain_changes", lambda *given: seen.append(1) or certain(*given))
    check(smf(program(3, 1) + program(24) + b"\0\x07" + note(pitch=50), note(1, 62)), 1, [7, 3], [7, 0])
    assert seen, "only the events themselves tell that the second program change has no status byte"


def test_what_follows_an_end_of_track_hides_no_channel() -> None:
    data = smf(program(24) + END + b"\xc0\5\xc0", note() + END + b"\0")
    assert read_midi(data).other_program == read_midi(data, channel_programs="use").other_program == 1


def test_files_with_data_bytes_above_127_are_read_so_too() -> None:
    data = smf(program(24) + program(200, 1), note() + b"\0\x91\x3c\xf0\x60\x81\x3c\0")
    assert read_midi(data).other_program == 2
    assert sorted(read_midi(data, channel_programs="use").program.tolist()) == [24, 127]


def test_a_file_may_end_with_a_byte_that_looks_like_a_program_change() -> None:
    assert read_midi(smf(note()) + b"\0\xc0").other_program == 0


def test_a_real_tempo_of_four_beats_a_minute_is_no_number_of_a_change() -> None:
    slow = b"\0\xff\x51\x03\xf0\0\1"
    data = smf(slow + slow + program(24), note())
    check(data, 1, [24], [0])
    assert read_midi(data, channel_programs="use").tempo_bpm.tolist() == read_midi(data).tempo_bpm.tolist()


def test_random_files_are_read_as_they_are_played() -> None:
    """Three tracks of three channels, whose programs change everywhere; at a tick, programs precede notes."""
    rng = np.random.default_rng(5)
    differing = 0
    for _ in range(40):
        tracks = []
        for _track in range(3):
            content = b""
            for _event in range(12):
                channel, value, pitch = (int(rng.integers(high)) for high in (3, 5, 100))
                delta = int(rng.integers(1, 3)) * 40
                content += program(value, channel, delta) if rng.random() < 0.3 else note(channel, pitch, delta)
            tracks.append(content)
        data = smf(*tracks)
        score = read_midi(data, channel_programs="use")
        notes = zip(score.onset.tolist(), score.pitch.tolist(), score.program.tolist(), strict=True)
        assert not Counter(notes) - played(data)
        differing += read_midi(data).other_program
    assert differing > 100


def test_real_files_are_read_as_they_are_played(music_data: Path, sample: Callable[..., list[str]]) -> None:
    """Every tenth of the archive's files; with ``--all``, all of them."""
    with zipfile.ZipFile(music_data / "midi" / "pretrain.zip") as archive:
        names = sample(sorted(name for name in archive.namelist() if name.lower().endswith(".mid")), 10)
        files = notes = 0
        for name in names:
            data = archive.read(name)
            try:
                if not read_midi(data, name=name).other_program:
                    continue
                score = read_midi(data, name=name, channel_programs="use")
            except ScoreError:
                continue
            found = Counter(zip(score.onset.tolist(), score.pitch.tolist(), score.program.tolist(), strict=True))
            unexplained = (found - played(data)).total()
            assert unexplained <= 0.002 * len(score), (name, unexplained)  # notes before a program change of their tick
            files += 1
            notes += score.other_program
    assert files >= 0.02 * len(names) and notes > 400 * files
