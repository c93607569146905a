"""Frames of samples that come in blocks: the same frames, in the same pieces, however the blocks are cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]
"""Samples [S]."""


class Framer:
    """Collects samples until they fill pieces of a fixed number of frames.

    Frame t is centred on sample t * hop; before the first sample and behind the last there is silence.  S samples have
    1 + S // hop frames.

    Parameters
    ----------
    size : int
        Samples of a frame, even.
    hop : int
        Samples from frame to frame.
    frames : int
        Number of frames of a piece.
    """

    def __init__(self, size: int, hop: int, frames: int) -> None:
        self._size, self._hop, self._frames = size, hop, frames
        self._held: list[Block] = [np.zeros(size // 2, np.float32)]
        self._length = size // 2

    def add(self, samples: Block) -> Iterator[Block]:
        """The pieces that samples complete, [(frames - 1) * hop + size] each."""
        self._held.append(samples)
        self._length += len(samples)
        whole = (self._frames - 1) * self._hop + self._size
        if self._length < whole:
            return
        held = np.concatenate(self._held)
        first = 0
        while first + whole <= len(held):
            yield held[first : first + whole]
            first += self._frames * self._hop
        self._held, self._length = [held[first:].copy()], len(held) - first

    def finish(self) -> Iterator[Block]:
        """The remaining pieces; the last may have fewer frames.  Without any sample there is none."""
        yield from self.add(np.zeros(self._size // 2, np.float32))
        if self._length >= self._size:
            held = np.concatenate(self._held)
            count = 1 + (len(held) - self._size) // self._hop
            yield held[: (count - 1) * self._hop + self._size]

    def all(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The pieces of all blocks of a recording."""
        for block in blocks:
            yield from self.add(block)
        yield from self.finish()
