"""Seeds, layers and devices: what every command and every function of the hub accepts, and refuses in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.arguments import LARGEST_SEED, checked_layers, checked_seed
from musicbert_plugin.errors import OptionError


@pytest.mark.parametrize("seed", [0, 1, LARGEST_SEED, np.int64(7), np.uint8(255)])
def test_a_seed_is_a_whole_number_of_32_bits(seed: Any) -> None:
    assert checked_seed(seed) == int(seed)


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 10**30, 1.0, "1", None, [1]])
def test_no_other_value_is_a_seed(seed: Any) -> None:
    with pytest.raises(OptionError, match=r"\A--seed is .*, but a whole number from 0 to 4294967295 is accepted\.\Z"):
        checked_seed(seed, "--seed")


def test_layers_are_a_list_of_whole_numbers() -> None:
    assert checked_layers([0, np.int64(3), -4], -4, 3) == [0, 3, -4]
    assert checked_layers((layer for layer in (2, 1)), 0, 3) == [2, 1]


@pytest.mark.parametrize("layers", [[], (), 1, None, "1", [99], [-5], [1.0], ["1"], [[1]], [None], np.array(2)])
def test_no_other_value_is_layers(layers: Any) -> None:
    with pytest.raises(OptionError, match=r"\Alayers is .*, but a list of whole numbers from -4 to 3 is accepted\.\Z"):
        checked_layers(layers, -4, 3)


DEVICES = ["foo", "cuda:x", "cuda:999", "", "meta", "mps:77", None, 1.5]


@pytest.mark.parametrize("device", DEVICES)
def test_no_other_text_is_a_device(device: Any) -> None:
    from musicbert_plugin.compat.devices import checked_device

    with pytest.raises(OptionError, match=r"\A--device is [^\n]*cpu[^\n]*\Z|\A--device is [^\n]*CUDA GPU[^\n]*\Z"):
        checked_device(device, "--device")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from musicbert_plugin.compat.devices import checked_device

    assert checked_device("cpu") == checked_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="device is cuda, but torch finds no CUDA GPU"):
        checked_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert checked_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(OptionError, match="device is cuda:2, but torch finds 2 CUDA GPUs"):
        checked_device("cuda:2")


def test_every_hub_checks_its_device_before_it_reads_a_file(registered: None, tmp_path: Path) -> None:
    from musicbert_plugin.hub import MuseCocoHub, MusicBERTHub, MusiCoderHub

    for hub in (MuseCocoHub, MusicBERTHub, MusiCoderHub):
        with pytest.raises(OptionError, match="device is 'foo'"):
            hub.from_pretrained(tmp_path / "nothing.pt", device="foo")


EVALUATIONS: dict[str, list[str]] = {
    "octuple_masked_lm": ["DATA", "--path", "x.pt"],
    "audio": ["DATA", "--path", "x.pt"],
    "attributes": ["DATA", "--path", "x.pt"],
    "pairs": ["DATA", "--path", "x.pt"],
    "infill": ["x.mid", "--path", "x.pt", "--dest", "OUT"],
    "correlate": ["DATA", "--path", "x.pt", "--dest", "OUT"],
    "probe": ["DATA", "--path", "x.pt", "--label", "a"],
    "labels": ["DATA", "--path", "x.pt"],
    "explain": ["x.mid", "--path", "x.pt", "--dest", "OUT"],
    "ranking": ["x.csv"],
}


@pytest.mark.parametrize("task", EVALUATIONS)
def test_every_evaluation_checks_its_seed_and_its_device_first(
    task: str, registered: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from musicbert_plugin.evaluate.__main__ import TASKS, main

    assert set(EVALUATIONS) == set(TASKS)
    words = [{"DATA": str(tmp_path), "OUT": str(tmp_path / "out")}.get(word, word) for word in EVALUATIONS[task]]
    if task != "labels":  # which draws nothing
        assert main([task, *words, "--seed", "-1"]) == 2
        assert "--seed is -1" in capsys.readouterr().err
    if task not in ("infill", "correlate", "probe", "ranking"):  # these have no --device
        assert main([task, *words, "--device", "foo"]) == 2
        assert "--device is 'foo'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_builder_checks_its_seed(tmp_path: Path) -> None:
    from preprocess import audio, labels, octuple, remi, render

    for main, words in (
        (octuple.main, ["build"]),
        (remi.main, ["build"]),
        (remi.main, ["pairs"]),
        (audio.main, ["build"]),
        (labels.main, ["sequence"]),
        (render.main, []),
    ):
        with pytest.raises(OptionError, match="--seed is -1"):
            main([*words, str(tmp_path), "--dest", str(tmp_path / "out"), "--seed", "-1"])
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["train", "validate", "generate", "eval-lm"])
def test_every_command_of_fairseq_checks_its_seed(
    command: str,
    octuple_folder: Callable[..., Path],
    fairseq_command: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words: dict[str, list[str]] = {
        "train": ["--task", "octuple_masked_lm", "--arch", "musicbert_tiny", "--criterion", "octuple_masked_lm"],
        "validate": ["--task", "octuple_masked_lm", "--path", "x.pt"],
        "generate": ["--task", "attribute_to_music", "--path", "x.pt"],
        "eval-lm": ["--task", "attribute_to_music", "--path", "x.pt"],
    }
    more = ["--optimizer", "adam", "--lr", "0.1", "--save-dir", str(tmp_path / "saved")] if command == "train" else []
    with pytest.raises(SystemExit) as ending:
        fairseq_command(
            command, octuple_folder(train=[20]), *words[command], *more, "--batch-size", "1", "--seed", "-1"
        )
    assert ending.value.code == 2
    assert "--seed" in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_hub_refuses_seeds_and_layers_that_do_not_exist(registered: None) -> None:
    from argparse import Namespace
    from types import SimpleNamespace

    import torch

    from musicbert_plugin.codecs.score import Score
    from musicbert_plugin.generation.sampling import Search
    from musicbert_plugin.hub import MusicBERTHub, MusiCoderHub
    from musicbert_plugin.models.musicbert import MusicBERTModel
    from musicbert_plugin.models.musicoder import MusiCoderModel
    from musicbert_plugin.tasks.octuple_task import octuple_dictionary

    with pytest.raises(OptionError, match="seed is -1"):
        Search(seed=-1)
    size = {"encoder_layers": 1, "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 8, "encoder_attention_heads": 2}
    task: Any = SimpleNamespace(source_dictionary=octuple_dictionary())
    hub = MusicBERTHub(MusicBERTModel.build_model(Namespace(**size, max_positions=256), task))
    score = Score.of(4, [0, 4, 8], [4, 8, 12], [60, 62, 64])
    for layers in ([], 1, [99], [0.5]):
        with pytest.raises(OptionError, match="layers is .* from -2 to 1 is accepted"):
            hub.extract_features(score, layers)
    with pytest.raises(OptionError, match="seed is -1"):
        hub.infill(score, 0, seed=-1)

    like: Any = SimpleNamespace(feature_mean=torch.zeros(8), feature_std=torch.ones(8))
    sound = MusiCoderHub(MusiCoderModel.build_model(Namespace(**size, max_positions=256), like))
    with pytest.raises(OptionError, match="seed is -1"):
        sound.untrained(-1)
    for layer in (99, -2, 0.5, None, [1]):
        with pytest.raises(OptionError, match="layer is .* from -1 to 1 is accepted"):
            sound.extract_features(np.zeros((32, 8), np.float32), layer=layer)
