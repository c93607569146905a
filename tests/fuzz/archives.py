"""Archives: what can be listed is read or fails alone, within the limits, and both passes over a tar agree."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from musicbert_plugin.errors import ScoreError
from preprocess.engine.archives import ArchiveLimits
from preprocess.engine.sources import Collection, Unreadable
from tests.fuzz.mutation import mutate_bytes

CASES = 400
LIMIT = 4000  # bytes of a file
LIMITS = ArchiveLimits(unpacked_bytes=2**24, entries=2000)
WORDS = (b"ustar\00000", b"ustar  \0", b"././@LongLink", b"20 path=a/b.mid\n", b"16 mtime=1e999\n", b"13 mtime=nan\n")
WORDS += (b"22 GNU.sparse.major=1\n", b"22 GNU.sparse.map=0,512\n", b"30 GNU.sparse.realsize=9999999\n", b"9 path=\n")
WORDS += (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 12)
PACK: dict[bytes, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": (lambda data: gzip.compress(data, 1, mtime=0), gzip.decompress),
    b"BZh": (lambda data: bz2.compress(data, 1), bz2.decompress),
    b"\xfd7zXZ": (lambda data: lzma.compress(data, preset=0), lzma.decompress),
}
"""How each compression is made and undone, by its first bytes."""


def seeds() -> list[bytes]:
    """Zips of each method, tars of each format, alone and compressed, and headers of every kind that tar has."""
    content = {"a.mid": b"one", "b/c.mid": bytes(range(256)) * 4, "b/": b"", "é.mid": b"two", "l" * 150 + ".mid": b"3"}
    zips = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        zips.append(file.getvalue())
    tars = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
            for name, data in content.items():
                member = tarfile.TarInfo(name if kind != tarfile.USTAR_FORMAT else name[-90:])
                member.size, member.mtime = len(data), 1.5 if kind == tarfile.PAX_FORMAT else 1
                archive.addfile(member, io.BytesIO(data))
        tars.append(file.getvalue().rstrip(b"\0") + bytes(1024))
    sparse = [_sparse(), _pax_sparse()]
    return [*zips, *tars, *sparse, *(pack(tar) for tar in tars[1:] for pack, _ in PACK.values())]


def _header(name: bytes, size: int, kind: bytes, rest: bytes = b"") -> bytes:
    """A header block with a checksum that is right."""
    fields = (name.ljust(100, b"\0"), b"0000644\0" + b"0000000\0" * 2, b"%011o\0" % size, b"%011o\0" % 1)
    block = b"".join(fields) + b" " * 8 + kind + bytes(100) + b"ustar  \0" + rest
    block = block.ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _sparse() -> bytes:
    """A member with a hole, as GNU tar stores it."""
    places = b"".join(b"%011o\0" % value for value in (0, 4, 1000, 4, 0, 0, 0, 0))
    rest = bytes(345 - 265) + bytes(41) + places + b"\0" + b"%011o\0" % 1004
    return _header(b"a.mid", 8, b"S", rest) + b"headtail".ljust(512, b"\0") + bytes(1024)


def _pax_sparse() -> bytes:
    """A member with a hole, its map in pax headers."""
    values = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "a.mid", "GNU.sparse.size": "1004"}
    values |= {"GNU.sparse.map": "0,4,1000,4", "path": "x/a.mid", "mtime": "1.5"}
    text = b""
    for name, value in values.items():
        line = f" {name}={value}\n".encode()
        size = len(line) + len(str(len(line) + 2))
        text += str(size).encode() + line
    blocks = _header(b"h", len(text), b"x") + text.ljust(-len(text) % 512 + len(text), b"\0")
    return blocks + _header(b"a.mid", 8, b"0") + b"headtail".ljust(512, b"\0") + bytes(1024)


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage bytes: of a compressed tar half of the time those inside; half of the time the checksums are right."""
    for magic, (pack, unpack) in PACK.items():
        if data.startswith(magic) and rng.random() < 0.5:
            return pack(mutate(unpack(data), rng, others))
    damaged = bytearray(mutate_bytes(data, rng, WORDS, others))
    if rng.random() < 0.5 and not damaged.startswith(b"PK"):
        for start in range(0, len(damaged) - 511, 512):
            if damaged[start + 257 : start + 262] == b"ustar":
                damaged[start + 148 : start + 156] = b" " * 8
                damaged[start + 148 : start + 156] = b"%06o\0 " % sum(damaged[start : start + 512])
    elif rng.random() < 0.2 and len(damaged) > 22:
        field = rng.choice((8, 10, 12, 16, 20))  # of the end of a zip's directory
        place = damaged.rfind(b"PK\5\6")
        if place >= 0:
            struct.pack_into("<H", damaged, min(place + field, len(damaged) - 2), rng.randrange(65536))
    return bytes(damaged)


def check(data: bytes, folder: Path) -> None:
    """List the archive, and read every file of it."""
    path = folder / ("a.zip" if data.startswith(b"PK") else "a.tar")
    path.write_bytes(data)
    collection = Collection([str(path)], limits=LIMITS)
    read = set()
    for index, number, inner, place in collection.tasks(np.ones(len(collection), bool), LIMIT):
        assert index not in read
        read.add(index)
        source = collection.sources[number]
        try:
            assert len(source.read(inner, place, LIMIT)) <= LIMIT
        except ScoreError as error:
            assert "\n" not in str(error) and str(error).endswith("."), str(error)
        else:
            assert not isinstance(source, Unreadable)
    assert read == set(range(len(collection))), "a file that was listed was not read"
