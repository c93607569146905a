"""The task in fairseq's hands: training, validation, resuming, shards, loader processes and options."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from musicbert_plugin.codecs.octuple import FIELDS, MASK, dictionary_lines
from musicbert_plugin.errors import DatasetError, OptionError

Folder = Callable[..., Path]
Command = Callable[..., Any]

SMALL = "--encoder-layers 1 --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --encoder-attention-heads 2"
RUN = (
    "--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert --tokens-per-sample 512 --batch-size 2 "
    "--optimizer adam --lr 0.002 --log-format json --log-interval 1 --validate-interval 100 --save-interval 100 "
    f"{SMALL}"
).split()
LENGTHS = [50, 20, 300, 41, 7, 120, 60, 33, 10, 90, 200, 15]


def make_task(data: Path | str, **options: Any) -> Any:
    from musicbert_plugin.tasks.octuple_masked_lm import OctupleMaskedLmTask, OctupleMaskedLmTaskConfig

    return OctupleMaskedLmTask(
        OctupleMaskedLmTaskConfig(data=str(data), **{"seed": 1, "tokens_per_sample": 512} | options)
    )


def train_steps(outcome: Any) -> list[dict[str, Any]]:
    """The log lines of single updates."""
    return [line for line in outcome.statistics if "loss" in line and "wall" in line]


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


def batches(task: Any, split: str = "train", epoch: int = 1, **options: Any) -> list[dict[str, Any]]:
    iterator = task.get_batch_iterator(task.dataset(split), max_sentences=2, epoch=epoch, seed=1, **options)
    return list(iterator.next_epoch_itr(shuffle=split == "train"))


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    if len(one) != len(other):
        return False
    keys = ("id", "target")
    sources = ((a["net_input"]["src_tokens"], b["net_input"]["src_tokens"]) for a, b in zip(one, other, strict=True))
    return all(a.equal(b) for a, b in sources) and all(
        a[key].equal(b[key]) for a, b in zip(one, other, strict=True) for key in keys
    )


def test_the_dictionary_is_the_codecs_and_a_mask(registered: None, tmp_path: Path) -> None:
    from fairseq.data import Dictionary

    task = make_task(tmp_path)
    (tmp_path / "dict.txt").write_text("\n".join(dictionary_lines()) + "\n")
    reference = Dictionary.load(str(tmp_path / "dict.txt"))
    assert reference.add_symbol("<mask>") == MASK
    assert task.source_dictionary is task.target_dictionary
    assert task.source_dictionary.symbols == reference.symbols
    assert len(task.source_dictionary) == 1237


def test_training_lowers_the_loss_and_validation_tells_every_field(
    octuple_folder: Folder, fairseq_command: Command, tmp_path: Path
) -> None:
    data = octuple_folder(train=LENGTHS, valid=[80, 30])
    outcome = fairseq_command("train", data, *RUN, "--max-update", 40, "--save-dir", tmp_path / "run")
    steps = train_steps(outcome)
    assert float(steps[-1]["loss"]) < float(steps[0]["loss"]) - 1
    assert float(steps[0]["loss"]) == pytest.approx(math.log2(1237), abs=0.3)
    validation = [line for line in outcome.statistics if "valid_loss" in line][-1]
    checked = fairseq_command(
        *("validate", data, "--path", tmp_path / "run" / "checkpoint_last.pt", "--batch-size", 2),
        *("--task", "octuple_masked_lm", "--log-format", "json"),
    ).statistics[-1]
    for name in FIELDS:
        assert 1 < float(checked[f"valid_ppl_{name}"]) < 2000
        assert 0 <= float(checked[f"valid_acc_{name}"]) <= 1
        assert float(checked[f"valid_ppl_{name}"]) == pytest.approx(float(validation[f"valid_ppl_{name}"]), rel=1e-3)
    assert float(checked["valid_loss"]) == pytest.approx(float(validation["valid_loss"]), abs=2e-3)
    assert "valid_notes/s" in validation


@pytest.mark.parametrize("pack", ["True", "False"])
def test_a_run_resumed_in_mid_epoch_takes_the_same_steps(
    octuple_folder: Folder, fairseq_command: Command, tmp_path: Path, pack: str
) -> None:
    data = octuple_folder(train=LENGTHS, valid=[80])
    run = [*RUN, "--pack", pack, "--dropout", 0, "--attention-dropout", 0, "--save-interval-updates", 6]
    whole = fairseq_command("train", data, *run, "--max-update", 18, "--save-dir", tmp_path / "whole")
    first = fairseq_command("train", data, *run, "--max-update", 6, "--save-dir", tmp_path / "halves")
    second = fairseq_command("train", data, *run, "--max-update", 18, "--save-dir", tmp_path / "halves")
    expected, found = train_steps(whole), train_steps(first) + train_steps(second)
    assert {line["epoch"] for line in expected} == {1, 2} or len({line["epoch"] for line in expected}) > 1
    assert [line["loss"] for line in found] == [line["loss"] for line in expected]
    for name, value in parameters(tmp_path / "whole").items():
        torch.testing.assert_close(parameters(tmp_path / "halves")[name], value, rtol=0, atol=1e-7)


def test_loader_processes_give_the_batches_of_the_main_process_in_every_epoch(octuple_folder: Folder) -> None:
    data = octuple_folder(train=LENGTHS, valid=[80])
    one, two = make_task(data), make_task(data)
    for task in (one, two):
        task.load_dataset("train")
    epochs = []
    for epoch in (1, 2, 3):
        alone = batches(one, epoch=epoch)
        assert same(alone, batches(two, epoch=epoch, num_workers=2))
        epochs.append(alone)
    assert not same(epochs[0], epochs[1]) and not same(epochs[1], epochs[2])
    assert same(epochs[0], batches(two, epoch=1))


def test_loader_processes_end_when_the_next_epoch_begins(octuple_folder: Folder, loader_processes: Any) -> None:
    """Left alive, they pile up until the garbage collector waits five seconds for each, in the middle of some epoch."""
    assert loader_processes(make_task(octuple_folder(train=LENGTHS))) == [2, 2, 2, 0]


def test_workers_share_the_rows_of_an_epoch(octuple_folder: Folder) -> None:
    task = make_task(octuple_folder(train=LENGTHS))
    task.load_dataset("train")
    ids = [batch["id"].tolist() for shard in range(3) for batch in batches(task, num_shards=3, shard_id=shard) if batch]
    assert sorted(row for batch in ids for row in batch) == list(range(len(task.dataset("train"))))


def test_validation_batches_are_the_same_in_every_epoch(octuple_folder: Folder) -> None:
    task = make_task(octuple_folder(train=LENGTHS, valid=[80, 200]))
    task.load_dataset("valid")
    first = batches(task, "valid")
    task.dataset("valid").set_epoch(4)
    assert same(first, batches(task, "valid"))


def test_folders_joined_by_colons_are_one_shard_per_epoch(
    octuple_folder: Folder, fairseq_command: Command, tmp_path: Path
) -> None:
    folders = [octuple_folder("a", train=[60, 50], valid=[30]), octuple_folder("b", train=[70] * 4, valid=[300])]
    data = ":".join(str(folder) for folder in folders)
    task = make_task(data)
    assert task.has_sharded_data("train")
    for epoch, pieces in ((1, 2), (2, 4), (3, 2), (4, 4)):
        task.load_dataset("train", epoch=epoch)
        assert len(task.dataset("train").windows.items) == pieces
        task.load_dataset("valid", epoch=epoch)
        assert len(task.dataset("valid").windows) == 1
    outcome = fairseq_command("train", data, *RUN, "--max-epoch", 3, "--save-dir", tmp_path / "run")
    rows = {1: 2, 2: 3, 3: 2}
    updates = [line["epoch"] for line in train_steps(outcome)]
    assert updates == [epoch for epoch, count in rows.items() for _ in range(-(-count // 2))] or len(set(updates)) == 3


def test_a_folder_of_fairseq_preprocess_is_taken_as_windows_or_drawn_from_on_request(octuple_folder: Folder) -> None:
    data = octuple_folder(train=[50, 60], config=None)
    task = make_task(data)
    task.load_dataset("train")
    assert len(task.dataset("train").windows) == 2
    assert not task.dataset("train").windows.drawn
    task = make_task(data, windows="drawn")
    task.load_dataset("train")
    assert task.dataset("train").windows.drawn


def test_several_strategies_and_units_reach_the_masking(octuple_folder: Folder) -> None:
    task = make_task(octuple_folder(train=[60]), mask_strategy="bar+element", mask_unit="bar", mask_prob=0.5)
    assert task.masking.strategies == ("bar", "element")
    assert task.masking.mask_unit == "bar"
    assert task.masking.probabilities.mask_prob == 0.5


def test_in_batches_without_masks_training_goes_on_and_no_number_is_undefined(
    octuple_folder: Folder, fairseq_command: Command, tmp_path: Path
) -> None:
    data = octuple_folder(train=[50, 20, 60], valid=[40])
    outcome = fairseq_command(
        "train", data, *RUN, "--mask-prob", 1e-9, "--max-update", 2, "--save-dir", tmp_path / "run"
    )
    assert [float(line["loss"]) for line in train_steps(outcome)] == [0.0, 0.0]
    for value in parameters(tmp_path / "run").values():
        assert value.isfinite().all()


@pytest.mark.parametrize("value, on", [("True", True), ("true", True), (True, True), ("False", False), ("0", False)])
def test_packing_is_switched_by_true_and_false(registered: None, value: object, on: bool) -> None:
    assert make_task(".", pack=value).pack is on


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"pack": "perhaps"}, "--pack is 'perhaps', but it is True or False"),
        ({"mask_strategy": "note"}, "mask_strategy is note, but bar, compound, element, or several"),
        ({"mask_prob": 2.0}, "mask_prob is 2.0"),
    ],
)
def test_impossible_options_end_in_a_sentence(registered: None, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        make_task(".", **options)


@pytest.mark.parametrize("limit", ["--max-tokens", "--max-positions"])
def test_rows_too_long_to_be_trained_on_are_not_left_out_in_silence(
    octuple_folder: Folder, fairseq_command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    data = octuple_folder(train=[50, 300], valid=[20])
    with pytest.raises(SystemExit) as end:
        fairseq_command("train", data, *RUN, limit, 400, "--max-update", 1, "--save-dir", tmp_path / "run")
    assert end.value.code == 2
    assert f"{limit} is 400, but rows have up to 512 sub-tokens" in capsys.readouterr().err


def test_a_split_that_is_not_there_is_named(octuple_folder: Folder) -> None:
    with pytest.raises(DatasetError, match="valid.idx is missing"):
        make_task(octuple_folder(train=[50])).load_dataset("valid")


def test_data_of_another_dictionary_end_training_with_a_sentence_and_status_2(
    octuple_folder: Folder, fairseq_command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = octuple_folder(train=[50], valid=[20])
    config = json.loads((data / "config.json").read_text())
    (data / "config.json").write_text(json.dumps(config | {"dictionary_sha256": "0" * 64}))
    with pytest.raises(SystemExit) as end:
        fairseq_command("train", data, *RUN, "--max-update", 1, "--save-dir", tmp_path / "run")
    assert end.value.code == 2
    assert "made with another dictionary" in capsys.readouterr().err


def test_inference_batches_are_padded_tokens_without_masks(octuple_folder: Folder) -> None:
    task = make_task(octuple_folder(train=[50, 9]))
    task.load_dataset("train")
    pieces = [torch.from_numpy(task.dataset("train").windows.items[index]) for index in (0, 1)]
    dataset = task.build_dataset_for_inference(pieces, [len(piece) for piece in pieces])
    order = dataset.ordered_indices()
    batch = dataset.collater([dataset[index] for index in order])
    tokens = batch["net_input"]["src_tokens"]
    assert tokens.shape == (2, 52 * 8)
    assert tokens[0, : 11 * 8].equal(pieces[1]) and tokens[0, 11 * 8 :].eq(1).all()
    assert tokens[1].equal(pieces[0])


def test_the_task_survives_the_way_to_another_process(octuple_folder: Folder) -> None:
    data = octuple_folder(train=LENGTHS)
    task = make_task(data)
    task.load_dataset("train")
    copy = pickle.loads(pickle.dumps(task.dataset("train")))
    for index in range(len(copy)):
        assert copy[index]["source"].equal(task.dataset("train")[index]["source"])


def test_a_dataset_may_move_between_runs(octuple_folder: Folder, tmp_path: Path) -> None:
    data = octuple_folder(train=LENGTHS)
    task = make_task(data)
    task.load_dataset("train")
    before = batches(task)
    moved = shutil.copytree(data, tmp_path / "moved")
    task = make_task(moved)
    task.load_dataset("train")
    assert same(before, batches(task))


def test_the_longest_row_is_what_fairseq_filters_by(octuple_folder: Folder) -> None:
    task = make_task(octuple_folder(train=LENGTHS))
    task.load_dataset("train")
    rows = task.dataset("train")
    assert task.max_positions() == 512
    kept, ignored = rows.filter_indices_by_size(np.arange(len(rows)), task.max_positions())
    assert len(kept) == len(rows) and not ignored
