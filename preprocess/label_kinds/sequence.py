"""``preprocess.labels sequence``: MIDI files and a table, or a map of genres, into a dataset of labels of whole files.

``--genre-map JSON --subset topmagd|masd`` labels files by their md5, as the genre tasks of MusicBERT do: the JSON holds
``{subset: {md5: [genre, ...]}}``, and the tags are in a column with the name of the subset.  A file whose name is 32
hexadecimal digits (as those of the Lakh dataset are) is looked up by its name, and any other by the md5 of its content.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from musicbert_plugin.codecs.reading_options import ReadingOptions
from musicbert_plugin.errors import OptionError
from preprocess.engine.cli import option
from preprocess.engine.genre_map import genre_cells, read_genre_map
from preprocess.engine.labelled_notes import (
    IN_TRAIN,
    LabelBuildOptions,
    LabelOptions,
    NoteLabelsWriter,
    check_label_options,
    choose_columns,
    read_note_table,
)
from preprocess.engine.pipeline import build
from preprocess.engine.sources import Collection
from preprocess.label_kinds.sequence_items import SequenceSpec

SUBSETS = ("topmagd", "masd")


@dataclass
class SequenceOptions:
    """What only ``sequence`` takes."""

    genre_map: str = option("", "JSON that maps the md5 of files to genres", metavar="JSON")
    subset: str = option("topmagd", "of the genre map", choices=SUBSETS)


def sequence(
    source: list[str],
    general: LabelBuildOptions,
    labels: LabelOptions,
    own: SequenceOptions,
    reading: ReadingOptions,
) -> int:
    """Labels of whole files; returns the status."""
    check_label_options(labels, general)
    found = read_note_table(source, labels, general.splits)
    spec = SequenceSpec(**asdict(reading), seed=general.seed)
    where, genres = f"--genre-map {own.genre_map}", {}
    if own.genre_map:
        known = read_genre_map(own.genre_map, own.subset)
        collection = Collection(source, spec.suffixes, general.archive_limits())
        genres[own.subset], unread = genre_cells(collection, known, where, spec.largest_file)
        found.complain(own.subset, unread, where)
    if not found.table.columns and not genres:
        raise OptionError("sequence: labels are needed, from --labels CSV or --genre-map JSON.")
    found = choose_columns(found, labels, genres)
    if labels.folds:
        general = replace(general, split_ratios=IN_TRAIN)
    return build(source, spec, general, NoteLabelsWriter(found, labels.folds, labels.stratify, general.seed))
