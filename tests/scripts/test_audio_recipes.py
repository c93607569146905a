"""The recipes for sound: frames per update, what is begun from, what is trained; options of one's own go last."""

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
    """Run a recipe with a Python that prints its arguments, and pretends to see two GPUs; ``CHECKPOINT`` is a file."""
    (tmp_path / "scripts").mkdir()
    for script in ("pretrain_audio.sh", "finetune_audio.sh"):
        shutil.copy(ROOT / "scripts" / script, tmp_path / "scripts")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nif [ "$1" = -c ]; then echo 2; else printf "%s\\n" "$@"; fi\n')
    python.chmod(0o755)
    (tmp_path / "CHECKPOINT").touch()

    def run(script: str, *arguments: str) -> tuple[int, list[str], str]:
        command = ["bash", str(tmp_path / "scripts" / script), *arguments]
        environment = {**os.environ, "PYTHON": str(python)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


def value(words: list[str], option: str) -> str:
    """The value that counts: the last one."""
    return words[len(words) - words[::-1].index(option)]


@pytest.mark.parametrize("gpus, workers, frequency", [("0", 1, 4), ("1", 1, 4), ("2", 2, 2), ("4", 4, 1), ("8", 8, 1)])
def test_an_update_of_pretraining_sees_65536_frames_up_to_four_gpus(
    recipe: Recipe, gpus: str, workers: int, frequency: int
) -> None:
    status, words, message = recipe("pretrain_audio.sh", "DATA", "musicoder_base", "--gpus", gpus)
    assert status == 0
    assert value(words, "--distributed-world-size") == str(workers)
    assert value(words, "--update-freq") == str(frequency)
    assert f"{16384 * workers * frequency} frames per update" in message
    assert ("--cpu" in words) == (gpus == "0") and ("--bf16" in words) == (gpus != "0")


def test_pretraining_continues_from_a_file_only_if_told_so(recipe: Recipe) -> None:
    assert "--finetune-from-model" not in recipe("pretrain_audio.sh", "DATA", "musicoder_tiny")[1]
    words = recipe("pretrain_audio.sh", "DATA", "musicoder_tiny", "--from", "CHECKPOINT", "--max-update", "70")[1]
    assert value(words, "--finetune-from-model") == "CHECKPOINT"
    assert value(words, "--max-update") == value(words, "--total-num-update") == "70"


def test_fine_tuning_trains_everything_or_the_heads_alone(recipe: Recipe) -> None:
    status, words, _ = recipe("finetune_audio.sh", "DATA", "musicoder_tiny", "CHECKPOINT")
    assert status == 0
    assert value(words, "--trainable-layers") == "-1" and value(words, "--finetune-from-model") == "CHECKPOINT"
    assert "--tasks-file" not in words
    words = recipe(
        "finetune_audio.sh",
        "DATA",
        "m3bert_base",
        "CHECKPOINT",
        "--frozen",
        "--tasks",
        "CHECKPOINT",
        "--max-epoch",
        "2",
    )[1]
    assert value(words, "--trainable-layers") == "0" and value(words, "--tasks-file") == "CHECKPOINT"
    assert value(words, "--max-epoch") == "2" and value(words, "--arch") == "m3bert_base"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["pretrain_audio.sh"], "usage: "),
        (["pretrain_audio.sh", "DATA", "--gpus", "1"], "usage: "),
        (["pretrain_audio.sh", "DATA", "musicoder_tiny", "--gpus"], "--gpus needs a value"),
        (["pretrain_audio.sh", "DATA", "musicoder_tiny", "--gpus", "two"], "whole number, not 'two'"),
        (["pretrain_audio.sh", "DATA", "musicoder_tiny", "--from", "nowhere.pt"], "nowhere.pt: no such file"),
        (["finetune_audio.sh", "DATA", "musicoder_tiny"], "usage: "),
        (["finetune_audio.sh", "DATA", "musicoder_tiny", "nowhere.pt"], "nowhere.pt: no such file"),
        (["finetune_audio.sh", "DATA", "musicoder_tiny", "CHECKPOINT", "--tasks", "no.yaml"], "no.yaml: no such file"),
    ],
)
def test_what_cannot_start_is_told_in_a_sentence_with_status_2(
    recipe: Recipe, arguments: list[str], sentence: str
) -> None:
    status, words, message = recipe(*arguments)
    assert status == 2 and not words
    assert sentence in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "script, options",
    [
        ("pretrain_audio.sh", ["DATA", "musicoder_tiny"]),
        ("finetune_audio.sh", ["DATA", "musicoder_tiny", "CHECKPOINT"]),
    ],
)
def test_every_option_of_a_recipe_is_known_to_fairseq(
    recipe: Recipe, registered: None, script: str, options: list[str]
) -> None:
    from fairseq import options as fairseq_options

    words = recipe(script, *options, "--gpus", "0")[1]
    words[words.index("--user-dir") + 1] = str(ROOT / "musicbert_plugin")
    known = fairseq_options.get_training_parser()
    arguments = fairseq_options.parse_args_and_arch(known, words[words.index("DATA") :])
    assert arguments.arch == "musicoder_tiny" and arguments.max_tokens == 16384


@pytest.mark.parametrize("script", ["quickstart_audio.sh", "pretrain_audio.sh", "finetune_audio.sh"])
def test_the_scripts_are_valid_bash(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / "scripts" / script)]).returncode == 0


def test_the_quickstart_refuses_a_folder_that_is_not_there() -> None:
    command = ["bash", str(ROOT / "scripts" / "quickstart_audio.sh"), "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "/nowhere is not a folder" in done.stderr
