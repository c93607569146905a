"""A batch without its padding: the positions of all rows laid end to end.

A batch is B rows of L positions (octuples, or frames).  Some positions are padding, and a row may hold several segments
one after the other.  Encoders compute the N positions that are not padding, and attention stays inside a segment, so it
needs only the length of each.

Padding masks are True at padding, as PyTorch's are.

Shapes: B rows, L positions per row, S segments that a row may hold, N positions that are not padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def padding_mask(lengths: Sequence[int], width: int, device: torch.device) -> Tensor:
    """Bool [B, width], True at the positions of each row from its length on."""
    return torch.arange(width, device=device) >= torch.tensor(lengths, device=device)[:, None]


class PackedBatch(NamedTuple):
    """Where the N positions of a batch come from; made by :func:`pack_octuples` and :func:`pack_rows`."""

    rows: int
    """B, rows of the batch."""
    row_length: int
    """L, positions per row, padding included."""
    lengths: tuple[int, ...]
    """Positions of each segment, in order; none is zero; their sum is N."""
    kept_N: Tensor | None
    """Index of each position in the batch, row * L + column; None if nothing is padding (N = B * L)."""
    position_N: Tensor
    """Index of each position in its segment, from 0."""

    def flatten(self, x: Tensor) -> Tensor:
        """[B, L, ...] to [N, ...]: drop the padding."""
        x = x.flatten(0, 1)
        return x if self.kept_N is None else x.index_select(0, self.kept_N)

    def restore(self, x: Tensor) -> Tensor:
        """[N, ...] to [B, L, ...]: zeros at padding."""
        if self.kept_N is not None:
            x = x.new_zeros(self.rows * self.row_length, *x.shape[1:]).index_copy(0, self.kept_N, x)
        return x.view(self.rows, self.row_length, *x.shape[1:])


def pack_rows(lengths: Sequence[int], row_length: int, device: torch.device) -> PackedBatch:
    """Pack rows of one segment each.

    Parameters
    ----------
    lengths : sequence of int [B]
        Positions of each row that are not padding, 1 .. row_length.
    row_length : int
    device : torch.device

    Raises
    ------
    ValueError
        If a length lies outside that range.
    """
    lengths = tuple(int(n) for n in lengths)
    if not lengths or min(lengths) < 1 or max(lengths) > row_length:
        raise ValueError(f"lengths {lengths} do not lie within 1 and the {row_length} positions of a row")
    if min(lengths) == row_length:
        kept_N, position_N = None, torch.arange(row_length, device=device).repeat(len(lengths))
    else:
        kept_N = (~padding_mask(lengths, row_length, device)).flatten().nonzero().flatten()
        position_N = kept_N % row_length
    return PackedBatch(len(lengths), row_length, lengths, kept_N, position_N)


def pack_octuples(tokens_BLF: Tensor, pad: int, segment_lengths_BS: Tensor | None = None) -> PackedBatch:
    """Pack rows of octuples.

    Parameters
    ----------
    tokens_BLF : int64 [B, L, 8]
        An octuple is padding if slot 0 (the bar) holds ``pad``; the other slots are not considered.
    pad : int
        Id of the padding token.
    segment_lengths_BS : int [B, S], optional
        Octuples of each segment packed into each row, zeros on the right; by default a row is one segment.

    Raises
    ------
    ValueError
        If the segment lengths of a row do not sum up to its octuples that are not padding.
    """
    rows, row_length, _ = tokens_BLF.shape
    kept_BL = tokens_BLF[:, :, 0] != pad
    count_B = kept_BL.sum(1)
    if segment_lengths_BS is None:
        lengths = count_B.tolist()
    else:
        # One transfer from the device for everything that the host must know.
        table = torch.cat([segment_lengths_BS.to(count_B), count_B[:, None]], 1).tolist()
        for row, (*segments, count) in enumerate(table):
            if sum(segments) != count:
                raise ValueError(
                    f"the segments of row {row} have {sum(segments)} octuples, but {count} of the row are not padding"
                )
        lengths = [n for *segments, _ in table for n in segments]
    lengths, total = tuple(n for n in lengths if n), sum(lengths)
    kept_N = None if total == rows * row_length else kept_BL.flatten().nonzero().flatten()
    device = tokens_BLF.device
    if len(set(lengths)) == 1:
        position_N = torch.arange(lengths[0], device=device).repeat(len(lengths))
    else:
        length_P = torch.tensor(lengths, device=device, dtype=torch.long)
        start_P = length_P.cumsum(0) - length_P
        position_N = torch.arange(total, device=device) - start_P.repeat_interleave(length_P, output_size=total)
    return PackedBatch(rows, row_length, lengths, kept_N, position_N)
