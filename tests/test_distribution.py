"""The plugin is an installed package: its commands work from any folder."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import musicbert_plugin
from musicbert_plugin.codecs.score import Score, write_midi

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def installed() -> None:
    """scripts/setup.sh installs the package in place; another Python may lack it."""
    try:
        importlib.metadata.version("musicbert-plugin")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("musicbert-plugin is not installed in this Python")


def run(folder: Path, *words: str) -> str:
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_distribution_has_the_version_of_the_package() -> None:
    assert importlib.metadata.version("musicbert-plugin") == musicbert_plugin.__version__ == "0.2.0"


def test_commands_work_from_another_folder(tmp_path: Path) -> None:
    folder = run(tmp_path, "-m", "musicbert_plugin").strip()
    assert (Path(folder) / "tasks" / "octuple_masked_lm.py").is_file()
    write_midi(Score.of(480, [0], [480], [60]), tmp_path / "a.mid")
    assert run(tmp_path, "-m", "preprocess.octuple", "encode", "a.mid").startswith("<0-0> <1-0> <2-0> <3-60>")


def test_every_package_and_configuration_is_part_of_the_distribution() -> None:
    """Folders that pyproject.toml's patterns would leave out have no __init__.py, or hold no code."""
    for path in (ROOT / "musicbert_plugin").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), path
    assert list((ROOT / "musicbert_plugin" / "config").glob("**/*.yaml"))
