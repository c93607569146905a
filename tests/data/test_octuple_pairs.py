"""Pairs of phrases as one sequence: sorted, the second one from its bar on, the same in every validation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import pairs_path, read_pairs, second_bar
from musicbert_plugin.errors import DatasetError, OptionError
from tests.data.test_labelled_octuple_dataset import batch_of, task_of


@pytest.fixture
def folder(labelled_folder: Callable[..., Path]) -> Path:
    folder = labelled_folder(train=[30, 9, 14, 3], valid=[12, 25, 5])
    pairs_path(folder, "train").write_text("first,second,label,query\n0,1,1,\n0,3,0,\n2,3,1,\n2,1,0,\n")
    pairs_path(folder, "valid").write_text("first,second,label,query\n0,2,1,0\n0,1,0,0\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"phrases": {"second_bar": 4}}))
    return folder


def open_pairs(folder: Path, split: str, **options: Any) -> Any:
    from musicbert_plugin.data.octuple_pairs import OctuplePairs

    items = IndexedDataset(folder / split)
    settings = {"second_bar": 4, "tokens_per_sample": 8192, "train": split == "train"} | options
    return OctuplePairs(items, read_pairs(folder, split, len(items)), **settings)


def test_both_phrases_are_one_sorted_sequence(folder: Path) -> None:
    pairs = open_pairs(folder, "valid")
    first, second = (octuple.unframe(IndexedDataset(folder / "valid").read(item))[0] for item in (0, 2))
    second[:, 0] += 4
    both = np.concatenate([first, second])
    assert np.array_equal(octuple.unframe(pairs[0])[0], both[np.lexsort(both.T[::-1])])
    assert pairs.lengths.tolist() == [19, 39]


def test_training_moves_the_bars_of_both_alike(folder: Path) -> None:
    pairs, still = open_pairs(folder, "train"), open_pairs(folder, "train", train=False)
    moved = set()
    for epoch in range(1, 6):
        pairs.set_epoch(epoch)
        difference = octuple.unframe(pairs[2])[0] - octuple.unframe(still[2])[0]
        assert not difference[:, 1:].any() and np.ptp(difference[:, 0]) == 0
        moved.add(int(difference[0, 0]))
    assert len(moved) > 2


def test_pairs_are_batches_of_the_task_and_need_no_tasks_yaml(folder: Path) -> None:
    task = task_of("sequence", folder, tokens_per_sample=8 * 60)
    assert [(found.name, found.classes) for found in task.label_tasks] == [("pair", ("0", "1"))]
    task.load_dataset("valid")
    batch = batch_of(task.dataset("valid"))
    order = np.argsort(batch["item"].numpy())
    assert batch["labels"]["pair"][order, 0].tolist() == [1, 0] and batch["length"][order].tolist() == [17, 37]
    task.load_dataset("train")
    assert batch_of(task.dataset("train"))["nsentences"] == 4


def test_pairs_that_do_not_fit_are_told_in_a_sentence(folder: Path) -> None:
    with pytest.raises(DatasetError, match="pair 1 has 37 notes, but tokens_per_sample is 240, which holds 28"):
        open_pairs(folder, "valid", tokens_per_sample=240)
    with pytest.raises(DatasetError, match="ends in bar 25., but the dictionary has 256"):
        open_pairs(folder, "valid", second_bar=255)[1]
    with pytest.raises(DatasetError, match='a "second_bar" of 0 to 255 is needed'):
        second_bar({"phrases": {"second_bar": 256}})
    with pytest.raises(OptionError, match="have no folds"):
        task_of("sequence", folder, fold=0)
