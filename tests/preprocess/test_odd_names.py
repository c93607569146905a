"""A name that is no UTF-8 costs nothing: it stands escaped in every file and message, and is found by that form."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicbert_plugin.codecs.score import read_midi
from musicbert_plugin.data.labelled_octuples import read_labels
from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
from preprocess import attributes, audio, labels, octuple, remi, render
from preprocess.engine.sources import Collection

ROOT = Path(__file__).resolve().parents[2]
LATIN, FORM = b"Caf\xe9", r"Caf\xe9"
SMALL = "--front-end logmel20 --sample-rate 8000 --n-fft 256 --hop 128 --split-ratios 60,20,20".split()


@pytest.fixture
def music(corpus: Callable[..., Path]) -> Path:
    """A folder with six MIDI files, one of them with a Latin-1 name."""
    folder = corpus(6)
    return renamed(folder, "003.mid", LATIN + b".mid")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder with six recordings, one of them with a Latin-1 name."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(6):
        sound = np.random.default_rng(number).normal(size=12000 + 999 * number) / 9
        soundfile.write(folder / f"{number}.wav", sound, 8000)
    return renamed(folder, "3.wav", LATIN + b".wav")


def renamed(folder: Path, name: str, other: bytes) -> Path:
    try:
        os.rename(folder / name, os.fsencode(folder) + b"/" + other)
    except OSError:
        pytest.skip("this file system takes no such names")
    return folder


def latin(folder: Path, suffix: str) -> str:
    """The path of that file, as Python's functions and a shell take it."""
    return os.fsdecode(os.fsencode(folder) + b"/" + LATIN + suffix.encode())


def strict_lines(path: Path) -> dict[str, dict]:
    """The lines of a manifest by file, read as strictly as UTF-8 and JSON ask for."""
    lines = [json.loads(line) for line in path.read_bytes().decode("utf-8").splitlines()]
    json.dumps(lines, ensure_ascii=False).encode("utf-8")
    return {line["file"]: line for line in lines}


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("build", [octuple.main, remi.main])
def test_midi_builds_give_it_a_line_and_take_it_in_tables(build: Callable, music: Path, tmp_path: Path, capsys) -> None:
    splits = written(tmp_path / "splits.csv", f"file,split\n{FORM}.mid,test\n")
    groups = written(tmp_path / "groups.tsv", f"file\tgroup\n{FORM}.mid\tg\n001.mid\tg\n")
    words = ["build", str(music), "--split-ratios", "2,1,1", "--splits", splits, "--groups", groups, "--dest"]
    for _ in range(2):  # the second time it is finished already
        assert build([*words, str(tmp_path / "data")]) == 0
        assert "Traceback" not in capsys.readouterr().err
    lines = strict_lines(tmp_path / "data" / "manifest.jsonl")
    assert len(lines) == 6 and lines[f"{FORM}.mid"]["split"] == lines["001.mid"]["split"] == "test"


@pytest.mark.parametrize("way", [[], ["--on-the-fly"]])
def test_recordings_are_built_with_their_labels_and_go_on_where_a_build_stopped(
    way: list[str], recordings: Path, tmp_path: Path, monkeypatch
) -> None:
    labels = written(tmp_path / "labels.csv", f"file,mood\n{FORM}.wav,calm\n1.wav,wild\n")
    words = ["build", str(recordings), "--dest", str(tmp_path / "data"), "--labels", labels, *SMALL, *way]
    with monkeypatch.context() as stopped:
        assemble = "preprocess.engine.pipeline.Build._assemble"
        stopped.setattr(assemble, lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            audio.main(words)
    assert audio.main(words) == 0
    assert set(strict_lines(tmp_path / "data" / "manifest.jsonl")) == {
        f"{FORM}.wav",
        *(f"{n}.wav" for n in (0, 1, 2, 4, 5)),
    }
    found = {}
    for name in ("train", "valid", "test"):
        split = SpectrogramFolder(tmp_path / "data").split(name)
        assert all(len(split.read(index)) for index in range(len(split)))
        found |= dict(zip(split.names, split.labels["mood"], strict=True))
        if way:
            assert all(os.path.isfile(path) for path in split.recordings)
    assert {name: mood for name, mood in found.items() if mood} == {f"{FORM}.wav": "calm", "1.wav": "wild"}


def test_tables_name_files_in_either_of_unicode_s_normal_forms(tmp_path: Path, capsys) -> None:
    """What macOS calls e + accent, a table made elsewhere calls é, and the reverse."""
    source = tmp_path / "features"
    source.mkdir()
    for number, name in enumerate(("Cafe\u0301.npy", "Noël.npy", "b.npy")):
        np.save(source / name, np.random.default_rng(number).standard_normal((60, 7)))
    rows = "file,mood,album\nCafé.npy,calm,x\nNoe\u0308l.npy,wild,y\nb.npy,,y\n"
    labels = written(tmp_path / "labels.csv", rows)
    splits = written(tmp_path / "splits.csv", "file,split\nCafé.npy,test\nNoe\u0308l.npy,valid\n")
    words = ["build", str(source), "--dest", str(tmp_path / "data"), "--num-features", "7", "--duplicates", "keep"]
    words += ["--labels", labels, "--splits", splits, "--group-column", "album"]
    assert audio.main(words) == 0
    assert "not in the source" not in capsys.readouterr().err
    folder = SpectrogramFolder(tmp_path / "data")
    assert folder.split("test").names == ["Cafe\u0301.npy"] and folder.split("test").labels["mood"] == ["calm"]
    assert sorted(folder.split("valid").labels["mood"]) == ["", "wild"]
    table = Collection([written(source / "table.csv", rows)], (".npy",))  # the table is the source itself
    read = [
        table.sources[number].read(inner, place, 10**6) for _, number, inner, place in table.tasks([True] * 3, 10**6)
    ]
    assert sorted(read) == sorted(path.read_bytes() for path in source.glob("*.npy"))


def test_lists_and_manifests_name_it_in_that_form(recordings: Path, tmp_path: Path) -> None:
    given = {
        "list.txt": f"recordings/1.wav\nrecordings/{FORM}.wav\n",
        "train.tsv": f"{recordings}\n1.wav\t9\n{FORM}.wav\t9\n",
        "table.csv": f"file_path,mood\nrecordings/1.wav,a\nrecordings/{FORM}.wav,b\n",
    }
    expected = Path(latin(recordings, ".wav")).read_bytes()
    for name, text in given.items():
        collection = Collection([written(tmp_path / name, text)], (".wav",))
        found = {
            name: collection.sources[source].read(inner, place, 10**6)
            for _, source, inner, place in collection.tasks([True, True], 10**6)
            for name in [inner]
        }
        assert expected in found.values() and len(found) == 2
        assert [name.rpartition("/")[2] for name in found] == ["1.wav", f"{FORM}.wav"]


def test_a_list_of_raw_bytes_and_a_path_of_the_command_line_mean_the_same_file(music: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"corpus/" + LATIN + b".mid\n")
    assert list(Collection([str(tmp_path / "list.txt")]).names) == [f"corpus/{FORM}.mid"]
    one = Collection([latin(music, ".mid")])
    assert list(one.names) == [f"{music}/{FORM}.mid"]
    [(_, source, inner, place)] = one.tasks([True], 10**6)
    assert one.sources[source].read(inner, place, 10**6).startswith(b"MThd")


def test_members_of_archives(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name in (os.fsdecode(LATIN) + ".mid", "b.mid"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("Cafÿ.mid", b"abc")  # UTF-8, and a flag that says so
        archive.writestr("b.mid", b"abc")
    data = (tmp_path / "a.zip").read_bytes().replace("ÿ".encode(), b"\xe9_")  # the flag stays
    (tmp_path / "a.zip").write_bytes(data)
    for name, expected in (("a.tar.gz", f"{FORM}.mid"), ("a.zip", rf"{FORM}_.mid")):
        collection = Collection([str(tmp_path / name)])
        assert list(collection.names) == [expected, "b.mid"]
        read = [
            collection.sources[source].read(inner, place, 9) for _, source, inner, place in collection.tasks([1, 1], 9)
        ]
        assert read == [b"abc", b"abc"]


def test_encode_and_attributes_name_it_in_that_form(music: Path, tmp_path: Path, capsys) -> None:
    path, form = latin(music, ".mid"), f"{music}/{FORM}.mid"
    labels = written(tmp_path / "labels.csv", f"file,genre\n{form},Jazz\n")
    assert attributes.main([path, "--labels", labels]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["file"] == form and "Jazz" in json.dumps(line["values"])
    for main in (octuple.main, remi.main):
        assert main(["encode", form]) == main(["encode", path]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == second, "a file is named by its escaped form, too"
    assert attributes.main([form, "--labels", labels]) == 0 and json.loads(capsys.readouterr().out) == line
    assert list(Collection([form]).names) == [form]
    Path(path).write_bytes(b"no music")
    for main in (octuple.main, remi.main):
        assert main(["encode", path]) == 1
        assert capsys.readouterr().err.startswith(f"{form}: ")


def test_rendered_clips_have_names_that_every_system_takes(music: Path, tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.csv", f"file,mood\n{FORM}.mid,calm\n")
    words = [str(music), "--dest", str(tmp_path / "clips"), "--synthesiser", "numpy", "--sample-rate", "8000"]
    assert render.main([*words, "--jobs", "1", "--seconds", "2", "--labels", labels]) == 0
    with open(tmp_path / "clips" / "labels.csv", encoding="utf-8", newline="") as file:
        rows = {row["piece"]: row for row in csv.DictReader(file)}
    assert rows[f"{FORM}.mid"]["mood"] == "calm"
    assert rows[f"{FORM}.mid"]["file"] == "Caf%e9_0.wav" and (tmp_path / "clips" / "Caf%e9_0.wav").is_file()
    assert f"{FORM}.mid" in strict_lines(tmp_path / "clips" / "manifest.jsonl")
    table, data = str(tmp_path / "clips" / "labels.csv"), str(tmp_path / "data")
    assert audio.main(["build", table, "--dest", data, "--group-column", "piece", "--duplicates", "keep", *SMALL]) == 0


def test_a_destination_and_messages_may_have_such_names(music: Path, tmp_path: Path) -> None:
    dest = os.fsencode(tmp_path / "out") + b"\xe9"
    Path(latin(music, ".mid")).write_bytes(b"no music")
    done = subprocess.run(
        [sys.executable, "-m", "preprocess.octuple", "build", str(music), "--dest", dest, "--split-ratios", "2,1,1"],
        cwd=ROOT,
        capture_output=True,
    )
    said = done.stderr.decode("utf-8")
    assert done.returncode == 1 and f"unreadable: {FORM}.mid: " in said and "Traceback" not in said
    (tmp_path / "lines").write_bytes(
        subprocess.run(
            [sys.executable, "-m", "preprocess.octuple", "encode", str(music / "000.mid")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        ).stdout
    )
    assert octuple.main(["decode", str(tmp_path / "lines"), "--dest", os.fsdecode(dest) + "2"]) == 0
    assert read_midi(os.fsdecode(dest) + "2/0.mid").onset.size


def test_tables_of_labelled_notes_name_it_by_that_form(music: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"file,label\n{FORM}.mid,a\n000.mid,b\n", encoding="utf-8")
    options = ["--labels", str(tmp_path / "labels.csv"), "--folds", "2"]
    assert labels.main(["sequence", str(music), "--dest", str(tmp_path / "data"), *options]) == 0
    items = read_labels(tmp_path / "data", "train")
    assert (items.files, items.labels) == (["000.mid", f"{FORM}.mid"], {"label": ["b", "a"]})
