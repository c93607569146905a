"""Bar metrics against brute force, and on bars whose likeness one can count by hand."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.codecs import remi
from musicbert_plugin.metrics import remi_bars

sequences = st.lists(st.integers(0, 3), max_size=7)


def plain_edit_distance(a: tuple[int, ...], b: tuple[int, ...], deletion_in_b: int = 1) -> int:
    """Cost of turning b into a: insertions and substitutions cost 1, leaving out an element of b what is given."""

    @lru_cache(None)
    def cost(i: int, j: int) -> int:
        if i == 0:
            return j * deletion_in_b
        if j == 0:
            return i
        return min(cost(i - 1, j) + 1, cost(i, j - 1) + deletion_in_b, cost(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return cost(len(a), len(b))


@settings(max_examples=200, deadline=None)
@given(sequences, sequences)
def test_edit_distance_and_overlap_equal_their_recursions(a: list[int], b: list[int]) -> None:
    assert remi_bars.edit_distance(a, b) == plain_edit_distance(tuple(a), tuple(b))
    if a and b:
        free = plain_edit_distance(tuple(a), tuple(b), deletion_in_b=0)
        assert remi_bars.sequence_overlap_rate(a, b) == (len(a) - free) / min(len(a), len(b))
        assert remi_bars.word_error_rate(a, b) == plain_edit_distance(tuple(a), tuple(b)) / len(b)


def test_empty_sequences() -> None:
    assert remi_bars.word_error_rate([], []) == 0 and remi_bars.word_error_rate([1], []) == 1
    assert remi_bars.word_error_rate([], [1, 2]) == 1
    assert remi_bars.sequence_overlap_rate([], []) == 1 and remi_bars.sequence_overlap_rate([], [1]) == 1
    assert remi_bars.sequence_overlap_rate([1], []) == 0


# position, instrument, pitch, duration: piano chord and bass on one, melody on two, a drum
TARGET = np.array([[0, 0, 64, 12], [0, 0, 60, 12], [0, 32, 36, 24], [0, 128, 164, 1], [12, 0, 67, 12]])


def test_a_bar_is_like_itself() -> None:
    found = remi_bars.compare(TARGET, TARGET)
    ones = ("bar_inst_iou", "bar_pitch_sor", "bar_groove_sor", "bar_melody_sor", "track_sor", "track_texture_acc")
    assert all(found[name] == 1 for name in ones)
    assert all(value == 0 for name, value in found.items() if name not in ones)


def test_sequences_of_a_bar() -> None:
    assert remi_bars.pitch_sequence(TARGET).tolist() == [164, 64, 60, 36, 67]
    assert remi_bars.melody(TARGET).tolist() == [64, 67]
    assert remi_bars.groove(TARGET).tolist() == [0, 12]
    assert remi_bars.voices(TARGET).tolist() == [0, 32, 128]


def test_one_instrument_an_octave_lower_and_twice_as_long() -> None:
    output = TARGET.copy()
    bass = output[:, 1] == 32
    output[bass, 2] -= 12
    output[bass, 3] *= 2
    found = remi_bars.compare(output, TARGET)
    assert found["bass_wer"] == 1 and found["drum_wer"] == 0 and found["bar_melody_wer"] == 0
    assert found["track_range_diff"] == pytest.approx(0.12 / 3)
    assert found["note_duration_diff"] == pytest.approx(24 / 12 / 100 / 3)
    assert found["track_sor"] == pytest.approx(2 / 3)
    assert found["bar_pitch_wer"] == pytest.approx(1 / 5)


def test_every_shared_instrument_counts_for_texture_not_only_the_last() -> None:
    output = TARGET[[0, 2, 3, 4]]  # the piano's chord lost a note: 1 a position instead of 1.5
    assert remi_bars.compare(output, TARGET)["track_texture_acc"] == pytest.approx(2 / 3)


def test_bars_without_notes_or_without_shared_instruments() -> None:
    empty = np.empty((0, 4), np.int64)
    found = remi_bars.compare(empty, TARGET)
    assert found["bar_inst_iou"] == 0 and math.isnan(found["track_sor"])
    assert remi_bars.compare(empty, empty)["bar_inst_iou"] == 1
    mean = remi_bars.average([found, remi_bars.compare(TARGET, TARGET)])
    assert mean["bar_inst_iou"] == 0.5 and mean["track_sor"] == 1
    with pytest.raises(ValueError, match=r"\[N, 4\]"):
        remi_bars.compare(np.zeros((2, 3)), TARGET)


def test_bars_are_read_from_words() -> None:
    words = "o-0 i-0 p-64 d-12 p-60 d-12 i-32 p-36 d-18 i-128 p-164 d-1 o-12 i-0 p-67 d-12 b-1 b-1"
    first, second = remi.bar_notes(remi.from_words(words))
    np.testing.assert_array_equal(first, TARGET)
    assert second.shape == (0, 4)


def test_bass_and_drums_that_neither_bar_has_are_left_out_of_means():
    piano, drums = np.array([[0, 0, 60, 12]]), np.array([[0, 128, 36, 12]])
    found = remi_bars.compare(piano, piano)
    assert np.isnan(found["bass_wer"]) and np.isnan(found["drum_wer"])
    assert remi_bars.compare(piano, drums)["drum_wer"] == 1 and remi_bars.compare(drums, piano)["drum_wer"] == 1
    assert remi_bars.compare(drums, drums)["drum_wer"] == 0
    assert remi_bars.average([found, remi_bars.compare(piano, drums)])["drum_wer"] == 1
