"""scripts/setup.sh on machines that lack something: one clear sentence, exit status 2, and nothing made or fetched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = "bash sh cat dirname env find ls mkdir mv rm uname".split()


class Machine:
    """A checkout, an empty home and a PATH on which only the named programs are found."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.home, self.path = folder / "a checkout", folder / "home", folder / "bin"
        for place in (self.checkout / "scripts", self.home, self.path):
            place.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "setup.sh", self.checkout / "scripts")
        for file in ROOT.glob("requirements*.txt"):
            shutil.copy(file, self.checkout)
        for tool in TOOLS:
            found = shutil.which(tool)
            if found:
                (self.path / tool).symlink_to(found)

    def program(self, place: Path, text: str) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"#!/bin/sh\n{text}\n")
        place.chmod(0o755)
        return place

    def python(self, name: str, version: str) -> Path:
        """A Python that says it has that version, and answers all else as the Python of this test does."""
        answer = f'case "$2" in *version_info*) echo {version} ;; *) exec "{sys.executable}" "$@" ;; esac'
        return self.program(self.path / name, answer)

    def setup(self, *extras: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.path / "bash"), "scripts/setup.sh", *extras],
            cwd=self.checkout,
            env={"PATH": str(self.path), "HOME": str(self.home), **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def refuses(self, *extras: str, **variables: str) -> str:
        """The one sentence with which setup ends; it must have left the checkout as it was."""
        before = sorted(self.checkout.rglob("*"))
        run = self.setup(*extras, **variables)
        assert run.returncode == 2, run
        assert run.stdout == ""
        assert len(run.stderr.splitlines()) == 1, run.stderr
        assert sorted(self.checkout.rglob("*")) == before
        return run.stderr.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_python_is_told_which_to_install(machine: Machine) -> None:
    assert machine.refuses() == (
        "No suitable Python was found: install Python 3.10, 3.11, 3.12 or 3.13, or name it with PYTHON=/path/to/python."
    )


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.14"])
def test_a_python_that_is_too_old_or_too_new_is_named_with_its_version(machine: Machine, version: str) -> None:
    python = machine.python("python3", version)
    assert "No suitable Python was found" in machine.refuses()
    assert machine.refuses(PYTHON=str(python)) == (
        f"PYTHON={python} is Python {version}, and 3.10, 3.11, 3.12 or 3.13 is needed."
    )


def test_a_python_that_does_not_exist_is_named(machine: Machine) -> None:
    machine.python("python3", "3.11")
    assert machine.refuses(PYTHON="/nowhere/python3") == (
        "PYTHON=/nowhere/python3 is not a Python that starts; Python 3.10, 3.11, 3.12 or 3.13 is needed."
    )


def test_without_a_compiler_nothing_is_fetched(machine: Machine) -> None:
    machine.python("python3", "3.11")
    sentence = machine.refuses()
    assert sentence.startswith("fairseq is built from source, which needs a C++ compiler")
    assert "apt install g++" in sentence and "xcode-select --install" in sentence


def test_without_the_headers_of_python_nothing_is_fetched(machine: Machine) -> None:
    answer = f'case "$2" in *version_info*) echo 3.11 ;; *Python.h*) exit 1 ;; *) exec "{sys.executable}" "$@" ;; esac'
    machine.program(machine.path / "python3", answer)
    machine.program(machine.path / "c++", "exit 0")
    assert machine.refuses() == (
        "fairseq is built from source, which needs the headers of Python 3.11 "
        "(Debian and Ubuntu: apt install python3.11-dev): install that and run this again."
    )


def test_without_the_venv_module_the_package_to_install_is_named(machine: Machine) -> None:
    answer = f'case "$2" in *version_info*) echo 3.11 ;; *ensurepip*) exit 1 ;; *) exec "{sys.executable}" "$@" ;; esac'
    machine.program(machine.path / "python3", answer)
    (machine.home / ".cache/musicbert_plugin/any").mkdir(parents=True)
    (machine.home / ".cache/musicbert_plugin/any/fairseq_fixed-0.whl").touch()
    assert "apt install python3.11-venv" in machine.refuses()


def test_a_venv_whose_python_is_gone_is_reported_and_kept(machine: Machine) -> None:
    machine.python("python3", "3.11")
    (machine.checkout / ".venv" / "bin").mkdir(parents=True)
    (machine.checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python3.11")
    assert machine.refuses() == (
        f"The Python that {machine.checkout}/.venv was made with is gone: remove that folder and run this again."
    )


def test_a_venv_of_another_python_is_not_overwritten(machine: Machine) -> None:
    machine.python("python3", "3.11")
    other = machine.python("python3.12", "3.12")
    machine.program(machine.checkout / ".venv" / "bin" / "python", "echo 3.11")
    assert machine.refuses(PYTHON=str(other)) == (
        f"PYTHON={other} is Python 3.12 and {machine.checkout}/.venv holds Python 3.11: "
        "remove that folder to change it."
    )


def test_an_extra_that_does_not_exist_is_named(machine: Machine) -> None:
    machine.python("python3", "3.11")
    assert "requirements-dancing.txt" in machine.refuses("dancing")


def test_every_extra_and_every_requirement_is_pinned() -> None:
    for file in ROOT.glob("requirements*.txt"):
        for line in file.read_text().splitlines():
            requirement = line.split("#")[0].strip()
            if requirement and not requirement.startswith("--hash"):
                assert "==" in requirement, f"{file.name}: {requirement}"
