"""Speed of building a dataset from MIDI: notes per CPU-second with one worker, compared with reading and with MidiTok.

``python -m benchmarks.build FOLDER [--rounds 3] [--miditok-files 200]``

In every round, on the same files:

*parse*    ``symusic.Score.from_midi`` of every file's bytes, a lower bound for a builder with this reader
*build*    ``python -m preprocess.octuple build FOLDER --jobs 1`` with all defaults: user and system time of the whole
           command and its worker
*miditok*  ``miditok.Octuple`` of every n-th file (with programs, time signatures and tempi), including reading, if
           miditok is installed.  It writes no dataset and finds no copies

CPU time is measured, not elapsed time, since machines are shared.  Prints JSON: the best and the median of all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import symusic

from benchmarks.environment import environment
from musicbert_plugin.files import unescaped
from preprocess.engine.sources import Collection


def children_seconds() -> float:
    """CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parse_seconds(files: list[bytes]) -> float:
    """CPU seconds of reading all files with symusic, from memory."""
    start = time.process_time()
    for data in files:
        try:
            symusic.Score.from_midi(data)
        except Exception:  # damaged files are timed, too
            continue
    return time.process_time() - start


def build_seconds(folder: str) -> tuple[float, int]:
    """CPU seconds of a whole build, and the number of notes that it read, including duplicates."""
    with tempfile.TemporaryDirectory() as scratch:
        before = children_seconds()
        words = [sys.executable, "-m", "preprocess.octuple", "build", folder, "--dest", f"{scratch}/data"]
        subprocess.run(words, stderr=subprocess.DEVNULL, check=False)
        seconds = children_seconds() - before
        with open(f"{scratch}/data/manifest.jsonl") as lines:
            return seconds, sum(json.loads(line).get("notes", 0) for line in lines)


def miditok_octuple() -> Callable[[str], int] | str:
    """MidiTok's tokenizer as a function from a path to a number of notes, or why it is not measured."""
    try:
        from miditok import Octuple, TokenizerConfig
    except ImportError:
        return "not measured: the package miditok is not installed"
    tokenizer = Octuple(
        TokenizerConfig(use_programs=True, use_time_signatures=True, use_tempos=True, max_bar_embedding=4096)
    )
    return lambda path: len(tokenizer.encode(path).ids)


def miditok_rate(tokenize: Callable[[str], int], paths: list[str]) -> float:
    """Notes per CPU-second."""
    notes, start = 0, time.process_time()
    for path in paths:
        try:
            notes += tokenize(path)
        except Exception:  # the time counts, without notes
            continue
    return notes / (time.process_time() - start)


def summary(rates: list[float]) -> dict[str, int]:
    """Notes per CPU-second."""
    return {"best": round(max(rates)), "median": round(statistics.median(rates))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="MIDI files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--miditok-files", type=int, default=200)
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    paths = [str(Path(options.folder, unescaped(name))) for name in Collection([options.folder]).names]
    files = [Path(path).read_bytes() for path in paths]
    tokenize = miditok_octuple()
    miditok_paths = paths[:: max(len(paths) // options.miditok_files, 1)]
    rates: dict[str, list[float]] = {"parse": [], "build": [], "miditok": []}
    ratios = []
    notes = 0
    for _ in range(options.rounds):
        seconds, notes = build_seconds(options.folder)
        rates["build"].append(notes / seconds)
        rates["parse"].append(notes / parse_seconds(files))
        ratios.append(rates["build"][-1] / rates["parse"][-1])
        if not isinstance(tokenize, str):
            rates["miditok"].append(miditok_rate(tokenize, miditok_paths))
    result: dict[str, Any] = {
        "files": len(files),
        "notes": notes,
        "notes per CPU-second": {
            "symusic, parsing alone": summary(rates["parse"]),
            "build --jobs 1, everything included": summary(rates["build"]),
            "miditok Octuple": tokenize if isinstance(tokenize, str) else summary(rates["miditok"]),
        },
        "build / parsing alone (median)": round(statistics.median(ratios), 3),
        "load": os.getloadavg()[0],
        **environment("numpy", "symusic"),
    }
    if not isinstance(tokenize, str):
        result["build / miditok (best)"] = round(max(rates["build"]) / max(rates["miditok"]), 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
