"""Indices (``.idx``) of datasets beside intact items: what opens can be read from end to end."""

from __future__ import annotations

import pickle
import random
import struct
from pathlib import Path

import numpy as np

from musicbert_plugin.data.indexed_dataset import (
    HEADER,
    HEADER_BYTES,
    MAGIC,
    IndexedDatasetWriter,
    open_indexed_dataset,
)
from tests.fuzz.mutation import NUMBERS, mutate_bytes

CASES = 500
ITEMS = [np.arange(5), np.arange(0), np.arange(16), np.arange(3)]


def seeds() -> list[bytes]:
    """Indices of three value types, and one without items."""
    import tempfile

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for dtype, items in (("uint16", ITEMS), ("int64", ITEMS), ("uint8", ITEMS), ("uint16", [])):
            writer = IndexedDatasetWriter(Path(folder, "a"), dtype)
            for item in items:
                writer.add(item)
            writer.close()
            found.append(Path(folder, "a.idx").read_bytes())
    return found


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage bytes, or one of the sizes or offsets."""
    if rng.random() < 0.5 or len(data) < HEADER_BYTES + 12:
        return mutate_bytes(data, rng, (MAGIC, HEADER.pack(1, 8, 4)), others)
    count = (len(data) - HEADER_BYTES) // 12
    out = bytearray(data)
    number = rng.choice((*NUMBERS, rng.randrange(100)))
    if rng.random() < 0.5:
        struct.pack_into("<I", out, HEADER_BYTES + 4 * rng.randrange(count), number % 2**32)
    else:
        struct.pack_into("<Q", out, HEADER_BYTES + 4 * count + 8 * rng.randrange(count), number % 2**64)
    return bytes(out)


def check(data: bytes, folder: Path) -> None:
    """Open an index beside items of 48 bytes, and read them all, also after pickling."""
    (folder / "train.idx").write_bytes(data)
    (folder / "train.bin").write_bytes(bytes(range(48)) * 4)
    items = open_indexed_dataset(folder / "train", combine=True)
    items = pickle.loads(pickle.dumps(items))
    for index in range(len(items)):
        assert len(items[index]) == items.sizes[index]
        items.read(index, 0, min(2, int(items.sizes[index])))
