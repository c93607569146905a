r"""Files: writing them so that a name always stands for a whole file, and their names as text.

Writing
-------
A process may be killed at any moment.  :func:`atomic_path` gives a path of another name in the same folder and moves
the file to its own name when it is complete; moving replaces an older file in one step.

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

Pure Python: every layer may import this module.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

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
        A name in the same folder, ending in :data:`UNFINISHED`; deleted if the block raises.

    Raises
    ------
    OSError
        The block's, with the final name as its file if it names none, as on a full disk.
    """
    final = Path(path)
    unfinished = final.with_name(final.name + UNFINISHED)
    try:
        yield unfinished
        os.replace(unfinished, final)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            error.filename = str(final)
        raise


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


def shown(sentence: str) -> str:
    """A sentence about files, in which bytes that are no UTF-8 stand as in :func:`escaped`."""
    return _LONE.sub(_bytes_of, sentence)
