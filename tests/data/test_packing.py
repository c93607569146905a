"""Packing: no piece is lost or doubled, no row too long, and few rows are needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.data.packing import pack_histogram, plan_rows


def best_fit_decreasing(lengths: list[int], capacity: int) -> int:
    """Rows that the textbook algorithm needs, one piece at a time."""
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in free if space >= length]
        if fitting:
            free.remove(min(fitting))
            free.append(min(fitting) - length)
        else:
            free.append(capacity - length)
    return len(free)


lengths_and_capacity = st.integers(1, 60).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(1, capacity), min_size=1, max_size=200), st.just(capacity))
)


@given(lengths_and_capacity)
@settings(max_examples=200, deadline=None)
def test_every_piece_lies_in_one_row_and_no_row_is_too_long(case: tuple[list[int], int]) -> None:
    lengths, capacity = np.array(case[0], dtype=np.int32), case[1]
    plan = plan_rows(lengths, capacity)
    pieces = plan.assign(lengths, np.random.default_rng(1))
    assert sorted(pieces.tolist()) == list(range(len(lengths)))
    rows = np.split(pieces, plan.first_slot[1:-1])
    assert [int(lengths[row].sum()) for row in rows] == plan.row_lengths.tolist()
    assert plan.row_lengths.max() <= capacity


@given(lengths_and_capacity)
@settings(max_examples=200, deadline=None)
def test_as_many_rows_are_needed_as_by_best_fit_decreasing_piece_by_piece(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    groups = pack_histogram(np.bincount(lengths), capacity)
    assert sum(rows for _, rows in groups) == best_fit_decreasing(lengths, capacity)


def test_a_million_pieces_are_planned_by_their_histogram() -> None:
    lengths = np.random.default_rng(0).integers(3, 1003, 1_000_000).astype(np.int32)
    groups = pack_histogram(np.bincount(lengths), 1024)
    plan = plan_rows(lengths, 1024)
    assert len(groups) < 5000
    assert plan.row_lengths.sum() == lengths.sum()
    assert plan.row_lengths.mean() > 0.98 * 1024


def test_rows_have_the_same_lengths_in_every_epoch_but_other_pieces() -> None:
    lengths = np.random.default_rng(2).integers(3, 300, 500).astype(np.int32)
    plan = plan_rows(lengths, 1024)
    first, second = (plan.assign(lengths, np.random.default_rng(epoch)) for epoch in (1, 2))
    assert (lengths[first] == lengths[second]).all()
    assert (first != second).any()


def test_without_a_generator_pieces_keep_their_order() -> None:
    lengths = np.full(6, 10, dtype=np.int32)
    assert plan_rows(lengths, 20).assign(lengths).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_without_packing_each_piece_has_a_row_of_its_own(rng: np.random.Generator | None) -> None:
    lengths = np.array([5, 3, 9, 3], dtype=np.int32)
    plan = plan_rows(lengths, 20, pack=False)
    assert plan.row_lengths.tolist() == [5, 3, 9, 3]
    assert plan.first_slot.tolist() == [0, 1, 2, 3, 4]
    assert lengths[plan.assign(lengths, rng)].tolist() == [5, 3, 9, 3]
