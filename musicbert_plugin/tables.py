"""Reading tables (CSV, TSV) that users give; what their columns mean is known where they are used.

All tables are read in the same way, whatever program wrote them:

* UTF-8 with or without a byte order mark, or UTF-16 with one; any line ends.
* The delimiter is the expected one (a comma, or a tab) if the header has it, else whichever of comma, tab and semicolon
  the header has most often.  Excel writes semicolons where a comma is the decimal sign; its line ``sep=;`` is obeyed.
* Names of columns, and cells, have no space at either end.  Names of columns are in Unicode's normal form NFC.
* Rows without any content are skipped.  A quotation mark that is never closed is an error; otherwise the rest of the
  file would be one cell.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import read_regular

DELIMITERS = (",", "\t", ";")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n")  # Excel's first line
_END = "\x03"  # is added as a last row, and lost in a cell that is never closed
_QUOTED = re.compile(r'"[^"]*"')


class Table(NamedTuple):
    """The header of a table, and its rows.

    Attributes
    ----------
    header : list of str
        Names of the columns; empty if the file is.
    rows : list of (int, list of str)
        Line number and cells of every row that is not empty, however many cells it has.
    """

    header: list[str]
    rows: list[tuple[int, list[str]]]


def normal_text(text: str) -> str:
    """The form in which cells and names of columns and classes are compared: stripped, and in normal form NFC."""
    return unicodedata.normalize("NFC", text.strip())


def read_table(path: str | Path, delimiter: str = ",", errors: str = "strict", *, strip: bool = True) -> Table:
    """Read a table, see the module.

    Parameters
    ----------
    path : path
    delimiter : str
        The expected delimiter.
    errors : str
        What becomes of bytes that are no UTF-8, as :func:`open` takes it.
    strip : bool
        Whether spaces at the ends of cells are removed.

    Raises
    ------
    OptionError
        It cannot be read.
    """
    path = Path(path)
    try:
        text = _decoded(read_regular(path), errors)
        skipped = 0
        if first := _SEPARATOR_LINE.match(text):
            delimiter, text, skipped = first[1], text[first.end() :], 1
        else:
            delimiter = _delimiter_of(text.partition("\n")[0], delimiter)
        lines = io.StringIO(f"{text}\n{_END}", newline="")
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=strip)
        rows = [
            (reader.line_num + skipped, [cell.strip() for cell in row] if strip else row)
            for row in reader
            if any(cell.strip() for cell in row)
        ]
        if rows.pop()[1] != [_END]:
            raise ValueError("a quotation mark at the beginning of a cell is never closed")
        header = [normal_text(name) for name in rows.pop(0)[1]] if rows else []
        return Table(header, rows)
    except (OSError, ValueError, csv.Error) as error:
        kind = "TSV" if delimiter == "\t" else "CSV"
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"{path}: cannot be read as {kind} ({reason}).") from None


def _decoded(data: bytes, errors: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"byte 0x{data[error.start]:02x} in line {line} is no UTF-8; UTF-8 is accepted, in Excel 'CSV UTF-8'"
        ) from None
    if "\0" in text:
        raise ValueError("it holds null bytes, so it is no text")
    return text


def _delimiter_of(header: str, expected: str) -> str:
    header = _QUOTED.sub("", header)
    if expected in header:
        return expected
    most = max(DELIMITERS, key=header.count)
    return most if most in header else expected


def check_columns(path: str | Path, header: list[str], names: Iterable[str]) -> None:
    """Raise :class:`OptionError` if a table has two columns of one of these names."""
    for name in names:
        if (count := header.count(name)) > 1:
            raise OptionError(f"{path}: {count} columns are named {name}; one is needed.")
