"""Parts: the items of fairseq's memory-mapped container (``NAME.bin`` and ``NAME.idx``), readable by slices.

``NAME.idx`` is the nine bytes ``MMIDIDX\\0\\0``, the version 1 (uint64), a code of the number type (uint8), the item
count N (uint64), N sizes (int32, in numbers) and N offsets into ``NAME.bin`` (int64, in bytes).

fairseq's own ``MMapIndexedDataset`` reads a whole item to give a window of it, reads both files from end to end when it
opens them, cannot open an empty ``.bin`` and does not notice a shortened one.  This reader maps both files and touches
what is asked for, so that opening costs the same for a thousand and for a million pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import DatasetError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<QBQ")
HEADER_BYTES = len(MAGIC) + HEADER.size
NUMBER_TYPES = {
    1: np.uint8,
    2: np.int8,
    3: np.int16,
    4: np.int32,
    5: np.int64,
    6: np.float32,
    7: np.float64,
    8: np.uint16,
    9: np.uint32,
    10: np.uint64,
}


def _read_header(path: Path) -> tuple[np.dtype, int]:
    """Number type and item count of an index; DatasetError unless it is whole and of the known version."""
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise DatasetError(f"{path} is no index of fairseq's memory-mapped datasets (--dataset-impl mmap).")
    version, code, count = HEADER.unpack_from(head, len(MAGIC))
    if version != 1 or code not in NUMBER_TYPES:
        raise DatasetError(f"{path} has version {version} and number type {code}, but 1 and 1 to 10 are known.")
    if path.stat().st_size < HEADER_BYTES + 12 * count:
        raise DatasetError(f"{path} is shorter than the {count} items that it announces: copy or build it again.")
    return np.dtype(NUMBER_TYPES[code]), count


class Parts:
    """The parts of one split, as a sequence of int64 arrays of dictionary ids.

    Parameters
    ----------
    prefix : path without ``.bin`` and ``.idx``

    Attributes
    ----------
    sizes : int32 [N]
        Length of each part, in sub-tokens; mapped, not read.

    Raises
    ------
    DatasetError
        If a file is missing, is not of this format, or is shorter than its index says.
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
        needed = int(self._offsets[-1]) + int(self.sizes[-1]) * self._type.itemsize
        if data_path.stat().st_size < needed:
            raise DatasetError(
                f"{data_path} is shorter than the {needed} bytes that its index describes: copy it again."
            )
        if needed:
            self._data = np.memmap(data_path, mode="r", dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.sizes)

    def raw(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Numbers ``start`` to ``stop`` (exclusive; None for the end) of item ``index`` as stored, read-only."""
        stop = int(self.sizes[index]) if stop is None else stop
        offset = int(self._offsets[index]) + start * self._type.itemsize
        return np.frombuffer(self._data, self._type, stop - start, offset)

    def read(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Sub-tokens ``start`` to ``stop`` (exclusive; None for the end) of part ``index``: a fresh int64 array."""
        return self.raw(index, start, stop).astype(np.int64)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.read(index)

    def __reduce__(self) -> tuple[type[Parts], tuple[Path]]:
        # A loader process maps the files anew; a pickled memory map would be a copy of all data.
        return Parts, (self.prefix,)


class JoinedParts:
    """The parts of several containers, one after the other; read as :class:`Parts` is."""

    def __init__(self, members: Sequence[Parts]) -> None:
        self.members = list(members)
        self.prefix = self.members[0].prefix
        self.sizes = np.concatenate([member.sizes for member in self.members])
        self._first = np.cumsum([0] + [len(member) for member in self.members])

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """See :meth:`Parts.read`."""
        member = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.members[member].read(index - int(self._first[member]), start, stop)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.read(index)


def open_parts(prefix: str | Path, combine: bool = False) -> Parts | JoinedParts:
    """Open a split; with ``combine`` also ``NAME1``, ``NAME2``, ... beside it, as fairseq does for training data.

    Raises
    ------
    DatasetError
        As :class:`Parts`.
    """
    members = [Parts(prefix)]
    while combine and Path(f"{prefix}{len(members)}.idx").is_file():
        members.append(Parts(f"{prefix}{len(members)}"))
    return members[0] if len(members) == 1 else JoinedParts(members)
