"""The inputs of generation: requests, which become prefixes of ids, and prompts, which are music to continue.

A **request** is a line of words (``piano no-drum key=minor bars=16``, or command words) for a model of attributes, or a
condition in the words of its dictionary for a model of custom pairs.

A **prompt** is transposed to C major or A minor, the keys of the training data, and becomes words.  The result begins
with the prompt as it was, not with what its words decode to (see :mod:`~.generation.continuation`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import command_ids
from musicbert_plugin.codecs.octuple import (
    BAR_LENGTHS,
    DEFAULT_METER,
    METER_DENOMINATORS,
    METER_NUMERATORS,
    positions,
)
from musicbert_plugin.codecs.reading_options import DEFAULT_READING, ReadingOptions
from musicbert_plugin.codecs.remi_grammar import RemiGrammar, transpose
from musicbert_plugin.codecs.requests import parse_request
from musicbert_plugin.codecs.score import Score, bar_line_from
from musicbert_plugin.errors import OptionError, suggestion
from musicbert_plugin.files import given_path
from musicbert_plugin.generation.continuation import prompt_bars

logger = logging.getLogger(__name__)
Ids = NDArray[np.int64]
PREFIXES = ("attributes", "conditions")
"""The kinds of prefixes: command words, or conditions in words of the model's dictionary."""


def request_ids(line: str, words: Sequence[str], prefixes: str = PREFIXES[0]) -> Ids:
    """The prefix of a request, without ``</s>`` and ``<sep>``.

    Parameters
    ----------
    line : str
        The request; a final ``<sep>`` is ignored.
    words : sequence of str
        The dictionary, by id.
    prefixes : str
        One of :data:`PREFIXES`.

    Returns
    -------
    int64 [n]

    Raises
    ------
    OptionError
        A word is unknown to the model, or two words contradict each other.
    """
    if prefixes == PREFIXES[0]:
        ids = command_ids(parse_request(line))
        if len(words) <= ids.max() or words[ids[-1]] != remi.WORDS[ids[-1]]:
            raise OptionError(
                "The model's dictionary has none of the 268 words of attributes: the model was trained on custom "
                "conditions (prefix 'conditions')."
            )
        return ids
    known = {word: number for number, word in enumerate(words)}
    request = line.split()
    if request and request[-1] == "<sep>":
        request.pop()
    for word in request:
        if known.get(word, 0) <= remi.UNK or word == "<sep>":
            raise OptionError(
                f"{word!r} is not in the model's dictionary{suggestion(word, {name: name for name in words[4:]})}; "
                f"accepted are its {len(words) - 4} words, from {words[4]} to {words[-1]}."
            )
    return np.array([known[word] for word in request], np.int64)


@dataclass(frozen=True, eq=False)
class Prompt:
    """Music to continue; by default none.

    Attributes
    ----------
    ids : int64 [n]
        The music in the model's layout and key.
    shift : int
        Semitones by which the music was transposed to that key.
    meter : (int, int)
        Time signature of all bars, including generated ones, for layouts without time-signature tokens (the longest, if
        there are several).
    score : Score or None
        The music itself, up to its ``end_tick``, the bar line after its last onset; None without music.
    silent_bars : int
        Number of bars before the first note that ``ids`` lack.
    """

    ids: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    shift: int = 0
    meter: tuple[int, int] = DEFAULT_METER
    score: Score | None = None
    silent_bars: int = 0


def make_prompt(
    music: str | Path | Score | None,
    layout: str,
    meter: tuple[int, int] | None = None,
    reading: ReadingOptions = DEFAULT_READING,
) -> Prompt:
    """The prompt of a file (see :func:`read_prompt`), of a score (see :func:`prompt_of`), or of no music."""
    if music is None:
        return Prompt(meter=meter or DEFAULT_METER)
    if layout == remi.FREE:
        raise OptionError("A model whose words have no known order (layout free) cannot continue a prompt.")
    if isinstance(music, Score):
        return prompt_of(music, layout, meter)
    return read_prompt(music, layout, meter, reading)


def read_prompt(
    path: str | Path,
    layout: str,
    meter: tuple[int, int] | None = None,
    reading: ReadingOptions = DEFAULT_READING,
) -> Prompt:
    """Read a prompt: a MIDI file, or a text file with one line of words in the model's layout.

    An incomplete note at the end of a line is left out with a warning.

    Parameters
    ----------
    path : path
    layout : str
    meter : (int, int), optional
        Time signature of bars without a time-signature token; by default that of a MIDI file, or else 4/4.
    reading : ReadingOptions
        How a MIDI file is read.

    Raises
    ------
    ScoreError, OptionError
        The file has no music, or music in another layout or time signature.
    """
    path = Path(given_path(str(path)))
    if path.suffix.lower() in (".mid", ".midi", ".kar", ".rmi", ".rmid"):
        return prompt_of(reading.read(path), layout, meter, str(path))
    meter = meter or DEFAULT_METER
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): a prompt is a MIDI file (.mid) or a "
            "line of music words."
        ) from error
    if len(lines) != 1:
        raise OptionError(f"{path} has {len(lines)} lines: a prompt is one line of music words, or a MIDI file (.mid).")
    line = lines[0].split("\t")[-1]
    ids = remi.from_words(line)
    unknown = np.flatnonzero(ids == remi.UNK)
    if len(unknown):
        word = line.split()[unknown[0]]
        raise OptionError(f"{path}: {word!r} is not a word of music; a prompt is a line such as 'encode' prints.")
    ids = remi.music_of(ids)
    given = ids[ids != remi.EOS]
    try:
        ids = RemiGrammar(layout, meter=meter).whole_bars(given)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error
    common = min(len(ids), len(given))
    omitted = len(given) - int((ids[:common] == given[:common]).sum())  # only the end of the last bar can differ
    if omitted:
        words = remi.to_words(given[-omitted:])
        logger.warning("%s: the last %d words (%s) are not a complete note and are left out", path, omitted, words)
    score = remi.decode_with_repairs(ids, meter, layout)[0]
    shift = remi.grid_for(score, layout).shift if len(score.onset) else 0
    return Prompt(transpose(ids, shift), shift, meter, score if len(ids) else None)


def prompt_of(score: Score, layout: str, meter: tuple[int, int] | None = None, name: str = "the score") -> Prompt:
    """Make a prompt from a score.

    In the layout without time signatures, every bar has the length of the longest.  A shorter first bar, a pickup,
    becomes the end of such a bar; shorter later bars are extended, with a warning.

    Notes without length have no words, but are in the result, where MIDI gives them one tick; a warning counts them.

    Parameters
    ----------
    score : Score
    layout : str
    meter : (int, int), optional
        In the layout without time signatures, the required time signature of the longest bar.
    name : str
        The name of the score in errors and warnings.

    Raises
    ------
    OptionError
        The longest bar does not have the length of ``meter``.
    """
    grid = remi.grid_for(score, layout)
    music = prompt_bars(score, _end_of(score))
    short = int((music.end == music.onset).sum())
    if short:
        sentence = "%s: notes without length (%d) are not shown to the model; the result has them, one tick long"
        logger.warning(sentence, name, short)
    lost = grid.lost - Counter({"note without length": short})
    if lost:
        logger.warning("%s: lost: %s", name, ", ".join(f"{reason} ({lost[reason]})" for reason in sorted(lost)))
    longest = int(grid.bar_meter[BAR_LENGTHS[grid.bar_meter].argmax()])
    own = (int(METER_NUMERATORS[longest]), int(METER_DENOMINATORS[longest]))
    if layout in remi.NOTES_ALONE and meter and BAR_LENGTHS[remi.meter_code(*meter)] != BAR_LENGTHS[longest]:
        raise OptionError(
            f"{name} has bars of {own[0]}/{own[1]}, but meter is {meter[0]}/{meter[1]}: the time signature of the "
            "prompt is accepted."
        )
    if layout in remi.NOTES_ALONE:
        lengths = remi.BAR_LENGTHS[grid.bar_meter]
        if (lengths[1:] < lengths.max()).any():
            logger.warning("%s has bars of several lengths: layout %s makes all of them %d/%d", name, layout, *own)
        bar_start = grid.bar_start.copy()
        bar_start[0] -= lengths.max() - lengths[0]
        grid = replace(grid, bar_start=bar_start)
    ids = remi.encode_grid(grid, layout)[0].astype(np.int64)
    silent = remi.grid_of(score, trim=False, normalise=False).bars - grid.bars
    return Prompt(ids, grid.shift, meter or own, music, silent)


def _end_of(score: Score) -> int:
    """The bar line after the last onset of which a prompt has words, exact and rounded to a position."""
    per_quarter = remi.POSITIONS_PER_QUARTER
    onset = score.onset[score.end > score.onset]
    position = positions(onset, score.resolution, per_quarter)
    onset, position = onset[position < remi.END_OF_TIME], position[position < remi.END_OF_TIME]
    rounded = int(np.rint(position.max() * score.resolution / per_quarter))
    return bar_line_from(score, max(int(onset.max()), rounded) + 1)
