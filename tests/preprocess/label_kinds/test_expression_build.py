"""Datasets of expressive performances: labels and weights beside every item, units that are never divided."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs.score import Score, write_midi
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import LabelledItems, fold_parts
from musicbert_plugin.parsing import parse_yaml

Build = Callable[..., tuple[int, str]]
Items = Callable[[Path, str], LabelledItems]
PERFORMERS = ("1", "2", "Score", "Score2")


@pytest.fixture
def performances(tmp_path: Path) -> Path:
    """Two passages of one work by four performers each, and a file that is no segment."""
    folder = tmp_path / "midi"
    folder.mkdir()
    for passage in (1, 2):
        pitches = np.random.default_rng(passage).integers(40, 90, 24)
        for number, performer in enumerate(PERFORMERS):
            onset = np.arange(24) * 480 + np.random.default_rng(9 * passage + number).integers(0, 200, 24)
            velocity = 40 + 9 * number + np.arange(24)
            write_midi(
                Score.of(480, onset, onset + 400, pitches, velocity), folder / f"W_8bars_{performer}_{passage}.mid"
            )
    write_midi(Score.of(480, [0], [480], [60]), folder / "other.mid")
    return folder


def test_means_become_labels_with_weights_and_units(
    performances: Path, label_build: Build, labelled_items: Items, tmp_path: Path
) -> None:
    names = [f"W_8bars_{performer}_{passage}" for performer in PERFORMERS for passage in (1, 2)]
    numbers = {name: [0.1 * (place + 1), None if place == 2 else 0.5, 7] for place, name in enumerate(names)}
    (tmp_path / "mean.json").write_text(json.dumps(numbers | {"W_8bars_9_9": [0.5, 0.5, 9]}))
    (tmp_path / "std.json").write_text(json.dumps({name: [0.1, 0.1, 7] for name in [*names, "W_8bars_9_9"]}))
    dest = tmp_path / "dest"
    status, said = label_build(
        *("expression", performances, dest, "--labels", tmp_path / "mean.json"),
        *("--deviations", tmp_path / "std.json", "--unit", "performer", "--folds", 2, "--stratify", "work"),
    )
    assert status == 0, said
    assert "1 segments are not in the source, the first is W_8bars_9_9" in said
    assert "1 files have no labels, the first is other.mid" in said
    items = labelled_items(dest, "train")
    by_file = dict(zip(items.files, items.labels["expression"], strict=True))
    assert by_file["W_8bars_1_1.mid"] == "0.1/0.5" and by_file["W_8bars_2_1.mid"] == "0.3/"
    assert set(items.labels["expression_weight"]) == {"0.5/0.5"}
    assert set(items.labels["performer"]) == {"1", "2", "Score"} and set(items.labels["work"]) == {"W"}
    units = defaultdict(set)
    for group, performer in zip(items.groups, items.labels["performer"], strict=True):
        units[group].add(performer)
    assert sorted(map(sorted, units.values())) == [["1"], ["2"], ["Score"]]
    assert parse_yaml((dest / "tasks.yaml").read_text()) == {
        "tasks": {
            "expression": {
                "type": "regression", "names": ["label 1", "label 2"], "weight_column": "expression_weight"
            }
        }
    }  # fmt: skip


def test_each_rater_has_an_item_and_nothing_of_raters_is_stored(
    performances: Path, label_build: Build, labelled_items: Items, tmp_path: Path
) -> None:
    with (tmp_path / "total.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "dataID", "filename", "Question_1", "Question_2", "work_length", "message"])
        for user in ("anna", "berta"):
            for passage in (1, 2):
                name = f"W_8bars_1_{passage}.wav"
                writer.writerow([user, 0, name, 7 if user == "anna" else 0, 3, 12, f"I am {user}"])
    dest = tmp_path / "dest"
    status, said = label_build(
        *("expression", performances, dest, "--labels", tmp_path / "total.csv", "--aggregate", "all"),
        *("--split-ratios", "1,0,1"),
    )
    assert status == 0, said
    assert "2 passages are 2 units of music" in said
    items = [labelled_items(dest, split) for split in ("train", "test")]
    assert [len(found) for found in items] == [2, 2]
    for split, found in zip(("train", "test"), items, strict=True):
        assert found.labels["expression"] == ["1/0.428571", "/0.428571"]
        assert [piece.rpartition("#")[2] for piece in found.pieces] == ["0", "1"] and len(set(found.groups)) == 1
        container = IndexedDataset(dest / split)
        np.testing.assert_array_equal(container[0], container[1])
    for path in dest.iterdir():
        assert b"anna" not in path.read_bytes() and b"I am" not in path.read_bytes()
    (tmp_path / "total.csv").write_text((tmp_path / "total.csv").read_text().replace(",0,3,", ",1,3,"))
    status, said = label_build(
        *("expression", performances, dest, "--labels", tmp_path / "total.csv", "--aggregate", "all"),
        *("--split-ratios", "1,0,1"),
    )
    assert status == 2 and "holds a dataset made with another" in said, "one answer of the second rater has changed"


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ({"X_8bars_1_1": [0.5]}, [], "none of its segments is in the source; the first, X_8bars_1_1"),
        ({"other": [0.5]}, [], "--unit music: other.mid is not called <work>_<N>bars_<performer>_<segment>"),
        ({"other": [0.5]}, ["--folds", 2, "--stratify", "piece"], "--stratify piece: performer or work is accepted"),
    ],
)
def test_what_cannot_start_is_told_in_a_sentence(
    performances: Path, label_build: Build, tmp_path: Path, labels: dict[str, list[float]], options: list, said: str
) -> None:
    (tmp_path / "mean.json").write_text(json.dumps(labels))
    status, text = label_build(
        "expression", performances, tmp_path / "dest", "--labels", tmp_path / "mean.json", *options
    )
    assert status == 2 and said in text and not (tmp_path / "dest").exists()


def test_all_segments_of_percepiano_are_kept_and_no_unit_of_music_is_divided(
    label_build: Build, labelled_items: Items, music_data: Path, tmp_path: Path
) -> None:
    source = music_data / "expression"
    status, said = label_build(
        *("expression", source / "midi.zip", tmp_path / "dest", "--folds", 5),
        *("--labels", source / "labels" / "mean.json", "--deviations", source / "labels" / "std.json"),
    )
    assert status == 0, said
    assert "99 passages are 46 units of music" in said
    items = labelled_items(tmp_path / "dest", "train")
    assert len(items) == 1189 and len(set(items.groups)) == 46
    units = json.loads((source / "music_units.json").read_text())
    folds = defaultdict(set)
    for file, fold in zip(items.files, items.folds.tolist(), strict=True):
        work, _, segment = Path(file).stem.rsplit("_", 2)
        folds[units[f"{work}_{segment}"]].add(fold)
    assert len(folds) == 46 and all(len(found) == 1 for found in folds.values())


def test_a_published_split_becomes_two_folds_and_its_leak_is_named(
    performances: Path, label_build: Build, labelled_items: Items, tmp_path: Path
) -> None:
    """The first passage is also in the second, so that a unit lies on both sides."""
    names = [f"W_8bars_{performer}_{passage}" for performer in PERFORMERS for passage in (1, 2)]
    (performances / "W_16bars_1_3.mid").write_bytes((performances / "W_8bars_1_1.mid").read_bytes())
    names.append("W_16bars_1_3")
    (tmp_path / "mean.json").write_text(json.dumps({name: [0.5] for name in [*names, "other"]}))
    held_out = ["W_8bars_1_1", "W_8bars_2_1"]
    split = {"heldout": {"train": [name for name in names if name not in held_out], "valid": held_out}}
    (tmp_path / "splits.json").write_text(json.dumps(split))
    dest = tmp_path / "dest"
    options = ("--labels", tmp_path / "mean.json", "--segment-splits", tmp_path / "splits.json", "heldout")
    status, said = label_build("expression", performances, dest, *options)
    assert status == 0, said
    assert "1 labelled files are not in heldout" in said
    assert "heldout leaks: 1 of its 2 held-out segments are, in whole or in part, a performance" in said
    items = labelled_items(dest, "train")
    folds = dict(zip(items.files, items.folds.tolist(), strict=True))
    assert len(items) == 9 and {file for file, fold in folds.items() if not fold} == {
        f"{name}.mid" for name in held_out
    }
    parts = fold_parts(items, 0, 0.5, 1)
    assert {items.files[row] for row in parts["test"]} == {f"{name}.mid" for name in held_out}
    status, said = label_build("expression", performances, tmp_path / "other", *options, "--folds", 2)
    assert status == 2 and "one is accepted" in said
