"""Reader and writers of fairseq's memory-mapped container (``NAME.bin`` and ``NAME.idx``), or of its items as text.

Format (fairseq's ``MMapIndexedDataset``, little-endian)
--------------------------------------------------------
``NAME.bin``: the values of all items, one item after the other, without separators.
``NAME.idx``: ``b"MMIDIDX\\0\\0"``, the version 1 (uint64), a code of the value type (uint8), the number N of items
(uint64), N sizes (int32, in values) and N offsets into ``NAME.bin`` (int64, in bytes).

fairseq's own reader loads a whole item to give a slice of it, reads both files from end to end when it opens them,
cannot open an empty ``.bin`` and does not notice a truncated one.  :class:`IndexedDataset` maps both files and reads
only what is asked for.  When it opens them it looks through the index, 12 bytes an item, and not at the items.

The writers stream: memory does not grow with the number of items.  Nothing here imports fairseq or torch; tests compare
the files with those that ``fairseq-preprocess`` writes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicbert_plugin.errors import DatasetError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<QBQ")
HEADER_BYTES = len(MAGIC) + HEADER.size
VALUE_TYPES = {
    1: np.uint8,
    2: np.int8,
    3: np.int16,
    4: np.int32,
    5: np.int64,
    6: np.float64,
    7: np.float64,
    8: np.uint16,
    9: np.uint32,
    10: np.uint64,
}
"""Value types by their code; fairseq writes both 6 and 7 for float64."""
_CHUNK = 1 << 20


# -------------------------------------------------------------------------------------------------------------- reader


def _read_header(path: Path) -> tuple[np.dtype, int]:
    """Value type and number of items of an index; DatasetError if it is damaged or of another version."""
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise DatasetError(f"{path} is no index of fairseq's memory-mapped datasets (--dataset-impl mmap).")
    version, code, count = HEADER.unpack_from(head, len(MAGIC))
    if version != 1 or code not in VALUE_TYPES:
        raise DatasetError(f"{path} has version {version} and number type {code}, but 1 and 1 to 10 are known.")
    size, stated = path.stat().st_size, HEADER_BYTES + 12 * count
    if size != stated:
        differs = "shorter" if size < stated else "longer"
        raise DatasetError(f"{path} is {differs} than the {count} items that it announces: copy or build it again.")
    return np.dtype(VALUE_TYPES[code]), count


class IndexedDataset:
    """The items of one split, as a sequence of int64 arrays.

    Parameters
    ----------
    prefix : path
        The two files without ``.bin`` and ``.idx``.

    Attributes
    ----------
    sizes : int32 [N]
        Length of each item in values; mapped, not read.

    Raises
    ------
    DatasetError
        If a file is missing, is not of this format, is shorter than its index says, or has an index that describes
        other items than follow one another.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = Path(prefix)
        index_path, data_path = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
        for path in (index_path, data_path):
            if not path.is_file():
                raise DatasetError(
                    f"{path} is missing: a dataset folder holds a .bin and an .idx file for each split, "
                    "as 'python -m preprocess.octuple build' writes them."
                )
        self._type, count = _read_header(index_path)
        self.sizes: NDArray[np.int32] = np.zeros(0, np.int32)
        self._offsets: NDArray[np.int64] = np.zeros(0, np.int64)
        self._data: NDArray[np.uint8] = np.zeros(0, np.uint8)
        if not count:
            return
        index = np.memmap(index_path, mode="r", dtype=np.uint8)
        self.sizes = np.frombuffer(index, np.int32, count, HEADER_BYTES)
        self._offsets = np.frombuffer(index, np.int64, count, HEADER_BYTES + 4 * count)
        needed = self._checked_end(index_path)
        if data_path.stat().st_size < needed:
            raise DatasetError(
                f"{data_path} is shorter than the {needed} bytes that its index describes: copy it again."
            )
        if needed:
            self._data = np.memmap(data_path, mode="r", dtype=np.uint8)

    def _checked_end(self, path: Path) -> int:
        """The bytes that the items take; DatasetError if they do not follow one another, as every writer puts them."""
        ends = 0
        for start in range(0, len(self.sizes), _CHUNK):
            sizes = self.sizes[start : start + _CHUNK].astype(np.int64) * self._type.itemsize
            begins = ends + np.cumsum(sizes) - sizes
            wrong = (sizes < 0) | (self._offsets[start : start + _CHUNK] != begins)
            if wrong.any():
                item = start + int(wrong.argmax())
                raise DatasetError(
                    f"{path} is damaged: item {item} has {self.sizes[item]} values from byte {self._offsets[item]} on, "
                    "which is not where the item before it ends; copy or build it again."
                )
            ends = int(begins[-1] + sizes[-1])
        return ends

    def __len__(self) -> int:
        return len(self.sizes)

    def raw(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Values ``start`` to ``stop`` (exclusive; None for the end) of item ``index`` as stored, read-only."""
        stop = int(self.sizes[index]) if stop is None else stop
        offset = int(self._offsets[index]) + start * self._type.itemsize
        return np.frombuffer(self._data, self._type, stop - start, offset)

    def read(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Values ``start`` to ``stop`` (exclusive; None for the end) of item ``index``, as a new int64 array."""
        return self.raw(index, start, stop).astype(np.int64)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.read(index)

    def __reduce__(self) -> tuple[type[IndexedDataset], tuple[Path]]:
        # A loader process maps the files itself; a pickled memory map would be a copy of all data.
        return IndexedDataset, (self.prefix,)


class ConcatIndexedDataset:
    """The items of several containers, one after the other; read like an :class:`IndexedDataset`."""

    def __init__(self, members: Sequence[IndexedDataset]) -> None:
        self.members = list(members)
        self.prefix = self.members[0].prefix
        self.sizes = np.concatenate([member.sizes for member in self.members])
        self._first = np.cumsum([0] + [len(member) for member in self.members])

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """See :meth:`IndexedDataset.read`."""
        member = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.members[member].read(index - int(self._first[member]), start, stop)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.read(index)


def open_indexed_dataset(prefix: str | Path, combine: bool = False) -> IndexedDataset | ConcatIndexedDataset:
    """Open a split; with ``combine`` also ``NAME1``, ``NAME2``, ... beside it, as fairseq does for training data.

    Raises
    ------
    DatasetError
        As :class:`IndexedDataset`.
    """
    members = [IndexedDataset(prefix)]
    while combine and Path(f"{prefix}{len(members)}.idx").is_file():
        members.append(IndexedDataset(f"{prefix}{len(members)}"))
    return members[0] if len(members) == 1 else ConcatIndexedDataset(members)


# ------------------------------------------------------------------------------------------------------------- writers


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
        except OSError:  # another file system, or an old kernel: read and write copies the rest
            pass
        target.seek(0, os.SEEK_END)
    source.seek(start)
    while count:
        data = source.read(min(count, _CHUNK))
        if not data:
            raise OSError(f"{source.name} ends {count} bytes too early")
        target.write(data)
        count -= len(data)


class ItemWriter:
    """Base class of the writers; by itself it counts items and writes nothing.

    Parameters
    ----------
    stem : Path
        Path of the files without their suffix.
    dtype : str
        Value type, one of :data:`VALUE_TYPES`.

    Attributes
    ----------
    suffixes : tuple of str
        Of the files that it writes.
    count : int
        Number of items so far.
    """

    suffixes: tuple[str, ...] = ()

    def __init__(self, stem: Path, dtype: str) -> None:
        self.count = 0

    def append(self, source: BinaryIO, start: int, count: int) -> None:
        """Append ``count`` bytes of a file that hold items one after the other; :meth:`add_sizes` gives their sizes."""

    def add_sizes(self, sizes: ArrayLike) -> None:
        """Sizes of the next items: values, or bytes of text."""
        self.count += len(np.asarray(sizes))

    def close(self) -> None:
        """Complete the files."""


class IndexedDatasetWriter(ItemWriter):
    """Writes ``stem.bin`` and ``stem.idx``; see :class:`ItemWriter`."""

    suffixes = (".bin", ".idx")

    def __init__(self, stem: Path, dtype: str) -> None:
        super().__init__(stem, dtype)
        self.dtype = np.dtype(dtype)
        self._stem = stem
        self._data = open(f"{stem}.bin", "wb")
        self._sizes = open(f"{stem}.sizes", "w+b")

    def append(self, source: BinaryIO, start: int, count: int) -> None:
        copy_bytes(source, start, count, self._data)

    def add_sizes(self, sizes: ArrayLike) -> None:
        block = np.asarray(sizes, np.int32)
        self._sizes.write(block.tobytes())
        self.count += len(block)

    def add(self, item: NDArray[Any]) -> None:
        """Append one item, values [n]."""
        self._data.write(np.ascontiguousarray(item, self.dtype).tobytes())
        self.add_sizes([len(item)])

    def close(self) -> None:
        self._data.close()
        code = next(code for code, value_type in VALUE_TYPES.items() if self.dtype == value_type)
        with open(f"{self._stem}.idx", "wb") as index:
            index.write(MAGIC + HEADER.pack(1, code, self.count))
            self._sizes.seek(0)
            while block := self._sizes.read(_CHUNK):
                index.write(block)
            self._sizes.seek(0)
            offset = 0
            while block := self._sizes.read(_CHUNK):
                ends = np.cumsum(np.frombuffer(block, np.int32).astype(np.int64) * self.dtype.itemsize)
                index.write(np.concatenate(([offset], offset + ends[:-1])).astype("<i8").tobytes())
                offset += int(ends[-1])
        self._sizes.close()
        os.remove(f"{self._stem}.sizes")


class TextWriter(ItemWriter):
    """Writes ``stem.txt``, a line per item; see :class:`ItemWriter`."""

    suffixes = (".txt",)

    def __init__(self, stem: Path, dtype: str = "") -> None:
        super().__init__(stem, dtype)
        self._data = open(f"{stem}.txt", "wb")

    def append(self, source: BinaryIO, start: int, count: int) -> None:
        copy_bytes(source, start, count, self._data)

    def add_line(self, line: str) -> None:
        """Append one line."""
        self._data.write(line.encode() + b"\n")
        self.count += 1

    def close(self) -> None:
        self._data.close()


WRITERS: dict[str, type[ItemWriter]] = {"bin": IndexedDatasetWriter, "text": TextWriter, "none": ItemWriter}
"""Writers by their ``format``; ``none`` is for datasets that only list what they are made of."""
