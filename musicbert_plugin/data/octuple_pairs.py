"""Pairs of phrases as one sequence each, for tasks that ask whether two phrases belong together.

As in the data of MusicBERT (Zeng et al. 2021, section 4.2), the notes of both phrases are one sequence in the order of
the codec, without a separator.  The bars of the second phrase are counted from a bar that the folder names: the one
after the first phrase (melody completion), or 0 (accompaniment suggestion).  In training, a bar offset, uniform over
those that keep all bars within 0..255, is added in every epoch, as in pre-training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.octuple import BAR, BARS, BOS, EOS
from musicbert_plugin.data.epoch_dataset import EpochDataset
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import PhrasePairs
from musicbert_plugin.data.octuple_windows import FRAME, LOWEST, SIZES, WIDTH, WINDOW_STREAM, notes_per_window
from musicbert_plugin.errors import DatasetError


class OctuplePairs(EpochDataset):
    """The pairs of one split, read like the windows of :class:`~.octuple_windows.OctupleWindows`.

    Parameters
    ----------
    items : IndexedDataset
        Phrases, framed.
    pairs : PhrasePairs
    second_bar : int
        Bar at which second phrases begin.
    tokens_per_sample : int
        Largest length of a row, in sub-tokens.
    train : bool
        Whether bars are moved anew in every epoch.
    seed : int

    Attributes
    ----------
    lengths : int32 [P]
        Octuples of each pair, including the two frame octuples.

    Raises
    ------
    DatasetError
        A pair is longer than a window, or begins or ends beyond bar 255.
    """

    redrawn = False

    def __init__(
        self,
        items: IndexedDataset,
        pairs: PhrasePairs,
        *,
        second_bar: int,
        tokens_per_sample: int,
        train: bool = True,
        seed: int = 1,
    ) -> None:
        super().__init__(train=train, seed=seed)
        self.items, self.pairs, self.second_bar = items, pairs, second_bar
        notes = items.sizes // WIDTH - FRAME
        self.lengths = (notes[pairs.first] + notes[pairs.second] + FRAME).astype(np.int32)
        longest = int(self.lengths.max(initial=0)) - FRAME
        if longest > notes_per_window(tokens_per_sample):
            raise DatasetError(
                f"{items.prefix}: pair {int(self.lengths.argmax())} has {longest} notes, but tokens_per_sample is "
                f"{tokens_per_sample}, which holds {notes_per_window(tokens_per_sample)}; raise it."
            )
        self.sizes = self.lengths.astype(np.int64) * WIDTH
        self.set_epoch(1)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.read(index)[0]

    def read(self, index: int) -> tuple[NDArray[np.int64], int, int]:
        """The framed sequence of a pair, int64 [8 (m + 2)]; its index; and 0, its first note."""
        index = int(index)
        first, second = (self._phrase(int(table[index])) for table in (self.pairs.first, self.pairs.second))
        second[:, BAR] += self.second_bar
        notes = np.concatenate([first, second])
        notes = notes[np.lexsort(notes.T[::-1])]
        low, high = notes[:, BAR].min() - LOWEST[BAR], notes[:, BAR].max() - LOWEST[BAR]
        if high >= BARS:
            raise DatasetError(
                f"{self.items.prefix}: pair {index} ends in bar {high}, but the dictionary has {BARS} bars."
            )
        if self.train:
            notes[:, BAR] += self.rng(index, WINDOW_STREAM).integers(-low, BARS - high)
        frame = np.ones(WIDTH, np.int64)
        return np.concatenate([frame * BOS, notes.ravel(), frame * EOS]), index, 0

    def _phrase(self, item: int) -> NDArray[np.int64]:
        """The ids of the notes of an item, [n, 8]."""
        notes = self.items.read(item)[WIDTH:-WIDTH].reshape(-1, WIDTH)
        if not len(notes) or ((notes < LOWEST) | (notes >= LOWEST + SIZES)).any():
            raise DatasetError(
                f"item {item} of {self.items.prefix}.bin is not octuples between eight <s> and eight </s>: "
                "the data was not made with this dictionary, or is damaged."
            )
        return notes
