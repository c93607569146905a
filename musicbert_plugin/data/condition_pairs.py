"""Pairs of one's own: a condition and the music that answers it, line by line, as fine-tuning uses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.remi import EOS
from musicbert_plugin.data.parts import Parts
from musicbert_plugin.data.prefix import ended
from musicbert_plugin.errors import DatasetError


class ConditionPairs:
    """A split of pairs: ``{split}_input.{bin,idx}`` and ``{split}.{bin,idx}``, item for item.

    Raises
    ------
    DatasetError
        If a file is missing, or there are more of one than of the other.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.conditions, self.music = Parts(folder / f"{split}_input"), Parts(folder / split)
        if len(self.conditions) != len(self.music):
            raise DatasetError(
                f"{folder}: {split}_input has {len(self.conditions)} lines and {split} has {len(self.music)}, but line "
                "n of one belongs to line n of the other."
            )
        self.sizes = np.asarray(self.conditions.sizes, np.int64) + np.asarray(self.music.sizes, np.int64)

    def sample(self, index: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        condition, music = self.conditions.read(index), ended(self.music.read(index))
        return condition[condition != EOS], music
