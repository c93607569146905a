"""Decoding gives one channel at the wanted rate, and a part of a file is that part of the whole."""

from __future__ import annotations

import io
import os
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from musicbert_plugin.audio.decoding import SUFFIXES, Sound, decode, probe
from musicbert_plugin.audio.file_headers import _checksum
from musicbert_plugin.audio.front_end import front_end
from musicbert_plugin.errors import RecordingError


def tones(rate: int, seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    """A few partials and a little noise; each channel has other phases.  float32 [S] or [S, channels]."""
    random = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    hertz = random.uniform(100, 3000, 6)
    sound = np.stack(
        [
            sum(0.1 * np.sin(2 * np.pi * (f * time + random.uniform())) for f in hertz)
            + 0.01 * random.standard_normal(len(time))
            for _ in range(channels)
        ],
        axis=1,
    ).astype(np.float32)
    return sound[:, 0] if channels == 1 else sound


@pytest.fixture
def recording(tmp_path):
    """``recording("x.flac", rate, seconds, channels)``: writes a file; gives its path and its samples."""

    def write(name, rate=44100, seconds=3.0, channels=2, subtype=None):
        sound = tones(rate, seconds, channels)
        path = tmp_path / name
        soundfile.write(path, sound, rate, subtype=subtype)
        return path, sound

    return write


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_channels_are_averaged(recording, channels):
    path, sound = recording("x.wav", 22050, 1.0, channels, "FLOAT")
    mean = sound if channels == 1 else sound.astype(np.float64).mean(1)
    np.testing.assert_allclose(decode(path, 22050), mean, atol=1e-6)
    assert probe(path) == probe(path.read_bytes()) and probe(path).channels == channels


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000, 96000])
def test_a_tone_keeps_its_place_pitch_and_loudness_at_another_rate(tmp_path, rate):
    path = tmp_path / "tone.wav"
    time = np.arange(rate * 2) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 1000 * time), rate, subtype="FLOAT")
    sound = decode(path, 22050)
    assert len(sound) == 44100
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 22050)
    np.testing.assert_allclose(sound[1000:-1000], expected[1000:-1000], atol=1e-4)


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.mp3", "x.aiff"])
@pytest.mark.parametrize(("native", "rate"), [(44100, 22050), (48000, 22050), (32000, 44100), (22050, 22050)])
def test_a_part_of_a_file_is_that_part_of_the_whole(recording, name, native, rate):
    path, _ = recording(name, native, 3.0)
    whole = decode(path, rate)
    for start, stop in ((0, 1000), (17, 5000), (22050, 30011), (len(whole) - 500, len(whole)), (40000, None)):
        part = decode(path, rate, start, stop)
        np.testing.assert_allclose(part, whole[start:stop], atol=3e-7)
    assert len(decode(path, rate, len(whole) - 10, len(whole) + 100)) == 10
    np.testing.assert_array_equal(decode(path.read_bytes(), rate), whole)


def test_parts_of_real_recordings_are_parts_of_the_whole(music_data):
    random = np.random.default_rng(3)
    for name in ("librosa_trumpet.ogg", "musicnn_joram.mp3", "essentia_sax_dmin.wav", "sonicpi_guit_em9.flac"):
        whole = decode(music_data / "audio" / name, 22050)
        for start in random.integers(0, len(whole), 5).tolist():
            part = decode(music_data / "audio" / name, 22050, start, start + 6000)
            np.testing.assert_allclose(part, whole[start : start + 6000], atol=3e-7)


@pytest.mark.parametrize(("rate", "channels"), [(48000, 2), (44100, 1), (24000, 2), (16000, 1)])
def test_an_mp3_whose_frames_borrow_from_many_before_them_is_whole_at_joins_and_in_parts(tmp_path, rate, channels):
    time = np.arange(7 * rate) / rate
    chord = sum(0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (220, 277, 330, 880, 1108))
    path = tmp_path / "decays.mp3"
    sound = np.stack([chord * np.exp(-3 * (time % 0.7))] * channels, 1)
    soundfile.write(path, sound, rate, bitrate_mode="VARIABLE", compression_level=0.8)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(1)
    whole = decode(path, rate)
    np.testing.assert_allclose(whole, expected, atol=1e-6)  # read in one go, without a join
    for start in np.random.default_rng(1).integers(0, len(whole) - 2000, 25).tolist():
        part = decode(path, rate, start, start + 2000)
        np.testing.assert_allclose(part, whole[start : start + 2000], atol=1e-6)


def test_every_real_recording_can_be_decoded_from_its_bytes(music_data):
    files = [file for file in sorted((music_data / "audio").iterdir()) if file.suffix != ".md"]
    assert len(files) == 55
    for file in files:
        assert np.isfinite(decode(file.read_bytes(), 8000, 0, 800, name=file.name)).all()


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a sound" * 100, b"\0" * 5000])
def test_what_is_no_recording_is_told_in_one_sentence(tmp_path, content):
    (tmp_path / "x.wav").write_bytes(content)
    for source in (tmp_path / "x.wav", content):
        with pytest.raises(RecordingError) as error:
            decode(source, 22050, name="x.wav")
        assert error.value.reason == "undecodable"
        assert str(error.value).startswith("x.wav: cannot be decoded") and "\n" not in str(error.value)


def test_text_and_folders_are_told_apart_from_sound(tmp_path):
    (tmp_path / "notes.wav").write_text("not a sound" * 100)
    with pytest.raises(RecordingError, match=r"notes.wav: cannot be decoded \(no kind of audio"):
        decode(tmp_path / "notes.wav", 22050)
    with pytest.raises(RecordingError, match="is a folder; a recording is needed"):
        decode(tmp_path, 22050)


def test_a_file_cut_short_gives_what_is_there_or_a_sentence(recording, tmp_path):
    for name in ("x.flac", "x.ogg", "x.mp3", "x.wav"):
        path, _ = recording(name)
        data = path.read_bytes()
        for share in (0.02, 0.5, 0.9):
            try:
                sound = decode(data[: int(len(data) * share)], 22050, name=name)
            except RecordingError as error:
                assert error.reason == "undecodable"
            else:
                assert len(sound) <= 66150 + 2000


def test_threads_that_decode_leave_stderr_and_the_warnings_of_the_process_as_they_are(recording, tmp_path, capfd):
    before = os.fstat(2)
    good = [recording(name, seconds=1.0)[0] for name in ("a.mp3", "b.flac", "c.ogg", "d.wav")]
    bad = []
    for path in good:
        data = bytearray(path.read_bytes())
        for place in np.random.default_rng(0).integers(200, len(data), 60).tolist():
            data[place] ^= 0x5A
        bad.append(tmp_path / f"bad{path.suffix}")
        bad[-1].write_bytes(data)
    (tmp_path / "text.wav").write_text("lyrics")
    bad += [tmp_path / "text.wav", tmp_path / "gone.wav"]
    expected = {path: decode(path, 22050) for path in good}
    seen = []

    def work(path):
        os.write(2, b"heard\n")
        seen.append(os.path.sameopenfile(2, copy))
        try:
            return path, decode(path, 22050)
        except RecordingError as error:
            return path, error

    copy = os.dup(2)
    try:
        with ThreadPoolExecutor(16) as pool:
            for path, found in pool.map(work, (good + bad) * 12):
                if path in expected:
                    np.testing.assert_array_equal(found, expected[path])
    finally:
        os.close(copy)
    after = os.fstat(2)
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino) and all(seen)
    assert capfd.readouterr().err.count("heard\n") == 12 * len(good + bad)


def test_short_clips_in_threads_keep_the_filters_of_warnings():
    pytest.importorskip("librosa")
    front = front_end("musicoder324")
    clips = [tones(44100, 0.1, seed=seed) for seed in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        front.extract(clips[0])
        kept = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(front.extract, clips))
        assert set(map(str, warnings.filters)) == set(map(str, kept))


# ------------------------------------------------------------------------------------- damage, sections, odd headers


def written(
    format: str, rate: int = 44100, channels: int = 2, seconds: float = 3.0, subtype: str | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tones(rate, seconds, channels), rate, format=format, subtype=subtype)
    return file.getvalue()


def damaged(data: bytes) -> bytes:
    """With zeros instead of 4 KiB in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(4096) + data[middle + 4096 :]


@pytest.mark.parametrize(
    ("format", "way", "lost"),
    [
        *((format, "cut", 1.5) for format in ("FLAC", "MP3", "WAV", "AIFF", "AU", "CAF", "W64", "RF64")),
        *((format, "cut", 1.5) for format in ("VOC", "NIST", "AVR")),
        ("OGG", "cut", 0.0),  # nothing tells how much
        *((format, "damaged", 1.5) for format in ("FLAC", "MP3")),
        ("OGG", "damaged", 0.5),
    ],
)
def test_what_can_be_decoded_before_damage_is_kept_and_the_rest_is_counted(format, way, lost, caplog):
    data = written(format)
    good = decode(data, 22050)
    bad = data[: len(data) // 2] if way == "cut" else damaged(data)
    sound = Sound(bad, 22050, name="x")
    found = np.concatenate(list(sound))
    before = len(found) if way == "cut" or format != "OGG" else 22050  # libvorbis goes on behind a hole
    assert 0.9 * 22050 < before <= len(found) < len(good)
    np.testing.assert_allclose(found[: before - 2300], good[: before - 2300], atol=1e-6)
    assert sound.damage is not None
    assert sound.damage.kept == pytest.approx(len(found) / 22050, abs=1e-3)
    assert sound.damage.lost == pytest.approx(lost, abs=0.35)
    assert not caplog.text
    np.testing.assert_array_equal(decode(bad, 22050, name="x"), found)  # which says so
    assert f"x: {sound.damage.what}; {sound.damage.kept:.2f} seconds are kept" in caplog.text
    for start, stop in ((5000, 9000), (len(found) - 3000, len(found)), (len(found) - 500, None)):
        np.testing.assert_allclose(decode(bad, 22050, start, stop), found[start:stop], atol=3e-7)


def uneven_mp3(header: str) -> bytes:
    """Six seconds, two of noise and then hardly any sound, so that bytes tell nothing of time."""
    sound, file = np.random.default_rng(0).normal(size=6 * 22050) / 5, io.BytesIO()
    sound[44100:] = tones(22050, 4.0) / 1000
    soundfile.write(file, sound, 22050, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    data = bytearray(file.getvalue())
    at = data.index(b"Xing")
    if header == "VBRI":
        frames = data[at + 8 : at + 12]
        data[at : at + 120] = bytes(120)
        data[36:54] = b"VBRI" + bytes([0, 1, 0, 0, 0, 0]) + struct.pack(">I", len(data)) + frames
    elif header == "Info":
        data[at : at + 4] = b"Info"
    return bytes(data)


@pytest.mark.parametrize("header", ["Xing", "Info", "VBRI"])
def test_how_much_of_an_mp3_is_lost_is_told_by_the_frames_that_its_header_counts(header):
    data = uneven_mp3(header)
    sound = Sound(data, 22050)
    assert sum(map(len, sound)) == pytest.approx(6 * 22050, abs=0 if header != "VBRI" else 2304)
    assert sound.damage is None
    middle = len(data) // 2
    noise = np.random.default_rng(1).bytes(3000)
    for bad in (data[:middle] + noise + data[middle + 3000 :], data[:middle]):
        sound = Sound(bad, 22050)
        kept = sum(map(len, sound)) / 22050
        assert sound.damage is not None and kept < 2.5, "half of the bytes are not half of the time"
        assert kept + sound.damage.lost == pytest.approx(6.0, abs=0.09)


def test_frames_that_are_skipped_in_an_mp3_are_counted_as_lost():
    data = uneven_mp3("Xing")
    middle = len(data) // 2
    sound = Sound(data[:middle] + bytes(900) + data[middle + 900 :], 22050)
    kept = sum(map(len, sound)) / 22050
    assert sound.damage is not None and 5 < kept < 5.95
    assert kept + sound.damage.lost == pytest.approx(6.0, abs=0.01)


def test_no_damage_is_found_in_whole_recordings(music_data):
    for format in ("FLAC", "MP3", "WAV", "AIFF", "AU", "CAF", "W64", "RF64", "OGG", "VOC", "NIST", "AVR"):
        sound = Sound(written(format, seconds=0.5), 44100)
        assert len(np.concatenate(list(sound))) == 22050 and sound.damage is None
    for path in sorted((music_data / "audio").glob("*.*[3cg]"))[::5]:  # mp3, flac, ogg
        sound = Sound(path, 8000)
        assert sum(map(len, sound)) and sound.damage is None, path


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("x.ogg", [("OGG", 44100, 2), ("OGG", 44100, 2)]),
        ("x.ogg", [("OGG", 44100, 1), ("OGG", 22050, 2), ("OGG", 32000, 1)]),
        ("x.mp3", [("MP3", 44100, 2), ("MP3", 22050, 2)]),
        ("x.mp3", [("MP3", 44100, 2), ("MP3", 44100, 1), ("MP3", 44100, 2)]),
        ("x.mp3", [("MP3", 22050, 1), ("MP3", 48000, 2)]),
    ],
)
@pytest.mark.parametrize("rate", [44100, 22050])
def test_a_file_of_several_sections_is_read_whole(name, kinds, rate, tmp_path):
    sections = [written(format, native, channels, 2.0) for format, native, channels in kinds]
    path = tmp_path / name
    path.write_bytes(b"".join(sections))
    sound = Sound(path, rate)
    whole = np.concatenate(list(sound))
    assert sound.damage is None and sound.sample_rate == kinds[0][1]
    assert len(whole) == pytest.approx(2 * rate * len(kinds), abs=rate // 10)  # mp3: what the encoder added
    np.testing.assert_allclose(whole[: 2 * rate - 2000], decode(sections[0], rate)[: 2 * rate - 2000], atol=1e-6)
    last = decode(sections[-1], rate)[-rate:]
    ends = [np.abs(whole[len(whole) - back - rate : len(whole) - back] - last).max() for back in range(0, 2600)]
    assert min(ends) < 1e-3
    for start in (100, int(1.9 * rate), 2 * rate + 77, len(whole) - 900):
        np.testing.assert_allclose(decode(path, rate, start, start + 800), whole[start : start + 800], atol=3e-7)
    np.testing.assert_array_equal(decode(path.read_bytes(), rate), whole)


@pytest.mark.parametrize(
    "name",
    [
        *("x.aifc", "x.w64", "x.snd", "x.opus", "x.mp2", "x.wave", "X.OGA"),
        *("x.rf64", "x.bwf", "x.voc", "x.sph", "x.nist", "x.sf", "x.ircam", "x.avr"),
    ],
)
def test_every_suffix_that_libsndfile_reads_is_accepted(name, tmp_path):
    assert name.lower()[name.index(".") :] in SUFFIXES
    if name == "x.mp2":
        return  # libsndfile reads it, and writes none
    kinds = {"x.aifc": "AIFF", "x.w64": "W64", "x.snd": "AU", "x.opus": "OGG", "x.wave": "WAV", "X.OGA": "OGG"}
    kinds |= {"x.bwf": "WAV", "x.sph": "NIST", "x.sf": "IRCAM"}
    kinds |= {f"x.{kind.lower()}": kind for kind in ("RF64", "VOC", "NIST", "IRCAM", "AVR")}
    sound = Sound((tmp_path / name), 16000)
    (tmp_path / name).write_bytes(written(kinds[name], 48000, subtype="OPUS" if name == "x.opus" else None))
    assert sum(map(len, sound)) == pytest.approx(48000, abs=9000) and sound.damage is None


@pytest.mark.parametrize(("rate", "expected"), [(1, "of 1 Hz"), (999, "of 999 Hz"), (1 << 20, "of 1048576 Hz")])
def test_rates_that_nobody_records_at_are_refused_before_anything_is_decoded(rate, expected, monkeypatch):
    data = bytearray(written("WAV"))
    data[24:28] = struct.pack("<I", rate)
    monkeypatch.setattr("musicbert_plugin.audio.decoding._read", None)
    for use in (lambda: decode(bytes(data), 22050), lambda: probe(bytes(data))):
        with pytest.raises(RecordingError, match=f"states a sample rate {expected}; 1,000 to 768,000 is accepted"):
            use()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", ["x.wav", "x.m4a"])
def test_a_named_pipe_is_refused_at_once(name, tmp_path):
    os.mkfifo(tmp_path / name)
    for use in (lambda: decode(tmp_path / name, 22050), lambda: probe(tmp_path / name)):
        with pytest.raises(RecordingError, match=f"{name}: cannot be read .not a regular file"):
            use()


def test_a_hundred_channels_are_refused():
    with pytest.raises(RecordingError, match="states 100 channels; 1 to 64 are accepted"):
        decode(written("WAV", 8000, 100, 0.1), 8000)


def test_what_is_no_music_is_said_for_what_it_is(monkeypatch):
    sound = tones(8000, 1.0)

    def checked(samples, **limits):
        file = io.BytesIO()
        soundfile.write(file, samples, 8000, format="WAV")
        with pytest.raises(RecordingError) as error:
            list(Sound(file.getvalue(), 8000, name="x.wav").checked(**limits))
        return error.value.reason, str(error.value)

    assert checked(np.zeros(0)) == (
        "too short",
        "x.wav: holds no sound; nothing that can be decoded follows its header.",
    )
    reason, sentence = checked(np.stack([sound, -sound], 1))
    assert reason == "silent" and "its channels cancel each other (opposite phase)" in sentence
    assert checked(np.zeros((8000, 2))) == ("silent", "x.wav: never louder than -80 dB.")
    assert checked(np.stack([sound, np.zeros(8000)], 1)[:100]) == (
        "too short",
        "x.wav: 0.01 seconds; at least 0.5 are needed.",
    )
    monkeypatch.setattr("musicbert_plugin.audio.decoding._read", None)  # its size alone shows it
    assert checked(sound, longest=0.7)[0] == "too long"


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", "PCM_16"), ("AIFF", "FLOAT"), ("FLAC", "PCM_16"), ("AU", "ULAW")]
)
def test_a_header_that_states_a_day_does_not_make_a_recording_too_long(format, subtype):
    file = io.BytesIO()
    soundfile.write(file, tones(8000, 1.0), 8000, format=format, subtype=subtype)
    data = bytearray(file.getvalue())
    if format == "FLAC":
        data[21:26] = bytes([data[21] & 0xF0, 0x40, 0, 0, 0])
    else:
        place = {"WAV": b"data", "AIFF": b"SSND", "AU": b".snd"}[format]
        at = data.index(place) + (8 if format == "AU" else 4)
        data[at : at + 4] = (0x60000000).to_bytes(4, "little" if format == "WAV" else "big")
    sound = Sound(bytes(data), 8000)
    assert sum(map(len, sound.checked(longest=1.1))) == 8000
    assert sound.damage is not None and sound.damage.lost > 3600


def test_an_ogg_stream_without_a_last_page_is_followed_by_the_next(tmp_path):
    first = bytearray(written("OGG", seconds=1.0))
    page = first.rindex(b"OggS")
    first[page + 5] &= ~4  # as a broadcast leaves it
    first[page + 22 : page + 26] = bytes(4)
    first[page + 22 : page + 26] = struct.pack("<I", _checksum(bytes(first[page:])))
    sound = Sound(bytes(first) + written("OGG", seconds=1.0), 44100)
    assert sum(map(len, sound)) == 88200 and sound.damage is None
    sound = Sound(bytes(first) + written("OGG", seconds=3.0)[:-9000], 44100)
    found = sum(map(len, sound))
    assert sound.damage is not None and found > 88200 and sound.damage.kept == pytest.approx(found / 44100)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_give_samples_or_a_sentence(seed, capfd):
    random = np.random.default_rng(seed)
    files = [written(format, 48000, 1, 0.2) for format in ("WAV", "W64", "RF64", "FLAC", "OGG", "MP3", "AIFF", "CAF")]
    for number in range(60):
        data = bytearray(files[number % len(files)])
        for _ in range(random.integers(1, 6)):
            place = int(random.integers(0, random.choice([64, 400, len(data)])))
            with_value = [b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", random.bytes(1)][random.integers(4)]
            data[place : place + len(with_value)] = with_value
        try:
            assert all(len(block) for block in Sound(bytes(data), 22050, name="x").checked(0.0, 60.0))
            list(Sound(bytes(data), 22050, 500, 900, "x"))
        except RecordingError as error:
            assert "\n" not in str(error)
    assert "Traceback" not in capfd.readouterr().err
