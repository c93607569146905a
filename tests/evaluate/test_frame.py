"""The frame of the evaluation commands: JSON, tables, and how errors end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.score import Score, write_midi
from musicbert_plugin.evaluate.__main__ import TASKS, main, table_text, to_json


def test_numbers_that_are_not_finite_become_null() -> None:
    values = {"a": np.float64("nan"), "b": [np.int64(3), float("inf")], "c": {"d": np.float32(0.5)}, "e": "text"}
    assert json.loads(json.dumps(to_json(values))) == {"a": None, "b": [3, None], "c": {"d": 0.5}, "e": "text"}


def test_tables_align_names_left_and_numbers_right() -> None:
    text = table_text("title", ["field", "x"], [["pitch", "1.0"], ["bar", "10.0"]])
    assert text.splitlines() == ["title", "field     x", "-----------", "pitch   1.0", "bar    10.0"]


def test_a_missing_checkpoint_is_one_sentence_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert main(["octuple_masked_lm", "--path", "nowhere.pt", "nothing"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "nowhere.pt" in said.err and len(said.err.strip().splitlines()) == 1


README_ARGUMENTS = {
    "octuple_masked_lm": "--path gone.pt data/mine",
    "infill": "--path gone.pt song.mid --bars 1:2 --dest out",
    "attributes": "--path gone.pt --requests requests.txt",
    "pairs": "--path gone.pt data/pairs",
    "audio": "--path gone.pt features --dest out",
    "labels": "--path gone.pt data/labelled --gen-subset test",
    "explain": "--path gone.pt song.mid --dest out",
    "probe": "--path gone.pt features --label instrument --group piece",
    "correlate": "--path gone.pt features --dest out",
}


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"ranking"}))  # which reads scores, not a checkpoint
def test_no_default_of_a_task_is_refused(
    task: str,
    spectrogram_folder: Callable[..., Path],
    write_items: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With nothing but the arguments of the README, the checkpoint that is missing is the only complaint."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    column = {name: lambda clip: "piano" for name in ("instrument", "piece")}
    spectrogram_folder("features", train=[40], valid=[40], test=[40], labels=column)
    (tmp_path / "requests.txt").write_text("piano bars=8\n")
    write_midi(Score.of(480, [0], [480], [60], 80, [0]), tmp_path / "song.mid")
    pairs = tmp_path / "data" / "pairs"
    pairs.mkdir(parents=True)
    (pairs / "dict.txt").write_text("".join(f"{word} 1\n" for word in remi.dictionary_words()))
    for stem in ("test", "test_input"):
        write_items(pairs / stem, [[4, 5, remi.EOS]])
    assert main([task, *README_ARGUMENTS[task].split()]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"evaluate {task}: ") and "gone.pt" in said[0], said


def test_results_that_cannot_be_written_end_with_a_sentence_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno
    import io
    import sys

    from musicbert_plugin.evaluate import Report, pairs

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(pairs, "evaluate", lambda options: Report({"a": 1}, [("title", ["b"], [["c"]])]))
    words = ["pairs", "data", "--path", "model.pt", "--device", "cpu"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"a": 1} and said.err == "title\nb\n-\nc\n\n"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        assert main(words) == 2
    assert "standard output: cannot be written (No space left on device)." in capsys.readouterr().err
    with monkeypatch.context() as patch, pytest.raises(BrokenPipeError):  # which run_command takes for enough
        patch.setattr(sys, "stdout", Gone())
        main(words)
