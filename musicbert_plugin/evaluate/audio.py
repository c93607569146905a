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
trained on, folders, archives and lists of them (``prediction``).  ``--head NAME`` is for one task only.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicbert_plugin.errors import CheckpointError, DatasetError, OptionError
from musicbert_plugin.evaluate import Report, add_device, check_at_least, check_not_empty, device_of
from musicbert_plugin.evaluate.prediction import check_csv, predict_files, write_csv
from musicbert_plugin.evaluate.task_options import add_task_options, settle
from musicbert_plugin.extras import require
from musicbert_plugin.files import atomic_path, given_path

if TYPE_CHECKING:
    from musicbert_plugin.hub import MusiCoderHub

logger = logging.getLogger(__name__)

TASK_OPTIONS = {"max_frames": int, "min_frames": int, "seed": int}
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
    labels.add_argument(
        "--predict",
        nargs="+",
        type=given_path,
        metavar="FILE",
        help="recordings, .npy features, folders, archives or lists to predict",
    )
    labels.add_argument("--csv", type=Path, metavar="OUT", help="with --predict, write a row per file to this CSV")
    labels.add_argument("--max-seconds", type=float, default=3600.0, help="refuse longer recordings (default: 3600)")
    labels.add_argument("--head", help="one task of the model (default: all)")


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
    if options.csv and not options.predict:
        raise OptionError("--csv is for predictions; --predict with files is needed.")
    if options.csv:
        check_csv(options.csv)
    if options.dest is not None:
        require("matplotlib", "--dest")
    check_at_least(options, "min_frames", 1)
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
    tasks = [task for task in hub.label_tasks if options.head in (None, task.name)]
    predictions = predict_files(hub, options.predict, tasks)
    found, failed, notes, passed_over = predictions
    if options.csv:
        write_csv(options.csv, tasks, predictions)
    if not found:
        raise DatasetError(f"none of the {len(failed)} recordings can be read.")
    values: dict[str, Any] = {"predictions": found, "failed": failed, "notes": notes}
    if passed_over:
        values["passed_over"] = dict(sorted(passed_over.items()))
    if options.csv:
        counts = [str(len(found)), str(len(failed))]
        table = (str(options.csv), ["predicted", "failed"], [counts])
        return Report(values | {"csv": str(options.csv)}, [table], bool(failed))
    rows = [
        [Path(name).name, task.name, _answer_text(task.type, answer[task.name])]
        for name, answer in found.items()
        for task in tasks
    ]
    return Report(values, [("labels", ["file", "task", "answer"], rows)], bool(failed))


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


# ------------------------------------------------------------------------------------------------------------- labels


def _measure_labels(hub: MusiCoderHub, options: argparse.Namespace) -> Report:
    """The metrics of each task and of its baseline on a split."""
    from musicbert_plugin.criterions.label_scores import METRICS, label_scores
    from musicbert_plugin.data.labels import column_of, read_cells
    from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
    from musicbert_plugin.evaluate.label_report import report_labels
    from musicbert_plugin.tasks.audio_multitask import AudioMultitaskConfig

    folder = SpectrogramFolder(options.data)
    hub.check_front_end(folder)
    clips, train = folder.split(options.gen_subset), folder.split("train")
    check_not_empty(clips, options)
    names = {name: kind for name, kind in TASK_OPTIONS.items() if name != "seed"}  # nothing is drawn
    settled = settle(AudioMultitaskConfig, hub.task_options, options, names, options.path)
    hub.max_frames = settled.values["max_frames"] or int(clips.frames.max())
    hub.min_frames = settled.values["min_frames"]
    answers = [hub.predict(clips.read(clip)) for clip in range(len(clips))]
    values: dict[str, Any] = {
        "path": str(options.path),
        "data": options.data,
        "split": options.gen_subset,
        "task_options": settled.values,
        "clips": len(clips),
    }
    rows, details, pictures = [], [], []
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
        report = report_labels(task, outputs, labels, present, options.gen_subset, options.dest)
        details.append(report.table)
        pictures += [report.picture] if report.picture else []
        values[task.name] = {"type": task.type, "labelled": int(present.any(1).sum()), **scores, **report.values}
        for metric in METRICS[task.type]:
            rows.append([task.name, metric, *(f"{scores[who][metric]:.3f}" for who in ("model", "baseline"))])
    baseline = "majority or mean"
    if pictures:
        values["pictures"] = pictures
    title = f"{options.gen_subset}: {len(clips)} clips"
    return Report(values, [settled.table(), *details, (title, ["task", "metric", "model", baseline], rows)])


def _constant_answer(task: Any, labels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The output of a task's baseline: the majority class, the share of each tag, or the mean of the training split."""
    if task.type == "single":
        counts = np.bincount(labels[present[:, 0], 0].astype(np.int64), minlength=task.size)
        return (np.arange(task.size) == counts.argmax()).astype(float)
    if task.type == "multi":
        return labels[present.all(1)].mean(axis=0) if present.all(1).any() else np.zeros(task.size)
    return np.zeros(task.size)  # the mean of standardised numbers
