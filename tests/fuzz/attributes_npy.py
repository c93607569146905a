"""Tables of attributes (``SPLIT.attributes.npy``): what opens gives the classes of every sample."""

from __future__ import annotations

import io
import random
import re
from pathlib import Path

import numpy as np

from musicbert_plugin.codecs.attributes import NA, SLOTS
from musicbert_plugin.data.indexed_dataset import IndexedDatasetWriter
from musicbert_plugin.data.prefix_lm_dataset import AttributedMusic
from tests.fuzz.mutation import NUMBERS, mutate_bytes

CASES = 300
SAMPLES = 3


def seeds() -> list[bytes]:
    """Tables in three versions of the format, and one of objects."""
    found = []
    for version in ((1, 0), (2, 0), (3, 0)):
        file = io.BytesIO()
        np.lib.format.write_array(file, np.tile(NA, (SAMPLES, 1)), version)
        found.append(file.getvalue())
    file = io.BytesIO()
    np.save(file, np.full((SAMPLES, SLOTS), None), allow_pickle=True)
    return [*found, file.getvalue()]


def _array(header: bytes, version: int = 1) -> bytes:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + bytes(SAMPLES * SLOTS)


KEPT = {
    "keys of two types": _array(b"{'descr': '|u1', 1: 2, 'shape': (3, 63)}\n"),
    "a negative shape": _array(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 63)}\n"),
    "a shape above all": _array(b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 63)}\n" % 10**30),
    "a shape of a bool": _array(b"{'descr': '|u1', 'fortran_order': False, 'shape': (None, 63)}\n"),
    "a type without a name": _array(b"{'descr': (), 'fortran_order': False, 'shape': (3, 63)}\n"),
    "no end of a header": _array(b"{'descr': '|u1\0"),
    "a header of gigabytes": b"\x93NUMPY\2\0\xff\xff\xff\xff{",
    "classes that no attribute has": _array(b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 63)}\n")[:-63]
    + b"\xff" * 63,
    "nothing": b"",
}
"""Files that once ended in a traceback, or in words that are no attributes."""


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage bytes, or replace a part of the header without changing its length."""
    if rng.random() < 0.5:
        return mutate_bytes(data, rng, (b"\x93NUMPY\1\0", b"|O", b">u8", b"True"), others)
    header = data[:128]
    number = rng.choice(list(re.finditer(rb"\d+|'\|u1'|False|'descr'", header)) or [re.match(b"", header)])
    instead = rng.choice(
        (*(str(value).encode() for value in NUMBERS), b"'|O'", b"'<f8'", b"True", b"None", b"-1", b"()")
    )
    begin, end = number.span()
    return (header[:begin] + instead + header[end:])[:128].ljust(128) + data[128:]


def check(data: bytes, folder: Path) -> None:
    """Open the table beside as many samples, and read each."""
    if not (folder / "train.idx").exists():
        writer = IndexedDatasetWriter(folder / "train", "uint16")
        for number in range(SAMPLES):
            writer.add(np.arange(4, 8 + number))
        writer.close()
    (folder / "train.attributes.npy").write_bytes(data)
    music = AttributedMusic(folder / "train")
    for index in range(SAMPLES):
        prefix, tokens = music.sample(index, 1)
        assert len(prefix) == SLOTS and len(tokens) == 5 + index
