"""New music from a request: what ``fairseq-interactive``, ``fairseq-generate``, the hub and ``evaluate`` share.

A **request** is a line of words (``piano no-drum key=minor bars=16``, or command words), for a model of attributes; or,
for a model of one's own pairs, a condition in the words of its dictionary.  It becomes the prefix that the model was
trained with, the model writes on from it (``modules.music_generation``), and the words become a score again.

**Limits** hold for all requests: a grammar (``codecs.remi_grammar``), a number of bars, instruments, and a **prompt**,
music to continue.  The model knows music in C major or A minor: a prompt is moved there, and what comes of it is moved
back.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import (
    KEYS,
    NOT_EXTRACTED,
    NOT_GIVEN,
    OF_MEMBERS,
    SLOT_KEY,
    class_vector,
    classes_of_ids,
    command_ids,
    extract,
    programs_of,
)
from musicbert_plugin.codecs.octuple import BAR_LENGTHS, DEFAULT_METER, METER_DENOMINATORS, METER_NUMERATORS
from musicbert_plugin.codecs.remi_grammar import RemiGrammar, transpose
from musicbert_plugin.codecs.requests import parse_request
from musicbert_plugin.codecs.score import DRUMS, Score, read_midi
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.generation.recurrent_decoder import RecurrentDecoder
from musicbert_plugin.generation.sampling import Continuation, MusicGenerator, Search
from musicbert_plugin.metrics.attribute_accuracy import judged, sample_accuracy

logger = logging.getLogger(__name__)
Ids = NDArray[np.int64]
PREFIXES = ("attributes", "conditions")
"""What a model's prefixes are: command words, or conditions in words of its own."""
CANDIDATES = 4
"""Candidates per piece where no number is given, of which the best is kept; see :func:`candidates_of`."""


# ------------------------------------------------------------------------------------------------------------ requests


def request_ids(line: str, words: Sequence[str], prefixes: str = PREFIXES[0]) -> Ids:
    """The prefix of a request, without ``</s>`` and ``<sep>``.

    Parameters
    ----------
    line : str
        A last ``<sep>`` is passed over.
    words : sequence of str
        The dictionary, by id.
    prefixes : str
        One of :data:`PREFIXES`.

    Raises
    ------
    OptionError
        A word that means nothing to the model, or two that contradict each other.
    """
    if prefixes == PREFIXES[0]:
        ids = command_ids(parse_request(line))
        if len(words) <= ids.max() or words[ids[-1]] != remi.WORDS[ids[-1]]:
            raise OptionError(
                "The model's dictionary has none of the 268 words of attributes: it was trained on conditions of its "
                "own (--prefix conditions)."
            )
        return ids
    known = {word: number for number, word in enumerate(words)}
    said = line.split()
    if said and said[-1] == "<sep>":
        said.pop()
    for word in said:
        if known.get(word, 0) <= remi.UNK or word == "<sep>":
            raise OptionError(
                f"{word!r} is no word of the model's dictionary; accepted are its {len(words) - 4} words, from "
                f"{words[4]} to {words[-1]}."
            )
    return np.array([known[word] for word in said], np.int64)


# -------------------------------------------------------------------------------------------------------------- prompts


@dataclass(frozen=True, eq=False)
class Prompt:
    """Music to continue, or none: its ids in the model's layout and key, the semitones that brought it there, and the
    meter of bars, also of those that follow, where no word tells it (of several the longest)."""

    ids: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    shift: int = 0
    meter: tuple[int, int] = DEFAULT_METER


def read_prompt(path: str | Path, layout: str, meter: tuple[int, int] | None = None) -> Prompt:
    """Read a prompt: a MIDI file, or a text file with one line of words in the model's layout.

    Words at its end that are no whole note, nor close a bar, are left out with a warning.

    Parameters
    ----------
    path : path
    layout : str
    meter : (int, int), optional
        Of bars where no word tells it; by default that of a MIDI file, or else 4/4.

    Raises
    ------
    ScoreError, OptionError
        If it is no music, or music in another layout or meter.
    """
    path = Path(path)
    if path.suffix.lower() in (".mid", ".midi", ".kar"):
        return prompt_of(read_midi(path), layout, meter, str(path))
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
        raise OptionError(f"{path}: {word!r} is no word of music; a prompt is a line such as 'encode' prints.")
    ids = remi.music_of(ids)
    given = ids[ids != remi.EOS]
    try:
        ids = RemiGrammar(layout, meter=meter).whole_bars(given)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error
    same = min(len(ids), len(given))
    left = len(given) - int((ids[:same] == given[:same]).sum())  # they differ in nothing but the end of a last bar
    if left:
        words = remi.to_words(given[-left:])
        logger.warning("%s: the last %d words (%s) are no whole note and are left out", path, left, words)
    score = remi.decode(ids, meter)
    shift = remi.grid_for(score, layout).shift if len(score.onset) else 0
    return Prompt(transpose(ids, shift), shift, meter)


def prompt_of(score: Score, layout: str, meter: tuple[int, int] | None = None, name: str = "the score") -> Prompt:
    """A score as a prompt; its bars have to be as long as those of ``meter``, where one is given and no word tells it.

    In the layout without time signatures every bar is as long as the longest.  A shorter first bar, a pickup, becomes
    the end of such a bar; if later bars are shorter, the music is stretched there, with a warning.

    Raises
    ------
    OptionError
        They are not; it is called by its name.
    """
    grid = remi.grid_for(score, layout)
    if grid.lost:
        logger.warning("%s: lost: %s", name, ", ".join(f"{why} ({count})" for why, count in sorted(grid.lost.items())))
    longest = int(grid.bar_meter[BAR_LENGTHS[grid.bar_meter].argmax()])
    own = (int(METER_NUMERATORS[longest]), int(METER_DENOMINATORS[longest]))
    if layout == remi.NOTES and meter and BAR_LENGTHS[remi.meter_code(*meter)] != BAR_LENGTHS[longest]:
        raise OptionError(
            f"{name} has bars of {own[0]}/{own[1]}, and not of {meter[0]}/{meter[1]}: a prompt's own meter is accepted."
        )
    if layout == remi.NOTES:
        lengths = remi.BAR_LENGTHS[grid.bar_meter]
        if (lengths[1:] < lengths.max()).any():
            logger.warning("%s has bars of several lengths: layout %s makes all of them %d/%d", name, layout, *own)
        bar_start = grid.bar_start.copy()
        bar_start[0] -= lengths.max() - lengths[0]
        grid = replace(grid, bar_start=bar_start)
    return Prompt(remi.encode_grid(grid, layout)[0].astype(np.int64), grid.shift, meter or own)


# -------------------------------------------------------------------------------------------------------------- limits


@dataclass(frozen=True)
class Limits:
    """What holds for all requests.

    ``exact_bars``: bars of the piece, those of the prompt included (None: as it comes); ``only_instruments``: no other
    instruments than those that a request says yes to (if any); ``grammar``: only what encoding could give.
    """

    exact_bars: int | None = None
    only_instruments: bool = False
    grammar: bool = True


class _Possible:
    """What remains without the grammar: words that a request rules out for good; the state is its row for each row."""

    def allowed(self, state: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return state

    def advance(self, state: NDArray[np.bool_], tokens: Ids) -> NDArray[np.bool_]:
        return state

    def select(self, state: NDArray[np.bool_], index: Ids) -> NDArray[np.bool_]:
        return state[index]


def check_search(search: Search) -> None:
    """Refuse numbers that no search can go by.

    Raises
    ------
    OptionError
        With the first of them, and what is accepted.
    """
    for name, value, accepted, fits in (
        ("beam", search.beam, "1 or more", search.beam >= 1),
        ("temperature", search.temperature, "a number above 0", 0 < search.temperature < float("inf")),
        ("maximum length", search.max_length, "1 or more", search.max_length >= 1),
        ("minimum length", search.min_length, "the maximum length or less", search.min_length <= search.max_length),
        ("seed", search.seed, "0 or more", search.seed >= 0),
    ):
        if not fits:
            raise OptionError(f"{name} {value}: {accepted} is accepted.")


def candidates_of(asked: int | None, prefixes: str, search: Search) -> int:
    """The number of candidates that are written for each piece.

    Parameters
    ----------
    asked : int, optional
        The number that was asked for.  By default :data:`CANDIDATES` where sampling gives different candidates and
        attributes say which of them is best, else 1: a model of conditions has no attributes, and greedy and beam
        search always find the same music.
    prefixes : str
        One of :data:`PREFIXES`.
    search : Search

    Raises
    ------
    OptionError
        The number is below 1.
    """
    if asked is None:
        differ = search.sampling and search.beam == 1 and search.top_k != 1
        return CANDIDATES if differ and prefixes == PREFIXES[0] else 1
    if asked < 1:
        raise OptionError(f"number of candidates {asked}: 1 or more is accepted.")
    return asked


# ----------------------------------------------------------------------------------------------------------- agreement


def agreement(asked: NDArray[np.uint8], score: Score | None) -> float:
    """Share of what a request asks for that a piece has, 0 to 1; 1 if it asks for nothing that music can tell.

    It is the accuracy that ``evaluate attributes`` reports of the piece, so one without a note has 0.

    Parameters
    ----------
    asked : uint8 [63]
        A request's class vector.
    score : Score
        None: no music came out.
    """
    if score is None:
        return 0.0
    try:
        heard = class_vector(extract(remi.grid_for(score)))
    except ScoreError:
        return 0.0
    ignored = NOT_EXTRACTED | (SLOT_KEY == KEYS.index("C1"))
    share = float(sample_accuracy(*judged(asked[None], heard[None], NOT_GIVEN, OF_MEMBERS, ignored))[0])
    return 1.0 if np.isnan(share) else share


# ------------------------------------------------------------------------------------------------------------ composer


@dataclass(frozen=True, eq=False)
class Piece:
    """What came of a request: music words (the prompt first, ``</s>`` last) in the key of the prompt, the score of each
    (natural logarithm; 0 for the prompt's), and whether only the length limit ended it."""

    ids: Ids
    scores: NDArray[np.float32]
    cut: bool


class Composer:
    """A model with everything that holds for all requests.

    Parameters
    ----------
    model : LinearTransformerLM
        In evaluation mode; its decoder's weights are turned around in memory (see ``modules.recurrent_decoder``).
    words : sequence of str
        The dictionary, by id.
    layout : str
    limits : Limits
    prompt : Prompt, optional
        Its meter also stands for bars of which no word tells it.

    Raises
    ------
    OptionError
        If the dictionary has words of music in places of its own.
    """

    def __init__(
        self,
        model: Any,
        *,
        words: Sequence[str],
        layout: str,
        limits: Limits = Limits(),
        prompt: Prompt | None = None,
    ) -> None:
        number = {word: at for at, word in enumerate(words)}
        for at, word in enumerate(remi.WORDS[: remi.MUSIC_END]):
            if number.get(word, at) != at:
                raise OptionError(
                    f"The dictionary has {word} in row {number[word] - 3}, and not in {at - 3}: words of music stay "
                    "where they are, also where others are renamed."
                )
        self.decoder = model.decoder
        self.words, self.layout, self.limits = list(words), layout, limits
        self.separator = number["<sep>"]
        self.prompt = prompt or Prompt()
        self.generator = MusicGenerator(
            RecurrentDecoder(self.decoder), end=remi.EOS, never=[remi.BOS, remi.PAD, remi.UNK]
        )

    def compose(
        self,
        prefixes: Sequence[Ids],
        search: Search,
        *,
        lines: Sequence[int] | None = None,
        count: int = 1,
        keep: int | None = None,
    ) -> list[list[Piece]]:
        """Write on from prefixes.

        Parameters
        ----------
        prefixes : sequence of int64 [n]
            As :func:`request_ids` gives them.
        search : Search
        lines : sequence of int, optional
            The numbers that random numbers depend on.
        count : int
            Candidates of each.
        keep : int, optional
            Give only so many of them: those whose attributes agree best with the request, of equal ones the more
            probable.  By default all, as they come.
        """
        check_search(search)
        rows, begins = [], []
        for prefix in prefixes:
            read = np.concatenate([[remi.EOS], prefix, [self.separator]])
            begins.append(int(self.decoder.begin(torch.from_numpy(read)[None])[0]))
            rows.append(torch.from_numpy(np.concatenate([read, self.prompt.ids])))
        grammar, state = self._rules(prefixes, search)
        found = self.generator.generate(
            rows, begins, search, lines=lines, candidates=count, grammar=grammar, grammar_state=state
        )
        pieces = [[self._piece(one) for one in candidates] for candidates in found]
        if keep is not None and keep < count:
            pieces = [self._best(prefix, some)[:keep] for prefix, some in zip(prefixes, pieces, strict=True)]
        return pieces

    def score(self, piece: Piece) -> Score | None:
        """The music of a piece; None if there is no note in it."""
        score, _ = remi.decode_with_repairs(piece.ids, self.prompt.meter, self.layout)
        return score if len(score.onset) else None

    def _piece(self, found: Continuation) -> Piece:
        ids = np.concatenate([self.prompt.ids, found.tokens])
        scores = np.concatenate([np.zeros(len(self.prompt.ids), np.float32), found.scores])
        return Piece(transpose(ids, -self.prompt.shift), scores, found.cut)

    def _best(self, prefix: Ids, pieces: list[Piece]) -> list[Piece]:
        asked = self._classes(prefix, "--keep best")
        worth = [(agreement(asked, self.score(piece)), float(piece.scores.mean())) for piece in pieces]
        return [pieces[at] for at in sorted(range(len(pieces)), key=lambda at: worth[at], reverse=True)]

    def _rules(self, prefixes: Sequence[Ids], search: Search) -> tuple[Any, Any]:
        """A grammar, and its state before the first new word of each request; (None, None) where all may come."""
        limits, rows = self.limits, len(prefixes)
        if limits.exact_bars is not None:
            begun = int((self.prompt.ids == remi.BAR_END).sum())
            if limits.exact_bars < max(1, begun):
                reason = f"the prompt alone has {begun}" if begun else "a piece has at least 1"
                raise OptionError(f"--exact-bars {limits.exact_bars}: {reason}.")
        programs = np.ones((rows, DRUMS + 1), bool)
        if limits.only_instruments:
            programs = programs_of(np.stack([self._classes(prefix, "--only-instruments") for prefix in prefixes]))
        if limits.grammar:
            grammar = RemiGrammar(self.layout, words=self.words, meter=self.prompt.meter)
            bars = limits.exact_bars
            state = grammar.start(
                rows,
                search.max_length,
                least_bars=bars or 0,
                most_bars=bars,
                programs=None if programs.all() else programs,
                prompt=self.prompt.ids,
            )
            return grammar, state
        if limits.exact_bars is not None:
            raise OptionError("--exact-bars counts bars by the grammar: it cannot go with --no-grammar.")
        if programs.all():
            return None, None
        possible = np.ones((rows, len(self.words)), bool)
        possible[:, [remi.BOS, remi.PAD, remi.UNK]] = False
        possible[:, remi.INSTRUMENT : remi.INSTRUMENT + DRUMS + 1] = programs
        return _Possible(), possible

    def _classes(self, prefix: Ids, option: str) -> NDArray[np.uint8]:
        try:
            return classes_of_ids(prefix)
        except ValueError as error:
            raise OptionError(f"{option} reads attributes, and this model's prefixes are conditions.") from error
