"""The container's bytes: fairseq reads what the writer wrote, item for item."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.data.indexed_dataset import MAGIC, IndexedDatasetWriter, copy_bytes


def test_fairseq_reads_the_items_that_were_written(tmp_path: Path, registered: None) -> None:
    from fairseq.data.indexed_dataset import MMapIndexedDataset

    random = np.random.default_rng(0)
    items = [random.integers(0, 65000, size).astype(np.uint16) for size in (5, 1, 0, 300, 7)]
    writer = IndexedDatasetWriter(tmp_path / "train", "uint16")
    for item in items:
        writer.add(item)
    writer.close()
    dataset = MMapIndexedDataset(str(tmp_path / "train"))
    assert len(dataset) == len(items)
    for read, written in zip((dataset[i] for i in range(len(items))), items, strict=True):
        assert read.tolist() == written.tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.bin", "train.idx"]


def test_the_index_is_written_in_blocks_of_any_number(tmp_path: Path) -> None:
    sizes = np.random.default_rng(1).integers(1, 9, 700_000)  # several blocks
    writer = IndexedDatasetWriter(tmp_path / "a", "uint16")
    writer.add_sizes(sizes)
    writer.close()
    index = (tmp_path / "a.idx").read_bytes()
    assert index[:26] == MAGIC + struct.pack("<QBQ", 1, 8, len(sizes))
    assert np.array_equal(np.frombuffer(index, np.int32, len(sizes), 26), sizes)
    pointers = np.frombuffer(index, np.int64, len(sizes), 26 + 4 * len(sizes))
    assert np.array_equal(pointers, 2 * np.concatenate(([0], np.cumsum(sizes)[:-1])))
    assert len(index) == 26 + 12 * len(sizes)


def test_an_empty_split_is_an_empty_file_and_an_index_of_no_items(tmp_path: Path) -> None:
    IndexedDatasetWriter(tmp_path / "test", "uint16").close()
    assert (tmp_path / "test.bin").read_bytes() == b""
    assert (tmp_path / "test.idx").read_bytes() == MAGIC + struct.pack("<QBQ", 1, 8, 0)


def test_a_stretch_of_a_file_is_appended(tmp_path: Path) -> None:
    data = np.random.default_rng(2).bytes(3_000_000)
    (tmp_path / "source").write_bytes(data)
    with open(tmp_path / "source", "rb") as source, open(tmp_path / "target", "wb") as target:
        target.write(b"head")
        copy_bytes(source, 1000, 2_500_000, target)
        copy_bytes(source, 5, 10, target)
        target.write(b"tail")
    assert (tmp_path / "target").read_bytes() == b"head" + data[1000:2_501_000] + data[5:15] + b"tail"


def test_a_source_that_ends_too_early_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"1234")
    with open(tmp_path / "source", "rb") as source, open(tmp_path / "target", "wb") as target:
        with pytest.raises(OSError, match="ends 6 bytes too early"):
            copy_bytes(source, 0, 10, target)
