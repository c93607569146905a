"""The conditional generator: new music from requests, for the fairseq commands, the hub and ``evaluate``.

The model continues the prefix of each request, and the prompt if there is one (see :mod:`~.generation.prompts` and
:mod:`~.generation.sampling`).  **Constraints** apply to all requests: a grammar (:mod:`~.codecs.remi_grammar`), a
number of bars, and programs.  The result is transposed back to the key of the prompt.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import (
    KEYS,
    MULTI_LABEL,
    NA,
    NOT_EXTRACTED,
    SLOT_KEY,
    class_vector,
    classes_of_ids,
    extract,
    programs_of,
)
from musicbert_plugin.codecs.remi_grammar import RemiGrammar, transpose
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.generation.prompts import PREFIXES, Ids, Prompt
from musicbert_plugin.generation.recurrent_decoder import RecurrentDecoder
from musicbert_plugin.generation.sampling import Continuation, MusicGenerator, Search
from musicbert_plugin.metrics.attribute_accuracy import sample_accuracy, score_slots

CANDIDATES = 4
"""Default number of candidates per piece, of which the best is kept; see :func:`candidates_of`."""


@dataclass(frozen=True)
class Constraints:
    """Constraints on the generated music, which apply to all requests.

    Attributes
    ----------
    exact_bars : int, optional
        Bars of the piece, including those of the prompt.
    only_instruments : bool
        Whether only programs of the requested instrument groups are generated, if there are any.
    grammar : bool
        Whether only sequences that the grammar admits are generated.
    """

    exact_bars: int | None = None
    only_instruments: bool = False
    grammar: bool = True


class _FixedMask:
    """A replacement of the grammar that allows the same words at every step; its state is the mask [B, V]."""

    def allowed(self, state: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return state

    def advance(self, state: NDArray[np.bool_], tokens: Ids) -> NDArray[np.bool_]:
        return state

    def select(self, state: NDArray[np.bool_], index: Ids) -> NDArray[np.bool_]:
        return state[index]


def check_search(search: Search) -> None:
    """Check the numbers of a search.

    Raises
    ------
    OptionError
        A number is out of range.
    """
    for name, value, accepted, valid in (
        ("beam", search.beam, "1 or more", search.beam >= 1),
        ("temperature", search.temperature, "a number above 0", 0 < search.temperature < float("inf")),
        ("maximum length", search.max_length, "1 or more", search.max_length >= 1),
        ("minimum length", search.min_length, "the maximum length or less", search.min_length <= search.max_length),
    ):
        if not valid:
            raise OptionError(f"{name} {value}: {accepted} is accepted.")


def candidates_of(requested: int | None, prefixes: str, search: Search) -> int:
    """The number of candidates that are generated for each piece.

    Parameters
    ----------
    requested : int, optional
        The requested number.  By default :data:`CANDIDATES` if sampling gives different candidates and attributes
        determine the best, else 1: a model of conditions has no attributes, and greedy and beam search always find the
        same music.
    prefixes : str
        One of :data:`PREFIXES`.
    search : Search

    Raises
    ------
    OptionError
        The number is below 1.
    """
    if requested is None:
        differ = search.sampling and search.beam == 1 and search.top_k != 1
        return CANDIDATES if differ and prefixes == PREFIXES[0] else 1
    if requested < 1:
        raise OptionError(f"number of candidates {requested}: 1 or more is accepted.")
    return requested


def agreement(requested: NDArray[np.uint8], score: Score | None) -> float:
    """Share of the requested attributes that a piece has, 0 to 1; 1 if no requested attribute can be extracted.

    This is the accuracy that ``evaluate attributes`` reports; it is 0 for a piece without notes.

    Parameters
    ----------
    requested : uint8 [63]
        The class vector of a request.
    score : Score or None
    """
    if score is None:
        return 0.0
    try:
        found = class_vector(extract(remi.grid_for(score)))
    except ScoreError:
        return 0.0
    ignored = NOT_EXTRACTED | (SLOT_KEY == KEYS.index("C1"))
    share = float(sample_accuracy(*score_slots(requested[None], found[None], NA, MULTI_LABEL, ignored))[0])
    return 1.0 if np.isnan(share) else share


@dataclass(frozen=True, eq=False)
class Piece:
    """The music generated for a request.

    Attributes
    ----------
    ids : int64 [n]
        Ids of the prompt and the generated music, with ``</s>``, in the key of the prompt.
    scores : float32 [n]
        Log-probability of each word; 0 for words of the prompt.
    cut : bool
        Whether the length limit ended the piece.
    """

    ids: Ids
    scores: NDArray[np.float32]
    cut: bool


class ConditionalGenerator:
    """Generates music with one model, layout, prompt and set of constraints.

    Parameters
    ----------
    model : LinearTransformerLM
        In evaluation mode; its decoder's weights are transposed in memory (see :mod:`~.generation.recurrent_decoder`).
    words : sequence of str
        The dictionary, by id.
    layout : str
    constraints : Constraints
    prompt : Prompt, optional
        Its time signature also applies to bars without a time-signature token.

    Raises
    ------
    OptionError
        The dictionary has words of music in other rows than the published one.
    """

    def __init__(
        self,
        model: Any,
        *,
        words: Sequence[str],
        layout: str,
        constraints: Constraints = Constraints(),
        prompt: Prompt | None = None,
    ) -> None:
        number = {word: row for row, word in enumerate(words)}
        for row, word in enumerate(remi.WORDS[: remi.MUSIC_END]):
            if number.get(word, row) != row:
                raise OptionError(
                    f"The dictionary has {word} in row {number[word] - 3} instead of {row - 3}: words of music must "
                    "keep their rows, even if others are renamed."
                )
        self.decoder = model.decoder
        self.words, self.layout, self.constraints = list(words), layout, constraints
        self.separator = number["<sep>"]
        self.prompt = prompt or Prompt()
        self.generator = MusicGenerator(
            RecurrentDecoder(self.decoder), end=remi.EOS, never=[remi.BOS, remi.PAD, remi.UNK]
        )

    def generate(
        self,
        prefixes: Sequence[Ids],
        search: Search,
        *,
        lines: Sequence[int] | None = None,
        count: int = 1,
        keep: int | None = None,
    ) -> list[list[Piece]]:
        """Continue prefixes, all in one batch.

        Parameters
        ----------
        prefixes : sequence of int64 [n]
            Results of :func:`~.prompts.request_ids`.
        search : Search
        lines : sequence of int, optional
            The seed of each prefix besides that of the search; by default its index.
        count : int
            Number of candidates of each prefix.
        keep : int, optional
            Number of candidates to return: those whose attributes agree best with the request, of equal ones the more
            probable.  By default all are returned, in the order of generation.

        Returns
        -------
        list of list of Piece
            The candidates of each prefix.
        """
        check_search(search)
        rows, offsets = [], []
        for prefix in prefixes:
            read = np.concatenate([[remi.EOS], prefix, [self.separator]])
            offsets.append(int(self.decoder.position_offset(torch.from_numpy(read)[None])[0]))
            rows.append(torch.from_numpy(np.concatenate([read, self.prompt.ids])))
        grammar, state = self._rules(prefixes, search)
        found = self.generator.generate(
            rows, offsets, search, lines=lines, candidates=count, grammar=grammar, grammar_state=state
        )
        pieces = [[self._piece(continuation) for continuation in candidates] for candidates in found]
        if keep is not None and keep < count:
            pieces = [
                self._best(prefix, candidates)[:keep] for prefix, candidates in zip(prefixes, pieces, strict=True)
            ]
        return pieces

    def generate_best(self, prefixes: Sequence[Ids], search: Search, *, count: int, batch_size: int) -> list[Piece]:
        """The best candidate of each prefix, see :meth:`generate`.

        Parameters
        ----------
        prefixes : sequence of int64 [n]
        search : Search
        count : int
            Number of candidates of each prefix.
        batch_size : int
            Number of rows of a batch, one for each candidate or beam; the result does not depend on it.
        """
        if batch_size < 1:
            raise OptionError(f"batch_size {batch_size}: 1 or more is accepted.")
        step = max(1, batch_size // max(count, search.beam, 1))
        best = []
        for start in range(0, len(prefixes), step):
            batch = prefixes[start : start + step]
            lines = range(start, start + len(batch))
            best += [found[0] for found in self.generate(batch, search, lines=lines, count=count, keep=1)]
        return best

    def score(self, piece: Piece) -> Score | None:
        """The music of a piece; None if it has no notes."""
        score, _ = remi.decode_with_repairs(piece.ids, self.prompt.meter, self.layout)
        return score if len(score.onset) else None

    def _piece(self, found: Continuation) -> Piece:
        ids = np.concatenate([self.prompt.ids, found.tokens])
        scores = np.concatenate([np.zeros(len(self.prompt.ids), np.float32), found.scores])
        return Piece(transpose(ids, -self.prompt.shift), scores, found.cut)

    def _best(self, prefix: Ids, pieces: list[Piece]) -> list[Piece]:
        classes = self._classes(prefix, "choosing the best candidate")

        def quality(piece: Piece) -> tuple[float, float]:
            return agreement(classes, self.score(piece)), float(piece.scores.mean())

        return sorted(pieces, key=quality, reverse=True)

    def _rules(self, prefixes: Sequence[Ids], search: Search) -> tuple[Any, Any]:
        """A grammar and its state before the first new word of each request; (None, None) if any word may follow."""
        exact_bars, rows = self.constraints.exact_bars, len(prefixes)
        if exact_bars is not None:
            begun = int((self.prompt.ids == remi.BAR_END).sum())
            if exact_bars < max(1, begun):
                reason = f"the prompt alone has {begun}" if begun else "a piece has at least 1"
                raise OptionError(f"exact_bars {exact_bars}: {reason}.")
        programs = np.ones((rows, DRUMS + 1), bool)
        if self.constraints.only_instruments:
            programs = programs_of(np.stack([self._classes(prefix, "only_instruments") for prefix in prefixes]))
        if self.constraints.grammar:
            grammar = RemiGrammar(self.layout, words=self.words, meter=self.prompt.meter)
            state = grammar.start(
                rows,
                search.max_length,
                least_bars=exact_bars or 0,
                most_bars=exact_bars,
                programs=None if programs.all() else programs,
                prompt=self.prompt.ids,
            )
            return grammar, state
        if exact_bars is not None:
            raise OptionError("exact_bars counts bars by the grammar: it cannot be used without the grammar.")
        if programs.all():
            return None, None
        allowed = np.ones((rows, len(self.words)), bool)
        allowed[:, [remi.BOS, remi.PAD, remi.UNK]] = False
        allowed[:, remi.INSTRUMENT : remi.INSTRUMENT + DRUMS + 1] = programs
        return _FixedMask(), allowed

    def _classes(self, prefix: Ids, purpose: str) -> NDArray[np.uint8]:
        try:
            return classes_of_ids(prefix)
        except ValueError as error:
            raise OptionError(f"{purpose} needs attributes, and this model's prefixes are conditions.") from error
