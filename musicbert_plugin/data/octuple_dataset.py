"""Masked octuples: the batches of masked language modelling.

A row holds one or more windows (see ``packing``), each masked on its own (see ``octuple_masking``) and then
concatenated; they are the segments of the row.

A batch of B rows, the longest of T sub-tokens (a multiple of 8), with at most S segments in a row:

====================  ===============  =================================================================================
key                   type             meaning
====================  ===============  =================================================================================
id                    int64 [B]        index of each row
net_input.src_tokens  int64 [B, T]     what the model sees, padded with ``<pad>`` on the right
net_input.            int64 [B, S]     octuples of each segment, frame octuples included, padded with 0 on the right;
segment_lengths                        absent without packing, where a row is one segment
target                int64 [B, T]     true ids of the masked tokens, ``<pad>`` elsewhere
nsentences, ntokens   int              rows, and sub-tokens that are not padding
n_notes, n_targets    int              notes, and masked tokens
piece_lengths         numpy [segments] octuples of every segment in the batch, frames included (on the host: the
                                       criterion counts operations from it)
====================  ===============  =================================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from musicbert_plugin.codecs.octuple import PAD
from musicbert_plugin.data.epoch_dataset import EpochDataset
from musicbert_plugin.data.octuple_masking import OctupleMasking
from musicbert_plugin.data.octuple_windows import FRAME, MASK_STREAM, ROW_STREAM, WIDTH, OctupleWindows
from musicbert_plugin.data.packing import plan_rows


class OctupleRows(EpochDataset):
    """Rows of windows; a subclass makes samples of them.

    Parameters
    ----------
    windows : OctupleWindows
    tokens_per_sample : int
        Longest row, in sub-tokens.
    pack : bool
        Whether windows may share a row.
    """

    ORDER = (1, ROW_STREAM)

    def __init__(self, windows: OctupleWindows, *, tokens_per_sample: int, pack: bool = True) -> None:
        super().__init__(train=windows.train, seed=windows.seed)
        self.windows = windows
        self.pack = pack
        self.longest_row = tokens_per_sample // WIDTH
        self._plan()
        self.set_epoch(1)

    def _plan(self) -> None:
        self.plan = plan_rows(self.windows.lengths, self.longest_row, self.pack)
        self.sizes = self.plan.row_lengths.astype(np.int64) * WIDTH

    def draw_epoch(self) -> None:
        """Draw the windows, and which of them share a row."""
        self.windows.set_epoch(self.epoch)
        if self.windows.redrawn:
            self._plan()
        self._in_slot = self.plan.assign(self.windows.lengths, self.rng(0, ROW_STREAM) if self.train else None)

    def windows_of(self, row: int) -> list[int]:
        """The windows of a row, in order."""
        return self._in_slot[self.plan.first_slot[row] : self.plan.first_slot[row + 1]].tolist()

    @property
    def note_count(self) -> int:
        """Notes of one epoch."""
        return int(self.windows.lengths.sum(dtype=np.int64)) - FRAME * len(self.windows)

    @property
    def fill(self) -> float:
        """Share of the longest row that the average row holds."""
        return float(self.plan.row_lengths.mean()) / self.longest_row

    def tokens_of(self, sources: list[Tensor], pieces: list[NDArray[np.int64]]) -> dict[str, Tensor]:
        """The model's input: rows of sub-tokens, and the octuples of the segments of each."""
        net_input = {"src_tokens": pad_sequence(sources, batch_first=True, padding_value=PAD)}
        if self.pack:
            net_input["segment_lengths"] = pad_sequence([torch.from_numpy(row) for row in pieces], batch_first=True)
        return net_input


class MaskedOctuples(OctupleRows):
    """Rows of masked windows; ``masking`` is an :class:`OctupleMasking`, the other parameters are those of rows."""

    def __init__(
        self, windows: OctupleWindows, masking: OctupleMasking, *, tokens_per_sample: int, pack: bool = True
    ) -> None:
        self.masking = masking
        super().__init__(windows, tokens_per_sample=tokens_per_sample, pack=pack)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(index)
        sources, targets = [], []
        for window in self.windows_of(row):
            source, target = self.masking(self.windows[window], self.rng(window, MASK_STREAM))
            sources.append(source)
            targets.append(target)
        return {
            "id": row,
            "source": torch.from_numpy(np.concatenate(sources)),
            "target": torch.from_numpy(np.concatenate(targets)),
            "piece_lengths": np.array([len(source) // WIDTH for source in sources]),
        }

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of the module's table; an empty dict for no samples."""
        if not samples:
            return {}
        pieces = [sample["piece_lengths"] for sample in samples]
        piece_lengths = np.concatenate(pieces)
        target = pad_sequence([sample["target"] for sample in samples], batch_first=True, padding_value=PAD)
        return {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "net_input": self.tokens_of([sample["source"] for sample in samples], pieces),
            "target": target,
            "nsentences": len(samples),
            "ntokens": int(piece_lengths.sum()) * WIDTH,
            "n_notes": int(piece_lengths.sum()) - FRAME * len(piece_lengths),
            "n_targets": int(target.ne(PAD).sum()),
            "piece_lengths": piece_lengths,
        }
