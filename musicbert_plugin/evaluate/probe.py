"""A linear probe: how much of a label can be read off frozen features, layer by layer?

    python -m musicbert_plugin.evaluate probe --path CKPT DATA --label composer [--group album] [--folds 5]

Each clip becomes one vector, the mean and the standard deviation over time of a layer's states.  A linear model
(logistic regression for classes, ridge regression with ``--regression``) is trained on some groups of clips and asked
about the others; its strength of regularisation is chosen inside the training part, by groups again.  All splits of
the folder take part; clips of one group (a recording session, a file: ``--group COLUMN``) are never on both sides, and
a clip whose cell there is empty is a group of its own.

With the layers of the checkpoint are compared, pooled and probed alike: the raw features, and an encoder of the same
size with fresh weights (mean over ``--random-encoders`` draws).  Differences to both come with a 95 % interval from a
paired bootstrap over groups; an interval that contains 0 shows nothing.
"""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.audio_labels import SEPARATOR, UNLABELLED, LabelTask, read_cells
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.evaluate import Report
from musicbert_plugin.metrics import classification, regression

if TYPE_CHECKING:
    from musicbert_plugin.data.spectrograms import SpectrogramFolder

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse regularisation among which the inner folds choose."""
DRAWS = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="labelled feature folder")
    parser.add_argument("--path", required=True, help="checkpoint (.pt)")
    parser.add_argument("--label", required=True, help="column of the label")
    parser.add_argument("--group", help="column of groups that stay together (default: every clip its own)")
    parser.add_argument("--regression", action="store_true", help="the label is a number")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--layers", nargs="*", type=int, help="layers to probe, 0 the input (default: all)")
    parser.add_argument("--random-encoders", type=int, default=1, metavar="N", help="fresh encoders to compare with")
    parser.add_argument("--seed", type=int, default=1)


def clip_vector(states: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean and standard deviation over time, [S, D] to [2 D]."""
    x = np.asarray(states, dtype=np.float64)
    return np.concatenate([x.mean(axis=0), x.std(axis=0)])


def fold_of_groups(groups: NDArray[Any], labels: NDArray[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each clip, int64 [N]: groups stay whole, and classes are spread as evenly as groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    fold = np.zeros(len(groups), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer clips than folds: told in the report
        splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
        for number, (_, test) in enumerate(splits):
            fold[test] = number
    return fold


def _model(regress: bool, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    return Ridge(alpha=1 / strength) if regress else LogisticRegression(C=strength, max_iter=2000)


def _fit_predict(
    train: NDArray[np.float64], labels: NDArray[Any], test: NDArray[np.float64], regress: bool, strength: float
) -> NDArray[Any]:
    mean, deviation = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    if not regress and len(set(labels.tolist())) == 1:
        return np.full(len(test), labels[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _model(regress, strength).fit((train - mean) / deviation, labels)
    return model.predict((test - mean) / deviation)


def probe(
    vectors: NDArray[np.float64],
    labels: NDArray[Any],
    groups: NDArray[Any],
    fold: NDArray[np.int64],
    regress: bool,
    seed: int,
) -> NDArray[Any]:
    """What a linear probe says of each clip when its fold is held out.

    Parameters
    ----------
    vectors : float64 [N, V]
    labels : [N], class numbers or float
    groups, fold : [N]

    Returns
    -------
    [N], as ``labels``
    """
    answer = np.zeros_like(labels)
    for held_out in np.unique(fold):
        train = fold != held_out
        best = STRENGTHS[0]
        if len(np.unique(groups[train])) >= 3:
            strata = np.zeros(train.sum(), np.int64) if regress else labels[train]
            inner = fold_of_groups(groups[train], strata, 3, seed) if _foldable(strata, 3) else np.zeros(0, np.int64)
            scores = []
            for strength in STRENGTHS if len(inner) else ():
                guess = np.zeros_like(labels[train])
                for part in np.unique(inner):
                    seen = inner != part
                    guess[~seen] = _fit_predict(
                        vectors[train][seen], labels[train][seen], vectors[train][~seen], regress, strength
                    )
                scores.append(_score(labels[train], guess, regress))
            best = STRENGTHS[int(np.nanargmax(scores))] if not np.isnan(scores or [np.nan]).all() else best
        answer[~train] = _fit_predict(vectors[train], labels[train], vectors[~train], regress, best)
    return answer


def _foldable(labels: NDArray[Any], folds: int) -> bool:
    """Whether some class has a member for each fold, without which no stratified folds can be made."""
    return int(np.unique(labels, return_counts=True)[1].max()) >= folds


def _score(labels: NDArray[Any], answer: NDArray[Any], regress: bool) -> float:
    return float(regression.r2(labels, answer)[0]) if regress else classification.accuracy(labels, answer)


def paired_interval(
    gain: NDArray[np.float64], groups: NDArray[Any], seed: int, draws: int = DRAWS
) -> tuple[float, float, float]:
    """Mean of per-clip gains and its 95 % interval, from a bootstrap over groups (clips of a group come together)."""
    _, place = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(place, weights=gain), np.bincount(place)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(draws, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(gain.mean()), float(low), float(high)


def evaluate(options: argparse.Namespace) -> Report:
    import torch

    from musicbert_plugin.audio_hub import MusiCoderHub
    from musicbert_plugin.data.spectrograms import SpectrogramFolder
    from musicbert_plugin.evaluate.correlate import fresh_copy

    folder = SpectrogramFolder(options.data)
    hub = MusiCoderHub.from_pretrained(options.path)
    if hub.front_end and folder.front_end != hub.front_end:
        raise DatasetError(f"{options.data} was made with another front-end than the checkpoint's: {hub.front_end}.")
    where, labels, groups, classes = _labelled(folder, options)
    layers = options.layers if options.layers else list(range(len(hub.model.encoder.layers) + 1))
    if not all(0 <= layer <= len(hub.model.encoder.layers) for layer in layers):
        raise OptionError(f"--layers {layers}: 0 (the input) to {len(hub.model.encoder.layers)} is accepted.")
    count = len(np.unique(groups))
    if not 2 <= options.folds <= count:
        raise OptionError(f"--folds is {options.folds}, but with {count} groups 2 to {count} is accepted.")
    strata = np.zeros(len(labels), np.int64) if options.regression else labels
    if not _foldable(strata, options.folds):
        most = int(np.unique(strata, return_counts=True)[1].max())
        raise OptionError(
            f"--folds is {options.folds}, but no class in column {options.label!r} has more than {most} clips; "
            "fewer folds or more clips are needed."
        )
    fold = fold_of_groups(groups, strata, options.folds, options.seed)

    vectors: dict[str, Any] = {"raw features": [clip_vector(clips.read(clip)) for clips, clip in where]}
    encoders = {"layer": [hub], "random encoder, layer": []}
    for number in range(options.random_encoders):
        torch.manual_seed(options.seed + number)
        encoders["random encoder, layer"].append(MusiCoderHub(fresh_copy(hub), None, hub.window))
    for name, hubs in encoders.items():
        for number, each in enumerate(hubs):
            for clips, clip in where:
                states = each.extract_all_layers(clips.read(clip))
                for layer in layers:
                    vectors.setdefault(f"{name} {layer}#{number}", []).append(clip_vector(states[layer]))

    answers = {
        name: probe(np.array(rows), labels, groups, fold, options.regression, options.seed)
        for name, rows in vectors.items()
    }
    goodness = {  # of each clip, averaged over fresh encoders: 1 or 0, or minus the squared error
        name: np.mean(
            [
                -((answer - labels) ** 2) if options.regression else (answer == labels).astype(float)
                for key, answer in answers.items()
                if key.partition("#")[0] == name
            ],
            axis=0,
        )
        for name in dict.fromkeys(key.partition("#")[0] for key in answers)
    }
    scores = {
        name: float(
            np.mean(
                [
                    _score(labels, answer, options.regression)
                    for key, answer in answers.items()
                    if key.partition("#")[0] == name
                ]
            )
        )
        for name in goodness
    }
    metric = "r2" if options.regression else "accuracy"
    values: dict[str, Any] = {
        "path": str(options.path),
        "data": options.data,
        "label": options.label,
        "clips": len(labels),
        "groups": count,
        "folds": options.folds,
        "metric": metric,
        "classes": classes,
        "majority" if not options.regression else "mean": _score(
            labels, _constant(labels, fold, options.regression), options.regression
        ),
        "scores": scores,
        "gain_over_raw": {},
        "gain_over_random": {},
    }
    constant = "mean" if options.regression else "majority"
    rows = [[constant, f"{values[constant]:.3f}", "", ""]]
    for name, score in scores.items():
        cells = ["", ""]
        if name.startswith("layer"):
            for place, (key, other) in enumerate(
                (("gain_over_raw", "raw features"), ("gain_over_random", f"random encoder, {name}"))
            ):
                if other in goodness:
                    gain = paired_interval(goodness[name] - goodness[other], groups, options.seed)
                    values[key][name] = dict(zip(("mean", "low", "high"), gain, strict=True))
                    cells[place] = f"{gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]"
        rows.append([name, f"{score:.3f}", *cells])
    unit = "squared error saved" if options.regression else "accuracy"
    title = (
        f"{options.label}: {len(labels)} clips of {count} groups, {options.folds} folds; "
        f"gains in {unit} with 95 % intervals"
    )
    return Report(values, [(title, ["features", metric, "against raw", "against random"], rows)])


def _constant(labels: NDArray[Any], fold: NDArray[np.int64], regress: bool) -> NDArray[Any]:
    """The majority class, or the mean, of the other folds, for each clip."""
    answer = np.zeros_like(labels)
    for held_out in np.unique(fold):
        seen = labels[fold != held_out]
        answer[fold == held_out] = seen.mean() if regress else classification.majority_class(seen)
    return answer


def _labelled(
    folder: SpectrogramFolder, options: argparse.Namespace
) -> tuple[list[tuple[Any, int]], NDArray[Any], NDArray[Any], list[str]]:
    """The labelled clips of all splits (reader, number), their labels, their groups, and the class names."""
    where, cells, groups, names = [], [], [], []
    for name in ("train", "valid", "test"):
        if not (folder.path / f"{name}.clips.csv").is_file():
            continue
        clips = folder.split(name)
        for column in (options.label, *([options.group] if options.group else [])):
            if len(clips) and column not in clips.labels:
                known = ", ".join(clips.labels) or "none at all"
                raise DatasetError(f"{folder.path / name} has no label column {column!r}; it has {known}.")
        for clip in range(len(clips)):
            cell = clips.labels[options.label][clip].strip()
            if cell.lower() not in UNLABELLED and clips.frames[clip] > 0:
                where.append((clips, clip))
                cells.append(cell)
                names.append(clips.clip_names[clip])
                group = clips.labels[options.group][clip].strip() if options.group else ""
                groups.append(f"{name} {clip}" if group.lower() in UNLABELLED else f"group {group}")
    if not cells:
        raise DatasetError(f"{folder.path}: no clip has a label in column {options.label!r}.")
    several = next((cell for cell in cells if SEPARATOR in cell), None)
    if several is not None:
        raise OptionError(
            f"--label {options.label}: the cell {several!r} holds several labels; a column with one class, or one "
            "number (--regression), per clip is accepted."
        )
    if options.regression:
        task = LabelTask(options.label, "regression", options.label, (options.label,))
        values, present = read_cells(task, cells, str(folder.path), names=names)
        readable = np.flatnonzero(present[:, 0])
        if not len(readable):
            raise OptionError(f"--regression: no label in column {options.label!r} is a number.")
        return [where[clip] for clip in readable], values[readable, 0], np.array(groups)[readable], []
    classes = sorted(set(cells))
    if len(classes) < 2:
        raise DatasetError(f"{folder.path}: all labelled clips have the class {classes[0]!r} in {options.label!r}.")
    return where, np.array([classes.index(cell) for cell in cells]), np.array(groups), classes
