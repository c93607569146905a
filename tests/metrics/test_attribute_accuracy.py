"""Attribute accuracy on requests whose answers one can count by hand, and its bootstrap against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from musicbert_plugin.codecs.attributes import KEYS, MULTI_LABEL, NA, NOT_EXTRACTED, SLOT_KEY
from musicbert_plugin.codecs.requests import parse_request
from musicbert_plugin.metrics import attribute_accuracy as asa


def judge(requests: list[str], found: list[str], **options: object) -> tuple[np.ndarray, np.ndarray]:
    asked, there = (np.stack([parse_request(line) for line in lines]) for lines in (requests, found))
    return asa.score_slots(asked, there, NA, MULTI_LABEL, NOT_EXTRACTED, **options)  # type: ignore[arg-type]


def test_instruments_count_one_by_one_and_absence_is_right_where_nothing_is_found() -> None:
    scored, right = judge(["piano no-drum no-flute violin"], ["piano no-drum flute"])
    assert (scored.sum(), right.sum()) == (4, 2)  # the flute is there, the violin is not
    assert judge(["no-drum"], [""])[1].sum() == 1
    assert judge(["drum"], [""])[1].sum() == 0


def test_other_attributes_must_be_equal_and_what_cannot_be_told_is_wrong() -> None:
    scored, right = judge(
        ["key=minor tempo=slow bars=16 genre=Jazz artist=chopin emotion=Q1"], ["key=minor tempo=fast"]
    )
    assert (scored.sum(), right.sum()) == (3, 1)  # genre, artist and emotion cannot be told


def test_pieces_that_are_all_wrong_or_failed_count_as_zero_but_not_in_the_published_way() -> None:
    scored, right = judge(["key=minor", "key=major", "tempo=fast", ""], ["key=major", "key=major", "tempo=fast", ""])
    accuracies = asa.sample_accuracy(scored, right)
    assert accuracies[:3].tolist() == [0, 1, 1] and math.isnan(accuracies[3])
    assert asa.attribute_sample_accuracy(accuracies) == pytest.approx(2 / 3)
    assert asa.attribute_sample_accuracy(asa.sample_accuracy(scored, right, legacy=True)) == 1
    failed = asa.sample_accuracy(scored, right, valid=[True, True, False, True])
    assert asa.attribute_sample_accuracy(failed) == pytest.approx(1 / 3)


def test_the_published_way_skips_bars_that_cannot_be_told() -> None:
    bars = np.array([KEYS[at] == "B1s1" for at in SLOT_KEY])
    assert judge(["bars=16"], [""])[0].sum() == 1
    assert judge(["bars=16"], [""], skipped_if_unknown=bars)[0].sum() == 0


def test_per_attribute_counts_add_up() -> None:
    scored, right = judge(["piano key=minor", "piano drum"], ["piano key=major", "piano"])
    table = dict(zip(KEYS, asa.accuracy_per_attribute(scored, right, SLOT_KEY).tolist(), strict=True))
    assert table["I1s2"] == [2, 3] and table["K1"] == [0, 1] and table["TM1"] == [0, 0]


def test_a_bootstrap_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    low, high = asa.bootstrap_interval(np.append(values, np.nan))
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error + 1e-3)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error + 1e-3)
    assert asa.bootstrap_interval(values) == asa.bootstrap_interval(values)
    assert all(math.isnan(end) for end in asa.bootstrap_interval([]))
    assert asa.bootstrap_interval(np.ones(5), draws=7) == (1, 1)


def test_a_weighted_interval_is_that_of_the_weighted_mean() -> None:
    """Pieces of 1 and of 9 bars: the mean over bars is 0.9, and the interval lies around it."""
    values, weights = np.tile([0.0, 1.0], 200), np.tile([1, 9], 200)
    low, high = asa.bootstrap_interval(values, weights=weights)
    assert low < 0.9 < high and high - low < 0.06
    assert asa.bootstrap_interval(values, weights=np.full(400, 3)) == asa.bootstrap_interval(values)
    assert asa.bootstrap_interval([0.5, np.nan], weights=[2, 0]) == (0.5, 0.5)


def test_class_vectors_are_checked() -> None:
    with pytest.raises(ValueError, match="shape"):
        asa.score_slots(np.zeros((2, 3)), np.zeros((2, 4)), [1] * 3, [False] * 3, [False] * 3)
    with pytest.raises(ValueError, match="class"):
        asa.score_slots([[5]], [[0]], [1], [False], [False])
