"""Speed of labelled notes, each row as a ratio within one run.

``python -m benchmarks.labels ARCHIVE [--rows sequence ...] [--rounds 3]``

*sequence*   ``python -m preprocess.labels sequence ARCHIVE`` with one worker, five stratified folds and a label per
             file (the name of its folder), against ``python -m preprocess.octuple build`` of the same files: notes per
             CPU-second of the whole command and its worker.  At least 0.9 is wanted

CPU time is measured, not elapsed time, since machines are shared.  Prints JSON: the best and the median of all rounds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.build import children_seconds, summary
from benchmarks.environment import environment
from preprocess.engine.sources import Collection


def rate_of(words: list[str]) -> float:
    """Notes per CPU-second of a command that builds a dataset, duplicates included.

    Parameters
    ----------
    words : list of str
        A module of ``preprocess`` and its arguments, without ``--dest``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        before = children_seconds()
        command = [sys.executable, "-m", *words, "--dest", f"{scratch}/data"]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
        seconds = children_seconds() - before
        with open(f"{scratch}/data/manifest.jsonl", encoding="utf-8") as lines:
            return sum(json.loads(line).get("notes", 0) for line in lines) / seconds


def sequence(archive: str, rounds: int) -> dict[str, Any]:
    """The row of that name."""
    labelled, plain = [], []
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch, "labels.csv")
        with open(table, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "label"])
            writer.writerows([name, Path(name).parent.name or "music"] for name in Collection([archive]).names)
        options = ["--labels", str(table), "--folds", "5", "--stratify", "label"]
        for _ in range(rounds):
            plain.append(rate_of(["preprocess.octuple", "build", archive]))
            labelled.append(rate_of(["preprocess.labels", "sequence", archive, *options]))
    ratios = [one / other for one, other in zip(labelled, plain, strict=True)]
    return {
        "notes per CPU-second": {"preprocess.labels sequence": summary(labelled), "octuple build": summary(plain)},
        "labels sequence / octuple build (median)": round(statistics.median(ratios), 3),
    }


ROWS: dict[str, Callable[[str, int], dict[str, Any]]] = {"sequence": sequence}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", help="MIDI files")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    rows = {name: ROWS[name](options.archive, options.rounds) for name in options.rows}
    print(json.dumps({**rows, "load": os.getloadavg()[0], **environment("numpy", "symusic")}, indent=2))


if __name__ == "__main__":
    main()
