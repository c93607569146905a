"""Windows into clips of sound: which stretch of which clip an epoch sees.

A window is at most ``max_frames`` long (0: clips as they are).  In training a clip of T frames gives round(T /
max_frames) windows, at least one, whose starts are drawn anew in every epoch, each from its own part of the clip: over
the epochs every frame is seen, and an hour of sound weighs as much as its length.  Elsewhere (in validation, and when a
model is asked about a recording) a clip is cut into windows end to end, the same in every epoch; a last one shorter
than ``min_frames`` is left out unless it is the whole clip (:func:`count_end_to_end`).

What a window is depends on (seed, epoch, window) alone, not on workers or on what was read before.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.epoch_dataset import EpochDataset

WINDOW_STREAM, MASK_STREAM, ORDER_STREAM = range(3)
MIN_FRAMES = 16


class Clips(Protocol):
    """What is read: one split of a folder of spectrograms."""

    frames: NDArray[np.int64]
    """Frames of each clip, [N]."""

    def read(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Frames ``start`` to ``stop`` of a clip, [T, F]."""
        ...


def count_end_to_end(frames: NDArray[np.int64], max_frames: int, min_frames: int) -> NDArray[np.int64]:
    """How many windows, end to end, clips of so many frames give, int64 as ``frames``; window k begins at k max_frames.

    Parameters
    ----------
    frames : int64 [...]
    max_frames : int
        Of a window, above 0.
    min_frames : int
        Of the last window of a longer clip: a shorter one is left out.
    """
    return np.maximum((frames + max_frames - min(min_frames, max_frames)) // max_frames, 1)


class SpectrogramWindows(EpochDataset):
    """Windows of a split.

    Parameters
    ----------
    clips : Clips
    max_frames : int
        Longest window; 0 for whole clips.
    min_frames : int
        Shortest window that is cut from a longer clip where windows lie end to end.
    train : bool
        Whether windows are drawn anew in every epoch.
    seed : int
    """

    def __init__(self, clips: Any, *, max_frames: int, min_frames: int = MIN_FRAMES, train: bool, seed: int) -> None:
        self.clips = clips
        super().__init__(train=train, seed=seed)
        frames = np.asarray(clips.frames, dtype=np.int64)
        longest = max_frames or int(frames.max(initial=1))
        if train:
            counts = np.maximum((frames + longest // 2) // longest, 1)
        else:
            counts = count_end_to_end(frames, longest, min_frames)
        self.clip = np.repeat(np.arange(len(frames)), counts)
        """The clip of each window, int64 [windows]."""
        self.part = np.arange(len(self.clip)) - np.repeat(np.cumsum(counts) - counts, counts)
        """Which window of its clip each one is, int64 [windows]."""
        self.parts = counts[self.clip]
        if train:
            self.sizes = np.minimum(frames[self.clip], longest)
        else:
            self.sizes = np.minimum(frames[self.clip] - self.part * longest, longest)
        self._longest = longest
        self._slack = frames[self.clip] - self.sizes
        self.set_epoch(1)

    def draw_epoch(self) -> None:
        """Draw the starts; where windows lie end to end, they are always the same."""
        if self.train:
            share = self.rng(0, WINDOW_STREAM).random(len(self))
            self.starts = np.floor((self.part + share) / self.parts * (self._slack + 1)).astype(np.int64)
        else:
            self.starts = self.part * self._longest

    def span(self, index: int) -> tuple[int, int, int]:
        """Clip, first frame, and the frame after the last one, of a window."""
        start = int(self.starts[index])
        return int(self.clip[index]), start, start + int(self.sizes[index])

    def __getitem__(self, index: int) -> NDArray[np.float16]:
        """The frames of a window, [T, F], in the half precision in which features are stored."""
        clip, start, stop = self.span(index)
        return np.ascontiguousarray(self.clips.read(clip, start, stop), dtype=np.float16)
