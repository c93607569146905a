"""Small made-up pieces, as MIDI files in a folder, and the build command run inside the test process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs.score import DRUMS, Score, write_midi
from musicbert_plugin.errors import MusicError
from preprocess import octuple
from preprocess.engine import cli as command


def piece(seed: int, notes: int = 60, drums: bool = True) -> Score:
    """A random piece: two melodic tracks on a grid of sixteenths, and drums."""
    random = np.random.default_rng(seed)
    onset = np.sort(random.integers(0, notes, notes)) * 120
    track = random.integers(0, 3 if drums else 2, notes)
    return Score.of(
        480,
        onset,
        onset + random.integers(1, 8, notes) * 60,
        random.integers(40, 80, notes),
        random.integers(1, 128, notes),
        np.array([0, 40, DRUMS])[track],
        track,
        tempi=[(0, 100.0 + seed % 50)],
        meters=[(0, 3, 4)] if seed % 2 else [(0, 4, 4)],
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., Path]:
    """``corpus(12)``: a folder with twelve different pieces ``000.mid``, ``001.mid``, ..."""

    def make(count: int, name: str = "corpus", first: int = 0, notes: int = 60) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for number in range(first, first + count):
            write_midi(piece(number, notes), folder / f"{number:03}.mid")
        return folder

    return make


@pytest.fixture
def build(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """``build(source, dest, "--seed", 2)``: the build command; gives its exit status and what it said."""

    def run(*arguments: object) -> tuple[int, str]:
        *sources, dest = _positional(arguments)
        words = ["build", *map(str, sources), "--dest", str(dest), *map(str, arguments[len(sources) + 1 :])]
        try:
            status = octuple.main(words)
        except MusicError as error:
            command.say(str(error))
            status = command.CANNOT_START
        return status, capsys.readouterr().err

    return run


def _positional(arguments: tuple[object, ...]) -> list[object]:
    positional: list[object] = []
    for argument in arguments:
        if str(argument).startswith("--"):
            break
        positional.append(argument)
    return positional


@pytest.fixture
def manifest() -> Callable[[Path], dict[str, dict[str, object]]]:
    """``manifest(dest)``: its lines by file name."""

    def read(dest: Path) -> dict[str, dict[str, object]]:
        lines = [json.loads(line) for line in (dest / "manifest.jsonl").read_text().splitlines()]
        return {line["file"]: line for line in lines}

    return read


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    """``content(dest)``: the bytes of every file of a folder, by path inside it."""

    def read(dest: Path) -> dict[str, bytes]:
        return {str(path.relative_to(dest)): path.read_bytes() for path in sorted(dest.rglob("*")) if path.is_file()}

    return read


@pytest.fixture
def make_piece() -> Callable[..., Score]:
    """``make_piece(seed)``: the piece that :func:`corpus` writes under that number."""
    return piece
