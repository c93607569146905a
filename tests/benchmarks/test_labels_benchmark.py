"""The speed of labelled notes is a ratio to that of plain datasets, round by round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import labels
from musicbert_plugin.codecs.score import Score, write_midi


def test_a_row_compares_both_commands_on_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_midi(Score.of(480, [0], [480], [60]), tmp_path / "a.mid")
    commands: list[list[str]] = []

    def rate(words: list[str]) -> float:
        commands.append(words)
        return 90.0 if words[0] == "preprocess.labels" else 100.0

    monkeypatch.setattr(labels, "rate_of", rate)
    labels.main([str(tmp_path), "--rows", "sequence", "--rounds", "2"])
    found = json.loads(capsys.readouterr().out)["sequence"]
    assert found["labels sequence / octuple build (median)"] == 0.9
    assert [words[:3] for words in commands[:2]] == [
        ["preprocess.octuple", "build", str(tmp_path)],
        ["preprocess.labels", "sequence", str(tmp_path)],
    ]
