"""Correlations of units and features against numpy, and their average over clips."""

import numpy as np
import pytest

from musicbert_plugin.metrics.correlation import MeanCorrelation, pearson


def test_all_correlations_at_once_are_numpys():
    rng = np.random.default_rng(0)
    units, features = rng.normal(size=(50, 4)) + 100, rng.normal(size=(50, 3))
    found = pearson(units, features)
    for u in range(4):
        for f in range(3):
            assert found[u, f] == pytest.approx(np.corrcoef(units[:, u], features[:, f])[0, 1])


def test_negative_correlations_are_as_good_as_positive_ones():
    x = np.arange(10.0)[:, None]
    np.testing.assert_allclose(pearson(x, np.hstack([x, -x])), [[1, -1]])


def test_a_constant_has_no_correlation():
    x = np.random.default_rng(0).normal(size=(20, 1))
    assert np.isnan(pearson(np.full((20, 1), 0.1) + 1e-17, x)).all()
    assert np.isnan(pearson(x[:1], x[:1])).all()


def test_defect_25_clips_are_averaged_and_none_overwrites_another():
    clips = [(np.array([[0.9, np.nan]]), 103), (np.array([[-0.2, 0.5]]), 13), (np.array([[1.0, 0.0]]), 3)]
    mean = MeanCorrelation()
    for r, frames in clips:
        mean.add(r, frames)
    expected = np.tanh((100 * np.arctanh(0.9) + 10 * np.arctanh(-0.2)) / 110)
    np.testing.assert_allclose(mean.value, [[expected, 0.5]])
    assert mean.clips == 2  # three frames say nothing
    with pytest.raises(ValueError, match="no clips"):
        _ = MeanCorrelation().value


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="shape"):
        pearson(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="not finite"):
        pearson(np.full((3, 1), np.inf), np.zeros((3, 1)))
