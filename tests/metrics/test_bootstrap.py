"""Bootstrap intervals against theory and against a draw by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from musicbert_plugin.metrics.bootstrap import bootstrap_interval, paired_interval
from musicbert_plugin.metrics.means import mean_of_defined


def test_a_bootstrap_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    low, high = bootstrap_interval(np.append(values, np.nan))
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error + 1e-3)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error + 1e-3)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert all(math.isnan(end) for end in bootstrap_interval([]))
    assert bootstrap_interval(np.ones(5), draws=7) == (1, 1)


def test_a_weighted_interval_is_that_of_the_weighted_mean() -> None:
    """Pieces of 1 and of 9 bars: the mean over bars is 0.9, and the interval lies around it."""
    values, weights = np.tile([0.0, 1.0], 200), np.tile([1, 9], 200)
    low, high = bootstrap_interval(values, weights=weights)
    assert low < 0.9 < high and high - low < 0.06
    assert bootstrap_interval(values, weights=np.full(400, 3)) == bootstrap_interval(values)
    assert bootstrap_interval([0.5, np.nan], weights=[2, 0]) == (0.5, 0.5)


def test_a_statistic_and_the_built_in_mean_agree_row_by_row_and_group_by_group() -> None:
    random = np.random.default_rng(2)
    values, groups = random.normal(size=60), random.integers(0, 9, 60)
    for options in ({}, {"groups": groups}):
        given = bootstrap_interval(values, statistic=np.mean, draws=300, **options)
        assert given == pytest.approx(bootstrap_interval(values, draws=300, **options))


def test_groups_are_drawn_whole() -> None:
    """Two groups of equal values: every draw has mean 0, 1/2 or 1, however many rows they have."""
    low, high = bootstrap_interval([0.0] * 50 + [1.0] * 50, groups=["a"] * 50 + ["b"] * 50)
    assert (low, high) == (0.0, 1.0)
    low, high = bootstrap_interval([0.0] * 50 + [1.0] * 50)
    assert low > 0.38 and high < 0.62


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    random = np.random.default_rng(3)
    first = random.normal(size=200)
    second = first + 0.1 + 0.01 * random.normal(size=200)
    low, high = bootstrap_interval(first, second, statistic=lambda a, b: b.mean() - a.mean(), draws=400)
    assert 0.095 < low < high < 0.105


def test_a_quantile_of_a_median_is_that_of_a_loop() -> None:
    values = np.random.default_rng(4).normal(size=31)
    random = np.random.default_rng(5)
    medians = [np.median(values[random.integers(0, 31, (1, 31))[0]]) for _ in range(200)]
    low, high = bootstrap_interval(values, statistic=np.median, draws=200, seed=5, confidence=0.8)
    assert (low, high) == pytest.approx(tuple(np.quantile(medians, [0.1, 0.9])))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="confidence is 1"):
        bootstrap_interval([1.0], confidence=1)
    with pytest.raises(ValueError, match="rows"):
        bootstrap_interval([1.0, 2.0], [1.0], statistic=np.mean)
    with pytest.raises(ValueError, match="weights"):
        bootstrap_interval([1.0], weights=[1], statistic=np.mean)


def test_a_mean_leaves_out_what_is_not_defined() -> None:
    assert mean_of_defined([1, np.nan, 3]) == 2
    assert math.isnan(mean_of_defined([np.nan])) and math.isnan(mean_of_defined([]))


def test_a_paired_interval_is_that_of_a_loop_over_drawn_groups() -> None:
    """Of any metric, here the median error, with rows that lie in the same group of each draw."""
    random = np.random.default_rng(6)
    truth, groups = random.normal(size=40), random.integers(0, 8, 40)
    first, second = truth + random.normal(size=(2, 40))

    def error(reference: np.ndarray, estimate: np.ndarray) -> float:
        return float(np.median(np.abs(reference - estimate)))

    found = paired_interval(error, truth, first, second, groups=groups, draws=50, seed=3)
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    differences = []
    for drawn in np.random.default_rng(3).integers(0, len(rows), (50, len(rows))):
        row = np.concatenate([rows[group] for group in drawn])
        differences.append(error(truth[row], second[row]) - error(truth[row], first[row]))
    assert found == pytest.approx(np.quantile(differences, [0.025, 0.975]))


def test_rows_with_missing_labels_reach_a_statistic_that_ignores_them() -> None:
    values = np.array([[1.0, np.nan], [1.0, 5.0], [1.0, 5.0]])

    def mean_of_columns(rows: np.ndarray) -> float:
        return mean_of_defined([mean_of_defined(column) for column in rows.T])

    kept = bootstrap_interval(values, statistic=mean_of_columns, keep_missing=True, draws=200)
    assert kept == (1.0, 3.0)  # a draw of the first row alone has no second column
    assert bootstrap_interval(values, statistic=mean_of_columns, draws=200) == (3.0, 3.0)
    assert all(map(math.isnan, bootstrap_interval(values, statistic=lambda _: float("nan"), draws=5)))
    with pytest.raises(ValueError, match="ignores what is missing"):
        bootstrap_interval(values[:, 0], keep_missing=True)
