"""Masked-token metrics against values worked out by hand and against a loop over tokens."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from musicbert_plugin.metrics import masked_tokens
from musicbert_plugin.metrics.masked_tokens import accuracy, majority_accuracy, majority_tokens, perplexity, validate


def test_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(masked_tokens, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_accuracy_counts_each_field_by_itself() -> None:
    rng = np.random.default_rng(0)
    reference, estimate, field = rng.integers(0, 3, 500), rng.integers(0, 3, 500), rng.integers(0, 7, 500)
    result = accuracy(reference, estimate, field)
    for index in range(7):
        tokens = [i for i in range(500) if field[i] == index]
        assert result[index] == sum(reference[i] == estimate[i] for i in tokens) / len(tokens)
    assert np.isnan(result[7])


def test_a_perfect_guess_has_accuracy_one_and_perplexity_one() -> None:
    tokens, field = np.arange(80), np.arange(80) % 8
    assert (accuracy(tokens, tokens, field) == 1).all()
    assert (perplexity(np.zeros(80), field) == 1).all()


def test_a_uniform_guess_over_n_words_has_perplexity_n() -> None:
    assert perplexity(np.full(10, np.log(1232)), np.full(10, 5))[5] == pytest.approx(1232, rel=1e-12)


def test_perplexity_is_the_geometric_mean_of_inverse_probabilities() -> None:
    probabilities = np.random.default_rng(1).uniform(0.01, 1, 60)
    field = np.arange(60) % 8
    result = perplexity(-np.log(probabilities), field)
    for index in range(8):
        inverse = 1 / probabilities[field == index]
        assert result[index] == pytest.approx(np.prod(inverse) ** (1 / len(inverse)), rel=1e-12)


def test_the_majority_token_is_the_most_frequent_and_of_several_the_smallest() -> None:
    octuples = np.zeros((4, 8), dtype=int)
    octuples[:, 3] = [60, 62, 62, 60]
    octuples[:, 6] = [9, 9, 8, 9]
    assert majority_tokens(octuples).tolist() == [0, 0, 0, 60, 0, 0, 9, 0]


def test_no_constant_answer_beats_the_majority_token_on_its_own_data() -> None:
    octuples = np.random.default_rng(2).integers(0, 5, (300, 8))
    best = majority_accuracy(octuples, majority_tokens(octuples))
    for token in range(5):
        assert (majority_accuracy(octuples, np.full(8, token)) <= best).all()


def test_without_tokens_every_metric_is_undefined() -> None:
    assert np.isnan(accuracy([], [], [])).all()
    assert np.isnan(perplexity([], [])).all()
    assert np.isnan(majority_accuracy(np.zeros((0, 8), int), np.zeros(8, int))).all()
    with pytest.raises(ValueError, match="no octuples"):
        majority_tokens(np.zeros((0, 8), int))


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (([1, 2], [1], [0, 0]), "estimate has 1 tokens, but reference has 2"),
        (([1.5], [1], [0]), "reference has shape .* integers are expected"),
        (([[1]], [[1]], [[0]]), "reference has shape"),
        (([1], [1], [8]), "field lies between 8 and 8"),
        (([1], [1], [-1]), "field lies between -1 and -1"),
    ],
)
def test_malformed_arguments_are_refused(arguments: tuple[list, list, list], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        validate(*arguments)


def test_octuples_have_eight_fields() -> None:
    with pytest.raises(ValueError, match=r"\[N, 8\]"):
        majority_accuracy(np.zeros((3, 7), int), np.zeros(8, int))
    with pytest.raises(ValueError, match=r"both are \[N\]"):
        perplexity([0.1, 0.2], [1])
