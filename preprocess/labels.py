"""``python -m preprocess.labels sequence``: MIDI files and their labels into datasets of labelled notes.

``sequence``   a label, or several, per file: MIDI files and a CSV, or a map from md5 to genres

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

from preprocess.engine.cli import add_options, options_of, run_command

SOURCE_HELP = "folder, archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), MIDI file, .txt list of paths, or .csv"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    # Workers import this module, and need none of these.
    from preprocess.engine.labelled_notes import LabelBuildOptions, LabelOptions
    from preprocess.engine.labelled_sequences import SequenceOptions
    from preprocess.engine.midi import MidiOptions

    top = argparse.ArgumentParser(prog="python -m preprocess.labels", description="MIDI files and labels of notes.")
    commands = top.add_subparsers(dest="command", required=True)
    command = commands.add_parser("sequence", help="MIDI files and a label, or several, per file")
    command.add_argument("source", nargs="+", metavar="SRC", help=SOURCE_HELP)
    for options in (LabelBuildOptions, LabelOptions, SequenceOptions, MidiOptions):
        add_options(command, options)
    return top


def main(arguments: list[str]) -> int:
    """Run a command; returns its status."""
    namespace = parser().parse_args(arguments)
    from preprocess.engine.labelled_notes import LabelBuildOptions, LabelOptions
    from preprocess.engine.labelled_sequences import SequenceOptions, sequence
    from preprocess.engine.midi import MidiOptions

    general, labels = options_of(namespace, LabelBuildOptions), options_of(namespace, LabelOptions)
    reading = options_of(namespace, MidiOptions)
    return sequence(namespace.source, general, labels, options_of(namespace, SequenceOptions), reading)


if __name__ == "__main__":
    run_command(main)
