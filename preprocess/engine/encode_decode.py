"""The commands ``encode`` (MIDI files to lines of words) and ``decode`` (lines to MIDI files) of every codec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from musicbert_plugin.arguments import check_not_input
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
    """Write ``score_of(words)`` of every piece in a file of lines as MIDI; report repairs, and lines that are no music.

    Of a line in which there is something else, and no note, no file is written.

    Returns
    -------
    int
        The status: :data:`SOME_FAILED` if there are such lines.
    """
    pieces = numbered_lines(path)
    if not pieces:
        raise OptionError(f"{path}: holds no lines of music; a line of words for each piece is needed.")
    folder = Path(dest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{dest}: cannot be written ({error.strerror or error}).") from None
    if path != "-":
        for name, _ in pieces:
            check_not_input(folder / f"{name}.mid", path)
    empty = 0
    for name, words in pieces:
        score, repairs = score_of(words)
        listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(repairs.items()))
        if repairs and not len(score):  # a line of rests alone needs no repair
            empty += 1
            say(f"{name}.mid: not written: no note in {len(words.split()):,} words: {listed}")
            continue
        try:
            write_midi(score, folder / f"{name}.mid")
        except ScoreError as error:
            raise OptionError(str(error)) from None
        if repairs:
            say(f"{name}.mid: repaired: {listed}")
    if empty:
        say(f"{empty:,} of {len(pieces):,} lines are no music.")
    return SOME_FAILED if empty else DONE
