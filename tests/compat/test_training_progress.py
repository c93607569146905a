"""How far a training has come, from its newest complete checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from musicbert_plugin.compat.newest_checkpoint import training_progress


def write(path: Path, updates: int, seconds: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    history = [{"num_updates": updates, "criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}}]
    extra = {"previous_training_time": seconds, "train_iterator": {"epoch": 1}}
    state = {"model": {}, "optimizer_history": history, "extra_state": extra, "last_optimizer_state": {"state": {}}}
    torch.save(state, path)
    return path


def test_a_training_has_the_updates_and_the_time_of_its_newest_complete_checkpoint(registered: None, tmp_path) -> None:
    assert training_progress(tmp_path / "nowhere") == (0, 0.0)
    pretrained = write(tmp_path / "pretrained" / "checkpoint_last.pt", 600, 360.5)
    assert training_progress(pretrained.parent) == (600, 360.5)
    # what a file to fine-tune has taken counts for the clock, and its updates do not count
    assert training_progress(tmp_path / "finetuned", pretrained) == (0, 360.5)
    write(tmp_path / "finetuned" / "checkpoint_1_100.pt", 100, 400.0)
    assert training_progress(tmp_path / "finetuned", pretrained) == (100, 400.0)
    (tmp_path / "finetuned" / "checkpoint_last.pt").write_bytes(b"cut off")
    assert training_progress(tmp_path / "finetuned", pretrained) == (100, 400.0)
    write(tmp_path / "finetuned" / "checkpoint_last.pt", 111, 410.0)
    assert training_progress(tmp_path / "finetuned", pretrained) == (111, 410.0)
