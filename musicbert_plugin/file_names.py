r"""Names of files as text that can be written anywhere, and back.

On Linux and macOS a file name is a string of bytes, and Python holds a byte that is no UTF-8 as a lone surrogate, which
neither UTF-8 files nor strict readers of JSON accept.  Everywhere outside the program (manifests, tables of clips and
labels, ``--splits``, ``--groups``, lists of paths, predictions, messages) such a name is therefore *escaped*:

* a byte that is no part of UTF-8, and every control character, is ``\xNN``, two hexadecimal digits in lower case:
  the Latin-1 name ``Caf\xe9.mid`` is these twelve characters;
* a backslash that stands before ``x`` and two hexadecimal digits in the name itself is ``\x5c``.

All other names stay as they are, and different names have different escaped forms.  On Windows, where names are text
and a backslash divides folders, only lone surrogates are escaped, and nothing is read back.
"""

from __future__ import annotations

import os
import re

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
