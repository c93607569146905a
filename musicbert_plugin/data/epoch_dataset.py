"""The base of datasets that are drawn anew in every epoch of training and are the same in every other epoch."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from fairseq.data import FairseqDataset, data_utils
from numpy.typing import NDArray

from musicbert_plugin.data.epoch_rng import VALIDATION_EPOCH, epoch_rng


class EpochDataset(FairseqDataset):
    """A dataset with an epoch, an order by length, and batches that leave no row out.

    A subclass sets ``sizes``, int [N], before it calls :meth:`set_epoch` at the end of its constructor.

    Parameters
    ----------
    train : bool
        Whether each epoch is drawn anew.
    seed : int
    """

    ORDER: ClassVar[tuple[int, int]] = (0, 2)
    """Index and stream of the random numbers that order rows of one length."""

    sizes: NDArray[np.int64]
    """Tokens (or frames) of each row, the same in every epoch."""

    def __init__(self, *, train: bool, seed: int) -> None:
        super().__init__()
        self.train, self.seed = train, seed
        self.epoch = -1

    def set_epoch(self, epoch: int) -> None:
        """Draw an epoch of training; every other split is always in epoch 0."""
        epoch = epoch if self.train else VALIDATION_EPOCH
        if epoch != self.epoch:
            self.epoch = epoch
            self.draw_epoch()

    def draw_epoch(self) -> None:
        """Draw what the dataset holds ready for :attr:`epoch`."""

    def rng(self, index: int, stream: int) -> np.random.Generator:
        """Random numbers of one index in the present epoch, for one purpose."""
        return epoch_rng(self.seed, self.epoch, index, stream)

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """False in training: loader processes hold copies that would stay in the epoch in which they started."""
        return not self.train

    def __len__(self) -> int:
        return len(self.sizes)

    def num_tokens_vec(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens (or frames) of rows, which ``--max-tokens`` counts, int [K]."""
        return self.sizes[indices]

    def num_tokens(self, index: int) -> int:
        """Tokens (or frames) of one row."""
        return int(self.sizes[index])

    def size(self, index: int) -> int:
        """Length of a row, which is compared with the longest that a model takes."""
        return int(self.sizes[index])

    def ordered_indices(self) -> NDArray[np.int64]:
        """Rows by length, so that a batch has little padding; in training, rows of one length in random order."""
        rows = self.rng(*self.ORDER).permutation(len(self)) if self.train else np.arange(len(self))
        return rows[np.argsort(self.sizes[rows], kind="stable")]

    def batch_by_size(
        self,
        indices: NDArray[np.int64],
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> list[NDArray[np.int64]]:
        """fairseq's batching, without its ``--required-batch-size-multiple``.

        By default that option is 8, and drops the last batch of every epoch and of every validation unless it has a
        multiple of 8 rows: a small set loses all its data.  It serves tensor cores, which see whole rows here anyway.
        """
        if not len(indices):
            return []
        return data_utils.batch_by_size(
            indices,
            num_tokens_fn=self.num_tokens,
            num_tokens_vec=self.num_tokens_vec(indices),
            max_tokens=max_tokens,
            max_sentences=max_sentences,
        )
