r"""Files: writing them so that a name always stands for a whole file, and their names as text.

Writing
-------
A process may be killed at any moment.  :func:`atomic_path` gives a path of another name in the same folder and moves
the file to its own name when it is complete; moving replaces an older file in one step.  A :class:`FolderLock` keeps
two processes from writing to one folder.

Names
-----
On Linux and macOS a file name is a string of bytes, and Python holds a byte that is no UTF-8 as a lone surrogate, which
neither UTF-8 files nor strict readers of JSON accept.  Everywhere outside the program (manifests, tables of clips and
labels, ``--splits``, ``--groups``, lists of paths, predictions, messages) such a name is therefore *escaped*:

* a byte that is no part of UTF-8, and every control character, is ``\xNN``, two hexadecimal digits in lower case:
  the Latin-1 name ``Caf\xe9.mid`` is these twelve characters;
* a backslash that stands before ``x`` and two hexadecimal digits in the name itself is ``\x5c``.

All other names stay as they are, and different names have different escaped forms.  On Windows, where names are text
and a backslash divides folders, only lone surrogates are escaped, and nothing is read back.

A letter with an accent can be one character or a letter and a combining mark (Unicode's normal forms NFC and NFD):
macOS writes the one, most tables hold the other, and they look the same.  :func:`match_names` finds a file whichever of
the two a table has.

Reading
-------
A name in a folder may be that of a named pipe or a device, which keeps whoever reads it waiting for ever.  Files that
users name, or that are found in their folders, are opened by :func:`open_regular`, which refuses those at once.

Pure Python: every layer may import this module.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import unicodedata
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

UNFINISHED = ".unfinished"
"""Suffix of files that are being written, or that a killed process left behind."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; the file appears under ``path`` when the block ends, or never if it raises.

    Parameters
    ----------
    path : path
        The final name.  An existing file is replaced when the new one is complete, and not before.

    Yields
    ------
    Path
        A name in the same folder, ending in :data:`UNFINISHED`; deleted if the block raises.  The file gets the
        permissions of every new file (the umask's), also where a library makes files that their owner alone can read.

    Raises
    ------
    OSError
        The block's, with the final name as its file if it names none, as on a full disk.
    """
    final = Path(path)
    unfinished = final.with_name(final.name + UNFINISHED)
    try:
        yield unfinished
        _make_readable(unfinished)
        os.replace(unfinished, final)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            error.filename = str(final)
        raise


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise an OSError for what is neither a file nor a folder: a named pipe, a socket or a device.

    What does not exist raises FileNotFoundError.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:  # of a zero byte in the name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


def open_regular(path: str | os.PathLike[str], buffering: int = -1) -> BinaryIO:
    """Open a file to read its bytes; an OSError of :func:`check_regular` if that could wait for ever."""
    check_regular(path)
    return open(path, "rb", buffering)  # type: ignore[return-value]


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, see :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_regular_text(path: str | os.PathLike[str], encoding: str = "utf-8", errors: str = "strict") -> str:
    r"""The text of a file, see :func:`open_regular`; every line end is ``\n``."""
    with io.TextIOWrapper(open_regular(path), encoding, errors) as file:
        return file.read()


def _make_readable(path: Path) -> None:
    """Give a file that its owner alone can read the permissions of a new file."""
    if os.name == "nt" or path.stat().st_mode & 0o077:
        return
    probe = path.with_name(path.name + ".mode")  # the umask itself can only be read by setting it, for all threads
    with contextlib.suppress(OSError):
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            path.chmod(probe.stat().st_mode & 0o777)
        finally:
            probe.unlink()


class FolderLock:
    """A lock on a folder, which one process at a time holds: a file that the system has locked.

    The system unlocks the file when its process ends, in whatever way, so that a file that a killed process has left
    locks nothing.

    Parameters
    ----------
    path : path
        The file; its folder must exist.

    Raises
    ------
    BlockingIOError
        Another process, or another object of this class, holds the lock.
    OSError
        The file cannot be made or locked.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        while True:
            file = open(path, "a")
            try:
                _lock(file)
                if _is_at(file, path):
                    break
            except BaseException:
                file.close()
                raise
            file.close()  # its holder has removed it meanwhile
        self.release = weakref.finalize(self, _remove, file, Path(path))
        """Unlock the folder and remove the file; so does the end of this object, and that of the process."""

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _is_at(file: IO[str], path: str | os.PathLike[str]) -> bool:
    """Whether an open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _remove(file: IO[str], path: Path) -> None:
    """Remove an open file, where the system can do that, and close it."""
    with contextlib.suppress(OSError):
        path.unlink()
    file.close()


def _lock(file: IO[str]) -> None:
    """Lock an open file; raises BlockingIOError if it is locked by another."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except PermissionError as error:
            raise BlockingIOError(*error.args) from None
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS") if hasattr(errno, name)}


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that nothing more can be written, so that no further file will succeed either."""
    return isinstance(error, OSError) and error.errno in _FULL


_ESCAPES = os.sep != "\\"
_LONE = re.compile("[\ud800-\udfff]")
_ODD = re.compile("[\ud800-\udfff\x00-\x1f\x7f]" + (r"|\\(?=x[0-9a-fA-F]{2})" if _ESCAPES else ""))
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def _bytes_of(found: re.Match[str]) -> str:
    character = found[0]
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


def escaped(name: str | os.PathLike[str]) -> str:
    """A file name or path as text without lone surrogates and control characters; :func:`unescaped` reverses it."""
    text = os.fspath(name)
    return _ODD.sub(_bytes_of, text)


def unescaped(text: str) -> str:
    """The name or path, as Python's file functions take it, of :func:`escaped` or of a user who wrote the same."""
    if not _ESCAPES or "\\x" not in text:
        return text
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(text)))


def as_listed(text: str) -> str:
    r"""The escaped name that a cell of a table means, however it spells it (``\xE9`` for ``\xe9``)."""
    return escaped(unescaped(text))


def given_path(text: str) -> str:
    """The path that a user means by a word of the command line or of a script.

    It may be the path itself, as a shell completes it; or its escaped form, as manifests and messages show it; or
    either of them with the file's name in another of Unicode's normal forms.

    Returns
    -------
    str
        A path that exists, or the text as it is.
    """
    plain = unescaped(text)
    forms = [unicodedata.normalize(form, path) for form in ("NFC", "NFD") for path in (text, plain)]
    return next((path for path in (text, plain, *forms) if os.path.lexists(path)), text)


def match_names(given: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """The file that each name of a table means.

    A name means the file of that name; if there is none, the file whose name is equal in Unicode's normal form NFC,
    unless there are several.  A file is meant by one name at most: the equal one, else the first.

    Parameters
    ----------
    given : iterable of str
        The (escaped) names in a table.
    names : iterable of str
        The (escaped) names of the files that there are; read once.

    Returns
    -------
    dict of str to str
        From a name of the table to a name of ``names``; names that mean no file are not in it.
    """
    wanted = dict.fromkeys(given)
    forms = {unicodedata.normalize("NFC", name) for name in wanted}
    equal = set()
    others: dict[str, str | None] = {}  # by normal form; None where several files have it
    for name in names:
        if name in wanted:
            equal.add(name)
        elif not name.isascii() and (form := unicodedata.normalize("NFC", name)) in forms:
            others[form] = None if others.get(form, name) != name else name
    found: dict[str, str] = {}
    for name in wanted:
        if name in equal:
            found[name] = name
        elif file := others.pop(unicodedata.normalize("NFC", name), None):
            found[name] = file
    return found


def shown(sentence: str) -> str:
    """A sentence about files, in which bytes that are no UTF-8 stand as in :func:`escaped`."""
    return _LONE.sub(_bytes_of, sentence)
