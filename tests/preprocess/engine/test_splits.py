"""Splits are drawn by a seeded hash, and no split that is wanted stays empty."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.errors import OptionError
from preprocess.engine.splits import balance, chance, draw, parse_ratios, read_groups, read_splits


def free(count: int) -> tuple[np.ndarray, np.ndarray]:
    keys = np.array([int(chance(7, number) * 2**64) for number in range(count)], np.uint64)
    return keys, np.full(count, -1, np.int8)


def test_shares_of_many_pieces_are_the_ratios() -> None:
    split = draw(*free(20_000), parse_ratios("90,6,4"), seed=1)
    assert np.bincount(split) / 20_000 == pytest.approx([0.90, 0.06, 0.04], abs=0.01)


def test_a_ratio_of_zero_is_an_empty_split() -> None:
    assert set(draw(*free(5_000), parse_ratios("1,0,1"), 3).tolist()) == {0, 2}
    assert set(draw(*free(5_000), parse_ratios("1,0,0"), 3).tolist()) == {0}


@settings(max_examples=200, deadline=None)
@given(st.integers(3, 40), st.integers(0, 10**6))
def test_from_three_pieces_on_no_wanted_split_is_empty(count: int, seed: int) -> None:
    assert set(draw(*free(count), parse_ratios("98,1,1"), seed).tolist()) == {0, 1, 2}


def test_more_pieces_leave_the_others_where_they_were() -> None:
    keys, fixed = free(2_000)
    ratios = parse_ratios("80,10,10")
    fewer, more = draw(keys[:1_000], fixed[:1_000], ratios, 1), draw(keys, fixed, ratios, 1)
    assert np.array_equal(fewer, more[:1_000])


def test_what_is_fixed_stays_fixed() -> None:
    keys, fixed = free(100)
    fixed[:50] = 2
    split = draw(keys, fixed, parse_ratios("98,1,1"), 1)
    assert (split[:50] == 2).all() and set(split[50:].tolist()) >= {0, 1}


def test_fewer_pieces_than_splits_are_refused() -> None:
    with pytest.raises(OptionError, match="holds 2 pieces"):
        draw(*free(2), parse_ratios("98,1,1"), 1)
    assert sorted(draw(*free(2), parse_ratios("98,0,2"), 1).tolist()) == [0, 2]


def distance(split: np.ndarray, sizes: np.ndarray, ratios: tuple[float, float, float]) -> float:
    """Of the shares of a split from the ratios, a small one counting as much as a large one."""
    shares = np.bincount(split, sizes, 3) / sizes.sum()
    return float(((shares - ratios) ** 2 / np.array(ratios)).sum())


@pytest.mark.parametrize("groups", [3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_a_handful_of_groups_fills_the_ratios_as_well_as_any_choice_could(groups: int, seed: int) -> None:
    sizes = np.exp(np.random.default_rng(seed).normal(8, 1.2, groups)).astype(np.int64)
    keys, fixed = free(groups)
    ratios = parse_ratios("80,10,10")
    split = balance(draw(keys, fixed, ratios, seed), sizes, fixed, ratios)
    choices = [np.array(choice) for choice in itertools.product(range(3), repeat=groups) if len(set(choice)) == 3]
    assert distance(split, sizes, ratios) <= min(distance(choice, sizes, ratios) for choice in choices) + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=60), st.integers(0, 10**6), st.data())
def test_filling_brings_no_split_further_from_its_ratio_and_empties_none(sizes, seed, data) -> None:
    keys, fixed = free(len(sizes))
    fixed[: data.draw(st.integers(0, len(sizes) - 3))] = data.draw(st.integers(0, 2))
    ratios = parse_ratios("80,10,10")
    drawn = draw(keys, fixed, ratios, seed)
    filled = balance(drawn, np.array(sizes), fixed, ratios)
    assert set(filled.tolist()) == set(drawn.tolist()) and (filled[fixed >= 0] == fixed[fixed >= 0]).all()
    if sum(sizes):
        assert distance(filled, np.array(sizes), ratios) <= distance(drawn, np.array(sizes), ratios) + 1e-9


def test_twenty_albums_of_different_lengths_come_within_a_hundredth_of_the_ratios() -> None:
    sizes = np.random.default_rng(1).integers(1000, 30_000, 20)
    keys, fixed = free(20)
    ratios = parse_ratios("80,10,10")
    drawn = draw(keys, fixed, ratios, 1)
    shares = np.bincount(balance(drawn, sizes, fixed, ratios), sizes, 3) / sizes.sum()
    np.testing.assert_allclose(shares, ratios, atol=0.01)
    assert np.abs(np.bincount(drawn, sizes, 3) / sizes.sum() - ratios).max() > 0.03  # by chance alone


@pytest.mark.parametrize("text", ["", "1", "1,2", "a,b,c", "1,-1,1", "0,0,0", "nan,1,1", "inf,1,1"])
def test_ratios_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="three numbers"):
        parse_ratios(text)


def test_one_piece_is_enough_where_the_user_says_where_it_goes() -> None:
    assert draw(free(1)[0], np.array([2], np.int8), parse_ratios("98,1,1"), 1).tolist() == [2]


def test_tables_are_read_by_the_names_of_their_columns(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text('\ufefflabel,split,file\nx,test,"a, b.mid"\n', encoding="utf-8")
    (tmp_path / "g.tsv").write_text("group\tfile\nG 1\ta.mid\n\tb.mid\n")
    assert read_splits(str(tmp_path / "s.csv")) == {"a, b.mid": "test"}
    assert read_groups(str(tmp_path / "g.tsv")) == {"a.mid": "G 1"}


def test_tables_of_spreadsheets_and_split_names_of_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("file; split\r\na.mid; Validation\r\nb.mid;dev \r\n;;\r\n")
    (tmp_path / "g.tsv").write_text("file, group\na.mid, x\n")
    assert read_splits(str(tmp_path / "s.csv")) == {"a.mid": "valid", "b.mid": "valid"}
    assert read_groups(str(tmp_path / "g.tsv")) == {"a.mid": "x"}
    (tmp_path / "s.csv").write_text("file,split,split\na.mid,train,test\n")
    with pytest.raises(OptionError, match=r"--splits .*s.csv: 2 columns are named split"):
        read_splits(str(tmp_path / "s.csv"))


def test_a_file_with_two_splits_or_groups_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("file,split\na.mid,train\na.mid,test\n")
    (tmp_path / "g.tsv").write_text("file\tgroup\na.mid\tx\na.mid\ty\n")
    with pytest.raises(OptionError, match=r"a\.mid is in both train and test"):
        read_splits(str(tmp_path / "s.csv"))
    with pytest.raises(OptionError, match=r"a\.mid is in both x and y"):
        read_groups(str(tmp_path / "g.tsv"))
