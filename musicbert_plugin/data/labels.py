"""Labels: the columns that ``tasks.yaml`` asks for, and the numbers that their cells stand for.

A ``tasks.yaml`` names the tasks that are learnt at once::

    tasks:
      composer: {type: single, classes: [bach, chopin, joplin]}
      mood:     {type: multi, classes: [calm, dark, happy], weight: 0.5}
      affect:   {type: regression, column: AV, names: [arousal, valence]}

===================  ===============================================================================================
key                  meaning
===================  ===============================================================================================
``type``             ``single``: an item has one class; ``multi``: any number of tags; ``regression``: numbers
``column``           column of the dataset's labels (default: the task's name)
``classes``          class or tag names (default: those of the training split, sorted)
``names``            regression: names of the numbers
``separator``        multi, regression: what joins the tags or numbers of a cell (default ``/``), in quotes: ``"|"``
``loss``             single: ``cross_entropy``; multi: ``bce``; regression: ``mse`` (default), ``huber`` or ``l1``
``weight``           of the task's loss (default 1)
``pos_weight``       multi: weight of a tag that is present against one that is absent (default 1)
``class_weights``    single: weights of the loss by class, ``{bach: 2}`` (1 where none is given; needs ``classes``), or
                     ``balanced``: N / (C n) for a class of n of the N labelled training items and C classes
``label_smoothing``  single, multi: share of a label that is spread evenly over all classes, or over yes and no of a
                     tag (default 0)
``weight_column``    column of the dataset's labels that holds weights of the loss by item: a number of at least 0, or
                     (multi, regression) one per tag or quantity, joined by the separator; an empty cell is 1
``hide``             notes: fields that the model does not see, such as ``[velocity]`` where it is the label; those
                     of all tasks of the file are hidden
===================  ===============================================================================================

Weights change the loss, and neither the number of items by which it is divided nor any metric.

A cell is a class name; tags joined by the separator, where the separator alone means that the item has none of them; or
numbers joined by it.  An empty cell (or number), or ``nan``, is *unlabelled*: it is left out of losses and metrics and
never counts as zero.  All other words, ``none`` and ``null`` among them, are names of classes.  Tags that are none of
the task's (with ``classes: [the, ten, most, frequent]``, all others) are ignored and counted.  A cell that cannot be
read, such as a class that is none of the task's, is reported in a warning and is then unlabelled.

Names are compared without the space at their ends and in Unicode's normal form NFC.  In a ``tasks.yaml`` they must be
strings for YAML, which reads ``yes``, ``060`` and ``null`` as other things: such names are refused unless quoted.

Numbers are standardised to mean 0 and deviation 1 over the labelled items of the training split.
"""

from __future__ import annotations

import logging
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.octuple import FIELDS
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.files import read_regular_text
from musicbert_plugin.parsing import parse_yaml, shortened
from musicbert_plugin.tables import normal_text

logger = logging.getLogger(__name__)

LOSSES = {"single": ("cross_entropy",), "multi": ("bce",), "regression": ("mse", "huber", "l1")}
SEPARATOR = "/"
OTHER_SEPARATORS = ("|", ";", ",", "/")
"""What other tables join tags with; cells that look joined by one of them are reported."""
UNLABELLED = ("", "nan")
_MAX_WARNINGS = 5  # per column; further unreadable cells are counted


def is_unlabelled(cell: str) -> bool:
    """Whether a cell is a missing label."""
    return cell.strip().lower() in UNLABELLED


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
    separator : str
        What stands between the tags or numbers of a cell.
    class_weights : tuple of float
        One per class; empty for equal weights.
    balanced : bool
        Whether :meth:`learn` makes ``class_weights`` of the numbers of items.
    label_smoothing : float
    weight_column : str
        Column of weights by item; empty for none.
    hide : tuple of str
        Fields of notes that the model does not see.
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
    separator: str = SEPARATOR
    class_weights: tuple[float, ...] = ()
    balanced: bool = False
    label_smoothing: float = 0.0
    weight_column: str = ""
    hide: tuple[str, ...] = ()

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

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {normal_text(name): number for number, name in enumerate(self.classes)}

    def parts(self, cell: str) -> list[str]:
        """The names in a cell (one for a task of one class), or the texts of its numbers; empty ones included."""
        return [normal_text(part) for part in ([cell] if self.type == "single" else cell.split(self.separator))]

    def foreign_tags(self, cell: str) -> list[str]:
        """The tags in a cell that are none of the task's, which :meth:`parse` ignores; none for other tasks."""
        if self.type != "multi" or is_unlabelled(cell):
            return []
        return [tag for tag in self.parts(cell) if not is_unlabelled(tag) and tag not in self._number_of]

    def parse(self, cell: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Labels of a cell, in their own units, and which are present: float64 [K], bool [K].

        Raises
        ------
        ValueError
            If the cell is no class, looks joined by another separator, or has no number where one is due; its text
            says what is accepted.
        """
        values, present = np.zeros(self.label_count), np.zeros(self.label_count, bool)
        if is_unlabelled(cell):
            return values, present
        parts = self.parts(cell)
        if self.type == "regression":
            if other := _numbers_joined_by(cell, self.separator):
                raise ValueError(f"its numbers are joined by '{other}', which 'separator: '{other}'' reads")
            if len(parts) != self.size:
                raise ValueError(f"{self.size} numbers joined by '{self.separator}' are accepted")
            for index, part in enumerate(parts):
                if part.lower() not in UNLABELLED:
                    values[index] = _number(part)
                    present[index] = True
            return values, present
        known = [self._number_of[name] for name in parts if name in self._number_of]
        for name in (name for name in parts if not is_unlabelled(name) and name not in self._number_of):
            if other := self._joined_by(name):
                read = f"separator: '{other}'" if self.type == "multi" else "type: multi"
                raise ValueError(f"{name!r} looks like several names joined by '{other}', which '{read}' reads")
        if self.type == "multi":
            values[known] = 1
        elif known:
            values[0] = known[0]
        else:
            accepted = ", ".join(self.classes[:8]) + (", ..." if self.size > 8 else "")
            raise ValueError(f"{parts[0]!r} is none of the {self.size} accepted names ({accepted})")
        present[:] = True
        return values, present

    def _joined_by(self, name: str) -> str:
        """The separator by which a text splits into several names of the task, or ``""``."""
        for other in OTHER_SEPARATORS:
            parts = [normal_text(part) for part in name.split(other) if part.strip()]
            if len(parts) > 1 and all(part in self._number_of for part in parts):
                return other
        return ""

    def learn(self, cells: Sequence[str], where: str = "the training split") -> LabelTask:
        """Complete the task from the training split: names if none were given, mean and deviation of numbers.

        Labels that look joined by another separator, and classes that no item has, are named in a warning.

        Parameters
        ----------
        cells : sequence of str
            The task's column of the training split.
        where : str
            What holds the cells, for messages.

        Raises
        ------
        DatasetError
            If no cell is labelled, or there are fewer than two classes, or no tag.
        """
        labelled = [cell for cell in cells if not is_unlabelled(cell)]
        if not labelled:
            raise DatasetError(f"task {self.name}: no item of {where} has a label in column {self.column!r}.")
        task = self if self.classes else self._with_names_of(labelled, where)
        if self.type == "regression":
            return task if task.mean else task._with_scale_of(labelled, where)
        values, present = read_cells(task, labelled, "", quiet=True)
        if self.classes:
            task._check_classes(values, present, labelled, where)
        return task.balance(np.bincount(values[present[:, 0], 0].astype(np.int64), minlength=task.size))

    def balance(self, counts: NDArray[np.int64]) -> LabelTask:
        """The task with class weights made of the numbers of its classes, int64 [C], if it asks for them."""
        if not self.balanced:
            return self
        weights = counts.sum() / (self.size * np.maximum(counts, 1))
        return replace(self, class_weights=tuple(weights.tolist()))

    def parse_weights(self, cell: str) -> NDArray[np.float64]:
        """Weights of a cell of :attr:`weight_column`, float64 [K].

        Raises
        ------
        ValueError
            If it holds no such numbers; its text says what is accepted.
        """
        if is_unlabelled(cell):
            return np.ones(self.label_count)
        parts = [cell] if self.type == "single" else cell.split(self.separator)
        if len(parts) not in (1, self.label_count):
            raise ValueError(f"one number, or {self.label_count} joined by '{self.separator}', are accepted")
        weights = np.array([1.0 if is_unlabelled(part) else _number(part.strip()) for part in parts])
        if (weights < 0).any():
            raise ValueError("numbers of at least 0 are accepted")
        return np.broadcast_to(weights, self.label_count).copy()

    def _with_names_of(self, labelled: Sequence[str], where: str) -> LabelTask:
        if self.type == "regression":
            widths = Counter(len(self.parts(cell)) for cell in labelled)
            count = max(widths, key=lambda width: (widths[width], -width))  # the most frequent one
            numbered = [self.name] if count == 1 else [f"{self.name} {number}" for number in range(count)]
            return replace(self, classes=tuple(numbered))
        counts = Counter(part for cell in labelled for part in self.parts(cell) if not is_unlabelled(part))
        if len(counts) < (1 if self.type == "multi" else 2):
            found = f"the class {next(iter(counts))!r} alone" if counts else "no tag at all"
            raise DatasetError(
                f"task {self.name}: {where} has {found} in column {self.column!r}; "
                f"{'one tag or more' if self.type == 'multi' else 'two classes or more'} can be learnt."
            )
        if joined := _look_joined(counts, self.separator if self.type == "multi" else "", self.type == "single"):
            other, names = joined
            remedy = f"separator: '{other}' reads them so" if self.type == "multi" else "type: multi reads tags"
            logger.warning(
                "task %s: %d names in column %r look joined by '%s', such as %r, and each counts as one; %s",
                self.name, len(names), self.column, other, names[0], remedy,
            )  # fmt: skip
        return replace(self, classes=tuple(sorted(counts)))

    def _with_scale_of(self, labelled: Sequence[str], where: str) -> LabelTask:
        values, present = read_cells(self, labelled, "", quiet=True)
        table = np.where(present, values, np.nan)
        if not present.any(axis=0).all():
            lacking = self.classes[int(np.flatnonzero(~present.any(axis=0))[0])]
            raise DatasetError(
                f"task {self.name}: no item of {where} has a number for {lacking!r}; its first label in column "
                f"{self.column!r} is {labelled[0]!r}{self._complaint(labelled[0])}."
            )
        deviation = np.nanstd(table, axis=0)
        return replace(
            self,
            mean=tuple(np.nanmean(table, axis=0).tolist()),
            deviation=tuple(np.where(deviation > 1e-9, deviation, 1.0).tolist()),
        )

    def _complaint(self, cell: str) -> str:
        """What :meth:`parse` says about a cell that it cannot read, as the end of a sentence."""
        try:
            self.parse(cell)
        except ValueError as error:
            return f", but {error}"
        return ""

    def _check_classes(
        self, values: NDArray[np.float64], present: NDArray[np.bool_], labelled: Sequence[str], where: str
    ) -> None:
        """Raise :class:`DatasetError` if no item has a class of the task; warn of classes that no item has."""
        if self.type == "single":
            counts = np.bincount(values[present[:, 0], 0].astype(np.int64), minlength=self.size)
        else:
            counts = values.astype(np.int64).sum(axis=0)
        if not counts.any():
            raise DatasetError(
                f"task {self.name}: no item of {where} has one of its classes ({_first(self.classes)}) in column "
                f"{self.column!r}; its first label is {labelled[0]!r}{self._complaint(labelled[0])}."
            )
        self.check_counts(counts, where)

    def check_counts(self, counts: NDArray[np.int64], where: str, unit: str = "item") -> LabelTask:
        """The task itself, with a warning of classes that nothing in the training split has.

        Parameters
        ----------
        counts : int64 [C]
            Items (or notes) of each class or tag in the training split.
        where, unit : str
            What holds them, and what they are, for messages.

        Raises
        ------
        DatasetError
            There are fewer than two classes, or nothing has any of them.
        """
        if self.type == "single" and self.size < 2:
            raise DatasetError(f"task {self.name}: two classes or more can be learnt, not {self.classes[0]!r} alone.")
        if not counts.any():
            raise DatasetError(
                f"task {self.name}: no {unit} of {where} has one of its classes ({_first(self.classes)})."
            )
        if unseen := [name for name, count in zip(self.classes, counts.tolist(), strict=True) if not count]:
            logger.warning(
                "task %s: no %s of %s has %s, so it cannot be learnt", self.name, unit, where, _first(unseen)
            )
        return self

    def standardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standardise numbers in their own units, [..., K]; labels of other types stay as they are."""
        return (values - np.array(self.mean)) / np.array(self.deviation) if self.type == "regression" else values

    def restore_units(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The inverse of :meth:`standardise`."""
        return np.asarray(values) * np.array(self.deviation) + np.array(self.mean)


def _first(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _look_joined(names: Iterable[str], separator: str, all_alone: bool) -> tuple[str, list[str]] | None:
    """The separator by which some names look joined, and these names.

    A name looks joined if its parts are names of their own, or if one of them (unless ``all_alone``) is a part of two
    names.
    """
    names = list(names)
    for other in OTHER_SEPARATORS:
        if other == separator:
            continue
        parts = {name: [part for piece in name.split(other) if (part := normal_text(piece))] for name in names}
        owners = Counter(part for found in parts.values() for part in set(found))
        enough = all if all_alone else any
        if joined := [
            name
            for name, found in parts.items()
            if len(found) > 1 and enough((part in parts) if all_alone else owners[part] > 1 for part in found)
        ]:
            return other, joined
    return None


def _numbers_joined_by(cell: str, separator: str) -> str:
    """Another separator by which a cell splits into several numbers, or ``""``; a comma may be that of decimals."""
    for other in (other for other in OTHER_SEPARATORS if other != separator and (other != "," or "." in cell)):
        parts = cell.split(other)
        if len(parts) > 1 and all(re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*", part) for part in parts):
            return other
    return ""


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        hint = "; decimals are written with a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        raise ValueError(f"{text!r} is no number{hint}")
    return value


@dataclass(frozen=True)
class _NoString:
    """A scalar of a YAML file that is no string: how it is written, and what YAML makes of it."""

    text: str
    value: Any

    def __repr__(self) -> str:
        return self.text


def _read_yaml(text: str) -> Any:
    """The content of a YAML file, with :class:`_NoString` for numbers, ``yes``, ``null`` and the like.

    Raises
    ------
    ValueError
        It cannot be read, or has a key twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [key for key, count in Counter(keys).items() if count > 1 and key != "<<"]:
                raise ValueError(f"{twice[0]!r} stands twice in one place, line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    for kind in ("bool", "int", "float", "null", "timestamp"):
        tag = f"tag:yaml.org,2002:{kind}"
        make = yaml.SafeLoader.yaml_constructors[tag]
        Loader.add_constructor(tag, lambda loader, node, make=make: _NoString(node.value, make(loader, node)))
    return parse_yaml(text, Loader)


def read_tasks(path: str | Path) -> list[LabelTask]:
    """Read the tasks of a ``tasks.yaml``.

    Raises
    ------
    OptionError
        If the file cannot be read or holds something that is not in this module's table.
    """
    try:
        content = _read_yaml(read_regular_text(path, "utf-8-sig"))
    except FileNotFoundError:
        raise OptionError(f"{path}: no such file; a YAML file that names the labels to learn is needed.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OptionError(f"{path} cannot be read as YAML ({reason}).") from None
    entries = content.get("tasks") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise OptionError(f"{path} names no tasks: 'tasks:' with one entry per task is expected.")
    return [_read_task(str(path), name, entry) for name, entry in entries.items()]


def _string(where: str, what: str, value: Any) -> str:
    """A name in a ``tasks.yaml``, in the form in which it is compared."""
    if isinstance(value, _NoString) and value.text:
        read = "" if value.text == str(value.value) else f", which YAML reads as {value.value},"
        raise OptionError(f"{where}: {what} {value.text}{read} is no string; put quotes around it: '{value.text}'.")
    if not isinstance(value, str) or not normal_text(value):
        raise OptionError(f"{where}: {what} is {shortened(value)}, but a string that is not empty is accepted.")
    return normal_text(value)


def _read_task(path: str, given: Any, entry: Any) -> LabelTask:
    from torch import nn

    name = _string(path, "the task name", given)
    where = f"{path}, task {name}"
    if not re.fullmatch(r"\w[\w-]*", name):
        raise OptionError(f"{where}: a name of letters, digits, '_' and '-' is accepted.")
    if name in dir(nn.ModuleDict()):  # a task's head is an entry of a ModuleDict
        raise OptionError(f"{where}: {name!r} is a name that PyTorch keeps for itself; give the task another name.")
    kind = entry.get("type") if isinstance(entry, dict) else entry
    if not isinstance(kind, str) or kind not in LOSSES or not isinstance(entry, dict):
        raise OptionError(f"{where}: the type is {shortened(kind)}, but it is one of {', '.join(LOSSES)}.")
    names = "names" if kind == "regression" else "classes"
    known = {"type", "column", "loss", "weight", "weight_column", "hide", names}
    known |= {"separator"} if kind != "single" else {"class_weights"}
    known |= {"label_smoothing"} if kind != "regression" else set()
    known |= {"pos_weight"} if kind == "multi" else set()
    if unknown := sorted(str(key) for key in entry if key not in known):
        raise OptionError(f"{where}: {unknown[0]!r} is unknown; {', '.join(sorted(known))} are not.")
    loss = entry.get("loss", LOSSES[kind][0])
    if loss not in LOSSES[kind]:
        raise OptionError(
            f"{where}: the loss is {shortened(loss)}, but for {kind} it is one of {', '.join(LOSSES[kind])}."
        )
    column = _string(where, "the column", entry.get("column", name))
    separator = check_separator(where, entry.get("separator", SEPARATOR), kind)
    listed = entry.get(names, [])
    listed = [] if isinstance(listed, _NoString) and listed.value is None else listed
    if not isinstance(listed, list):
        raise OptionError(f"{where}: {names} is a list of different names.")
    classes = [_string(where, f"the entry of {names}", value) for value in listed]
    if len(set(classes)) != len(classes):
        raise OptionError(f"{where}: {names} is a list of different names.")
    for label in classes if kind != "regression" else ():
        if is_unlabelled(label):
            raise OptionError(
                f"{where}: the class {label!r} cannot be told from a missing label; give it another name."
            )
        if kind == "multi" and separator in label:
            raise OptionError(
                f"{where}: the tag {label!r} contains the separator {separator!r}; another 'separator:' is needed."
            )
    numbers = {key: _at_least_0(where, key, entry.get(key, 1.0)) for key in ("weight", "pos_weight")}
    smoothing = _at_least_0(where, "label_smoothing", entry.get("label_smoothing", 0.0))
    if smoothing >= 1:
        raise OptionError(f"{where}: label_smoothing is {smoothing:g}, but a share below 1 is accepted.")
    weight_column = _string(where, "weight_column", entry["weight_column"]) if "weight_column" in entry else ""
    balanced, class_weights = _read_class_weights(where, entry.get("class_weights"), classes)
    return LabelTask(
        name, kind, column, tuple(classes), loss, **numbers, separator=separator, class_weights=class_weights,
        balanced=balanced, label_smoothing=smoothing, weight_column=weight_column, hide=_read_hide(where, entry),
    )  # fmt: skip


def _read_hide(where: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """The fields that an entry hides."""
    hidden = entry.get("hide", [])
    names = hidden if isinstance(hidden, list) else [hidden]
    if bad := [name for name in names if not isinstance(name, str) or name not in FIELDS]:
        raise OptionError(f"{where}: hide has {shortened(bad[0])}, but of {', '.join(FIELDS)} some are accepted.")
    return tuple(names)


def hidden_fields(tasks: Iterable[LabelTask]) -> list[int]:
    """Indices of the fields of notes that any of the tasks hides, ascending."""
    return sorted({FIELDS.index(name) for task in tasks for name in task.hide})


def _at_least_0(where: str, key: str, value: Any) -> float:
    """A number of at least 0 in a ``tasks.yaml``."""
    value = value.value if isinstance(value, _NoString) else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
        raise OptionError(f"{where}: {key} is {shortened(value)}, but a number of at least 0 is accepted.")
    return float(value)


def _read_class_weights(where: str, given: Any, classes: Sequence[str]) -> tuple[bool, tuple[float, ...]]:
    """Whether class weights are balanced, and those that are given by name."""
    if given is None or given == "balanced":
        return given == "balanced", ()
    if not isinstance(given, dict):
        raise OptionError(
            f"{where}: class_weights is {shortened(given)}, but balanced or a number by class are accepted, as in "
            "{bach: 2}."
        )
    if not classes:
        raise OptionError(f"{where}: class_weights by name need 'classes:', which lists the names.")
    weights = {_string(where, "the class of a weight", name): value for name, value in given.items()}
    if foreign := [name for name in weights if name not in classes]:
        raise OptionError(f"{where}: class_weights has {foreign[0]!r}, which is none of its {len(classes)} classes.")
    return False, tuple(_at_least_0(where, f"the weight of {name}", weights.get(name, 1.0)) for name in classes)


def check_separator(where: str, value: Any, kind: str) -> str:
    """A separator of tags or numbers, as it is given.

    Raises
    ------
    OptionError
        It is no text, is empty, or may be part of a number.
    """
    text = value.strip() or value if isinstance(value, str) else _string(where, "the separator", value)
    if not text or (kind == "regression" and re.search(r"[\w.+-]", text)):
        wanted = "characters that are not part of a number" if kind == "regression" else "one character or more"
        raise OptionError(f"{where}: the separator is {shortened(value)}, but {wanted} are accepted, as in '/' or '|'.")
    return text


def read_cells(
    task: LabelTask, cells: Sequence[str], where: str, *, names: Sequence[str] | None = None, quiet: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Labels of all items in their own units, and which are present: float64 and bool, [N, K].

    Cells that cannot be read, which are unlabelled, are named in warnings, and tags that are none of the task's, which
    are ignored, are counted in one.

    Parameters
    ----------
    task : LabelTask
    cells : sequence of str [N]
    where : str
        The file that warnings name.
    names : sequence of str [N], optional
        Names of the items, for warnings.
    quiet : bool
        Whether there are no warnings.
    """
    values = np.zeros((len(cells), task.label_count))
    present = np.zeros(values.shape, bool)
    bad, foreign, items = 0, Counter[str](), 0
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
            continue
        if others := task.foreign_tags(cell):
            foreign.update(others)
            items += 1
    if bad > _MAX_WARNINGS and not quiet:
        logger.warning("%s: %d cells of column %r in all cannot be read", where, bad, task.column)
    if foreign and not quiet:
        most = _first([f"{tag} ({count})" for tag, count in foreign.most_common()])
        logger.warning(
            "%s: %d of %d items have tags in column %r that are none of the task's %d, which are ignored: %s",
            where, items, len(cells), task.column, task.size, most,
        )  # fmt: skip
    return values, present


def read_weights(
    task: LabelTask, labels: dict[str, list[str]], where: str, names: Sequence[str] | None = None
) -> NDArray[np.float64] | None:
    """Weights of all items in the task's ``weight_column``, float64 [N, K]; None if it has none.

    Raises
    ------
    DatasetError
        There is no such column, or a cell holds no weights.
    """
    if not task.weight_column:
        return None
    cells = column_of(replace(task, column=task.weight_column), labels, where)
    weights = np.ones((len(cells), task.label_count))
    for index, cell in enumerate(cells):
        try:
            weights[index] = task.parse_weights(cell)
        except ValueError as error:
            name = names[index] if names else f"item {index}"
            raise DatasetError(
                f"{where}: {name} has the weight {cell!r} in column {task.weight_column!r} for task {task.name}, but "
                f"{error}."
            ) from None
    return weights


def column_of(task: LabelTask, labels: dict[str, list[str]], where: str) -> list[str]:
    """The cells of a task's column.

    Raises
    ------
    DatasetError
        If there is no such column.
    """
    if normal_text(task.column) not in labels:
        known = ", ".join(labels) or "none at all"
        raise DatasetError(f"{where} has no label column {task.column!r} for task {task.name}; it has {known}.")
    return labels[normal_text(task.column)]
