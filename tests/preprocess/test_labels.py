"""Labelled datasets of notes: every item has the labels of its file, and what is left out is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs.score import DRUMS, Score, write_midi
from musicbert_plugin.data.dataset_folder import check_octuple_folder, read_config
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import LabelledItems, check_items, fold_parts, read_labels
from musicbert_plugin.errors import MusicError
from preprocess import labels
from preprocess.engine import cli as command
from preprocess.engine.destination import Destination
from preprocess.engine.genre_map import genre_cells, read_genre_map
from preprocess.engine.labelled_notes import classes_of, strata_of, usable_cells
from preprocess.engine.sources import Collection

Build = Callable[..., tuple[int, str]]
Corpus = Callable[..., Path]
Content = Callable[[Path], dict[str, bytes]]
Manifest = Callable[[Path], dict[str, dict]]


@pytest.fixture
def sequence(capsys: pytest.CaptureFixture[str]) -> Build:
    """``sequence(source, dest, "--folds", 2)``: the command; gives its exit status and what it said."""

    def run(source: Path, dest: Path, *options: object) -> tuple[int, str]:
        try:
            status = labels.main(["sequence", str(source), "--dest", str(dest), *map(str, options)])
        except MusicError as error:
            command.say(str(error))
            status = command.CANNOT_START
        return status, capsys.readouterr().err

    return run


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def of_all_splits(dest: Path) -> dict[str, LabelledItems]:
    """The tables of a dataset, each compared with its container."""
    check_octuple_folder(dest)
    found = {split: read_labels(dest, split) for split in ("train", "valid", "test")}
    for split, items in found.items():
        check_items(items, IndexedDataset(dest / split).sizes, dest / split)
    return found


def test_every_item_has_the_labels_of_its_file_whatever_helps_or_interrupts_the_build(
    corpus: Corpus,
    sequence: Build,
    build: Build,
    content: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = corpus(7)
    onset = np.arange(300) * 1920
    write_midi(Score.of(480, onset, onset + 480, 60 + np.arange(300) % 7), source / "long.mid")
    given = table(
        tmp_path / "labels.csv",
        "file,composer,mood,arousal,weight",
        *(f"00{number}.mid,{'ab'[number % 2]},calm/dark,0.{number},1" for number in range(7)),
        "long.mid,a,,nan,0.5",
    )
    options = ["--labels", given, "--split-ratios", "2,1,1"]
    status, said = sequence(source, tmp_path / "one", *options)
    assert status == 0, said
    found = of_all_splits(tmp_path / "one")
    rows = {
        (name, notes): {column: cells[row] for column, cells in items.labels.items()}
        for items in found.values()
        for row, (name, notes) in enumerate(zip(items.files, items.notes.tolist(), strict=True))
    }
    assert rows["003.mid", 60] == {"composer": "b", "mood": "calm/dark", "arousal": "0.3", "weight": "1"}
    long = {"composer": "a", "mood": "", "arousal": "", "weight": "0.5"}
    assert rows["long.mid", 256] == rows["long.mid", 44] == long and len(rows) == 9
    (items,) = [items for items in found.values() if "long.mid" in items.files]
    two = [items.files.index("long.mid"), items.files.index("long.mid") + 1]
    assert len({items.pieces[row] for row in two}) == len({items.groups[row] for row in two}) == 1
    assert len(set(items.pieces)) == len(items) - 1

    assert sequence(source, tmp_path / "two", *options, "--jobs", 2)[0] == 0
    assert content(tmp_path / "two") == content(tmp_path / "one")

    def killed(_: Destination) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Destination, "publish", killed)
        sequence(source, tmp_path / "three", *options)
    assert not (tmp_path / "three" / "config.json").exists()
    assert "going on" in sequence(source, tmp_path / "three", *options)[1]
    assert content(tmp_path / "three") == content(tmp_path / "one")

    assert build(source, tmp_path / "plain", "--duplicates", "keep", "--split-ratios", "2,1,1")[0] == 0
    plain, labelled = content(tmp_path / "plain"), content(tmp_path / "one")
    assert all(plain[name] == labelled[name] for name in plain if name.endswith((".bin", ".idx", ".txt")))
    assert read_config(tmp_path / "one" / "config.json")["windows"] == "drawn"
    status, said = sequence(source, tmp_path / "one", *options)
    assert (status, "nothing to do" in said) == (0, True)
    given.write_text(given.read_text().replace("calm", "wild"))
    assert "made with another labels sha256" in sequence(source, tmp_path / "one", *options)[1]


def test_copies_and_groups_share_a_fold_and_classes_are_spread(
    corpus: Corpus, sequence: Build, make_piece: Callable[..., Score], manifest: Manifest, tmp_path: Path
) -> None:
    source = corpus(24)
    score = make_piece(0)
    higher = replace(score, pitch=np.where(score.program != DRUMS, score.pitch + 2, score.pitch).astype(np.int16))
    write_midi(higher, source / "copy.mid")
    cells = [("xy"[number % 2], "duo" if number in (0, 5) else "", "train", number, "") for number in range(24)]
    lines = [",".join(map(str, (f"{number:03}.mid", *row))) for number, row in enumerate(cells)]
    given = table(tmp_path / "l.csv", "file,class,group,split,title,same", *lines, "copy.mid,y,,test,24,z")
    options = ("--labels", given, "--group-column", "group", "--folds", 3, "--stratify", "class")
    status, said = sequence(source, tmp_path / "out", *options)
    assert status == 0 and "its column split is not used, since --folds 3 is given" in said
    assert "3 folds of 8 to 9 files, from 23 that stay together" in said
    assert "column same: one class alone" in said and "title" not in said.replace("-title", "")
    found = of_all_splits(tmp_path / "out")
    assert list(map(len, found.values())) == [25, 0, 0]
    items = found["train"]
    fold = dict(zip(items.files, items.folds.tolist(), strict=True))
    unit = dict(zip(items.files, items.groups, strict=True))
    assert fold["000.mid"] == fold["005.mid"] == fold["copy.mid"]
    assert unit["000.mid"] == unit["005.mid"] == unit["copy.mid"] and len(set(unit.values())) == 23
    pairs = list(zip(items.folds.tolist(), items.labels["class"], strict=True))
    assert all(4 <= pairs.count((number, name)) <= 5 for number in range(3) for name in "xy")
    assert manifest(tmp_path / "out")["005.mid"]["fold"] == fold["005.mid"]
    parts = fold_parts(items, 1, 0.1, seed=1)
    assert {items.folds[row] for row in parts["test"]} == {1}


def test_a_unit_larger_than_a_fold_and_a_class_of_one_unit_are_told(
    corpus: Corpus, sequence: Build, tmp_path: Path
) -> None:
    lines = [f"00{number}.mid,{'big' if number < 6 else number},{'p' if number < 2 else 'q'}" for number in range(9)]
    given = table(tmp_path / "l.csv", "file,album,label", *lines)
    source = corpus(9)
    options = ("--labels", given, "--group-column", "album", "--columns", "label")
    status, said = sequence(source, tmp_path / "out", *options, "--folds", 3)
    assert status == 0
    assert "000.mid stays together with 5 other files (copies, groups), which are more than a fold of 3" in said
    assert "column label: p: a class whose files all stay together" in said
    status, said = sequence(source, tmp_path / "more", *options, "--folds", 5)
    assert (status, "--folds 5: the source holds 4" in said, (tmp_path / "more").exists()) == (2, True, False)


def test_files_that_are_not_listed_or_not_labelled_are_left_out_unread(
    corpus: Corpus, sequence: Build, manifest: Manifest, tmp_path: Path
) -> None:
    source = corpus(9)
    (source / "broken.mid").write_bytes(b"junk")
    (source / "unlisted.mid").write_bytes(b"junk")
    given = table(
        tmp_path / "l.csv",
        "file,label,split",
        "000.mid,a,train",
        "001.mid,b,train",
        "002.mid,a,valid",
        "003.mid,c,test",
        "004.mid,a,",
        "005.mid,,train",
        *(f"00{number}.mid,b,train" for number in (6, 7, 8)),
        "gone.mid,a,train",
        "broken.mid,b,train",
    )
    status, said = sequence(source, tmp_path / "out", "--labels", given)
    assert status == 1  # since a labelled file is broken
    lines = manifest(tmp_path / "out")
    assert {name: line.get("split", line.get("reason")) for name, line in lines.items()} == {
        "000.mid": "train",
        "001.mid": "train",
        "002.mid": "valid",
        "003.mid": "test",
        **dict.fromkeys(("006.mid", "007.mid", "008.mid"), "train"),
        "004.mid": "no split",
        "005.mid": "no labels",
        "broken.mid": "unreadable",
        "unlisted.mid": "no labels",
    }
    assert "1 files with labels are not in the source, the first is gone.mid" in said
    assert "2 files have no labels, the first is 005.mid" in said
    assert "1 files have no split in the table of labels, the first is 004.mid" in said
    assert "column label: c: in test, but not in train" in said
    status, said = sequence(source, tmp_path / "out", "--labels", given)
    assert (status, "nothing to do" in said) == (1, True)
    splits = table(tmp_path / "s.csv", "file,split", "000.mid,test", "001.mid,train", "away.mid,train")
    assert sequence(source, tmp_path / "two", "--labels", given, "--splits", splits)[0] == 0
    found = of_all_splits(tmp_path / "two")
    assert [found[split].files for split in ("train", "valid", "test")] == [["001.mid"], [], ["000.mid"]]


def test_cells_that_cannot_be_stored_are_named_and_the_rest_goes_on(
    corpus: Corpus, sequence: Build, manifest: Manifest, tmp_path: Path
) -> None:
    given = table(
        tmp_path / "l.csv", "file,tags,value", "000.mid,R&B/Soul|Pop,0.5", "001.mid,Pop|Jazz,inf", "002.mid,|,1"
    )
    options = ("--labels", given, "--separator", "|", "--split-ratios", "1,0,0")
    for again in range(2):
        status, said = sequence(corpus(3), tmp_path / "out", *options)
        assert status == 1, again
        assert f"{given}: 000.mid, column tags: 'R&B/Soul' has a '/'" in said
        assert f"{given}: 001.mid, column value: 'inf' is infinite; finite numbers are accepted" in said
    items = of_all_splits(tmp_path / "out")["train"]
    assert items.labels == {"tags": ["", "Pop/Jazz", "/"], "value": ["0.5", "", "1"]}
    assert manifest(tmp_path / "out")["001.mid"]["unusable_labels"] == ["value"]


def test_genres_are_found_by_the_md5_of_names_or_of_contents(corpus: Corpus, sequence: Build, tmp_path: Path) -> None:
    source = corpus(3)
    name = "0123456789abcdef" * 2
    (source / "000.mid").rename(source / f"{name}.mid")
    content = hashlib.md5((source / "001.mid").read_bytes()).hexdigest()
    genres = {"masd": {name: [" Pop Rock", "Jazz", "Jazz "], content: ["Metal"], "f" * 32: ["Folk"]}, "topmagd": {}}
    path = tmp_path / "map.json"
    path.write_text(json.dumps(genres))
    options = ("--genre-map", path, "--split-ratios", "1,0,0")
    status, said = sequence(source, tmp_path / "out", *options, "--subset", "masd")
    assert (status, "2 of 3 files are in it" in said) == (0, True)
    items = of_all_splits(tmp_path / "out")["train"]
    found = dict(zip(items.files, items.labels["masd"], strict=True))
    assert found == {f"{name}.mid": "Jazz/Pop-Rock", "001.mid": "Metal"}
    status, said = sequence(source, tmp_path / "none", *options)
    assert (status, "none of the 3 files is in it" in said) == (2, True)


def test_the_lakh_map_gives_the_tags_of_the_table_that_was_made_of_it(music_data: Path, tmp_path: Path) -> None:
    import csv
    import zipfile

    archive = music_data / "midi" / "genre_lakh.zip"
    with zipfile.ZipFile(archive) as files:
        files.extract("midi_genre_map.json", tmp_path)
    genres = read_genre_map(str(tmp_path / "midi_genre_map.json"), "masd")
    cells, wrong = genre_cells(Collection([str(archive)]), genres, "--genre-map", 1 << 20)
    with open(music_data / "midi" / "genre_lakh_masd.csv", encoding="utf-8") as lines:
        expected = {row["file"]: set(row["labels"].split("|")) for row in csv.DictReader(lines)}
    assert {file: set(cell.split("/")) for file, cell in cells.items()} == expected and not wrong


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "labels are needed, from --labels CSV or --genre-map JSON"),
        (["--labels", "no.csv"], "no.csv: cannot be read as CSV"),
        (["--labels", "l.csv", "--columns", "mood"], "--columns mood: not in l.csv; its columns of labels are label"),
        (["--labels", "l.csv", "--stratify", "label"], "--folds K is needed"),
        (["--labels", "l.csv", "--folds", "2", "--stratify", "mood"], "--stratify mood: not in l.csv"),
        (["--labels", "l.csv", "--folds", "1"], "--folds 1: a number from 2 to 1,000"),
        (["--labels", "l.csv", "--folds", "2", "--splits", "s.csv"], "--folds 2 --splits s.csv: one of the two"),
        (["--labels", "l.csv", "--folds", "2", "--split-ratios", "8,1,1"], "folds have equal shares"),
        (["--labels", "l.csv", "--format", "text"], "--format text: labels lie beside bin"),
        (["--labels", "l.csv", "--separator", ""], "--separator: the separator is ''"),
        (["--labels", "l.csv", "--group-column", "album"], "--group-column album: not in l.csv"),
        (["--labels", "away.csv"], "none of the files with labels is in the source; x.mid"),
        (["--labels", "empty.csv"], "none of the 2 files has a label in label"),
        (["--genre-map", "l.csv"], "--genre-map l.csv: cannot be read as JSON"),
        (
            ["--genre-map", "map.json", "--subset", "masd"],
            "no object 'masd' from md5 to genres in it",
        ),
    ],
)
def test_what_cannot_start_is_one_sentence_and_status_2(
    corpus: Corpus, sequence: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    source = corpus(2)
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "l.csv", "file,label", "000.mid,a", "001.mid,b")
    table(tmp_path / "away.csv", "file,label", "x.mid,a")
    table(tmp_path / "empty.csv", "file,label", "000.mid,")
    (tmp_path / "map.json").write_text('{"topmagd": {}}')
    status, told = sequence(source, tmp_path / "out", *options)
    assert (status, told.count("\n")) == (2, 1) and said in told and not (tmp_path / "out").exists()


def test_tags_and_numbers_of_any_separator_become_those_of_a_dataset() -> None:
    assert usable_cells({"a": "0.5|1", "b": "|2", "c": ""}, "|")[0] == {"a": "0.5/1", "b": "/2", "c": ""}
    cells, wrong = usable_cells({"a": "AC/DC", "b": "inf"}, "|")  # a column without the separator stays as it is
    assert cells == {"a": "AC/DC", "b": "inf"} and not wrong
    assert list(usable_cells({"a": "0.5/1e999", "b": "1/2"}, "/")[1]) == ["a"]
    assert classes_of("calm/ dark/nan") == ["calm", "dark"]


def test_many_different_numbers_are_stratified_by_their_fifths() -> None:
    strata = strata_of([*map(str, range(20)), ""])
    assert [strata.count([name]) for name in ("0", "1", "2", "3", "4", "")] == [4, 4, 4, 4, 4, 1]
    assert strata_of(["a/b", "", "a"]) == [["a", "b"], [""], ["a"]]
