"""Speed of encoding MIDI as REMI words and attributes, in one process with one thread, in CPU time.

    python -m benchmarks.remi SRC [--repeat 3]

SRC is a folder or archive of MIDI files; their bytes are read into memory first.  Measured is the work of
``preprocess.remi build`` on a piece: parsing, quantising, encoding (``bar-tempo``), and extracting all
attributes except C1 of the whole piece as class vectors.  Printed are words per CPU-second, the shares of the parts,
and the ratio to 34,500 words per second, the speed of MuseCoco's encoder for words alone (measured on a 2-core virtual
machine with 46 files).
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from benchmarks.environment import environment
from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import class_vector, extract
from musicbert_plugin.codecs.score import read_midi
from musicbert_plugin.errors import ScoreError
from preprocess.engine.sources import MIDI_SUFFIXES, Collection

ORIGINAL = 34_500.0  # words per second


def files_of(source: str) -> list[bytes]:
    """The bytes of all MIDI files of a folder or archive."""
    collection = Collection([source], MIDI_SUFFIXES)
    found = []
    for _, number, inner, place in collection.tasks(np.ones(len(collection), bool), 2**24):
        try:
            found.append(collection.sources[number].read(inner, place, 2**24))
        except ScoreError:
            continue
    return found


def measure(files: list[bytes]) -> tuple[dict[str, float], int, int]:
    """CPU seconds of each part, and the numbers of words and pieces."""
    seconds = {"read": 0.0, "grid": 0.0, "encode": 0.0, "attributes": 0.0}
    words = pieces = 0
    for data in files:
        times = [time.process_time()]
        try:
            score = read_midi(data)
            times.append(time.process_time())
            grid = remi.grid_of(score)
        except ScoreError:
            continue
        times.append(time.process_time())
        words += len(remi.encode_grid(grid)[0])
        times.append(time.process_time())
        class_vector(extract(grid))
        times.append(time.process_time())
        pieces += 1
        for name, start, end in zip(seconds, times, times[1:], strict=False):
            seconds[name] += end - start
    return seconds, words, pieces


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remi", description=__doc__.split("\n\n")[0])
    parser.add_argument("source", metavar="SRC", help="folder or archive of MIDI files")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median is printed (default: 3)")
    options = parser.parse_args()
    files = files_of(options.source)
    if not files:
        sys.exit(f"{options.source}: holds no MIDI files.")
    found = environment("numpy", "symusic")
    print(f"{found['machine']['cpu']}; {', '.join(f'{name} {version}' for name, version in found['versions'].items())}")
    runs = sorted((measure(files) for _ in range(options.repeat)), key=lambda run: sum(run[0].values()))
    seconds, words, pieces = runs[len(runs) // 2]
    total = sum(seconds.values())
    parts = ", ".join(f"{name} {value / total:.0%}" for name, value in seconds.items())
    print(f"{pieces:,} pieces, {words:,} words in {total:.2f} CPU s ({parts})")
    print(
        f"{words / total / 1e6:.2f} M words per CPU-second; {words / total / ORIGINAL:.0f} x the original's words alone"
    )


if __name__ == "__main__":
    main()
