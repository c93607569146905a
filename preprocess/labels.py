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
from typing import NamedTuple

from preprocess.engine.cli import add_options, options_of, run_command

SOURCE_HELP = "folder, archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), MIDI file, .txt list of paths, or .csv"


class Command(NamedTuple):
    """A command: its help, its function, and the classes of options that the function takes after the sources."""

    help: str
    function: Callable[..., int]
    options: tuple[type, ...]


def commands() -> dict[str, Command]:
    """The commands by their names."""
    # Workers import this module, and need none of these.
    from preprocess.engine.labelled_notes import LabelBuildOptions as Building
    from preprocess.engine.labelled_notes import LabelOptions
    from preprocess.engine.labelled_sequences import SequenceOptions, sequence
    from preprocess.engine.midi import MidiOptions as Reading
    from preprocess.label_kinds.expression_build import ExpressionOptions, expression
    from preprocess.label_kinds.phrases import PhraseOptions, phrases
    from preprocess.label_kinds.tokens import AnnotationOptions, TokenOptions, tokens

    return {
        "sequence": Command(
            "a label, or several, per file", sequence, (Building, LabelOptions, SequenceOptions, Reading)
        ),
        "phrases": Command("pairs of phrases", phrases, (Building, PhraseOptions, AnnotationOptions, Reading)),
        "expression": Command(
            "performances and what listeners heard in them", expression, (Building, ExpressionOptions, Reading)
        ),
        "tokens": Command("a label per note", tokens, (Building, TokenOptions, AnnotationOptions, Reading)),
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m preprocess.labels", description="MIDI files and labels of notes.")
    subparsers = top.add_subparsers(dest="command", required=True)
    for name, command in commands().items():
        subparser = subparsers.add_parser(name, help=command.help)
        subparser.add_argument("source", nargs="+", metavar="SRC", help=SOURCE_HELP)
        for options in command.options:
            add_options(subparser, options)
    return top


def main(arguments: list[str]) -> int:
    """Run a command; returns its status."""
    namespace = parser().parse_args(arguments)
    command = commands()[namespace.command]
    return command.function(namespace.source, *(options_of(namespace, options) for options in command.options))


if __name__ == "__main__":
    run_command(main)
