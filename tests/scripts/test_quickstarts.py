"""The quickstarts refuse what they cannot use before they install, build or train anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", ["quickstart.sh", "quickstart_audio.sh", "quickstart_generation.sh"])
def test_what_is_not_there_is_named(script: str) -> None:
    done = subprocess.run(["bash", str(ROOT / "scripts" / script), "/nowhere"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "/nowhere is no" in done.stderr


@pytest.mark.parametrize("options", [["--num-candidates", "0"], ["--num-candidates=some"], ["--num-candidates"]])
def test_a_number_of_candidates_that_is_none_is_refused(options: list[str]) -> None:
    command = ["bash", str(ROOT / "scripts" / "quickstart_generation.sh"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--num-candidates is a whole number of at least 1" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("requests", "sentence"),
    [
        ("piano bars=8\nbanjoo\n", "line 2: 'banjoo' is not an attribute"),
        ("piano no-piano\n", "line 1: "),
        ("", "is empty; a request per line"),
    ],
)
def test_requests_that_mean_nothing_are_told_before_a_model_is_trained(
    tmp_path: Path, requests: str, sentence: str
) -> None:
    (tmp_path / "scripts").mkdir()
    for name in ("quickstart_generation.sh", "recipe.sh"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    (tmp_path / "scripts" / "setup.sh").touch()  # everything is installed
    (tmp_path / "musicbert_plugin").symlink_to(ROOT / "musicbert_plugin")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "mine.txt").write_text(requests)
    command = ["bash", "scripts/quickstart_generation.sh", "mine.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "quickstart").exists()


CLOCK = """
set -eu
. scripts/recipe.sh
train_by_clock 600 0.1 saved/pretrained '' pre-training DATA --lr 1
train_by_clock 3600 0.2 saved/finetuned saved/pretrained/checkpoint_last.pt fine-tuning DATA
if outdated result.txt saved/pretrained/made; then print_to result.txt echo measured; echo measured anew; fi
finished "done."
"""


@pytest.fixture
def clock(tmp_path: Path):
    """``clock(200, 365)``: trainings that make as many updates in a run; what was printed, and asked of fairseq-train.

    ``made`` in the folder of a training stands for the updates of its checkpoint.
    """
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "recipe.sh", tmp_path / "scripts")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    python = f"""
if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi
cat >/dev/null
made=$(cat "$2/made" 2>/dev/null || echo 0)
printf '%s\\n' "$made $made.5"
"""
    train = """
for word; do if [ "$previous" = --save-dir ]; then save=$word; fi; previous=$word; done
printf '%s\\n' "$*" >>asked.txt
mkdir -p "$save"
made=$(($(cat "$save/made" 2>/dev/null || echo 0) + $(head -n 1 "speed_of_$(basename "$save")")))
echo "$made" >"$save/made"
"""
    for name, text in (("python", python), ("fairseq-train", train)):
        (programs / name).write_text(f"#!/bin/bash\nprevious=''\n{text}")
        (programs / name).chmod(0o755)

    def run(pretraining: int, finetuning: int) -> tuple[str, list[str]]:
        (tmp_path / "speed_of_pretrained").write_text(f"{pretraining}\n")
        (tmp_path / "speed_of_finetuned").write_text(f"{finetuning}\n")
        (tmp_path / "asked.txt").unlink(missing_ok=True)
        done = subprocess.run(["bash", "-c", CLOCK], cwd=tmp_path, capture_output=True, text=True, check=True)
        asked = tmp_path / "asked.txt"
        return done.stdout, asked.read_text().splitlines() if asked.exists() else []

    return run


def test_a_training_that_the_clock_stops_is_said_and_goes_on_in_the_next_run(clock) -> None:
    said, asked = clock(201, 1111)
    assert said.splitlines()[-1].startswith(
        "pre-training stopped after 201 of 600 updates, fine-tuning stopped after 1,111 of 3,600 updates: the machine "
        "is slow; run again to go on"
    )
    assert "measured anew" in said and "done" not in said and len(asked) == 2
    assert "DATA --lr 1 --total-num-update 600 --max-update 600 --stop-time-hours 0.5 " in asked[0]
    assert asked[1].endswith("--finetune-from-model saved/pretrained/checkpoint_last.pt")
    said, asked = clock(399, 2488)
    assert "fine-tuning stopped after 3,599 of 3,600 updates: the machine is slow" in said and "pre-tr" not in said
    assert "--stop-time-hours 201.5 " in asked[0], "beside what the earlier run has taken"
    said, asked = clock(1, 1)
    assert said == "done.\n" and len(asked) == 1
    assert clock(1, 1) == ("done.\n", []), "nothing is trained and nothing is measured any more"
