"""What counts as bar lines that are the measures of a score."""

from __future__ import annotations

from fractions import Fraction

from benchmarks.corpus_bars import bars_agree


def agree(starts: list[float], lines: list[float], *, moved: float = 0, last: float = 100) -> bool:
    measures = [(Fraction(start), Fraction(4)) for start in starts]
    return bars_agree(measures, Fraction(moved), [Fraction(line) for line in lines], Fraction(last))


def test_a_pickup_is_the_end_of_a_whole_bar() -> None:
    assert agree([0, 1, 5, 9], [0, 4, 8, 12], moved=3)
    assert not agree([0, 1, 5, 9], [0, 4, 8, 12]), "the rest before it was forgotten"
    assert not agree([0, 1, 5, 9], [0, 3, 7, 11], moved=3), "a rest of another length"


def test_a_measure_may_begin_inside_a_whole_bar_only() -> None:
    assert agree([0, 4, 7, 8, 12], [0, 4, 8, 12])
    assert not agree([0, 4, 7, 11, 15], [0, 4, 8, 12])
    assert not agree([0, 4, 7, 11, 15], [0, 4, 11, 15]), "the bar from 4 on is longer than printed"


def test_every_bar_line_is_a_measures_and_none_is_missing() -> None:
    assert not agree([0, 4, 8], [0, 2, 4, 6, 8])
    assert not agree([0, 4, 8, 12], [0, 8, 12])
    assert agree([0, 4, 8, 12], [0, 4, 8], last=11), "no note begins in the last measure"
    assert not agree([0, 4, 8, 12], [0, 4, 8], last=12)
