"""Ranking metrics against scikit-learn, the published evaluation's loop, and all orders of a few candidates."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from musicbert_plugin.metrics.ranking import (
    average_precision,
    chance_average_precision,
    chance_hits_at,
    hits_at,
)


def by_sorting(pairs: list[tuple[float, int]], k: int) -> tuple[float, float]:
    """Average precision and hits of one query, as the published evaluation sorts: by (-score, label)."""
    positives = sum(label for _, label in pairs)
    if not positives:
        return float("nan"), float("nan")
    hits, precisions, found = 0, [], 0
    for rank, (_, label) in enumerate(sorted((-score, label) for score, label in pairs), start=1):
        if label:
            hits += 1
            precisions.append(hits / rank)
            found += rank <= k
    return sum(precisions) / positives, found / positives


@given(st.integers(0, 60), st.integers(1, 6), st.integers(1, 8), st.integers(0, 10_000))
def test_metrics_are_those_of_sorting_each_query(candidates, queries, k, seed):
    """Several positives per query, ties, and queries whose candidates are mixed."""
    random = np.random.default_rng(seed)
    query = random.integers(0, queries, candidates) * 7
    relevant = random.random(candidates) < 0.3
    score = random.integers(0, 6, candidates) / 5
    expected = [
        by_sorting([(score[row], int(relevant[row])) for row in np.flatnonzero(query == number)], k)
        for number in np.unique(query)
    ]
    np.testing.assert_allclose(average_precision(query, relevant, score), [pair[0] for pair in expected])
    np.testing.assert_allclose(hits_at(query, relevant, score, k), [pair[1] for pair in expected])


@given(st.integers(1, 40), st.integers(0, 10_000))
def test_average_precision_is_scikit_learns_without_ties(candidates, seed):
    random = np.random.default_rng(seed)
    relevant = random.random(candidates) < 0.4
    relevant[0] = True
    score = random.permutation(candidates)
    found = average_precision(np.zeros(candidates, int), relevant, score)
    assert found == pytest.approx([average_precision_score(relevant, score)])


def test_a_constant_score_is_the_worst_order():
    query, relevant = np.zeros(50, int), np.arange(50) == 3
    assert average_precision(query, relevant, np.ones(50)) == pytest.approx([1 / 50])
    assert hits_at(query, relevant, np.ones(50), 49) == [0] and hits_at(query, relevant, np.ones(50), 50) == [1]


def test_chance_is_the_mean_over_all_orders():
    relevant = np.array([1, 1, 0, 0, 0])
    orders = [np.array(order) for order in permutations(range(5))]
    query = np.zeros(5, int)
    for expected, metric, options in (
        (chance_average_precision(query, relevant), average_precision, {}),
        (chance_hits_at(query, relevant, 2), hits_at, {"k": 2}),
    ):
        assert expected == pytest.approx(np.mean([metric(query, relevant, order, **options) for order in orders]))
    assert np.isnan(chance_average_precision([4, 4], [0, 0])).all()


def test_other_arguments_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        average_precision([0], [1], [float("nan")])
    with pytest.raises(ValueError, match="shape"):
        average_precision([0, 1], [1], [0.5])
    with pytest.raises(ValueError, match="k is 0"):
        hits_at([0], [1], [0.5], 0)
    assert len(average_precision([], [], [])) == 0
