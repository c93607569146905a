"""What was made at commit 4856c2c goes on working: checkpoints, dataset folders and unfinished builds.

``data/made_at_4856c2c.tar.xz`` holds MIDI files and recordings, the datasets that were built of them, the same builds
stopped before their end (the journals lack the last two files, one of them half written), a checkpoint of two updates
of each task, and what the models answered (``answers.json``).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ARCHIVE = Path(__file__).parent / "data" / "made_at_4856c2c.tar.xz"
STAMP = 10**18
"""Modification time of the sources, nanoseconds: unfinished builds look at it."""

LABELLED = ("--labels", "labels.csv", "--front-end", "logmel128")
BUILDS: dict[str, tuple[str, ...]] = {
    "octuple": ("octuple", "build", "midi"),
    "remi": ("remi", "build", "midi"),
    "pairs": ("remi", "pairs", "midi"),
    "audio": ("audio", "build", "sounds", *LABELLED),
}
TRAININGS = {"octuple_masked_lm": "octuple", "attribute_to_music": "remi", "audio_multitask": "audio"} | {
    "spectrogram_reconstruction": "audio"
}
OPTIONS = {
    "octuple_masked_lm": "--criterion octuple_masked_lm --arch musicbert_tiny --tokens-per-sample 128 "
    "--encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 2",
    "attribute_to_music": "--criterion cross_entropy --arch linear_transformer_lm_debug --decoder-embed-dim 8 "
    "--decoder-ffn-embed-dim 8 --decoder-attention-heads 2 --decoder-layers 1",
    "spectrogram_reconstruction": "--criterion spectrogram_reconstruction --arch musicoder_tiny --conv-kernel 7 "
    "--encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 --encoder-attention-heads 2 --pictures 0",
    "audio_multitask": "--criterion audio_multitask --arch musicoder_tiny --conv-kernel 7 --encoder-layers 1 "
    "--encoder-embed-dim 16 --encoder-ffn-embed-dim 16 --encoder-attention-heads 2",
}
TRAINING = """--batch-size 2 --max-update 4 --lr 0.003 --optimizer adam --clip-norm 1.0 --seed 7 --lr-scheduler fixed
    --required-batch-size-multiple 1 --no-epoch-checkpoints --disable-validation""".split()


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked archive, as the current folder."""
    folder = tmp_path / "older"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    for path in [*(folder / "midi").iterdir(), *(folder / "sounds").iterdir()]:
        os.utime(path, ns=(STAMP, STAMP))
    monkeypatch.chdir(folder)
    return folder


def build(name: str, dest: Path) -> str:
    module, *words = BUILDS[name]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        command = importlib.import_module(f"preprocess.{module}")
        status = command.main([*words, "--dest", str(dest), "--split-ratios", "6,1,1", "--seed", "3"])
    assert status == 0, said.getvalue()
    return said.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "tasks.yaml"}
    config = json.loads(found["config.json"])
    config.pop("versions")
    return found | {"config.json": json.dumps(config).encode()}


@pytest.mark.parametrize("name", BUILDS)
def test_unfinished_builds_end_with_the_bytes_of_finished_ones(name: str, older: Path) -> None:
    said = build(name, older / "unfinished" / name)
    assert "going on with an unfinished build; 7 of 9 files are done" in said
    assert contents(older / "unfinished" / name) == contents(older / "finished" / name)


@pytest.mark.parametrize("name", BUILDS)
def test_finished_builds_are_known_as_finished(name: str, older: Path) -> None:
    assert "finished already" in build(name, older / "finished" / name)


@pytest.mark.parametrize("task", TRAININGS)
def test_trainings_go_on(task: str, older: Path, fairseq_command: Callable[..., Any]) -> None:
    data, save = older / "finished" / TRAININGS[task], older / "checkpoints" / task
    outcome = fairseq_command(
        "train", data, "--task", task, *OPTIONS[task].split(), *TRAINING, "--save-dir", save, "--log-format", "json"
    )
    assert any("@ 2 updates" in message for message in outcome.messages)
    state = torch.load(save / "checkpoint_last.pt", weights_only=True)
    assert state["optimizer_history"][-1]["num_updates"] == 4


def test_models_answer_as_they_did(registered: None, older: Path) -> None:
    from musicbert_plugin.hub import MuseCocoHub, MusicBERTHub, MusiCoderHub

    answers = json.loads((older / "answers.json").read_text())

    def checkpoint(task: str) -> Path:
        return older / "checkpoints" / task / "checkpoint_last.pt"

    musicbert = MusicBERTHub.from_pretrained(checkpoint("octuple_masked_lm"))
    vector = musicbert.sentence_vector("midi/00.mid", pooling="first")  # the only vector at the time of the answers
    np.testing.assert_allclose(vector, answers["musicbert"], rtol=1e-4, atol=1e-6)
    musicoder = MusiCoderHub.from_pretrained(checkpoint("spectrogram_reconstruction"))
    features = musicoder.extract_features("sounds/00.wav").mean(0)
    np.testing.assert_allclose(features, answers["musicoder"], rtol=1e-3, atol=1e-4)
    labels = MusiCoderHub.from_pretrained(checkpoint("audio_multitask")).predict("sounds/00.wav")
    assert labels["instrument"] == pytest.approx(answers["labels"]["instrument"], rel=1e-3)
    assert labels["tempo"] == pytest.approx(answers["labels"]["tempo"], rel=1e-3)
    musecoco = MuseCocoHub.from_pretrained(checkpoint("attribute_to_music"))
    with torch.inference_mode():
        logits = musecoco.model(torch.arange(4, 44)[None])[0][0, -1, :16]
    np.testing.assert_allclose(logits, answers["musecoco"], rtol=1e-4, atol=1e-5)
