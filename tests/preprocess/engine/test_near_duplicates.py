"""What counts as a copy, against a reference that compares all pairs note by note."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.engine.near_duplicates import SKETCH, Fingerprint, UnionFind, copy_groups, fingerprint_of, share


def notes(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Onsets (ticks, 480 to the quarter) and pitches of a random piece on the grid of sixteenths."""
    random = np.random.default_rng(seed)
    return np.sort(random.integers(0, 2 * count, count)) * 120, random.integers(40, 80, count)


def fingerprint(
    onset: np.ndarray, pitch: np.ndarray, drums: np.ndarray | None = None, resolution: int = 480
) -> Fingerprint:
    drums = np.zeros(len(onset), bool) if drums is None else drums
    return fingerprint_of(np.asarray(onset, np.int64), np.asarray(pitch), drums, resolution)


def grouped(fingerprints: list[Fingerprint]) -> list[int]:
    groups = copy_groups(
        np.array([one.sequence for one in fingerprints], np.uint64),
        np.array([one.contour for one in fingerprints], np.uint64),
        np.array([one.span for one in fingerprints]),
        np.stack([one.timing for one in fingerprints]),
        np.stack([one.sketch for one in fingerprints]),
        np.array([len(one.shingles) for one in fingerprints]),
        lambda piece: fingerprints[piece].shingles,
    )
    return groups.roots().tolist()


def brute_force_share(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """The share of note shingles, from its definition (480 ticks to the quarter)."""
    bags = []
    for onset, pitch in (first, second):
        events = sorted({(int(np.floor(o / 120 + 0.5)), int(p)) for o, p in zip(onset, pitch, strict=True)})
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(events, events[1:], strict=False)]
        bags.append(Counter(zip(steps, steps[1:], strict=False)))
    common = sum((bags[0] & bags[1]).values())
    return common / max(sum(bags[0].values()), sum(bags[1].values()), 1)


@pytest.mark.parametrize("semitones", [-12, -5, 1, 7])
def test_a_transposition_is_a_copy(semitones: int) -> None:
    onset, pitch = notes(1)
    assert fingerprint(onset, pitch).sequence == fingerprint(onset, pitch + semitones).sequence


@pytest.mark.parametrize("factor", [2, 3, 7, 0.5])
def test_a_piece_in_another_time_scale_is_a_copy(factor: float) -> None:
    onset, pitch = notes(2)
    scaled = (onset * factor).astype(np.int64)
    assert fingerprint(onset, pitch).sequence == fingerprint(scaled, pitch).sequence


@pytest.mark.parametrize("factor", [1.1, 1.37, 2.5, 0.91])
def test_a_piece_in_another_time_scale_is_a_copy_even_where_its_times_had_to_be_rounded(factor: float) -> None:
    onset, pitch = notes(2)
    onset = onset + np.arange(len(onset)) * 7 % 60  # as if played
    scaled = np.rint(onset * factor).astype(np.int64)
    first, second = fingerprint(onset, pitch), fingerprint(scaled, pitch + 2)
    assert first.sequence != second.sequence
    assert share(first.shingles, second.shingles) < 0.9
    assert grouped([first, second]) == [0, 0]


def test_silence_before_a_piece_makes_no_other_piece() -> None:
    onset, pitch = notes(3)
    assert fingerprint(onset, pitch).sequence == fingerprint(onset + 1920, pitch).sequence


def test_the_order_of_notes_and_doubled_notes_make_no_other_piece() -> None:
    onset, pitch = notes(4)
    order = np.random.default_rng(0).permutation(len(onset))
    assert fingerprint(onset, pitch).sequence == fingerprint(onset[order], pitch[order]).sequence
    twice = np.concatenate([onset, onset]), np.concatenate([pitch, pitch])
    assert fingerprint(onset, pitch).sequence == fingerprint(*twice).sequence


def test_drums_play_no_part_beside_melody() -> None:
    onset, pitch = notes(5)
    beat = np.arange(0, 48000, 480)
    drums = np.arange(len(onset) + len(beat)) >= len(onset)
    with_drums = fingerprint(np.concatenate([onset, beat]), np.concatenate([pitch, np.full(len(beat), 36)]), drums)
    assert with_drums.sequence == fingerprint(onset, pitch).sequence
    assert np.array_equal(with_drums.shingles, fingerprint(onset, pitch).shingles)


def test_drum_patterns_are_told_apart_by_their_drums() -> None:
    beat = np.arange(0, 48000, 480)
    all_drums = np.ones(len(beat), bool)
    kick, snare = (fingerprint(beat, np.full(len(beat), key), all_drums) for key in (36, 38))
    again = fingerprint(beat * 2, np.full(len(beat), 36), all_drums)
    assert kick.sequence != snare.sequence
    assert kick.sequence == again.sequence
    assert grouped([kick, snare, again]) == [0, 1, 0]


def test_the_same_pitches_in_another_rhythm_are_another_piece() -> None:
    onset, pitch = np.arange(50) * 240, notes(6, 50)[1]
    swung = onset + (np.arange(50) % 2) * 120
    assert grouped([fingerprint(onset, pitch), fingerprint(swung, pitch)]) == [0, 1]


def test_a_retimed_performance_is_a_near_copy() -> None:
    onset, pitch = notes(7)
    played = onset + np.random.default_rng(0).integers(-20, 21, len(onset)).clip(-onset, None)
    assert fingerprint(onset, pitch).sequence != fingerprint(played, pitch).sequence
    assert grouped([fingerprint(onset, pitch), fingerprint(played, pitch)]) == [0, 0]


def test_a_piece_with_a_few_other_notes_is_a_near_copy_in_any_key() -> None:
    onset, pitch = notes(8, 400)
    edited = pitch.copy() + 3
    edited[::80] += 1
    assert grouped([fingerprint(onset, pitch), fingerprint(onset, edited)]) == [0, 0]


def test_half_of_a_piece_is_no_copy_of_it() -> None:
    onset, pitch = notes(9)
    assert grouped([fingerprint(onset, pitch), fingerprint(onset[:100], pitch[:100])]) == [0, 1]


def test_copies_of_copies_are_in_one_group() -> None:
    onset, pitch = notes(10, 400)
    chain = []
    for changed in (0, 12, 24):  # the ends differ by too much to be copies of each other
        edited = pitch.copy()
        edited[: 12 * changed : 12] += 1
        chain.append((onset, edited))
    assert brute_force_share(chain[0], chain[2]) < 0.9 <= brute_force_share(chain[0], chain[1])
    assert grouped([fingerprint(*one) for one in chain]) == [0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 120), st.integers(0, 12))
def test_the_share_of_shingles_is_that_of_the_definition(seed: int, count: int, changes: int) -> None:
    onset, pitch = notes(seed, count)
    random = np.random.default_rng(seed)
    edited = pitch.copy()
    edited[random.integers(0, count, changes)] += random.integers(1, 12, changes)
    first, second = fingerprint(onset, pitch), fingerprint(onset, edited)
    assert share(first.shingles, second.shingles) == pytest.approx(brute_force_share((onset, pitch), (onset, edited)))


def test_groups_are_those_of_comparing_all_pairs() -> None:
    """Thirty pieces and for each some edits of every strength: the sketches find what brute force finds."""
    random = np.random.default_rng(0)
    pieces = []
    for seed in range(30):
        onset, pitch = notes(seed, int(random.integers(20, 150)))
        pieces.append((onset, pitch))
        for _ in range(3):
            edited = pitch + random.integers(-5, 6)
            changes = random.integers(0, len(pitch) // 10 + 1)
            edited[random.integers(0, len(pitch), changes)] += 1
            pieces.append((onset, edited))
    reference = UnionFind(len(pieces))
    for i in range(len(pieces)):
        for j in range(i):
            if brute_force_share(pieces[i], pieces[j]) >= 0.9:
                reference.unite(i, j)
    assert grouped([fingerprint(*one) for one in pieces]) == reference.roots().tolist()


def test_a_loop_with_a_few_changes_is_a_near_copy_of_it_but_not_of_a_shorter_loop() -> None:
    onset, pitch = np.arange(320) * 120, np.tile([60, 64, 67, 72, 67, 64, 62, 65], 40)
    changed = pitch.copy()
    changed[[50, 200]] += 1
    same, edited = fingerprint(onset, pitch), fingerprint(onset, changed)
    half = fingerprint(onset[:160], pitch[:160])
    assert grouped([same, edited, half]) == [0, 0, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_shortest_pieces_have_an_identity(count: int) -> None:
    onset, pitch = notes(11, 8)
    one = fingerprint(onset[:count], pitch[:count])
    assert one.sketch.shape == (SKETCH,)
    assert len(one.shingles) == max(count - 2, 0)
    assert grouped([one, fingerprint(onset[:count] * 2, pitch[:count] + 2), fingerprint(*notes(12))]) == [0, 0, 2]


def test_sets_are_named_by_their_smallest_member() -> None:
    groups = UnionFind(6)
    groups.unite(5, 3)
    groups.unite_equal(np.array([0, 1, 2]), np.array([7, 8, 7]))
    groups.unite(3, 2)
    assert groups.roots().tolist() == [0, 1, 0, 0, 4, 0]
