"""Classification metrics against scikit-learn, and their edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from musicbert_plugin.metrics import classification


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 10_000))
def test_accuracy_and_macro_f1_are_scikit_learns(clips, classes, seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, classes, (2, clips))
    assert classification.accuracy(truth, guess) == pytest.approx(reference.accuracy_score(truth, guess))
    expected = reference.f1_score(truth, guess, average="macro", zero_division=0)
    assert classification.macro_f1(truth, guess) == pytest.approx(expected)


@given(st.integers(0, 40), st.integers(1, 6), st.integers(0, 10_000))
def test_scores_of_classes_and_confusions_are_scikit_learns(clips, classes, seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, classes, (2, clips))
    scores = classification.class_scores(truth, guess, classes)
    if clips and classes > 1:
        labels = np.arange(classes)
        expected = reference.precision_recall_fscore_support(truth, guess, labels=labels, zero_division=np.nan)
        for found, wanted in zip(scores, expected, strict=False):
            np.testing.assert_allclose(found, wanted)
        table = classification.confusion(truth, guess, classes)
        np.testing.assert_array_equal(table, reference.confusion_matrix(truth, guess, labels=labels))
    assert scores.predicted.tolist() == np.bincount(guess, minlength=classes).tolist()


@given(st.integers(0, 40), st.integers(1, 5), st.integers(0, 10_000))
def test_scores_of_tags_are_scikit_learns(clips, tags, seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.random((2, clips, tags)) < 0.4
    scores = classification.tag_scores(truth, guess)
    for tag in range(tags) if clips else ():
        expected = reference.precision_recall_fscore_support(
            truth[:, tag], guess[:, tag], average="binary", zero_division=np.nan
        )
        for found, wanted in zip(scores[:3], expected[:3], strict=True):
            assert found[tag] == pytest.approx(wanted, nan_ok=True)
    table = classification.tag_confusion(truth, guess)
    assert (
        table.diagonal().tolist() == (truth & guess).sum(0).tolist()
        and scores.support.tolist() == truth.sum(0).tolist()
    )
    assert all(table[i, j] == (truth[:, i] & guess[:, j]).sum() for i in range(tags) for j in range(tags))


@given(st.integers(2, 60), st.integers(1, 5), st.integers(0, 10_000))
def test_areas_are_scikit_learns_ties_included(clips, tags, seed):
    rng = np.random.default_rng(seed)
    truth = rng.random((clips, tags)) < 0.4
    score = rng.integers(0, 6, (clips, tags)) / 5
    roc, pr = classification.roc_auc(truth, score), classification.pr_auc(truth, score)
    for tag in range(tags):
        if truth[:, tag].any() and not truth[:, tag].all():
            assert roc[tag] == pytest.approx(reference.roc_auc_score(truth[:, tag], score[:, tag]))
        else:
            assert np.isnan(roc[tag])
        if truth[:, tag].any():
            assert pr[tag] == pytest.approx(reference.average_precision_score(truth[:, tag], score[:, tag]))
        else:
            assert np.isnan(pr[tag])


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    truth, score = rng.random(30) < 0.5, rng.integers(0, 9, 30)
    pairs = [
        (score[i] > score[j]) + 0.5 * (score[i] == score[j])
        for i in np.flatnonzero(truth)
        for j in np.flatnonzero(~truth)
    ]
    assert classification.roc_auc(truth[:, None], score[:, None])[0] == pytest.approx(np.mean(pairs))


def test_means_leave_out_what_cannot_be_said():
    assert classification.mean_of_defined([0.5, np.nan, 1.0]) == 0.75
    assert np.isnan(classification.mean_of_defined([np.nan]))
    assert np.isnan(classification.accuracy([], [])) and np.isnan(classification.macro_f1([], []))


def test_the_majority_is_the_most_frequent_and_of_several_the_smallest():
    assert classification.majority_class([3, 1, 1, 3]) == 1
    with pytest.raises(ValueError, match="no excerpts"):
        classification.majority_class([])


@pytest.mark.parametrize(
    "call",
    [
        lambda: classification.accuracy([0, 1], [0]),
        lambda: classification.accuracy([0.5], [0]),
        lambda: classification.macro_f1([-1], [0]),
        lambda: classification.confusion([0, 2], [0, 1], 2),
        lambda: classification.tag_scores([[1]], [[0.5]]),
        lambda: classification.roc_auc([0, 1], [0.1, 0.2]),
        lambda: classification.roc_auc([[2]], [[0.1]]),
        lambda: classification.pr_auc([[1]], [[np.nan]]),
    ],
)
def test_what_is_no_answer_is_refused(call):
    with pytest.raises(ValueError):
        call()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 10_000))
def test_averages_of_f1_and_recall_are_scikit_learns(clips, classes, seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, classes, (2, clips))
    for name in ("micro", "weighted"):
        expected = reference.f1_score(truth, guess, average=name, zero_division=0)
        assert getattr(classification, f"{name}_f1")(truth, guess) == pytest.approx(expected)
    expected = reference.recall_score(truth, guess, labels=np.unique(truth), average="macro")
    assert classification.balanced_accuracy(truth, guess) == pytest.approx(expected)
    tags, found = rng.random((2, clips, classes + 1)) < 0.4  # scikit-learn takes one column for classes
    for name in ("micro", "macro", "weighted", "samples"):
        expected = reference.f1_score(tags, found, average=name, zero_division=np.nan)
        if name == "weighted" and not tags.any() or name == "micro" and not (tags | found).any():
            expected = np.nan
        assert getattr(classification, f"{name}_f1")(tags, found) == pytest.approx(expected, nan_ok=True)


def test_averages_without_excerpts_or_tags_are_undefined():
    for name in ("macro", "micro", "weighted"):
        score = getattr(classification, f"{name}_f1")
        assert np.isnan(score([], [])) and np.isnan(score(np.zeros((3, 2), bool), np.zeros((3, 2), bool)))
    assert np.isnan(classification.samples_f1(np.zeros((3, 2)), np.zeros((3, 2))))
    assert np.isnan(classification.balanced_accuracy([], []))
    with pytest.raises(ValueError, match="estimate holds other values"):
        classification.micro_f1([[1, 0]], [[0.5, 0]])
