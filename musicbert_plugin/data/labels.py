"""Labels: the columns that ``tasks.yaml`` asks for, and the numbers that their cells stand for.

A ``tasks.yaml`` names the tasks that are learnt at once::

    tasks:
      composer: {type: single, classes: [bach, chopin, joplin]}
      mood:     {type: multi, classes: [calm, dark, happy], weight: 0.5}
      affect:   {type: regression, column: AV, names: [arousal, valence]}

==============  ====================================================================================================
key             meaning
==============  ====================================================================================================
``type``        ``single``: an item has one class; ``multi``: any number of tags; ``regression``: numbers
``column``      column of the dataset's labels (default: the task's name)
``classes``     class or tag names (default: those of the training split, sorted)
``names``       regression: names of the numbers
``loss``        single: ``cross_entropy``; multi: ``bce``; regression: ``mse`` (default), ``huber`` or ``l1``
``weight``      of the task's loss (default 1)
``pos_weight``  multi: weight of a tag that is present against one that is absent (default 1)
==============  ====================================================================================================

A cell is a class name; tags joined by ``/``, where ``/`` alone means that the item has none of them; or numbers joined
by ``/``.  An empty cell (or number), or ``nan``, is *unlabelled*: it is left out of losses and metrics and never counts
as zero.  A cell that cannot be read is reported in a warning and is then unlabelled.

Numbers are standardised to mean 0 and deviation 1 over the labelled items of the training split.
"""

from __future__ import annotations

import logging
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.parsing import parse_yaml, shortened

logger = logging.getLogger(__name__)

LOSSES = {"single": ("cross_entropy",), "multi": ("bce",), "regression": ("mse", "huber", "l1")}
SEPARATOR = "/"
UNLABELLED = ("", "nan", "none", "null")
RESERVED = frozenset(dir(nn.ModuleDict()))  # a task's head is an entry of a ModuleDict
_MAX_WARNINGS = 5  # per column; further unreadable cells are counted


@dataclass(frozen=True)
class LabelTask:
    """One task of a ``tasks.yaml``.

    Attributes
    ----------
    name, type, column, loss : str
    classes : tuple of str
        Class, tag or quantity names; empty until :meth:`learn` has seen the training split.
    weight, pos_weight : float
    mean, deviation : tuple of float
        Regression: what standardised numbers are made with, one per quantity.
    """

    name: str
    type: str
    column: str
    classes: tuple[str, ...] = ()
    loss: str = ""
    weight: float = 1.0
    pos_weight: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Outputs of the task's head."""
        return len(self.classes)

    @property
    def label_count(self) -> int:
        """K, numbers that label an item."""
        return 1 if self.type == "single" else self.size

    def settings(self) -> dict[str, Any]:
        """Plain values for a checkpoint; :meth:`of` is the inverse."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def of(cls, settings: dict[str, Any]) -> LabelTask:
        """The task with these :meth:`settings`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()})

    def parse(self, cell: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Labels of a cell, in their own units, and which are present: float64 [K], bool [K].

        Raises
        ------
        ValueError
            If the cell names no class, or no number where one is due; its text says what is accepted.
        """
        values, present = np.zeros(self.label_count), np.zeros(self.label_count, bool)
        cell = cell.strip()
        if cell.lower() in UNLABELLED:
            return values, present
        if self.type == "regression":
            parts = [part.strip() for part in cell.split(SEPARATOR)]
            if len(parts) != self.size:
                raise ValueError(f"{self.size} numbers joined by '{SEPARATOR}' are accepted")
            for index, part in enumerate(parts):
                if part.lower() not in UNLABELLED:
                    values[index] = _number(part)
                    present[index] = True
            return values, present
        names = [part.strip() for part in cell.split(SEPARATOR)] if self.type == "multi" else [cell]
        unknown = [name for name in names if name and name not in self.classes]
        if unknown:
            accepted = ", ".join(self.classes[:8]) + (", ..." if self.size > 8 else "")
            raise ValueError(f"{unknown[0]!r} is none of the {self.size} accepted names ({accepted})")
        if self.type == "single":
            values[0] = self.classes.index(cell)
        else:
            values[[self.classes.index(name) for name in names if name]] = 1
        present[:] = True
        return values, present

    def learn(self, cells: Sequence[str]) -> LabelTask:
        """Complete the task from the training split: names if none were given, mean and deviation of numbers.

        Parameters
        ----------
        cells : sequence of str
            The task's column of the training split.

        Raises
        ------
        DatasetError
            If no cell is labelled, or there are fewer than two classes, or no tag.
        """
        task = self
        labelled = [cell.strip() for cell in cells if cell.strip().lower() not in UNLABELLED]
        if not labelled:
            raise DatasetError(
                f"task {self.name}: no item of the training split has a label in column {self.column!r}."
            )
        if not task.classes:
            if self.type == "regression":
                widths = Counter(cell.count(SEPARATOR) + 1 for cell in labelled)
                count = max(widths, key=lambda width: (widths[width], -width))  # the most frequent one
                names = [self.name] if count == 1 else [f"{self.name} {number}" for number in range(count)]
            else:
                parts = [cell.split(SEPARATOR) if self.type == "multi" else [cell] for cell in labelled]
                names = sorted({part.strip() for cell in parts for part in cell} - {""})
                if len(names) < (1 if self.type == "multi" else 2):
                    found = f"the class {names[0]!r} alone" if names else "no tag at all"
                    raise DatasetError(
                        f"task {self.name}: the training split has {found} in column {self.column!r}; "
                        f"{'one tag or more' if self.type == 'multi' else 'two classes or more'} can be learnt."
                    )
            task = replace(task, classes=tuple(names))
        elif self.type != "regression" and not read_cells(task, cells, "", quiet=True)[1].any():
            raise DatasetError(
                f"task {self.name}: no item of the training split has one of its classes ({', '.join(task.classes[:8])}"
                f"{', ...' if task.size > 8 else ''}) in column {self.column!r}; its first label is {labelled[0]!r}."
            )
        elif self.type == "single" and task.size < 2:
            raise DatasetError(f"task {self.name}: two classes or more can be learnt, not {task.classes[0]!r} alone.")
        if self.type == "regression" and not self.mean:
            values, present = read_cells(task, cells, "", quiet=True)
            table = np.where(present, values, np.nan)
            if not present.any(axis=0).all():
                lacking = task.classes[int(np.flatnonzero(~present.any(axis=0))[0])]
                raise DatasetError(f"task {self.name}: no item of the training split has a number for {lacking!r}.")
            deviation = np.nanstd(table, axis=0)
            task = replace(
                task,
                mean=tuple(np.nanmean(table, axis=0).tolist()),
                deviation=tuple(np.where(deviation > 1e-9, deviation, 1.0).tolist()),
            )
        return task

    def standardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standardise numbers in their own units, [..., K]; labels of other types stay as they are."""
        return (values - np.array(self.mean)) / np.array(self.deviation) if self.type == "regression" else values

    def restore_units(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The inverse of :meth:`standardise`."""
        return np.asarray(values) * np.array(self.deviation) + np.array(self.mean)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no number")
    return value


def read_tasks(path: str | Path) -> list[LabelTask]:
    """Read the tasks of a ``tasks.yaml``.

    Raises
    ------
    OptionError
        If the file cannot be read or holds something that is not in this module's table.
    """
    try:
        content = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OptionError(f"{path}: no such file; a YAML file that names the labels to learn is needed.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OptionError(f"{path} cannot be read as YAML ({reason}).") from None
    entries = content.get("tasks") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise OptionError(f"{path} names no tasks: 'tasks:' with one entry per task is expected.")
    return [_read_task(str(path), str(name), entry) for name, entry in entries.items()]


def _read_task(path: str, name: str, entry: Any) -> LabelTask:
    where = f"{path}, task {name}"
    if not re.fullmatch(r"\w[\w-]*", name):
        raise OptionError(f"{where}: a name of letters, digits, '_' and '-' is accepted.")
    if name in RESERVED:
        raise OptionError(f"{where}: {name!r} is a name that PyTorch keeps for itself; give the task another name.")
    kind = entry.get("type") if isinstance(entry, dict) else entry
    if not isinstance(entry, dict) or not isinstance(kind, str) or kind not in LOSSES:
        raise OptionError(f"{where}: the type is {shortened(kind)}, but it is one of {', '.join(LOSSES)}.")
    names = "names" if kind == "regression" else "classes"
    known = {"type", "column", "loss", "weight", names} | ({"pos_weight"} if kind == "multi" else set())
    if unknown := sorted(map(shortened, set(entry) - known)):
        raise OptionError(f"{where}: {unknown[0]} is unknown; {', '.join(sorted(known))} are not.")
    loss = entry.get("loss", LOSSES[kind][0])
    if loss not in LOSSES[kind]:
        raise OptionError(
            f"{where}: the loss is {shortened(loss)}, but for {kind} it is one of {', '.join(LOSSES[kind])}."
        )
    classes = entry.get(names) or []
    if (
        not isinstance(classes, list)
        or not all(map(_is_scalar, classes))
        or len(set(map(str, classes))) != len(classes)
    ):
        raise OptionError(f"{where}: {names} is {shortened(classes)}, but a list of different names is accepted.")
    column = entry.get("column", name)
    if not _is_scalar(column):
        raise OptionError(f"{where}: the column is {shortened(column)}, but the name of one is accepted.")
    numbers = {}
    for key in ("weight", "pos_weight"):
        value = entry.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
            raise OptionError(f"{where}: {key} is {shortened(value)}, but a number of at least 0 is accepted.")
        numbers[key] = float(value)
    return LabelTask(name, kind, str(column), tuple(map(str, classes)), loss, **numbers)


def _is_scalar(value: Any) -> bool:
    return value is not None and not isinstance(value, (list, dict, tuple, set))


def read_cells(
    task: LabelTask, cells: Sequence[str], where: str, *, names: Sequence[str] | None = None, quiet: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Labels of all items in their own units, and which are present: float64 and bool, [N, K].

    Parameters
    ----------
    task : LabelTask
    cells : sequence of str [N]
    where : str
        The file that warnings name.
    names : sequence of str [N], optional
        Names of the items, for warnings.
    quiet : bool
        Whether cells that cannot be read, which are unlabelled, pass without a warning.
    """
    values = np.zeros((len(cells), task.label_count))
    present = np.zeros(values.shape, bool)
    bad = 0
    for index, cell in enumerate(cells):
        try:
            values[index], present[index] = task.parse(cell)
        except ValueError as error:
            bad += 1
            if bad <= _MAX_WARNINGS and not quiet:
                name = names[index] if names else f"item {index}"
                logger.warning(
                    "%s: %s has %r in column %r, but %s; it counts as unlabelled", where, name, cell, task.column, error
                )
    if bad > _MAX_WARNINGS and not quiet:
        logger.warning("%s: %d cells of column %r in all cannot be read", where, bad, task.column)
    return values, present


def column_of(task: LabelTask, labels: dict[str, list[str]], where: str) -> list[str]:
    """The cells of a task's column.

    Raises
    ------
    DatasetError
        If there is no such column.
    """
    if task.column not in labels:
        known = ", ".join(labels) or "none at all"
        raise DatasetError(f"{where} has no label column {task.column!r} for task {task.name}; it has {known}.")
    return labels[task.column]
