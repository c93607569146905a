"""Regression metrics against scikit-learn and their definitions."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import r2_score, root_mean_squared_error

from musicbert_plugin.metrics import regression


@pytest.mark.parametrize("seed", range(5))
def test_r2_and_rmse_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.normal(size=(2, 30, 3)) * [1, 10, 0.1]
    np.testing.assert_allclose(regression.r2(truth, guess), r2_score(truth, guess, multioutput="raw_values"))
    expected = root_mean_squared_error(truth, guess, multioutput="raw_values")
    np.testing.assert_allclose(regression.rmse(truth, guess), expected)


@pytest.mark.parametrize("seed", range(5))
def test_ccc_is_correlation_times_agreement_of_level_and_range(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=40)
    guess = 0.5 * truth + rng.normal(size=40) + 1
    scale = truth.std() / guess.std()
    shift = (truth.mean() - guess.mean()) / np.sqrt(truth.std() * guess.std())
    bias = 2 / (scale + 1 / scale + shift**2)
    assert regression.ccc(truth, guess)[0] == pytest.approx(np.corrcoef(truth, guess)[0, 1] * bias)


def test_the_mean_has_r2_and_ccc_zero_and_the_truth_one():
    truth = np.array([1.0, 2.0, 4.0])
    mean = np.full(3, truth.mean())
    assert regression.r2(truth, mean)[0] == pytest.approx(0) and regression.ccc(truth, mean)[0] == pytest.approx(0)
    assert regression.r2(truth, truth)[0] == regression.ccc(truth, truth)[0] == 1


def test_what_cannot_be_said_is_nan():
    assert np.isnan(regression.r2([2.0, 2.0], [1.0, 3.0])[0])
    assert np.isnan(regression.ccc([2.0, 2.0], [2.0, 2.0])[0])
    assert np.isnan(regression.r2([], [])[0]) and np.isnan(regression.ccc([], [])[0])


def test_what_is_no_number_is_refused():
    for truth, guess in (([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([[[1.0]]], [[[1.0]]])):
        with pytest.raises(ValueError):
            regression.r2(truth, guess)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_and_pooled_r2_are_scipys_and_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, 9, (2, 30, 3)) * [1.0, 10.0, 0.1]  # with ties
    pearson, spearman = (
        [measure(truth[:, quantity], guess[:, quantity])[0] for quantity in range(3)]
        for measure in (pearsonr, spearmanr)
    )
    np.testing.assert_allclose(regression.pearson(truth, guess), pearson)
    np.testing.assert_allclose(regression.spearman(truth, guess), spearman)
    assert regression.pooled_r2(truth, guess) == pytest.approx(r2_score(truth.ravel(), guess.ravel()))


def test_predicting_the_mean_of_each_quantity_has_pooled_r2_above_zero():
    truth = np.array([[0.0, 10.0], [1.0, 11.0]])
    guess = np.tile(truth.mean(axis=0), (2, 1))
    assert regression.r2(truth, guess).tolist() == [0, 0] and regression.pooled_r2(truth, guess) > 0.98


def test_correlations_with_a_constant_are_undefined():
    for measure in (regression.pearson, regression.spearman):
        assert np.isnan(measure([0.1, 0.1, 0.1], [1.0, 2.0, 3.0])).all() and np.isnan(measure([], [])).all()
    assert np.isnan(regression.pooled_r2([], []))
