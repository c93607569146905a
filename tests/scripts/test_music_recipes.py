"""The recipes of MuseCoco: what they start, and the dictionary that goes with a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from musicbert_plugin.generation.sampling import TEMPERATURE

if TYPE_CHECKING:
    from conftest import Machine

TRAIN, FINE_TUNE, GENERATE = "train_attribute_to_music.sh", "finetune_pairs.sh", "generate_music.sh"


def test_rows_are_samples_of_a_gpu(recipe: Machine) -> None:
    found = recipe(TRAIN, "DATA", "linear_transformer_lm_xl", "--rows", "3")
    assert found.value("--batch-size") == "3" and found.value("--task") == "attribute_to_music"
    assert found.value("--arch") == "linear_transformer_lm_xl"
    assert recipe(TRAIN, "DATA", "linear_transformer_lm_xl").value("--batch-size") == "8"


def test_fine_tuning_begins_with_the_checkpoint_and_keeps_the_dictionary_beside_the_new_one(recipe: Machine) -> None:
    found = recipe(FINE_TUNE, "DATA", "model.pt", "linear_transformer_lm_std", "--save-dir", "new")
    assert found.value("--finetune-from-model") == "model.pt"
    assert found.value("--position-mode") == found.value("--loss-on") == "all"
    assert (recipe.folder / "new" / "dict.txt").read_text() == "b-0 1\n"
    recipe(FINE_TUNE, "DATA", "model.pt", "linear_transformer_lm_std", "--save-dir=other")
    assert (recipe.folder / "other" / "dict.txt").is_file()


def test_fine_tuning_leaves_a_model_of_another_dictionary_alone(recipe: Machine) -> None:
    (recipe.folder / "old").mkdir()
    (recipe.folder / "old" / "dict.txt").write_text("b-1 1\n")
    found = recipe(FINE_TUNE, "DATA", "model.pt", "linear_transformer_lm_std", "--save-dir", "old")
    assert found.status == 2 and "old holds a model of another dictionary than DATA" in found.message
    assert (recipe.folder / "old" / "dict.txt").read_text() == "b-1 1\n"


def test_generation_answers_all_requests_of_a_file_into_a_folder(recipe: Machine) -> None:
    found = recipe(GENERATE, "model.pt", "requests.txt", "out", "--seed", "7")
    assert found.status == 0 and "out/0.mid, 1.mid, ... answer the lines of requests.txt" in found.message
    found.words = (recipe.folder / "out" / "generated.txt").read_text().splitlines()
    assert found.words[:3] == ["-m", "fairseq_cli.interactive", "--user-dir"], "no dictionary: the published words"
    assert found.value("--seed") == "7" and found.value("--max-len-b") == "2560" and found.value("--dest") == "out"
    assert found.value("--temperature") == str(TEMPERATURE), "what the hub and evaluate sample at"
    assert int(found.value("--buffer-size")) >= max(2, int(found.value("--batch-size"))), "all lines are read first"
    assert not {"--num-candidates", "--keep"} & set(found.words), "the task's: the best of four"


def test_generation_takes_the_dictionary_beside_the_checkpoint_and_leaves_foreign_files_alone(recipe: Machine) -> None:
    (recipe.folder / "dict.txt").write_text("b-0 1\n")
    (recipe.folder / "out").mkdir()
    (recipe.folder / "out" / "generated.txt").write_text("mine\n")
    found = recipe(GENERATE, "model.pt", "requests.txt", "out")
    assert found.status == 2 and "out/generated.txt is not of an earlier run" in found.message
    assert (recipe.folder / "out" / "generated.txt").read_text() == "mine\n"
    (recipe.folder / "out" / "answers.jsonl").touch()
    recipe(GENERATE, "model.pt", "requests.txt", "out")
    assert (recipe.folder / "out" / "generated.txt").read_text().splitlines()[2] == ".", "the folder of the dictionary"


def test_generation_shows_warnings_and_not_the_configuration(recipe: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe.python('if [ "$1" != -c ]; then echo "level $LOGLEVEL" >&2; fi')
    monkeypatch.delenv("LOGLEVEL", raising=False)
    assert "level WARNING" in recipe(GENERATE, "model.pt", "requests.txt", "out").message
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    assert "level DEBUG" in recipe(GENERATE, "model.pt", "requests.txt", "other").message


def test_a_generation_that_fails_leaves_what_another_run_prints_into_the_same_folder(recipe: Machine) -> None:
    recipe.python(
        'if [ "$1" = -c ]; then exit; fi; if [ -n "$AGAIN" ]; then echo other; exit 2; fi\n'
        "echo first; AGAIN=1 bash scripts/generate_music.sh model.pt requests.txt out >&2; echo $?; ls out"
    )
    assert recipe(GENERATE, "model.pt", "requests.txt", "out").status == 0
    first, status, *files = (recipe.folder / "out" / "generated.txt").read_text().splitlines()
    assert (first, status, len(files)) == ("first", "2", 1), "the output of the first run alone is there"
    assert [path.name for path in (recipe.folder / "out").iterdir()] == ["generated.txt"]


def test_a_hugging_face_folder_is_a_checkpoint_and_holds_its_dictionary(recipe: Machine) -> None:
    (recipe.folder / "hub").mkdir()
    found = recipe(GENERATE, "hub", "requests.txt", "out")
    assert found.status == 2 and "hub is not a file; a checkpoint is a .pt file, or a Hugging Face" in found.message
    (recipe.folder / "hub" / "config.json").write_text("{}")
    (recipe.folder / "hub" / "dict.txt").write_text("b-0 1\n")
    assert recipe(FINE_TUNE, "DATA", "hub", "linear_transformer_lm_std").value("--finetune-from-model") == "hub"
    assert recipe(GENERATE, "hub", "requests.txt", "out").status == 0
    words = (recipe.folder / "out" / "generated.txt").read_text().splitlines()
    assert words[2] == "hub" and words[words.index("--path") + 1] == "hub"
