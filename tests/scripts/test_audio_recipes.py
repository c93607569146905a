"""The recipes for sound: frames per update, what is begun from, what is trained, and where it is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Machine

PRETRAIN, FINE_TUNE = "pretrain_audio.sh", "finetune_audio.sh"


@pytest.mark.parametrize("gpus, workers, frequency", [("0", 1, 4), ("1", 1, 4), ("2", 2, 2), ("4", 4, 1), ("8", 8, 1)])
def test_an_update_of_pretraining_sees_65536_frames_up_to_four_gpus(
    recipe: Machine, gpus: str, workers: int, frequency: int
) -> None:
    found = recipe(PRETRAIN, "DATA", "musicoder_base", "--gpus", gpus)
    assert found.status == 0
    assert found.value("--distributed-world-size") == str(workers)
    assert found.value("--update-freq") == str(frequency)
    assert f"{16384 * workers * frequency} frames per update" in found.message


def test_pretraining_continues_from_a_file_only_if_told_so(recipe: Machine) -> None:
    assert "--finetune-from-model" not in recipe(PRETRAIN, "DATA", "musicoder_tiny").words
    found = recipe(PRETRAIN, "DATA", "musicoder_tiny", "--from", "model.pt", "--max-update", "70")
    assert found.value("--finetune-from-model") == "model.pt"
    assert found.value("--save-dir") == "checkpoints/musicoder_tiny_continued", "not the folder of the file itself"
    assert found.value("--max-update") == found.value("--total-num-update") == "70"


def test_fine_tuning_trains_everything(recipe: Machine) -> None:
    found = recipe(FINE_TUNE, "DATA", "musicoder_tiny", "model.pt")
    assert found.status == 0
    assert found.value("--trainable-layers") == "-1" and found.value("--finetune-from-model") == "model.pt"
    assert found.value("--save-dir") == "checkpoints/musicoder_tiny_finetuned"
    assert "--tasks-file" not in found.words


def test_a_probe_trains_the_heads_alone_in_a_folder_of_its_own(recipe: Machine) -> None:
    found = recipe(
        FINE_TUNE, "DATA", "m3bert_base", "model.pt", "--frozen", "--tasks", "requests.txt", "--max-epoch", "2"
    )
    assert found.value("--trainable-layers") == "0" and found.value("--tasks-file") == "requests.txt"
    assert found.value("--max-epoch") == "2" and found.value("--arch") == "m3bert_base"
    assert found.value("--save-dir") == "checkpoints/m3bert_base_probed"
