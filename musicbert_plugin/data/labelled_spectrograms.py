"""Windows of labelled spectrograms: the batches of multi-task learning.

A window (``spectrogram_windows``) has the labels of its item (``labels``).  A batch of B windows:

====================  ====================  ============================================================================
key                   type                  meaning
====================  ====================  ============================================================================
id, item              int64 [B]             index of each window and of its item
net_input.source      float16 [B, T, F]     features, zero on padding
net_input.lengths     tuple of B ints       frames of each window (on the host)
labels                dict of float64       [B, K] per task: the class number (single, K = 1), 0 or 1 per tag, or the
                                            standardised numbers; 0 where unlabelled
present               dict of bool          [B, K] per task: what is labelled
weights               dict of float64       [B, K] per task with a ``weight_column``: weights of the loss
window                int64 [B]             ``id``, by the name that all labelled batches have
length                int64 [B]             frames of each window, which weigh its prediction in that of the item
nsentences, ntokens   int                   windows, and frames that are not padding
====================  ====================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from musicbert_plugin.data.item_labels import ItemLabels
from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.data.spectrogram_dataset import WindowDataset
from musicbert_plugin.data.spectrogram_windows import SpectrogramWindows


class LabelledSpectrograms(WindowDataset):
    """Windows with the labels of their items; see the module.

    Parameters
    ----------
    windows : SpectrogramWindows
        Of a split with ``labels`` and ``names``.
    tasks : list of LabelTask
    where : str
        The file that messages name.
    """

    def __init__(self, windows: SpectrogramWindows, tasks: Sequence[LabelTask], where: str) -> None:
        super().__init__(windows)
        self.table = ItemLabels(tasks, windows.split.labels, where, windows.split.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": int(index), "source": torch.from_numpy(self.windows[int(index)])}

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of the module's table; an empty dict for no samples."""
        if not samples:
            return {}
        window = np.array([sample["id"] for sample in samples])
        item = self.windows.item[window]
        lengths = tuple(len(sample["source"]) for sample in samples)
        return {
            "id": torch.from_numpy(window),
            "item": torch.from_numpy(item),
            "net_input": {
                "source": pad_sequence([sample["source"] for sample in samples], batch_first=True),
                "lengths": lengths,
            },
            **tensors_of(self.table.of(item)),
            "window": torch.from_numpy(window),
            "length": torch.tensor(lengths),
            "nsentences": len(samples),
            "ntokens": sum(lengths),
        }


def tensors_of(entries: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, torch.Tensor]]:
    """The arrays of :meth:`ItemLabels.of` as tensors."""
    return {key: {name: torch.from_numpy(table) for name, table in by_task.items()} for key, by_task in entries.items()}
