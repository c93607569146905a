"""The grammar of REMI: the words that may follow each sequence of a batch.

A sequence of allowed words decodes without a repair, and encoding the decoded score with ``plain=True`` gives the
sequence back, except for trailing empty bars:

* a bar is its header (``s t``, ``s``, or none), positions in ascending order and inside the bar, each with its
  programs in ascending order, each with its notes descending by (pitch, duration, velocity), and ``b-1``; in the layout
  ``notes-by-program`` programs in ascending order, each with its positions, each with its notes;
* pitches from 128 on occur with ``i-128`` only; durations are 1 to 95; the time signature 1/64, ``b-0``, ``e-*`` and
  words that are not music never occur;
* in the layouts that trim silence, the first bar has a note; and no piece ends before it has one, if there is room.

Hard limits, each with a value per row:

*room*
    Number of words that may still be written before ``</s>``.  A word is allowed only if the bar can be closed within
    the remaining room.
*least and most bars*
    ``</s>`` is not allowed before the least number of bars, and room is reserved for as many empty bars as are missing;
    after the most, only ``</s>`` is allowed.  Equal numbers give an exact length.
*programs*
    The programs that may occur.

The state is a small integer array with a row per sequence, and all steps are table look-ups without Python loops over
rows or words.

Shapes: B sequences, V words of the dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from musicbert_plugin.codecs.octuple import latest
from musicbert_plugin.codecs.remi import (
    BAR_END,
    BAR_LENGTHS,
    BAR_TEMPO,
    DEFAULT_METER,
    DURATION,
    DURATIONS,
    EOS,
    INSTRUMENT,
    METER,
    MUSIC_END,
    NO_LENGTH,
    NOTES_ALONE,
    NOTES_BY_PROGRAM,
    OFFSETS,
    ONSET,
    ONSETS,
    PITCH,
    POSITION_TEMPO,
    SIZES,
    TEMPO,
    UNK,
    VELOCITY,
    WORDS,
    check_layout,
    meter_code,
)
from musicbert_plugin.codecs.score import DRUMS
from musicbert_plugin.errors import OptionError

# Kinds of words: the letters, the end of the piece, and words that are never allowed.
_LETTERS = "boipdvst"
_B, _O, _I, _P, _D, _V, _S, _T = range(8)
_END, _NEVER = 8, 9
_FIRST = np.array([BAR_END, ONSET, INSTRUMENT, PITCH, DURATION + 1, VELOCITY, METER, TEMPO, EOS, 0])
_AFTER = np.array(
    [BAR_END + 1, 0, INSTRUMENT + SIZES["i"], 0, 0, 0, METER + SIZES["s"], TEMPO + SIZES["t"], EOS + 1, 0]
)  # 0: set for each row
_ZERO = np.array([BAR_END - 1, ONSET, INSTRUMENT, PITCH, DURATION, VELOCITY, METER, TEMPO, EOS, 0])
_KIND = np.full(MUSIC_END, _NEVER)
for _kind, _letter in enumerate(_LETTERS):
    _KIND[OFFSETS[_letter] : OFFSETS[_letter] + SIZES[_letter]] = _kind
_KIND[BAR_END - 1], _KIND[DURATION], _KIND[METER + NO_LENGTH], _KIND[EOS] = _NEVER, _NEVER, _NEVER, _END
_KIND[ONSET + ONSETS : ONSET + SIZES["o"]] = _NEVER
_KIND[DURATION + DURATIONS : DURATION + SIZES["d"]] = _NEVER
_IDS = np.arange(MUSIC_END, dtype=np.int16)  # int16 for speed: allowed() compares all words

# Phases: the last word was the end of a bar (or none), an s, the last word of the header, an o, the t after an o, an i,
# a p, a d before a velocity, the last word of a note, or the end.
_BETWEEN, _METER_GIVEN, _HEADED, _AT, _AT_TEMPO, _ON, _PITCHED, _LONG, _NOTED, _ENDED = range(10)
# Columns of a state.
(
    _PHASE, _LENGTH, _POSITION, _PROGRAM, _HEIGHT, _DURATION, _LAST_PITCH, _LAST_DURATION, _LAST_VELOCITY, _BARS, _ROOM,
    _LEAST, _MOST, _HAS_NOTE,
) = range(14)  # fmt: skip
_COLUMNS = 14
_HIGHEST = (127, DURATIONS - 1, 31)  # the highest pitch, duration and velocity, with which any note may follow
_UNLIMITED = 2**40


def _transitions(layout: str) -> np.ndarray:
    """The next phase for each phase and kind of word, int64 [10, 9]; -1 for kinds that cannot follow."""
    following = np.full((10, 9), -1)
    headed = _BETWEEN if layout in NOTES_ALONE else _HEADED
    following[_BETWEEN, _END] = _ENDED
    following[_ENDED, _END] = _ENDED
    if layout not in NOTES_ALONE:
        following[_BETWEEN, _S] = _METER_GIVEN if layout != POSITION_TEMPO else _HEADED
        following[_METER_GIVEN, _T] = _HEADED
    following[headed, _B] = following[_NOTED, _B] = _BETWEEN
    following[_NOTED, _O] = _AT
    following[_NOTED, _I] = following[_AT, _I] = _ON
    if layout == NOTES_BY_PROGRAM:
        following[_AT, _I] = -1
        following[headed, _I] = _ON
        following[_ON, _O] = _AT
        following[_AT, _P] = following[_NOTED, _P] = _PITCHED
        following[_PITCHED, _D] = _NOTED
        return following
    following[headed, _O] = _AT
    if layout == POSITION_TEMPO:
        following[_AT, _I] = -1
        following[_AT, _T] = _AT_TEMPO
        following[_AT_TEMPO, _I] = _ON
    following[_ON, _P] = following[_NOTED, _P] = _PITCHED
    if layout in NOTES_ALONE:
        following[_PITCHED, _D] = _NOTED
    else:
        following[_PITCHED, _D] = _LONG
        following[_LONG, _V] = _NOTED
    return following


def _closing(following: np.ndarray) -> np.ndarray:
    """The smallest number of words that close the bar from each phase, int64 [10]; 0 between bars and at the end."""
    need = np.full(10, 1000)
    need[[_BETWEEN, _ENDED]] = 0
    for _ in range(10):
        reached = np.where(following >= 0, need[following] + 1, 1000).min(axis=1)
        need = np.minimum(need, reached)
    return need


@dataclass(frozen=True, eq=False)
class GrammarState:
    """The state of each sequence of a batch.

    Attributes
    ----------
    rows : int64 [B, 14]
    programs : bool [B, 129] or None
        The programs that may occur; None for all.
    """

    rows: np.ndarray
    programs: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def bars(self) -> np.ndarray:
        """Number of closed bars, int64 [B], including those of the prompt."""
        return self.rows[:, _BARS]


class RemiGrammar:
    """The grammar of one layout.

    Parameters
    ----------
    layout : str
        One of ``remi.LAYOUTS``.
    words : sequence of str, optional
        The words of the model's dictionary by id; by default those of ``remi.WORDS``.
    meter : (int, int)
        Time signature of the bars of layouts without time-signature tokens.

    Raises
    ------
    OptionError
        The layout does not exist, or the dictionary lacks a word of it.
    """

    def __init__(
        self, layout: str, *, words: Sequence[str] | None = None, meter: tuple[int, int] = DEFAULT_METER
    ) -> None:
        self.layout = check_layout(layout)
        self._following = _transitions(layout)
        self._need = _closing(self._following)
        # Words that each kind of word needs, itself included; without a limit for the end, unreachable if not allowed.
        self._need_after = np.where(self._following >= 0, self._need[self._following] + 1, _UNLIMITED * 2)
        self._need_after[:, _END] = np.where(self._following[:, _END] >= 0, -_UNLIMITED, _UNLIMITED * 2)
        self.empty_bar = {BAR_TEMPO: 3, POSITION_TEMPO: 2}.get(layout, 1)  # words of a bar without notes
        self._trims = layout not in NOTES_ALONE
        self._by_program = layout == NOTES_BY_PROGRAM
        self._bar_length = int(BAR_LENGTHS[meter_code(*meter)])
        words = WORDS if words is None else words
        self.vocabulary_size = len(words)
        number = {word: row for row, word in enumerate(words)}
        kinds_used = np.append((self._following >= 0).any(axis=0), False)
        self._used = np.flatnonzero(kinds_used[_KIND])  # ids of remi that the layout uses
        used_words = [WORDS[word_id] for word_id in self._used.tolist()]
        missing = [word for word in used_words if word not in number]
        if missing:
            raise OptionError(f"the dictionary has no word {missing[0]}, which layout {layout} needs.")
        self._model_ids = np.array([number[word] for word in used_words])  # their ids in the model's dictionary
        self._moved = not np.array_equal(self._model_ids, self._used)
        self._id_of = np.full(self.vocabulary_size, UNK)
        self._id_of[self._model_ids] = self._used

    # ------------------------------------------------------------------------------------------------------- states

    def start(
        self,
        rows: int,
        room: int | np.ndarray,
        *,
        least_bars: int | np.ndarray = 0,
        most_bars: int | np.ndarray | None = None,
        programs: np.ndarray | None = None,
        prompt: np.ndarray | None = None,
    ) -> GrammarState:
        """The state before the first word, or after a prompt.

        Parameters
        ----------
        rows : int
            B.
        room : int or int [B]
            Number of words that may be written after the prompt, ``</s>`` not counted.
        least_bars, most_bars : int or int [B]
            Bars of the whole piece, including the prompt; None for any number.
        programs : bool [B, 129], optional
            Programs that may occur after the prompt.
        prompt : int [T], optional
            Ids (of ``remi``) of whole bars, the same for all rows, from :meth:`whole_bars`.

        Raises
        ------
        OptionError
            The limits cannot be satisfied.
        """
        state = np.zeros((rows, _COLUMNS), np.int64)
        state[:, _LENGTH] = self._bar_length
        state[:, _POSITION] = state[:, _PROGRAM] = -1
        state[:, [_LAST_PITCH, _LAST_DURATION, _LAST_VELOCITY]] = _HIGHEST
        state[:, _MOST] = _UNLIMITED
        if prompt is not None and len(prompt):
            read = self._read(GrammarState(state[:1], None), np.asarray(prompt, np.int64))
            if read.rows[0, _PHASE] != _BETWEEN:
                raise OptionError("the prompt ends inside a bar; whole bars are needed.")
            state[:] = read.rows
        state[:, _ROOM] = room
        state[:, _LEAST] = least_bars
        state[:, _MOST] = _UNLIMITED if most_bars is None else most_bars
        if (state[:, _LEAST] > state[:, _MOST]).any() or (state[:, _BARS] > state[:, _MOST]).any():
            row = int((np.maximum(state[:, _LEAST], state[:, _BARS]) > state[:, _MOST]).argmax())
            raise OptionError(
                f"a piece of at most {state[row, _MOST]} bars cannot have at least {state[row, _LEAST]}, of which the "
                f"prompt has {state[row, _BARS]}."
            )
        due = (state[:, _LEAST] - state[:, _BARS]) * self.empty_bar
        if (due > state[:, _ROOM]).any():
            row = int((due > state[:, _ROOM]).argmax())
            raise OptionError(
                f"{state[row, _LEAST]} bars need at least {due[row]} words after the prompt, but the maximum length "
                f"leaves {state[row, _ROOM]}; raise it."
            )
        if programs is not None:
            programs = np.asarray(programs, bool)
            if programs.shape != (rows, DRUMS + 1) or not programs.any(axis=1).all():
                raise OptionError("every piece needs at least one allowed program.")
        return GrammarState(state, programs)

    def select(self, state: GrammarState, index: np.ndarray) -> GrammarState:
        """The state of selected rows (int [R], in any order, repetitions allowed)."""
        return GrammarState(state.rows[index], None if state.programs is None else state.programs[index])

    def allowed(self, state: GrammarState) -> np.ndarray:
        """Mask of the words that may follow, bool [B, V]; at least one in each row."""
        rows = state.rows
        kinds = self._kinds(rows)
        first = np.broadcast_to(_FIRST, (len(rows), 10)).copy()
        after = np.broadcast_to(_AFTER, (len(rows), 10)).copy()
        first[:, _O] += rows[:, _POSITION] + 1
        after[:, _O] = ONSET + rows[:, _LENGTH]
        first[:, _I] += rows[:, _PROGRAM] + 1
        first[:, _P] += 128 * (rows[:, _PROGRAM] == DRUMS)
        after[:, _P] = first[:, _P] + rows[:, _LAST_PITCH] + 1
        same_pitch = rows[:, _HEIGHT] == rows[:, _LAST_PITCH]
        after[:, _D] = DURATION + 1 + np.where(same_pitch, rows[:, _LAST_DURATION], _HIGHEST[1])
        same = same_pitch & (rows[:, _DURATION] == rows[:, _LAST_DURATION])
        after[:, _V] = VELOCITY + 1 + np.where(same, rows[:, _LAST_VELOCITY], _HIGHEST[2])
        after[:, :_NEVER][~kinds] = 0
        first, after = first.astype(np.int16), after.astype(np.int16)
        mask = (first.take(_KIND, axis=1) <= _IDS) & (_IDS < after.take(_KIND, axis=1))
        if state.programs is not None:
            mask[:, INSTRUMENT : INSTRUMENT + DRUMS + 1] &= state.programs
        out = np.zeros((len(rows), self.vocabulary_size), bool)
        if self._moved or self.vocabulary_size < MUSIC_END:
            out[:, self._model_ids] = mask[:, self._used]
        else:
            out[:, :MUSIC_END] = mask
        return out

    def _kinds(self, rows: np.ndarray) -> np.ndarray:
        """Mask of the kinds of words that layout, room and numbers of bars allow, bool [B, 9]."""
        phase, bars = rows[:, _PHASE], rows[:, _BARS]
        due = np.maximum(rows[:, _LEAST] - bars - 1, 0) * self.empty_bar  # words of missing bars after the current one
        kinds = self._need_after[phase] <= (rows[:, _ROOM] - due)[:, None]
        between = phase == _BETWEEN
        if between.any():
            kinds[between & (bars >= rows[:, _MOST]), :_END] = False
            kinds[between & (bars < rows[:, _LEAST]), _END] = False
        silent = rows[:, _HAS_NOTE] == 0
        if silent.any():
            kinds[silent & between & kinds[:, :_END].any(axis=1), _END] = False
            if self._trims:
                kinds[silent & (phase == _HEADED) & kinds[:, _O], _B] = False
        return kinds

    def advance(self, state: GrammarState, tokens: np.ndarray) -> GrammarState:
        """The state after one more word in each row: ``tokens``, int [B], which must be allowed."""
        ids = np.asarray(tokens, np.int64)
        ids = self._id_of[ids] if self._moved else ids
        kind = _KIND[ids]
        value = ids - _ZERO[kind]
        rows = state.rows.copy()
        rows[:, _PHASE] = self._following[rows[:, _PHASE], kind]
        rows[:, _ROOM] -= 1
        if (closed := kind == _B).any():
            rows[closed, _BARS] += 1
            rows[closed, _POSITION] = rows[closed, _PROGRAM] = -1
        if (mask := kind == _S).any():
            rows[mask, _LENGTH] = BAR_LENGTHS[value[mask]]
        if (mask := kind == _O).any():
            rows[mask, _POSITION] = value[mask]
        if (mask := kind == _I).any():
            rows[mask, _PROGRAM] = value[mask]
        outer, inner = (_I, _POSITION) if self._by_program else (_O, _PROGRAM)
        if (mask := kind == outer).any():
            rows[mask, inner] = -1
        if (mask := (kind == _O) | (kind == _I)).any():
            rows[mask, _LAST_PITCH : _LAST_VELOCITY + 1] = _HIGHEST
        if (mask := kind == _P).any():
            rows[mask, _HEIGHT] = value[mask] & 127
        if (mask := kind == _D).any():
            rows[mask, _DURATION] = value[mask]
        if (mask := kind == (_D if self.layout in NOTES_ALONE else _V)).any():
            rows[mask, _LAST_PITCH] = rows[mask, _HEIGHT]
            rows[mask, _LAST_DURATION] = rows[mask, _DURATION]
            rows[mask, _LAST_VELOCITY] = _HIGHEST[2] if self.layout in NOTES_ALONE else value[mask]
            rows[mask, _HAS_NOTE] = 1
        return GrammarState(rows, state.programs)

    # ------------------------------------------------------------------------------------------------------ prompts

    def _read(self, state: GrammarState, ids: np.ndarray) -> GrammarState:
        """The state (B = 1) after a sequence of words (ids of ``remi``), without a limit of room.

        Raises
        ------
        OptionError
            A word cannot follow; the message has the first such word.
        """
        rows = state.rows.copy()
        rows[:, _ROOM], rows[:, _HAS_NOTE] = _UNLIMITED, 1
        state = GrammarState(rows, None)
        plain = RemiGrammar(self.layout) if self._moved else self
        plain._bar_length = self._bar_length
        for index, word_id in enumerate(ids.tolist()):
            if not 0 <= word_id < MUSIC_END or not plain.allowed(state)[0, word_id]:
                word = WORDS[word_id] if 0 <= word_id < len(WORDS) else str(word_id)
                beyond = self.layout in NOTES_ALONE and ONSET + self._bar_length <= word_id < ONSET + ONSETS
                raise OptionError(
                    f"word {index + 1} of the prompt, {word}, cannot follow there in layout {self.layout}"
                    f"{'; meter sets the length of bars' * beyond}."
                )
            state = plain.advance(state, np.array([word_id]))
        return state

    def misfits(self, ids: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """The first word of each line that the grammar does not allow there.

        Unlike in generation, a first bar may be silent, and a line may have no note.

        Parameters
        ----------
        ids : int [T]
            Ids of the model's dictionary, of all lines, one after the other, without ``</s>``.
        begins : int [N + 1]
            The index of each line's first word, and T.

        Returns
        -------
        int64 [N]
            The index in the line; the line's length if it ends inside a bar, and -1 if all fits.
        """
        ids, begins = np.asarray(ids, np.int64), np.asarray(begins, np.int64)
        lengths = np.diff(begins)
        known = (ids >= 0) & (ids < self.vocabulary_size)
        ids = self._id_of[np.where(known, ids, 0)]
        kind = np.where(ids >= BAR_END, _KIND[np.minimum(ids, MUSIC_END - 1)], _NEVER)
        value = ids - _ZERO[kind]
        first = np.zeros(len(ids), bool)
        first[begins[:-1][lengths > 0]] = True
        # The phase after a word follows from its kind alone.
        phase_after = np.append(self._following.max(axis=0), _ENDED)
        phase = np.where(first, _BETWEEN, np.append(_BETWEEN, phase_after[kind[:-1]])[: len(ids)])
        fits = np.append(self._following, np.full((10, 1), -1), axis=1)[phase, kind] >= 0

        # Onsets, programs and notes ascend or descend since the last word that begins a group of them.
        outer, inner = (_I, _O) if self._by_program else (_O, _I)
        bar = np.cumsum(first | np.append(False, kind[:-1] == _B)[: len(ids)])
        outer_group, inner_group = np.cumsum(kind == outer), np.cumsum((kind == inner) | (kind == outer))
        for which, group in ((outer, bar), (inner, outer_group)):
            rows = np.flatnonzero(kind == which)
            fits[rows[1:]] &= (group[rows[1:]] != group[rows[:-1]]) | (value[rows[1:]] > value[rows[:-1]])
        length = np.full(len(ids), self._bar_length)
        meter = latest(kind == _S)
        given = meter >= np.maximum.accumulate(np.where(first, np.arange(len(ids)), 0))
        length[given] = BAR_LENGTHS[value[meter[given]]]
        fits &= (kind != _O) | (value < length)
        program = latest(kind == _I)
        drums = (program >= 0) & (value[program] == DRUMS)
        fits &= (kind != _P) | ((value >= 128) == drums)
        words = 2 if self.layout in NOTES_ALONE else 3
        note = np.flatnonzero(kind == _P)
        note = note[note + words <= len(ids)]
        columns = value[note[:, None] + np.arange(words)]
        columns[:, 0] &= 127
        same = inner_group[note[1:]] == inner_group[note[:-1]]
        for column in range(words):
            before, after = columns[:-1, column], columns[1:, column]
            fits[note[1:][same & (after > before)] + column] = False
            same &= after == before

        place = np.arange(len(ids)) - np.repeat(begins[:-1], lengths)
        wrong = np.flatnonzero(~fits)
        result = np.where(lengths > 0, lengths, -1)
        last = begins[1:][lengths > 0] - 1
        result[np.flatnonzero(lengths > 0)[kind[last] == _B]] = -1
        line = np.repeat(np.arange(len(lengths)), lengths)[wrong]
        lines, index = np.unique(line, return_index=True)
        result[lines] = place[wrong[index]]
        return result

    def whole_bars(self, ids: np.ndarray) -> np.ndarray:
        """The prompt as whole bars: an incomplete note at the end is removed, and ``b-1`` closes an open bar.

        Parameters
        ----------
        ids : int [T]
            Ids of ``remi``, without specials.

        Raises
        ------
        OptionError
            A word cannot follow in this layout.
        """
        ids = np.asarray(ids, np.int64)
        state = GrammarState(self.start(1, _UNLIMITED).rows, None)
        rows = self._read(state, ids).rows[0] if len(ids) else state.rows[0]
        if rows[_PHASE] == _BETWEEN and (len(ids) == 0 or rows[_POSITION] < 0):
            return ids
        closed = np.flatnonzero(ids == BAR_END)
        bar = int(closed[-1]) + 1 if len(closed) else 0
        last = _D if self.layout in NOTES_ALONE else _V
        complete = np.flatnonzero(_KIND[ids[bar:]] == last)
        if len(complete) == 0:
            return ids[:bar]
        return np.append(ids[: bar + int(complete[-1]) + 1], BAR_END)


def transpose(ids: np.ndarray, semitones: int) -> np.ndarray:
    """Transpose the melodic notes of music; pitches outside 0..127 move to the nearest octave inside.

    Parameters
    ----------
    ids : int [T]
        Ids of ``remi`` in the order of the grammar, in any layout.
    semitones : int

    Returns
    -------
    int64 [T]
        Ids in the order of the grammar.
    """
    ids = np.asarray(ids, np.int64).copy()
    kind = np.where((ids >= 0) & (ids < MUSIC_END), _KIND[np.clip(ids, 0, MUSIC_END - 1)], _NEVER)
    notes = np.flatnonzero((kind == _P) & (ids < PITCH + 128))
    pitch = ids[notes] - PITCH + semitones
    outside = (pitch < 0) | (pitch > 127)
    pitch = np.where(pitch < 0, pitch % 12, pitch)
    pitch = np.where(pitch > 127, 116 + (pitch - 116) % 12, pitch)
    ids[notes] = PITCH + pitch
    if outside.any():  # moving by octaves may have changed the order
        words = 3 if (kind == _V).any() else 2
        group = np.cumsum((kind == _I) | (kind == _O))[notes]
        whole = notes + words <= len(ids)
        notes, group = notes[whole], group[whole]
        columns = ids[notes[:, None] + np.arange(words)]
        order = np.lexsort((*(-columns.T[::-1]), group))
        ids[notes[:, None] + np.arange(words)] = columns[order]
    return ids
