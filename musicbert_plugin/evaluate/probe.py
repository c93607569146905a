"""A linear probe: how well frozen features predict a label, layer by layer, of sound or of notes.

    python -m musicbert_plugin.evaluate probe --path CKPT DATA --label composer [--group album] [--folds 5]
    python -m musicbert_plugin.evaluate probe --path CKPT FOLDER|ZIP --csv TABLE --label composer [--group album]

``DATA`` is a feature folder for a model of sound, and a labelled folder of notes for one of notes; or MIDI files are
probed, whose labels are in a table with a column ``file``.  The vector of an item is the mean and the standard
deviation over time, or over notes, of a layer's states.  A linear model is trained and tested by cross-validation over
groups of items (such as recording sessions, ``--group COLUMN``); its regularisation is chosen by an inner
cross-validation over groups.  All splits of the folder are used, and an item with an empty cell in that column is a
group of its own.  Of a labelled folder of notes, the groups are its units and the folds its own, if it has folds,
unless ``--group`` and ``--folds`` say otherwise.

==============  ==========================================  =========================================  ================
a cell holds    probe                                       score                                      gain in
==============  ==========================================  =========================================  ================
a class         logistic regression                         accuracy                                   accuracy
tags            ``--multi``: a logistic regression per tag  ROC-AUC, mean over tags and held-out       log-likelihood,
                                                            folds that have items with and without     nats per tag
numbers         ``--regression``: ridge regression          R2 and CCC, mean over quantities           squared error
                                                                                                       saved, variances
==============  ==========================================  =========================================  ================

Cells are read as in training (``data.labels``): tags and numbers are joined by ``--separator``.  Items that lack one of
the numbers are left out.

Of classes, macro-F1 and the recall of each are reported too, and those of which the best layer finds nothing are named
in a warning.

Two baselines are probed in the same way: the raw features (of sound pooled alike; of notes the descriptors of
``codecs.descriptors``), and an encoder of the same size with fresh weights (mean over ``--random-encoders`` encoders).
Differences from both have a 95 % interval from a paired bootstrap
over groups; a difference is not significant if its interval contains 0.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.arguments import checked_layers
from musicbert_plugin.data.dataset_folder import check_folder
from musicbert_plugin.data.labels import SEPARATOR, LabelTask, check_separator, is_unlabelled, read_cells
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.evaluate import Report, check_at_least
from musicbert_plugin.evaluate.probe_items import ProbeItems, items_of_midi, items_of_notes, items_of_sound
from musicbert_plugin.extras import require
from musicbert_plugin.metrics import classification, regression
from musicbert_plugin.metrics.bootstrap import bootstrap_interval
from musicbert_plugin.metrics.means import mean_of_defined
from musicbert_plugin.tables import normal_text

logger = logging.getLogger(__name__)

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse regularisation strengths, of which the inner cross-validation selects one."""
METRICS = {"single": "accuracy", "multi": "roc_auc", "regression": "r2"}
CONSTANTS = {"single": "majority", "multi": "shares", "regression": "mean"}
"""Names of the baselines."""
GAINS = {
    "single": "accuracy",
    "multi": "log-likelihood (nats per tag)",
    "regression": "squared error saved (variances)",
}
_UNLIKELY = 1e-3  # smallest probability of a tag, or of its absence, in the log-likelihood


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="labelled feature folder or folder of notes, or MIDI files with --csv")
    parser.add_argument("--path", required=True, help="checkpoint (.pt)")
    parser.add_argument("--label", required=True, help="column of the label")
    parser.add_argument("--csv", metavar="TABLE", help="labels of MIDI files, by their names in the column file")
    parser.add_argument(
        "--group", help="column of groups that are not split (default: every item its own; of notes, the dataset's)"
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--regression", action="store_true", help="the label is a number, or several")
    kinds.add_argument("--multi", action="store_true", help="the label is any number of tags")
    parser.add_argument("--separator", default=SEPARATOR, help="what joins tags or numbers (default: /)")
    parser.add_argument("--folds", type=int, help="default: 5, or those of the dataset")
    parser.add_argument("--layers", nargs="*", type=int, help="layers to probe, 0 the input (default: all)")
    parser.add_argument("--random-encoders", type=int, default=1, metavar="N", help="number of random encoders")
    parser.add_argument("--seed", type=int, default=1)


def fold_of_groups(groups: NDArray[Any], labels: NDArray[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each item, int64 [N]: groups are not split, and classes are spread as evenly as groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    fold = np.zeros(len(groups), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer items than folds, which the report shows
        splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
        for number, (_, test) in enumerate(splits):
            fold[test] = number
    return fold


def _fit_predict(
    train: NDArray[np.float64], labels: NDArray[Any], test: NDArray[np.float64], kind: str, strength: float
) -> NDArray[Any]:
    from sklearn.linear_model import LogisticRegression, Ridge

    mean, deviation = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    if kind == "regression":
        return Ridge(alpha=1 / strength).fit(train, labels).predict(test).reshape(len(test), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solver did not converge
        if kind == "single":
            if len(set(labels.tolist())) == 1:
                return np.full(len(test), labels[0])
            return LogisticRegression(C=strength, max_iter=2000).fit(train, labels).predict(test)
        probability = np.tile(labels.mean(axis=0), (len(test), 1))
        for tag in np.flatnonzero((labels != labels[:1]).any(axis=0)):
            model = LogisticRegression(C=strength, max_iter=2000).fit(train, labels[:, tag])
            probability[:, tag] = model.predict_proba(test)[:, 1]
        return probability


def probe(
    vectors: NDArray[np.float64],
    labels: NDArray[Any],
    groups: NDArray[Any],
    fold: NDArray[np.int64],
    kind: str,
    seed: int,
) -> NDArray[Any]:
    """The prediction of a linear probe for each item when its fold is held out.

    Parameters
    ----------
    vectors : float64 [N, V]
    labels : int [N], or float64 [N, K]
        Class numbers, or tags (0 and 1), or numbers.
    groups, fold : [N]
    kind : str
        ``single``, ``multi`` or ``regression``.

    Returns
    -------
    as ``labels``: classes, probabilities of tags, or numbers
    """
    answer = np.zeros_like(labels)
    for held_out in np.unique(fold):
        train = fold != held_out
        best = STRENGTHS[0]
        if len(np.unique(groups[train])) >= 3:
            strata = _strata(labels[train], kind)
            inner = fold_of_groups(groups[train], strata, 3, seed) if _foldable(strata, 3) else np.zeros(0, np.int64)
            scores = []
            for strength in STRENGTHS if len(inner) else ():
                guess = np.zeros_like(labels[train])
                for part in np.unique(inner):
                    seen = inner != part
                    guess[~seen] = _fit_predict(
                        vectors[train][seen], labels[train][seen], vectors[train][~seen], kind, strength
                    )
                scores.append(_score(labels[train], guess, inner, kind))
            best = STRENGTHS[int(np.nanargmax(scores))] if not np.isnan(scores or [np.nan]).all() else best
        answer[~train] = _fit_predict(vectors[train], labels[train], vectors[~train], kind, best)
    return answer


def _strata(labels: NDArray[Any], kind: str) -> NDArray[np.int64]:
    """The strata of stratified folds: the classes; tags and numbers have a single stratum."""
    return labels if kind == "single" else np.zeros(len(labels), np.int64)


def _foldable(labels: NDArray[Any], folds: int) -> bool:
    """Whether some class has a member for each fold, which stratified folds need."""
    return int(np.unique(labels, return_counts=True)[1].max()) >= folds


def _score(labels: NDArray[Any], answer: NDArray[Any], fold: NDArray[np.int64], kind: str) -> float:
    if kind == "single":
        return classification.accuracy(labels, answer)
    if kind == "regression":
        return mean_of_defined(regression.r2(labels, answer))
    # Probabilities of different folds come from different models: they are compared within a fold only.
    areas = [classification.roc_auc(labels[fold == part] > 0.5, answer[fold == part]) for part in np.unique(fold)]
    return mean_of_defined(areas)


def _goodness(labels: NDArray[Any], answer: NDArray[Any], kind: str) -> NDArray[np.float64]:
    """Goodness of the prediction of each item, float64 [N]; gains are differences of its means."""
    if kind == "single":
        return (answer == labels).astype(float)
    if kind == "regression":
        variance = np.maximum(labels.var(axis=0), 1e-12)
        return -((answer - labels) ** 2 / variance).mean(axis=1)
    likelihood = np.where(labels > 0.5, answer, 1 - answer).clip(_UNLIKELY, 1 - _UNLIKELY)
    return np.log(likelihood).mean(axis=1)


def _items_and_hub(options: argparse.Namespace) -> tuple[ProbeItems, Any]:
    """What is probed, and the hub of the checkpoint, whose kind the data decide."""
    from musicbert_plugin.hub import MusicBERTHub, MusiCoderHub

    notes: Any
    if options.csv is not None:
        notes = MusicBERTHub.from_pretrained(options.path)
        return items_of_midi(options.data, options.csv, notes), notes
    if (check_folder(options.data, "spectrogram", "octuple") or {}).get("kind") == "octuple":
        notes = MusicBERTHub.from_pretrained(options.path)
        return items_of_notes(options.data), notes
    sound: Any = MusiCoderHub.from_pretrained(options.path)
    return items_of_sound(options.data, sound), sound


def evaluate(options: argparse.Namespace) -> Report:
    require("sklearn", "the probe")
    check_at_least(options, "random_encoders", 0, "(none)")
    items, hub = _items_and_hub(options)
    rows, labels, groups, classes = _labelled(items, options)
    last = hub.layers
    layers = list(range(last + 1)) if options.layers is None else checked_layers(options.layers, 0, last, "--layers")
    kind = _kind(options)
    fold = _folds(items, rows, labels, groups, options)
    count, folds = len(np.unique(groups)), len(np.unique(fold))

    vectors: dict[str, Any] = {items.raw_name: items.raw(rows)}
    untrained = [hub.untrained(options.seed + number) for number in range(options.random_encoders)]
    encoders = {"layer": [hub], "random encoder, layer": untrained}
    for name, hubs in encoders.items():
        for number, encoder in enumerate(hubs):
            for layer, of_layer in zip(layers, items.vectors(encoder, layers, rows), strict=True):
                vectors[f"{name} {layer}#{number}"] = of_layer

    answers = {name: probe(of_layer, labels, groups, fold, kind, options.seed) for name, of_layer in vectors.items()}
    of_name: dict[str, list[Any]] = {}
    for key, answer in answers.items():
        of_name.setdefault(key.partition("#")[0], []).append(answer)

    def over_encoders(score: Callable[[Any], Any]) -> dict[str, Any]:
        """The mean over random encoders."""
        return {name: np.mean([score(answer) for answer in group], axis=0) for name, group in of_name.items()}

    goodness = over_encoders(lambda answer: _goodness(labels, answer, kind))
    scores = over_encoders(lambda answer: _score(labels, answer, fold, kind))
    metric, constant = METRICS[kind], CONSTANTS[kind]
    values: dict[str, Any] = {
        "path": str(options.path),
        "data": options.data,
        "label": options.label,
        "clips": len(labels),
        "groups": count,
        "folds": folds,
        "metric": metric,
        "classes": classes,
        constant: _score(labels, _constant(labels, fold, kind), fold, kind),
        "scores": scores,
        "gain_over_raw": {},
        "gain_over_random": {},
    }
    header = ["features", metric, "against raw", "against random"]
    lines = [[constant, f"{values[constant]:.3f}", "", ""]]
    for name, score in scores.items():
        cells = ["", ""]
        if name.startswith("layer"):
            for column, (key, other) in enumerate(
                (("gain_over_raw", items.raw_name), ("gain_over_random", f"random encoder, {name}"))
            ):
                if other in goodness:
                    gains = goodness[name] - goodness[other]
                    gain = (float(gains.mean()), *bootstrap_interval(gains, groups=groups, seed=options.seed))
                    values[key][name] = dict(zip(("mean", "low", "high"), gain, strict=True))
                    cells[column] = f"{gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]"
        lines.append([name, f"{score:.3f}", *cells])
    second = {"regression": "ccc", "single": "macro_f1"}.get(kind)
    if second is not None:
        measure = regression.ccc if kind == "regression" else classification.macro_f1
        values[second] = over_encoders(lambda answer: mean_of_defined(measure(labels, answer)))
        header.insert(2, second)
        for line in lines:
            line.insert(2, f"{values[second][line[0]]:.3f}" if line[0] in values[second] else "")
    tables = []
    if kind == "single":
        recall = over_encoders(lambda answer: classification.class_scores(labels, answer, len(classes)).recall)
        values["recall"] = {name: dict(zip(classes, row.tolist(), strict=True)) for name, row in recall.items()}
        best = max((name for name in scores if name.startswith("layer")), key=scores.__getitem__)
        tables.append(_recall_table(classes, labels, {name: recall[name] for name in (items.raw_name, best)}))
        if missed := [name for name, value in values["recall"][best].items() if value == 0]:
            logger.warning("%s: no item of these classes is found (recall 0): %s", best, ", ".join(map(repr, missed)))
    title = (
        f"{options.label}: {len(labels)} items of {count} groups, {folds} folds; "
        f"gains in {GAINS[kind]} with 95 % intervals"
    )
    return Report(values, [*tables, (title, header, lines)], failed=items.failed > 0)


def _recall_table(
    classes: list[str], labels: NDArray[np.int64], recall: dict[str, NDArray[np.float64]]
) -> tuple[str, list[str], list[list[str]]]:
    """The recall of each class by some of the features."""
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    rows = [
        [name, *(f"{values[number]:.3f}" for values in recall.values()), str(counts[number])]
        for number, name in enumerate(classes)
    ]
    return "recall of each class", ["class", *recall, "count"], rows


def _kind(options: argparse.Namespace) -> str:
    return "regression" if options.regression else "multi" if options.multi else "single"


def _constant(labels: NDArray[Any], fold: NDArray[np.int64], kind: str) -> NDArray[Any]:
    """For each item, the majority class, or the mean (for tags, their shares), of the other folds."""
    answer = np.zeros_like(labels)
    for held_out in np.unique(fold):
        seen = labels[fold != held_out]
        answer[fold == held_out] = classification.majority_class(seen) if kind == "single" else seen.mean(axis=0)
    return answer


def _folds(
    items: ProbeItems, rows: list[int], labels: NDArray[Any], groups: NDArray[Any], options: argparse.Namespace
) -> NDArray[np.int64]:
    """The fold of each labelled item, int64 [n]: those of the dataset, or new ones."""
    if items.folds is not None and options.folds is None and options.group is None:
        fold = items.folds[rows]
        if len(np.unique(fold)) < 2:
            raise OptionError(f"{items.where}: all labelled items lie in one fold; --folds makes new ones.")
        return fold
    count, folds = len(np.unique(groups)), 5 if options.folds is None else options.folds
    if not 2 <= folds <= count:
        raise OptionError(f"--folds is {folds}, but with {count} groups 2 to {count} is accepted.")
    strata = _strata(labels, _kind(options))
    if not _foldable(strata, folds):
        most = int(np.unique(strata, return_counts=True)[1].max())
        raise OptionError(
            f"--folds is {folds}, but no class in column {options.label!r} has more than {most} items; "
            "fewer folds or more items are needed."
        )
    return fold_of_groups(groups, strata, folds, options.seed)


def _labelled(
    items: ProbeItems, options: argparse.Namespace
) -> tuple[list[int], NDArray[Any], NDArray[Any], list[str]]:
    """The numbers of the labelled items, their labels and groups, and the class names."""
    kind = _kind(options)
    separator = check_separator("--separator", options.separator, kind)
    cells = items.column(options.label)
    units = items.column(options.group) if options.group else items.units
    rows = [number for number, cell in enumerate(cells) if not is_unlabelled(cell)]
    if not rows:
        raise DatasetError(f"{items.where}: no item has a label in column {options.label!r}.")
    cells, names = [cells[row] for row in rows], [items.names[row] for row in rows]
    groups = [f"item {row}" if is_unlabelled(units[row]) else f"group {normal_text(units[row])}" for row in rows]
    task = LabelTask(options.label, kind, options.label, separator=separator)
    try:
        task = task.learn(cells, items.where)
    except DatasetError:
        if kind == "single":
            raise
        raise OptionError(
            f"--{kind}: no label in column {options.label!r} is a {'number' if options.regression else 'tag'}."
        ) from None
    labels, present = read_cells(task, cells, items.where, names=names)
    whole = np.flatnonzero(present.all(axis=1))
    if not len(whole):
        raise DatasetError(f"{items.where}: no item has all {task.size} numbers in column {options.label!r}.")
    labels = labels[whole, 0].astype(np.int64) if kind == "single" else labels[whole]
    return [rows[number] for number in whole], labels, np.array(groups)[whole], list(task.classes)
