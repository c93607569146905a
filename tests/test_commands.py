"""A closed stream, a reader that ends early and a full disk: a sentence and a status, and no traceback."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musicbert_plugin.commands import run_command, say, sentence_of, write_line
from musicbert_plugin.data.indexed_dataset import IndexedDatasetWriter
from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import atomic_path
from preprocess import corpus as scores
from preprocess import render

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import contextlib, os
from musicbert_plugin.commands import run_command, say, write_line
def main(arguments):
    say("begun")
    if "data" in arguments:
        for number in range(20000):
            write_line(str(number))
    with open(arguments[0], "w") as file:  # must not get the number of a stream
        with contextlib.suppress(OSError):
            os.write(2, b"as a library does\\n")
        file.write("whole")
    return 1
run_command(main)
"""


def shell(redirection: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program above by a shell, which prints its exit status at the end of stdout."""
    words = f'"$0" -c "$1" "$2" $3 {redirection}'
    given = [sys.executable, PROGRAM, *map(str, arguments), ""][:4]
    return subprocess.run(["bash", "-c", words, *given], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.skipif(os.name == "nt", reason="shells of POSIX")
def test_closed_streams_cost_only_what_was_to_be_written_there(tmp_path: Path) -> None:
    for redirection, said in (
        (">&-", "begun\nas a library does\n"),
        ("2>&-", ""),
        (">&- 2>&- <&-", ""),
        ("2>/dev/full", ""),
    ):
        done = shell(redirection, tmp_path / "file")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", said), redirection
        assert (tmp_path / "file").read_text() == "whole"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_data_that_cannot_be_written_end_a_command(tmp_path: Path) -> None:
    for redirection, reason in ((">&-", "it is closed"), (">/dev/full", "No space left on device")):
        done = shell(redirection, tmp_path / "file", "data")
        assert done.returncode == 2 and not (tmp_path / "file").exists()
        assert done.stderr == f"begun\nstandard output: cannot be written ({reason}).\n"
    done = shell("| head -n 1; exit ${PIPESTATUS[0]}", tmp_path / "file", "data")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "begun\n")


def ending(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as caught:
        run_command(main, [], prefix="name: ")
    return caught.value.code, capsys.readouterr().err


def test_an_error_of_the_system_is_a_sentence_and_a_defect_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(arguments: list[str]) -> int:
        with atomic_path(tmp_path / "a.bin"):
            raise OSError(errno.ENOSPC, "No space left on device")

    def absent(arguments: list[str]) -> int:
        (tmp_path / "b" / "c").write_text("")
        return 0

    def wrong(arguments: list[str]) -> int:
        raise OptionError("--a 1: 2 is accepted.")

    assert ending(full, capsys) == (2, f"name: {tmp_path}/a.bin: cannot be used (No space left on device).\n")
    assert ending(absent, capsys) == (2, f"name: {tmp_path}/b/c: no such file or folder.\n")
    assert ending(wrong, capsys) == (2, "name: --a 1: 2 is accepted.\n")
    assert not list(tmp_path.iterdir())
    assert sentence_of(KeyError("a")) is None and sentence_of(OSError("a sentence of our own")) is None
    with pytest.raises(KeyError):
        run_command(lambda arguments: {}["a"], [])  # type: ignore[return-value]


class Full(io.StringIO):
    """A stream whose disk is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_messages_that_nobody_receives_are_lost_and_data_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicbert_plugin.commands.silence", lambda number: None)
    monkeypatch.setattr(sys, "stderr", Full())
    monkeypatch.setattr(sys, "stdout", Full())
    say("a message")
    with pytest.raises(OSError, match="standard output"):
        write_line("data")


# ---------------------------------------------------------------------------------------------------------- full disks


def full_disk(*arguments: object, **named: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_build_whose_workers_cannot_write_ends_with_a_sentence_and_goes_on_later(tmp_path: Path) -> None:
    import resource

    from musicbert_plugin.codecs.score import Score, write_midi

    (tmp_path / "music").mkdir()
    for number in range(4):
        onset = [480 * note for note in range(400 + number)]
        write_midi(
            Score.of(480, onset, [tick + 240 for tick in onset], [50 + tick % (30 + number) for tick in onset]),
            tmp_path / "music" / f"{number}.mid",
        )
    words = [sys.executable, "-m", "preprocess.octuple", "build", "music", "--dest", "data", "--split-ratios", "1,0,0"]
    given: dict[str, Any] = {"capture_output": True, "text": True, "cwd": tmp_path, "env": environment()}
    done = subprocess.run(words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)), **given)
    assert (done.returncode, done.stderr) == (2, "data/.build/run-1: cannot be written (File too large).\n")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".build"]
    done = subprocess.run(words, **given)
    assert done.returncode == 0 and not (tmp_path / "data" / ".build").exists(), done.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def test_a_render_and_a_corpus_end_at_a_full_disk_instead_of_failing_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musicbert_plugin.codecs.score import Score, midi_bytes
    from preprocess.engine.sources import Files
    from preprocess.synthesis import DRUMS

    assert DRUMS == 128
    (tmp_path / "a.mid").write_bytes(midi_bytes(Score.of(480, [0, 480], [480, 960], [60, 62])))
    plan = render.Plan(
        *(str(tmp_path / "out"), (Files("", (str(tmp_path / "a.mid"),)),), render.Synthesiser()),
        *((-1,), (render.Tempo.of("own"),), 1, 0.2, 8000, -20.0, 1),
    )
    arguments = (plan, 0, str(tmp_path / "a.mid"), b"", "a.mid", "a")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="a_0.wav"):
            render.render_piece(*arguments)
        pytest.importorskip("music21")
        _, source = scores.corpus_pieces(["bach:1"])[0]
        with pytest.raises(OSError, match="b.mid"):
            scores.write_piece((source, tmp_path / "b.mid"))
    assert render.render_piece(*arguments)["clips"][0][0] == "a_0.wav"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.mid", "a_0.wav"]


def test_a_dataset_that_cannot_be_completed_gets_no_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from musicbert_plugin.codecs.remi import dictionary_text
    from preprocess import remi

    own = tmp_path / "own"
    own.mkdir()
    (own / "dict.txt").write_text(dictionary_text())
    for split in ("train", "valid"):
        (own / f"{split}_input.txt").write_text("PITCH o-0\n")
        (own / f"{split}.txt").write_text("b-1\n")
    words = ["pairs", str(own), "--dest", str(tmp_path / "data")]
    with monkeypatch.context() as patch:
        patch.setattr(IndexedDatasetWriter, "close", full_disk)
        assert ending(lambda _: remi.main(words), capsys) == (
            2,
            f"name: {tmp_path}/data: cannot be written (No space left on device).\n",
        )
        assert [path.name for path in (tmp_path / "data").iterdir()] == [".build"]
    assert remi.main(words) == 0
    assert json.loads((tmp_path / "data" / "config.json").read_text())["kind"] == "remi_pairs"
