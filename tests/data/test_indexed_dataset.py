"""Reading fairseq's container by slices: equal to fairseq's own reader, and firm where files are broken."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.data.indexed_dataset import IndexedDataset, open_indexed_dataset
from musicbert_plugin.errors import DatasetError


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_items_and_slices_equal_what_fairseq_reads(tmp_path: Path, registered: None, dtype: type) -> None:
    import torch
    from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder

    rng = np.random.default_rng(0)
    builder = MMapIndexedDatasetBuilder(str(tmp_path / "train.bin"), dtype=dtype)
    for size in (16, 0, 8, 1000):
        builder.add_item(torch.from_numpy(rng.integers(0, 120, size)))
    builder.finalize(str(tmp_path / "train.idx"))
    reference, parts = MMapIndexedDataset(str(tmp_path / "train")), IndexedDataset(tmp_path / "train")
    assert len(parts) == len(reference)
    assert parts.sizes.tolist() == reference.sizes.tolist()
    for index in (0, 2, 3):
        item = reference[index].numpy()
        assert parts[index].dtype == np.int64
        assert (parts[index] == item).all()
        assert (parts.read(index, 3, 7) == item[3:7]).all()
    assert len(parts[1]) == 0


def test_what_is_read_may_be_changed_without_touching_the_file(octuple_folder: Callable[..., Path]) -> None:
    parts = IndexedDataset(octuple_folder(train=[20]) / "train")
    before = parts[0]
    parts[0][:] = 5
    assert (parts[0] == before).all()


def test_a_loader_process_opens_the_files_itself(octuple_folder: Callable[..., Path]) -> None:
    parts = IndexedDataset(octuple_folder(train=[2000, 30]) / "train")
    message = pickle.dumps(parts)
    assert len(message) < 1000
    assert (pickle.loads(message)[1] == parts[1]).all()


def test_an_empty_split_has_an_empty_bin(octuple_folder: Callable[..., Path]) -> None:
    assert len(IndexedDataset(octuple_folder(test=[]) / "test")) == 0


def test_numbered_splits_are_joined_where_that_is_asked_for(octuple_folder: Callable[..., Path]) -> None:
    folder = octuple_folder(train=[20, 30], train1=[5], train2=[7, 8, 9], train4=[1])
    assert len(open_indexed_dataset(folder / "train")) == 2
    joined = open_indexed_dataset(folder / "train", combine=True)
    alone = [IndexedDataset(folder / name) for name in ("train", "train1", "train2")]
    items = [parts[index] for parts in alone for index in range(len(parts))]
    assert len(joined) == len(items) == 6
    assert joined.sizes.tolist() == [len(item) for item in items]
    for copy in (joined, pickle.loads(pickle.dumps(joined))):
        for index, item in enumerate(items):
            assert (copy[index] == item).all()
            assert (copy.read(index, 8, 16) == item[8:16]).all()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda folder: (folder / "train.bin").unlink(), "train.bin is missing"),
        (lambda folder: (folder / "train.idx").unlink(), "train.idx is missing"),
        (lambda folder: shorten(folder / "train.bin"), "train.bin is shorter than"),
        (lambda folder: shorten(folder / "train.idx"), "train.idx is shorter than"),
        (lambda folder: (folder / "train.idx").write_bytes(b"TNTIDX\x00\x00" + bytes(100)), "train.idx is no index"),
        (lambda folder: (folder / "train.idx").write_bytes(b""), "train.idx is no index"),
    ],
)
def test_a_broken_container_is_told_in_one_sentence(
    octuple_folder: Callable[..., Path], damage: Callable[[Path], None], sentence: str
) -> None:
    folder = octuple_folder(train=[20, 30])
    damage(folder)
    with pytest.raises(DatasetError, match=sentence):
        IndexedDataset(folder / "train")


def test_an_index_whose_items_do_not_follow_one_another_is_refused(tmp_path: Path) -> None:
    from tests.fuzz.idx import KEPT, _index

    (tmp_path / "train.bin").write_bytes(bytes(1000))
    for name, index in KEPT.items():
        (tmp_path / "train.idx").write_bytes(index)
        sentence = "longer than the 1 items" if name == "a smaller count" else "train.idx is damaged: item|shorter than"
        with pytest.raises(DatasetError, match=sentence):
            IndexedDataset(tmp_path / "train")
    (tmp_path / "train.idx").write_bytes(_index([5, 0, 3], [0, 10, 10]))
    assert [len(item) for item in map(IndexedDataset(tmp_path / "train").read, range(3))] == [5, 0, 3]


def test_a_long_index_is_looked_through_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from musicbert_plugin.data import indexed_dataset
    from tests.fuzz.idx import _index

    monkeypatch.setattr(indexed_dataset, "_CHUNK", 2)
    (tmp_path / "train.bin").write_bytes(bytes(1000))
    offsets = [0, 4, 8, 12, 16]
    (tmp_path / "train.idx").write_bytes(_index([2] * 5, offsets))
    assert len(IndexedDataset(tmp_path / "train")) == 5
    for wrong in range(5):
        moved = [offset + 2 * (item == wrong) for item, offset in enumerate(offsets)]
        (tmp_path / "train.idx").write_bytes(_index([2] * 5, moved))
        with pytest.raises(DatasetError, match=f"item {wrong} has 2 values from byte {offsets[wrong] + 2} on"):
            IndexedDataset(tmp_path / "train")
