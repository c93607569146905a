"""Damaged inputs: every reader of the plugin answers them with one of its own errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.running import DEFAULT_CASES, kept_inputs, load_target, mutated, run, targets


@pytest.mark.parametrize("name", targets())
def test_a_damaged_input_is_answered_by_an_error_of_the_plugin(name: str, registered: None, tmp_path: Path) -> None:
    failures = run(name, tmp_path, seed=1, cases=getattr(load_target(name), "CASES", DEFAULT_CASES))
    assert not failures, "\n".join(map(str, failures[:3]))


def test_the_command_lists_its_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == targets()


def test_a_failing_input_is_written_with_its_traceback(
    registered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(data: bytes, folder: Path) -> None:
        raise KeyError("no error of the plugin")

    monkeypatch.setattr(load_target("requests"), "check", check)
    monkeypatch.setattr("tests.fuzz.__main__.limit_memory", lambda megabytes: None)
    assert main(["requests", "--found", str(tmp_path), "--most", "1"]) == 1
    found = [path for path in tmp_path.iterdir() if path.suffix == ""]
    assert len(found) == 1 and str(found[0]) in capsys.readouterr().err
    assert "KeyError" in found[0].with_name(found[0].name + ".txt").read_text()
    assert main(["requests", "--input", str(found[0])]) == 1


@pytest.mark.parametrize("name", targets())
def test_an_input_that_once_failed_can_be_damaged_further(name: str, registered: None) -> None:
    inputs = [*load_target(name).seeds(), *kept_inputs(name).values()]
    assert all(isinstance(mutated(name, 1, number, inputs), bytes) for number in range(40))
