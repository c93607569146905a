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


def _index(sizes: list[int], offsets: list[int], code: int = 8, count: int | None = None) -> bytes:
    head = MAGIC + HEADER.pack(1, code, len(sizes) if count is None else count)
    return head + struct.pack(f"<{len(sizes)}i{len(offsets)}q", *sizes, *offsets)


KEPT = {
    "an offset behind the end": _index([5, 3], [1000, 10]),
    "a negative offset": _index([5, 3], [0, -2]),
    "a negative size": _index([-5, 3], [0, -10]),
    "items that overlap": _index([5, 3], [0, 4]),
    "a smaller count": _index([5, 3], [0, 10], count=1),
    "a size of gigabytes": _index([2**31 - 1, 3], [0, 2**32 - 2]),
}
"""Indices that once ended in a traceback, or in other items than were stored."""


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
