"""Packages that only some commands need: they are asked for before any work, with the command that installs them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musicbert_plugin.errors import OptionError
from musicbert_plugin.extras import EXTRAS, missing, require

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"sklearn": "scikit-learn"}


def pins(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    return {line.split("#")[0].strip() for line in lines if "==" in line}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``without("matplotlib")``: as if the package were not installed."""
    return lambda package: monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("package", EXTRAS)
def test_the_command_of_the_sentence_installs_the_package(package: str, without: Callable[[str], None]) -> None:
    file = f"requirements-{EXTRAS[package]}.txt" if EXTRAS[package] else "requirements.txt"
    assert any(pin.startswith(f"{NAMES.get(package, package)}==") for pin in pins(file))
    assert EXTRAS[package] in (ROOT / "scripts" / "setup.sh").read_text().splitlines()[1]
    without(package)
    command = f"bash scripts/setup.sh {EXTRAS[package]}".strip()
    with pytest.raises(OptionError, match=f"the x needs {package}, which is not installed: {command} installs it"):
        require(package, "the x")
    assert str(missing(package, "the x")).endswith(f"{command} installs it.")


def test_pictures_have_one_version() -> None:
    assert pins("requirements-pictures.txt") <= pins("requirements-quickstart.txt")


COMMANDS: dict[str, tuple[str, list[str]]] = {
    "infill": ("matplotlib", ["x.mid", "--path", "x.pt", "--dest", "OUT"]),
    "correlate": ("matplotlib", ["DATA", "--path", "x.pt", "--dest", "OUT"]),
    "audio": ("matplotlib", ["DATA", "--path", "x.pt", "--dest", "OUT", "--reconstruct", "1"]),
    "explain": ("matplotlib", ["x.mid", "--path", "x.pt", "--dest", "OUT"]),
    "probe": ("sklearn", ["DATA", "--path", "x.pt", "--label", "a"]),
}


@pytest.mark.parametrize("task", COMMANDS)
def test_an_evaluation_asks_before_it_reads_or_writes_anything(
    task: str, registered: None, without: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from musicbert_plugin.evaluate.__main__ import main

    package, words = COMMANDS[task]
    without(package)
    assert main([task, *({"OUT": str(tmp_path / "out"), "DATA": str(tmp_path)}.get(word, word) for word in words)]) == 2
    assert f"needs {package}, which is not installed: bash scripts/setup.sh" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_builders_ask_first(without: Callable[[str], None], tmp_path: Path) -> None:
    from preprocess import audio, corpus

    without("librosa")
    without("music21")
    (tmp_path / "a.wav").touch()
    words = ["build", str(tmp_path / "a.wav"), "--dest", str(tmp_path / "out"), "--front-end", "m3bert324"]
    with pytest.raises(OptionError, match="bash scripts/setup.sh audio installs it"):
        audio.main(words)
    with pytest.raises(OptionError, match="bash scripts/setup.sh quickstart installs it"):
        corpus.corpus_pieces(["bach:1"])
    assert not (tmp_path / "out").exists()


def test_a_training_asks_for_what_its_options_need(
    without: Callable[[str], None],
    spectrogram_folder: Callable[..., Path],
    fairseq_command: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from musicbert_plugin.tasks.spectrogram_reconstruction import (
        SpectrogramReconstructionTask,
        SpectrogramReconstructionTaskConfig,
    )

    data = spectrogram_folder(train=[40], valid=[40])
    words = ["--task", "spectrogram_reconstruction", "--criterion", "spectrogram_reconstruction", "--arch"]
    words += ["musicoder_tiny", "--optimizer", "adam", "--lr", "0.1", "--save-dir", str(tmp_path / "saved")]
    for package, more in (("tensorboardX", ["--tensorboard-logdir", "x"]), ("matplotlib", ["--picture-dir", "x"])):
        without(package)
        with pytest.raises(SystemExit) as ending:
            fairseq_command("train", data, *words, "--batch-size", "1", *more)
        assert ending.value.code == 2
        assert f"{more[0]} needs {package}" in capsys.readouterr().err
    options: Any = {"data": str(data), "save_dir": str(tmp_path), "tensorboard_logdir": None, "seed": 1}
    task = SpectrogramReconstructionTask(SpectrogramReconstructionTaskConfig(**options))
    assert not task._draws and "no pictures: each needs matplotlib" in caplog.text
