"""``tasks.yaml``: what is accepted reads cells, learns from them, and survives a checkpoint."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import yaml

from musicbert_plugin.data.labels import LabelTask, read_cells, read_tasks
from musicbert_plugin.errors import DatasetError
from tests.fuzz.mutation import mutate_bytes, mutate_tree

CASES = 100
CELLS = ("bach", "chopin", "calm/dark", "/", "", "nan", "0.5", "0.5/-1", "1e999", "x")


def seeds() -> list[bytes]:
    """Tasks of every type."""
    return [
        b"tasks:\n  composer: {type: single, classes: [bach, chopin, joplin]}\n"
        b"  mood: {type: multi, classes: [calm, dark, happy], weight: 0.5, pos_weight: 2}\n"
        b"  affect: {type: regression, column: AV, names: [arousal, valence], loss: huber}\n",
        b"tasks:\n  composer:\n    type: single\n  tempo:\n    type: regression\n    weight: 1\n",
        b"tasks:\n  a: {type: single, classes: [x, y], class_weights: {x: 2}, label_smoothing: 0.1, weight_column: w}\n"
        b"  b: {type: single, class_weights: balanced}\n  c: {type: multi, label_smoothing: 0.1}\n",
    ]


KEPT = {
    "class weights in a list": b"tasks: {a: {type: single, classes: [x, y], class_weights: [1, 2]}}",
    "a mapping as a weight of a class": b"tasks: {a: {type: single, classes: [x, y], class_weights: {x: {y: 1}}}}",
    "a list as a type": b"tasks: {a: {type: [single]}}",
    "a mapping as a type": b"tasks: {a: {type: {a: 1}}}",
    "a list as a name": b"tasks: {a: {type: single, classes: [[a, b], [c]]}}",
    "a list as a column": b"tasks: {a: {type: single, column: [a]}}",
    "a list as a key": b"tasks: {[a, b]: {type: single}}",
    "keys of two types": b"tasks: {a: {type: single, 1: 2, b: 3}}",
    "a weight of a thousand digits": b"tasks: {a: {type: single, weight: " + b"9" * 1000 + b"}}",
    "a date that does not exist": b"tasks: {a: 2001-99-99}",
    "nested deeply": b"tasks: " + b"[" * 5000,
}
"""Files that once ended in a traceback, or whose lists became names."""


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage bytes, or the tree of values."""
    if rng.random() < 0.5:
        return mutate_bytes(
            data, rng, (b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"- ", b"? ", b"|\n"), others
        )
    value = yaml.safe_load(data)
    for _ in range(rng.choice((1, 1, 2))):
        value = mutate_tree(value, rng)
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")


def check(data: bytes, folder: Path) -> None:
    """Read the tasks, learn each from a few cells, and read those."""
    path = folder / "tasks.yaml"
    path.write_bytes(data)
    for task in read_tasks(path):
        assert isinstance(task.name, str) and isinstance(task.column, str)
        assert all(isinstance(name, str) for name in task.classes) and np.isfinite([task.weight, task.pos_weight]).all()
        with contextlib.suppress(DatasetError):
            learnt = task.learn(CELLS)
            assert LabelTask.of(learnt.settings()) == learnt
            values, present = read_cells(learnt, CELLS, "x", quiet=True)
            assert values.shape == present.shape == (len(CELLS), learnt.label_count)
            assert np.isfinite(learnt.standardise(values)[present]).all()
