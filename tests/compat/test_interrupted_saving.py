"""A training that was killed while it saved goes on from the newest checkpoint that is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from musicbert_plugin.errors import CheckpointError
from musicbert_plugin.files import UNFINISHED, atomic_path

RUN = """--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert_tiny --tokens-per-sample 256
    --encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 2
    --optimizer adam --lr 0.001 --batch-size 2 --no-progress-bar --save-interval-updates 2""".split()


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def data(octuple_folder: Callable[..., Path]) -> Path:
    return octuple_folder(train=[30] * 40, valid=[30])


@pytest.fixture
def run(data: Path, fairseq_command: Callable[..., Any]) -> Callable[..., Any]:
    return lambda folder, updates, *more: fairseq_command(
        "train", data, *RUN, "--max-update", updates, "--save-dir", folder, *more
    )


def updates_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["optimizer_history"][-1]["num_updates"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def warnings_of(outcome: Any) -> list[str]:
    return [message for message in outcome.messages if "this training goes on from" in message]


def test_a_kill_while_a_checkpoint_is_copied_leaves_the_older_one_whole(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    run(folder, 2)
    copyfile = shutil.copyfile

    def killed_half_way(source: str, target: Any, **options: Any) -> Any:
        copyfile(source, target, **options)
        if "checkpoint_last" in str(target):
            cut(Path(target))
            raise Killed
        return target

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", killed_half_way)
        with pytest.raises(Killed):
            run(folder, 4)
    assert updates_of(folder / "checkpoint_last.pt") == 2  # whole, though older
    assert not list(folder.glob(f"*{UNFINISHED}"))

    outcome = run(folder, 6)
    (warning,) = warnings_of(outcome)
    assert warning.startswith(f"{folder / 'checkpoint_last.pt'} is older; this training goes on from {folder}")
    assert any("(epoch 1 @ 4 updates)" in message for message in outcome.messages)
    assert updates_of(folder / "checkpoint_last.pt") == 6


def test_a_training_goes_on_beside_a_cut_off_checkpoint(run: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    run(folder, 4)
    cut(folder / "checkpoint_last.pt")
    outcome = run(folder, 6)
    (warning,) = warnings_of(outcome)
    assert "checkpoint_last.pt is not complete" in warning
    assert not any("updates, 0" in message for message in outcome.messages)
    assert updates_of(folder / "checkpoint_last.pt") == 6 and updates_of(folder / "checkpoint_1_6.pt") == 6


@pytest.mark.parametrize("left", ["checkpoint_last.pt", "checkpoint_best.pt", None])
def test_a_kill_in_the_first_save_loses_nothing(left: str | None, run: Callable[..., Any], tmp_path: Path) -> None:
    """fairseq writes a numbered file, copies it to checkpoint_best.pt, and then to checkpoint_last.pt."""
    folder = tmp_path / "saved"
    run(folder, 4)
    (folder / "checkpoint_last.pt").unlink()
    if left != "checkpoint_last.pt":
        (folder / "checkpoint_best.pt").unlink()
    if left:
        (folder / f"{left}{UNFINISHED}").write_bytes(b"PK")
    (warning,) = warnings_of(run(folder, 6))
    assert warning.startswith(f"{folder / 'checkpoint_last.pt'} is missing")
    assert updates_of(folder / "checkpoint_last.pt") == 6


def test_a_file_to_fine_tune_from_is_not_taken_for_an_interrupted_training(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    run(tmp_path / "first", 2)
    folder = tmp_path / "second"
    folder.mkdir()
    shutil.copyfile(tmp_path / "first" / "checkpoint_best.pt", folder / "checkpoint_best.pt")
    outcome = run(folder, 2, "--finetune-from-model", folder / "checkpoint_best.pt")
    assert not warnings_of(outcome) and any("loading pretrained model" in message for message in outcome.messages)


def test_a_whole_newest_checkpoint_is_taken_without_a_word(run: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    run(folder, 4)
    shutil.copyfile(folder / "checkpoint_1_2.pt", folder / "checkpoint_last.pt")  # somebody goes back
    outcome = run(folder, 4)
    assert not warnings_of(outcome)
    assert any("checkpoint_last.pt (epoch 1 @ 2 updates)" in message for message in outcome.messages)


def test_nothing_to_go_on_from_is_one_sentence(
    run: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "saved"
    run(folder, 2, "--no-epoch-checkpoints", "--save-interval-updates", 0)
    for path in folder.glob("*.pt"):
        cut(path)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ending:
        run(folder, 4)
    assert ending.value.code == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith(f"{folder / 'checkpoint_last.pt'} is not complete") and "--restore-file" in line


def test_the_newest_file_is_the_one_with_most_updates(registered: None, tmp_path: Path) -> None:
    from musicbert_plugin.compat.newest_checkpoint import newest_whole_checkpoint

    last = tmp_path / "checkpoint_last.pt"
    assert newest_whole_checkpoint(last) is None
    for name, updates in (("checkpoint_1_10.pt", 10), ("checkpoint_2_20.pt", 20), ("checkpoint_best.pt", 15)):
        torch.save({"model": {}, "optimizer_history": [{"num_updates": updates}]}, tmp_path / name)
    assert newest_whole_checkpoint(last) is None  # weights alone: no training can go on from them
    last.write_bytes(b"PK\3\4 the beginning of an archive")
    os.utime(tmp_path / "checkpoint_best.pt", (2e9, 2e9))
    assert newest_whole_checkpoint(last) == tmp_path / "checkpoint_2_20.pt"
    cut(tmp_path / "checkpoint_2_20.pt")
    assert newest_whole_checkpoint(last) == tmp_path / "checkpoint_best.pt"
    for path in tmp_path.glob("checkpoint_[1-9b]*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="is not complete"):
        newest_whole_checkpoint(last)


def test_a_file_appears_under_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(Killed), atomic_path(path) as unfinished:
        unfinished.write_text("ne")
        raise Killed
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic_path(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
