"""Attribute accuracy of varied requests, with limits and without, with one and with four candidates.

    python -m benchmarks.varied_requests DATA --path CKPT [--requests 100] [--candidates 1 4] [--limits on off]
        [--temperature 0.8 1.0]

DATA is a folder of ``preprocess.remi build``.  A request has three to six attributes, drawn uniformly, with values
drawn uniformly from those of at least 1 % of the training samples.  Attributes are drawn independently, so many
requests have combinations that no sample has.  They are instrument groups (sounding or silent), rhythm (danceable,
intensity), bars, time signature, key, tempo and octaves.

The selected candidate of each request is measured as in ``evaluate attributes``; the candidates are selected by the
same accuracy.  With limits, bars, time signature and tempo of a request are kept by masks; ``asa`` is the accuracy of
the free attributes and ``asa_all`` of all.  The music is described by

* ``tempo_changes``: the number of changes per piece, and the share of pieces with one;
* ``semitone_clashes``: the share of the time with melodic notes in which two whose pitch classes are a semitone apart
  sound;
* ``struck_again``: the share of notes whose key already sounds in the same program; ``doubles`` begin with that note.

The same is computed of the training windows (at most 500).  Prints JSON with an entry per run, and the CPU-seconds of
generation.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from functools import partial
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
from musicbert_plugin.codecs.request_limits import limited_slots
from musicbert_plugin.codecs.requests import request_words
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.data.dataset_folder import check_remi_folder
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.errors import ScoreError
from musicbert_plugin.evaluate.attributes import measure
from musicbert_plugin.generation.sampling import TEMPERATURE

REQUESTED = ("sounds", "silent", "R1", "R3", "B1s1", "TS1s1", "K1", "T1s1", "P4")
LEAST_SHARE = 0.01
FEWEST, MOST = 3, 6
WINDOWS = 500  # largest number of training windows that are described
STEPS = 12  # per quarter note, for semitone clashes


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


def semitone_clashes(score: Score) -> tuple[int, int]:
    """Steps in which melodic notes sound, and those in which two pitch classes a semitone apart do."""
    melodic = score.program != DRUMS
    begin, end = (np.round(tick[melodic] * (STEPS / score.resolution)).astype(int) for tick in (score.onset, score.end))
    if not len(begin):
        return 0, 0
    changes = np.zeros((int(max(end.max(), begin.max())) + 2, 12), int)
    np.add.at(changes, (begin, score.pitch[melodic] % 12), 1)
    np.add.at(changes, (np.maximum(end, begin + 1), score.pitch[melodic] % 12), -1)
    sounding = changes.cumsum(axis=0) > 0
    return int(sounding.any(axis=1).sum()), int((sounding & np.roll(sounding, 1, axis=1)).any(axis=1).sum())


def struck_again(score: Score) -> tuple[int, int]:
    """Notes whose key already sounds in the same program, and those of them that begin with the other note."""
    order = np.lexsort((score.end, score.onset, score.pitch, score.program))
    key = score.program[order].astype(int) * 128 + score.pitch[order]
    onset, end = score.onset[order].astype(np.int64), score.end[order].astype(np.int64)
    # the latest end so far of each key: keys are shifted so far apart that no end reaches the next key
    shift = key * (int(end.max(initial=0)) + 1)
    latest = np.maximum.accumulate(end + shift) - shift
    same = key[1:] == key[:-1]
    struck = same & (onset[1:] < latest[:-1])
    return int(struck.sum()), int((struck & (onset[1:] == onset[:-1])).sum())


def described(scores: list[Score]) -> dict[str, Any]:
    """Tempo changes, semitone clashes and struck keys of pieces; see the module."""
    scores = [score for score in scores if len(score)]
    changes = np.array([len(score.tempo_bpm) - 1 for score in scores])
    clashes = np.array([semitone_clashes(score) for score in scores])
    struck = np.array([struck_again(score) for score in scores])
    notes = sum(len(score) for score in scores)
    return {
        "pieces": len(scores),
        "tempo_changes": {
            "mean": round(float(changes.mean()), 2),
            "most": int(changes.max()),
            "pieces_with_one": round(float((changes > 0).mean()), 3),
        },
        "semitone_clashes": round(float(clashes[:, 1].sum() / max(clashes[:, 0].sum(), 1)), 3),
        "struck_again": round(float(struck[:, 0].sum() / notes), 4),
        "doubles": round(float(struck[:, 1].sum() / notes), 4),
        "pieces_with_struck_keys": int((struck[:, 0] > 0).sum()),
    }


def training_music(folder: Path) -> dict[str, Any]:
    """The description of training windows, evenly spaced."""
    windows = IndexedDataset(folder / "train")
    numbers = np.unique(np.linspace(0, len(windows) - 1, WINDOWS).astype(int))
    layout = check_remi_folder(folder).layout
    return described([remi.decode_with_repairs(windows.read(number), layout=layout)[0] for number in numbers.tolist()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="dataset folder of preprocess.remi build")
    parser.add_argument("--path", required=True, help="checkpoint")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--candidates", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--limits", nargs="+", default=["on", "off"], choices=["on", "off"])
    parser.add_argument("--temperature", type=float, nargs="+", default=[TEMPERATURE])
    parser.add_argument("--batch-size", type=int, default=64, help="rows per batch")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    from musicbert_plugin.hub import MuseCocoHub

    samples = np.load(options.data / "train.attributes.npy")
    requests = draw_requests(samples, options.requests, options.seed)
    lines = [" ".join(command_words_of(request)) for request in requests]
    hub = MuseCocoHub.from_pretrained(options.path)
    runs = []
    for limits, temperature, candidates in itertools.product(options.limits, options.temperature, options.candidates):
        limited = limits == "on"
        begin = time.process_time()
        scores = hub.generate(
            lines,
            num_candidates=candidates,
            seed=options.seed,
            batch_size=options.batch_size,
            temperature=temperature,
            limited=limited,
        )
        seconds = time.process_time() - begin
        slots = partial(limited_slots, layout=hub.layout, limited=limited)
        values = measure(requests, *heard(scores), limited=slots, seed=options.seed)
        values.pop("accuracies")
        settings = {"limits": limits, "temperature": temperature, "candidates": candidates}
        runs.append({**settings, "generation_cpu_seconds": round(seconds, 1), **values, "music": described(scores)})
    report = {
        "requests": options.requests,
        "examples": [request_words(request) for request in requests[:5]],
        "training_music": training_music(options.data),
        "runs": runs,
        "threads": 1,
        **environment("torch"),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
