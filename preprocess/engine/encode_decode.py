"""The commands ``encode`` (MIDI files to lines of words) and ``decode`` (lines to MIDI files) of every codec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from musicbert_plugin.codecs.reading_options import ReadingOptions
from musicbert_plugin.codecs.score import Score, write_midi
from musicbert_plugin.data.fairseq_output import read_lines
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import shown
from preprocess.engine.cli import DONE, SOME_FAILED, say, write_line


def encode_files(files: list[str], line_of: Callable[[Score, str], str], reading: ReadingOptions) -> int:
    """Print ``line_of(score, name)`` for every file, and report files that fail."""
    status = DONE
    for file in files:
        try:
            line = line_of(reading.read(file), file)
        except ScoreError as error:
            say(naming(file, error.sentence))
            status = SOME_FAILED
        else:
            write_line(line)
    return status


def naming(file: str, sentence: str) -> str:
    """The sentence, with the file's name in front if it does not begin with it."""
    file = shown(file)
    return sentence if sentence.startswith(file) else f"{file}: {sentence}"


def numbered_lines(path: str) -> list[tuple[str, str]]:
    """(name, words) of every piece in a file of lines, or in standard input (``-``).

    The name of a piece is the number that ``data.fairseq_output`` reads, or ``<number>.1``, ``<number>.2``, ... for
    further hypotheses of the same number.

    Raises
    ------
    OptionError
        The file is not a text file.
    """
    seen: Counter[int] = Counter()
    pieces = []
    for number, words in read_lines(path).music:
        pieces.append((f"{number}.{seen[number]}" if seen[number] else str(number), words))
        seen[number] += 1
    return pieces


def decode_lines(path: str, dest: str, score_of: Callable[[str], tuple[Score, Counter[str]]]) -> int:
    """Write ``score_of(words)`` of every piece in a file of lines as MIDI, and report repairs."""
    pieces = numbered_lines(path)
    folder = Path(dest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{dest}: cannot be written ({error.strerror or error}).") from None
    for name, words in pieces:
        score, repairs = score_of(words)
        try:
            write_midi(score, folder / f"{name}.mid")
        except ScoreError as error:
            raise OptionError(str(error)) from None
        if repairs:
            listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(repairs.items()))
            say(f"{name}.mid: repaired: {listed}")
    return DONE
