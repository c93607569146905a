"""The recipes on a machine that seems to have two GPUs, whose Python only says what it was asked to run."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@dataclass
class Outcome:
    """How a recipe ended: its exit status, the words that Python got, and what it told."""

    status: int
    words: list[str]
    message: str

    def value(self, option: str) -> str:
        """The value of an option that counts: the last one."""
        return self.words[len(self.words) - self.words[::-1].index(option)]


class Machine:
    """A checkout's scripts, and beside them ``DATA/dict.txt``, ``model.pt`` and ``requests.txt``, where recipes run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(SCRIPTS, folder / "scripts")
        self.python('if [ "$1" = -c ]; then echo 2; else printf "%s\\n" "$@"; fi')
        (folder / "DATA").mkdir()
        (folder / "DATA" / "dict.txt").write_text("b-0 1\n")
        (folder / "model.pt").touch()
        (folder / "requests.txt").write_text("piano\n")

    def python(self, answer: str) -> None:
        """Replace the machine's Python by a shell script."""
        program = self.folder / "python"
        program.write_text(f"#!/bin/sh\n{answer}\n")
        program.chmod(0o755)

    def __call__(self, script: str, *words: str) -> Outcome:
        done = subprocess.run(
            ["bash", str(self.folder / "scripts" / script), *words],
            env={**os.environ, "PYTHON": str(self.folder / "python")},
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        return Outcome(done.returncode, done.stdout.splitlines(), done.stderr)


@pytest.fixture
def recipe(tmp_path: Path) -> Machine:
    """``recipe("pretrain_audio.sh", "DATA", "musicoder_tiny", ...)`` gives an :class:`Outcome`."""
    return Machine(tmp_path)
