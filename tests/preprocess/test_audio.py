"""Feature folders hold what the front-end makes of each recording, split by content, with everything else named."""

from __future__ import annotations

import csv
import io
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicbert_plugin.audio.decoding import decode
from musicbert_plugin.audio.front_end import FrontEnd, front_end
from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
from musicbert_plugin.errors import DatasetError, MusicError, RecordingError
from preprocess import audio
from preprocess.engine import cli as command
from preprocess.engine.journal import FileTask, WorkerConfig
from preprocess.engine.sources import Folder

RATE = 8000
SMALL = ("--front-end", "logmel20", "--sample-rate", RATE, "--n-fft", 256, "--hop", 128, "--split-ratios", "60,20,20")
FRONT = front_end("logmel20", sample_rate=RATE, n_fft=256, hop=128)


def music(seed: int, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """Random notes of a random instrument, float32 [S]."""
    random = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    sound = 1e-4 * random.standard_normal(len(time))
    timbre = random.uniform(0.1, 1, 8)
    onset = 0.0
    while onset < seconds:
        hertz = 220 * 2 ** (random.integers(-12, 24) / 12)
        after = np.maximum(time - onset, 0)
        for partial, strength in enumerate(timbre, 1):
            if partial * hertz < 3500:
                sound += (time >= onset) * strength * np.exp(-5 * after) * np.sin(2 * np.pi * partial * hertz * after)
        onset += random.choice([0.11, 0.17, 0.23, 0.4])
    return (0.7 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.fixture
def recordings(tmp_path: Path) -> Callable[..., Path]:
    """``recordings(5)``: a folder with 00.wav, 01.wav, ... of two to three seconds each."""

    def make(count: int, name: str = "recordings") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number in range(count):
            soundfile.write(folder / f"{number:02}.wav", music(number, 2 + number % 5 / 5), RATE)
        return folder

    return make


@pytest.fixture
def build(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """``build(source, dest, "--seed", 2)``: the build command; its exit status and what it said."""

    def run(*words: object, small: bool = True) -> tuple[int, str]:
        at = next((at for at, word in enumerate(words) if str(word).startswith("--")), len(words))
        *sources, dest = words[:at]
        line = ["build", *sources, "--dest", dest, *(SMALL if small else ()), *words[at:]]
        try:
            status = audio.main([str(word) for word in line])
        except MusicError as error:
            command.say(str(error))
            status = command.CANNOT_START
        return status, capsys.readouterr().err

    return run


def clips_of(folder: Path) -> dict[str, np.ndarray]:
    """Every clip of a feature folder by name."""
    splits = [SpectrogramFolder(folder).split(name) for name in ("train", "valid", "test")]
    return {name: split.read(at) for split in splits for at, name in enumerate(split.names)}


def sides_of(folder: Path) -> dict[str, str]:
    """The split of every clip by name."""
    return {
        name: split for split in ("train", "valid", "test") for name in SpectrogramFolder(folder).split(split).names
    }


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Seven recordings, and the feature folder that was built of them."""
    source, data = tmp_path_factory.mktemp("seven"), tmp_path_factory.mktemp("built") / "data"
    for number in range(7):
        soundfile.write(source / f"{number:02}.wav", music(number, 2 + number % 5 / 5), RATE)
    assert audio.main(["build", str(source), "--dest", str(data), *map(str, SMALL)]) == 0
    return source, data


def test_every_recording_is_stored_as_the_front_end_gives_it_in_half_precision(seven):
    source, data = seven
    clips = clips_of(data)
    assert sorted(clips) == [f"{number:02}.wav" for number in range(7)]
    for name, clip in clips.items():
        expected = FRONT.extract(decode(source / name, RATE)).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(clip, expected)
    folder = SpectrogramFolder(data)
    assert FrontEnd.of(folder.front_end) == FRONT and folder.frame_rate == 62.5
    assert folder.feature_names[0] == "mel 0"
    assert not (data / "dict.txt").exists() and not (data / ".build").exists()


def test_defect_10_statistics_are_those_of_the_training_split_alone(seven):
    folder = SpectrogramFolder(seven[1])
    train = np.concatenate(list(folder.split("train"))).astype(np.float64)
    every = np.concatenate(list(clips_of(seven[1]).values())).astype(np.float64)
    np.testing.assert_allclose(folder.config["mean"], train.mean(0), rtol=1e-12)
    np.testing.assert_allclose(folder.config["std"], train.std(0), rtol=1e-10)
    assert np.abs(train.mean(0) - every.mean(0)).max() > 1e-3


def test_fairseq_reads_the_container(seven, registered):
    from fairseq.data.indexed_dataset import MMapIndexedDataset

    ours = SpectrogramFolder(seven[1]).split("train")
    theirs = MMapIndexedDataset(str(seven[1] / "train"))
    assert len(theirs) == len(ours)
    words = theirs[0].numpy().astype(np.uint16)
    np.testing.assert_array_equal(words.view(np.float16).reshape(-1, 20), ours.read(0))


def test_bytes_depend_neither_on_workers_nor_on_an_interruption(recordings, build, tmp_path, content):
    source = recordings(9)
    build(source, tmp_path / "one")
    stopped = tmp_path / "stopped"
    line = [sys.executable, "-m", "preprocess.audio", "build", source, "--dest", stopped, *SMALL]
    root = Path(audio.__file__).parent.parent
    process = subprocess.Popen(list(map(str, line)), cwd=root, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        journals = list(stopped.glob(".build/run-*/journal.jsonl"))
        if any(journal.read_bytes().count(b"\n") > 4 for journal in journals):
            break
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    status, said = build(source, stopped, "--jobs", 2)
    assert status == 0 and ("going on with an unfinished build" in said or "nothing to do" in said)
    assert content(tmp_path / "one") == content(stopped)


def test_a_recording_in_another_format_rate_or_loudness_is_a_copy(recordings, build, tmp_path, manifest):
    source = recordings(6)
    sound = music(1, 12.0, 22050)
    soundfile.write(source / "song.wav", sound, 22050)
    soundfile.write(source / "song.flac", sound, 22050)
    soundfile.write(source / "lossy.mp3", sound, 22050)
    soundfile.write(source / "lossy.ogg", sound, 22050)
    soundfile.write(source / "soft.wav", 0.3 * sound[200:], 22050)
    soundfile.write(source / "stereo.wav", np.stack([sound, sound], 1), 22050)
    same = ["song.wav", "song.flac", "lossy.mp3", "lossy.ogg", "soft.wav", "stereo.wav"]
    status, said = build(source, tmp_path / "data")
    lines = manifest(tmp_path / "data")
    assert status == 0, said
    assert len({lines[name]["group"] for name in same}) == 1
    assert len({line["group"] for line in lines.values()}) == 7  # and nothing else is
    assert sum("split" in lines[name] for name in same) == 1
    assert all(lines[name].get("reason", "duplicate") == "duplicate" for name in same)
    build(source, tmp_path / "kept", "--duplicates", "keep")
    sides = sides_of(tmp_path / "kept")
    assert len(sides) == 12 and len({sides[name] for name in same}) == 1


def test_copies_of_what_is_held_out_are_left_out(build, tmp_path, manifest):
    for folder, names in (("source", "abc"), ("other", "b")):
        (tmp_path / folder).mkdir()
        for name in names:
            rows = np.random.default_rng(ord(name)).normal(size=(60, 8)).astype(np.float32)
            np.save(tmp_path / folder / f"{name}.npy", rows if folder == "source" else rows.T)
    options = ("--num-features", 8, "--frame-rate", 10, "--split-ratios", "1,0,0", "--held-out", tmp_path / "other")
    assert build(tmp_path / "source", tmp_path / "data", *options, small=False)[0] == 0
    lines = manifest(tmp_path / "data")
    assert {name: line.get("of") for name, line in lines.items()} == {"a.npy": None, "b.npy": "b.npy", "c.npy": None}


def test_what_cannot_become_a_clip_is_named_with_its_reason_and_the_rest_goes_on(recordings, build, tmp_path, manifest):
    source = recordings(4)
    (source / "corrupt.mp3").write_bytes(b"ID3 no frames at all" * 50)
    (source / "text.wav").write_text("lyrics")
    soundfile.write(source / "nothing.wav", np.zeros(0, np.float32), RATE)
    soundfile.write(source / "blink.flac", music(40, 0.2), RATE)
    soundfile.write(source / "silence.wav", np.zeros(RATE), RATE)
    soundfile.write(source / "opposed.wav", np.stack([music(41), -music(41)], 1), RATE)
    broken = music(42)
    broken[100] = np.nan
    soundfile.write(source / "nan.wav", broken, RATE, subtype="FLOAT")
    soundfile.write(source / "long.wav", music(43, 5.0), RATE)
    soundfile.write(source / "wide.wav", np.stack([music(44, 2.0, 48000)] * 5, 1), 48000)
    (source / ".hidden.wav").write_text("no music")
    status, said = build(source, tmp_path / "data", "--max-seconds", 4)
    reasons = {name: line["reason"] for name, line in manifest(tmp_path / "data").items() if "reason" in line}
    assert status == 1
    assert reasons == {
        "corrupt.mp3": "undecodable",
        "text.wav": "undecodable",
        "nothing.wav": "too short",
        "blink.flac": "too short",
        "silence.wav": "silent",
        "opposed.wav": "silent",
        "nan.wav": "NaN",
        "long.wav": "too long",
    }
    for name, reason in reasons.items():
        assert sum(line.startswith(f"{reason}: {name}: ") for line in said.splitlines()) == 1
    assert "Traceback" not in said
    assert len(clips_of(tmp_path / "data")) == 5
    assert manifest(tmp_path / "data")["wide.wav"]["channels"] == 5


def test_defect_1_a_build_writes_clips_or_says_why_not(recordings, build, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.mid").write_bytes(b"MThd")
    status, said = build(tmp_path / "empty", tmp_path / "data")
    assert status == 2 and "no files in it that end with .wav" in said
    soundfile.write(tmp_path / "empty" / "x.wav", np.zeros(RATE), RATE)
    status, said = build(tmp_path / "empty", tmp_path / "data")
    assert status == 2 and "silent: x.wav" in said and not (tmp_path / "data").exists()


def test_wav2vec_manifests_name_files_and_fix_their_split(recordings, build, tmp_path):
    source = recordings(6)
    for split, numbers in (("train", range(3)), ("valid", range(3, 6))):
        lines = [str(source)] + [f"{number:02}.wav\t16000" for number in numbers]
        (tmp_path / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    status, said = build(tmp_path / "train.tsv", tmp_path / "valid.tsv", tmp_path / "data")
    assert status == 0, said
    assert sides_of(tmp_path / "data") == {f"{n:02}.wav": "train" if n < 3 else "valid" for n in range(6)}
    (tmp_path / "bad.tsv").write_text("nowhere\nx.wav\t1\n")
    assert "'nowhere', which is no folder" in build(tmp_path / "bad.tsv", tmp_path / "other")[1]


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    """A CSV of these rows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_defect_24_labels_of_m3bert_tables_stay_as_they_are_and_absent_ones_absent(build, tmp_path):
    rows = [
        {"file_path": "a.npy", "length": "30", "genre": "rock", "moodtheme": "calm/dark", "AV": "0.0/0.0", "who": "x"},
        {"file_path": "b.npy", "length": "30", "genre": "nan", "moodtheme": "", "AV": "0.25/-0.5", "who": "x"},
        {"file_path": "c.npy", "length": "30", "genre": "jazz", "moodtheme": "happy", "AV": "", "who": "y"},
        {"file_path": "gone.npy", "length": "30", "genre": "jazz", "moodtheme": "", "AV": "", "who": "z"},
        {"file_path": "d.npy", "length": "30", "genre": "", "moodtheme": "", "AV": "NaN", "who": ""},
    ]
    for number, name in enumerate("abcd"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(number).standard_normal((30 + number, 324)))
    path = table(tmp_path / "set.csv", rows)
    options = ("--num-features", 324, "--front-end", "m3bert324", "--split-ratios", "50,50,0", "--group-column", "who")
    status, said = build(path, tmp_path / "data", *options, small=False)
    assert status == 1 and "unreadable: gone.npy: No such file or directory." in said
    folder = SpectrogramFolder(tmp_path / "data")
    cells = {}
    for name in ("train", "valid"):
        split = folder.split(name)
        assert list(split.labels) == ["genre", "moodtheme", "AV", "who"]
        for at, clip in enumerate(split.names):
            cells[clip] = tuple(column[at] for column in split.labels.values())
    assert cells == {
        "a.npy": ("rock", "calm/dark", "0.0/0.0", "x"),  # calm and content at once is a label, not an absence
        "b.npy": ("", "", "0.25/-0.5", "x"),
        "c.npy": ("jazz", "happy", "", "y"),
        "d.npy": ("", "", "", ""),
    }
    assert sides_of(tmp_path / "data")["a.npy"] == sides_of(tmp_path / "data")["b.npy"]
    assert folder.feature_names[52] == "mel 0" and folder.blocks["cqt"] == (180, 324)


def test_labels_and_splits_may_name_files_that_are_missing(recordings, build, tmp_path):
    source = recordings(4)
    rows = [{"file": f"{n:02}.wav", "split": "test" if n == 1 else "train", "mood": str(n)} for n in range(9)]
    path = table(tmp_path / "labels.csv", rows)
    status, said = build(source, tmp_path / "data", "--labels", path, "--splits", path, "--split-ratios", "100,0,0")
    assert status == 0, said
    assert "5 files with labels are not in the source, the first is 04.wav" in said
    assert sides_of(tmp_path / "data") == {"00.wav": "train", "01.wav": "test", "02.wav": "train", "03.wav": "train"}
    assert SpectrogramFolder(tmp_path / "data").split("test").labels == {"mood": ["1"]}
    table(tmp_path / "other.csv", [{"file": "x.wav", "mood": "1"}])
    status, said = build(source, tmp_path / "other", "--labels", tmp_path / "other.csv")
    assert status == 2 and "none of the files with labels is in the source" in said


def test_a_column_of_splits_is_used_unless_splits_are_given(build, tmp_path, capsys):
    source = tmp_path / "features"
    source.mkdir()
    for number in range(5):
        np.save(source / f"{number}.npy", np.random.default_rng(number).standard_normal((60, 7)))
    splits = ["train", "dev", "Test", "", "test"]
    rows = [{"file": f"{n}.npy", "split": split, "mood": "calm"} for n, split in enumerate(splits)]
    rows.append({"file": "gone.npy", "split": "test", "mood": "calm"})
    options = ("--num-features", 7, "--split-ratios", "1,0,0", "--labels", table(tmp_path / "labels.csv", rows))
    status, said = build(source, tmp_path / "data", *options, small=False)
    assert status == 0, said
    assert "5 files have their split from the source (or its table of labels)" in said
    expected = {"0.npy": "train", "1.npy": "valid", "2.npy": "test", "3.npy": "train", "4.npy": "test"}
    assert sides_of(tmp_path / "data") == expected
    labels = str(tmp_path / "labels.csv")
    assert audio.tables_of([], audio.AudioOptions(labels=labels), "splits.csv").splits == {}
    assert f"{labels}: its column split is not used, since --splits splits.csv is given" in capsys.readouterr().err


def test_existing_features_are_taken_in_every_shape_and_never_unpickled(build, tmp_path, manifest):
    source = tmp_path / "features"
    source.mkdir()
    random = np.random.default_rng(5)
    rows = {name: random.standard_normal((length, 7)) for name, length in (("a", 20), ("b", 30), ("c", 5))}
    several = random.standard_normal((3, 11, 7)).astype(np.float16)
    np.save(source / "time_first.npy", rows["a"])
    np.save(source / "band_first.npy", np.asfortranarray(rows["b"].T.astype(np.float32)))
    np.save(source / "short.npy", rows["c"])
    np.save(source / "several.npy", several)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    ragged = np.empty(2, object)
    ragged[:] = [np.zeros((3, 7)), Trap()]
    np.save(source / "object.npy", ragged, allow_pickle=True)
    (source / "pickled.npy").write_bytes(pickle.dumps(Trap()))
    np.save(source / "narrow.npy", np.zeros((20, 6)))
    np.save(source / "words.npy", np.array([["x"] * 7]))
    np.save(source / "huge.npy", 1e6 * rows["a"])
    np.save(source / "nan.npy", np.full((20, 7), np.nan))
    (source / "cut.npy").write_bytes((source / "several.npy").read_bytes()[:200])
    options = ("--num-features", 7, "--split-ratios", "60,40,0", "--min-seconds", 0)
    status, said = build(source, tmp_path / "data", *options, small=False)
    assert status == 1 and not (tmp_path / "trapped").exists()
    reasons = {name: line["reason"] for name, line in manifest(tmp_path / "data").items() if "reason" in line}
    assert reasons == {
        **dict.fromkeys(
            ("object.npy", "pickled.npy", "narrow.npy", "words.npy", "huge.npy", "cut.npy"), "not features"
        ),
        "nan.npy": "NaN",
    }
    clips = clips_of(tmp_path / "data")
    expected = {"time_first.npy": rows["a"], "band_first.npy": rows["b"], "short.npy": rows["c"]}
    expected |= {f"several.npy#{number}": clip for number, clip in enumerate(several)}
    assert sorted(clips) == sorted(expected)
    for name, clip in clips.items():
        np.testing.assert_array_equal(clip, expected[name].astype(np.float16).astype(np.float32))


def test_features_are_left_out_for_the_reasons_that_recordings_are(build, tmp_path, manifest):
    source = tmp_path / "features"
    source.mkdir()
    good = np.random.default_rng(3).standard_normal((60, 7))
    broken = good.copy()
    broken[50, 3] = np.inf
    several = np.stack([good, np.full((60, 7), -13.8)])
    files = {"good": good, "also": good[::-1], "blink": good[:4], "long": np.tile(good, (9, 1)), "broken": broken}
    files |= {"constant": np.full((60, 7), -13.8), "empty": np.zeros((60, 7)), "frame": np.tile(good[:1], (60, 1))}
    for name, array in (files | {"several": several}).items():
        np.save(source / f"{name}.npy", array)
    options = ("--num-features", 7, "--frame-rate", 10, "--max-seconds", 50, "--split-ratios", "1,0,0")
    status, said = build(source, tmp_path / "data", *options, small=False)
    assert status == 1 and sorted(clips_of(tmp_path / "data")) == ["also.npy", "good.npy"]
    assert {name: line["reason"] for name, line in manifest(tmp_path / "data").items() if "reason" in line} == {
        "blink.npy": "too short",
        "long.npy": "too long",
        "broken.npy": "NaN",
        **dict.fromkeys(("constant.npy", "empty.npy", "frame.npy", "several.npy"), "silent"),
    }
    assert "silent: several.npy, excerpt 1: all 60 frames are equal." in said
    assert "4 frames, which are 0.40 seconds at 10 frames per second" in said


def test_defects_8_9_and_13_clips_keep_their_whole_length_whatever_they_hold(build, tmp_path, manifest):
    source = tmp_path / "features"
    source.mkdir()
    clip = np.random.default_rng(1).standard_normal((400, 7))
    clip[300:] = 0  # silence at the end, whose features sum to zero, is part of the clip
    clip[0] = 0
    np.save(source / "a.npy", clip)
    np.save(source / "b.npy", clip[:3] + 1)
    np.save(source / "c.npy", clip[::-1] + 2)
    options = ("--num-features", 7, "--split-ratios", "100,0,0", "--min-seconds", 0)
    build(source, tmp_path / "data", *options, small=False)
    train = SpectrogramFolder(tmp_path / "data").split("train")
    assert train.frames.tolist() == [400, 3, 400]
    np.testing.assert_array_equal(train.read(0, 290), clip[290:].astype(np.float16).astype(np.float32))
    build(source, tmp_path / "middle", *options, "--max-frames", 100, small=False)
    middle = SpectrogramFolder(tmp_path / "middle").split("train")
    assert middle.frames.tolist() == [100, 3, 100]
    np.testing.assert_array_equal(middle.read(0), clip[150:250].astype(np.float16).astype(np.float32))


def test_on_the_fly_gives_the_same_clips_without_storing_them(recordings, build, tmp_path):
    source = recordings(6)
    for name, rate in (("a.ogg", 22050), ("b.mp3", 44100), ("c.flac", 48000)):
        soundfile.write(source / name, music(len(name) + rate, 3.0, rate), rate)
    assert build(source, tmp_path / "stored")[0] == 0
    status, said = build(source, tmp_path / "listed", "--on-the-fly")
    assert status == 0, said
    assert sorted(path.name for path in (tmp_path / "listed").iterdir()) == [
        "config.json",
        "manifest.jsonl",
        *(f"{split}.clips.csv" for split in ("test", "train", "valid")),
    ]
    stored, listed = SpectrogramFolder(tmp_path / "stored"), SpectrogramFolder(tmp_path / "listed")
    np.testing.assert_allclose(listed.mean, stored.mean, atol=5e-3)
    for name in ("train", "valid", "test"):
        one, other = stored.split(name), listed.split(name)
        assert one.names == other.names and one.frames.tolist() == other.frames.tolist()
        for at in range(len(one)):
            np.testing.assert_allclose(other.read(at), one.read(at), atol=8e-3)
            np.testing.assert_allclose(other.read(at, 20, 45), one.read(at, 20, 45), atol=8e-3)
    train = listed.split("train")
    Path(train.recordings[0]).unlink()
    with pytest.raises(RecordingError, match="there is no such file") as error:
        train.read(0)
    assert train.names[0] in str(error.value)


@pytest.fixture
def listed(recordings, build, tmp_path) -> Path:
    """Nine recordings of three albums, listed with ``--on-the-fly``; all are for training."""
    rows = [{"file": f"{n:02}.wav", "mood": f"m{n}", "album": f"a{n // 3}"} for n in range(9)]
    options = ("--labels", table(tmp_path / "labels.csv", rows), "--group-column", "album")
    status, said = build(recordings(9), tmp_path / "listed", "--on-the-fly", "--split-ratios", "1,0,0", *options)
    assert status == 0, said
    return tmp_path / "listed"


def test_recordings_that_are_gone_or_have_changed_are_left_out_with_their_labels(listed, tmp_path, caplog):
    source = tmp_path / "recordings"
    (source / "03.wav").unlink()
    soundfile.write(source / "05.wav", music(5, 1.0), RATE)  # there is another recording of that name by now
    folder = SpectrogramFolder(listed)
    train = folder.split("train")
    assert train.names == [f"{n:02}.wav" for n in (0, 1, 2, 4, 6, 7, 8)]
    assert train.labels["mood"] == [f"m{n}" for n in (0, 1, 2, 4, 6, 7, 8)]
    assert train.labels["album"] == ["a0", "a0", "a0", "a1", "a2", "a2", "a2"]
    assert [message.count("2 of 9 recordings are gone or have changed") for message in caplog.messages] == [1]
    assert str(source / "03.wav") in caplog.text and str(source / "05.wav") in caplog.text
    for at, name in enumerate(train.names):
        expected = FRONT.extract(decode(source / name, RATE))
        assert train.frames[at] == len(expected)
        np.testing.assert_allclose(train.read(at), expected, atol=1e-5)
    (source / "00.wav").unlink()  # what a loader process counts does not change any more
    again = pickle.loads(pickle.dumps(train))
    assert again.names == train.names and folder.split("train").names == train.names
    np.testing.assert_array_equal(again.read(3), train.read(3))
    assert len(caplog.messages) == 1


def test_a_folder_whose_recordings_are_all_gone_is_refused_in_a_sentence(listed, tmp_path):
    (tmp_path / "recordings").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="all of its 9 recordings are gone or have changed"):
        SpectrogramFolder(listed).split("train")


def test_recordings_in_an_archive_are_read_but_not_on_the_fly(recordings, build, tmp_path):
    source = recordings(4)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(source.iterdir()):
            archive.write(path, f"inner/{path.name}")
    assert build(tmp_path / "all.zip", tmp_path / "data")[0] == 0
    assert sorted(clips_of(tmp_path / "data")) == [f"inner/{number:02}.wav" for number in range(4)]
    status, said = build(tmp_path / "all.zip", tmp_path / "listed", "--on-the-fly")
    assert status == 2 and "is not possible in an archive" in said


def test_defect_10_files_of_one_name_in_two_folders_are_two_clips(build, tmp_path):
    for number in range(3):
        (tmp_path / "all" / str(number)).mkdir(parents=True)
        soundfile.write(tmp_path / "all" / str(number) / "01.wav", music(number), RATE)
    build(tmp_path / "all", tmp_path / "data")
    clips = clips_of(tmp_path / "data")
    assert sorted(clips) == ["0/01.wav", "1/01.wav", "2/01.wav"]
    assert not np.array_equal(clips["0/01.wav"], clips["1/01.wav"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--front-end", "mel"), "is unknown"),
        (("--tuning", "high"), "a number of semitones, or estimate"),
        (("--tuning", "0.1"), "has no chroma to tune"),
        (("--format", "text"), "spectrograms have no text"),
        (("--on-the-fly", "--num-features", 5), "stored already"),
        (("--on-the-fly", "--front-end", "musicoder324"), "takes too long"),
        (("--on-the-fly", "--max-frames", 5), "no features are stored that could be cropped"),
        (("--frame-rate", 5), "applies to .npy features only"),
        (("--max-frames", -1), "numbers above 0"),
        (("--max-bytes", 0), "1 or more is needed"),
        (("--min-seconds", 9, "--max-seconds", 3), "the first must be smaller"),
        (("--group-column", "album"), "a column of --labels"),
        (("--labels", "nowhere.csv"), "cannot be read as CSV"),
    ],
)
def test_options_that_cannot_work_end_with_2_and_one_sentence(build, tmp_path, options, expected):
    soundfile.write(tmp_path / "x.wav", music(1), RATE)
    status, said = build(tmp_path / "x.wav", tmp_path / "data", *options, small=False)
    assert status == 2 and expected in said and len(said.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_tables_that_cannot_be_read_are_told_in_one_sentence(build, tmp_path):
    soundfile.write(tmp_path / "x.wav", music(1), RATE)
    for text, expected in (
        ("name,genre\nx.wav,rock\n", "no column file or file_path"),
        ("file,genre\nx.wav\n", "line 2 has 1 cells, but the header has 2"),
        ("file,genre\nx.wav,a\nx.wav,b\n", "line 3 and an earlier line have different labels for x.wav"),
        ("", "no column file or file_path; its columns are none"),
        ("file,genre,genre \nx.wav,a,b\n", "2 columns are named genre"),
        ("file,genre\n,a\n", "line 2 has no file in its column file"),
        ("file,genre,split\nx.wav,a,third\n", "line 2: x.wav has the split 'third'; accepted is train, valid or test"),
        ("file,split\nx.wav,test\nx.wav,dev\n", "line 3: x.wav is in both test and valid"),
        ('file,genre\nx.wav,"a\n', "never closed"),
    ):
        (tmp_path / "labels.csv").write_text(text)
        status, said = build(tmp_path / "x.wav", tmp_path / "data", "--labels", tmp_path / "labels.csv")
        assert status == 2 and expected in said and len(said.splitlines()) == 1


def test_moments_join_to_those_of_all_rows():
    random = np.random.default_rng(2)
    parts = [random.standard_normal((length, 4)) * [1, 50, 1e-3, 0] + [0, -1000, 5, 3] for length in (1, 2, 100, 37)]
    joined = audio.Moments(4)
    for part in parts:
        joined.add(audio.moments(part))
    rows = np.concatenate(parts)
    np.testing.assert_allclose(joined.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(joined.std, rows.std(0), rtol=1e-9, atol=1e-12)


def test_the_324_features_of_a_recording_are_normalised_and_half_precise():
    pytest.importorskip("librosa")
    front = front_end("m3bert324", tuning=0.1)
    data = io.BytesIO()
    soundfile.write(data, music(1, 1.5, 44100), 44100, format="WAV")
    kind = audio.AudioSpec(front.settings())
    piece = kind.read_piece(data.getvalue(), "x.wav")
    clip = piece.items[0].view(np.float16).reshape(-1, 324).astype(np.float64)
    assert len(clip) == piece.notes == front.frames_of(66150)
    assert np.abs(clip.mean(0)).max() < 1e-2 and np.median(clip.std(0)) == pytest.approx(1, abs=1e-3)
    assert "librosa" in kind.versions()


def test_real_recordings_become_clips_and_the_same_ones_are_found_under_other_names(
    music_data, build, tmp_path, manifest
):
    same = [("demucs_test.mp3", "audiocraft_electro_2.mp3"), ("encodec_test48k.wav", "audiocraft_electro_1.mp3")]
    names = [name for pair in same for name in pair] + ["librosa_trumpet.ogg", "sonicpi_guit_em9.flac"]
    names += ["synctb_chopin_varsi.wav", "musicnn_joram.mp3", "essentia_sax_dmin.wav"]
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(str(music_data / "audio" / name) for name in names))
    status, said = build(listing, tmp_path / "data", "--split-ratios", "60,20,20", small=False)
    assert status == 0, said
    assert "libmpg123" not in said
    group = {Path(name).name: line["group"] for name, line in manifest(tmp_path / "data").items()}
    assert all(group[one] == group[other] for one, other in same) and len(set(group.values())) == 7
    folder = SpectrogramFolder(tmp_path / "data")
    assert sum(len(folder.split(name)) for name in ("train", "valid", "test")) == 7
    assert (folder.std > 1).all() and (folder.std < 8).all()


def test_a_group_column_stays_among_the_labels(recordings, build, tmp_path):
    source = recordings(8)
    table = tmp_path / "labels.csv"
    table.write_text("file,mood,album\n" + "".join(f"{n:02}.wav,calm,a{n // 2}\n" for n in range(8)))
    status, _ = build(source, tmp_path / "data", "--labels", table, "--group-column", "album")
    assert status == 0
    clips = [SpectrogramFolder(tmp_path / "data").split(name) for name in ("train", "valid", "test")]
    found = {name: album for split in clips for name, album in zip(split.names, split.labels["album"])}  # noqa: B905
    assert found == {f"{n:02}.wav": f"a{n // 2}" for n in range(8)}


def test_few_albums_fill_the_splits_as_well_as_they_can_and_what_was_reached_is_told(build, tmp_path):
    source = tmp_path / "features"
    source.mkdir()
    albums = [90, 80, 60, 50, 40, 30, 25, 25]  # frames of each clip; two clips an album
    rows = []
    for album, frames in enumerate(albums):
        for clip in range(2):
            name = f"{album}-{clip}.npy"
            np.save(source / name, np.random.default_rng(10 * album + clip).standard_normal((frames, 7)))
            rows.append({"file": name, "album": f"a{album}"})
    options = ("--num-features", 7, "--labels", table(tmp_path / "labels.csv", rows), "--group-column", "album")
    options += ("--split-ratios", "75,12.5,12.5", "--seed", 3)
    status, said = build(source, tmp_path / "data", *options, small=False)
    assert status == 0
    splits = {name: SpectrogramFolder(tmp_path / "data").split(name) for name in ("train", "valid", "test")}
    assert {name: int(split.frames.sum()) for name, split in splits.items()} == {
        "train": 600,
        "valid": 100,
        "test": 100,
    }
    seen = [set(split.labels["album"]) for split in splits.values()]
    assert sum(map(len, seen)) == len(albums) == len(set().union(*seen))
    reached = "train 75 %, valid 12.5 %, test 12.5 % of the frames (asked for: train 75 %, valid 12.5 %, test 12.5 %)"
    assert f"groups stay together: {reached}." in said


def test_npy_features_claim_no_front_end_unless_one_is_named(build, tmp_path):
    source = tmp_path / "features"
    source.mkdir()
    for number in range(4):
        np.save(source / f"{number}.npy", np.random.default_rng(number).normal(size=(30, 96)))
    (source / "junk.npy").write_bytes(b"no features at all")
    options = ("--num-features", 96, "--split-ratios", "100,0,0")
    status, said = build(source, tmp_path / "data", *options, small=False)
    folder = SpectrogramFolder(tmp_path / "data")
    assert folder.front_end == {"name": "npy", "num_features": 96}
    assert folder.feature_names[0] == "feature 0" and len(folder.split("train")) == 4
    assert "junk.npy" in said and "does not begin as a .npy file" in said and "pickle" not in said
    build(source, tmp_path / "named", *options, "--front-end", "logmel96", small=False)
    assert SpectrogramFolder(tmp_path / "named").front_end["sample_rate"]


@pytest.mark.parametrize("way", [(), ("--on-the-fly",)])
def test_limits_are_held_against_the_sound_and_not_against_its_head(recordings, build, tmp_path, manifest, way):
    """FLAC files whose heads tell of no length, of 26 days, and of a tenth of a second."""
    source = recordings(4)
    for name, seconds, told in (
        ("a", 3.0, 0),
        ("b", 3.1, 2**36 - 1),
        ("c", 3.2, RATE // 10),
        ("d", 5.0, 0),
        ("e", 5.1, 99),
    ):
        soundfile.write(source / f"{name}.flac", music(ord(name), seconds), RATE)
        data = bytearray((source / f"{name}.flac").read_bytes())
        data[18:26] = (int.from_bytes(data[18:26], "big") >> 36 << 36 | told).to_bytes(8, "big")
        (source / f"{name}.flac").write_bytes(data)
    status, said = build(source, tmp_path / "data", "--max-seconds", 4, *way)
    lines = manifest(tmp_path / "data")
    assert {name: line["seconds"] for name, line in lines.items() if name in ("a.flac", "b.flac", "c.flac")} == {
        "a.flac": 3.0,
        "b.flac": 3.1,
        "c.flac": 3.2,
    }
    assert status == 1 and lines["d.flac"]["reason"] == lines["e.flac"]["reason"] == "too long"
    assert "d.flac: more than 4 seconds; --max-seconds accepts no more than that." in said
    clips = clips_of(tmp_path / "data")
    for name in ("a", "b", "c"):
        expected = FRONT.extract(decode(source / f"{name}.flac", RATE))
        np.testing.assert_allclose(clips[f"{name}.flac"], expected, atol=8e-3)


def test_a_file_that_is_too_long_is_not_decoded_to_its_end(recordings, build, tmp_path, monkeypatch):
    asked = []
    kind = audio.AudioSpec(FRONT.settings(), max_seconds=1.0)
    monkeypatch.setattr(
        "musicbert_plugin.audio.decoding._mean_of_channels", lambda block: asked.append(len(block)) or block[:, 0]
    )
    with pytest.raises(RecordingError, match="more than 1 seconds"):
        kind.read_piece((recordings(1) / "00.wav").read_bytes(), "00.wav")
    assert sum(asked) <= RATE + 1


def test_a_damaged_recording_is_kept_in_part_and_counted_as_repaired(recordings, build, tmp_path, manifest):
    source = recordings(4)
    data = io.BytesIO()
    soundfile.write(data, music(50, 4.0), RATE, format="FLAC")
    (source / "cut.flac").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    data = io.BytesIO()
    soundfile.write(data, music(51, 12.0), RATE, format="OGG")
    (source / "cut.ogg").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    status, said = build(source, tmp_path / "data")
    assert status == 0, said
    lines = manifest(tmp_path / "data")
    flac = lines["cut.flac"]
    assert flac["repaired"] == 1 and flac["lost"]["damaged"] + flac["frames"] == pytest.approx(4 * 62.5, abs=2)
    assert flac["detail"].startswith("cut.flac: cannot be decoded after ") and "seconds are lost." in flac["detail"]
    assert lines["cut.ogg"]["repaired"] == 1 and "lost" not in lines["cut.ogg"]
    assert "how much is lost is unknown" in lines["cut.ogg"]["detail"]
    assert said.count("repaired: cut.flac: cannot be decoded") == 1 and said.count("repaired: cut.ogg: ") == 1
    assert "repaired: damaged recording" in said and "lost: damaged" in said and "Traceback" not in said
    assert len(clips_of(tmp_path / "data")["cut.flac"]) == flac["frames"]


def test_a_whole_recording_is_preferred_to_a_damaged_copy(build, tmp_path, manifest):
    source = tmp_path / "copies"
    source.mkdir()
    for number in range(3):
        soundfile.write(source / f"{number}.wav", music(number, 8.0), RATE)
    whole = (source / "1.wav").read_bytes()
    (source / "0-cut.wav").write_bytes(whole[: int(0.9 * len(whole))])
    build(source, tmp_path / "data", "--split-ratios", "1,0,0")
    lines = manifest(tmp_path / "data")
    assert lines["0-cut.wav"]["of"] == "1.wav" and "split" in lines["1.wav"]


def test_files_that_are_passed_over_are_counted_by_their_suffix(recordings, build, tmp_path):
    source = recordings(4)
    for name in ("a.ra", "b.RA", "notes.txt", "README", ".hidden.ra"):
        (source / name).write_text("x")
    (source / "deep").mkdir()
    (source / "deep" / "c.txt").write_text("x")
    soundfile.write(source / "deep" / "d.snd", music(9), RATE, format="AU")
    status, said = build(source, tmp_path / "data")
    assert status == 0 and "deep/d.snd" in clips_of(tmp_path / "data")
    assert "passed over, since their suffixes are not those of recordings: 2 .ra, 2 .txt, 1 without suffix." in said
    assert SpectrogramFolder(tmp_path / "data").config["passed_over"] == {"": 1, ".ra": 2, ".txt": 2}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a.ra", b"x")
        archive.writestr("__MACOSX/._b.ra", b"x")
    status, said = build(tmp_path / "all.zip", tmp_path / "zipped")
    assert status == 2 and "It holds 1 .ra." in said


def test_what_needs_ffmpeg_is_left_out_with_a_sentence_that_names_it(
    recordings, build, tmp_path, manifest, monkeypatch
):
    source = recordings(4)
    (source / "x.m4a").write_bytes(b"ftypM4A " * 100)
    monkeypatch.setenv("PATH", str(tmp_path))
    status, said = build(source, tmp_path / "data")
    assert status == 1 and manifest(tmp_path / "data")["x.m4a"]["reason"] == "undecodable"
    assert "undecodable: x.m4a: .m4a needs ffmpeg, which is not installed" in said


def test_a_rate_below_the_filters_of_the_front_end_is_refused_before_the_first_file(build, tmp_path):
    pytest.importorskip("librosa")
    soundfile.write(tmp_path / "x.wav", music(1), RATE)
    options = ("--front-end", "musicoder324", "--sample-rate", 8000)
    status, said = build(tmp_path / "x.wav", tmp_path / "data", *options, small=False)
    assert status == 2 and "a sample rate of 8000; the filters" in said and len(said.splitlines()) == 1


def test_a_recording_is_read_where_it_is_and_in_pieces(recordings, tmp_path, monkeypatch):
    """The piece is the same from a path and from bytes, and with blocks and stores of any size."""
    path = recordings(1) / "00.wav"
    kind = audio.AudioSpec(FRONT.settings(), max_frames=90)
    whole = kind.read_piece(path.read_bytes(), "x.wav")
    monkeypatch.setattr("musicbert_plugin.audio.decoding._BLOCK", 1000)
    monkeypatch.setattr("musicbert_plugin.audio.row_store.IN_MEMORY", 0)
    monkeypatch.setattr(audio, "_ROWS", 7)
    pieces = kind.read_piece(str(path), "x.wav")
    assert (pieces.exact, pieces.notes, pieces.lost, pieces.repairs) == (whole.exact, 90, {}, {})
    np.testing.assert_array_equal(pieces.items[0], whole.items[0])
    np.testing.assert_array_equal(pieces.sidecars["moments"], whole.sidecars["moments"])
    assert pieces.fingerprint.sequence == whole.fingerprint.sequence
    np.testing.assert_array_equal(pieces.fingerprint.shingles, whole.fingerprint.shingles)


def test_a_time_out_names_the_option_that_gives_more_time(recordings, build, tmp_path):
    status, said = build(recordings(2), tmp_path / "data", "--time-limit", 0.001, "--split-ratios", "1,0,0")
    assert status == 2 and "timeout; the same command tries it again, and --time-limit gives it more than" in said


def test_items_of_any_size_are_written_as_they_are(recordings, tmp_path, monkeypatch):
    source = Folder(str(recordings(3)), (".wav",))
    written = []
    for number, size in enumerate((1 << 22, 1000)):
        monkeypatch.setattr("preprocess.engine.journal.BUFFER_BYTES", size)
        monkeypatch.setattr("musicbert_plugin.audio.row_store.IN_MEMORY", size)
        folder = tmp_path / f"run-{number}"
        folder.mkdir()
        writer = WorkerConfig(audio.AudioSpec(FRONT.settings()), (source,), False).open(folder)
        for index in range(3):
            writer.process_file(FileTask(index, 0, f"{index:02}.wav", f"{index:02}.wav", b"", 0))
        writer.flush()
        written.append([(folder / name).read_bytes() for name in ("items.bin", "sidecars.bin", "journal.jsonl")])
    assert written[0] == written[1] and len(written[0][0]) > 3 * 2 * 20 * 125
