"""What ``encode`` and ``decode`` do for every token scheme: MIDI files to lines of words, and lines to MIDI files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from musicbert_plugin.codecs.score import Score, read_midi, write_midi
from musicbert_plugin.errors import OptionError, ScoreError

from .command import DONE, SOME_FAILED, say


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
    return sentence if sentence.startswith(file) else f"{file}: {sentence}"


def numbered_lines(path: str) -> list[tuple[str, str]]:
    """(name, words) of every piece in a file of lines, or of ``-``, standard input.

    If the file is what ``fairseq-interactive`` or ``fairseq-generate`` printed, its ``H-<id>`` lines are the pieces,
    and the id is the name (``<id>.1``, ``<id>.2`` for further hypotheses of one id); else every line is, named by its
    number from 0.

    Raises
    ------
    OptionError
        Not a file of text.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise OptionError(f"{path}: cannot be read ({reason}); lines as encode prints them are needed.") from None
    lines = text.splitlines()
    hypotheses = [line.split("\t", 2) for line in lines if line.startswith("H-")]
    if not hypotheses:
        return [(str(number), line) for number, line in enumerate(lines)]
    seen: dict[str, int] = {}
    pieces = []
    for parts in hypotheses:
        number = parts[0][2:]
        if len(parts) != 3 or not number.isdigit():
            raise OptionError(f"{path}: the line {parts[0]!r} is not H-<id>, a score and words, separated by tabs.")
        again = seen[number] = seen.get(number, -1) + 1
        pieces.append((f"{number}.{again}" if again else number, parts[2]))
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
