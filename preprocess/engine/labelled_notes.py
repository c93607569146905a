"""What all datasets of labelled notes share: options, the table of items, units and folds.

A *unit* is what lies on one side of every split: the files of a copy group, and those of a group of the user's
(``--group-column``, ``--groups``), united where the two overlap.  ``--folds K`` makes one dataset for K folds, with all
items in ``train``; a task then takes one fold as its test set (see ``musicbert_plugin.data.labelled_octuples``).
Without folds, ``--splits CSV`` or a column ``split`` fixes the splits, and files that neither lists are left out (``no
split``); without either, splits are drawn.  Where labels are given, files without any are left out (``no labels``).

Cells are stored as they are, except that tags joined by ``--separator`` are joined by ``/``.  A cell cannot be stored,
and is then a missing label, if one of its tags holds a ``/`` or one of its numbers is infinite; it is named, and the
command ends with status 1.

Lines of ``manifest.jsonl`` have ``fold`` in a dataset with folds, and ``unusable_labels``, the columns of cells that
could not be stored (absent if there are none).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.labelled_octuples import FIXED_COLUMNS
from musicbert_plugin.data.labels import SEPARATOR, check_separator, is_unlabelled
from musicbert_plugin.errors import OptionError
from musicbert_plugin.tables import normal_text
from preprocess.engine.cli import option, say
from preprocess.engine.entries import Failure
from preprocess.engine.folds import MOST_FOLDS, assign_folds, class_counts
from preprocess.engine.label_tables import NOTE_COLUMNS, LabelsWriter, LabelTable, joined_tables
from preprocess.engine.pipeline import DUPLICATES, NO_LABELS, BuildOptions
from preprocess.engine.sources import Collection
from preprocess.engine.split_plan import SplitPlan
from preprocess.engine.splits import SPLITS

IN_TRAIN = "1,0,0"  # the ratios of a dataset with folds
_NAMED = 5  # cells of a column that messages name
_VALUES = 10  # a column of more different numbers has no classes
_STRATA = 5  # of such a column


@dataclass
class LabelBuildOptions(BuildOptions):
    """The options of every builder; copies are kept, since their labels may differ, and splits suit small datasets."""

    duplicates: str = option(
        "keep",
        "copies that a split drops: none (keep), those with equal tokens (exact), or near copies too (near)",
        choices=DUPLICATES,
    )
    split_ratios: str = option("80,10,10", "shares of train, valid and test", metavar="T,V,T")


@dataclass
class LabelOptions:
    """What all builders of labelled notes take besides."""

    labels: str = option(
        "", "CSV with a column file, columns of labels and weights, and perhaps a column split", metavar="CSV"
    )
    columns: list[str] | None = option(
        None, "columns of that CSV to store (default: all)", nargs="+", metavar="COLUMN", type=str
    )
    separator: str = option(SEPARATOR, "what joins the tags, or the numbers, of a cell in the CSV", metavar="S")
    group_column: str = option("", "column of that CSV: files with equal cells in it stay together", metavar="COLUMN")
    folds: int = option(0, "make K folds instead of train, valid and test (0: none)", metavar="K")
    stratify: str = option("", "column whose classes each fold has equal shares of", metavar="COLUMN")


@dataclass
class NoteTable:
    """The labels of a dataset of notes, before it is known which files there are.

    Attributes
    ----------
    table : LabelTable
        Its cells are those of the dataset.
    strata : dict of str to str
        From file to its cell in the column of ``--stratify``.
    complaints : list of str
        Sentences about cells that cannot be stored.
    unusable : dict of str to list of str
        From file to the columns of those cells.
    where : str
        What the labels come from, for messages.
    """

    table: LabelTable
    strata: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    unusable: dict[str, list[str]] = field(default_factory=dict)
    where: str = "--labels"

    def complain(self, column: str, wrong: Mapping[str, str], where: str) -> None:
        """Add what is wrong with cells of a column, from file to reason."""
        for file in wrong:
            self.unusable.setdefault(file, []).append(column)
        self.complaints += [
            f"{where}: {file}, column {column}: {reason}; it is left unlabelled."
            for file, reason in list(wrong.items())[:_NAMED]
        ]
        if len(wrong) > _NAMED:
            self.complaints.append(f"{where}, column {column}: {len(wrong) - _NAMED:,} more are left unlabelled.")


def check_label_options(options: LabelOptions, general: LabelBuildOptions) -> None:
    """Raise :class:`OptionError` for options that are out of range or contradict each other."""
    if options.folds and not 2 <= options.folds <= MOST_FOLDS:
        raise OptionError(f"--folds {options.folds}: a number from 2 to {MOST_FOLDS:,} is needed.")
    if options.folds and general.splits:
        raise OptionError(f"--folds {options.folds} --splits {general.splits}: one of the two is accepted.")
    if options.folds and general.split_ratios not in (LabelBuildOptions.split_ratios, IN_TRAIN):
        raise OptionError(f"--folds {options.folds} --split-ratios {general.split_ratios}: folds have equal shares.")
    if options.stratify and not options.folds:
        raise OptionError(f"--stratify {options.stratify}: it spreads classes over folds; --folds K is needed.")
    if general.format != "bin":
        raise OptionError(f"--format {general.format}: labels lie beside bin, which is accepted.")
    check_separator("--separator", options.separator, "multi")


def read_note_table(given: Sequence[str], options: LabelOptions, splits: str = "") -> NoteTable:
    """The merged tables of ``--labels`` and of CSV sources.

    Parameters
    ----------
    given : sequence of str
        Sources.
    options : LabelOptions
    splits : str
        The CSV of ``--splits``, which is used instead of columns ``split``.

    Raises
    ------
    OptionError
        A table cannot be read, or lacks a column that an option names.
    """
    paths = [path for path in given if path.lower().endswith(".csv")] + ([options.labels] if options.labels else [])
    instead = f"--folds {options.folds}" if options.folds else f"--splits {splits}" if splits else ""
    table = joined_tables(paths, options.group_column, NOTE_COLUMNS, instead, quiet=bool(options.columns))
    return NoteTable(table, where=", ".join(paths) or "--labels")


def choose_columns(
    found: NoteTable, options: LabelOptions, others: Mapping[str, Mapping[str, str]] | None = None
) -> NoteTable:
    """Keep the cells of the columns to store, in the form of a dataset, and those of ``--stratify``.

    Parameters
    ----------
    found : NoteTable
        What :func:`read_note_table` gives.
    options : LabelOptions
    others : mapping, optional
        Further columns, which are always stored: from name to the cell of each file.

    Raises
    ------
    OptionError
        There is no such column, or two have one name.
    """
    table, others, separator = found.table, others or {}, options.separator.strip() or options.separator
    given = {
        column: {file: row[number] for file, row in table.labels.items()} for number, column in enumerate(table.columns)
    }
    chosen = list(map(normal_text, options.columns)) if options.columns else table.columns
    stratum = [normal_text(options.stratify)] if options.stratify else []
    for name, column in [("--columns", column) for column in chosen] + [("--stratify", column) for column in stratum]:
        if column not in given and (name == "--columns" or column not in others):
            known = ", ".join([*given, *others]) or "none"
            raise OptionError(f"{name} {column}: not in {found.where}; its columns of labels are {known}.")
    if twice := [column for column in others if column in given]:
        raise OptionError(f"{found.where}: {twice[0]} is the name of a column that is made here; rename it.")
    cells: dict[str, Mapping[str, str]] = dict(others)
    for column in dict.fromkeys([*chosen, *stratum]):
        if column in given:
            cells[column], wrong = usable_cells(given[column], separator)
            if column in chosen:
                found.complain(column, wrong, found.where)
    columns = list(dict.fromkeys([*chosen, *others]))
    files = dict.fromkeys([*table.labels, *(file for column in others.values() for file in column)])
    labels = {file: [cells[column].get(file, "") for column in columns] for file in files}
    strata = dict(cells[stratum[0]]) if stratum else {}
    stored = LabelTable(columns, labels, table.groups, table.splits)
    return NoteTable(stored, strata, found.complaints, found.unusable, found.where)


def usable_cells(given: dict[str, str], separator: str) -> tuple[dict[str, str], dict[str, str]]:
    """The cells of a column as a dataset stores them, and what is wrong with those that are left out.

    Parameters
    ----------
    given : dict of str to str
        From file to cell.
    separator : str
        What joins tags and numbers.

    Returns
    -------
    dict of str to str, dict of str to str
        From file to cell ("" for a missing label), and from file to the reason.
    """
    joined = separator != SEPARATOR and any(separator in cell for cell in given.values())
    split = separator if joined else SEPARATOR
    numbers = all(_is_number(part) for cell in given.values() for part in cell.split(split))
    cells, wrong = {}, {}
    for file, cell in given.items():
        parts = [normal_text(part) for part in cell.split(split)]
        if joined and (tag := next((part for part in parts if SEPARATOR in part), "")):
            wrong[file] = f"{tag!r} has a '{SEPARATOR}', which separates the tags of a dataset; names without it can be"
            wrong[file] += " stored"
        elif numbers and any(math.isinf(float(part)) for part in parts if part):
            wrong[file] = f"{cell!r} is infinite; finite numbers are accepted"
        cells[file] = "" if file in wrong else SEPARATOR.join(parts) if joined else cell
    return cells, wrong


def _is_number(text: str) -> bool:
    """Whether a text is a number (also an infinite one) or a missing one."""
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def classes_of(cell: str) -> list[str]:
    """The classes, tags or numbers in a cell of a dataset."""
    return [part for part in map(normal_text, cell.split(SEPARATOR)) if not is_unlabelled(part)]


def strata_of(cells: Sequence[str]) -> list[list[str]]:
    """What folds are stratified by: the tags of each cell; many different numbers are divided into five equal parts.

    A missing label is a class of its own, so that labelled items are spread too.
    """
    found = [classes_of(cell) or [""] for cell in cells]
    values = {name for names in found for name in names}
    if len(values) > _VALUES and all(map(_is_number, values)):
        first = np.array([float(names[0] or "nan") for names in found])
        edges = np.nanquantile(first, np.arange(1, _STRATA) / _STRATA)
        bins = np.searchsorted(edges, first, side="right")
        return [[""] if math.isnan(value) else [str(part)] for value, part in zip(first, bins.tolist(), strict=True)]
    return found


class NoteLabelsWriter(LabelsWriter):
    """Writes ``{split}.labels.csv``, and draws the folds.

    A piece's sidecars hold ``notes``, the number of notes of each of its items.

    Parameters
    ----------
    found : NoteTable
    folds : int
        K, or 0 for none.
    stratify : str
        The column that folds are stratified by, or "".
    seed : int
    """

    suffix = ".labels.csv"
    fixed = FIXED_COLUMNS
    only_listed = True

    def __init__(self, found: NoteTable, folds: int = 0, stratify: str = "", seed: int = 1) -> None:
        super().__init__(found.table)
        self._found, self._folds, self._stratify, self._seed = found, folds, normal_text(stratify), seed
        self.splits_of = "the table of labels"
        self._items: Counter[str] = Counter()

    def description(self) -> dict[str, Any]:
        """A hash of all that determines the tables and what is left out."""
        table = self._table
        known = [table.columns, table.labels, table.groups, table.splits, self._found.strata]
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]
        return {"labels_sha256": digest, "folds": self._folds, "stratify": self._stratify}

    def check(self, collection: Collection) -> None:
        """Leave out files without labels, and name cells that cannot be stored."""
        super().check(collection)
        names = collection.names
        self._unusable, _ = collection.values_by_file(self._found.unusable)
        self._strata, _ = collection.values_by_file(self._found.strata)
        for sentence in self._found.complaints:
            say(sentence)
        self.failures = len(self._found.complaints)
        if not self._table.labels:
            return
        without = [index for index, name in enumerate(names) if not any(self._labels.get(name, ()))]
        if len(without) == len(names):
            raise OptionError(
                f"{self._found.where}: none of the {len(names):,} files has a label in "
                f"{', '.join(self._table.columns) or 'any column'}."
            )
        if without:
            say(f"{len(without):,} files have no labels, the first is {names[without[0]]}; they are left out.")
        self.left_out = dict.fromkeys(without, Failure(NO_LABELS, ""))

    def decided(self, plan: SplitPlan) -> None:
        """Draw the folds, and say which classes cannot be both learnt and tested."""
        self._plan = plan
        kept = np.flatnonzero(plan.split >= 0)
        keys, unit = np.unique(plan.unit[kept], return_inverse=True)
        self._fold = np.full(len(plan.split), -1, np.int64)
        if self._folds:
            self._fold[kept] = self._draw(kept, keys, unit)[unit]
        self._say_classes(kept, unit)

    def _draw(self, kept: NDArray[np.int64], keys: NDArray[np.uint64], unit: NDArray[np.int64]) -> NDArray[np.int64]:
        """The fold of each of U units, int64 [U]."""
        folds, names = self._folds, self._collection.names
        if folds > len(keys):
            raise OptionError(
                f"--folds {folds}: the source holds {len(keys)} (counting once what stays together: copies and "
                "groups), which is the largest number of folds."
            )
        sizes = np.bincount(unit, minlength=len(keys))
        classes = np.zeros((len(keys), 0), np.int64)
        if self._stratify:
            strata = strata_of([self._strata.get(names[index], "") for index in kept.tolist()])
            different = len({name for found in strata for name in found})
            if different > len(kept) / 2:
                raise OptionError(
                    f"--stratify {self._stratify}: {different:,} different values for {len(kept):,} files; a column "
                    "of classes is needed."
                )
            classes = class_counts(strata, unit, len(keys))
        fold = assign_folds(sizes, classes, keys, folds, self._seed)
        whole = -(-len(kept) // folds)
        for large in np.flatnonzero(sizes > whole).tolist():
            say(
                f"{names[int(kept[unit == large][0])]} stays together with {sizes[large] - 1:,} other files (copies, "
                f"groups), which are more than a fold of {whole:,}; other folds are smaller."
            )
        held = np.bincount(fold, sizes, folds).astype(np.int64)
        say(f"{folds} folds of {held.min():,} to {held.max():,} files, from {len(keys):,} that stay together.")
        return fold

    def _say_classes(self, kept: NDArray[np.int64], unit: NDArray[np.int64]) -> None:
        """Name columns of one class, classes that are in one unit only, and classes of test that train lacks."""
        rows = [self._labels.get(self._collection.names[index], []) for index in kept.tolist()]
        alone = []
        for number, column in enumerate(self._table.columns):
            cells = [classes_of(row[number]) if row else [] for row in rows]
            owners: dict[str, set[int]] = defaultdict(set)
            for place, found in enumerate(cells):
                for name in found:
                    owners[name].add(place)
            if len(owners) == 1:
                alone.append(column)
            if len(owners) < 2 or len(owners) > sum(map(bool, cells)) / 2:
                continue  # such as titles
            if len(owners) > _VALUES and all(map(_is_number, owners)):
                continue
            single = sorted(name for name, places in owners.items() if len({int(unit[place]) for place in places}) == 1)
            if single:
                say(
                    f"column {column}: {_listed(single)}: a class whose files all stay together (copies, groups) "
                    "cannot be both learnt and tested."
                )
            if not self._folds:
                self._say_lacking(kept, column, owners)
        if alone:
            say(f"column {', '.join(alone)}: one class alone, so nothing can be learnt from it.")

    def _say_lacking(self, kept: NDArray[np.int64], column: str, owners: dict[str, set[int]]) -> None:
        split = self._plan.split[kept].tolist()
        for other in (1, 2):
            lacking = sorted(
                name
                for name, places in owners.items()
                if (held := {split[place] for place in places}) >= {other} and 0 not in held
            )
            if lacking:
                say(f"column {column}: {_listed(lacking)}: in {SPLITS[other]}, but not in train.")

    def rows(self, index: int, split: str, sidecars: dict[str, Any]) -> Iterator[list[object]]:
        """File, item, notes, piece, unit and fold of each item."""
        name = self._collection.names[index]
        unit, fold = f"{int(self._plan.unit[index]):016x}", int(self._fold[index])
        for notes in sidecars["notes"]:
            yield [name, self._items[split], notes, name, unit, fold if fold >= 0 else ""]
            self._items[split] += 1

    def add(self, index: int, split: str, sidecars: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a file's items; returns its fold, and its columns that could not be stored."""
        super().add(index, split, sidecars)
        entries: dict[str, Any] = {"fold": int(self._fold[index])} if self._folds else {}
        if unusable := self._unusable.get(self._collection.names[index]):
            entries["unusable_labels"] = unusable
        return entries


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
