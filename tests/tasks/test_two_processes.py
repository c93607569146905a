"""Two processes learn labels, and measure them on the whole validation set, as one does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
RUN = (
    "--arch musicoder_tiny --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --conv-kernel 7 --dropout 0 "
    "--attention-dropout 0 --batch-size 2 --max-epoch 1 --optimizer adam --adam-eps 1e-4 --lr 0.001 --clip-norm 0.5 "
    "--seed 1 --no-epoch-checkpoints --log-format json --log-interval 1 --head-dropout 0"
).split()
TWO = "--ddp-backend legacy_ddp --distributed-backend gloo --distributed-no-spawn --distributed-world-size 2".split()
NOTES = (
    "--arch musicbert_tiny --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --encoder-layers 1 --dropout 0 "
    "--attention-dropout 0 --batch-size 1 --tokens-per-sample 192 --max-epoch 1 --optimizer adam --adam-eps 1e-4 "
    "--lr 0.001 --clip-norm 0.5 --seed 1 --no-epoch-checkpoints --log-format json --log-interval 1"
).split()
YAML = "tasks:\n  level: {type: single, classes: [quiet, loud]}\n  mean: {type: regression}\n"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def valid_lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line[line.index("{") :]) for line in log.splitlines() if '"valid_loss"' in line]


def check_that_two_are_one(
    folder: Path, options: list[str], command: Callable[..., Any], save: Path, metrics_at_least: int
) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "fairseq_cli.train", str(folder), *options, "--cpu", "--num-workers", "0", *TWO]
            + ["--user-dir", str(ROOT / "musicbert_plugin"), "--save-dir", str(save / "two")]
            + ["--distributed-init-method", f"tcp://127.0.0.1:{port}", "--distributed-rank", str(rank)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for port in [free_port()]
        for rank in (0, 1)
    ]  # fmt: skip
    alone = command("train", folder, *options, "--update-freq", 2, "--save-dir", save / "one")
    logs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(logs)

    one, two = (torch.load(save / name / "checkpoint_last.pt", weights_only=True)["model"] for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-6)
    (expected,) = [line for line in alone.statistics if "valid_loss" in line]
    (found,) = valid_lines(logs[0])
    metrics = [key for key in expected if key.startswith("valid_") and not key.endswith(("wps", "/s", "wpb", "bsz"))]
    assert len(metrics) > metrics_at_least
    for key in metrics:
        assert float(found[key]) == pytest.approx(float(expected[key]), abs=2e-4), key


def test_defect_17_two_processes_train_and_measure_as_one_with_twice_the_batches(
    spectrogram_folder: Callable[..., Path], fairseq_command: Callable[..., Any], tmp_path: Path
) -> None:
    """The original wrapped a trainer, not a model, in DataParallel, and ended with one GPU."""
    folder = spectrogram_folder(
        train=[60, 40, 90, 30, 77, 55, 20, 81], valid=[50, 33, 71, 44, 25],
        labels={
            "level": lambda clip: "loud" if clip.mean() > -4 else "quiet",
            "mean": lambda clip: f"{clip.mean():.3f}" if len(clip) % 3 else "",
        },
    )  # fmt: skip
    (folder / "tasks.yaml").write_text(YAML)
    options = ["--task", "audio_multitask", "--criterion", "audio_multitask", *RUN]
    check_that_two_are_one(folder, options, fairseq_command, tmp_path, 5)


def test_two_processes_learn_labels_of_notes_as_one(
    labelled_folder: Callable[..., Path], fairseq_command: Callable[..., Any], tmp_path: Path
) -> None:
    """Batches have different numbers of labelled notes, by which the gradients of both are divided."""
    folder = labelled_folder(train=[30, 9, 14, 3, 7, 22, 18, 40], valid=[12, 25, 5])
    options = ["--task", "music_token_prediction", "--criterion", "labels", *NOTES]
    check_that_two_are_one(folder, options, fairseq_command, tmp_path, 3)
