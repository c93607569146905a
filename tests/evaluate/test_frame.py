"""The frame of the evaluation commands: JSON, tables, and how errors end."""

from __future__ import annotations

import json

import numpy as np
import pytest

from musicbert_plugin.evaluate.__main__ import main, table_text, to_json


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
