"""Attribute accuracy of varied requests, with one and with four candidates.

    python -m benchmarks.varied_requests DATA --path CKPT [--requests 100] [--candidates 1 4]

DATA is a folder of ``preprocess.remi build``.  A request has three to six attributes, drawn uniformly, with values
drawn uniformly from those of at least 1 % of the training samples.  Attributes are drawn independently, so many
requests have combinations that no sample has.  They are instrument groups (sounding or silent), rhythm (danceable,
intensity), bars, time signature, key, tempo and octaves.

The selected candidate of each request is measured as in ``evaluate attributes``; the candidates are selected by the
same accuracy.  Prints JSON: accuracy and chance for each number of candidates, and the CPU-seconds of generation.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment
from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import (
    KEYS,
    NA,
    NO,
    SLOT_CLASSES,
    SLOT_KEY,
    SLOT_OF,
    YES,
    class_vector,
    command_words_of,
    extract,
)
from musicbert_plugin.codecs.requests import request_words
from musicbert_plugin.codecs.score import Score
from musicbert_plugin.errors import ScoreError
from musicbert_plugin.evaluate.attributes import measure

REQUESTED = ("sounds", "silent", "R1", "R3", "B1s1", "TS1s1", "K1", "T1s1", "P4")
LEAST_SHARE = 0.01
FEWEST, MOST = 3, 6


def draw_requests(samples: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Class vectors, uint8 [count, 63], of requests for values that occur in ``samples``, uint8 [N, 63]."""
    random = np.random.default_rng(seed)
    instruments = np.flatnonzero(SLOT_KEY == KEYS.index("I1s2"))
    sounding = (samples[:, instruments] == YES).mean(0) >= LEAST_SHARE
    requests = np.tile(NA, (count, 1))
    for request in requests:
        for name in random.choice(REQUESTED, random.integers(FEWEST, MOST + 1), replace=False).tolist():
            if name in ("sounds", "silent"):
                free = instruments[sounding & (request[instruments] == NA[instruments])]
                if len(free):
                    request[random.choice(free)] = YES if name == "sounds" else NO
                continue
            slot = SLOT_OF[name]
            shares = np.bincount(samples[:, slot], minlength=SLOT_CLASSES[slot])[:-1] / len(samples)
            common = np.flatnonzero(shares >= LEAST_SHARE)
            if len(common):
                request[slot] = random.choice(common)
    return requests


def heard(scores: list[Score]) -> tuple[np.ndarray, np.ndarray]:
    """Class vectors of pieces, uint8 [N, 63], and whether each has music, bool [N]."""
    found = np.tile(NA, (len(scores), 1))
    valid = np.zeros(len(scores), bool)
    for number, score in enumerate(scores):
        try:
            found[number] = class_vector(extract(remi.grid_of(score)))
            valid[number] = True
        except ScoreError:
            continue
    return found, valid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="dataset folder of preprocess.remi build")
    parser.add_argument("--path", required=True, help="checkpoint")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--candidates", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--batch-size", type=int, default=64, help="rows per batch")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    from musicbert_plugin.hub import MuseCocoHub

    samples = np.load(options.data / "train.attributes.npy")
    requests = draw_requests(samples, options.requests, options.seed)
    lines = [" ".join(command_words_of(request)) for request in requests]
    hub = MuseCocoHub.from_pretrained(options.path)
    results: dict[str, Any] = {}
    for candidates in options.candidates:
        begin = time.process_time()
        scores = hub.generate(lines, num_candidates=candidates, seed=options.seed, batch_size=options.batch_size)
        seconds = time.process_time() - begin
        values = measure(requests, *heard(scores), seed=options.seed)
        values.pop("accuracies")
        results[str(candidates)] = {"generation_cpu_seconds": round(seconds, 1), **values}
    report = {
        "requests": options.requests,
        "examples": [request_words(request) for request in requests[:5]],
        "candidates": results,
        "threads": 1,
        **environment("torch"),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
