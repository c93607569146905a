"""The files of a dataset folder: fairseq's indexed binary container, and the same items as lines of text.

Format (fairseq's ``MMapIndexedDataset``, little-endian)
--------------------------------------------------------
``NAME.bin``: the values of all items, one after the other, without anything between them.
``NAME.idx``: ``b"MMIDIDX\\0\\0"``, version 1 (uint64), a code of the value type (uint8), the number of items (uint64),
the length of every item in values (int32 each), and the place of every item in ``NAME.bin`` in bytes (int64 each).

Both are written as streams: memory does not grow with the number of items.  Nothing here imports fairseq or torch; a
test holds the files to those that ``fairseq-preprocess`` writes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAGIC = b"MMIDIDX\x00\x00"
TYPE_CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "float64": 6, "uint16": 8, "uint32": 9}
_CHUNK = 1 << 20


def copy_bytes(source: BinaryIO, start: int, count: int, target: BinaryIO) -> None:
    """Append ``count`` bytes of ``source`` from ``start`` on to ``target``, inside the kernel where the system can.

    Raises
    ------
    OSError
        ``source`` ends before ``start + count``.
    """
    target.flush()
    if hasattr(os, "copy_file_range"):
        try:
            while count:
                copied = os.copy_file_range(source.fileno(), target.fileno(), count, start)
                if not copied:
                    break
                start, count = start + copied, count - copied
        except OSError:  # another file system, or an old kernel: the plain way does the rest
            pass
        target.seek(0, os.SEEK_END)
    source.seek(start)
    while count:
        data = source.read(min(count, _CHUNK))
        if not data:
            raise OSError(f"{source.name} ends {count} bytes too early")
        target.write(data)
        count -= len(data)


class BinaryWriter:
    """Writes ``stem.bin`` and ``stem.idx``.

    Parameters
    ----------
    stem : Path
        Path of the two files without their suffix.
    dtype : str
        Value type, a key of :data:`TYPE_CODES`.
    """

    suffixes = (".bin", ".idx")

    def __init__(self, stem: Path, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.count = 0
        self._stem = stem
        self._data = open(f"{stem}.bin", "wb")
        self._sizes = open(f"{stem}.sizes", "w+b")

    def append(self, source: BinaryIO, start: int, count: int) -> None:
        """Append bytes that hold items one after the other; :meth:`add_sizes` tells where each ends."""
        copy_bytes(source, start, count, self._data)

    def add_sizes(self, sizes: Iterable[int]) -> None:
        """Lengths, in values, of the next items."""
        block = np.asarray(sizes, np.int32)
        self._sizes.write(block.tobytes())
        self.count += len(block)

    def add(self, item: np.ndarray) -> None:
        """Append one item, values [n]."""
        self._data.write(np.ascontiguousarray(item, self.dtype).tobytes())
        self.add_sizes([len(item)])

    def close(self) -> None:
        """Write the index; both files are whole afterwards."""
        self._data.close()
        with open(f"{self._stem}.idx", "wb") as index:
            index.write(MAGIC + struct.pack("<QBQ", 1, TYPE_CODES[self.dtype.name], self.count))
            self._sizes.seek(0)
            while block := self._sizes.read(_CHUNK):
                index.write(block)
            self._sizes.seek(0)
            place = 0
            while block := self._sizes.read(_CHUNK):
                ends = np.cumsum(np.frombuffer(block, np.int32).astype(np.int64) * self.dtype.itemsize)
                index.write(np.concatenate(([place], place + ends[:-1])).astype("<i8").tobytes())
                place += int(ends[-1])
        self._sizes.close()
        os.remove(f"{self._stem}.sizes")


class TextWriter:
    """Writes ``stem.txt``, a line per item; the same calls as :class:`BinaryWriter`."""

    suffixes = (".txt",)

    def __init__(self, stem: Path, dtype: str = "") -> None:
        self.count = 0
        self._data = open(f"{stem}.txt", "wb")

    def append(self, source: BinaryIO, start: int, count: int) -> None:
        """Append bytes that hold whole lines."""
        copy_bytes(source, start, count, self._data)

    def add_sizes(self, sizes: Iterable[int]) -> None:
        """Lengths of the next items; only their number counts here."""
        self.count += len(list(sizes))

    def add_line(self, line: str) -> None:
        """Append one line."""
        self._data.write(line.encode() + b"\n")
        self.count += 1

    def close(self) -> None:
        """The file is whole afterwards."""
        self._data.close()


class NoWriter:
    """Writes nothing, for datasets that only list what they are made of; the same calls as :class:`BinaryWriter`."""

    suffixes: tuple[str, ...] = ()

    def __init__(self, stem: Path, dtype: str = "") -> None:
        self.count = 0

    def append(self, source: BinaryIO, start: int, count: int) -> None:
        """Nothing."""

    def add_sizes(self, sizes: Iterable[int]) -> None:
        """Only their number counts."""
        self.count += len(list(sizes))

    def close(self) -> None:
        """Nothing."""


WRITERS: dict[str, type[BinaryWriter] | type[TextWriter] | type[NoWriter]] = {
    "bin": BinaryWriter,
    "text": TextWriter,
    "none": NoWriter,
}
