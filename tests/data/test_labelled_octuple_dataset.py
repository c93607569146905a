"""Windows of labelled octuples: a window has the labels of its item, and a note the one that is its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Folder = Callable[..., Path]


def task_of(name: str, folder: Path, **options: Any) -> Any:
    from musicbert_plugin.tasks.music_sequence_prediction import MusicSequencePredictionTask
    from musicbert_plugin.tasks.music_token_prediction import MusicTokenPredictionConfig, MusicTokenPredictionTask

    cfg = MusicTokenPredictionConfig(data=str(folder))
    cfg.seed = 1
    for option, value in ({"tokens_per_sample": 8 * 12, "windows_per_piece": 1} | options).items():
        setattr(cfg, option, value)
    return {"sequence": MusicSequencePredictionTask, "token": MusicTokenPredictionTask}[name](cfg)


@pytest.fixture
def folder(labelled_folder: Folder) -> Path:
    folder = labelled_folder(train=[30, 9, 14, 3, 7, 22], valid=[12, 25, 5])
    (folder / "tasks.yaml").write_text(
        "tasks:\n  register: {type: single, weight_column: w}\n  tags: {type: multi}\n  mean: {type: regression}\n"
    )
    return folder


def batch_of(dataset: Any, rows: Any = None) -> dict[str, Any]:
    return dataset.collater([dataset[row] for row in (range(len(dataset)) if rows is None else rows)])


def test_windows_have_the_labels_of_their_items_and_tile_them_in_validation(folder: Path) -> None:
    task = task_of("sequence", folder)
    task.load_dataset("valid")
    batch = batch_of(task.dataset("valid"))
    order = np.argsort(batch["window"].numpy())
    assert batch["item"][order].tolist() == [0, 0, 1, 1, 1, 2]
    assert batch["length"][order].tolist() == [10, 2, 10, 10, 5, 5]
    assert batch["labels"]["register"][order, 0].tolist() == [1, 1, 0, 0, 0, 1]  # classes: high, low
    assert batch["labels"]["tags"][order].tolist() == [[1, 0]] * 2 + [[0, 1]] * 3 + [[1, 0]]
    assert batch["weights"]["register"][order, 0].tolist() == [2, 2, 1, 1, 1, 1]
    assert batch["nsentences"] == 6 and batch["ntokens"] == 8 * (42 + 12)
    assert (batch["net_input"]["segment_lengths"] > 0).sum() == 6
    assert task.state_dict()["label_tasks"][0]["classes"] == ["high", "low"]


def test_training_draws_one_window_from_each_piece_whatever_its_length(labelled_folder: Folder) -> None:
    folder = labelled_folder(train=[300, 12, 40, 9, 14, 3], parts=True)
    (folder / "tasks.yaml").write_text("tasks:\n  register: {type: single}\n")
    task = task_of("sequence", folder)
    task.load_dataset("train")
    dataset, items = task.dataset("train"), []
    for epoch in range(1, 60):
        dataset.set_epoch(epoch)
        batch = batch_of(dataset)
        item = np.sort(batch["item"].numpy())
        assert (item // 2).tolist() == [0, 1, 2] and len(batch["net_input"]["src_tokens"]) == len(dataset)
        items += item.tolist()
    share = np.bincount(items, minlength=6).reshape(3, 2)[:, 0] / 59
    assert np.abs(share - [300 / 312, 40 / 49, 14 / 17]).max() < 0.15, "an item in proportion to its notes"
    again = task_of("sequence", folder)
    again.load_dataset("train")
    again.dataset("train").set_epoch(7)
    dataset.set_epoch(7)
    assert np.array_equal(
        *(batch_of(data)["net_input"]["src_tokens"].numpy() for data in (dataset, again.dataset("train")))
    )
    many = task_of("sequence", folder, windows_per_piece=0)
    many.load_dataset("train")
    assert len(batch_of(many.dataset("train"))["item"]) == 30 + 2 + 4 + 1 + 2 + 1


def test_labels_of_notes_stay_with_their_notes(folder: Path) -> None:
    (folder / "tasks.yaml").write_text("tasks:\n  v: {type: single, column: voice, weight_column: w}\n")
    task = task_of("token", folder)
    assert task.label_tasks[0].classes == ("lower", "upper")
    for split, epoch in (("valid", 1), ("train", 3)):
        task.load_dataset(split)
        task.dataset(split).set_epoch(epoch)
        batch = batch_of(task.dataset(split))
        ids = batch["net_input"]["src_tokens"].view(-1, 8)
        pitch = ids[(ids[:, 0] > 3)][:, 3].numpy() - 4 - 256 - 128 - 129
        voice, present = batch["labels"]["v"][:, 0].numpy(), batch["present"]["v"][:, 0].numpy()
        assert len(voice) == len(pitch) == int(batch["length"].sum())
        assert np.array_equal(voice[present], (pitch % 12 >= 6)[present])
        assert batch["n_labelled"] == present.sum()
        note = batch["window"].numpy()
        starts = np.array([0, 12, 37, 42] if split == "valid" else [0, 30, 39, 53, 56, 63, 85])
        inside = note - starts[np.searchsorted(starts, note, side="right") - 1]
        assert np.array_equal(present, inside % 5 != 4)
        assert np.array_equal(batch["weights"]["v"][:, 0].numpy() == 2, note < starts[1])
    assert sorted(task.dataset("valid")[0]) and batch_of(task.dataset("valid"))["window"].unique().numel() == 42


@pytest.mark.parametrize("name", ["sequence", "token"])
def test_fields_that_any_task_hides_are_masked_in_every_note(folder: Path, name: str) -> None:
    from musicbert_plugin.codecs.octuple import MASK

    column = "voice" if name == "token" else "register"
    (folder / "tasks.yaml").write_text(
        f"tasks:\n  a: {{type: single, column: {column}, hide: [velocity]}}\n  b: {{type: single, column: {column}}}\n"
    )
    rows = {}
    for hide in (True, False):
        task = task_of(name, folder)
        if not hide:
            (folder / "tasks.yaml").write_text(f"tasks:\n  a: {{type: single, column: {column}}}\n")
            task = task_of(name, folder)
        task.load_dataset("valid")
        ids = batch_of(task.dataset("valid"))["net_input"]["src_tokens"].view(-1, 8)
        rows[hide] = ids[ids[:, 0] > 3]
    assert (rows[True][:, 5] == MASK).all() and (rows[False][:, 5] != MASK).all()
    others = [0, 1, 2, 3, 4, 6, 7]
    assert rows[True][:, others].equal(rows[False][:, others])


def test_fields_that_labels_of_notes_were_made_of_are_hidden_without_a_word_of_the_user(folder: Path) -> None:
    import json

    from musicbert_plugin.codecs.octuple import MASK
    from musicbert_plugin.errors import DatasetError

    (folder / "tasks.yaml").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    for hidden in (["velocity"], ["loudness"], "velocity"):
        (folder / "config.json").write_text(json.dumps(config | {"hide": hidden}))
        if hidden != ["velocity"]:
            with pytest.raises(DatasetError, match='"hide": .*, but a list of some of bar, position'):
                task_of("token", folder)
            continue
        task = task_of("token", folder)
        assert {label_task.hide for label_task in task.label_tasks} == {("velocity",)}, "the checkpoint keeps it"
        task.load_dataset("valid")
        ids = batch_of(task.dataset("valid"))["net_input"]["src_tokens"].view(-1, 8)
        assert (ids[ids[:, 0] > 3][:, 5] == MASK).all()
