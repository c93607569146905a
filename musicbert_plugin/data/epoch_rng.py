"""Random numbers of a sample: they depend on seed, epoch, index and purpose alone.

So a sample does not depend on the number of loader processes, on the order in which samples are read, or on whether a
run was resumed.
"""

from __future__ import annotations

import numpy as np

VALIDATION_EPOCH = 0  # fairseq counts from 1: no training epoch shares its random numbers


def epoch_rng(seed: int, epoch: int, index: int, stream: int) -> np.random.Generator:
    """Generator of one sample of one epoch; ``stream`` numbers the purposes that a dataset draws for."""
    return np.random.default_rng((seed % 2**63, epoch, index, stream))
