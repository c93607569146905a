"""The pre-training recipe: 256 rows per update for any number of GPUs, none included; options of one's own go last."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Recipe = Callable[..., tuple[int, list[str], str]]  # status, arguments that Python got, standard error


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Run the recipe with a Python that prints its arguments, and pretends to see two GPUs."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "pretrain_octuple.sh", tmp_path / "scripts")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nif [ "$1" = -c ]; then echo 2; else printf "%s\\n" "$@"; fi\n')
    python.chmod(0o755)

    def run(*arguments: str) -> tuple[int, list[str], str]:
        command = ["bash", str(tmp_path / "scripts" / "pretrain_octuple.sh"), *arguments]
        environment = {**os.environ, "PYTHON": str(python)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


def value(words: list[str], option: str) -> str:
    """The value that counts: the last one."""
    return words[len(words) - words[::-1].index(option)]


@pytest.mark.parametrize(
    "options, rows, workers, frequency",
    [
        ([], 4, 2, 32),
        (["--gpus", "0"], 4, 1, 64),
        (["--gpus", "1"], 4, 1, 64),
        (["--gpus", "8"], 4, 8, 8),
        (["--gpus", "8", "--rows", "32"], 32, 8, 1),
        (["--gpus", "6"], 4, 6, 11),  # 264 rows are nearer to 256 than 240
        (["--gpus", "8", "--nodes", "4", "--rendezvous", "a:1"], 4, 32, 2),
        (["--gpus", "8", "--rows", "8", "--nodes", "8", "--rendezvous", "a:1"], 4, 64, 1),
        (["--gpus", "0", "--nodes", "2", "--rendezvous", "a:1"], 4, 2, 32),
    ],
)
def test_an_update_sees_256_rows(recipe: Recipe, options: list[str], rows: int, workers: int, frequency: int) -> None:
    status, words, message = recipe("DATA", "musicbert_tiny", *options)
    assert status == 0
    assert value(words, "--batch-size") == str(rows)
    assert value(words, "--distributed-world-size") == str(workers)
    assert value(words, "--update-freq") == str(frequency)
    assert f"{rows * workers * frequency} rows per update" in message


def test_a_gpu_computes_in_bfloat16_unless_told_otherwise_and_a_cpu_never_does(recipe: Recipe) -> None:
    assert "--bf16" in recipe("DATA", "musicbert_tiny")[1]
    words = recipe("DATA", "musicbert_tiny", "--fp16")[1]
    assert "--bf16" not in words and "--fp16" in words
    words = recipe("DATA", "musicbert_tiny", "--gpus", "0")[1]
    assert "--bf16" not in words and "--cpu" in words


def test_several_nodes_are_started_by_torchrun_and_one_is_not(recipe: Recipe) -> None:
    words = recipe("DATA", "musicbert_tiny", "--nodes", "3", "--rendezvous", "host:29500")[1]
    assert words[:2] == ["-m", "torch.distributed.run"]
    assert value(words, "--nnodes") == "3"
    assert value(words, "--nproc-per-node") == "2"
    assert value(words, "--rdzv-endpoint") == "host:29500"
    assert recipe("DATA", "musicbert_tiny")[1][:3] == ["-m", "fairseq_cli.train", "DATA"]


def test_options_of_ones_own_go_last(recipe: Recipe) -> None:
    words = recipe("DATA", "musicbert_base", "--max-update", "20", "--save-dir", "a b")[1]
    assert value(words, "--max-update") == value(words, "--total-num-update") == "20"
    assert value(words, "--save-dir") == "a b"
    assert value(words, "--arch") == "musicbert_base"


def test_the_learning_rate_falls_to_zero_with_the_last_update(recipe: Recipe) -> None:
    assert value(recipe("DATA", "musicbert_base")[1], "--total-num-update") == "125000"
    assert value(recipe("DATA", "musicbert_base", "--seed", "2", "--max-update=70")[1], "--total-num-update") == "70"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([], "usage: bash scripts/pretrain_octuple.sh DATA ARCH"),
        (["DATA"], "usage: "),
        (["DATA", "--gpus", "1"], "usage: "),
        (["DATA", "musicbert_tiny", "--rows"], "--rows needs a value"),
        (["DATA", "musicbert_tiny", "--rows", "0"], "at least 1"),
        (["DATA", "musicbert_tiny", "--gpus", "two"], "whole numbers, not 'two'"),
        (["DATA", "musicbert_tiny", "--nodes", "2"], "needs --rendezvous HOST:PORT"),
    ],
)
def test_what_cannot_start_is_told_in_a_sentence_with_status_2(
    recipe: Recipe,
    arguments: list[str],
    sentence: str,
) -> None:
    status, words, message = recipe(*arguments)
    assert status == 2
    assert not words
    assert sentence in message


@pytest.mark.parametrize("script", ["pretrain_octuple.sh", "pretrain_octuple.slurm"])
def test_the_scripts_are_valid_bash(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / "scripts" / script)]).returncode == 0
