"""Masks for a sample of 1,000 notes: milliseconds, against a restatement of the original.

``python -m benchmarks.masking [--notes 1000] [--rounds 7]``

*ours*      One draw of source and target per strategy, with the random generator of the sample made anew, as in
            training.
*original*  The same distribution, drawn as microsoft/muzic draws it: a table of (256 x 256 + 1,237) x 8 uniform
            numbers, in which every note looks up the row of its bar and instrument, and a random word for every
            token.  It is drawn twice, once for the source and once for the target.

The sample has 30 bars of four instruments.  Both are timed in turn, in CPU time; printed are the best and the median
round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.environment import environment
from musicbert_plugin.codecs.octuple import BAR, FIELD_OFFSETS, FIELD_SIZES, MASK, PAD, PROGRAM, frame
from musicbert_plugin.data.octuple_masking import STRATEGIES, OctupleMasking

VOCABULARY = MASK + 1


def make_sample(notes: int) -> np.ndarray:
    """A framed sample, int64 [8 (notes + 2)]."""
    octuples = np.random.default_rng(0).integers(
        0, np.minimum(FIELD_SIZES, [30, 64, 4, 128, 128, 32, 1, 4]), (notes, 8)
    )
    return frame(octuples[np.lexsort(octuples.T[::-1])]).astype(np.int64)


def ours(tokens: np.ndarray, masking: OctupleMasking, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of sample ``index`` in the first epoch."""
    return masking(tokens, np.random.default_rng((1, 1, index)))


def original_states(tokens: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """0 kept, 1 masked, 2 unchanged, 3 random, for every token: bar-level masking as the original draws it."""

    def draw(count: int) -> np.ndarray:
        uniform = rng.rand(count)
        return np.where(uniform < 0.015, 3, np.where(uniform < 0.03, 2, np.where(uniform < 0.15, 1, 0)))

    octuples = tokens.reshape(-1, 8)
    first, last = draw(1), draw(1)
    rng.choice(1)  # the strategy
    table = draw((256 * 256 + VOCABULARY) * 8).reshape(-1, 8)
    notes = octuples[1:-1]
    rows = (notes[:, BAR] - FIELD_OFFSETS[BAR]) * 256 + notes[:, PROGRAM] - FIELD_OFFSETS[BAR]
    return np.concatenate([np.repeat(first, 8), table[rows].ravel(), np.repeat(last, 8)])


def original_pair(tokens: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Source and target, each from a draw of its own with the same seed."""
    rng = np.random.RandomState(seed)
    states = original_states(tokens, rng)
    words = rng.choice(VOCABULARY, len(tokens))
    source = np.where(states == 1, MASK, np.where(states == 3, words, tokens))
    states = original_states(tokens, np.random.RandomState(seed))
    return source, np.where(states == 0, PAD, tokens)


def milliseconds(work: Callable[[int], Any], repetitions: int) -> float:
    """CPU milliseconds of one call, averaged over as many calls as are asked for."""
    start = time.process_time()
    for index in range(repetitions):
        work(index)
    return (time.process_time() - start) / repetitions * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    tokens = make_sample(options.notes)
    maskings = {strategy: OctupleMasking(strategies=(strategy,)) for strategy in STRATEGIES}
    works: dict[str, tuple[Callable[[int], Any], int]] = {
        name: (partial(ours, tokens, masking), 200) for name, masking in maskings.items()
    }
    works["original"] = (lambda index: original_pair(tokens, index), 5)
    rounds = [{name: milliseconds(*work) for name, work in works.items()} for _ in range(options.rounds)]
    best = {name: min(one[name] for one in rounds) for name in works}
    median = {name: statistics.median(one[name] for one in rounds) for name in works}
    share = {name: float(np.mean(ours(tokens, masking, 0)[1] != PAD)) for name, masking in maskings.items()}
    print(
        json.dumps(
            {
                "benchmark": "masking",
                "notes": options.notes,
                "random_numbers_of_the_original": 2 * (256 * 256 + VOCABULARY) * 8,
                "milliseconds_best": {name: round(value, 4) for name, value in best.items()},
                "milliseconds_median": {name: round(value, 4) for name, value in median.items()},
                "original_to_ours": round(best["original"] / best["bar"], 1),
                "share_masked": {name: round(value, 3) for name, value in share.items()},
                **environment("numpy"),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
