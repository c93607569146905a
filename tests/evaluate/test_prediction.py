"""Predictions of files, folders, archives and lists: every file has a row, and a CSV can be read as labels again."""

import csv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from musicbert_plugin.errors import OptionError, RecordingError

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def tasks():
    from musicbert_plugin.data.labels import LabelTask

    return [
        LabelTask("composer", "single", "composer", ("bach", "chopin")),
        LabelTask("mood", "multi", "mood", ("calm", "dark", "odd"), separator="|"),
        LabelTask("AV", "regression", "AV", ("arousal", "valence"), mean=(0.0, 0.0), deviation=(1.0, 1.0)),
    ]


@pytest.fixture
def hub():
    """A model that reads text: a file is a number per line, and each line an excerpt."""

    def excerpts(content, name):
        lines = (content if isinstance(content, bytes) else Path(content).read_bytes()).split()
        if not lines or b"broken" in lines:
            raise RecordingError("undecodable", f"{name}: cannot be decoded.")
        return [float(line) for line in lines]

    def predict(value):
        return {
            "composer": {"bach": value, "chopin": 1 - value},
            "mood": {"calm": value, "dark": 0.5, "odd": 0.25}
            if value > 0.5
            else {"calm": 0.1, "dark": 0.2, "odd": 0.3},
            "AV": {"arousal": value, "valence": -2.0},
        }

    return SimpleNamespace(suffixes=(".wav", ".npy"), excerpts=excerpts, predict=predict, damage=None)


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "sounds"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.wav").write_text("0.75")
    (folder / "deep" / "er" / "b.NPY").write_text("0.25 1")
    (folder / "deep" / "broken.wav").write_text("broken")
    for name in ("notes.txt", "a.docx", "deep/b.DOCX"):
        (folder / name).write_text("no sound")
    return folder


def test_a_folder_is_read_to_its_depth_and_broken_files_are_named(hub, tasks, sounds, capsys):
    from musicbert_plugin.evaluate.prediction import predict_files

    found, failed, _, passed_over = predict_files(hub, [str(sounds)], tasks)
    assert sorted(found) == ["a.wav", "deep/er/b.NPY#0", "deep/er/b.NPY#1"]
    assert failed == {"deep/broken.wav": "deep/broken.wav: cannot be decoded."}
    said = capsys.readouterr().err
    assert "evaluate audio: deep/broken.wav: cannot be decoded" in said and passed_over == {".docx": 2, ".txt": 1}
    assert "passed over, since the model takes no files of these suffixes: 2 .docx, 1 .txt." in said
    assert found["a.wav"]["composer"]["bach"] == 0.75


def test_archives_lists_and_files_of_any_suffix_may_be_named_together(hub, tasks, sounds, tmp_path):
    from musicbert_plugin.evaluate.prediction import predict_files

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/c.wav", "0.5")
    (tmp_path / "list.txt").write_text("sounds/a.wav\nsounds/gone.wav\n")
    (tmp_path / "song.weird").write_text("0.125")
    (tmp_path / "empty").mkdir()
    names = ["all.zip", "list.txt", "song.weird", "empty", "none.zip", "sounds/"]
    hub.excerpts = _told_missing(hub.excerpts)
    found, failed, *_ = predict_files(
        hub, [str(tmp_path / name) + "/" * name.endswith("/") for name in names], tasks[:1]
    )
    at = str(tmp_path)
    assert {f"{at}/all.zip/in/c.wav", f"{at}/song.weird", f"{at}/sounds/a.wav"} <= set(found)
    assert set(failed) == {f"{at}/sounds/gone.wav", f"{at}/empty", f"{at}/none.zip", f"{at}/sounds/deep/broken.wav"}
    assert "no files in it that end with .wav, .npy" in failed[f"{at}/empty"]
    assert "no such file" in failed[f"{at}/none.zip"] and set(found[f"{at}/sounds/a.wav"]) == {"composer"}
    assert predict_files(hub, [f"{at}/list.txt"], tasks[:1]).answers.keys() == {"sounds/a.wav"}


def _told_missing(excerpts):
    def call(content, name):
        try:
            return excerpts(content, name)
        except FileNotFoundError:
            raise RecordingError("undecodable", f"{name}: there is no such file.") from None

    return call


def test_the_csv_has_a_row_per_file_and_can_be_read_as_labels(hub, tasks, sounds, tmp_path):
    from musicbert_plugin.audio.decoding import Damage
    from musicbert_plugin.data.labels import read_cells
    from musicbert_plugin.evaluate.prediction import predict_files, write_csv
    from preprocess.engine.label_tables import read_labels

    hub.damage = Damage("is cut off, or parts of it are damaged", 2.0, 3.5)
    write_csv(tmp_path / "out.csv", tasks, predict_files(hub, [str(sounds)], tasks))
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["a.wav", "deep/broken.wav", "deep/er/b.NPY#0", "deep/er/b.NPY#1"]
    assert rows["a.wav"] == {
        "file": "a.wav", "composer": "bach", "composer_probability": "0.750000",
        "mood": "calm|dark", "mood_probability": "0.750000|0.500000", "AV": "0.75/-2", "error": "",
        "note": "a.wav: is cut off, or parts of it are damaged; 2.00 seconds are kept, about 3.50 seconds are lost.",
    }  # fmt: skip
    assert (rows["deep/er/b.NPY#0"]["composer"], rows["deep/er/b.NPY#0"]["mood"]) == ("chopin", "|")
    assert rows["deep/broken.wav"]["error"] == "deep/broken.wav: cannot be decoded."
    assert rows["deep/broken.wav"]["composer"] == rows["deep/broken.wav"]["note"] == ""
    table = read_labels(str(tmp_path / "out.csv"))
    moods = [cells[table.columns.index("mood")] for cells in table.labels.values()]
    values, present = read_cells(tasks[1], moods, "out.csv")
    assert present[:, 0].tolist() == [True, False, True, True] and values[0].tolist() == [1, 1, 0]
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_csv_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    from musicbert_plugin.evaluate.prediction import check_csv

    check_csv(tmp_path / "out.csv")
    for path in (tmp_path, tmp_path / "none" / "out.csv"):
        with pytest.raises(OptionError, match="--csv .*the path of a file is needed"):
            check_csv(path)
