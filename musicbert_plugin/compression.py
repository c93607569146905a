"""Compressed data: gzip, bzip2 and xz, unpacked a little at a time with bounded memory.

A decompressor never makes more bytes than are asked for, so that a small file that unpacks to gigabytes costs what is
read of it.  Dictionaries of xz and lzma may take :data:`LARGEST_DICTIONARY` bytes, four times those of ``xz -9``.

Pure Python: every layer may import this module.
"""

from __future__ import annotations

import io
import zlib
from typing import Any, BinaryIO

LARGEST_DICTIONARY = 2**28
GZIP = b"\x1f\x8b"
_MAGIC = {GZIP: "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_BLOCK = 1 << 16


def compression_of(head: bytes) -> str | None:
    """``gzip``, ``bzip2`` or ``xz`` for the first six bytes of such a file, else ``None``."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


class _Deflate:
    """zlib's decompressor with the interface of those of ``bz2`` and ``lzma``."""

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def decompressor(name: str) -> Any:
    """A new decompressor of ``gzip``, ``bzip2``, ``xz``, ``lzma`` (with a header of 13 bytes) or ``deflate``.

    Raises
    ------
    OSError
        Python was built without the library for it.
    """
    if name in ("gzip", "deflate"):
        return _Deflate(31 if name == "gzip" else -15)
    try:
        if name == "bzip2":
            import bz2

            return bz2.BZ2Decompressor()
        import lzma

        format = lzma.FORMAT_XZ if name == "xz" else lzma.FORMAT_ALONE
        return lzma.LZMADecompressor(format, memlimit=LARGEST_DICTIONARY)
    except ImportError:
        raise OSError(f"this Python has no library for {name}") from None


def _decompress(tool: Any, data: bytes, size: int) -> bytes:
    """Up to ``size`` more bytes; every kind of damage is an OSError."""
    try:
        return tool.decompress(data, size)
    except (zlib.error, ValueError, EOFError, OSError) as error:
        raise OSError(f"damaged: {error}") from None
    except MemoryError:
        raise OSError("it takes more memory than there is") from None
    except Exception as error:  # lzma.LZMAError, which exists only where the library does
        raise OSError(f"damaged: {str(error).lower()}") from None


class Unpacked:
    """The unpacked content of a compressed file, which can only be read forwards.

    Streams that follow each other, as ``pbzip2`` writes them, are one; other data after a stream are ignored.

    Parameters
    ----------
    file : binary file
        At the beginning of the data.
    name : str
        ``gzip``, ``bzip2`` or ``xz``.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._tool = decompressor(name)
        self._waiting = b""  # compressed data that were read already
        self._block, self._from = b"", 0  # unpacked data, and how many of them were read
        self._ended = False

    def read(self, size: int) -> bytes:
        """Read ``size`` bytes, fewer only at the end.

        Raises
        ------
        OSError
            The data are damaged or incomplete.
        """
        blocks = []
        while size > 0:
            if self._from == len(self._block):
                self._block, self._from = self._unpack(max(size, _BLOCK)), 0
                if not self._block:
                    break
            block = self._block[self._from : self._from + size]
            self._from += len(block)
            size -= len(block)
            blocks.append(block)
        return b"".join(blocks)

    def _unpack(self, size: int) -> bytes:
        """The next bytes, at most ``size``; none at the end."""
        while not self._ended:
            if self._tool.eof:
                self._next_stream()
                continue
            data = b""
            if self._tool.needs_input:
                data = self._waiting or self._file.read(_BLOCK)
                self._waiting = b""
                if not data:
                    raise OSError("damaged: the compressed data end too early")
            block = _decompress(self._tool, data, size)
            if block:
                return block
        return b""

    def _next_stream(self) -> None:
        self._waiting = (self._tool.unused_data or self._waiting).lstrip(b"\0") or self._file.read(_BLOCK)
        if len(self._waiting) < 6:
            self._waiting += self._file.read(_BLOCK)
        self._ended = compression_of(self._waiting) != self._name
        if not self._ended:
            self._tool = decompressor(self._name)


def unpack(data: bytes, name: str, size: int) -> bytes:
    """The first ``size`` bytes of what compressed data hold.

    Parameters
    ----------
    data : bytes
    name : str
        ``gzip``, ``bzip2`` or ``xz``.
    size : int

    Raises
    ------
    OSError
        The data are damaged or incomplete.
    """
    return Unpacked(io.BytesIO(data), name).read(size)


def unpack_raw(data: bytes, name: str, size: int) -> bytes:
    """The first ``size`` bytes of what the compressed data of a zip's member hold, as far as they go.

    Parameters
    ----------
    data : bytes
    name : str
        ``deflate``, ``bzip2`` or ``lzma``.
    size : int

    Raises
    ------
    OSError
        The data are damaged.
    """
    if name == "lzma":  # zip: two bytes of version, two of size, the properties; a .lzma file: them and the length
        length = int.from_bytes(data[2:4], "little")
        data = data[4 : 4 + length] + b"\xff" * 8 + data[4 + length :]
    tool = decompressor(name)
    blocks = []
    while size > 0 and not tool.eof:
        block = _decompress(tool, data, size)
        data = b""
        if not block and tool.needs_input:
            break
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)
