"""Models of spectrograms: errors of restored cells with baselines, or labels of datasets and recordings.

    python -m musicbert_plugin.evaluate audio --path CKPT DATA [--masking frames --min-span 10 --max-span 10]
    python -m musicbert_plugin.evaluate audio --path CKPT DATA --reconstruct 4 --dest DIR
    python -m musicbert_plugin.evaluate audio --path FINETUNED DATA
    python -m musicbert_plugin.evaluate audio --path FINETUNED --predict SONG.flac ...

A pre-trained model is measured on masked cells, all of which are zero in the input, with two baselines on the same
cells: the mean of the excerpt, and linear interpolation across the gaps.  Errors are squared, in variances of a channel
over the training data.  ``--reconstruct N`` also writes N examples: ``K_input.npy`` (NaN for masked cells),
``K_original.npy``, ``K_reconstruction.npy``, ``K_mask.npy`` and a picture ``K.png``.

A fine-tuned model is measured on the labels of a split, with the majority baseline (for numbers, the mean) of the
training split.  ``--predict`` applies it to recordings instead (``--head NAME`` for one task only).
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicbert_plugin.errors import CheckpointError, DatasetError, MusicError, OptionError
from musicbert_plugin.evaluate import Report, add_device, check_at_least, check_not_empty, device_of
from musicbert_plugin.files import atomic_path, escaped

if TYPE_CHECKING:
    from musicbert_plugin.hub import MusiCoderHub

logger = logging.getLogger(__name__)

MASK_OPTIONS = {
    "span_law": str,
    "span_p": float,
    "min_span": int,
    "max_span": int,
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
    parser.add_argument("--max-frames", type=int, help="largest window (default: 512; labels: as in training; 0: none)")
    parser.add_argument("--seed", type=int, default=1)
    add_device(parser)
    masks = parser.add_argument_group("masks of a pre-trained model")
    masks.add_argument("--masking", default="mixed", help="mixed, frames, musicoder or m3bert (default: mixed)")
    for name, kind in MASK_OPTIONS.items():
        masks.add_argument(f"--{name.replace('_', '-')}", type=kind, help="as in training (default: the preset's)")
    masks.add_argument("--reconstruct", type=int, default=0, metavar="N", help="write N examples to --dest")
    parser.add_argument("--dest", type=Path, help="folder for examples")
    labels = parser.add_argument_group("labels of a fine-tuned model")
    labels.add_argument("--predict", nargs="+", metavar="FILE", help="recordings to predict labels of")
    labels.add_argument("--max-seconds", type=float, default=3600.0, help="refuse longer recordings (default: 3600)")
    labels.add_argument("--head", help="one task of the model (default: all)")


def evaluate(options: argparse.Namespace) -> Report:
    from musicbert_plugin.hub import MusiCoderHub

    check_at_least(options, "batch_size", 1)
    check_at_least(options, "reconstruct", 0)
    check_at_least(options, "max_seconds", 1)
    if options.reconstruct and options.dest is None:
        raise OptionError("--reconstruct needs --dest, a folder for the examples.")
    check_at_least(options, "max_frames", 0, "(whole recordings)")
    hub = MusiCoderHub.from_pretrained(options.path, device=device_of(options))
    hub.max_seconds = options.max_seconds
    names = [task.name for task in hub.label_tasks]
    if options.head and options.head not in names:
        raise OptionError(f"--head is {options.head!r}, but {options.path} has {', '.join(names) or 'no heads'}.")
    if options.predict and not names:
        raise CheckpointError(f"{options.path} has no heads for labels; --predict needs a file of audio_multitask.")
    if options.predict:
        return _predict(hub, options)
    if not options.data:
        raise OptionError("a feature folder is needed, or --predict with recordings.")
    return _measure_labels(hub, options) if names else _measure_reconstruction(hub, options)


# --------------------------------------------------------------------------------------------------------- prediction


def _predict(hub: MusiCoderHub, options: argparse.Namespace) -> Report:
    """Predictions of the heads for each file; files that cannot be read are reported."""
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    rows = []
    for path in options.predict:
        file = escaped(path)
        try:
            answer = hub.predict(path)
        except MusicError as error:
            failed[file] = str(error)
            print(f"evaluate audio: {error}", file=sys.stderr)
            continue
        found[file] = {name: values for name, values in answer.items() if options.head in (None, name)}
        for task in hub.label_tasks:
            if task.name in found[file]:
                rows.append([Path(file).name, task.name, _answer_text(task.type, found[file][task.name])])
    if not found:
        raise DatasetError(f"none of the {len(failed)} recordings can be read.")
    return Report(
        {"predictions": found, "failed": failed}, [("labels", ["file", "task", "answer"], rows)], bool(failed)
    )


def _answer_text(kind: str, values: dict[str, float]) -> str:
    if kind == "regression":
        return ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    best = sorted(values.items(), key=lambda pair: -pair[1])[: 1 if kind == "single" else 3]
    return ", ".join(f"{name} {100 * value:.0f} %" for name, value in best)


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

    task = SpectrogramReconstructionTask(
        SpectrogramReconstructionTaskConfig(
            data=options.data,
            masking=options.masking,
            max_frames=512 if options.max_frames is None else options.max_frames,
            seed=options.seed,
            **{name: getattr(options, name) for name in MASK_OPTIONS},
        )
    )
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
    return Report(values, [(f"{options.gen_subset}: squared error on masked cells, variances", header, rows)])


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


# ------------------------------------------------------------------------------------------------------------- labels


def _measure_labels(hub: MusiCoderHub, options: argparse.Namespace) -> Report:
    """The metrics of each task and of its baseline on a split."""
    from musicbert_plugin.criterions.label_scores import METRICS, label_scores
    from musicbert_plugin.data.labels import column_of, read_cells
    from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder

    folder = SpectrogramFolder(options.data)
    hub.check_front_end(folder)
    clips, train = folder.split(options.gen_subset), folder.split("train")
    check_not_empty(clips, options)
    longest = hub.max_frames if options.max_frames is None else options.max_frames
    hub.max_frames = longest or int(clips.frames.max())
    answers = [hub.predict(clips.read(clip)) for clip in range(len(clips))]
    values: dict[str, Any] = {
        "path": str(options.path),
        "data": options.data,
        "split": options.gen_subset,
        "clips": len(clips),
    }
    rows = []
    for task in hub.label_tasks:
        if options.head not in (None, task.name):
            continue
        source = str(folder.path / options.gen_subset)
        labels, present = read_cells(task, column_of(task, clips.labels, source), source, names=clips.names)
        labels = np.where(present, task.standardise(labels), 0.0)
        outputs = np.array([list(answer[task.name].values()) for answer in answers])
        outputs = task.standardise(outputs)
        seen, seen_present = read_cells(task, column_of(task, train.labels, "train"), "", quiet=True)
        constant = np.tile(_constant_answer(task, seen, seen_present), (len(clips), 1))
        scores = {
            "model": label_scores(outputs, labels, present, task),
            "baseline": label_scores(constant, labels, present, task),
        }
        values[task.name] = {"type": task.type, "labelled": int(present.any(1).sum()), **scores}
        for metric in METRICS[task.type]:
            rows.append([task.name, metric, *(f"{scores[who][metric]:.3f}" for who in ("model", "baseline"))])
    baseline = "majority or mean"
    return Report(values, [(f"{options.gen_subset}: {len(clips)} clips", ["task", "metric", "model", baseline], rows)])


def _constant_answer(task: Any, labels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The output of a task's baseline: the majority class, the share of each tag, or the mean of the training split."""
    if task.type == "single":
        counts = np.bincount(labels[present[:, 0], 0].astype(np.int64), minlength=task.size)
        return (np.arange(task.size) == counts.argmax()).astype(float)
    if task.type == "multi":
        return labels[present.all(1)].mean(axis=0) if present.all(1).any() else np.zeros(task.size)
    return np.zeros(task.size)  # the mean of standardised numbers
