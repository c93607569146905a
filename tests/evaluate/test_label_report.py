"""What is reported of each class, tag and quantity: right numbers, what is never found, and pictures."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def report():
    from musicbert_plugin.data.labels import LabelTask
    from musicbert_plugin.evaluate.label_report import report_labels

    def make(kind, classes, outputs, labels, present=None, dest=None, **fields):
        labels = np.asarray(labels, float)
        present = np.ones(labels.shape, bool) if present is None else np.asarray(present)
        task = LabelTask("t", kind, "t", classes, **fields)
        return report_labels(task, np.asarray(outputs, float), labels, present, "valid", dest)

    return make


def test_a_class_that_is_never_found_is_named_beside_a_good_accuracy(report, caplog, tmp_path):
    pytest.importorskip("matplotlib")
    truth = np.array([0, 0, 0, 1, 1, 2, 0])[:, None]
    guess = [0, 0, 1, 1, 1, 0, 2]
    present = np.array([True] * 6 + [False])[:, None]  # the last is unlabelled and counts nowhere
    values, (_, header, rows), picture = report(
        "single", ("jazz", "rock", "$waltz"), np.eye(3)[guess], truth, present, tmp_path
    )
    jazz = values["classes"]["jazz"]
    assert jazz == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "count": 3, "predicted": 3}
    assert values["classes"]["$waltz"]["recall"] == 0 and np.isnan(values["classes"]["$waltz"]["precision"])
    assert values["confusion"] == [[2, 1, 0], [0, 2, 0], [1, 0, 0]] and values["not_found"] == ["$waltz"]
    assert caplog.messages == ["valid: none of the items with these labels of t is found (recall 0): '$waltz' (1)"]
    assert header == ["class", "precision", "recall", "f1", "count", "predicted"]
    assert rows[2] == ["$waltz", "-", "0.000", "0.000", "1", "0"]
    assert picture == str(tmp_path / "confusion_t.png") and (tmp_path / "confusion_t.png").stat().st_size > 1000


def test_tags_are_found_from_a_probability_of_one_half_on(report, caplog, tmp_path):
    pytest.importorskip("matplotlib")
    outputs = [[0.5, 0.4, 0.1], [0.9, 0.3, 0.1], [0.2, 0.1, 0.1]]
    values, (_, _, rows), _ = report(
        "multi", ("calm", "dark", "odd"), outputs, [[1, 1, 0], [0, 1, 0], [0, 0, 0]], dest=tmp_path
    )
    calm, dark, odd = values["tags"].values()
    assert calm == {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "roc_auc": 0.5, "count": 1, "predicted": 2}
    assert (dark["recall"], dark["roc_auc"]) == (0.0, 1.0) and odd["count"] == 0
    assert values["not_found"] == ["dark"] and "'dark' (2)" in caplog.text, "odd has no item, so it is not missed"
    assert values["confusion"] == [[1, 0, 0], [2, 0, 0], [0, 0, 0]] and rows[2][1:4] == ["-", "-", "-"]
    assert (tmp_path / "confusion_t.png").is_file()


def test_quantities_are_reported_one_by_one_in_their_own_units(report, tmp_path):
    pytest.importorskip("matplotlib")
    outputs = [[-1, 1], [1, 1], [0, 0]]
    labels, present = [[-1, 0], [1, 0], [0, 1]], [[True, True], [True, True], [True, False]]
    values, (_, _, rows), picture = report(
        "regression", ("bpm", "valence"), outputs, labels, present, tmp_path, mean=(100.0, 0.0), deviation=(20.0, 1.0)
    )
    assert values["quantities"]["bpm"] == {"r2": 1.0, "ccc": 1.0, "rmse": 0.0, "count": 3}
    assert values["quantities"]["valence"]["count"] == 2 and values["quantities"]["valence"]["rmse"] == 1.0
    assert rows[1] == ["valence", "-", "0.000", "1.000", "2"] and picture == str(tmp_path / "scatter_t.png")
    assert (tmp_path / "scatter_t.png").is_file()


def test_nothing_labelled_is_no_error(report, tmp_path):
    pytest.importorskip("matplotlib")
    for kind, width in (("single", 1), ("multi", 2), ("regression", 2)):
        nothing = np.zeros((3, width), bool)
        report(kind, ("a", "b"), np.zeros((3, 2)), nothing, nothing, tmp_path, mean=(0.0, 0.0), deviation=(1.0, 1.0))
