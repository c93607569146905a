"""The conditional generator: new music from requests, for the fairseq commands, the hub and ``evaluate``.

The model continues the prefix of each request, and the prompt if there is one (see :mod:`~.generation.prompts` and
:mod:`~.generation.sampling`).  **Constraints** apply to all requests: a grammar (:mod:`~.codecs.remi_grammar`), a
number of bars, programs, and whether what each request says of bars, time signature and tempo is a limit
(:mod:`~.codecs.request_limits`).  A limit that the prompt contradicts does not hold, with a warning.  The result is
transposed back to the key of the prompt, begins with the prompt as it was (:mod:`~.generation.continuation`), and no
new note strikes a key that sounds (:mod:`~.generation.overlaps`).

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicbert_plugin import __version__
from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import (
    BARS_PER_CLASS,
    GROUP_OF_PROGRAM,
    KEYS,
    MODES,
    MULTI_LABEL,
    NA,
    NO,
    NOT_EXTRACTED,
    SLOT_ID,
    SLOT_KEY,
    SLOT_OF,
    class_vector,
    classes_of_ids,
    extract,
)
from musicbert_plugin.codecs.remi_grammar import RemiGrammar, transpose
from musicbert_plugin.codecs.request_limits import ANY_BARS, Limits, limits_of
from musicbert_plugin.codecs.requests import request_words
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.generation.continuation import continued
from musicbert_plugin.generation.overlaps import without_overlaps
from musicbert_plugin.generation.prompts import PREFIXES, Ids, Prompt
from musicbert_plugin.generation.recurrent_decoder import RecurrentDecoder
from musicbert_plugin.generation.sampling import Continuation, MusicGenerator, Search
from musicbert_plugin.metrics.attribute_accuracy import sample_accuracy, score_slots

logger = logging.getLogger(__name__)
CANDIDATES = 4
"""Default number of candidates per piece, of which the best is kept; see :func:`candidates_of`."""


@dataclass(frozen=True)
class Constraints:
    """Constraints on the generated music of all requests.

    Attributes
    ----------
    exact_bars : int, optional
        Bars of every piece, including those of the prompt, instead of those that its request names.
    only_instruments : bool
        Whether only programs of the requested instrument groups are generated, if there are any.
    grammar : bool
        Whether only sequences that the grammar admits are generated.  Without it, only instruments are limited.
    limited : bool
        Whether bars, time signature and tempo that a request names are limits; else they only guide the model.
        Instruments that a request excludes never sound.
    steady_tempo : bool
        Whether each piece has one tempo, also if its request names none.
    """

    exact_bars: int | None = None
    only_instruments: bool = False
    grammar: bool = True
    limited: bool = True
    steady_tempo: bool = False


class _FixedMask:
    """A replacement of the grammar that allows the same words at every step; its state is the mask [B, V]."""

    def allowed(self, state: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return state

    def advance(self, state: NDArray[np.bool_], tokens: Ids) -> NDArray[np.bool_]:
        return state

    def select(self, state: NDArray[np.bool_], index: Ids) -> NDArray[np.bool_]:
        return state[index]

    def shortened(self, state: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.zeros(len(state), bool)


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


def weights_digest(model: torch.nn.Module) -> str:
    """A sha256 by which models are told apart: of up to 4,096 weights of each tensor, evenly spread."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().reshape(-1)
        sample = flat[:: -(-len(flat) // 4096) or 1].float().cpu().numpy()
        digest.update(f"{name} {list(weight.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()


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
        Whether the length limit ended the piece, or excluded words of it.
    """

    ids: Ids
    scores: NDArray[np.float32]
    cut: bool

    @property
    def bars(self) -> tuple[int, int]:
        """The number of bars, an open last one included if it has a note, and of bars without a note."""
        ends = np.flatnonzero(self.ids == remi.BAR_END)
        notes = np.flatnonzero((self.ids >= remi.PITCH) & (self.ids < remi.DURATION))
        sounding = np.unique(np.searchsorted(ends, notes))
        bars = max(len(ends), int(sounding[-1]) + 1 if len(sounding) else 0)
        return bars, bars - len(sounding)

    def stored(self) -> dict[str, Any]:
        """The piece as values that JSON has; :meth:`of` reverses it exactly."""
        return {"ids": self.ids.tolist(), "scores": self.scores.tolist(), "cut": bool(self.cut)}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Piece:
        """The piece of :meth:`stored`."""
        return cls(np.array(stored["ids"], np.int64), np.array(stored["scores"], np.float32), stored["cut"])


class ConditionalGenerator:
    """Generates music with one model, layout, prompt and set of constraints.

    Parameters
    ----------
    model : LinearTransformerLM
        In evaluation mode; its decoder's weights are transposed in memory (see :mod:`~.generation.recurrent_decoder`).
    words : sequence of str
        The dictionary, by id.
    layout : str
        One of ``remi.LAYOUTS``, or ``remi.FREE``, for which there is no grammar.
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
        seen = getattr(getattr(model, "args", None), "seen_attributes", None)
        self.seen_attributes = None if seen is None else frozenset(str(seen).split())
        self._warned: set[str] = set()
        self.name_of: Callable[[int], str] = "request {}".format
        """The name of a request in warnings, from its number (see ``lines`` of :meth:`generate`)."""
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
        lines = range(len(prefixes)) if lines is None else lines
        rows, offsets = [], []
        for prefix in prefixes:
            read = np.concatenate([[remi.EOS], prefix, [self.separator]])
            offsets.append(int(self.decoder.position_offset(torch.from_numpy(read)[None])[0]))
            rows.append(torch.from_numpy(np.concatenate([read, self.prompt.ids])))
        self._warn_of_unseen(prefixes, lines)
        grammar, state = self._rules(prefixes, search, lines)
        found = self.generator.generate(
            rows, offsets, search, lines=lines, candidates=count, grammar=grammar, grammar_state=state
        )
        pieces = [[self._piece(continuation) for continuation in candidates] for candidates in found]
        if keep is not None and keep < count:
            pieces = [
                self._best(prefix, candidates)[:keep] for prefix, candidates in zip(prefixes, pieces, strict=True)
            ]
        for line, candidates in zip(lines, pieces, strict=True):
            for piece in candidates:
                if piece.cut:
                    sentence = "%s: shortened by the maximum length of %d words (bars: %d, without notes: %d)"
                    logger.warning(sentence, self.name_of(line), search.max_length, *piece.bars)
        return pieces

    def generate_best(
        self,
        prefixes: Sequence[Ids],
        search: Search,
        *,
        count: int,
        batch_size: int,
        known: Mapping[int, Piece] | None = None,
        answered: Callable[[int, Piece], None] | None = None,
    ) -> list[Piece]:
        """The best candidate of each prefix, see :meth:`generate`.

        Parameters
        ----------
        prefixes : sequence of int64 [n]
        search : Search
        count : int
            Number of candidates of each prefix.
        batch_size : int
            Number of rows of a batch, one for each candidate or beam; the result does not depend on it.
        known : mapping of int to Piece, optional
            Pieces of an earlier call with the same arguments, by index, which are not generated again.
        answered : callable, optional
            Called with the index and the piece of each prefix, when its batch is done.
        """
        if batch_size < 1:
            raise OptionError(f"batch_size {batch_size}: 1 or more is accepted.")
        best = dict(known or {})
        lines = [line for line in range(len(prefixes)) if line not in best]
        step = max(1, batch_size // max(count, search.beam, 1))
        for start in range(0, len(lines), step):
            batch = lines[start : start + step]
            found = self.generate([prefixes[line] for line in batch], search, lines=batch, count=count, keep=1)
            for line, (piece, *_) in zip(batch, found, strict=True):
                best[line] = piece
                if answered:
                    answered(line, piece)
        return [best[line] for line in range(len(prefixes))]

    def description(self, search: Search, **options: Any) -> dict[str, Any]:
        """All that the music depends on besides the requests, as values that JSON has.

        Parameters
        ----------
        search : Search
        **options
            Further options of :meth:`generate`.
        """
        prompt = hashlib.sha256(self.prompt.ids.tobytes())
        if self.prompt.score is not None:
            for column in vars(self.prompt.score).values():
                prompt.update(column.tobytes() if isinstance(column, np.ndarray) else repr(column).encode())
        return {
            "version": __version__,
            "model": weights_digest(self.decoder),
            "words": hashlib.sha256("\n".join(self.words).encode()).hexdigest(),
            "layout": self.layout,
            "constraints": vars(self.constraints),
            "prompt": prompt.hexdigest() if len(self.prompt.ids) else "",
            "meter": list(self.prompt.meter),
            "search": vars(search),
            **options,
        }

    def score(self, piece: Piece) -> Score | None:
        """The music of a piece; None if it has no notes."""
        score = self.finished(piece)
        return score if len(score.onset) else None

    def finished(self, piece: Piece, prefix: Ids | None = None) -> Score:
        """The music of a piece as it is written to files.

        It has the notes, tempi, time and key signatures of the prompt, if there is one, and at the bar line after it
        the new notes, a track per program, without doubles and overlaps.  It ends with the last bar, even if that is
        empty, and so do new notes that would sound beyond it.

        The key signatures are those of the prompt.  If it has none and the request (``prefix``, without ``</s>`` and
        ``<sep>``) names a mode, the key is known: models write in C major and A minor, and a prompt's key is that to
        which its music is transposed.
        """
        music, _ = remi.decode_with_repairs(piece.ids, self.prompt.meter, self.layout)
        new = None
        if self.prompt.score is not None:
            words = piece.ids[: len(self.prompt.ids)]
            begin = remi.decode_with_repairs(words, self.prompt.meter, self.layout)[0].end_tick
            music, new = continued(self.prompt.score, music, begin, tempi=self.layout not in remi.NOTES_ALONE)
        inside = np.maximum(np.minimum(music.end, music.end_tick), music.onset + 1)
        music = replace(music, end=inside if new is None else np.where(new, inside, music.end))
        return replace(without_overlaps(music, new), keys=music.keys or self._keys(prefix))

    def repairs(self, piece: Piece) -> Counter[str]:
        """The number of repairs that decoding a piece needs, by kind; none of what the grammar admits."""
        return remi.decode_with_repairs(piece.ids, self.prompt.meter, self.layout)[1]

    def _keys(self, prefix: Ids | None) -> tuple[tuple[int, int, bool], ...]:
        """The key signature of pieces of a request; none if it does not name a mode."""
        try:
            mode = None if prefix is None else int(classes_of_ids(prefix)[SLOT_OF["K1"]])
        except ValueError:  # a condition
            return ()
        if mode is None or mode >= len(MODES):
            return ()
        sharps = (5 - 7 * self.prompt.shift) % 12 - 5  # C major and A minor have none
        return ((0, sharps, MODES[mode] == "minor"),)

    def _piece(self, found: Continuation) -> Piece:
        ids = np.concatenate([self.prompt.ids, found.tokens])
        scores = np.concatenate([np.zeros(len(self.prompt.ids), np.float32), found.scores])
        return Piece(transpose(ids, -self.prompt.shift), scores, found.cut)

    def _best(self, prefix: Ids, pieces: list[Piece]) -> list[Piece]:
        classes = self._classes(prefix, "choosing the best candidate")

        def quality(piece: Piece) -> tuple[float, float]:
            return agreement(classes, self.score(piece)), float(piece.scores.mean())

        return sorted(pieces, key=quality, reverse=True)

    def _rules(self, prefixes: Sequence[Ids], search: Search, lines: Sequence[int]) -> tuple[Any, Any]:
        """A grammar and its state before the first new word of each request; (None, None) if any word may follow."""
        asked, rows = self.constraints, len(prefixes)
        if asked.exact_bars is not None:
            begun = int((self.prompt.ids == remi.BAR_END).sum()) + self.prompt.silent_bars
            if asked.exact_bars < max(1, begun):
                reason = f"the prompt alone has {begun}" if begun else "a piece has at least 1"
                raise OptionError(f"exact_bars {asked.exact_bars}: {reason}.")
        has_grammar = asked.grammar and self.layout != remi.FREE
        for name, value in (("exact_bars", asked.exact_bars is not None), ("steady_tempo", asked.steady_tempo)):
            if value and not has_grammar:
                raise OptionError(f"{name} is kept by the grammar: it cannot be used without the grammar.")
        if self._has_attributes(prefixes):
            classes = np.stack([self._classes(prefix, "a request") for prefix in prefixes])
        else:
            if asked.only_instruments:
                self._classes(prefixes[0], "only_instruments")
            classes = np.tile(NA, (rows, 1))
        limits = limits_of(
            classes,
            limited=asked.limited and has_grammar,
            only_instruments=asked.only_instruments,
            exact_bars=None if asked.exact_bars is None else asked.exact_bars - self.prompt.silent_bars,
            steady_tempo=asked.steady_tempo,
        )
        if has_grammar:
            grammar = RemiGrammar(self.layout, words=self.words, meter=self.prompt.meter)
            limits = self._possible(classes, limits, grammar, search, lines)
            return grammar, grammar.start(rows, search.max_length, prompt=self.prompt.ids, **vars(limits))
        if limits.programs.all():
            return None, None
        allowed = np.ones((rows, len(self.words)), bool)
        allowed[:, [remi.BOS, remi.PAD, remi.UNK]] = False
        allowed[:, remi.INSTRUMENT : remi.INSTRUMENT + DRUMS + 1] = limits.programs
        return _FixedMask(), allowed

    def _possible(
        self,
        classes: NDArray[np.uint8],
        limits: Limits,
        grammar: RemiGrammar,
        search: Search,
        lines: Sequence[int],
    ) -> Limits:
        """The limits without those that the prompt, ``exact_bars`` or the maximum length contradict, with warnings."""
        ids = self.prompt.ids
        bars = int((ids == remi.BAR_END).sum())
        own = limits_of(classes, limited=self.constraints.limited)
        named = own.most_bars < ANY_BARS
        if self.constraints.exact_bars is not None:
            other = (own.least_bars > limits.least_bars) | (own.most_bars < limits.most_bars)
            self._warn(
                classes, other & named, "B1s1", f"exact_bars {self.constraints.exact_bars} is used instead", lines
            )
        else:
            long = bars > limits.most_bars
            self._warn(classes, long, "B1s1", f"the prompt has {bars} bars, so this is not kept", lines)
            words = grammar.least_words(limits.least_bars, ids)
            short = named & ~long & (words > search.max_length)
            reason = f"the maximum length of {search.max_length} words is too small, so this is not kept"
            self._warn(classes, short, "B1s1", reason, lines)
            limits = replace(
                limits,
                least_bars=np.where(long | short, 0, limits.least_bars),
                most_bars=np.where(long | short, ANY_BARS, limits.most_bars),
            )
        sounding = ids[(ids >= remi.INSTRUMENT) & (ids < remi.PITCH)] - remi.INSTRUMENT
        slots = np.zeros(classes.shape, bool)
        slots[:, SLOT_OF["I1s2"] + GROUP_OF_PROGRAM[sounding]] = True
        reason = "the prompt has this, and what follows it does not"
        self._warn(classes, slots & (classes == NO), "I1s2", reason, lines)
        if self.layout in remi.NOTES_ALONE:
            reason = f"the layout {self.layout} has no words for this, so it only guides the model"
            self._warn(classes, limits.steady_meter, "TS1s1", reason, lines)
            self._warn(classes, own.steady_tempo, "T1s1", reason, lines)
            return limits
        meters = np.unique(ids[(ids >= remi.METER) & (ids < remi.METER + remi.SIZES["s"])]) - remi.METER
        tempi = np.unique(ids[(ids >= remi.TEMPO) & (ids < remi.TEMPO + remi.SIZES["t"])]) - remi.TEMPO
        changed = limits.steady_meter & ((len(meters) > 1) | ~limits.meters[:, meters].all(axis=1))
        self._warn(classes, changed, "TS1s1", "the prompt has another time signature, so this is not kept", lines)
        faster = own.steady_tempo & ((len(tempi) > 1) | ~limits.tempi[:, tempi].all(axis=1))
        self._warn(classes, faster, "T1s1", "the prompt has another tempo, whose last value is kept instead", lines)
        return replace(limits, meters=limits.meters | changed[:, None], steady_meter=limits.steady_meter & ~changed)

    def _warn(
        self, classes: NDArray[np.uint8], rows: NDArray[np.bool_], key: str, reason: str, lines: Sequence[int]
    ) -> None:
        """Say for each of some rows [B], or slots [B, 63], why an attribute of its request is not kept."""
        slots = rows.reshape(len(classes), -1) & (SLOT_KEY == KEYS.index(key))
        for row in np.flatnonzero(slots.any(axis=1)).tolist():
            logger.warning("%s, %s: %s", self.name_of(lines[row]), _said(classes[row], slots[row]), reason)

    def _warn_of_unseen(self, prefixes: Sequence[Ids], lines: Sequence[int]) -> None:
        """Say once for each requested value that the model's training data never had."""
        if self.seen_attributes is None or not self._has_attributes(prefixes):
            return
        for line, prefix in zip(lines, prefixes, strict=True):
            classes = self._classes(prefix, "a request")
            for slot in np.flatnonzero((classes != NA) & ~((classes == NO) & MULTI_LABEL)).tolist():
                word = remi.WORDS[int(prefix[slot])]
                if word in self.seen_attributes or word in self._warned:
                    continue
                self._warned.add(word)
                logger.warning(
                    "%s, %s: the data of the last training never had this value, so it may have no effect",
                    self.name_of(line),
                    _said(classes, np.arange(len(classes)) == slot),
                )

    def _has_attributes(self, prefixes: Sequence[Ids]) -> bool:
        """Whether the prefixes are command words; a dictionary of conditions has other words in their rows."""
        first, last = int(SLOT_ID[0]), int(SLOT_ID[-1])
        commands = last < len(self.words) and all(self.words[row] == remi.WORDS[row] for row in (first, last))
        return commands and all(len(prefix) == len(SLOT_ID) for prefix in prefixes)

    def _classes(self, prefix: Ids, purpose: str) -> NDArray[np.uint8]:
        try:
            return classes_of_ids(prefix)
        except ValueError as error:
            raise OptionError(f"{purpose} needs attributes, and this model's prefixes are conditions.") from error


def _said(classes: NDArray[np.uint8], slots: NDArray[np.bool_]) -> str:
    """Some attributes of a request in its words; the number of bars as the range of its class."""
    if slots[SLOT_OF["B1s1"]]:
        number = int(classes[SLOT_OF["B1s1"]])
        return f"{BARS_PER_CLASS * number + 1} to {BARS_PER_CLASS * (number + 1)} bars"
    return request_words(np.where(slots, classes, NA).astype(np.uint8))
