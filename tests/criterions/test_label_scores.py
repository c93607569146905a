"""Scores of labelled items: over the whole set, in the labels' own units, and kept out of checkpoints."""

import numpy as np
import pytest

from musicbert_plugin.data.labels import LabelTask

pytestmark = pytest.mark.usefixtures("registered")

GENRE = LabelTask("genre", "single", "genre", ("a", "b", "c"), "cross_entropy", weight=2.0)
MOOD = LabelTask("mood", "multi", "mood", ("x", "y"), "bce", pos_weight=3.0)
AFFECT = LabelTask("affect", "regression", "AV", ("arousal", "valence"), "mse", 0.5, 1.0, (1.0, 2.0), (2.0, 0.5))


def test_an_items_prediction_is_the_mean_over_its_windows_and_a_window_counts_once():
    from musicbert_plugin.criterions.label_scores import LabelMeter

    meter = LabelMeter(GENRE)
    output = {
        "window": np.array([0, 1, 2]), "item": np.array([0, 0, 1]), "length": np.array([30, 10, 30]),
        "outputs": {"genre": np.array([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8]])},
        "labels": {"genre": np.array([[1.0], [1], [2]])}, "present": {"genre": np.ones((3, 1), bool)},
    }  # fmt: skip
    meter.update([{"predictions": output}, {"predictions": output}])
    outputs, labels, present = meter.items()
    np.testing.assert_allclose(outputs, [[0.45, 0.55, 0.0], [0.1, 0.1, 0.8]])
    assert labels.tolist() == [[1], [2]] and present.all()
    assert meter.score("accuracy") == meter.score("f1") == 1.0


def test_metrics_of_a_validation_are_of_the_whole_set_and_in_the_labels_own_units():
    from musicbert_plugin.criterions.label_scores import label_scores
    from musicbert_plugin.metrics import classification, regression

    rng = np.random.default_rng(0)
    values, present = rng.normal(size=(40, 2)), rng.random((40, 2)) < 0.7
    outputs = values + rng.normal(size=(40, 2))
    found = label_scores(outputs, values, present, AFFECT)
    expected = [
        regression.ccc(
            values[present[:, k], k] * AFFECT.deviation[k] + AFFECT.mean[k],
            outputs[present[:, k], k] * AFFECT.deviation[k] + AFFECT.mean[k],
        )[0]
        for k in range(2)
    ]
    assert found["ccc"] == pytest.approx(np.mean(expected))
    tags, here = rng.random((40, 2)) < 0.4, rng.random((40, 1)) < 0.8
    score = rng.random((40, 2))
    found = label_scores(score, tags, np.tile(here, 2), MOOD)
    assert found["roc_auc"] == pytest.approx(classification.roc_auc(tags[here[:, 0]], score[here[:, 0]]).mean())
    nobody = label_scores(outputs, values, np.zeros((40, 2), bool), AFFECT)
    assert np.isnan(nobody["r2"]) and np.isnan(nobody["ccc"])


def test_predictions_are_left_out_of_checkpoints_so_that_a_run_can_go_on(registered: None) -> None:
    from fairseq.logging.meters import MetersDict

    from musicbert_plugin.criterions.label_scores import LabelMeter

    meters = MetersDict()
    meters.add_meter("_genre", LabelMeter(GENRE), 50)
    saved = meters.state_dict()
    MetersDict().load_state_dict(saved)
    assert saved == [] and meters.get_smoothed_value("_genre") == 0
