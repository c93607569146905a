"""Predictions for files that a user names: single files, folders, archives and lists, as the builders take them.

One row per file, in JSON and as a CSV::

    file,composer,composer_probability,mood,mood_probability,AV,note,error
    a.flac,bach,0.910000,calm/slow,0.800000/0.700000,0.25/-0.5,,
    b.mp3,,,,,,,b.mp3: never louder than -80 dB.
    c.mp3,bach,0.620000,calm,0.900000,0.5/0.25,c.mp3: is cut off; 2.22 seconds are kept ...,

``error`` says why a file has no prediction, and ``note`` that a recording is damaged and its prediction is that of the
part before.  Messages call a file by its name in the first column.

A class has its probability; tags are those of a probability of 0.5 or more, the most probable first, with theirs (the
separator alone if there are none); numbers have no probability.  Several tags, probabilities or numbers are joined by
the task's separator, so that the table can be read as one of labels.  A file of several excerpts (``.npy`` features
[N, T, F]) has a row each, ``NAME#0``, ``NAME#1``, ...
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.errors import MusicError, OptionError, ScoreError
from musicbert_plugin.evaluate.label_metrics import THRESHOLD
from musicbert_plugin.files import atomic_path, escaped
from preprocess.engine.sources import ARCHIVE_SUFFIXES, Collection, suffix_counts

LIST_SUFFIXES = (*ARCHIVE_SUFFIXES, ".txt", ".tsv", ".csv")
LARGEST_MEMBER = 2**30
"""Size in bytes above which a file of an archive is refused, as by default in ``preprocess.audio``."""
Answer = Mapping[str, Mapping[str, float]]
"""From task to probabilities or numbers by name."""


class Given(NamedTuple):
    """A file to predict: its name in the output, and a path, its content, or why it cannot be had."""

    name: str
    content: str | bytes | MusicError


class Predictions(NamedTuple):
    """What becomes of the files.

    Attributes
    ----------
    answers : dict
        From name to the answers of the tasks.
    failed : dict
        From name to the reason of a failure.
    notes : dict
        From the names of answers to what is missing of a damaged recording.
    passed_over : Counter of str
        Number of files in folders and archives that are no recordings, by suffix.
    """

    answers: dict[str, dict[str, dict[str, float]]]
    failed: dict[str, str]
    notes: dict[str, str]
    passed_over: Counter[str]


def given_files(
    paths: Sequence[str], suffixes: tuple[str, ...], passed_over: Counter[str] | None = None
) -> Iterator[Given]:
    """The files that paths name.

    Parameters
    ----------
    paths : sequence of str
        Files (of any suffix), folders, archives and lists.  A file in a folder or archive is named by its path inside
        it, one of a list as it is listed; with several paths, by their paths, so that no two have one name.
    suffixes : tuple of str
        Of the files in folders and archives.
    passed_over : Counter of str, optional
        To which the number of files of other suffixes is added, by suffix.

    Yields
    ------
    Given
        What cannot be opened is yielded with its error.
    """
    for path in paths:
        if not os.path.isdir(path) and not path.lower().endswith(LIST_SUFFIXES):
            yield Given(escaped(path), path)
            continue
        try:
            collection = Collection([path], suffixes)
            if passed_over is not None:
                passed_over.update(collection.others)
            if not len(collection):
                raise OptionError(f"{path}: no files in it that end with {', '.join(suffixes)}.")
            for _, number, inner, place in collection.tasks([True] * len(collection), LARGEST_MEMBER):
                source = collection.sources[number]
                path_of = getattr(source, "path_of", None)  # members of archives have none
                name = inner
                if len(paths) > 1:
                    listed = path.lower().endswith((".txt", ".tsv", ".csv"))
                    name = (
                        escaped(path_of(inner))
                        if listed and path_of
                        else f"{escaped(path.rstrip('/' + os.sep))}/{inner}"
                    )
                try:
                    yield Given(name, path_of(inner) if path_of else source.read(inner, place, LARGEST_MEMBER))
                except ScoreError as error:
                    yield Given(name, error)
        except OptionError as error:
            yield Given(escaped(path), error)


def answer_cells(task: LabelTask, values: Mapping[str, float]) -> list[str]:
    """The cells of a task's columns, see :func:`header_of`."""
    if task.type == "regression":
        return [task.separator.join(f"{value:.6g}" for value in values.values())]
    best = sorted(values.items(), key=lambda pair: -pair[1])
    if task.type == "single":
        return [best[0][0], f"{best[0][1]:.6f}"]
    tags = [(name, value) for name, value in best if value >= THRESHOLD]
    names = task.separator.join(name for name, _ in tags) or task.separator
    return [names, task.separator.join(f"{value:.6f}" for _, value in tags)]


def header_of(tasks: Sequence[LabelTask]) -> list[str]:
    """The columns of the CSV."""
    columns = [[task.name, *([f"{task.name}_probability"] if task.type != "regression" else [])] for task in tasks]
    return ["file", *(name for names in columns for name in names), "note", "error"]


def check_csv(path: Path, option: str = "--csv") -> None:
    """Raise :class:`OptionError` if a CSV cannot be written to the path that an option gives."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        what = "is a folder" if path.is_dir() else "its folder does not exist or cannot be written to"
        raise OptionError(f"{option} {path}: {what}; the path of a file is needed.")


def write_csv(path: Path, tasks: Sequence[LabelTask], predictions: Predictions) -> None:
    """Write the predictions, the notes and the errors, in the order of names; the file appears when it is complete.

    Raises
    ------
    OptionError
        It cannot be written.
    """
    header, (found, failed, notes, _) = header_of(tasks), predictions
    try:
        with atomic_path(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for name in sorted({**found, **failed}):
                if name in failed:
                    writer.writerow([name, *[""] * (len(header) - 2), failed[name]])
                else:
                    cells = [cell for task in tasks for cell in answer_cells(task, found[name][task.name])]
                    writer.writerow([name, *cells, notes.get(name, ""), ""])
    except OSError as error:
        raise OptionError(f"--csv {path}: cannot be written ({error.strerror or error}).") from None


def predict_files(
    hub: Any, paths: Sequence[str], tasks: Sequence[LabelTask], command: str = "evaluate audio"
) -> Predictions:
    """Predict the labels of files; what fails or is passed over is also told on stderr.

    Parameters
    ----------
    hub
        A model with ``suffixes``, the suffixes of the files that it takes; ``excerpts(content, name)``, which reads
        the excerpts of a file; ``damage``, if any, what is wrong with the file that was read last; and
        ``predict(excerpt)``.
    paths : sequence of str
    tasks : sequence of LabelTask
    command : str
        What messages begin with.

    Returns
    -------
    Predictions
    """
    found, failed, notes, passed_over = predictions = Predictions({}, {}, {}, Counter())
    for given in given_files(paths, hub.suffixes, passed_over):
        try:
            if isinstance(given.content, MusicError):
                raise given.content
            excerpts = hub.excerpts(given.content, given.name)
            damage = getattr(hub, "damage", None)
            for number, excerpt in enumerate(excerpts):
                answer = hub.predict(excerpt)
                name = f"{given.name}#{number}" if len(excerpts) > 1 else given.name
                found[name] = {task.name: answer[task.name] for task in tasks}
                if damage is not None:
                    notes[name] = damage.sentence(given.name)
        except MusicError as error:
            failed[given.name] = str(error)
            print(f"{command}: {error}", file=sys.stderr)
    if passed_over:
        print(
            f"{command}: passed over, since the model takes no files of these suffixes: {suffix_counts(passed_over)}.",
            file=sys.stderr,
        )
    return predictions
