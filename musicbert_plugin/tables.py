"""Reading tables (CSV, TSV) that users give; what their columns mean is known where they are used."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from musicbert_plugin.errors import OptionError


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


def read_table(path: str | Path, delimiter: str = ",", errors: str = "strict") -> Table:
    """Read a table.

    Parameters
    ----------
    path : path
    delimiter : str
    errors : str
        What becomes of bytes that are no UTF-8, as :func:`open` takes it.

    Raises
    ------
    OptionError
        It cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", errors=errors, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            header = next(reader, [])
            return Table(header, [(reader.line_num, row) for row in reader if row])
    except (OSError, ValueError, csv.Error) as error:
        kind = "CSV" if delimiter == "," else "TSV"
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"{path}: cannot be read as {kind} ({reason}).") from None
