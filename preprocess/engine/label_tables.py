"""Tables of labels: what a user's CSV says of files, and the table of items that lies beside a dataset.

The user's table has a column ``file`` (or ``file_path``), a column per task, and perhaps ``split``.  The table of a
dataset, one per split, has columns of its own and then those tasks' cells, unchanged: ``{split}.clips.csv`` of sound
(see ``musicbert_plugin.data.spectrogram_folder``) and ``{split}.labels.csv`` of notes (see
``musicbert_plugin.data.labelled_octuples``).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from musicbert_plugin.data.labelled_octuples import FIXED_COLUMNS
from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import as_listed
from musicbert_plugin.tables import check_columns, normal_text, read_table
from preprocess.engine.cli import say
from preprocess.engine.sidecars import SidecarWriter
from preprocess.engine.sources import Collection
from preprocess.engine.splits import SPLITS, fix_split

FILE_COLUMNS = ("file", "file_path")
SOUND_COLUMNS = ("length", "frames", "split", "clip", "recording", "bytes")
"""Columns of tables for sound that are not labels."""
NOTE_COLUMNS = ("length", "split", *FIXED_COLUMNS)
"""Columns of tables for notes that are not labels."""
_EXPECTED = ("split", "length", *FILE_COLUMNS)  # those of them that are part of the user's format


@dataclass(frozen=True)
class LabelTable:
    """Labels, groups and splits that tables give to files.

    Attributes
    ----------
    columns : list of str
        The columns of labels.
    labels : dict of str to list of str
        From file to the cells of those columns.
    groups, splits : dict of str to str
        From file to its group or split.
    """

    columns: list[str] = field(default_factory=list)
    labels: dict[str, list[str]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)


def _cell(text: str) -> str:
    return "" if text.lower() == "nan" else text


def read_labels(
    path: str, group_column: str = "", own_columns: Sequence[str] = SOUND_COLUMNS, quiet: bool = False
) -> LabelTable:
    """Read the labels of a CSV, the groups in its column ``group_column``, and the splits in its column ``split``.

    A file whose split is empty has none.  Columns that have the names of a dataset's own are named in a message.

    Parameters
    ----------
    path : str
    group_column : str
    own_columns : sequence of str
        Columns that are not labels, such as those of the dataset's own table.
    quiet : bool
        Whether columns with these names are passed over without a message.

    Raises
    ------
    OptionError
        The CSV cannot be read, lacks the column of files or of groups, has two columns of one name, or a row without a
        file, or two rows that label a file differently, or an unknown split.
    """
    header, rows = read_table(path)
    group_column = normal_text(group_column)
    key = next((column for column in FILE_COLUMNS if column in header), None)
    if key is None:
        raise OptionError(f"{path}: no column file or file_path; its columns are {', '.join(header) or 'none'}.")
    if group_column and group_column not in header:
        raise OptionError(f"--group-column {group_column}: not in {path}; its columns are {', '.join(header)}.")
    check_columns(path, header, [name for name in header if name])
    passed = [name for name in own_columns if name in header and name not in (*_EXPECTED, group_column)]
    if passed and not quiet:
        say(f"{path}: {', '.join(passed)} cannot be learnt: datasets have columns of their own with these names.")
    table = LabelTable([name for name in header if name not in (*FILE_COLUMNS, *own_columns, "")])
    for number, row in rows:
        if len(row) != len(header):
            raise OptionError(f"{path}: line {number} has {len(row)} cells, but the header has {len(header)}.")
        cells = dict(zip(header, map(_cell, row), strict=True))
        name = as_listed(cells[key])
        if not name:
            raise OptionError(f"{path}: line {number} has no file in its column {key}.")
        labels = [cells[column] for column in table.columns]
        if table.labels.setdefault(name, labels) != labels:
            raise OptionError(f"{path}: line {number} and an earlier line have different labels for {name}.")
        if group_column and cells[group_column]:
            table.groups[name] = normal_text(cells[group_column])
        if cells.get("split"):
            fix_split(table.splits, f"{path}, line {number}", name, cells["split"])
    return table


def joined_tables(
    paths: Sequence[str],
    group_column: str = "",
    own_columns: Sequence[str] = SOUND_COLUMNS,
    instead: str = "",
    quiet: bool = False,
) -> LabelTable:
    """The tables of several CSVs as one; where two have a cell of one file and column, the last that is not empty.

    Parameters
    ----------
    paths : sequence of str
    group_column, own_columns, quiet
        See :func:`read_labels`.
    instead : str
        What gives the splits instead of columns ``split``, for a message, as in ``--splits splits.csv``; "" for none.

    Raises
    ------
    OptionError
        As :func:`read_labels`; or two of them put a file in different splits; or there is no table for the groups.
    """
    if group_column and not paths:
        raise OptionError(f"--group-column {group_column}: it names a column of --labels CSV, which is missing.")
    tables = [read_labels(path, group_column, own_columns, quiet) for path in paths]
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    joined = LabelTable(columns)
    for path, table in zip(paths, tables, strict=True):
        for name, cells in table.labels.items():
            known = dict(zip(columns, joined.labels.get(name, [""] * len(columns)), strict=True))
            known |= {column: cell for column, cell in zip(table.columns, cells, strict=True) if cell}
            joined.labels[name] = list(known.values())
        joined.groups.update(table.groups)
        if instead and table.splits and instead != f"--splits {path}":
            say(f"{path}: its column split is not used, since {instead} is given.")
        for name, split in table.splits.items() if not instead else ():
            fix_split(joined.splits, path, name, split)
    return joined


class LabelsWriter(SidecarWriter):
    """Writes a table of the items of each split, with the labels of their files.

    Subclasses set :attr:`suffix` and :attr:`fixed`, and give the cells of their columns in :meth:`rows`.

    Parameters
    ----------
    table : LabelTable

    Attributes
    ----------
    suffix : str
        What follows the name of the split in the names of the tables.
    fixed : tuple of str
        The dataset's own columns.
    """

    lenient = True
    suffix = ""
    fixed: tuple[str, ...] = ()

    def __init__(self, table: LabelTable) -> None:
        self._table = table
        self.splits, self.groups = table.splits, table.groups
        self.splits_of = "the source (or its table of labels)" if table.labels else "the source"
        self.files = tuple(f"{split}{self.suffix}" for split in SPLITS)
        self._labels: dict[str, list[str]] = {}  # by the names of files of the source
        self._tables: dict[str, TextIO] = {}

    def check(self, collection: Collection) -> None:
        """Raise :class:`OptionError` if no labelled file is in the source."""
        self._collection = collection
        self._labels, absent = collection.values_by_file(self._table.labels)
        if absent and not self._labels:
            raise OptionError(f"none of the files with labels is in the source; {absent[0]} must be a path inside it.")
        if absent:
            say(
                f"{len(absent):,} files with labels are not in the source, the first is {absent[0]}; they are left out."
            )
        if self._table.splits:
            say(f"{len(self._table.splits):,} files have their split from {self.splits_of}.")

    def begin(self, out: Path) -> None:
        """Open the tables."""
        for split in SPLITS:
            self._tables[split] = table = open(out / f"{split}{self.suffix}", "w", encoding="utf-8", newline="")
            csv.writer(table, lineterminator="\n").writerow([*self.fixed, *self._table.columns])

    def rows(self, index: int, split: str, sidecars: dict[str, Any]) -> Iterable[Sequence[object]]:
        """The cells of the dataset's own columns for each item of a file, given its :attr:`Piece.sidecars`."""
        raise NotImplementedError

    def add(self, index: int, split: str, sidecars: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a file's items."""
        labels = self._labels.get(self._collection.names[index], [""] * len(self._table.columns))
        writer = csv.writer(self._tables[split], lineterminator="\n")
        writer.writerows([*cells, *labels] for cells in self.rows(index, split, sidecars))
        return {}

    def finish(self) -> dict[str, Any]:
        """Close the tables."""
        for table in self._tables.values():
            table.close()
        return {}
