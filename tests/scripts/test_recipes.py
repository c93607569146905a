"""What all recipes share: the device, options of one's own last, and one sentence where they cannot start."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Machine

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TRAINING = {
    "pretrain_octuple.sh": ["DATA", "musicbert_tiny"],
    "pretrain_audio.sh": ["DATA", "musicoder_tiny"],
    "finetune_audio.sh": ["DATA", "musicoder_tiny", "model.pt"],
    "train_attribute_to_music.sh": ["DATA", "linear_transformer_lm_std"],
    "finetune_pairs.sh": ["DATA", "model.pt", "linear_transformer_lm_std"],
}
RECIPES = {**TRAINING, "generate_music.sh": ["model.pt", "requests.txt", "out"]}


@pytest.mark.parametrize("script", TRAINING)
def test_training_uses_every_gpu_in_bfloat16_and_options_of_ones_own_go_last(recipe: Machine, script: str) -> None:
    found = recipe(script, *TRAINING[script], "--lr", "1e-9", "--save-dir", "a b")
    assert found.status == 0
    assert found.words[:3] == ["-m", "fairseq_cli.train", "DATA"]
    assert found.value("--distributed-world-size") == "2" and "--bf16" in found.words and "--cpu" not in found.words
    assert found.value("--user-dir") == str(recipe.folder / "musicbert_plugin")
    assert found.value("--lr") == "1e-9" and found.value("--save-dir") == "a b"


@pytest.mark.parametrize("option", ["--fp16", "--amp", "--memory-efficient-bf16"])
@pytest.mark.parametrize("script", TRAINING)
def test_another_precision_takes_the_place_of_bfloat16(recipe: Machine, script: str, option: str) -> None:
    words = recipe(script, *TRAINING[script], option).words
    assert "--bf16" not in words and option in words


@pytest.mark.parametrize("script", TRAINING)
def test_float32_is_computed_in_where_it_is_asked_for(recipe: Machine, script: str) -> None:
    found = recipe(script, *TRAINING[script], "--float32", "--gpus", "1", "--seed", "3")
    assert found.status == 0 and found.value("--seed") == "3" and found.value("--distributed-world-size") == "1"
    assert not {"--float32", "--bf16", "--fp16", "--cpu"} & set(found.words)


@pytest.mark.parametrize("script", TRAINING)
def test_options_of_recipe_and_training_may_stand_in_any_order(recipe: Machine, script: str) -> None:
    found = recipe(script, *TRAINING[script], "--max-update", "3", "--gpus", "0", "--save-dir", "a b", "--float32")
    assert found.status == 0 and not {"--gpus", "--float32"} & set(found.words)
    assert found.value("--max-update") == "3" and found.value("--save-dir") == "a b" and "--cpu" in found.words


@pytest.mark.parametrize("choice", [["--gpus", "0"], ["--cpu"]])
@pytest.mark.parametrize("script", TRAINING)
def test_without_gpus_one_process_computes_in_float32(recipe: Machine, script: str, choice: list[str]) -> None:
    found = recipe(script, *TRAINING[script], *choice)
    assert found.status == 0
    assert "--cpu" in found.words and "--bf16" not in found.words and found.value("--distributed-world-size") == "1"


@pytest.mark.parametrize("script", RECIPES)
def test_too_few_words_or_an_option_in_their_place_are_answered_by_the_usage_in_the_header(
    recipe: Machine, script: str
) -> None:
    words = RECIPES[script]
    for few in ([], words[:-1], [*words[:-1], "--gpus", "1"], ["--help"]):
        found = recipe(script, *few)
        assert found.status == 2 and not found.words
        assert found.message.startswith(f"{script}: usage: bash scripts/{script} ") and found.message.count("\n") == 1


@pytest.mark.parametrize("gpus", ["two", "-1", "1.5", "08"])
@pytest.mark.parametrize("script", TRAINING)
def test_a_number_of_gpus_is_a_whole_number(recipe: Machine, script: str, gpus: str) -> None:
    found = recipe(script, *TRAINING[script], "--gpus", gpus)
    assert (found.status, found.words) == (2, [])
    assert found.message == f"{script}: --gpus is a whole number, not '{gpus}'.\n"


@pytest.mark.parametrize("option", ["--rows", "--nodes"])
@pytest.mark.parametrize("number", ["0", "many", ""])
def test_rows_and_nodes_are_at_least_one(recipe: Machine, option: str, number: str) -> None:
    found = recipe("pretrain_octuple.sh", "DATA", "musicbert_tiny", option, number)
    assert (found.status, found.words) == (2, [])
    assert found.message == f"pretrain_octuple.sh: {option} is a whole number of at least 1, not '{number}'.\n"


@pytest.mark.parametrize(
    ("script", "option"),
    [(script, "--gpus") for script in TRAINING]
    + [("pretrain_octuple.sh", "--rendezvous"), ("pretrain_audio.sh", "--from"), ("finetune_audio.sh", "--tasks")]
    + [("train_attribute_to_music.sh", "--rows"), ("finetune_pairs.sh", "--rows")],
)
def test_an_option_without_its_value_is_named(recipe: Machine, script: str, option: str) -> None:
    found = recipe(script, *TRAINING[script], option)
    assert (found.status, found.words, found.message) == (2, [], f"{script}: {option} needs a value.\n")


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("pretrain_octuple.sh", ["DATA", "musicbert_tiny", "--nodes", "2"], "--nodes 2 needs --rendezvous HOST:PORT"),
        ("pretrain_audio.sh", ["DATA", "musicoder_tiny", "--from", "nowhere.pt"], "--from nowhere.pt: no such file"),
        ("finetune_audio.sh", ["DATA", "musicoder_tiny", "nowhere.pt"], "nowhere.pt: no such file"),
        ("finetune_audio.sh", ["DATA", "musicoder_tiny", "model.pt", "--tasks", "no.yaml"], "no.yaml: no such file"),
        ("finetune_pairs.sh", ["DATA", "nowhere.pt", "linear_transformer_lm_std"], "nowhere.pt is not a file"),
        ("finetune_pairs.sh", ["nowhere", "model.pt", "linear_transformer_lm_std"], "nowhere has no dict.txt"),
        ("generate_music.sh", ["nowhere.pt", "requests.txt", "out"], "nowhere.pt is not a file"),
        ("generate_music.sh", ["model.pt", "nowhere.txt", "out"], "nowhere.txt is not a file"),
    ],
)
def test_what_is_not_there_is_named(recipe: Machine, script: str, words: list[str], sentence: str) -> None:
    found = recipe(script, *words)
    assert found.status == 2 and not found.words
    assert sentence in found.message and found.message.count("\n") == 1


@pytest.mark.parametrize("gpus", [[], ["--gpus", "1"]])
@pytest.mark.parametrize("script", RECIPES)
def test_a_python_without_torch_is_told_in_a_sentence(recipe: Machine, script: str, gpus: list[str]) -> None:
    recipe.python("echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1")
    found = recipe(script, *RECIPES[script], *gpus)
    assert found.status == 2 and not found.words
    python = recipe.folder / "python"
    assert found.message == f"{script}: {python} has no torch and fairseq: run 'bash scripts/setup.sh' first.\n"


@pytest.mark.parametrize("script", RECIPES)
def test_a_python_that_is_not_there_is_told_in_a_sentence(recipe: Machine, script: str) -> None:
    (recipe.folder / "python").unlink()
    found = recipe(script, *RECIPES[script])
    assert found.status == 2 and "run 'bash scripts/setup.sh' first" in found.message
    assert found.message.count("\n") == 1


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.iterdir()))
def test_the_scripts_are_valid_bash(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPTS / script)]).returncode == 0
