"""Masked spectrograms: the batches of spectrogram reconstruction.

A row is a window (``spectrogram_windows``), masked on its own (``spectrogram_masking``).  Masks are drawn anew in each
training epoch and are the same in every validation, where all masked cells are zero, so that a model sees no more of
the target than the baselines it is compared with.

Features stay as stored, in half precision and in their own units; the model standardises them, since its mean and
deviation travel with its weights.  A batch of B windows, the longest of T frames, of F features:

====================  =====================  ===========================================================================
key                   type                   meaning
====================  =====================  ===========================================================================
id                    int64 [B]              index of each window
net_input.source      float16 [B, T, F]      the model's input before ``input_mask``; zero on padding
net_input.input_mask  bool [B, T, F]         cells that the model sees as zero
net_input.lengths     tuple of B ints        frames of each window (on the host)
target                float16 [B, T, F]      the features
target_mask           uint8 [B, T, F]        0 where nothing is to be restored and on padding, else the bits FRAMES,
                                             CHANNELS, PATCHES
nsentences, ntokens   int                    windows, and frames that are not padding
n_targets             int                    cells to be restored
====================  =====================  ===========================================================================
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from musicbert_plugin.data.epoch_dataset import EpochDataset
from musicbert_plugin.data.spectrogram_masking import SpectrogramMasking
from musicbert_plugin.data.spectrogram_windows import MASK_STREAM, SpectrogramWindows


class WindowDataset(EpochDataset):
    """Base of the datasets over spectrogram windows: epochs, order, and batches by frames.

    Parameters
    ----------
    windows : SpectrogramWindows
    """

    def __init__(self, windows: SpectrogramWindows) -> None:
        super().__init__(train=windows.train, seed=windows.seed)
        self.windows = windows
        self.sizes = windows.sizes
        self.set_epoch(1)

    def draw_epoch(self) -> None:
        """Draw the windows."""
        self.windows.set_epoch(self.epoch)


class MaskedSpectrograms(WindowDataset):
    """Masked windows; see the module.

    Parameters
    ----------
    windows : SpectrogramWindows
    masking : SpectrogramMasking
    """

    def __init__(self, windows: SpectrogramWindows, masking: SpectrogramMasking) -> None:
        super().__init__(windows)
        self.masking = masking if windows.train else masking.hidden

    def __getitem__(self, index: int) -> dict[str, Any]:
        window = int(index)
        target = self.windows[window]
        source, input_mask, target_mask = self.masking(target, self.rng(window, MASK_STREAM))
        return {
            "id": window,
            "source": torch.from_numpy(source),
            "input_mask": torch.from_numpy(input_mask),
            "target": torch.from_numpy(target),
            "target_mask": torch.from_numpy(target_mask),
        }

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of the module's table; an empty dict for no samples."""
        if not samples:
            return {}
        lengths = tuple(len(sample["target"]) for sample in samples)
        target_mask = _padded(samples, "target_mask")
        return {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "net_input": {
                "source": _padded(samples, "source"),
                "input_mask": _padded(samples, "input_mask"),
                "lengths": lengths,
            },
            "target": _padded(samples, "target"),
            "target_mask": target_mask,
            "nsentences": len(samples),
            "ntokens": sum(lengths),
            "n_targets": int(torch.count_nonzero(target_mask)),
        }


def _padded(samples: list[dict[str, Any]], key: str) -> Tensor:
    return pad_sequence([sample[key] for sample in samples], batch_first=True)
