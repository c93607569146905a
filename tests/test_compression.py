"""Compressed data give their content, as much of it as is asked for, or one error."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import numpy as np
import pytest

from musicbert_plugin.compression import Unpacked, compression_of, unpack

CONTENT = np.random.default_rng(1).integers(0, 9, 300_000).astype(np.uint8).tobytes()
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("name", PACK)
def test_the_content_is_read_in_parts_of_any_size(name: str) -> None:
    packed = PACK[name](CONTENT)
    assert compression_of(packed[:6]) == name
    file = Unpacked(io.BytesIO(packed), name)
    parts = [file.read(size) for size in (1, 511, 100_000, 0, 199_488, 7)]
    assert b"".join(parts) == CONTENT and parts[-2:] == [CONTENT[-199_488:], b""]
    assert unpack(packed, name, 1000) == CONTENT[:1000]


@pytest.mark.parametrize("name", PACK)
def test_damage_and_missing_ends_are_errors(name: str) -> None:
    packed = PACK[name](CONTENT)
    damaged = packed[:5000] + bytes(100) + packed[5100:]
    for data in (packed[:-9], packed[:2000], damaged, packed[:6]):
        with pytest.raises(OSError, match="^damaged: "):
            unpack(data, name, 10**6)


def test_a_small_file_of_gigabytes_costs_what_is_read_of_it() -> None:
    packed = bz2.compress(bytes(50_000_000))
    assert len(packed) < 100 and unpack(packed, "bzip2", 10) == bytes(10)


def test_other_data_are_no_compressed_file() -> None:
    assert [compression_of(head) for head in (b"", b"MThd", b"PK\3\4", b"BZ", b"\x1f")] == [None] * 5
