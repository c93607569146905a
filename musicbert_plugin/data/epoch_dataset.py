"""Batches that leave no row out."""

from __future__ import annotations

import numpy as np
from fairseq.data import FairseqDataset, data_utils
from numpy.typing import NDArray


class WholeBatches(FairseqDataset):
    """A dataset whose rows all come to training and to measuring; ``num_tokens_vec`` is the subclass's."""

    def num_tokens_vec(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens (or frames) of rows, int [K]."""
        raise NotImplementedError

    def num_tokens(self, index: int) -> int:
        """Tokens (or frames) of a row, which ``--max-tokens`` counts."""
        return int(self.num_tokens_vec(np.array([index]))[0])

    def size(self, index: int) -> int:
        """The same: what a row's length is compared with."""
        return self.num_tokens(index)

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
