"""Models that were fine-tuned on labels, of notes or of sound: metrics on a dataset, or predictions for other files.

    python -m musicbert_plugin.evaluate labels --path CKPT DATA [--gen-subset test] [--dest DIR]
    python -m musicbert_plugin.evaluate labels --path CKPT PAIRS --gen-subset test --scores OUT.csv
    python -m musicbert_plugin.evaluate labels --path CKPT --predict FILE|FOLDER|ZIP... [--csv OUT]

The windows are those of ``fairseq-validate``, with the checkpoint's options unless others are given
(``task_options``), so that both give one number.  A split is measured with the majority baseline (for numbers, the
mean) of the training split, for each class, tag or quantity (``label_report``), and by all metrics with 95 % intervals
(``label_metrics``: from ``--draws`` draws of the dataset's groups, or of recordings); with ``--dest`` confusions and
scatter plots are drawn.  Of a folder of pairs of phrases, ``--scores`` writes a table for ``evaluate ranking``: a row
per pair with ``first``, ``second`` and ``score``, the probability that they belong together.

``--predict`` applies heads for labels of pieces or recordings to other files instead: MIDI, or what ``audio`` takes,
folders, archives and lists of them (``prediction``).  ``--head NAME`` is for one task only.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import CheckpointError, DatasetError, OptionError
from musicbert_plugin.evaluate import Report, add_device, check_at_least, check_not_empty, device_of
from musicbert_plugin.evaluate.prediction import check_csv, predict_files, write_csv
from musicbert_plugin.evaluate.task_options import Settled, add_task_options, settle
from musicbert_plugin.extras import require
from musicbert_plugin.files import atomic_path, given_path

if TYPE_CHECKING:
    from musicbert_plugin.data.labels import LabelTask
    from musicbert_plugin.hub import MusicBERTHub, MusiCoderHub

SOUND_OPTIONS = {"max_frames": int, "min_frames": int}
"""Options of the task ``audio_multitask`` that decide the windows."""
NOTE_OPTIONS = {"tokens_per_sample": int, "pack": str, "fold": int, "dev_share": float}
"""Options of the tasks ``music_sequence_prediction`` and ``music_token_prediction`` that decide windows and splits."""


class Measured(NamedTuple):
    """What a task's head says of N items."""

    task: LabelTask
    outputs: NDArray[np.float64]
    """[N, C]: probabilities, or standardised numbers."""
    labels: NDArray[np.float64]
    """[N, K], standardised."""
    present: NDArray[np.bool_]
    """[N, K]"""
    constant: NDArray[np.float64]
    """[C]: the output of the baseline, see :func:`constant_answer`."""
    groups: NDArray[Any] | None = None
    """[N]: groups of items that depend on each other, for intervals; None for independent items."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", help="labelled dataset folder of notes, or feature folder of sound")
    parser.add_argument("--path", required=True, help="checkpoint (.pt)")
    parser.add_argument("--gen-subset", default="valid", help="split to measure on (default: valid)")
    parser.add_argument("--batch-size", type=int, default=8, help="rows per batch of notes")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws of the intervals (default: 1000)")
    add_task_options(parser.add_argument_group("windows of sound"), SOUND_OPTIONS)
    add_task_options(parser.add_argument_group("windows and splits of notes"), NOTE_OPTIONS)
    add_device(parser)
    parser.add_argument("--dest", type=Path, help="folder for pictures")
    parser.add_argument("--scores", type=Path, metavar="CSV", help="write the scores of pairs, for evaluate ranking")
    add_label_options(parser, "files, folders, archives or lists to predict")


def add_label_options(parser: argparse._ActionsContainer, predicted: str) -> None:
    """Add ``--predict``, whose help text is given, ``--csv`` and ``--head``."""
    parser.add_argument("--predict", nargs="+", type=given_path, metavar="FILE", help=predicted)
    parser.add_argument("--csv", type=Path, metavar="OUT", help="with --predict, write a row per file to this CSV")
    parser.add_argument("--head", help="one task of the model (default: all)")


def check_label_options(options: argparse.Namespace) -> None:
    """Raise :class:`OptionError` if options contradict each other or cannot be met; before a model is loaded."""
    if options.csv and not options.predict:
        raise OptionError("--csv is for predictions; --predict with files is needed.")
    if options.csv:
        check_csv(options.csv)
    if options.dest is not None:
        require("matplotlib", "--dest")


def check_head(options: argparse.Namespace, names: list[str]) -> None:
    """Raise :class:`OptionError` if ``--head`` is none of these tasks."""
    if options.head and options.head not in names:
        raise OptionError(f"--head is {options.head!r}, but {options.path} has {', '.join(names) or 'no heads'}.")


def evaluate(options: argparse.Namespace) -> Report:
    from musicbert_plugin.hub import MusicBERTHub, MusiCoderHub
    from musicbert_plugin.hub.checkpoints import model_of

    check_at_least(options, "batch_size", 1)
    check_at_least(options, "draws", 0, "(no intervals)")
    check_at_least(options, "max_frames", 0, "(whole recordings)")
    check_at_least(options, "min_frames", 1)
    check_label_options(options)
    if options.scores:
        check_csv(options.scores, "--scores")
    sound = model_of(options.path) == "musicoder"
    hub: Any = (MusiCoderHub if sound else MusicBERTHub).from_pretrained(options.path, device=device_of(options))
    if not hub.label_tasks:
        raise CheckpointError(
            f"{options.path} has no heads for labels; a file that was fine-tuned on labels is needed."
        )
    check_head(options, [task.name for task in hub.label_tasks])
    if options.predict:
        if not sound and hub.per_note:
            raise OptionError(
                f"{options.path} has labels of notes, which --predict does not write; MusicBERTHub.predict_notes gives "
                "them."
            )
        return report_predictions(hub, options, "evaluate labels")
    if not options.data:
        raise OptionError("a dataset folder is needed, or --predict with files.")
    if options.scores and sound:
        raise OptionError("--scores is for pairs of phrases; a model of notes is needed.")
    return measure_sound(hub, options) if sound else measure_notes(hub, options)


# --------------------------------------------------------------------------------------------------------- prediction


def report_predictions(hub: Any, options: argparse.Namespace, command: str) -> Report:
    """Predictions of the heads for each file; files that cannot be read are reported."""
    tasks = [task for task in hub.label_tasks if options.head in (None, task.name)]
    predictions = predict_files(hub, options.predict, tasks, command)
    found, failed, notes, passed_over = predictions
    if options.csv:
        write_csv(options.csv, tasks, predictions)
    if not found:
        raise DatasetError(f"none of the {len(failed)} files can be read.")
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


# ------------------------------------------------------------------------------------------------------------- labels


def measure_sound(hub: MusiCoderHub, options: argparse.Namespace) -> Report:
    """The metrics of each task and of its baseline on a split of a feature folder."""
    from musicbert_plugin.data.item_labels import ItemLabels
    from musicbert_plugin.data.labels import column_of, read_cells
    from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
    from musicbert_plugin.tasks.audio_multitask import AudioMultitaskConfig

    folder = SpectrogramFolder(options.data)
    hub.check_front_end(folder)
    recordings, train = folder.split(options.gen_subset), folder.split("train")
    check_not_empty(recordings, options)
    settled = settle(AudioMultitaskConfig, hub.task_options, options, SOUND_OPTIONS, options.path)
    hub.max_frames = settled.values["max_frames"] or int(recordings.frames.max())
    hub.min_frames = settled.values["min_frames"]
    tasks = [task for task in hub.label_tasks if options.head in (None, task.name)]
    table = ItemLabels(tasks, recordings.labels, str(folder.path / options.gen_subset), recordings.names)
    answers = [hub.predict(recordings.read(item)) for item in range(len(recordings))]
    found = []
    for task in tasks:
        outputs = task.standardise(np.array([list(answer[task.name].values()) for answer in answers]))
        seen, seen_present = read_cells(task, column_of(task, train.labels, "train"), "", quiet=True)
        constant = constant_answer(task, seen, seen_present)
        found.append(Measured(task, outputs, table.labels[task.name], table.present[task.name], constant))
    return report_measured(found, options, settled, "clips", len(recordings))


def measure_notes(hub: MusicBERTHub, options: argparse.Namespace) -> Report:
    """The metrics of each task and of its baseline on a split of a labelled folder of notes."""
    import torch
    from fairseq import utils

    from musicbert_plugin.criterions.label_scores import LabelMeter, outputs_of
    from musicbert_plugin.tasks.music_sequence_prediction import (
        MusicSequencePredictionConfig,
        MusicSequencePredictionTask,
    )
    from musicbert_plugin.tasks.music_token_prediction import MusicTokenPredictionTask

    settled = settle(
        MusicSequencePredictionConfig,
        hub.task_options,
        options,
        NOTE_OPTIONS,
        options.path,
        data=options.data,
        windows_per_piece=0,
        seed=1,  # nothing is drawn
    )
    make = MusicTokenPredictionTask if hub.per_note else MusicSequencePredictionTask
    task = make(settled.config, hub.label_tasks)
    if options.gen_subset.startswith("train"):
        raise OptionError("--gen-subset train: its windows change in every epoch; valid or test is accepted.")
    task.load_dataset(options.gen_subset)
    dataset = task.dataset(options.gen_subset)
    longest = int(dataset.windows.lengths.max())
    if longest - 2 > hub.window:
        raise OptionError(
            f"--tokens-per-sample gives windows of {longest - 2} notes, but the model takes {hub.window}."
        )
    tasks = [label_task for label_task in hub.label_tasks if options.head in (None, label_task.name)]
    meters = {label_task.name: LabelMeter(label_task) for label_task in tasks}
    numbers: list[NDArray[np.int64]] = []
    with torch.inference_mode():
        for rows in dataset.batch_by_size(dataset.ordered_indices(), max_sentences=options.batch_size):
            batch = dataset.collater([dataset[row] for row in rows])
            logits = hub.model(**utils.apply_to_sample(lambda x: x.to(hub.device), batch["net_input"]))[0]
            found = {key: batch[key].numpy() for key in ("window", "item", "length")}
            numbers.append(found["item"])
            for name, meter in meters.items():
                outputs = {name: outputs_of(logits[name], meter.task).cpu().numpy()}
                labels = {key: {name: batch[key][name].numpy()} for key in ("labels", "present")}
                meter.update([{"predictions": found | labels | {"outputs": outputs}}])
    table = task.part(options.gen_subset)[0]
    groups = np.array(table.groups)
    if hub.per_note:
        groups = np.repeat(groups, table.notes)
    elif task.has_pairs:
        groups = groups[dataset.windows.pairs.first]
    measured = []
    for label_task in tasks:
        seen, present = task.training_labels(label_task)
        measured.append(
            Measured(
                label_task,
                *meters[label_task.name].items(),
                constant_answer(label_task, seen, present),
                groups[np.unique(np.concatenate(numbers))],  # in the order of LabelMeter.items
            )
        )
    if options.scores:
        write_scores(options.scores, task, options, measured)
    unit = "notes" if hub.per_note else "pairs" if task.has_pairs else "items"
    return report_measured(measured, options, settled, unit, len(measured[0].outputs))


def write_scores(path: Path, task: Any, options: argparse.Namespace, measured: list[Measured]) -> None:
    """Write the probability that the phrases of each pair belong together; the file appears when it is complete.

    Raises
    ------
    OptionError
        The task has no pairs, or several heads, or the file cannot be written.
    """
    if not task.has_pairs or len(measured) != 1:
        raise OptionError(
            "--scores is for one head of a folder with pairs of phrases"
            + (f"; --head names one of {', '.join(found.task.name for found in measured)}." if task.has_pairs else ".")
        )
    ((label_task, outputs, *_),) = measured
    if "1" not in label_task.classes:
        raise OptionError(f"--scores: the classes are {', '.join(label_task.classes)}, and none is 1, of true pairs.")
    pairs = task.dataset(options.gen_subset).windows.pairs
    scores = outputs[:, label_task.classes.index("1")].tolist()
    try:
        with atomic_path(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["first", "second", "score"])
            writer.writerows(zip(pairs.first.tolist(), pairs.second.tolist(), scores, strict=True))
    except OSError as error:
        raise OptionError(f"--scores {path}: cannot be written ({error.strerror or error}).") from None


def report_measured(
    measured: list[Measured], options: argparse.Namespace, settled: Settled, unit: str, count: int
) -> Report:
    """Metrics of heads and baselines; ``unit`` names the ``count`` items that are measured."""
    from musicbert_plugin.criterions.label_scores import METRICS, label_scores
    from musicbert_plugin.evaluate.label_metrics import metrics_table
    from musicbert_plugin.evaluate.label_report import report_labels

    values: dict[str, Any] = {
        "path": str(options.path),
        "data": options.data,
        "split": options.gen_subset,
        "task_options": settled.values,
        unit: count,
    }
    rows, details, pictures = [], [], []
    draws = getattr(options, "draws", 0)  # evaluate audio has no intervals
    for task, outputs, labels, present, answer, groups in measured:
        constant = np.tile(answer, (len(outputs), 1))
        scores = {
            "model": label_scores(outputs, labels, present, task),
            "baseline": label_scores(constant, labels, present, task),
        }
        report = report_labels(
            task, outputs, labels, present, options.gen_subset, options.dest, groups=groups, draws=draws
        )
        details.append(report.table)
        if draws:
            details.append(metrics_table(f"{options.gen_subset}: {task.name}", report.values["metrics"]))
        pictures += [report.picture] if report.picture else []
        values[task.name] = {"type": task.type, "labelled": int(present.any(1).sum()), **scores, **report.values}
        for metric in METRICS[task.type]:
            rows.append([task.name, metric, *(f"{scores[who][metric]:.3f}" for who in ("model", "baseline"))])
    if pictures:
        values["pictures"] = pictures
    title = f"{options.gen_subset}: {count:,} {unit}"
    header = ["task", "metric", "model", "majority or mean"]
    return Report(values, [settled.table(), *details, (title, header, rows)])


def constant_answer(task: Any, labels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The output of a task's baseline: the majority class, the share of each tag, or the mean of the training split."""
    if task.type == "single":
        counts = np.bincount(labels[present[:, 0], 0].astype(np.int64), minlength=task.size)
        return (np.arange(task.size) == counts.argmax()).astype(float)
    if task.type == "multi":
        return labels[present.all(1)].mean(axis=0) if present.all(1).any() else np.zeros(task.size)
    return np.zeros(task.size)  # the mean of standardised numbers
