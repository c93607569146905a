"""Archives: the music files in ``.zip`` and ``.tar`` files, the latter alone or compressed by gzip, bzip2 or xz.

Archives come from the network: their headers may be damaged, or made to take memory and time.  Whatever they hold,

* a member that cannot be read costs that member, with a sentence, and an archive that is damaged somewhere costs what
  follows, with another;
* memory is bounded: the headers of a tar's member may take :data:`HEADER_BYTES`, and a file is unpacked only as far as
  it may be large;
* an archive is read up to a number of entries and of unpacked bytes (:class:`ArchiveLimits`).  Every 128 bytes of a
  name count as an entry.  A zip's members are unpacked one by one, so that only the music in it is counted.

Members of a zip may be stored or compressed by deflate, bzip2 or lzma, and may not be encrypted.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from musicbert_plugin.compression import Unpacked, compression_of, unpack_raw
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import escaped, open_regular
from preprocess.engine.cli import Heartbeat, option
from preprocess.engine.entries import Entry, Failure, count_other, is_music

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
HEADER_BYTES = 1 << 17
"""What the headers of one member of a tar may take: its name, and other attributes."""
_NAME_BYTES = 128  # that count as an entry
_PLACE = struct.Struct("<QQQHHI")  # of a zip's member: offset, sizes in the file and unpacked, method, flags, checksum
_METHODS = {8: "deflate", 12: "bzip2", 14: "lzma"}
_ENCRYPTED, _UTF_8 = 1, 1 << 11  # flags
_BLOCK = 1 << 20
MASK = 2**64 - 1


class ArchiveLimits(NamedTuple):
    """How far an archive is read."""

    unpacked_bytes: int = 2**36
    entries: int = 2_000_000


@dataclass
class ArchiveOptions:
    """The options of every command that reads archives."""

    max_unpacked_bytes: int = option(ArchiveLimits().unpacked_bytes, "read no more of each archive, unpacked")
    max_entries: int = option(ArchiveLimits().entries, "read no more of each archive: files, folders and links")

    def archive_limits(self) -> ArchiveLimits:
        """The limits.

        Raises
        ------
        OptionError
            One is below 1.
        """
        for name in ("max_unpacked_bytes", "max_entries"):
            if getattr(self, name) < 1:
                raise OptionError(f"--{name.replace('_', '-')} {getattr(self, name)}: 1 or more is needed.")
        return ArchiveLimits(self.max_unpacked_bytes, self.max_entries)


class _LimitReached(OSError):
    """The archive holds more than its :class:`ArchiveLimits` allow."""


class _Progress:
    """Counts what is read of an archive, says so from time to time, and stops at the limits."""

    def __init__(self, path: str, limits: ArchiveLimits) -> None:
        self._path, self._limits = path, limits
        self._heartbeat = Heartbeat()
        self.entries = self.bytes = 0

    def count(self, name: str | bytes = "", size: int = 0) -> None:
        """Count an entry, if its name is given, and bytes."""
        if name:
            self.entries += 1 + len(name) // _NAME_BYTES
        self.bytes += size
        if self.entries > self._limits.entries:
            raise _LimitReached(f"more than {self._limits.entries:,} entries; --max-entries can be raised")
        if self.bytes > self._limits.unpacked_bytes:
            raise _LimitReached(
                f"more than {self._limits.unpacked_bytes:,} bytes unpacked; --max-unpacked-bytes can be raised"
            )
        self._heartbeat.say(lambda: f"{self._path}: {self.entries:,} entries, {self.bytes:,} bytes unpacked")


def _failure(path: str, kind: str, entries: int, error: OSError) -> Entry:
    """The entry of an archive that cannot be read to its end."""
    reason = error.strerror or str(error)
    if isinstance(error, _LimitReached):
        return Entry("", 0, failure=Failure("too large", f"{path}: {reason}. What follows in it is left out."))
    if not entries:
        return Entry("", 0, failure=Failure("unreadable", f"{path}: not a {kind} archive that can be read ({reason})."))
    count = "one entry" if entries == 1 else f"{entries:,} entries"
    sentence = f"{path}: damaged after {count} ({reason}). What follows in it is left out."
    return Entry("", 0, failure=Failure("unreadable", sentence))


def too_large(name: str, limit: int) -> Failure:
    """The failure of a file of more than ``limit`` bytes."""
    return Failure("too large", f"{name}: more than {limit} bytes; --max-bytes can be raised.")


# ------------------------------------------------------------------------------------------------------------------ zip


class _Member(NamedTuple):
    """What the directory of a zip says of a member."""

    name: str
    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    offset: int


def _zip_name(name: bytes, flags: int) -> str:
    """The name of a zip's member; many programs write UTF-8 without its flag, or the flag without UTF-8."""
    if flags & _UTF_8:
        return name.decode("utf-8", "surrogateescape")
    try:
        return name.decode("utf-8")
    except UnicodeError:
        return name.decode("cp437")


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Begin and end of a zip's directory in the file, and what has to be added to the offsets in it.

    The offsets differ if something stands before the archive, such as a program that unpacks it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 22 - 65535, 0))
    tail = file.read()
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) - found < 22:
        raise OSError("it has no directory at its end")
    end = size - len(tail) + found
    length, begin = struct.unpack_from("<LL", tail, found + 12)
    if found >= 76 and tail[found - 20 : found - 16] == b"PK\6\7" and tail[found - 76 : found - 72] == b"PK\6\6":
        length, begin = struct.unpack_from("<QQ", tail, found - 76 + 40)
        end -= 76
    if length + begin > end:
        raise OSError("its directory is damaged")
    return end - length, end, end - length - begin


def _zip_members(file: BinaryIO) -> Iterator[_Member]:
    """The members in the directory of a zip, one after the other."""
    position, end, shift = _directory(file)
    file.seek(position)
    while position < end:
        head = file.read(46)
        if len(head) < 46 or head[:4] != b"PK\1\2":
            raise OSError("its directory is damaged")
        flags, method, checksum, packed, size, *lengths, offset = struct.unpack("<8xHH4xLLLHHH8xL", head)
        name, extra = file.read(lengths[0]), file.read(lengths[1])
        if lengths[2]:  # a comment
            file.seek(lengths[2], os.SEEK_CUR)
        position += 46 + sum(lengths)
        values = [size, packed, offset]
        _add_large_values(extra, values)
        text = _zip_name(name.partition(b"\0")[0], flags)
        yield _Member(text, flags, method, checksum, values[1], values[0], values[2] + shift)


def _add_large_values(extra: bytes, values: list[int]) -> None:
    """Replace the values that did not fit 32 bits by those of the extra field for them (zip64)."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            large = extra[4 : 4 + length]
            for index, value in enumerate(values):
                if value == 2**32 - 1 and len(large) >= 8:
                    values[index], large = int.from_bytes(large[:8], "little"), large[8:]
        extra = extra[4 + length :]


@dataclass
class Zip:
    """The music files of a ``.zip``; members are read at their offset in the file, without listing it again."""

    path: str
    suffixes: tuple[str, ...]
    limits: ArchiveLimits = ArchiveLimits()
    others: Counter[str] = field(default_factory=Counter, compare=False)
    streamed = False

    def entries(self) -> Iterator[Entry]:
        """Entries in the archive's order, and a failure if it cannot be read to its end."""
        self.others.clear()
        progress = _Progress(self.path, self.limits)
        try:
            with open_regular(self.path) as file:
                for member in _zip_members(file):
                    music = not member.name.endswith("/") and is_music(member.name, self.suffixes)
                    progress.count(member.name or "/", member.size if music else 0)
                    if music:
                        place = _PLACE.pack(
                            *(member.offset & MASK, member.packed, member.size, member.method, member.flags),
                            member.checksum,
                        )
                        yield Entry(escaped(member.name), (member.size << 32 | member.checksum) & MASK, place)
                    elif not member.name.endswith("/"):
                        count_other(self.others, escaped(member.name))
        except OSError as error:
            yield _failure(self.path, "zip", progress.entries, error)

    def read(self, name: str, place: bytes, limit: int) -> bytes:
        """The bytes of one member, at most ``limit``; a :class:`ScoreError` where that is not possible."""
        offset, packed, size, method, flags, checksum = _PLACE.unpack(place)
        if flags & _ENCRYPTED:
            raise ScoreError("unreadable", f"{name}: encrypted in the archive.")
        if method and method not in _METHODS:
            accepted = f"stored, {', '.join(_METHODS.values())}"
            raise ScoreError("unreadable", f"{name}: compressed by method {method}; {accepted} are accepted.")
        if size > limit or packed > limit + limit // 8 + 1024:
            raise ScoreError(*too_large(name, limit))
        try:
            file = self.__dict__.get("_file")
            if file is None:
                file = self.__dict__["_file"] = open_regular(self.path)
            if offset > os.fstat(file.fileno()).st_size:
                raise OSError("the archive is damaged here")
            file.seek(offset)
            header = file.read(30)
            if header[:4] != b"PK\3\4":
                raise OSError("the archive is damaged here")
            file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
            data = file.read(packed)
            if method:
                data = unpack_raw(data, _METHODS[method], size + 1)
        except OSError as error:
            raise ScoreError("unreadable", f"{name}: {error.strerror or error}.") from None
        if len(data) != size:
            raise ScoreError("unreadable", f"{name}: damaged in the archive (its size differs).")
        if zlib.crc32(data) != checksum:
            raise ScoreError("unreadable", f"{name}: damaged in the archive (its checksum differs).")
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "suffixes": self.suffixes, "limits": self.limits, "others": self.others}


# ------------------------------------------------------------------------------------------------------------------ tar


class _Forwards:
    """A tar archive as ``tarfile`` reads it: forwards, counted, and with bounded headers."""

    def __init__(self, file: BinaryIO, progress: _Progress) -> None:
        kind = compression_of(file.read(6))
        file.seek(0)
        self._file = file
        self._unpacked = Unpacked(file, kind) if kind else None
        self._progress = progress
        self._position = 0
        self.header_bytes = 0  # that may still be read
        self.last = b""

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._position

    def read(self, size: int) -> bytes:
        """Read a header, or a part of a member if ``header_bytes`` is negative."""
        if self.header_bytes >= 0:
            if not 0 <= size <= self.header_bytes:
                raise OSError(f"the headers of a member take more than {HEADER_BYTES:,} bytes")
            self.header_bytes -= size
        self.last = (self._unpacked or self._file).read(size)
        self._position += len(self.last)
        self._progress.count(size=len(self.last))
        if size > 512 and self.header_bytes >= 0 and max(map(len, re.findall(rb"\d+", self.last)), default=0) > 255:
            raise OSError("a header holds a number of more than 255 digits")  # some versions of tarfile search in it
        return self.last

    def seek(self, offset: int) -> None:
        """Go forwards to an offset."""
        if offset < self._position:
            raise OSError("a header says that the archive goes back")
        if self._unpacked is None:
            if offset > os.fstat(self._file.fileno()).st_size:
                raise OSError("unexpected end of data")
            self._file.seek(offset)
            self._position = offset
            return
        while offset > self._position:
            data = self._unpacked.read(min(offset - self._position, _BLOCK))
            if not data:
                return
            self._position += len(data)
            self._progress.count(size=len(data))


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Turn what ``tarfile`` raises over damaged headers into an OSError."""
    try:
        yield
    except OSError:
        raise
    except tarfile.TarError as error:
        raise OSError(str(error).partition(":")[0]) from None
    except Exception as error:  # of a dozen types, where numbers, names or maps in the headers are damaged
        raise OSError(f"damaged headers: {type(error).__name__}") from None


def _tar_members(content: _Forwards) -> Iterator[tuple[Any, Any]]:
    """The archive and its members, one after the other.

    Raises
    ------
    OSError
        The archive is damaged.
    """
    content.header_bytes = HEADER_BYTES
    with _damage():
        archive: Any = tarfile.open(fileobj=content, mode="r:")  # type: ignore[call-overload]
    while True:
        with _damage():
            member = archive.next()
        archive.members = []  # tarfile keeps all members otherwise
        if sum(map(len, archive.pax_headers.values())) > HEADER_BYTES:  # those for all members
            raise OSError(f"its headers take more than {HEADER_BYTES:,} bytes")
        if member is None:
            if len(content.last) not in (0, 512) or content.last.strip(b"\0"):
                raise OSError("a header is damaged")  # tarfile takes it for the end
            return
        if member.size < 0:
            raise OSError("a header gives a size below 0")
        content.header_bytes = -1
        yield archive, member
        content.header_bytes = HEADER_BYTES


@dataclass(frozen=True)
class Tar:
    """The music files of a tar archive, which can only be read from front to back."""

    path: str
    suffixes: tuple[str, ...]
    limits: ArchiveLimits = ArchiveLimits()
    others: Counter[str] = field(default_factory=Counter, compare=False)
    streamed = True

    def _members(self, progress: _Progress) -> Iterator[tuple[Any, Any, str]]:
        """The archive, its members that are music, and their names; raises an OSError where it is damaged."""
        with open_regular(self.path) as file:
            for archive, member in _tar_members(_Forwards(file, progress)):
                progress.count(member.name or "/")
                name = member.name.removeprefix("./")
                if member.isfile() and is_music(name, self.suffixes):
                    yield archive, member, escaped(name)
                elif member.isfile():
                    count_other(self.others, escaped(name))

    def entries(self) -> Iterator[Entry]:
        """Entries in the archive's order, and a failure if it cannot be read to its end."""
        self.others.clear()
        progress = _Progress(self.path, self.limits)
        try:
            for _, member, name in self._members(progress):
                yield Entry(name, (member.size << 32 | _whole(member.mtime)) & MASK)
        except OSError as error:
            yield _failure(self.path, "tar", progress.entries, error)

    def stream(self, limit: int) -> Iterator[tuple[str, bytes | Failure]]:
        """Names and bytes in the archive's order, as far as :meth:`entries` goes; a failure of each that has none."""
        try:
            for archive, member, name in self._members(_Progress(self.path, self.limits)):
                if member.size > limit:
                    yield name, too_large(name, limit)
                    continue
                try:
                    with _damage():
                        content: bytes | Failure = archive.extractfile(member).read()
                except OSError as error:
                    reason = "too large" if isinstance(error, _LimitReached) else "unreadable"
                    content = Failure(reason, f"{name}: cannot be read from the archive ({error}).")
                yield name, content
        except OSError:  # entries() has named it
            return

    def read(self, name: str, place: bytes, limit: int) -> bytes:
        """The bytes of one file, which :meth:`Collection.tasks` passes as its place."""
        return place


def _whole(time: Any) -> int:
    """A time of a header as a whole number; 0 if it is none."""
    try:
        return int(time)
    except (OverflowError, ValueError):
        return 0
