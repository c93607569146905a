"""The recipes of MuseCoco: what they start, with options of one's own last, and how they refuse what cannot start."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAIN, FINE_TUNE, GENERATE = "train_attribute_to_music.sh", "finetune_pairs.sh", "generate_music.sh"
Recipe = Callable[..., tuple[int, list[str], str]]  # status, arguments that Python got, standard error


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Run a recipe in an empty folder with a Python that prints its arguments, and pretends to see two GPUs."""
    (tmp_path / "scripts").mkdir()
    for name in (TRAIN, FINE_TUNE, GENERATE):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nif [ "$1" = -c ]; then echo 2; else printf "%s\\n" "$@"; fi\n')
    python.chmod(0o755)
    (tmp_path / "DATA").mkdir()
    (tmp_path / "DATA" / "dict.txt").write_text("b-0 1\n")
    (tmp_path / "model.pt").write_text("")
    (tmp_path / "requests.txt").write_text("piano\n")

    def run(name: str, *arguments: str) -> tuple[int, list[str], str]:
        command = ["bash", str(tmp_path / "scripts" / name), *arguments]
        done = subprocess.run(
            command, env={**os.environ, "PYTHON": str(python)}, cwd=tmp_path, capture_output=True, text=True
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


def value(words: list[str], option: str) -> str:
    """The value that counts: the last one."""
    return words[len(words) - words[::-1].index(option)]


@pytest.mark.parametrize(
    "arguments",
    [(TRAIN, "DATA", "linear_transformer_lm_xl"), (FINE_TUNE, "DATA", "model.pt", "linear_transformer_lm_xl")],
)
def test_training_uses_all_gpus_in_bfloat16_and_options_of_ones_own_go_last(
    recipe: Recipe, arguments: tuple[str, ...]
) -> None:
    status, words, _ = recipe(*arguments, "--lr", "1e-5", "--save-dir", "a b")
    assert status == 0
    assert words[:3] == ["-m", "fairseq_cli.train", "DATA"]
    assert value(words, "--distributed-world-size") == "2" and "--bf16" in words and "--cpu" not in words
    assert value(words, "--arch") == "linear_transformer_lm_xl" and value(words, "--task") == "attribute_to_music"
    assert value(words, "--lr") == "1e-5" and value(words, "--save-dir") == "a b"
    assert "--bf16" not in recipe(*arguments, "--fp16")[1]
    words = recipe(*arguments, "--gpus", "0", "--rows", "3")[1]
    assert "--cpu" in words and "--bf16" not in words and value(words, "--batch-size") == "3"


def test_fine_tuning_begins_with_the_checkpoint_and_keeps_the_dictionary_beside_the_new_one(
    recipe: Recipe, tmp_path: Path
) -> None:
    words = recipe(FINE_TUNE, "DATA", "model.pt", "linear_transformer_lm_std", "--save-dir", "new")[1]
    assert value(words, "--finetune-from-model") == "model.pt"
    assert value(words, "--position-mode") == value(words, "--loss-on") == "all"
    assert (tmp_path / "new" / "dict.txt").read_text() == "b-0 1\n"
    recipe(FINE_TUNE, "DATA", "model.pt", "linear_transformer_lm_std", "--save-dir=other")
    assert (tmp_path / "other" / "dict.txt").is_file()


def test_generation_prints_lines_and_decodes_them(recipe: Recipe, tmp_path: Path) -> None:
    status, words, _ = recipe(GENERATE, "model.pt", "requests.txt", "out", "--seed", "7")
    assert status == 0
    assert words[:3] == ["-m", "preprocess.remi", "decode"] and words[-1] == str(tmp_path / "out")
    printed = (tmp_path / "out" / "generated.txt").read_text().splitlines()
    assert printed[:3] == ["-m", "fairseq_cli.interactive", "--user-dir"], "no dictionary: the published words"
    assert value(printed, "--seed") == "7" and value(printed, "--max-len-b") == "2560"
    (tmp_path / "dict.txt").write_text("b-0 1\n")
    recipe(GENERATE, "model.pt", "requests.txt", "out")
    assert (tmp_path / "out" / "generated.txt").read_text().splitlines()[2] == ".", "the folder of the dictionary"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((TRAIN,), "usage: bash scripts/train_attribute_to_music.sh DATA ARCH"),
        ((TRAIN, "DATA", "--gpus"), "usage: "),
        ((TRAIN, "DATA", "linear_transformer_lm_std", "--rows"), "--rows needs a value"),
        ((TRAIN, "DATA", "linear_transformer_lm_std", "--gpus", "two"), "whole numbers, not 'two'"),
        ((FINE_TUNE, "DATA", "model.pt"), "usage: bash scripts/finetune_pairs.sh DATA CHECKPOINT ARCH"),
        ((FINE_TUNE, "DATA", "nowhere.pt", "linear_transformer_lm_std"), "nowhere.pt is not a file"),
        ((FINE_TUNE, "nowhere", "model.pt", "linear_transformer_lm_std"), "nowhere has no dict.txt"),
        ((FINE_TUNE, "DATA", "model.pt", "linear_transformer_lm_std", "--rows", "0"), "at least 1"),
        ((GENERATE, "model.pt", "requests.txt"), "usage: bash scripts/generate_music.sh"),
        ((GENERATE, "model.pt", "nowhere.txt", "out"), "nowhere.txt is not a file"),
    ],
)
def test_what_cannot_start_is_told_in_a_sentence_with_status_2(
    recipe: Recipe, arguments: tuple[str, ...], sentence: str
) -> None:
    status, words, message = recipe(*arguments)
    assert status == 2 and not words and sentence in message and len(message.splitlines()) == 1


@pytest.mark.parametrize("script", [TRAIN, FINE_TUNE, GENERATE, "quickstart_generation.sh"])
def test_the_scripts_are_valid_bash(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / "scripts" / script)]).returncode == 0
