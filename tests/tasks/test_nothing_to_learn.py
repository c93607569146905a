"""Options with which nothing could be learnt, and folders without a name, are refused before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from musicbert_plugin.errors import OptionError

pytestmark = pytest.mark.usefixtures("registered")


def octuple_task(data: Path | str, **options: Any) -> Any:
    from musicbert_plugin.tasks.octuple_masked_lm import OctupleMaskedLmTask, OctupleMaskedLmTaskConfig

    return OctupleMaskedLmTask(OctupleMaskedLmTaskConfig(data=str(data), tokens_per_sample=256, seed=1, **options))


def spectrogram_task(data: Path, **options: Any) -> Any:
    from musicbert_plugin.tasks.spectrogram_reconstruction import (
        SpectrogramReconstructionTask,
        SpectrogramReconstructionTaskConfig,
    )

    more: Any = {"save_dir": ".", "tensorboard_logdir": None, "seed": 1, "pictures": 0}
    return SpectrogramReconstructionTask(SpectrogramReconstructionTaskConfig(data=str(data), **more, **options))


def test_masks_of_nothing_are_refused(octuple_folder: Callable[..., Path]) -> None:
    with pytest.raises(OptionError, match="--mask-prob is 0, so that there is nothing to learn"):
        octuple_task(octuple_folder(train=[20]), mask_prob=0.0)


NOTHING: list[dict[str, Any]] = [
    {"frames_prob": 0.0, "channels_prob": 0.0, "patches_prob": 0.0},
    {"frame_share": 0.0, "channel_share": 0.0, "patch_share": 0.0},
    {"patches_prob": 1.0, "patch_share": 0.0},
    {"patches_prob": 1.0, "patch_share": 0.001, "max_frames": 8},
    {"patches_prob": 0.0, "frames_prob": 0.0, "channel_share": 0.1},
    {"patches_prob": 0.0, "frames_prob": 0.0, "first_channel": 7, "last_channel": 8, "channel_share": 0.9},
    {"patches_prob": 0.0, "max_frames": 1},
]
SOMETHING: list[dict[str, Any]] = [
    {},
    {"patches_prob": 1.0},
    {"frames_prob": 0.0, "channels_prob": 0.0},
    {"patches_prob": 0.0, "frames_prob": 0.0, "channel_share": 0.2},
    {"patches_prob": 0.0, "channels_prob": 0.0, "frame_share": 0.001},
    {"patches_prob": 1.0, "max_frames": 1, "patch_share": 0.5},
]


def test_spectrogram_masks_of_nothing_are_refused_and_all_others_mask(spectrogram_folder: Callable[..., Path]) -> None:
    import numpy as np

    data = spectrogram_folder(train=[64], valid=[64])
    for options in NOTHING:
        with pytest.raises(OptionError, match="nothing would be masked"):
            spectrogram_task(data, **options)
    for options in SOMETHING:
        task = spectrogram_task(data, **options)
        rng = np.random.default_rng(1)
        window = np.ones((task.cfg.max_frames or 64, 8), np.float32)
        assert any(task.masking(window, rng).target_mask.any() for _ in range(30)), options


def test_tasks_without_weight_are_refused() -> None:
    from musicbert_plugin.criterions.labels import LabelsCriterion
    from musicbert_plugin.data.labels import LabelTask

    labels = [LabelTask("a", "single", "a", ("x", "y"), "cross_entropy", weight=0.0)]
    task: Any = SimpleNamespace(label_tasks=labels)
    for weighting in ("fixed", "uncertainty"):
        with pytest.raises(OptionError, match="every task of tasks.yaml has the weight 0"):
            LabelsCriterion(task, weighting)
    LabelsCriterion(task, "equal")
    labels.append(LabelTask("b", "single", "b", ("x", "y"), "cross_entropy"))
    LabelsCriterion(task, "fixed")


@pytest.mark.parametrize("value", [1.0, 1, 2.5, -0.1, float("nan")])
def test_a_dropout_of_everything_is_refused(value: float, octuple_folder: Callable[..., Path]) -> None:
    from argparse import Namespace

    task = octuple_task(octuple_folder(train=[20]))
    with pytest.raises(OptionError, match=r"--attention-dropout is .*, but a probability of at least 0 and below 1"):
        task.build_model(Namespace(_name="musicbert", arch="musicbert_tiny", attention_dropout=value))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_share_of_hidden_attributes_is_a_probability(value: float) -> None:
    from musicbert_plugin.tasks.attribute_to_music import AttributeToMusicTask, AttributeToMusicTaskConfig

    with pytest.raises(OptionError, match="--attribute-mask-prob is .*, but 0 to 1 is accepted"):
        AttributeToMusicTask(AttributeToMusicTaskConfig(attribute_mask_prob=value, seed=1))


@pytest.mark.parametrize("joined", ["{}:", ":{}", "{0}::{0}", "{}: "])
def test_a_folder_without_a_name_is_named(joined: str, octuple_folder: Callable[..., Path]) -> None:
    data = joined.format(octuple_folder(train=[20]))
    with pytest.raises(OptionError, match="joins dataset folders by ':', and one of them has no name"):
        octuple_task(data)


def test_a_training_names_the_folder_without_a_name(
    octuple_folder: Callable[..., Path], fairseq_command: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data = octuple_folder(train=[20], valid=[20])
    words = ["--task", "octuple_masked_lm", "--criterion", "octuple_masked_lm", "--arch", "musicbert_tiny"]
    with pytest.raises(SystemExit) as ending:
        fairseq_command("train", f"{data}:", *words, "--batch-size", "1", "--optimizer", "adam", "--lr", "0.1")
    assert ending.value.code == 2
    assert f"'{data}:' joins dataset folders by ':'" in capsys.readouterr().err
