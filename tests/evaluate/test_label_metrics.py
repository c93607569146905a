"""All metrics of a head: those of scikit-learn on what is present, and intervals by group."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.evaluate.label_metrics import label_metrics

RANDOM = np.random.default_rng(1)


def test_metrics_of_classes_leave_out_unlabelled_items() -> None:
    task = LabelTask("t", "single", "t", ("a", "b", "c"))
    outputs, truth = RANDOM.dirichlet(np.ones(3), 40), RANDOM.integers(0, 3, 40)
    present = np.arange(40)[:, None] < 35
    found = label_metrics(task, outputs, truth[:, None].astype(float), present)
    labels, guess = truth[:35], outputs[:35].argmax(1)
    assert found["accuracy"] == {"value": pytest.approx(reference.accuracy_score(labels, guess))}
    assert found["balanced_accuracy"]["value"] == pytest.approx(reference.balanced_accuracy_score(labels, guess))
    for name in ("macro", "weighted"):
        assert found[f"f1_{name}"]["value"] == pytest.approx(reference.f1_score(labels, guess, average=name))
    assert 0 < found["calibration_error"]["value"] < 1
    nothing = label_metrics(task, outputs, truth[:, None].astype(float), np.zeros((40, 1), bool), draws=3)
    assert all(np.isnan(value["value"]) for value in nothing.values())


def test_metrics_of_tags() -> None:
    task = LabelTask("t", "multi", "t", ("a", "b"))
    outputs, truth = RANDOM.random((30, 2)), RANDOM.random((30, 2)) < 0.5
    found = label_metrics(task, outputs, truth.astype(float), np.ones((30, 2), bool))
    for name in ("macro", "micro", "weighted", "samples"):
        expected = reference.f1_score(truth, outputs >= 0.5, average=name, zero_division=np.nan)
        assert found[f"f1_{name}"]["value"] == pytest.approx(expected)
    assert found["roc_auc"]["value"] == pytest.approx(reference.roc_auc_score(truth, outputs))
    assert found["pr_auc"]["value"] == pytest.approx(reference.average_precision_score(truth, outputs))


def test_numbers_count_where_they_are_present_and_intervals_draw_whole_groups() -> None:
    task = LabelTask("t", "regression", "t", ("a", "b"))
    labels = RANDOM.normal(size=(30, 2))
    outputs = labels + 0.5 * RANDOM.normal(size=(30, 2))
    present = np.ones((30, 2), bool)
    present[:5, 1] = present[0, 0] = False
    groups = [f"g{number // 3}" for number in range(30)]
    found = label_metrics(task, outputs, labels, present, groups=groups, draws=60)
    pairs = [(labels[rows, number], outputs[rows, number]) for number, rows in enumerate(present.T)]
    assert found["r2"]["value"] == pytest.approx(np.mean([reference.r2_score(*pair) for pair in pairs]))
    assert found["pooled_r2"]["value"] == pytest.approx(reference.r2_score(labels[present], outputs[present]))
    for name, values in found.items():
        low, high = values["interval"]
        assert low < values["value"] < high, name
    one = label_metrics(task, outputs, labels, present, groups=["g"] * 30, draws=5)
    assert one["r2"]["interval"] == pytest.approx([found["r2"]["value"]] * 2)
