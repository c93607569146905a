"""Calibration against the definition, and temperatures against a minimiser and against what they were made with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from musicbert_plugin.metrics.calibration import (
    LOWEST,
    apply_temperature,
    calibration_error,
    cross_entropy,
    fit_temperature,
    logits_of,
    tag_calibration_error,
)


def by_bins(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    total = 0.0
    for number in range(bins):
        low = -1.0 if number == 0 else number / bins
        inside = (confidence > low) & (confidence <= (number + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@given(st.integers(1, 60), st.integers(1, 5), st.sampled_from([1, 8, 16]), st.integers(0, 10_000))
def test_calibration_errors_are_those_of_bins(items, classes, bins, seed):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, items)
    # Sixteenths are exact, and lie on the edges of bins.
    probability = random.integers(0, 17, (items, classes)) / 16
    expected = by_bins(probability.max(1), probability.argmax(1) == truth, bins)
    assert calibration_error(truth, probability, bins) == pytest.approx(expected)
    tags, present = random.random((2, items, classes)) < 0.6
    found = tag_calibration_error(tags, probability, present, bins)
    for tag in range(classes):
        known = present[:, tag]
        expected = by_bins(probability[known, tag], tags[known, tag], bins) if known.any() else np.nan
        assert found[tag] == pytest.approx(expected, nan_ok=True)


def test_a_sure_model_that_is_right_in_half_of_cases():
    probability = np.tile([1.0, 0.0], (10, 1))
    assert calibration_error(np.arange(10) % 2, probability) == pytest.approx(0.5)
    assert np.isnan(calibration_error([], np.zeros((0, 2))))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 50), st.integers(2, 5), st.floats(0.3, 5), st.integers(0, 10_000))
def test_a_temperature_is_that_of_a_minimiser(items, classes, scale, seed):
    random = np.random.default_rng(seed)
    logits = scale * random.normal(size=(items, classes))
    for tags in (False, True):
        truth = random.random((items, classes)) < 0.5 if tags else random.integers(0, classes, items)
        present = random.random((items, classes)) < 0.8 if tags else None
        if tags and not present.any():
            continue
        temperature = fit_temperature(logits, truth, tags=tags, present=present)

        def loss(log_temperature, truth=truth, tags=tags, present=present):
            return cross_entropy(logits / np.exp(log_temperature), truth, tags=tags, present=present)

        best = minimize_scalar(loss, bounds=np.log([0.01, 100]), method="bounded", options={"xatol": 1e-9})
        assert loss(np.log(temperature)) <= best.fun + 1e-9


def test_cross_entropy_and_probabilities_are_scipys():
    random = np.random.default_rng(1)
    logits, truth = random.normal(size=(30, 4)), random.integers(0, 4, 30)
    expected = softmax(logits / 1.7, axis=1)
    np.testing.assert_allclose(apply_temperature(logits, 1.7), expected)
    assert cross_entropy(logits / 1.7, truth) == pytest.approx(log_loss(truth, expected, labels=range(4)))
    np.testing.assert_allclose(apply_temperature(logits, 1.7, tags=True), expit(logits / 1.7))
    np.testing.assert_allclose(softmax(logits_of(expected), axis=1), expected)
    np.testing.assert_allclose(expit(logits_of(expected, tags=True)), expected)


def test_labels_drawn_at_a_temperature_have_it_and_it_calibrates_them():
    random = np.random.default_rng(2)
    logits = 2 * random.normal(size=(20_000, 3))
    chance = apply_temperature(logits, 2.5)
    truth = (random.random((len(chance), 1)) > chance.cumsum(axis=1)).sum(axis=1)
    temperature = fit_temperature(logits, truth)
    assert temperature == pytest.approx(2.5, rel=0.05)
    after = calibration_error(truth, apply_temperature(logits, temperature))
    assert after < 0.02 < calibration_error(truth, apply_temperature(logits, 1.0))


def test_edges():
    assert fit_temperature([[1.0, 0.0]], [0]) == pytest.approx(LOWEST, rel=1e-6)  # always right: as sure as can be
    with pytest.raises(ValueError, match="no label"):
        fit_temperature(np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match="class 2"):
        fit_temperature([[0.0, 1.0]], [2])
    with pytest.raises(ValueError, match="finite"):
        fit_temperature([[np.inf, 1.0]], [0])
    with pytest.raises(ValueError, match="outside 0 to 1"):
        calibration_error([0], [[1.5, 0.0]])
    with pytest.raises(ValueError, match="above 0"):
        apply_temperature([[1.0]], 0.0)
