"""SECURITY.md names what a user has to know, and its command exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()


def test_the_readme_links_it() -> None:
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()


def test_it_says_what_a_training_exchanges_and_names_the_licences() -> None:
    text = " ".join(TEXT.split())
    assert "exchange Python pickles over the network" in text and "weights_only=True" in text
    for package, licence in (("soxr", "LGPL"), ("libsndfile", "LGPL"), ("certifi", "MPL"), ("tqdm", "MPL")):
        assert re.search(f"{package}[^.]*{licence}", text), package


def test_its_command_of_fuzzing_names_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.fuzz.__main__ import main

    found = re.search(r"-m tests\.fuzz --seconds \d+ (\w+)", TEXT)
    assert found and main(["--list"]) == 0
    assert found[1] in capsys.readouterr().out.split()


def test_every_module_that_a_licence_is_named_for_is_installed_by_a_pin() -> None:
    pins = (ROOT / "requirements.txt").read_text()
    assert all(f"\n{package}==" in pins for package in ("soxr", "soundfile", "tqdm"))
