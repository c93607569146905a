"""Which tokens are masked, and how: the laws of masking, against counts and a token-by-token restatement."""

from __future__ import annotations

import numpy as np
import pytest

from musicbert_plugin.codecs.octuple import BAR, FIELD_SIZES, MASK, PAD, PROGRAM, VOCABULARY_SIZE, frame
from musicbert_plugin.data.octuple_masking import (
    KEPT,
    MASKED,
    RANDOM,
    UNCHANGED,
    MaskingProbabilities,
    OctupleMasking,
    apply_states,
    draw_states,
    octuple_units,
    parse_strategies,
)
from musicbert_plugin.errors import OptionError


def piece(notes: int = 400, bars: int = 30, programs: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    octuples = rng.integers(0, np.minimum(FIELD_SIZES, [bars, 64, programs, 128, 128, 32, 254, 49]), (notes, 8))
    return octuples[np.lexsort(octuples.T[::-1])]


def sample(**size: int) -> np.ndarray:
    return frame(piece(**size)).astype(np.int64)


def drawn_states(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """States as a reader of the batch can tell them: a random word that happens to be the true one looks unchanged."""
    states = np.full(source.shape, UNCHANGED)
    states[source != target] = RANDOM
    states[source == MASK] = MASKED
    states[target == PAD] = KEPT
    return states


def standard_deviations(count: int, of: int, probability: float) -> float:
    return abs(count - of * probability) / np.sqrt(of * probability * (1 - probability))


def test_states_have_the_probabilities_of_the_law() -> None:
    law = MaskingProbabilities(mask_prob=0.3, random_token_prob=0.2, leave_unmasked_prob=0.05)
    states = draw_states(400_000, law, np.random.default_rng(1))
    for state, probability in {MASKED: 0.3 * 0.75, UNCHANGED: 0.3 * 0.05, RANDOM: 0.3 * 0.2, KEPT: 0.7}.items():
        assert standard_deviations(int((states == state).sum()), 400_000, probability) < 4


@pytest.mark.parametrize("probability, state", [(0.0, KEPT), (1.0, MASKED)])
def test_nothing_or_everything_is_masked_at_the_ends_of_the_range(probability: float, state: int) -> None:
    states = draw_states(10_000, MaskingProbabilities(probability, 0.0, 0.0), np.random.default_rng(1))
    assert (states == state).all()


def test_source_and_target_of_each_state() -> None:
    tokens = np.array([10, 11, 12, 13])
    states = np.array([KEPT, MASKED, UNCHANGED, RANDOM], dtype=np.uint8)
    source, target = apply_states(tokens, states, np.random.default_rng(0), mask=99, pad=1, words=(50, 51))
    assert source.tolist() == [10, 99, 12, 50]
    assert target.tolist() == [1, 11, 12, 13]
    assert tokens.tolist() == [10, 11, 12, 13]


def reference_units(octuples: np.ndarray, strategy: str, mask_unit: str) -> list[list[object]]:
    """Name each token's unit, one token at a time."""
    names: list[list[object]] = [["<s>"] * 8]
    for index, note in enumerate(octuples):
        if strategy == "element":
            names.append([(index, field) for field in range(8)])
        elif strategy == "compound":
            names.append([index] * 8)
        elif mask_unit == "bar":
            names.append([(note[BAR], field) for field in range(8)])
        else:
            names.append([(note[BAR], note[PROGRAM], field) for field in range(8)])
    return [*names, ["</s>"] * 8]


@pytest.mark.parametrize("strategy", ["bar", "compound", "element"])
@pytest.mark.parametrize("mask_unit", ["bar-instrument", "bar"])
@pytest.mark.parametrize("programs, bars", [(4, 30), (129, 256), (1, 1)])
def test_tokens_share_a_unit_exactly_when_the_definition_says_so(
    strategy: str, mask_unit: str, programs: int, bars: int
) -> None:
    octuples = piece(programs=programs, bars=bars)
    units, count = octuple_units(frame(octuples).astype(np.int64), strategy, mask_unit)
    names = [name for row in reference_units(octuples, strategy, mask_unit) for name in row]
    pairs = set(zip(names, units.ravel().tolist(), strict=True))
    assert len(pairs) == len(set(names)) == count
    assert sorted(set(units.ravel().tolist())) == list(range(count))


@pytest.mark.parametrize("strategy", ["bar", "compound", "element"])
def test_a_piece_without_notes_is_two_units(strategy: str) -> None:
    units, count = octuple_units(sample(notes=0), strategy)
    assert units.tolist() == [[0] * 8, [1] * 8]
    assert count == 2


@pytest.mark.parametrize("mask_unit", ["bar-instrument", "bar"])
def test_a_field_of_a_bar_is_masked_as_a_whole_and_independently_of_the_other_fields(mask_unit: str) -> None:
    octuples = piece()
    tokens, masking = frame(octuples).astype(np.int64), OctupleMasking(mask_unit=mask_unit)
    rng = np.random.default_rng(5)
    keys = octuples[:, BAR] * 129 + (octuples[:, PROGRAM] if mask_unit == "bar-instrument" else 0)
    _, first = np.unique(keys, return_index=True)
    targets = np.zeros((8, 8))
    units = 0
    for _ in range(400):
        source, target = masking(tokens, rng)
        is_target = (target != PAD).reshape(-1, 8)[1:-1]
        assert (is_target == is_target[first][np.unique(keys, return_inverse=True)[1]]).all()
        drawn = is_target[first].astype(float)
        targets += drawn.T @ drawn
        units += len(first)
    # Counts of one field, and of two fields at once, follow p and p squared.
    for i in range(8):
        for j in range(8):
            assert standard_deviations(int(targets[i, j]), units, 0.15 if i == j else 0.15**2) < 4.5


@pytest.mark.parametrize("strategy", ["bar", "compound", "element"])
def test_eight_in_ten_targets_are_masks_one_is_random_and_one_is_itself(strategy: str) -> None:
    # One note to a bar, so that every strategy has many units.
    octuples = np.tile([0, 3, 5, 60, 9, 16, 9, 35], (250, 1))
    octuples[:, BAR] = np.arange(250)
    tokens, rng = frame(octuples).astype(np.int64), np.random.default_rng(3)
    masking = OctupleMasking(strategies=(strategy,))
    states = np.concatenate([drawn_states(*masking(tokens, rng)).reshape(-1, 8)[1:-1, 4] for _ in range(400)])
    same_word = 0.015 / (VOCABULARY_SIZE - 4)
    assert standard_deviations(int((states == MASKED).sum()), states.size, 0.12) < 4
    assert standard_deviations(int((states == RANDOM).sum()), states.size, 0.015 - same_word) < 4
    assert standard_deviations(int((states == UNCHANGED).sum()), states.size, 0.015 + same_word) < 4


def test_each_frame_octuple_is_masked_as_a_whole() -> None:
    tokens, rng, masking = sample(notes=5), np.random.default_rng(4), OctupleMasking(strategies=("element",))
    first, last = [], []
    for _ in range(4000):
        is_target = masking(tokens, rng)[1].reshape(-1, 8) != PAD
        for edge, counts in ((is_target[0], first), (is_target[-1], last)):
            assert edge.all() or not edge.any()
            counts.append(edge[0])
    assert standard_deviations(sum(first), 4000, 0.15) < 4
    assert standard_deviations(sum(last), 4000, 0.15) < 4
    assert standard_deviations(int(np.sum(np.array(first) & np.array(last))), 4000, 0.15**2) < 4


def test_random_words_are_uniform_over_the_dictionary_and_never_special() -> None:
    tokens, rng = sample(notes=900), np.random.default_rng(6)
    masking = OctupleMasking(MaskingProbabilities(1.0, 1.0, 0.0))
    words = np.concatenate([masking(tokens, rng)[0] for _ in range(60)])
    counts = np.bincount(words, minlength=MASK + 1)
    assert counts[:4].sum() == 0 and counts[MASK] == 0
    expected = words.size / (VOCABULARY_SIZE - 4)
    chi_squared = float(((counts[4:MASK] - expected) ** 2 / expected).sum())
    assert abs(chi_squared - 1231) / np.sqrt(2 * 1231) < 4


def test_the_words_of_one_random_unit_differ_from_token_to_token() -> None:
    octuples = np.tile([7, 3, 5, 60, 9, 16, 9, 35], (50, 1))
    source, _ = OctupleMasking(MaskingProbabilities(1.0, 1.0, 0.0))(
        frame(octuples).astype(np.int64), np.random.default_rng(0)
    )
    assert len(np.unique(source.reshape(-1, 8)[1:-1, 3])) > 40


def test_several_strategies_are_drawn_equally_often() -> None:
    tokens, rng = sample(notes=60), np.random.default_rng(7)
    masking = OctupleMasking(strategies=("compound", "element"))
    compound = 0
    for _ in range(2000):
        is_target = masking(tokens, rng)[1].reshape(-1, 8)[1:-1] != PAD
        compound += bool((is_target == is_target[:, :1]).all())
    assert standard_deviations(compound, 2000, 0.5) < 4


def test_the_same_generator_state_gives_the_same_masks_and_another_gives_others() -> None:
    tokens, masking = sample(), OctupleMasking()
    first, again, other = (masking(tokens, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    assert (first[1] != other[1]).any()


def test_only_as_many_random_numbers_are_drawn_as_there_are_units() -> None:
    octuples = np.tile([7, 3, 5, 60, 9, 16, 9, 35], (500, 1))
    rng, reference = np.random.default_rng(9), np.random.default_rng(9)
    OctupleMasking(MaskingProbabilities(0.15, 0.0, 0.0))(frame(octuples).astype(np.int64), rng)
    reference.random(8 + 2, dtype=np.float32)
    assert rng.random() == reference.random()


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaskingProbabilities(mask_prob=1.5),
        lambda: MaskingProbabilities(random_token_prob=-0.1),
        lambda: MaskingProbabilities(random_token_prob=0.6, leave_unmasked_prob=0.6),
        lambda: OctupleMasking(strategies=("bars",)),
        lambda: OctupleMasking(strategies=()),
        lambda: OctupleMasking(mask_unit="instrument"),
    ],
)
def test_impossible_options_are_refused_in_a_sentence_with_the_option(make: object) -> None:
    with pytest.raises(OptionError, match=r"^(mask|random)_.*\.$"):
        make()  # type: ignore[operator]


def test_strategies_are_joined_by_plus_or_comma() -> None:
    assert parse_strategies("bar+element, compound") == ("bar", "element", "compound")
    assert parse_strategies("") == ()
