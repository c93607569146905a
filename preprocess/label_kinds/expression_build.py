"""``preprocess.labels expression``: performances and what listeners heard in them, into a dataset of labelled notes.

Columns of ``{split}.labels.csv``: ``expression``, K numbers in (0, 1] joined by ``/``; ``expression_weight``, their
weights, where deviations are known; ``performer`` and ``work``.  ``tasks.yaml`` beside them names the numbers for
training.  :mod:`preprocess.label_kinds.expression` describes labels, weights and units.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from musicbert_plugin.codecs.reading_options import ReadingOptions
from musicbert_plugin.codecs.score import Score
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
from preprocess.engine.pipeline import build
from preprocess.engine.sources import Collection
from preprocess.label_kinds import expression as labels_of
from preprocess.label_kinds.expression import AGGREGATES, UNITS, ExpressionLabels, cell_of, parse_name, stem
from preprocess.label_kinds.sequence_items import SequenceSpec
from preprocess.octuple import OctupleSpec

COLUMN, WEIGHT = "expression", "expression_weight"
TASKS = "tasks.yaml"


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
    segment_splits: list[str] | None = option(
        None, "a published split as two folds: 0 is its held-out part", nargs=2, metavar=("JSON", "NAME"), type=str
    )
    stratify: str = option("", "performer or work: each fold has equal shares of them", metavar="COLUMN")


@dataclass(frozen=True)
class ExpressionSpec(SequenceSpec):
    """How a performance becomes items; ``repeats`` is the number of raters of files that have an item for each."""

    repeats: Mapping[str, int] = field(default_factory=dict)

    def read_piece(self, data: bytes, name: str) -> Piece:
        """The piece in a MIDI file, or a :class:`ScoreError`."""
        piece = super().read_piece(data, name)
        count = self.repeats.get(name, 1)
        notes = piece.sidecars["notes"] * count
        return replace(piece, notes=piece.notes * count, items=piece.items * count, sidecars={"notes": notes})


class ExpressionWriter(NoteLabelsWriter):
    """Writes the table of performances, with a row per rater where each has an item, and ``tasks.yaml``."""

    def __init__(
        self,
        found: NoteTable,
        names: tuple[str, ...],
        raters: Mapping[str, list[list[str]]],
        parts: Mapping[str, int],
        *folds: Any,
    ) -> None:
        super().__init__(found, *folds)
        self._names, self._raters, self._parts = names, raters, parts
        self._rater = -1
        self.files = (*self.files, TASKS)

    def description(self) -> dict[str, Any]:
        """What decides the bytes of the files."""
        known = json.dumps([self._names, self._raters, self._parts], sort_keys=True)
        return {**super().description(), "segments_sha256": hashlib.sha256(known.encode()).hexdigest()[:32]}

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
        """The dataset's own columns; each rater's item is a piece of its own, and a fixed split divides units."""
        part = self._parts.get(self._collection.names[index])
        for row in super().rows(index, split, sidecars):
            if part is not None:
                row[self.fixed.index("group")] = f"{row[self.fixed.index('group')]}-{part}"
                row[self.fixed.index("fold")] = part
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


def expression(source: list[str], general: LabelBuildOptions, own: ExpressionOptions, reading: ReadingOptions) -> int:
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
    parts = parts_by_file(rows, own, general)
    if parts:
        rows = {file: cells for file, cells in rows.items() if file in parts}
    scores = read_scores(collection, spec) if own.unit == "music" or parts else {}
    units = units_by_file(scores, list(rows), own.unit)
    if parts:
        _say_leak(scores, parts, own.segment_splits)
    table = LabelTable(columns, {file: cells[0] for file, cells in rows.items()}, units)
    strata = {file: cells[0][columns.index(own.stratify)] for file, cells in rows.items()} if own.stratify else {}
    raters = rows if own.aggregate == "all" else {}
    spec = replace(spec, repeats={file: len(cells) for file, cells in raters.items()})
    if own.folds or parts:
        general = replace(general, split_ratios=IN_TRAIN)
    found = NoteTable(table, strata, where=own.labels)
    writer = ExpressionWriter(found, labels.names, raters, parts, own.folds, own.stratify, general.seed)
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


def parts_by_file(rows: Mapping[str, object], own: ExpressionOptions, general: LabelBuildOptions) -> dict[str, int]:
    """The part of each file in the split of ``--segment-splits`` (0: held out); empty without one.

    Raises
    ------
    OptionError
        Other options give splits too, or no file is in the split.
    """
    if not own.segment_splits:
        return {}
    path, name = own.segment_splits
    if own.folds or general.splits:
        raise OptionError(f"--segment-splits {path} {name}: --folds and --splits give other splits; one is accepted.")
    split = labels_of.read_segment_split(path, name)
    parts = {file: split[stem(file)] for file in rows if stem(file) in split}
    if len(set(parts.values())) < 2:
        raise OptionError(f"--segment-splits {path} {name}: a part of it has no labelled file in the source.")
    if others := len(rows) - len(parts):
        say(f"{others:,} labelled files are not in {name}; they are left out.")
    return parts


def read_scores(collection: Collection, spec: OctupleSpec) -> dict[str, Score]:
    """The scores of all files that can be read, by their names."""
    scores = {}
    for index, source, inner, place in collection.tasks(np.ones(len(collection), bool), spec.largest_file):
        name = collection.names[index]
        try:
            scores[name] = spec.read(collection.sources[source].read(inner, place, spec.largest_file), name)
        except ScoreError:  # the build itself names it
            continue
    return scores


def _say_leak(scores: Mapping[str, Score], parts: Mapping[str, int], given: list[str] | None) -> None:
    trigrams = {stem(file): labels_of.performance_trigrams(scores[file]) for file in parts if file in scores}
    held_out, train = ({stem(file) for file, part in parts.items() if part == number} for number in (0, 1))
    leaks = labels_of.leaking(trigrams, train, held_out)
    if leaks and given:
        say(
            f"{given[1]} leaks: {len(leaks):,} of its {len(held_out):,} held-out segments are, in whole or in part, a "
            "performance that is in train."
        )


def units_by_file(scores: Mapping[str, Score], files: list[str], unit: str) -> dict[str, str]:
    """The unit of each file; empty for ``random``.

    Parameters
    ----------
    scores : mapping of str to Score
        By the names of files; only ``music`` needs them.
    files : list of str
    unit : str
        One of :data:`UNITS`.

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
        known = {stem(file): labels_of.pitch_trigrams(scores[file]) for file in files if file in scores}
        units = labels_of.music_units(known)
        say(f"{len(units):,} passages are {len(set(units.values())):,} units of music.")
    return {file: labels_of.unit_of(segment, unit, units) for file, segment in segments.items() if segment}
