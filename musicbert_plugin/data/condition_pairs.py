"""Pairs for fine-tuning: custom conditions and the music that belongs to each, line by line.

Training pairs may be changed anew in every epoch (``pair_augmentation``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.conditions import PairWords
from musicbert_plugin.codecs.remi import EOS
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.pair_augmentation import augment
from musicbert_plugin.data.prefix_lm_dataset import ended
from musicbert_plugin.errors import DatasetError


class ConditionPairs:
    """A split of pairs: ``{split}_input.{bin,idx}`` and ``{split}.{bin,idx}``, item for item.

    Parameters
    ----------
    folder : path
    split : str
    words : sequence of str
        The dictionary, by id.
    augmentations : collection of str
        Names of ``pair_augmentation.AUGMENTATIONS``.
    seed : int

    Raises
    ------
    DatasetError
        If a file is missing, or there are more of one than of the other.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        words: Sequence[str] = (),
        augmentations: Collection[str] = (),
        seed: int = 1,
    ) -> None:
        self.words, self.augmentations, self.seed = PairWords.of(words), tuple(augmentations), seed
        self.conditions, self.music = IndexedDataset(folder / f"{split}_input"), IndexedDataset(folder / split)
        if len(self.conditions) != len(self.music):
            raise DatasetError(
                f"{folder}: {split}_input has {len(self.conditions)} lines and {split} has {len(self.music)}, but line "
                "n of one belongs to line n of the other."
            )
        self.sizes = np.asarray(self.conditions.sizes, np.int64) + np.asarray(self.music.sizes, np.int64)

    def sample(self, index: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        condition, music = self.conditions.read(index), self.music.read(index)
        condition, music = condition[condition != EOS], music[music != EOS]
        if self.augmentations:
            condition, music = augment(condition, music, self.words, self.augmentations, self.seed, epoch, index)
        return condition, ended(music)
