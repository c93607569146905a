"""Which octuples of a batch exist, and which pieces of music they form.

A batch is B rows of L octuples.  Some octuples are padding (their bar slot holds the pad id; the other seven slots are
not looked at), and with packing a row holds several pieces one after the other.  The encoder works on the N octuples
that exist, laid end to end: nothing is computed for padding, and attention needs only the length of each piece.

Shapes: B rows, L octuples per row, F = 8 fields, S pieces that a row may hold, N octuples that exist in the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Pieces(NamedTuple):
    """The pieces of one batch; made by :func:`find_pieces`."""

    rows: int
    """B, rows of the batch."""
    row_length: int
    """L, octuples per row, padding included."""
    lengths: tuple[int, ...]
    """Octuples of each piece, in order; none is zero; their sum is N."""
    kept_N: Tensor | None
    """Where each octuple stands in the batch, row * L + column; None if nothing is padding (N = B * L)."""
    position_N: Tensor
    """Each octuple's place in its piece, from 0."""

    @property
    def equal(self) -> bool:
        """Whether all pieces have one length, so that they stack into an unmasked batch."""
        return len(set(self.lengths)) <= 1

    def flatten(self, x: Tensor) -> Tensor:
        """[B, L, ...] to [N, ...]: drop the padding."""
        x = x.flatten(0, 1)
        return x if self.kept_N is None else x.index_select(0, self.kept_N)

    def restore(self, x: Tensor) -> Tensor:
        """[N, ...] to [B, L, ...]: zeros at padding."""
        if self.kept_N is not None:
            x = x.new_zeros(self.rows * self.row_length, *x.shape[1:]).index_copy(0, self.kept_N, x)
        return x.view(self.rows, self.row_length, *x.shape[1:])

    def place(self, index: Tensor) -> Tensor:
        """Where the octuples ``row * L + column`` stand among the N; N itself for padding."""
        if self.kept_N is None:
            return index
        table = torch.full((self.rows * self.row_length,), self.kept_N.numel(), device=index.device)
        table[self.kept_N] = torch.arange(self.kept_N.numel(), device=index.device)
        return table[index]


def find_pieces(tokens_BLF: Tensor, pad: int, segment_lengths_BS: Tensor | None = None) -> Pieces:
    """Find what exists in a batch.

    Args:
        tokens_BLF: token ids; an octuple is padding if slot 0 (the bar) holds ``pad``.
        pad: id of the padding token.
        segment_lengths_BS: octuples of each piece packed into each row, zeros on the right; None means one piece per
            row.

    Raises:
        ValueError: if the segment lengths of a row don't sum up to its octuples that are not padding.
    """
    rows, row_length, _ = tokens_BLF.shape
    exists_BL = tokens_BLF[:, :, 0] != pad
    count_B = exists_BL.sum(1)
    if segment_lengths_BS is None:
        lengths = count_B.tolist()
        total = sum(lengths)
    else:
        # One transfer from the device for everything that the host must know.
        table = torch.cat([segment_lengths_BS.to(count_B), count_B[:, None]], 1).tolist()
        for row, (*segments, count) in enumerate(table):
            if sum(segments) != count:
                raise ValueError(
                    f"the pieces of row {row} have {sum(segments)} octuples, but {count} of the row are not padding"
                )
        lengths = [n for *segments, _ in table for n in segments]
        total = sum(lengths)
    lengths = tuple(n for n in lengths if n)
    kept_N = None if total == rows * row_length else exists_BL.flatten().nonzero().flatten()
    device = tokens_BLF.device
    if len(set(lengths)) == 1:
        position_N = torch.arange(lengths[0], device=device).repeat(len(lengths))
    else:
        length_P = torch.tensor(lengths, device=device, dtype=torch.long)
        start_P = length_P.cumsum(0) - length_P
        position_N = torch.arange(total, device=device) - start_P.repeat_interleave(length_P, output_size=total)
    return Pieces(rows, row_length, lengths, kept_N, position_N)
