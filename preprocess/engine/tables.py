"""Tables of labels: a column ``file`` (or ``file_path``), and one column per task."""

from __future__ import annotations

from dataclasses import dataclass, field

from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import as_listed
from musicbert_plugin.tables import check_columns, normal_text, read_table
from preprocess.engine.cli import say
from preprocess.engine.splits import fix_split

FILE_COLUMNS = ("file", "file_path")
OTHER_COLUMNS = ("length", "frames", "split", "clip", "recording", "bytes")  # columns that are not labels
_EXPECTED = ("split", "length")  # those of them that are part of the format


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


def read_labels(path: str, group_column: str = "") -> LabelTable:
    """Read the labels of a CSV, the groups in its column ``group_column``, and the splits in its column ``split``.

    A file whose split is empty has none.  Columns that have the names of a dataset's own are named in a message.

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
    if passed := [name for name in OTHER_COLUMNS if name in header and name not in _EXPECTED]:
        say(f"{path}: {', '.join(passed)} cannot be learnt: datasets have columns of their own with these names.")
    table = LabelTable([name for name in header if name not in (*FILE_COLUMNS, *OTHER_COLUMNS, "")])
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
