"""The quickstarts refuse what they cannot use before they install, build or train anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", ["quickstart.sh", "quickstart_audio.sh", "quickstart_generation.sh"])
def test_what_is_not_there_is_named(script: str) -> None:
    done = subprocess.run(["bash", str(ROOT / "scripts" / script), "/nowhere"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "/nowhere is no" in done.stderr


@pytest.mark.parametrize("options", [["--num-candidates", "0"], ["--num-candidates=some"], ["--num-candidates"]])
def test_a_number_of_candidates_that_is_none_is_refused(options: list[str]) -> None:
    command = ["bash", str(ROOT / "scripts" / "quickstart_generation.sh"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--num-candidates is a whole number of at least 1" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("requests", "sentence"),
    [
        ("piano bars=8\nbanjoo\n", "line 2: 'banjoo' is not an attribute"),
        ("piano no-piano\n", "line 1: "),
        ("", "is empty; a request per line"),
    ],
)
def test_requests_that_mean_nothing_are_told_before_a_model_is_trained(
    tmp_path: Path, requests: str, sentence: str
) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "quickstart_generation.sh", tmp_path / "scripts")
    (tmp_path / "scripts" / "setup.sh").touch()  # everything is installed
    (tmp_path / "musicbert_plugin").symlink_to(ROOT / "musicbert_plugin")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "mine.txt").write_text(requests)
    command = ["bash", "scripts/quickstart_generation.sh", "mine.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "quickstart").exists()
