"""What ``encode`` and ``decode`` do for every token scheme: MIDI files to lines of words, and lines to MIDI files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from musicbert_plugin.codecs.score import Score, read_midi, write_midi
from musicbert_plugin.data.fairseq_output import read_lines
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import shown
from preprocess.engine.cli import DONE, SOME_FAILED, say


def encode_files(files: list[str], line_of: Callable[[Score, str], str]) -> int:
    """Print one line per file, as ``line_of`` its score and name gives it; name those that fail."""
    status = DONE
    for file in files:
        try:
            line = line_of(read_midi(file), file)
        except ScoreError as error:
            say(naming(file, error.sentence))
            status = SOME_FAILED
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    return status


def naming(file: str, sentence: str) -> str:
    """A sentence that begins with the file's name."""
    file = shown(file)
    return sentence if sentence.startswith(file) else f"{file}: {sentence}"


def numbered_lines(path: str) -> list[tuple[str, str]]:
    """(name, words) of every piece in a file of lines, or of ``-``, standard input.

    The lines are those that ``printed_lines`` reads; a piece's name is its number (``<id>.1``, ``<id>.2`` for further
    hypotheses of one id).

    Raises
    ------
    OptionError
        Not a file of text.
    """
    seen: Counter[int] = Counter()
    pieces = []
    for number, words in read_lines(path).music:
        pieces.append((f"{number}.{seen[number]}" if seen[number] else str(number), words))
        seen[number] += 1
    return pieces


def decode_lines(path: str, dest: str, score_of: Callable[[str], tuple[Score, Counter[str]]]) -> int:
    """Write every piece of a file of lines as MIDI, as ``score_of`` its words gives it; say what had to be repaired."""
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
