"""Where music files come from: folders, archives (see ``archives``), single files, and lists of paths.

A source lists its files as *entries* (name, stamp, place) and reads the bytes of a file.  A name is a path with ``/``,
relative to the folder or archive; manifests, ``--splits`` and ``--groups`` refer to files by it.  Bytes that are not
UTF-8 are escaped in names and in lists of paths, which may be in either of Unicode's normal forms, see
``musicbert_plugin.files``.  A stamp is a number that changes with the file (from its size and modification time, or the
archive's checksum); a resumed build reads a file again if its stamp differs.  Hidden files and those that macOS adds to
archives (``__MACOSX/``, ``._*``) are ignored.

With several sources, each name is prefixed with its source as given.  A ``.txt`` source lists one path per line (blank
lines and lines that begin with ``#`` are ignored), relative to the folder of the list; its names are the lines.  A
``.tsv`` source is wav2vec's manifest: the first line is a folder, and every other line begins with a path inside it and
a tab.  A ``.csv`` source is a table with a column ``file_path`` (or ``file``), relative to its own folder.

What cannot be listed (a loop of symbolic links, a folder without permission, the rest of a damaged archive) is an entry
too, with its failure instead of a place: it gets its line in the manifest, and the rest is read.  So does a named pipe
or a device that has the name of a music file, and it is not opened.

Limits: links to folders are followed, each folder once; of equal names in an archive the first is used; an archive
inside an archive is not opened.
"""

from __future__ import annotations

import errno
import hashlib
import os
import unicodedata
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import (
    as_listed,
    escaped,
    given_path,
    match_names,
    open_regular,
    read_regular_text,
    unescaped,
)
from musicbert_plugin.tables import check_columns, read_table
from preprocess.engine.archives import ARCHIVE_SUFFIXES, ArchiveLimits, Tar, Zip, too_large
from preprocess.engine.entries import Entry, Failure, Unreadable, count_other, is_music

T = TypeVar("T")
_MIDI_SUFFIXES = (".mid", ".midi", ".rmi", ".rmid", ".kar", ".midi2")  # .midi2 is reported as unreadable, not ignored
MIDI_SUFFIXES = _MIDI_SUFFIXES + tuple(f"{suffix}.gz" for suffix in _MIDI_SUFFIXES)
_HASHED = 1 << 20  # bytes at a time


def _stamp(status: os.stat_result) -> int:
    return (status.st_size * 0x9E3779B97F4A7C15 + status.st_mtime_ns) & (2**64 - 1)


def _read(path: str, name: str, limit: int) -> bytes:
    try:
        with open_regular(path, buffering=0) as file:
            # Reading no more than the file's size avoids a buffer as large as the limit.
            data = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)
    except OSError as error:
        raise ScoreError("unreadable", f"{name}: {error.strerror or error}.") from None
    if len(data) > limit:
        raise ScoreError(*too_large(name, limit))
    return data


def _unlisted(name: str, path: str, error: OSError) -> Entry:
    """The entry of a folder that cannot be listed, or of a link that leads nowhere but to links."""
    loop = error.errno == errno.ELOOP
    reason = "a loop of symbolic links" if loop else f"cannot be listed ({error.strerror or error})"
    return Entry(name, 0, failure=Failure("unreadable", f"{path}: {reason}; what is in it is left out."))


@dataclass(frozen=True)
class Folder:
    """All music files below a folder."""

    root: str
    suffixes: tuple[str, ...]
    others: Counter[str] = field(default_factory=Counter, compare=False)
    streamed = False

    def entries(self) -> Iterator[Entry]:
        """Entries in no particular order."""
        self.others.clear()
        root = os.path.realpath(self.root)
        linked = set()
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            folder = os.path.join(self.root, prefix)
            try:
                with os.scandir(folder) as listing:
                    children = sorted(listing, key=lambda child: child.name)
            except OSError as error:
                yield _unlisted(escaped(prefix.rstrip("/")), folder.rstrip("/"), error)
                continue
            for child in children:
                name = prefix + child.name
                try:
                    is_folder = child.is_dir()
                except OSError as error:
                    if not child.name.startswith("."):
                        yield _unlisted(escaped(name), child.path, error)
                    continue
                if is_music(name, self.suffixes) and not is_folder:
                    try:
                        yield Entry(escaped(name), _stamp(child.stat()))
                    except OSError:  # a dangling link, which read() reports
                        yield Entry(escaped(name), 0)
                elif is_folder and not child.name.startswith("."):
                    if child.is_symlink():
                        real = os.path.realpath(child.path)
                        inside = f"{real}/".startswith(f"{root}/") or f"{root}/".startswith(f"{real}/")
                        if inside or real in linked:
                            continue
                        linked.add(real)
                    waiting.append(name + "/")
                elif not is_folder:
                    count_other(self.others, escaped(name))

    def path_of(self, name: str) -> str:
        """The path of a file."""
        return f"{self.root}/{unescaped(name)}"

    def read(self, name: str, place: bytes, limit: int) -> bytes:
        """The bytes of one file, at most ``limit``; a :class:`ScoreError` where that is not possible."""
        return _read(self.path_of(name), name, limit)


@dataclass(frozen=True)
class Files:
    """Files given one by one, or by a list; names are the paths as given (relative to ``base``), escaped."""

    base: str
    names: tuple[str, ...]
    streamed = False

    def entries(self) -> Iterator[Entry]:
        """Entries in the order given, missing files included; reading those fails."""
        for name in self.names:
            try:
                yield Entry(name, _stamp(os.stat(self.path_of(name))))
            except (OSError, ValueError):  # the latter of a zero byte in the name
                yield Entry(name, 0)

    def path_of(self, name: str) -> str:
        """The path of a file, whose name may be in another of Unicode's normal forms than the list's."""
        path = os.path.join(self.base, unescaped(name))
        if name.isascii() or os.path.lexists(path):
            return path
        forms = [os.path.join(self.base, unescaped(unicodedata.normalize(form, name))) for form in ("NFC", "NFD")]
        return next((other for other in forms if os.path.lexists(other)), path)

    def read(self, name: str, place: bytes, limit: int) -> bytes:
        """The bytes of one file, at most ``limit``; a :class:`ScoreError` where that is not possible."""
        return _read(self.path_of(name), name, limit)


Listed = Folder | Files | Zip | Tar
Source = Listed | Unreadable


def content_hash(source: Source, name: str, place: bytes, limit: int, algorithm: str = "sha256") -> str:
    """First 32 hex digits of the sha256 (or another hash) of a file; a :class:`ScoreError` where it cannot be read.

    A file on disk is read in blocks, so that no more memory is taken the larger it is.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    if not isinstance(source, Folder | Files):
        digest.update(source.read(name, place, limit))
        return digest.hexdigest()[:32]
    size = 0
    try:
        with open_regular(source.path_of(name), buffering=0) as file:
            while block := file.read(_HASHED):
                size += len(block)
                if size > limit:
                    raise ScoreError(*too_large(name, limit))
                digest.update(block)
    except OSError as error:
        raise ScoreError("unreadable", f"{name}: {error.strerror or error}.") from None
    return digest.hexdigest()[:32]


def open_source(given: str, suffixes: tuple[str, ...] = MIDI_SUFFIXES, limits: ArchiveLimits | None = None) -> Listed:
    """The source that a path names.

    Raises
    ------
    OptionError
        The path does not exist, or is no folder, archive, list or music file.
    """
    given = given_path(given)
    path = Path(given)
    lower = given.lower()
    if path.is_dir():
        return Folder(str(path), suffixes)
    if not path.exists():
        raise OptionError(f"{given}: no such file or folder.")
    if lower.endswith(".zip"):
        return Zip(str(path), suffixes, limits or ArchiveLimits())
    if lower.endswith(ARCHIVE_SUFFIXES):
        return Tar(str(path), suffixes, limits or ArchiveLimits())
    if lower.endswith(suffixes):
        return Files("", (escaped(given),))
    if lower.endswith(".csv"):
        return _table(path)
    if lower.endswith((".txt", ".tsv")):
        try:
            lines = read_regular_text(path, "utf-8-sig", "surrogateescape").split("\n")
        except OSError as error:
            raise OptionError(f"{given}: cannot be read ({error.strerror or error}).") from None
        return _paths(path, lines) if lower.endswith(".txt") else _wav2vec_manifest(path, lines)
    kinds = ", ".join((*ARCHIVE_SUFFIXES, *suffixes))
    raise OptionError(f"{given}: not a folder, an archive, a music file ({kinds}) or a .txt, .tsv or .csv list.")


def _paths(path: Path, lines: list[str]) -> Files:
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return Files(str(path.parent), tuple(map(as_listed, names)))


def _wav2vec_manifest(path: Path, lines: list[str]) -> Files:
    if not lines or "\t" in lines[0]:
        raise OptionError(
            f"{path}: a .tsv manifest begins with a line that names a folder, then a path and a tab each."
        )
    root = Path(unescaped(lines[0].strip()))
    base = root if root.is_dir() else path.parent / root
    if not base.is_dir():
        raise OptionError(f"{path}: its first line names {lines[0].strip()!r}, which is no folder.")
    return Files(str(base), tuple(as_listed(line.split("\t")[0]) for line in lines[1:] if line.strip()))


def _table(path: Path) -> Files:
    header, rows = read_table(path, errors="surrogateescape")
    column = next((header.index(name) for name in ("file_path", "file") if name in header), None)
    if column is None:
        raise OptionError(f"{path}: no column file_path or file; its columns are {', '.join(header) or 'none'}.")
    check_columns(path, header, header[column : column + 1])
    names = (row[column] for _, row in rows if len(row) > column)
    return Files(str(path.parent), tuple(as_listed(name) for name in names if name))


def suffix_counts(others: Counter[str]) -> str:
    """``3 .ra, 1 .txt``, the most frequent first."""
    ordered = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in ordered)


class Packed:
    """A list of byte strings that needs eight bytes per string beside the content."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("Q", [0])

    def append(self, data: bytes) -> None:
        """Add a string at the end."""
        self._data += data
        self._ends.append(len(self._data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._data[self._ends[index] : self._ends[index + 1]])


class Names(Sequence[str]):
    """The names of up to millions of files, in a third of the memory of a list of strings."""

    def __init__(self) -> None:
        self._packed = Packed()

    def append(self, name: str) -> None:
        """Add a name at the end."""
        self._packed.append(name.encode("utf-8", "surrogatepass"))

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self._packed[range(len(self))[index]].decode("utf-8", "surrogatepass")


class Collection:
    """The files of one or several sources, sorted by name and numbered; of equal names the first source's is kept.

    Parameters
    ----------
    given : list of str
        Paths of sources.
    suffixes : tuple of str
        Of the files to take.
    limits : ArchiveLimits, optional
        How far archives are read.

    Attributes
    ----------
    sources : list
        One per path, and last one of everything that cannot be read.
    names : Names
    stamps : array of int
    others : Counter of str
        Number of files that were passed over, by suffix (in lower case, with its dot; "" for none).

    Raises
    ------
    OptionError
        A source cannot be opened, or nothing in any of them can be listed.
    """

    def __init__(
        self,
        given: list[str],
        suffixes: tuple[str, ...] = MIDI_SUFFIXES,
        limits: ArchiveLimits | None = None,
    ) -> None:
        given = [given_path(path) for path in given]
        opened = [open_source(path, suffixes, limits) for path in given]
        several = len(given) > 1
        # The name of a single file is its path, which needs no prefix.
        prefixes = [
            escaped(path.rstrip("/\\")) + "/" if several and not isinstance(source, Files) else ""
            for path, source in zip(given, opened, strict=True)
        ]
        rows: list[tuple[str, int, int, bytes]] = []
        failures: list[tuple[str, int, int, bytes]] = []
        sentences = []
        for number, (path, source, prefix) in enumerate(zip(given, opened, prefixes, strict=True)):
            for entry in source.entries():
                if entry.failure is None:
                    rows.append((prefix + entry.name, number, entry.stamp, entry.place))
                else:
                    name = prefix + entry.name if entry.name else escaped(path)
                    failures.append((name, len(opened), entry.stamp, Unreadable.place_of(entry.failure)))
                    sentences.append(entry.failure.sentence)
        if failures and not rows:
            raise OptionError(sentences[0])
        self.sources: list[Source] = [*opened, Unreadable()]
        self.prefixes = [*prefixes, ""]
        rows += failures
        self.others: Counter[str] = Counter()
        for source in opened:
            if not isinstance(source, Files):
                self.others.update(source.others)
        rows.sort(key=lambda row: row[:2], reverse=True)
        self.names = Names()
        self.stamps = array("Q")
        self._numbers = array("I")
        self._places = Packed()
        last = None
        while rows:
            name, number, stamp, place = rows.pop()
            if name == last:
                continue
            last = name
            self.names.append(name)
            self.stamps.append(stamp)
            self._places.append(place)
            self._numbers.append(number)

    def __len__(self) -> int:
        return len(self.names)

    def source_of(self, index: int) -> int:
        """The number of the source that holds a file."""
        return self._numbers[index]

    def find(self, name: str, guess: int = -1) -> int:
        """The index of a name (looked for at ``guess`` first), or -1."""
        if 0 <= guess < len(self.names) and self.names[guess] == name:
            return guess
        index = bisect_left(self.names, name)
        return index if index < len(self.names) and self.names[index] == name else -1

    def values_by_file(self, values: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
        """What a table says of the files of the sources.

        Parameters
        ----------
        values : mapping
            From each name of the table to its value.

        Returns
        -------
        dict, list of str
            From each file to its value, and the names that mean no file.  A name may be in another of Unicode's normal
            forms than that of the file (see ``musicbert_plugin.files.match_names``).
        """
        found = match_names(values, self.names)
        return {file: values[name] for name, file in found.items()}, [name for name in values if name not in found]

    def tasks(self, wanted: Sequence[bool] | NDArray[np.bool_], limit: int) -> Iterator[tuple[int, int, str, bytes]]:
        """(index, source, name inside it, place) of every file whose ``wanted[index]`` is true.

        For tar archives, which are read from front to back, the place is the file's content; they come last.
        """
        for index in range(len(self)):
            number = self.source_of(index)
            if wanted[index] and not self.sources[number].streamed:
                yield index, number, self.names[index][len(self.prefixes[number]) :], self._places[index]
        for number, source in enumerate(self.sources):
            if isinstance(source, Tar):
                sent = set()
                for name, content in source.stream(limit):
                    index = self.find(self.prefixes[number] + name)
                    if index >= 0 and wanted[index] and self.source_of(index) == number and index not in sent:
                        sent.add(index)
                        if isinstance(content, Failure):
                            yield index, len(self.sources) - 1, name, Unreadable.place_of(content)
                        else:
                            yield index, number, name, content
