"""``preprocess.labels expression``: performances and what listeners heard in them, into a dataset of labelled notes.

Columns of ``{split}.labels.csv``: ``expression``, K numbers in (0, 1] joined by ``/``; ``expression_weight``, their
weights, where deviations are known; ``performer`` and ``work``.  ``tasks.yaml`` beside them names the numbers for
training.  :mod:`preprocess.label_kinds.expression` describes labels, weights and units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from musicbert_plugin.codecs.octuple import FIELDS
from musicbert_plugin.errors import OptionError, ScoreError
from preprocess.engine.cli import option, say
from preprocess.engine.dataset_spec import Piece
from preprocess.engine.label_tables import LabelTable
from preprocess.engine.labelled_notes import (
    IN_TRAIN,
    LabelBuildOptions,
    LabelOptions,
    NoteLabelsWriter,
    NoteTable,
    check_label_options,
)
from preprocess.engine.midi import MidiOptions
from preprocess.engine.pipeline import build
from preprocess.engine.sources import Collection
from preprocess.label_kinds import expression as labels_of
from preprocess.label_kinds.expression import AGGREGATES, UNITS, ExpressionLabels, cell_of, parse_name, stem
from preprocess.octuple import OctupleSpec

COLUMN, WEIGHT = "expression", "expression_weight"
TASKS = "tasks.yaml"
_FRAME = 2  # octuples that frame an item


@dataclass
class ExpressionOptions:
    """What only ``expression`` takes."""

    labels: str = option(
        "", "JSON of a row of numbers per segment, or CSV of raters' answers", required=True, metavar="FILE"
    )
    deviations: str = option("", "JSON of the raters' deviations, for labels in JSON", metavar="JSON")
    aggregate: str = option(
        "mean", "what becomes of a segment's answers; all: an item for each rater", choices=AGGREGATES
    )
    unit: str = option("music", "what is never divided between splits or folds", choices=UNITS)
    folds: int = option(0, "make K folds instead of train, valid and test (0: none)", metavar="K")
    stratify: str = option("", "performer or work: each fold has equal shares of them", metavar="COLUMN")


@dataclass(frozen=True)
class ExpressionSpec(OctupleSpec):
    """How a performance becomes items; ``repeats`` is the number of raters of files that have an item for each."""

    repeats: Mapping[str, int] = field(default_factory=dict)

    def read_piece(self, data: bytes, name: str) -> Piece:
        """The piece in a MIDI file, or a :class:`ScoreError`."""
        piece = super().read_piece(data, name)
        count = self.repeats.get(name, 1)
        notes = [len(item) // len(FIELDS) - _FRAME for item in piece.items] * count
        return replace(piece, notes=piece.notes * count, items=piece.items * count, sidecars={"notes": notes})


class ExpressionWriter(NoteLabelsWriter):
    """Writes the table of performances, with a row per rater where each has an item, and ``tasks.yaml``."""

    def __init__(
        self, found: NoteTable, names: tuple[str, ...], raters: Mapping[str, list[list[str]]], *folds: Any
    ) -> None:
        super().__init__(found, *folds)
        self._names, self._raters = names, raters
        self._rater = -1
        self.files = (*self.files, TASKS)

    def begin(self, out: Path) -> None:
        """Open the tables and write the tasks."""
        super().begin(out)
        names = ", ".join(self._names)
        weight = f", weight_column: {WEIGHT}" if WEIGHT in self._table.columns else ""
        (out / TASKS).write_text(
            "# What fairseq-train --tasks takes; further columns (performer: {type: single}) can be learnt beside it.\n"
            f"tasks:\n  {COLUMN}: {{type: regression, names: [{names}]{weight}}}\n",
            encoding="utf-8",
        )

    def rows(self, index: int, split: str, sidecars: dict[str, Any]) -> Iterator[list[object]]:
        """The dataset's own columns; each rater's item is a piece of its own."""
        for row in super().rows(index, split, sidecars):
            if self._rater >= 0:
                row[self.fixed.index("piece")] = f"{row[0]}#{self._rater}"
            yield row

    def add(self, index: int, split: str, sidecars: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a file's items."""
        name = self._collection.names[index]
        entries: dict[str, Any] = {}
        raters = self._raters.get(name) or [self._labels[name]]
        parts = len(sidecars["notes"]) // len(raters)
        for number, cells in enumerate(raters):
            self._labels[name], self._rater = cells, number if name in self._raters else -1
            own = sidecars["notes"][number * parts : (number + 1) * parts]
            entries = super().add(index, split, sidecars | {"notes": own})
        return entries


def expression(source: list[str], general: LabelBuildOptions, own: ExpressionOptions, reading: MidiOptions) -> int:
    """Build the dataset; returns the status."""
    check_label_options(LabelOptions(folds=own.folds, stratify=own.stratify), general)
    labels = labels_of.read_expression(own.labels, own.aggregate, own.deviations)
    if labels.odd:
        say(f"{own.labels}: {labels.odd:,} answers are none of 0 to {labels_of.HIGHEST}; they are left unlabelled.")
    columns = [COLUMN, *([WEIGHT] if labels.weights else []), "performer", "work"]
    if own.stratify and own.stratify not in columns[-2:]:
        raise OptionError(f"--stratify {own.stratify}: performer or work is accepted.")
    spec = ExpressionSpec(**asdict(reading), seed=general.seed)
    collection = Collection(source, spec.suffixes, general.archive_limits())
    rows = rows_by_file(list(collection.names), labels, own.labels)
    units = units_by_file(collection, list(rows), own.unit, spec)
    table = LabelTable(columns, {file: cells[0] for file, cells in rows.items()}, units)
    strata = {file: cells[0][columns.index(own.stratify)] for file, cells in rows.items()} if own.stratify else {}
    raters = rows if own.aggregate == "all" else {}
    spec = replace(spec, repeats={file: len(cells) for file, cells in raters.items()})
    if own.folds:
        general = replace(general, split_ratios=IN_TRAIN)
    found = NoteTable(table, strata, where=own.labels)
    writer = ExpressionWriter(found, labels.names, raters, own.folds, own.stratify, general.seed)
    return build(source, spec, general, writer)


def rows_by_file(names: list[str], labels: ExpressionLabels, where: str) -> dict[str, list[list[str]]]:
    """The rows of cells of each labelled file: one, or one per rater.

    Raises
    ------
    OptionError
        No file has labels, or two files are one segment.
    """
    rows: dict[str, list[list[str]]] = {}
    known: dict[str, str] = {}
    for name in names:
        key = stem(name)
        if key not in labels.values:
            continue
        if key in known:
            raise OptionError(f"{known[key]} and {name} are both the segment {key} of {where}; one of them is needed.")
        known[key] = name
        segment = parse_name(key)
        others = [segment.player, segment.work] if segment else ["", ""]
        weights = labels.weights.get(key)
        rows[name] = [
            [cell_of(values), *([cell_of(weights[number])] if weights is not None else []), *others]
            for number, values in enumerate(labels.values[key])
        ]
    if not rows:
        first = next(iter(labels.values))
        raise OptionError(f"{where}: none of its segments is in the source; the first, {first}, would be {first}.mid.")
    if absent := [key for key in labels.values if key not in known]:
        say(f"{where}: {len(absent):,} segments are not in the source, the first is {absent[0]}; they are left out.")
    return rows


def units_by_file(collection: Collection, files: list[str], unit: str, spec: OctupleSpec) -> dict[str, str]:
    """The unit of each file; empty for ``random``.

    Raises
    ------
    OptionError
        The name of a file does not tell its unit.
    """
    if unit == "random":
        return {}
    segments = {file: parse_name(stem(file)) for file in files}
    if unknown := next((file for file, segment in segments.items() if segment is None), None):
        raise OptionError(
            f"--unit {unit}: {unknown} is not called <work>_<N>bars_<performer>_<segment>, which --unit random accepts."
        )
    units: dict[str, str] = {}
    if unit == "music":
        trigrams = {}
        wanted = np.array([name in segments for name in collection.names])
        for index, source, inner, place in collection.tasks(wanted, spec.largest_file):
            name = collection.names[index]
            try:
                score = spec.read(collection.sources[source].read(inner, place, spec.largest_file), name)
            except ScoreError:  # the build itself names it
                continue
            trigrams[stem(name)] = labels_of.pitch_trigrams(score)
        units = labels_of.music_units(trigrams)
        say(f"{len(units):,} passages are {len(set(units.values())):,} units of music.")
    return {file: labels_of.unit_of(segment, unit, units) for file, segment in segments.items() if segment}
