"""``python -m preprocess.labels sequence|phrases|expression|tokens``: labelled datasets for fine-tuning on notes.

``sequence``    a label, or several, per file: MIDI files and a CSV, or a map from md5 to genres
``phrases``     which phrase follows a melody, or accompanies it; see ``label_kinds.phrases``
``expression``  performances and what listeners heard in them; see ``label_kinds.expression_build``
``tokens``      a label per note: its track, an annotation in seconds, or a field of its own; see ``label_kinds.tokens``

A dataset is one of ``python -m preprocess.octuple build``, which ``octuple_masked_lm`` reads too, with the tables of
``musicbert_plugin.data.labelled_octuples`` beside it.  SRC is a folder, archive or list of MIDI files, or a CSV with a
column ``file_path`` (or ``file``), whose other columns are labels.

Labels come from ``--labels CSV``: a column ``file``, the path inside SRC, and a column per task.  A cell is a class;
tags or numbers joined by ``--separator``; or a weight.  What a column means is stated in training, see
``musicbert_plugin.data.labels``.  ``preprocess.engine.labelled_notes`` describes groups, splits and folds, and which
files are left out.

``--genre-map JSON --subset topmagd|masd`` labels files by their md5, as the genre tasks of MusicBERT do: the JSON holds
``{subset: {md5: [genre, ...]}}``, and the tags are in a column with the name of the subset.  A file whose name is 32
hexadecimal digits (as those of the Lakh dataset are) is looked up by its name, and any other by the md5 of its content.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from musicbert_plugin.codecs.octuple import FIELDS
from musicbert_plugin.errors import OptionError
from preprocess.engine.cli import add_options, option, options_of, run_command
from preprocess.engine.dataset_spec import Piece
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
from preprocess.engine.midi import MidiOptions
from preprocess.engine.pipeline import build
from preprocess.engine.sources import Collection
from preprocess.label_kinds.expression_build import ExpressionOptions, expression
from preprocess.label_kinds.phrases import PhraseOptions, phrases
from preprocess.label_kinds.tokens import AnnotationOptions, TokenOptions, tokens
from preprocess.octuple import OctupleSpec

_FRAME = 2  # octuples that frame an item
SUBSETS = ("topmagd", "masd")
SOURCE_HELP = "folder, archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), MIDI file, .txt list of paths, or .csv"


@dataclass
class SequenceOptions:
    """What only ``sequence`` takes."""

    genre_map: str = option("", "JSON that maps the md5 of files to genres", metavar="JSON")
    subset: str = option("topmagd", "of the genre map", choices=SUBSETS)


@dataclass(frozen=True)
class SequenceSpec(OctupleSpec):
    """How a MIDI file becomes items of octuples with the number of notes of each."""

    def read_piece(self, data: bytes, name: str) -> Piece:
        """The piece in a MIDI file, or a :class:`ScoreError`."""
        piece = super().read_piece(data, name)
        return replace(piece, sidecars={"notes": [len(item) // len(FIELDS) - _FRAME for item in piece.items]})


def sequence(
    source: list[str],
    general: LabelBuildOptions,
    labels: LabelOptions,
    own: SequenceOptions,
    reading: MidiOptions,
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


COMMANDS: dict[str, tuple[str, Callable[..., int], tuple[type, ...]]] = {
    "sequence": ("MIDI files and a label, or several, per file", sequence, (LabelOptions, SequenceOptions)),
    "expression": ("performances and what listeners heard in them", expression, (ExpressionOptions,)),
    "phrases": ("pairs of phrases from MIDI files alone", phrases, (PhraseOptions, AnnotationOptions)),
    "tokens": ("MIDI files and a label per note", tokens, (TokenOptions, AnnotationOptions)),
}
"""Help, function and options of every command; all take the options of builders and of reading too."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m preprocess.labels", description="MIDI files and labels of notes.")
    commands = top.add_subparsers(dest="command", required=True)
    for name, (text, _, own) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("source", nargs="+", metavar="SRC", help=SOURCE_HELP)
        for options in (LabelBuildOptions, *own, MidiOptions):
            add_options(command, options)
    return top


def main(arguments: list[str]) -> int:
    """Run a command; returns its status."""
    namespace = parser().parse_args(arguments)
    _, function, own = COMMANDS[namespace.command]
    values = [options_of(namespace, options) for options in (LabelBuildOptions, *own, MidiOptions)]
    return function(namespace.source, *values)


if __name__ == "__main__":
    run_command(main)
