"""Windows of spectrograms: which frames of which item an epoch reads.

A window is at most ``max_frames`` long (0: items as they are).  In training an item of T frames gives round(T /
max_frames) windows, at least one, whose starts are drawn anew in every epoch, each from its own part of the item: over
the epochs every frame is read, and items weigh as much as their length.  Elsewhere (in validation, and when a model is
applied to a recording) an item is cut into windows end to end, the same in every epoch; a last one shorter than
``min_frames`` is left out unless it is the whole item (:func:`count_end_to_end`).

What a window is depends on (seed, epoch, window) alone, see ``epoch_rng``.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.epoch_dataset import EpochDataset

WINDOW_STREAM, MASK_STREAM, ORDER_STREAM = range(3)
MIN_FRAMES = 16


class Split(Protocol):
    """One split of a folder of spectrograms."""

    frames: NDArray[np.int64]
    """Frames of each item, [N]."""

    def read(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Frames ``start`` to ``stop`` of an item, [T, F]."""
        ...


def count_end_to_end(frames: NDArray[np.int64], max_frames: int, min_frames: int) -> NDArray[np.int64]:
    """Number of windows end to end in items of these lengths; window k begins at k max_frames.

    Parameters
    ----------
    frames : int64 [...]
    max_frames : int
        Of a window, above 0.
    min_frames : int
        Of the last window of a longer item: a shorter one is left out.

    Returns
    -------
    int64 [...]
    """
    return np.maximum((frames + max_frames - min(min_frames, max_frames)) // max_frames, 1)


class SpectrogramWindows(EpochDataset):
    """Windows of a split.

    Parameters
    ----------
    split : Split
    max_frames : int
        Longest window; 0 for whole items.
    min_frames : int
        Shortest window that is cut from a longer item where windows lie end to end.
    train : bool
        Whether windows are drawn anew in every epoch.
    seed : int

    Attributes
    ----------
    item : int64 [windows]
        The item of each window.
    sizes : int64 [windows]
        Frames of each window.
    starts : int64 [windows]
        First frame of each window in its item, in the present epoch.
    """

    def __init__(self, split: Split, *, max_frames: int, min_frames: int = MIN_FRAMES, train: bool, seed: int) -> None:
        super().__init__(train=train, seed=seed)
        self.split = split
        frames = np.asarray(split.frames, dtype=np.int64)
        longest = max_frames or int(frames.max(initial=1))
        if train:
            counts = np.maximum((frames + longest // 2) // longest, 1)
        else:
            counts = count_end_to_end(frames, longest, min_frames)
        self.item = np.repeat(np.arange(len(frames)), counts)
        frames = frames[self.item]
        self._number = np.arange(len(self.item)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the item
        self._count = counts[self.item]
        self._longest = longest
        self.sizes = np.minimum(frames if train else frames - self._number * longest, longest)
        self._slack = frames - self.sizes
        self.set_epoch(1)

    def draw_epoch(self) -> None:
        """Draw the starts; where windows lie end to end, they are always the same."""
        if self.train:
            share = self.rng(0, WINDOW_STREAM).random(len(self))
            self.starts = np.floor((self._number + share) / self._count * (self._slack + 1)).astype(np.int64)
        else:
            self.starts = self._number * self._longest

    def span(self, index: int) -> tuple[int, int, int]:
        """Item, first frame, and the frame after the last one, of a window."""
        start = int(self.starts[index])
        return int(self.item[index]), start, start + int(self.sizes[index])

    def __getitem__(self, index: int) -> NDArray[np.float16]:
        """The frames of a window, [T, F], in the half precision in which features are stored."""
        item, start, stop = self.span(index)
        return np.ascontiguousarray(self.split.read(item, start, stop), dtype=np.float16)
