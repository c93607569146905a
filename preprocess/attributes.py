"""``python -m preprocess.attributes FILE...``: MuseCoco's attributes of MIDI files, a JSON line per file.

Each line holds ``file``, ``bars`` ([begin, end) of the piece without its leading silence), ``values`` (from attribute
to value, see ``musicbert_plugin.codecs.attributes``; null is NA) and ``tokens``, the 63 command words.  With
``--words``, each line is a request that ``fairseq-interactive`` reads, such as ``piano no-drum key=minor bars=16``.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from musicbert_plugin.codecs.attributes import class_vector, command_words_of, extract, read_given
from musicbert_plugin.codecs.chords import brightness
from musicbert_plugin.codecs.reading_options import ReadingOptions, add_reading_options, reading_options_of
from musicbert_plugin.codecs.remi import grid_of
from musicbert_plugin.codecs.requests import request_words
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import escaped, given_path, match_names
from musicbert_plugin.parsing import whole_number
from preprocess.engine.cli import DONE, SOME_FAILED, run_command, say, write_line
from preprocess.engine.encode_decode import naming


def parse_bars(text: str) -> tuple[int, int | None]:
    """Parse ``BEGIN:END``, either of which may be left out: BEGIN is 0 by default, and END the end of the piece (None).

    Raises
    ------
    OptionError
    """
    begin, colon, end = text.partition(":")
    first, last = whole_number(begin or "0"), whole_number(end) if end else None
    if not colon or first is None or (end and last is None):
        raise OptionError(f"--bars {text}: BEGIN:END is needed, two numbers of bars from 0, END not included.")
    if last is not None and last <= first:
        raise OptionError(f"--bars {text}: END must be above BEGIN, since the bar END is not included.")
    return first, last


def attributes_of(
    path: str,
    bars: tuple[int, int | None],
    *,
    legacy: bool,
    chords: bool,
    given: dict[str, Any],
    reading: ReadingOptions,
) -> tuple[list[int], dict[str, Any]]:
    """The bars [begin, end) of a file, and their attribute values.

    Raises
    ------
    ScoreError
        The file cannot be read as music.
    OptionError
        The file has no such bars.
    """
    grid = grid_of(reading.read(path))
    if grid.lost:
        say(f"{path}: lost: {', '.join(f'{reason} ({count})' for reason, count in sorted(grid.lost.items()))}")
    begin, end = bars[0], grid.bars if bars[1] is None else bars[1]
    shades = brightness(grid) if chords else None
    return [begin, end], extract(grid, begin, end, legacy=legacy, chords=shades, given=given)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m preprocess.attributes", description="Attributes of MIDI files, a JSON line per file."
    )
    command.add_argument("files", nargs="+", type=given_path, metavar="FILE", help="MIDI file")
    command.add_argument(
        "--bars", default=":", metavar="BEGIN:END", help="bars, from 0, END not included (default: all)"
    )
    command.add_argument("--words", action="store_true", help="print a request in words instead of JSON")
    command.add_argument("--chords", action="store_true", help="recognise chords, for C1 (seconds per file)")
    command.add_argument("--legacy", action="store_true", help="R1 and I4 with the original's defects")
    command.add_argument(
        "--labels", default="", metavar="CSV", help="columns file, and any of artist, genre and emotion"
    )
    add_reading_options(command)
    return command


def main(arguments: list[str]) -> int:
    """Run the command; returns its status."""
    options = parser().parse_args(arguments)
    bars = parse_bars(options.bars)
    given = read_given(options.labels) if options.labels else {}
    found = match_names(given, [escaped(file) for file in options.files])
    given_of = {file: given[name] for name, file in found.items()}
    unlabelled = sum(escaped(file) not in given_of for file in options.files)
    if given and unlabelled == len(options.files):
        raise OptionError(
            f"--labels {options.labels}: its column file names {next(iter(given))} ..., but none of the files given, "
            f"{options.files[0]} ...; the same paths are needed."
        )
    if given and unlabelled:
        say(f"--labels: {unlabelled:,} of {len(options.files):,} files have no row.")
    status, reading = DONE, reading_options_of(options)
    for file in options.files:
        try:
            bar_range, values = attributes_of(
                file,
                bars,
                legacy=options.legacy,
                chords=options.chords,
                given=given_of.get(escaped(file), {}),
                reading=reading,
            )
        except (ScoreError, OptionError) as error:
            say(naming(file, str(error)))
            status = SOME_FAILED
            continue
        classes = class_vector(values)
        if options.words:
            line = request_words(classes, values)
        else:
            line = json.dumps(
                {"file": escaped(file), "bars": bar_range, "values": values, "tokens": command_words_of(classes)}
            )
        write_line(line)
    return status


if __name__ == "__main__":
    run_command(main)
