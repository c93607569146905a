"""Pictures of masked spectrograms and their reconstruction by a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
from musicbert_plugin.plots.spectrogram import draw_spectrograms, mel_columns, unit_of


@torch.no_grad()
def restore_sample(model: nn.Module, sample: dict[str, Any]) -> dict[str, np.ndarray]:
    """Restore the first window of a batch; the training mode of the model is not changed.

    Returns
    -------
    dict of arrays [T, F] without padding
        ``masked`` (NaN for cells that are zero in the input), ``original`` and ``restored`` in the units of the
        features, and ``target_mask``, the bits of ``spectrogram_masking``.
    """
    was_training = model.training
    model.eval()
    device = model.feature_mean.device
    net_input = {
        name: value.to(device) if isinstance(value, Tensor) else value for name, value in sample["net_input"].items()
    }
    restored = model.restore_units(model(**net_input)[0])[0].cpu().numpy()
    model.train(was_training)
    frames = sample["net_input"]["lengths"][0]
    masked = sample["net_input"]["source"][0].float().masked_fill(sample["net_input"]["input_mask"][0], float("nan"))
    return {
        "masked": masked[:frames].numpy(),
        "original": sample["target"][0, :frames].float().numpy(),
        "restored": restored[:frames],
        "target_mask": sample["target_mask"][0, :frames].numpy(),
    }


def draw_sample(
    model: nn.Module,
    sample: dict[str, Any],
    folder: SpectrogramFolder,
    path: Path | None,
    title: str = "",
    start: float = 0.0,
) -> np.ndarray:
    """Draw the log-mel bands of the first window of a batch, and, with a path, save the picture.

    Parameters
    ----------
    model : MusiCoderModel
    sample : dict
        A batch of ``spectrogram_dataset``.
    folder : SpectrogramFolder
        The folder of the batch.
    path : path or None
    title : str
    start : float
        Start of the window in its recording, in seconds.

    Returns
    -------
    uint8 [height, width, 3]
    """
    columns = mel_columns(folder.feature_names)
    panels = {name: values[:, columns] for name, values in restore_sample(model, sample).items()}
    return draw_spectrograms(
        path,
        **panels,
        frame_rate=folder.frame_rate,
        frequencies=folder.frequencies[columns],
        title=title,
        start=start,
        unit=unit_of(folder.front_end, folder.feature_names),
    )
