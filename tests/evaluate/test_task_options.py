"""``fairseq-validate`` and ``evaluate`` of one checkpoint give one number: both take the options of its training."""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import remi
from musicbert_plugin.errors import CheckpointError, OptionError
from musicbert_plugin.evaluate import attributes, audio, octuple_masked_lm, pairs
from musicbert_plugin.evaluate.__main__ import main

Command = Callable[..., Any]
COMMON = "--optimizer adam --lr 0.01 --log-format json --no-epoch-checkpoints --disable-validation".split()
SMALL = "--encoder-embed-dim 16 --encoder-ffn-embed-dim 32".split()


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """fairseq rounds what it prints to three places."""
    from fairseq.logging import metrics

    log_scalar = metrics.log_scalar
    monkeypatch.setattr(metrics, "log_scalar", lambda *args, **options: log_scalar(*args, **options | {"round": 7}))


@pytest.fixture
def trained(fairseq_command: Command, exact: None, tmp_path: Path) -> Command:
    """``trained(data, words)``: the checkpoint of two updates."""

    def train(data: Path, *words: object, name: str = "saved") -> Path:
        fairseq_command("train", data, *COMMON, "--max-update", 2, "--save-dir", tmp_path / name, *words)
        return tmp_path / name / "checkpoint_last.pt"

    return train


def measured(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[dict[str, Any], str]:
    capsys.readouterr()  # what fairseq has printed
    assert main([*map(str, arguments)]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def validated(command: Command, data: Path, checkpoint: Path, *words: object) -> dict[str, Any]:
    run = command("validate", data, "--path", checkpoint, "--log-format", "json", *words)
    (line,) = [line for line in run.statistics if "valid_loss" in line]
    return line


def test_masked_octuples(
    octuple_folder: Command, fairseq_command: Command, trained: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    data = octuple_folder(train=[50, 20, 90], valid=[80, 30, 200])
    task = ["--task", "octuple_masked_lm", "--criterion", "octuple_masked_lm", "--batch-size", 2]
    options = ["--mask-strategy", "compound+element", "--mask-prob", 0.3, "--seed", 3, "--pack", "False"]
    options += ["--tokens-per-sample", 512, "--random-token-prob", 0.2, "--leave-unmasked-prob", 0.3]
    model = ["--arch", "musicbert_tiny", "--encoder-layers", 1, *SMALL, "--max-positions", 1024]
    path = trained(data, *task, *model, *options)
    command = ["octuple_masked_lm", "--path", path, data, "--device", "cpu"]
    for given in ([], ["--mask-strategy", "bar", "--mask-unit", "bar", "--seed", 5]):
        expected = validated(fairseq_command, data, path, *task, *given)
        values, said = measured(capsys, *command, *given)
        assert values["trained"]["loss"] == pytest.approx(float(expected["valid_loss"]), abs=1e-5)
    assert values["task_options"] == {
        "tokens_per_sample": 512, "mask_strategy": "bar", "mask_unit": "bar", "mask_prob": 0.3,
        "random_token_prob": 0.2, "leave_unmasked_prob": 0.3, "pack": "False", "windows": "auto", "seed": 5,
    }  # fmt: skip
    assert "mask-strategy" in said and "given" in said and "checkpoint" in said


def test_restored_spectrograms(
    spectrogram_folder: Command, fairseq_command: Command, trained: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    data = spectrogram_folder(train=[60, 40], valid=[50, 90, 47])
    task = ["--task", "spectrogram_reconstruction", "--criterion", "spectrogram_reconstruction", "--pictures", 0]
    task += ["--max-tokens", 400]
    model = ["--arch", "musicoder_tiny", "--conv-kernel", 7, "--encoder-layers", 1, *SMALL]
    options = ["--masking", "m3bert", "--max-span", 3, "--fill", "0.5,0.2,0.3", "--max-frames", 40, "--min-frames", 9]
    path = trained(data, *task, *model, *options, "--seed", 4)
    for given in ([], ["--masking", "frames", "--max-frames", 0, "--seed", 6]):
        expected = validated(fairseq_command, data, path, *task, *given)
        values, _ = measured(capsys, "audio", "--path", path, data, "--device", "cpu", *given)
        assert values["all"]["mse"] == pytest.approx(float(expected["valid_mse"]), rel=1e-5)
        assert values["all"]["mean"] == pytest.approx(float(expected["valid_mean"]), rel=1e-5)
    assert values["task_options"]["max_span"] == 3 and values["task_options"]["max_frames"] == 0


def test_labels_of_recordings(
    spectrogram_folder: Command, fairseq_command: Command, trained: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    label = {"level": lambda clip: "loud" if clip.mean() > -4 else "quiet", "mean": lambda clip: f"{clip.mean():.3f}"}
    data = spectrogram_folder(train=[60, 40, 90, 33] * 2, valid=[50, 90, 47, 61], labels=label)
    (data / "tasks.yaml").write_text("tasks:\n  level: {type: single}\n  mean: {type: regression}\n")
    task = ["--task", "audio_multitask", "--criterion", "audio_multitask", "--max-tokens", 400]
    model = ["--arch", "musicoder_tiny", "--conv-kernel", 7, "--encoder-layers", 1, *SMALL]
    path = trained(data, *task, *model, "--max-frames", 40, "--min-frames", 20)
    for given in ([], ["--min-frames", 3], ["--max-frames", 0]):
        expected = validated(fairseq_command, data, path, *task, *given)
        values, _ = measured(capsys, "audio", "--path", path, data, "--device", "cpu", *given)
        for name, metric in (("level", "accuracy"), ("level", "f1"), ("mean", "r2"), ("mean", "ccc")):
            assert values[name]["model"][metric] == pytest.approx(float(expected[f"valid_{name}_{metric}"]), abs=1e-4)
    assert values["task_options"] == {"max_frames": 0, "min_frames": 20}


def test_pairs(
    fairseq_command: Command,
    trained: Command,
    write_items: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    words = remi.dictionary_words()
    (data / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    ids = remi.from_words("o-0 i-0 p-72 d-12 p-60 d-12 o-24 i-0 p-74 d-12 b-1")
    for split in ("train", "valid"):
        write_items(data / split, [[*ids, remi.EOS], [*ids, *ids, remi.EOS]])
        write_items(data / f"{split}_input", [[*ids[:4], remi.EOS], [*ids[:7], remi.EOS]])
    task = ["--task", "attribute_to_music", "--criterion", "cross_entropy", "--batch-size", 2]
    path = trained(data, *task, "--arch", "linear_transformer_lm_debug", "--loss-on", "all", "--position-mode", "all")
    (path.parent / "dict.txt").write_text((data / "dict.txt").read_text())
    command = ["pairs", "--path", path, data, "--gen-subset", "valid", "--max-length", 9, "--draws", 9]
    for given in ([], ["--loss-on", "target"], ["--position-mode", "zero-prefix"]):
        expected = float(validated(fairseq_command, data, path, *task, *given)["valid_loss"])
        values, said = measured(capsys, *command, "--device", "cpu", *given)
        assert values["loss"] == pytest.approx(expected, abs=1e-5)
        assert values["perplexity"] == pytest.approx(2**expected, rel=1e-5)
    assert values["task_options"] == {"loss_on": "all", "position_mode": "zero-prefix"}
    assert "over the condition and the music" in said


def test_the_attributes_of_a_split_are_those_that_a_validation_shows(
    random_model: Callable[..., Path],
    write_items: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    from musicbert_plugin.codecs.attributes import SLOT_CLASSES, SLOTS, classes_of_ids
    from musicbert_plugin.data.epoch_rng import VALIDATION_EPOCH
    from musicbert_plugin.data.prefix_lm_dataset import AttributedMusic

    data = tmp_path / "data"
    data.mkdir()
    (data / "dict.txt").write_text(remi.dictionary_text())
    write_items(data / "test", [[*remi.from_words("s-9 t-35 b-1"), remi.EOS]] * 3)
    np.save(data / "test.attributes.npy", np.random.default_rng(1).integers(0, SLOT_CLASSES, (3, SLOTS), np.uint8))
    path = random_model(remi.dictionary_words())
    state = torch.load(path, weights_only=True)
    state["cfg"]["task"] |= {"attribute_mask": "probability", "attribute_mask_prob": 0.7, "seed": 9}
    torch.save(state, path)
    shown = {}
    of_split = attributes._of_split
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attributes, "_of_split", lambda *given: shown.setdefault("found", of_split(*given)))
        values, _ = measured(capsys, "attributes", "--path", path, data, "--max-length", 9, "--draws", 9)
    assert values["task_options"] == {"attribute_mask": "probability", "attribute_mask_prob": 0.7, "seed": 9}
    samples = AttributedMusic(data / "test", dropout="probability", dropout_prob=0.7, seed=9)
    for number, request in shown["found"][0].items():
        np.testing.assert_array_equal(request, classes_of_ids(samples.sample(number, VALIDATION_EPOCH)[0]))


def test_a_value_that_the_task_does_not_have_is_told_in_a_sentence(registered: None) -> None:
    from musicbert_plugin.evaluate.task_options import settle
    from musicbert_plugin.tasks.octuple_masked_lm import OctupleMaskedLmTaskConfig as Config

    def options(held: dict[str, Any] = {}, **given: Any) -> dict[str, Any]:  # noqa: B006
        return settle(Config, held, Namespace(**given), octuple_masked_lm.TASK_OPTIONS, "a.pt", data="data").values

    assert options()["seed"] == 1 and options()["mask_strategy"] == "bar"
    assert options({"mask_prob": 0.5}, mask_unit="bar")["mask_prob"] == 0.5
    with pytest.raises(CheckpointError, match=r"a\.pt has the option mask_unit = 'note'"):
        options({"mask_unit": "note"})
    with pytest.raises(CheckpointError, match="mask_prob = 'often'"):
        options({"mask_prob": "often"})
    with pytest.raises(OptionError, match="--mask-unit note"):
        options(mask_unit="note")


def test_every_option_of_a_task_that_decides_what_is_measured_can_be_given(registered: None) -> None:
    from musicbert_plugin.tasks.attribute_to_music import AttributeToMusicTaskConfig
    from musicbert_plugin.tasks.audio_multitask import AudioMultitaskConfig
    from musicbert_plugin.tasks.octuple_masked_lm import OctupleMaskedLmTaskConfig
    from musicbert_plugin.tasks.spectrogram_reconstruction import SpectrogramReconstructionTaskConfig

    def fields(configuration: type) -> set[str]:
        return {field.name for field in dataclasses.fields(configuration)} - {"_name", "data"}

    pictures = {"pictures", "picture_dir", "save_dir", "tensorboard_logdir"}
    assert fields(OctupleMaskedLmTaskConfig) == set(octuple_masked_lm.TASK_OPTIONS)
    assert fields(SpectrogramReconstructionTaskConfig) - pictures == {*audio.TASK_OPTIONS, *audio.MASK_OPTIONS}
    assert fields(AudioMultitaskConfig) - {"tasks_file"} == set(audio.TASK_OPTIONS)
    assert {*attributes.TASK_OPTIONS, *pairs.TASK_OPTIONS} < fields(AttributeToMusicTaskConfig)
