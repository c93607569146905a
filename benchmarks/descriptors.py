"""What a random forest on descriptors reaches: ``python -m benchmarks.descriptors DATA [--task expression ...]``.

``DATA`` is a folder with ``expression/`` (``midi.zip`` of PercePiano, ``labels/mean.json``, ``music_units.json``) and
``midi/`` (``composer.zip`` and ``emotion.zip`` with ``composer_pianist8.csv`` and ``emotion.csv``).  The forest has
scikit-learn's defaults but for ``--trees`` trees, and for regression a third of the descriptors per division and two
items per leaf; the descriptors are those of :mod:`musicbert_plugin.codecs.descriptors`, with and without the pedal, and
of the scores as octuples keep them.  Five folds, pooled, of whole units: of music (46) and of performers (21, the two
deadpan renditions are one) for expression, of ``group`` for the others.  Each number is the mean over ``--seeds`` (of
folds and of forests), with its smallest and largest value.  Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment import environment
from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.descriptors import NAMES, PEDAL, descriptors
from musicbert_plugin.codecs.score import read_midi
from musicbert_plugin.errors import ScoreError
from musicbert_plugin.evaluate.probe import fold_of_groups
from musicbert_plugin.metrics import classification, regression
from musicbert_plugin.metrics.means import mean_of_defined

FOLDS = 5
SOUNDS = len(NAMES) - len(PEDAL)
"""The number of descriptors without those of the pedal."""
TASKS = ("expression", "composer", "emotion")


class Rows:
    """Descriptors of files of an archive: as they are, and of their octuples; and the time that they take."""

    def __init__(self, archive: Path, names: Iterable[str]) -> None:
        self.files: list[int] = []
        whole, octuples, self.seconds, self.notes = [], [], 0.0, 0
        with zipfile.ZipFile(archive) as files:
            for number, name in enumerate(names):
                try:
                    score = read_midi(files.read(name), name=name, pedal=True)
                    coarse = octuple.decode(octuple.encode(score))
                except ScoreError as error:
                    print(error.sentence, file=sys.stderr)
                    continue
                start = time.process_time()
                whole.append(descriptors(score))
                self.seconds += time.process_time() - start
                self.notes += len(score)
                octuples.append(descriptors(coarse))
                self.files.append(number)
        self.features = {
            "with pedal": np.array(whole),
            "without pedal": np.array(whole)[:, :SOUNDS],
            "of octuples": np.array(octuples)[:, :SOUNDS],
        }


def scores_of(
    rows: Rows, labels: NDArray[Any], groups: list[str], seeds: int, trees: int, names: list[str] | None
) -> dict[str, Any]:
    """Macro-F1 (with ``names``) or macro R2, and its pooled form, of each kind of descriptors."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    unit = np.unique(groups, return_inverse=True)[1]
    found: dict[str, Any] = {"items": len(labels), "units": int(unit.max()) + 1}
    measures: dict[str, Callable[..., float]] = (
        {"macro_f1": classification.macro_f1}
        if names is not None
        else {
            "macro_r2": lambda truth, guess: mean_of_defined(regression.r2(truth, guess)),
            "pooled_r2": lambda truth, guess: float(regression.r2(truth.ravel(), guess.ravel())[0]),
        }
    )
    for kind, features in rows.features.items():
        values: dict[str, list[float]] = {name: [] for name in measures}
        for seed in range(1, seeds + 1):
            fold = fold_of_groups(unit, labels if names else np.zeros(len(unit), np.int64), FOLDS, seed)
            guess = np.zeros_like(labels)
            for number in range(FOLDS):
                if names is not None:
                    forest = RandomForestClassifier(trees, random_state=seed)
                else:
                    forest = RandomForestRegressor(trees, max_features=1 / 3, min_samples_leaf=2, random_state=seed)
                seen = fold != number
                guess[~seen] = forest.fit(features[seen], labels[seen]).predict(features[~seen])
            for name, measure in measures.items():
                values[name].append(round(measure(labels, guess), 4))
        found[kind] = {
            name: dict(zip(("mean", "low", "high"), (np.mean(row).round(4), min(row), max(row)), strict=True))
            for name, row in values.items()
        }
    return found


def expression(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    folder = data / "expression"
    means = json.loads((folder / "labels" / "mean.json").read_text(encoding="utf-8"))
    units = json.loads((folder / "music_units.json").read_text(encoding="utf-8"))
    names = sorted(means)
    rows = Rows(folder / "midi.zip", (f"midi/{name}.mid" for name in names))
    names = [names[number] for number in rows.files]
    labels = np.array([means[name][:19] for name in names])
    parts = [name.split("_") for name in names]
    groups = {
        "music": [units["_".join([*part[:-2], part[-1]])] for part in parts],
        "performer": ["Score" if part[-2].startswith("Score") else part[-2] for part in parts],
    }
    return {
        "descriptors": len(NAMES),
        "seconds per 100,000 notes": round(rows.seconds / rows.notes * 1e5, 2),
        **{unit: scores_of(rows, labels, of, options.seeds, options.trees, None) for unit, of in groups.items()},
    }


def of_table(archive: Path, table: Path, options: argparse.Namespace) -> dict[str, Any]:
    with table.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    rows = Rows(archive, (line["file"] for line in lines))
    lines = [lines[number] for number in rows.files]
    names, labels = np.unique([line["label"] for line in lines], return_inverse=True)
    return scores_of(rows, labels, [line["group"] for line in lines], options.seeds, options.trees, names.tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="folder with expression/ and midi/")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--trees", type=int, default=100)
    options = parser.parse_args()
    midi = options.data / "midi"
    tables = {"composer": "composer_pianist8.csv", "emotion": "emotion.csv"}
    result: dict[str, Any] = {"benchmark": "forest on descriptors", "seeds": options.seeds, "trees": options.trees}
    start = time.process_time()
    for task in options.task:
        if task == "expression":
            result[task] = expression(options.data, options)
        else:
            result[task] = of_table(midi / f"{task}.zip", midi / tables[task], options)
    result["CPU-seconds"] = round(time.process_time() - start, 1)
    print(json.dumps({**result, **environment("numpy", "scikit-learn")}))


if __name__ == "__main__":
    main()
