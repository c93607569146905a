"""Folds have equal shares of every class, and never divide what stays together."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.engine.folds import assign_folds, class_counts
from preprocess.engine.split_plan import number_groups, tie_groups


def keys_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(1, 2**63, count).astype(np.uint64)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 6), st.integers(6, 40))
def test_a_fold_never_splits_a_unit(data: st.DataObject, folds: int, files: int) -> None:
    """A unit is a copy group united with the user's groups, however the two overlap."""
    copies = np.array(data.draw(st.lists(st.integers(0, files - 1), min_size=files, max_size=files)))
    copies = np.minimum(copies, np.arange(files))
    while not (copies[copies] == copies).all():
        copies = copies[copies]
    ties = data.draw(st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=files, max_size=files))
    labels = data.draw(st.lists(st.sampled_from("xyz"), min_size=files, max_size=files))
    roots = tie_groups(copies, ties, np.full(files, -1, np.int8), [str(number) for number in range(files)])
    unit, keys = number_groups(roots, keys_of(files))
    if len(keys) < folds:
        return
    counts = class_counts([[label] for label in labels], unit, len(keys))
    fold = assign_folds(np.bincount(unit), counts, keys, folds, seed=1)[unit]
    assert set(fold.tolist()) == set(range(folds))
    for one in range(files):
        for other in range(one):
            if copies[one] == copies[other] or (ties[one] is not None and ties[one] == ties[other]):
                assert fold[one] == fold[other]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=80), st.integers(2, 7), st.integers(0, 3))
def test_single_files_of_a_class_differ_by_one_at_most_between_folds(labels: list[int], folds: int, seed: int) -> None:
    files = len(labels)
    counts = np.eye(4, dtype=np.int64)[labels]
    fold = assign_folds(np.ones(files, np.int64), counts, keys_of(files), folds, seed)
    held = np.array([counts[fold == number].sum(axis=0) for number in range(folds)])
    if files >= 4 * folds:  # otherwise a fold may need a file that would leave it empty
        assert (held.max(axis=0) - held.min(axis=0) <= 1).all()
    alone = assign_folds(np.ones(files, np.int64), counts[:, :0], keys_of(files), folds, seed)
    assert np.ptp(np.bincount(alone, minlength=folds)) <= 1


def test_folds_depend_on_content_and_seed_and_not_on_order() -> None:
    random = np.random.default_rng(0)
    sizes, keys = random.integers(1, 6, 50), keys_of(50)
    counts = random.integers(0, 3, (50, 4))
    fold = assign_folds(sizes, counts, keys, 5, seed=1)
    order = random.permutation(50)
    assert assign_folds(sizes[order], counts[order], keys[order], 5, seed=1).tolist() == fold[order].tolist()
    assert assign_folds(sizes, counts, keys, 5, seed=2).tolist() != fold.tolist()


def test_a_large_unit_has_a_fold_of_its_own_and_the_others_are_equal() -> None:
    sizes = np.array([1] * 12 + [20])
    fold = assign_folds(sizes, np.zeros((13, 0), np.int64), keys_of(13), 4, seed=1)
    assert sorted(np.bincount(fold, sizes).tolist()) == [4, 4, 4, 20]
