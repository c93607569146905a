"""scripts/setup.sh on machines that lack something: one clear sentence, exit status 2, and nothing made or fetched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = "bash sh cat dirname env find ls mkdir mktemp mv rm tail touch uname".split()


class Machine:
    """A checkout, an empty home and a PATH on which only the named programs are found."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.home, self.path = folder / "a checkout", folder / "home", folder / "bin"
        for place in (self.checkout / "scripts", self.home, self.path):
            place.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "setup.sh", self.checkout / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.checkout)
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


class Installing(Machine):
    """A machine whose .venv holds a Python that notes what pip is asked for instead of fetching anything."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log, self.packages = folder / "pip.log", folder / "packages"
        self.packages.mkdir()
        self.program(self.path / "c++", "exit 0")
        self.program(
            self.checkout / ".venv" / "bin" / "python",
            f"""
            case "$*" in
                *version_info*) echo 3.11 ;;
                "-m pip --version" | "-" | *"import torch, fairseq"*) ;;
                "- https://download.pytorch.org/"*) [ -e '{folder}/reachable' ] ;;
                *" wheel "*) echo "$@" >> '{self.log}'
                    [ ! -e '{folder}/broken' ] || {{ echo "error: no such header"; exit 1; }}
                    for last; do :; done; touch "$last/fairseq_fixed-0.12.3.1-cp311-cp311-any.whl" ;;
                *"-m pip"*) echo "$@" >> '{self.log}'
                    case "$*" in *--index-url*) [ ! -e '{folder}/blocked' ] || exit 1 ;; esac
                    case "$*" in *torch==*) mkdir -p '{self.packages}/torch-2.13.0.dist-info'
                        echo "Version: 2.13.0" > '{self.packages}/torch-2.13.0.dist-info/METADATA' ;; esac ;;
                *) PYTHONPATH='{self.packages}' exec '{sys.executable}' -S "$@" ;;
            esac""",
        )

    def has_torch(self, version: str) -> None:
        for folder in self.packages.glob("torch-*"):
            shutil.rmtree(folder)
        folder = self.packages / f"torch-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Version: {version}\n")

    def installs(self, *extras: str, **variables: str) -> list[str]:
        """What pip was asked for, in order: requirement files, packages, and "build" for fairseq's wheel."""
        self.log.write_text("")
        run = self.setup(*extras, **variables)
        assert run.returncode == 0, run
        self.said = run.stderr
        asked = []
        for line in self.log.read_text().splitlines():
            assert "--no-build-isolation" in line
            if " wheel " in line:
                asked.append("build")
            elif line.endswith("--no-deps -e ."):
                asked.append("plugin")
            elif " -r " in line:
                asked.append(line.split(" -r ")[1].split()[0])
            elif " --index-url " in line:
                asked.append(f"{line.split()[-3]} from {line.split()[-1]}")
            else:
                asked.append(Path(line.split()[-1]).name)
        return asked


@pytest.fixture
def installing(tmp_path: Path) -> Installing:
    return Installing(tmp_path)


WHEEL = "fairseq_fixed-0.12.3.1-cp311-cp311-any.whl"
CORE = ["pip==26.3", "torch==2.13.0", "requirements-build.txt", "build", WHEEL, "requirements.txt", "plugin"]
WITHOUT_TORCH = [step for step in CORE if step != "torch==2.13.0"]
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
GPU_HERE = Path("/proc/driver/nvidia").exists() or any(Path("/dev").glob("nvidia*"))
without_a_gpu = pytest.mark.skipif(GPU_HERE or sys.platform != "linux", reason="for Linux without an NVIDIA GPU")


def test_torch_comes_first_and_fairseq_is_built_against_it(installing: Installing) -> None:
    assert installing.installs("test") == [*CORE, "requirements-test.txt"]


def test_a_second_run_asks_pip_for_nothing(installing: Installing) -> None:
    installing.installs("test")
    assert installing.installs("test") == []
    assert installing.installs() == []
    assert installing.installs("test", "quickstart") == ["requirements-quickstart.txt"]


@pytest.mark.parametrize("version", ["2.10.0", "2.10.1+cu128", "2.13.0+cpu", "3.0"])
def test_a_torch_that_is_new_enough_is_kept(installing: Installing, version: str) -> None:
    installing.has_torch(version)
    assert installing.installs() == WITHOUT_TORCH


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1", "2.6.0", "2.9.1+cpu"])
def test_a_torch_that_a_file_of_weights_can_harm_is_replaced(installing: Installing, version: str) -> None:
    installing.has_torch(version)
    assert installing.installs()[:2] == CORE[:2]


@without_a_gpu
def test_without_a_gpu_the_build_for_the_cpu_is_taken_and_said(installing: Installing, tmp_path: Path) -> None:
    (tmp_path / "reachable").touch()
    assert installing.installs()[1] == f"torch==2.13.0 from {CPU_BUILDS}"
    assert "No NVIDIA GPU was found" in installing.said and "torch 2.10 or newer into .venv" in installing.said
    assert installing.installs() == []


@without_a_gpu
@pytest.mark.parametrize("trouble", [[], ["reachable", "blocked"]])
def test_where_that_index_cannot_be_used_torch_comes_from_the_ordinary_one(
    installing: Installing, tmp_path: Path, trouble: list[str]
) -> None:
    for name in trouble:
        (tmp_path / name).touch()
    assert [step for step in installing.installs() if " from " not in step] == CORE
    assert f"{CPU_BUILDS} cannot be used from here: taking torch from the ordinary index" in installing.said


def test_with_a_gpu_the_ordinary_build_is_taken(installing: Installing, tmp_path: Path) -> None:
    (tmp_path / "reachable").touch()
    installing.program(installing.path / "nvidia-smi", "exit 0")
    assert installing.installs() == CORE
    assert "CPU" not in installing.said


def test_a_pip_that_is_new_enough_is_kept(installing: Installing) -> None:
    (installing.packages / "pip-27.0.dist-info").mkdir()
    (installing.packages / "pip-27.0.dist-info" / "METADATA").write_text("Version: 27.0\n")
    assert installing.installs() == CORE[1:]


def test_the_plugin_and_its_setup_ask_for_the_same_torch() -> None:
    from musicbert_plugin.compat.safe_loading import OLDEST_TORCH

    text = (ROOT / "scripts" / "setup.sh").read_text()
    assert f"OLDEST_TORCH={'.'.join(map(str, OLDEST_TORCH))} " in text
    assert f"a torch of {'.'.join(map(str, OLDEST_TORCH))} or newer" in (ROOT / "README.md").read_text()


def test_fairseq_is_built_once_for_each_torch(installing: Installing) -> None:
    installing.installs()
    installing.has_torch("2.14.0")
    assert "build" in installing.installs()
    installing.has_torch("2.13.0")
    again = installing.installs()
    assert "build" not in again and WHEEL in again, "extensions of another torch must not stay"


def test_a_second_checkout_takes_the_wheel_of_the_first(installing: Installing, tmp_path: Path) -> None:
    installing.installs()
    second = Installing(tmp_path / "second")
    second.home = installing.home
    assert second.installs() == [step for step in CORE if step != "build"]


def test_without_a_home_the_wheel_is_kept_in_the_checkout(installing: Installing) -> None:
    installing.installs(HOME="")
    assert len(list((installing.checkout / ".cache").rglob(WHEEL))) == 1
    assert not list(installing.home.iterdir())


def test_a_changed_requirement_is_installed_without_a_new_build(installing: Installing) -> None:
    installing.installs("test")
    with open(installing.checkout / "requirements.txt", "a") as file:
        file.write("mido==1.3.3\n")
    again = installing.installs("test")
    assert again == [
        "pip==26.3",
        "requirements-build.txt",
        WHEEL,
        "requirements.txt",
        "plugin",
        "requirements-test.txt",
    ]


def test_a_failed_build_shows_its_log_and_leaves_nothing_that_looks_finished(
    installing: Installing, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    run = installing.setup()
    assert run.returncode == 2
    assert "error: no such header" in run.stderr
    log = installing.checkout / ".venv" / "fairseq-build.log"
    assert run.stderr.splitlines()[-1] == f"fairseq could not be built: the whole log is in {log}."
    assert "no such header" in log.read_text()
    assert not list(installing.home.rglob("*.building.*")) and not list(installing.checkout.rglob("*.stamp"))
    (tmp_path / "broken").unlink()
    assert "build" in installing.installs()


def test_every_extra_and_every_requirement_is_pinned() -> None:
    for file in ROOT.glob("requirements*.txt"):
        for line in file.read_text().splitlines():
            requirement = line.split("#")[0].strip()
            if requirement and not requirement.startswith("--hash"):
                assert "==" in requirement, f"{file.name}: {requirement}"
