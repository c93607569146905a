"""Models of spectrograms: errors of restored cells with baselines, or labels of datasets and recordings.

    python -m musicbert_plugin.evaluate audio --path CKPT DATA [--masking frames --min-span 10 --max-span 10]
    python -m musicbert_plugin.evaluate audio --path CKPT DATA --reconstruct 4 --dest DIR
    python -m musicbert_plugin.evaluate audio --path FINETUNED DATA
    python -m musicbert_plugin.evaluate audio --path FINETUNED --predict SONG.flac FEATURES.npy FOLDER ... [--csv OUT]

The windows, and the masks of a pre-trained model, are those of ``fairseq-validate``, with the checkpoint's options
unless others are given (``task_options``).

A pre-trained model is measured on masked cells, all of which are zero in the input, with two baselines on the same
cells: the mean of the excerpt, and linear interpolation across the gaps.  Errors are squared, in variances of a channel
over the training data.  ``--reconstruct N`` also writes N examples: ``K_input.npy`` (NaN for masked cells),
``K_original.npy``, ``K_reconstruction.npy``, ``K_mask.npy`` and a picture ``K.png``.

A fine-tuned model is measured on the labels of a split, with the majority baseline (for numbers, the mean) of the
training split, and for each class, tag or quantity (``label_report``); with ``--dest`` confusions and scatter plots are
drawn.  ``--predict`` applies it to other files instead: recordings, ``.npy`` features of the front-end that it was
trained on, folders, archives and lists of them (``prediction``).  ``--head NAME`` is for one task only.  All this is
done by ``labels``, which takes models of notes and of sound.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicbert_plugin.errors import CheckpointError, OptionError
from musicbert_plugin.evaluate import Report, add_device, check_at_least, check_not_empty, device_of
from musicbert_plugin.evaluate.labels import (
    SOUND_OPTIONS,
    add_label_options,
    check_head,
    check_label_options,
    measure_sound,
    report_predictions,
)
from musicbert_plugin.evaluate.task_options import add_task_options, settle
from musicbert_plugin.extras import require
from musicbert_plugin.files import atomic_path

if TYPE_CHECKING:
    from musicbert_plugin.hub import MusiCoderHub

logger = logging.getLogger(__name__)

TASK_OPTIONS = SOUND_OPTIONS | {"seed": int}
"""Options that the tasks ``spectrogram_reconstruction`` and ``audio_multitask`` have in common."""

MASK_OPTIONS = {
    "masking": str,
    "span_law": str,
    "span_p": float,
    "min_span": int,
    "max_span": int,
    "fill": str,
    "frame_share": float,
    "frames_prob": float,
    "channels_prob": float,
    "patches_prob": float,
    "channel_share": float,
    "first_channel": int,
    "last_channel": int,
    "patch_share": float,
    "patch_size": int,
}
"""Masking options of the task ``spectrogram_reconstruction``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", help="feature folder")
    parser.add_argument("--path", required=True, help="checkpoint (.pt)")
    parser.add_argument("--gen-subset", default="valid", help="split to measure on (default: valid)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows per batch")
    add_task_options(parser, TASK_OPTIONS)
    add_device(parser)
    masks = parser.add_argument_group("masks of a pre-trained model")
    add_task_options(masks, MASK_OPTIONS)
    masks.add_argument("--reconstruct", type=int, default=0, metavar="N", help="write N examples to --dest")
    parser.add_argument("--dest", type=Path, help="folder for examples, or for pictures of labels")
    labels = parser.add_argument_group("labels of a fine-tuned model")
    add_label_options(labels, "recordings, .npy features, folders, archives or lists to predict")
    labels.add_argument("--max-seconds", type=float, default=3600.0, help="refuse longer recordings (default: 3600)")


def evaluate(options: argparse.Namespace) -> Report:
    from musicbert_plugin.hub import MusiCoderHub

    check_at_least(options, "batch_size", 1)
    check_at_least(options, "reconstruct", 0)
    check_at_least(options, "max_seconds", 1)
    if options.reconstruct and options.dest is None:
        raise OptionError("--reconstruct needs --dest, a folder for the examples.")
    if options.reconstruct:
        require("matplotlib", "--reconstruct")
    check_at_least(options, "max_frames", 0, "(whole recordings)")
    check_label_options(options)
    check_at_least(options, "min_frames", 1)
    hub = MusiCoderHub.from_pretrained(options.path, device=device_of(options))
    hub.max_seconds = options.max_seconds
    names = [task.name for task in hub.label_tasks]
    check_head(options, names)
    if options.predict and not names:
        raise CheckpointError(f"{options.path} has no heads for labels; --predict needs a file of audio_multitask.")
    if options.predict:
        return report_predictions(hub, options, "evaluate audio")
    if not options.data:
        raise OptionError("a feature folder is needed, or --predict with recordings.")
    return measure_sound(hub, options) if names else _measure_reconstruction(hub, options)


# ----------------------------------------------------------------------------------------------------- reconstruction


def _measure_reconstruction(hub: MusiCoderHub, options: argparse.Namespace) -> Report:
    """Squared errors of the model and both baselines on masked cells of a split."""
    import torch
    from fairseq import utils

    from musicbert_plugin.criterions.spectrogram_reconstruction import SOURCES, TARGET_KINDS, error_sums
    from musicbert_plugin.plots.reconstruction import draw_sample, restore_sample
    from musicbert_plugin.tasks.spectrogram_reconstruction import (
        SpectrogramReconstructionTask,
        SpectrogramReconstructionTaskConfig,
    )

    names = TASK_OPTIONS | MASK_OPTIONS
    settled = settle(
        SpectrogramReconstructionTaskConfig, hub.task_options, options, names, options.path, data=options.data
    )
    task = SpectrogramReconstructionTask(settled.config)
    if hub.front_end:
        task.load_state_dict({"front_end": hub.front_end})
    task.load_dataset(options.gen_subset)
    dataset = task.dataset(options.gen_subset)
    if dataset.windows.train:
        raise OptionError("--gen-subset train: its windows change in every epoch; valid or test is accepted.")
    check_not_empty(dataset, options)
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=options.batch_size)
    total: Any = 0
    with torch.inference_mode():
        for indices in batches:
            batch = dataset.collater([dataset[index] for index in indices])
            batch = utils.apply_to_sample(lambda tensor: tensor.to(hub.device), batch)
            output = hub.model(**batch["net_input"])
            total = total + error_sums(
                output[0], hub.model.get_targets(batch, output), batch["target_mask"], batch["net_input"]["lengths"]
            )
    counts, *sums = total.tolist()
    values: dict[str, Any] = {
        "path": str(options.path),
        "data": options.data,
        "split": options.gen_subset,
        "task_options": settled.values,
        "windows": len(dataset),
    }
    rows = []
    for kind, suffix in enumerate(TARGET_KINDS):
        if not counts[kind]:
            continue
        mse = {name: errors[kind] / counts[kind] for name, errors in zip(SOURCES, sums, strict=True)}
        ratios = {f"vs_{name}": mse["mse"] / mse[name] if mse[name] else float("nan") for name in SOURCES[1:]}
        values[suffix.strip("_") or "all"] = {"cells": int(counts[kind]), **mse, **ratios}
        rows.append([suffix.strip("_") or "all", f"{int(counts[kind]):,}", *(f"{mse[name]:.4f}" for name in SOURCES)])
        rows[-1] += [f"{ratio:.3f}" for ratio in ratios.values()]
    header = ["masked", "cells", "model", "clip mean", "interpolation", "/ clip mean", "/ interpolation"]
    if options.reconstruct:
        chosen = np.unique(np.linspace(0, len(dataset) - 1, min(options.reconstruct, len(dataset))).round().astype(int))
        values["examples"] = []
        if len(chosen) < options.reconstruct:
            logger.warning(
                "--reconstruct %d: the split has %d windows, so %d examples were written",
                options.reconstruct,
                len(dataset),
                len(chosen),
            )
        for number, window in enumerate(chosen.tolist()):
            sample = dataset.collater([dataset[window]])
            clip, start, _ = dataset.windows.span(window)
            name = dataset.windows.split.names[clip]
            values["examples"].append(
                {"clip": name, "start": start / task.folder.frame_rate}
                | _write_example(options.dest, number, restore_sample(hub.model, sample))
            )
            title = f"{Path(name).name}, from {start / task.folder.frame_rate:.1f} s"
            draw_sample(
                hub.model,
                sample,
                task.folder,
                options.dest / f"{number}.png",
                title=title,
                start=start / task.folder.frame_rate,
            )
    title = f"{options.gen_subset}: squared error on masked cells, variances"
    return Report(values, [settled.table(), (title, header, rows)])


def _write_example(folder: Path, number: int, example: dict[str, np.ndarray]) -> dict[str, float]:
    """Write the arrays of an example; returns its error on masked cells in the units of the features."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in (
            ("input", example["masked"]),
            ("original", example["original"]),
            ("reconstruction", example["restored"]),
            ("mask", example["target_mask"] > 0),
        ):
            with atomic_path(folder / f"{number}_{name}.npy") as unfinished, unfinished.open("wb") as file:
                np.save(file, array)
    except OSError as error:
        raise OptionError(f"{folder}: examples cannot be written ({error.strerror}).") from None
    masked = example["target_mask"] > 0
    error_ = (example["restored"] - example["original"])[masked]
    return {
        "masked_cells": int(masked.sum()),
        "mean_absolute_error": float(np.abs(error_).mean()) if len(error_) else 0.0,
    }
