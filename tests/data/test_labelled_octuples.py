"""Sidecars of labelled octuples: what is read, what is refused, and folds that split no unit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.data.indexed_dataset import IndexedDatasetWriter
from musicbert_plugin.data.labelled_octuples import (
    NOTE_TYPE,
    check_items,
    fold_parts,
    labels_path,
    note_classes,
    note_labels_prefix,
    open_note_labels,
    pairs_path,
    read_labels,
    read_pairs,
)
from musicbert_plugin.errors import DatasetError, OptionError

HEADER = "file,item,notes,piece,group,fold"


def write(folder: Path, *rows: str, columns: str = ",composer") -> Path:
    labels_path(folder, "train").write_text("\n".join([HEADER + columns, *rows, ""]), encoding="utf-8")
    return folder


def test_a_table_of_items_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, "a.mid,0,300,a,g0,,Bach", "a.mid,1,20,a,g0,,", 'b.mid,2,7,b,g1,,"Orff, Carl"')
    items = read_labels(tmp_path, "train")
    assert items.files == ["a.mid", "a.mid", "b.mid"] and items.pieces == ["a", "a", "b"]
    assert items.notes.tolist() == [300, 20, 7] and items.folds.tolist() == [-1, -1, -1]
    assert items.labels == {"composer": ["Bach", "", "Orff, Carl"]}
    assert items.take([2, 0]).labels == {"composer": ["Orff, Carl", "Bach"]}
    assert items.take([2, 0]).item.tolist() == [2, 0]
    check_items(items, np.array([302, 22, 9]) * 8, tmp_path / "train")
    with pytest.raises(DatasetError, match=r"train\.bin and train\.labels\.csv list different items"):
        check_items(items, np.array([302, 22, 10]) * 8, tmp_path / "train")


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (["a.mid,1,3,a,g,,x"], ",c", "line 2: item '1', but items are numbered from 0"),
        (["a.mid,0,three,a,g,,x"], ",c", "line 2: notes is 'three', but a whole number is accepted"),
        (["a.mid,0,3,a,g,0,x", "b.mid,1,3,b,h,,x"], ",c", "line 3: no fold, but other rows have one"),
        (["a.mid,0,3,a,g,,x,y"], ",c,c", "two columns named 'c'"),
        (["a.mid,0,3,a"], ",c", "line 2 has not the columns file, item, notes, piece, group, fold and labels"),
    ],
)
def test_damaged_tables_are_refused_in_a_sentence(tmp_path: Path, rows: list[str], columns: str, said: str) -> None:
    write(tmp_path, *rows, columns=columns)
    with pytest.raises(DatasetError) as error:
        read_labels(tmp_path, "train")
    assert said in str(error.value)


def test_note_labels_match_the_notes(tmp_path: Path) -> None:
    writer = IndexedDatasetWriter(note_labels_prefix(tmp_path, "train", "voice"), NOTE_TYPE)
    writer.add(np.array([0, 1, 2]))
    writer.add(np.array([2]))
    writer.close()
    labels = open_note_labels(tmp_path, "train", "voice", np.array([3, 1]))
    assert labels.read(0, 1, 3).tolist() == [1, 2]
    with pytest.raises(DatasetError, match="has 1 labels for item 1, which has 2 notes"):
        open_note_labels(tmp_path, "train", "voice", np.array([3, 2]))
    with pytest.raises(DatasetError, match="has labels of 2 items, but train has 1"):
        open_note_labels(tmp_path, "train", "voice", np.array([3]))
    assert note_classes({"note_labels": {"voice": ["bass", "alto"]}}) == {"voice": ("bass", "alto")}
    with pytest.raises(DatasetError, match="lists of class names are accepted"):
        note_classes({"note_labels": {"voice": [1]}})


def test_pairs_name_items_that_are_there(tmp_path: Path) -> None:
    pairs_path(tmp_path, "test").write_text("first,second,label,query\n0,1,1,0\n0,2,0,0\n")
    pairs = read_pairs(tmp_path, "test", 3)
    assert pairs.second.tolist() == [1, 2] and pairs.label.tolist() == [1, 0] and pairs.query.tolist() == [0, 0]
    with pytest.raises(DatasetError, match="line 3: second is 2, but 0 to 1 is accepted"):
        read_pairs(tmp_path, "test", 2)
    pairs_path(tmp_path, "train").write_text("first,second,label,query\n0,1,1,\n")
    assert read_pairs(tmp_path, "train", 2).query.tolist() == [-1]


@settings(max_examples=40, deadline=None)
@given(
    units=st.lists(st.integers(0, 11), min_size=1, max_size=40),
    folds=st.integers(2, 4),
    share=st.sampled_from([0.0, 0.1, 0.4]),
    seed=st.integers(0, 5),
)
def test_a_fold_never_splits_a_unit(units: list[int], folds: int, share: float, seed: int) -> None:
    units = [*units, *range(20, 20 + 2 * folds)]  # enough units in every fold
    with tempfile.TemporaryDirectory() as folder:
        rows = [f"f{row},{row},5,f{row},u{unit},{unit % folds}" for row, unit in enumerate(units)]
        items = read_labels(write(Path(folder), *rows, columns=""), "train")
    tested = []
    for fold in range(folds):
        parts = fold_parts(items, fold, share, seed)
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(units)))
        owners = [{units[row] for row in rows.tolist()} for rows in parts.values()]
        assert sum(map(len, owners)) == len(set(units)) and owners[0]
        others = len(set(units)) - len(owners[2])
        assert len(owners[1]) == (max(round(share * others), 1) if share else 0)
        assert all(np.array_equal(rows, again) for rows, again in zip(
            parts.values(), fold_parts(items, fold, share, seed).values(), strict=True))  # fmt: skip
        tested += parts["test"].tolist()
    assert sorted(tested) == list(range(len(units)))


def test_folds_that_are_not_there_are_refused(tmp_path: Path) -> None:
    items = read_labels(write(tmp_path, "a,0,3,a,g,0,x", "b,1,3,b,h,1,y", "c,2,3,c,i,1,y"), "train")
    with pytest.raises(OptionError, match="--fold is 2, but .* has the folds 0 to 1"):
        fold_parts(items, 2, 0.1, 1)
    with pytest.raises(OptionError, match="leaves none to train on"):
        fold_parts(items, 1, 0.1, 1)
    with pytest.raises(OptionError, match="--dev-share is 1"):
        fold_parts(items, 0, 1.0, 1)
    write(tmp_path, "a,0,3,a,g,0,x", "b,1,3,b,g,1,y")
    with pytest.raises(DatasetError, match="group 'g' lies in the folds 0 and 1"):
        fold_parts(read_labels(tmp_path, "train"), 0, 0.1, 1)
    write(tmp_path, "a,0,3,a,g,,x")
    with pytest.raises(DatasetError, match="has no folds"):
        fold_parts(read_labels(tmp_path, "train"), 0, 0.1, 1)
