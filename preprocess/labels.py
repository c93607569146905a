"""``python -m preprocess.labels sequence|phrases|expression|tokens``: labelled datasets for fine-tuning on notes.

``sequence``    a label, or several, per file: MIDI files and a CSV, or a map from md5 to genres; see
                ``label_kinds.sequence``
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
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from preprocess.engine.cli import add_options, options_of, run_command

SOURCE_HELP = "folder, archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), MIDI file, .txt list of paths, or .csv"
Commands = dict[str, tuple[str, Callable[..., int], tuple[type, ...]]]


def commands() -> Commands:
    """Help, function and options of every command.

    They are imported here, since workers import this module too, and need the kind alone that they read.
    """
    from musicbert_plugin.codecs.reading_options import ReadingOptions
    from preprocess.engine.labelled_notes import LabelBuildOptions, LabelOptions
    from preprocess.label_kinds.expression_build import ExpressionOptions, expression
    from preprocess.label_kinds.phrases import PhraseOptions, phrases
    from preprocess.label_kinds.sequence import SequenceOptions, sequence
    from preprocess.label_kinds.tokens import AnnotationOptions, TokenOptions, tokens

    own: Commands = {
        "sequence": ("MIDI files and a label, or several, per file", sequence, (LabelOptions, SequenceOptions)),
        "expression": ("performances and what listeners heard in them", expression, (ExpressionOptions,)),
        "phrases": ("pairs of phrases from MIDI files alone", phrases, (PhraseOptions, AnnotationOptions)),
        "tokens": ("MIDI files and a label per note", tokens, (TokenOptions, AnnotationOptions)),
    }
    return {
        name: (text, function, (LabelBuildOptions, *options, ReadingOptions))
        for name, (text, function, options) in own.items()
    }


def parser(known: Commands) -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m preprocess.labels", description="MIDI files and labels of notes.")
    subparsers = top.add_subparsers(dest="command", required=True)
    for name, (text, _, own) in known.items():
        command = subparsers.add_parser(name, help=text)
        command.add_argument("source", nargs="+", metavar="SRC", help=SOURCE_HELP)
        for options in own:
            add_options(command, options)
    return top


def main(arguments: list[str]) -> int:
    """Run a command; returns its status."""
    known = commands()
    namespace = parser(known).parse_args(arguments)
    _, function, own = known[namespace.command]
    return function(namespace.source, *(options_of(namespace, options) for options in own))


if __name__ == "__main__":
    run_command(main)
