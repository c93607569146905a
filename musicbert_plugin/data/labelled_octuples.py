"""Labels beside octuples: names, columns and readers of the sidecars of a labelled dataset folder.

A labelled folder is a dataset folder of kind ``octuple`` (``dataset_folder``) with drawn windows, which the task
``octuple_masked_lm`` reads too.  Beside ``{split}.{bin,idx}`` it has some of these sidecars:

``{split}.labels.csv``
    A row per item, in the order of the items: the columns of :data:`FIXED_COLUMNS`, then columns of labels and of
    weights as text, which ``labels`` reads.  An empty cell is a missing label.

    ========  =======================================================================================================
    column    meaning
    ========  =======================================================================================================
    file      name of the source file
    item      index of the item in its split
    notes     number of its notes
    piece     what the items of one file have in common: a file of more than 256 bars is several items
    group     unit of the split: copies, and pieces that the user has grouped, have one
    fold      0 to K - 1 in a folder built with ``--folds K``, where all items are in ``train``; else empty
    ========  =======================================================================================================

``{split}.notes.NAME.{bin,idx}``
    A label per note, in the container of ``indexed_dataset``, uint16: as many values per item as it has notes, in their
    order.  0 is unlabelled, k + 1 is class k.  The names of the classes are in ``config.json``, under
    ``"note_labels"``: ``{NAME: [class, ...]}``.  Classes that a model is given for each note are stored alike; their
    names are under ``"note_conditions"``.  ``"hide"`` lists the fields that labels were made of.
``{split}.pairs.csv``
    Pairs of phrases, see :data:`PAIR_COLUMNS`: indices of two items, 1 if they belong together and else 0, and the
    number of the group of candidates among which the true one is to be found (empty in ``train``).  ``config.json``
    says, as ``"second_bar"`` under ``"phrases"``, at which bar the second one begins where a pair is one sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.octuple import BARS, FIELDS
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.parsing import shortened, whole_number
from musicbert_plugin.tables import read_table

FIXED_COLUMNS = ("file", "item", "notes", "piece", "group", "fold")
PAIR_COLUMNS = ("first", "second", "label", "query")
NOTE_TYPE = "uint16"
"""Value type of the container of note labels."""
NOTE_LABELS, NOTE_CONDITIONS = "note_labels", "note_conditions"
"""Entries of ``config.json``: from name to the names of the classes."""
TRAIN, VALID, TEST = "train", "valid", "test"
BUILDER = "python -m preprocess.labels"
_FRAME = 2  # octuples that frame an item
_AGAIN = f"build the dataset again with '{BUILDER}'"


def labels_path(folder: str | Path, split: str) -> Path:
    """The table of a split's items."""
    return Path(folder) / f"{split}.labels.csv"


def pairs_path(folder: str | Path, split: str) -> Path:
    """The table of a split's pairs of phrases."""
    return Path(folder) / f"{split}.pairs.csv"


def note_labels_prefix(folder: str | Path, split: str, name: str) -> Path:
    """The container of a label per note, without ``.bin`` and ``.idx``."""
    return Path(folder) / f"{split}.notes.{name}"


@dataclass(frozen=True)
class LabelledItems:
    """The table of a split's N items, or of some of them.

    Attributes
    ----------
    path : Path
        The table, for messages.
    item : int64 [N]
        Index in the split.
    notes : int64 [N]
    files, pieces, groups : list of str [N]
    folds : int64 [N]
        -1 in a folder without folds.
    labels : dict of str to list of str [N]
        From column to its cells; "" for missing labels.  Names of columns are in normal form (``tables.normal_text``).
    """

    path: Path
    item: NDArray[np.int64]
    notes: NDArray[np.int64]
    files: list[str]
    pieces: list[str]
    groups: list[str]
    folds: NDArray[np.int64]
    labels: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: Iterable[int]) -> LabelledItems:
        """Some of the rows, in this order."""
        chosen = np.fromiter(rows, np.int64)
        numbers = chosen.tolist()

        def some(cells: Sequence[str]) -> list[str]:
            return [cells[row] for row in numbers]

        return LabelledItems(
            self.path,
            self.item[chosen],
            self.notes[chosen],
            some(self.files),
            some(self.pieces),
            some(self.groups),
            self.folds[chosen],
            {column: some(cells) for column, cells in self.labels.items()},
        )


def read_labels(folder: str | Path, split: str) -> LabelledItems:
    """Read ``{split}.labels.csv``.

    Raises
    ------
    DatasetError
        It is missing or damaged, or a column is there twice.
    """
    path = labels_path(folder, split)
    rows, header = _rows_of(path, FIXED_COLUMNS, "labels")
    columns = {name: [row[number] for row in rows] for number, name in enumerate(header)}
    item, notes = (_numbers(path, columns[name], name) for name in ("item", "notes"))
    if not np.array_equal(item, np.arange(len(rows))):
        line = 2 + int(np.flatnonzero(item != np.arange(len(rows)))[0])
        raise DatasetError(
            f"{path}, line {line}: item {rows[line - 2][1]!r}, but items are numbered from 0 in the order of the rows; "
            f"{_AGAIN}."
        )
    folds = columns["fold"]
    if all(folds):
        numbers = _numbers(path, folds, "fold")
    elif any(folds):
        raise DatasetError(f"{path}, line {2 + folds.index('')}: no fold, but other rows have one; {_AGAIN}.")
    else:
        numbers = np.full(len(rows), -1)
    labels = {name: cells for name, cells in columns.items() if name not in FIXED_COLUMNS}
    return LabelledItems(path, item, notes, columns["file"], columns["piece"], columns["group"], numbers, labels)


def _rows_of(path: Path, fixed: Sequence[str], rest: str) -> tuple[list[list[str]], list[str]]:
    """The cells of a table that begins with these columns, and all names of columns."""
    try:
        header, numbered = read_table(path, strip=False)
    except OptionError as error:
        raise DatasetError(f"{str(error).rstrip('.')}; {_AGAIN}.") from None
    bad = next((line for line, row in numbered if len(row) != len(header)), 1)
    if tuple(header[: len(fixed)]) != tuple(fixed) or bad > 1:
        expected = ", ".join(fixed) + (f" and {rest}" if rest else "")
        raise DatasetError(f"{path}, line {bad} has not the columns {expected}; {_AGAIN}.")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DatasetError(
            f"{path} has two columns named {twice[0]!r}; rename one in the table of labels, and {_AGAIN}."
        )
    return [row for _, row in numbered], header


def _numbers(path: Path, cells: Sequence[str], column: str) -> NDArray[np.int64]:
    numbers = [whole_number(cell) for cell in cells]
    if None in numbers:
        row = numbers.index(None)
        raise DatasetError(
            f"{path}, line {2 + row}: {column} is {shortened(cells[row])}, but a whole number is accepted; {_AGAIN}."
        )
    return np.array(numbers, np.int64)


def check_items(items: LabelledItems, sizes: NDArray[Any], prefix: str | Path) -> None:
    """Raise :class:`DatasetError` if a table of a whole split lists other items than its container holds.

    Parameters
    ----------
    items : LabelledItems
    sizes : int [N]
        Values of each item of the container.
    prefix : path
        The container, for messages.
    """
    if not np.array_equal(sizes // len(FIELDS) - _FRAME, items.notes):
        raise DatasetError(f"{prefix}.bin and {items.path.name} list different items; {_AGAIN}.")


# -------------------------------------------------------------------------------------------------------------- folds


def fold_parts(items: LabelledItems, fold: int, dev_share: float, seed: int) -> dict[str, NDArray[np.int64]]:
    """The rows of train, valid and test where one fold is the test set.

    The units (groups) of the other folds are ordered by a hash of the seed and their names; the first ``dev_share`` of
    them, rounded, and one at least, are valid, and the rest is train.

    Parameters
    ----------
    items : LabelledItems
        Of ``train``, with folds.
    fold : int
    dev_share : float
    seed : int

    Returns
    -------
    dict of str to int64 [n]
        From ``train``, ``valid`` and ``test`` to ascending rows of the table.  No unit is in two of them.

    Raises
    ------
    DatasetError
        The folder has no folds, or a unit lies in two of them.
    OptionError
        There is no such fold, the share is none, or nothing is left to train on.
    """
    if not len(items) or items.folds[0] < 0:
        raise DatasetError(f"{items.path} has no folds; '{BUILDER} ... --folds K' makes some.")
    folds = int(items.folds.max()) + 1
    if not 0 <= fold < folds:
        raise OptionError(f"--fold is {fold}, but {items.path} has the folds 0 to {folds - 1}.")
    if not 0 <= dev_share < 1:
        raise OptionError(f"--dev-share is {dev_share:g}, but a share of at least 0 and below 1 is accepted.")
    fold_of: dict[str, int] = {}
    for unit, number in zip(items.groups, items.folds.tolist(), strict=True):
        if fold_of.setdefault(unit, number) != number:
            raise DatasetError(
                f"{items.path}: group {unit!r} lies in the folds {fold_of[unit]} and {number}; {_AGAIN}."
            )
    others = sorted((unit for unit, number in fold_of.items() if number != fold), key=lambda unit: _hash(seed, unit))
    count = max(round(dev_share * len(others)), 1) if dev_share else 0
    if count >= len(others):
        raise OptionError(
            f"--dev-share {dev_share:g} of the {len(others)} groups outside fold {fold} of {items.path} leaves none to "
            "train on; a smaller share, or a dataset of more groups, is needed."
        )
    part_of = {unit: VALID if place < count else TRAIN for place, unit in enumerate(others)}
    parts = np.array([part_of.get(unit, TEST) for unit in items.groups])
    return {name: np.flatnonzero(parts == name) for name in (TRAIN, VALID, TEST)}


def _hash(seed: int, unit: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{unit}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


# -------------------------------------------------------------------------------------------------------- note labels


def note_classes(config: dict[str, Any], entry: str = NOTE_LABELS) -> dict[str, tuple[str, ...]]:
    """The class names of each note label (or condition) of a ``config.json``; empty if it has none.

    Raises
    ------
    DatasetError
        The entry is not of the form ``{NAME: [class, ...]}``.
    """
    found = config.get(entry, {})
    if not isinstance(found, dict) or not all(
        isinstance(names, list) and names and all(isinstance(name, str) for name in names) for names in found.values()
    ):
        raise DatasetError(f'config.json says "{entry}": {shortened(found)}, but lists of class names are accepted.')
    return {str(name): tuple(classes) for name, classes in found.items()}


def hidden_of(config: dict[str, Any]) -> tuple[str, ...]:
    """The fields of notes that a ``config.json`` hides from models, since its labels were made of them.

    Raises
    ------
    DatasetError
        It has something else than a list of fields.
    """
    found = config.get("hide", [])
    if not isinstance(found, list) or not all(isinstance(name, str) and name in FIELDS for name in found):
        raise DatasetError(
            f'config.json says "hide": {shortened(found)}, but a list of some of {", ".join(FIELDS)} is accepted.'
        )
    return tuple(found)


def open_note_labels(folder: str | Path, split: str, name: str, notes: NDArray[np.int64]) -> IndexedDataset:
    """Open a label per note; item i holds ``notes[i]`` values, 0 for unlabelled notes and k + 1 for class k.

    Raises
    ------
    DatasetError
        The container is missing or damaged, or does not match the notes.
    """
    prefix = note_labels_prefix(folder, split, name)
    found = IndexedDataset(prefix)
    if len(found.sizes) != len(notes):
        raise DatasetError(
            f"{prefix}.bin has labels of {len(found.sizes)} items, but {split} has {len(notes)}; {_AGAIN}."
        )
    if len(odd := np.flatnonzero(found.sizes != notes)):
        item = int(odd[0])
        raise DatasetError(
            f"{prefix}.bin has {found.sizes[item]} labels for item {item}, which has {notes[item]} notes; {_AGAIN}."
        )
    return found


# -------------------------------------------------------------------------------------------------------------- pairs


@dataclass(frozen=True)
class PhrasePairs:
    """The pairs of a split: int64 [P] each.

    Attributes
    ----------
    first, second : int64 [P]
        Indices of items.
    label : int64 [P]
        1 if the two belong together, else 0.
    query : int64 [P]
        Number of the group of candidates; -1 for none.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    label: NDArray[np.int64]
    query: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


def read_pairs(folder: str | Path, split: str, items: int) -> PhrasePairs:
    """Read ``{split}.pairs.csv`` of a split of so many items.

    Raises
    ------
    DatasetError
        It is missing or damaged, or names an item that is not there.
    """
    path = pairs_path(folder, split)
    rows, _ = _rows_of(path, PAIR_COLUMNS, "")
    first, second, label = (_numbers(path, [row[number] for row in rows], PAIR_COLUMNS[number]) for number in range(3))
    queries = [row[3] for row in rows]
    query = np.full(len(rows), -1)
    if any(queries):
        query = _numbers(path, queries, "query")
    for name, values, limit in (("first", first, items), ("second", second, items), ("label", label, 2)):
        if len(beyond := np.flatnonzero(values >= limit)):
            raise DatasetError(
                f"{path}, line {2 + beyond[0]}: {name} is {values[beyond[0]]}, but 0 to {limit - 1} is accepted; "
                f"{_AGAIN}."
            )
    return PhrasePairs(first, second, label, query)


def second_bar(config: dict[str, Any]) -> int:
    """The bar at which the second phrase of a pair begins, of a ``config.json``.

    Raises
    ------
    DatasetError
        It does not say so.
    """
    phrases = config.get("phrases")
    bar = phrases.get("second_bar") if isinstance(phrases, dict) else None
    if not isinstance(bar, int) or isinstance(bar, bool) or not 0 <= bar < BARS:
        raise DatasetError(
            f'config.json says "phrases": {shortened(phrases)}, but a "second_bar" of 0 to {BARS - 1} is needed; '
            f"{_AGAIN}."
        )
    return bar
