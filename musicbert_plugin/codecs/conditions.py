"""Conditions of pairs: a model is fine-tuned on pairs of a condition, its prefix, and a bar of music.

A condition describes a bar in the layout ``notes`` or ``notes-by-program`` (see ``remi``):

    [X-n] PITCH (o p...)* INS (i [voice...])* [HIST ...]

``PITCH``  the content: for each onset ``o``, its distinct pitches ``p`` from high to low
``INS``    the programs ``i``, ascending; in the user's own pairs, each may be followed by words about its voice
``HIST``   the previous bar
``X-n``    the kind of an augmentation (see ``data.pair_augmentation``)

The words that the dictionary of REMI lacks take the ids of durations that are never encoded, ``d-96`` to ``d-101``, so
that the embeddings of a pre-trained checkpoint keep their number of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.octuple import latest
from musicbert_plugin.codecs.remi import BAR_END, DURATION, INSTRUMENT, ONSET, PITCH, SIZES, TEMPO, WORDS, is_by_program
from musicbert_plugin.codecs.score import DRUMS

Ids = NDArray[np.int64]
CONDITION_WORDS = ("PITCH", "INS", "HIST", "X-0", "X-1", "X-2")
RENAMED_WORDS = {f"d-{number}": word for number, word in enumerate(CONDITION_WORDS, start=96)}
"""From words of REMI's dictionary that are never encoded to the words of conditions that take their ids."""
PAIR_WORDS = tuple(RENAMED_WORDS.get(word, word) for word in WORDS)
"""The words of the dictionary of pairs, by id."""
_PITCH_WORD, _INSTRUMENT_WORD, _HISTORY_WORD = range(DURATION + 96, DURATION + 99)


def condition_of(target: NDArray[np.uint16], history: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The condition of a bar: its pitches, its programs, and the previous bar.

    Parameters
    ----------
    target, history : uint16 [T]
        Ids of two bars in a layout of notes alone, each with its ``b-1``.

    Returns
    -------
    uint16 [T]
        Ids of :data:`PAIR_WORDS`.
    """
    is_onset = (target >= ONSET) & (target < INSTRUMENT)
    is_pitch = (target >= PITCH) & (target < DURATION)
    onset = target.astype(np.int64)[latest(is_onset)]
    # Distinct (onset, pitch), pitches descending; the key of an onset sorts before those of its pitches.
    keys = np.concatenate((onset[is_onset] << 16, onset[is_pitch] << 16 | (65535 - target[is_pitch])))
    keys = np.unique(keys)
    low = keys & 65535
    content = np.where(low == 0, keys >> 16, 65535 - low)
    instruments = np.unique(target[(target >= INSTRUMENT) & (target < PITCH)])
    parts = ([_PITCH_WORD], content, [_INSTRUMENT_WORD], instruments, [_HISTORY_WORD], history)
    return np.concatenate(parts).astype(np.uint16)


@dataclass(frozen=True)
class PairWords:
    """Ids of the words of conditions; None for words that the dictionary lacks."""

    pitch: int | None
    instruments: int | None
    history: int | None
    deleted: int | None
    added: int | None

    @classmethod
    def of(cls, words: Sequence[str]) -> PairWords:
        """Find them among the words of a dictionary, in the order of their ids."""
        id_of = {word: number for number, word in enumerate(words)}
        return cls(*(id_of.get(word) for word in ("PITCH", "INS", "HIST", "X-1", "X-2")))


@dataclass(frozen=True, eq=False)
class Pair:
    """A pair split into its parts; ``None`` for parts that the condition lacks.

    Attributes
    ----------
    head : int64 [n]
        The words before the first part of the condition.
    content : int64 [n, 2], optional
        Ids of onset and pitch, in the order of the condition.
    instruments : tuple of int64 [n], optional
        Each ``i`` with the words that follow it.
    history : int64 [n], optional
    music : int64 [T]
    notes : int64 [n, 3]
        Onset id, program and pitch id of the notes of the music.
    described_notes : int64 [n, 3]
        The notes from which the content was made; an augmentation may have removed some of them from the music.
    hidden : frozenset of int
        Programs whose notes an augmentation has removed from the content.
    """

    head: Ids
    content: Ids | None
    instruments: tuple[Ids, ...] | None
    history: Ids | None
    music: Ids
    notes: Ids
    described_notes: Ids
    hidden: frozenset[int] = frozenset()

    @property
    def programs(self) -> list[int]:
        """Programs of the music, ascending."""
        return np.unique(self.notes[:, 1]).tolist()

    def others(self) -> list[int]:
        """All programs except the melody, which has the highest mean pitch; empty if there are only drums."""
        melodic = self.notes[self.notes[:, 1] != DRUMS]
        if not len(melodic):
            return []
        programs, index = np.unique(melodic[:, 1], return_inverse=True)
        melody = programs[(np.bincount(index, melodic[:, 2]) / np.bincount(index)).argmax()]
        return [program for program in self.programs if program != melody]


def _in_range(ids: Ids, first: int, letter: str) -> NDArray[np.bool_]:
    return (ids >= first) & (ids < first + SIZES[letter])


def _program_of(ids: Ids) -> Ids:
    """The program that each word belongs to; -1 outside.

    From its ``i`` to the next ``i`` or ``b-1``, and to the next ``o`` unless words are ordered by program.
    """
    starts, ends_program = _in_range(ids, INSTRUMENT, "i"), ids == BAR_END
    if not is_by_program(ids):
        ends_program |= _in_range(ids, ONSET, "o")
    last, ends = latest(starts), latest(ends_program)
    return np.where(last > ends, ids[last] - INSTRUMENT, -1)


def notes_of(ids: Ids) -> Ids:
    """Onset id, program and pitch id of the complete notes of music, int64 [n, 3]."""
    pitch = np.flatnonzero(_in_range(ids, PITCH, "p"))
    onset = latest(_in_range(ids, ONSET, "o"))[pitch]
    program = _program_of(ids)[pitch]
    complete = (onset >= 0) & (program >= 0)
    return np.stack([ids[onset], program, ids[pitch]], 1)[complete]


def without_programs(ids: Ids, programs: Collection[int]) -> Ids:
    """Music without the notes of these programs, and without the positions that become empty."""
    by_program = is_by_program(ids)
    ids = ids[~np.isin(_program_of(ids), list(programs))]
    if by_program:
        return ids
    # After an onset comes an instrument or, in the layout position-tempo, a tempo and then an instrument.
    instrument = np.append(_in_range(ids, INSTRUMENT, "i"), [False, False])
    tempo = np.append(_in_range(ids, TEMPO, "t"), False)
    empty = _in_range(ids, ONSET, "o") & ~(instrument[1:-1] | (tempo[1:] & instrument[2:]))
    return ids[~(empty | (np.append(False, empty[:-1])[: len(ids)] & tempo[:-1]))]


def read_pair(condition: Ids, music: Ids, words: PairWords) -> Pair | None:
    """Split a pair into its parts; None if the condition has another form."""
    marks = [words.pitch, words.instruments, words.history]
    found = [np.flatnonzero(condition == mark) if mark is not None else np.zeros(0, np.int64) for mark in marks]
    if any(len(indices) > 1 for indices in found):
        return None
    begins = [int(indices[0]) if len(indices) else -1 for indices in found]
    present = [begin for begin in begins if begin >= 0]
    if not present or present != sorted(present):
        return None
    ends = dict(zip(present, [*present[1:], len(condition)], strict=True))
    parts = [condition[begin + 1 : ends[begin]] if begin >= 0 else None for begin in begins]
    content, instruments, history = parts
    pairs = None
    if content is not None:
        onset, pitch = _in_range(content, ONSET, "o"), _in_range(content, PITCH, "p")
        if not (onset | pitch).all() or (len(content) and not onset[0]):
            return None
        pairs = np.stack([content[latest(onset)], content], 1)[pitch]
    split = None
    if instruments is not None:
        starts = _in_range(instruments, INSTRUMENT, "i")
        if len(instruments) and not starts[0]:
            return None
        split = tuple(np.split(instruments, np.flatnonzero(starts)[1:])) if len(instruments) else ()
    notes = notes_of(music)
    pair = Pair(condition[: present[0]], pairs, split, history, music, notes, notes)
    return pair if np.array_equal(write_condition(pair, words), condition) else None


def write_condition(pair: Pair, words: PairWords) -> Ids:
    """The condition of a pair."""
    out = [pair.head]
    if pair.content is not None:
        onset, pitch = pair.content[:, 0], pair.content[:, 1]
        first = np.append(True, onset[1:] != onset[:-1])[: len(onset)]
        merged = np.stack([np.where(first, onset, -1), pitch], 1).ravel()
        out += [np.array([words.pitch]), merged[merged >= 0]]
    if pair.instruments is not None:
        out += [np.array([words.instruments]), *pair.instruments]
    if pair.history is not None:
        out += [np.array([words.history]), pair.history]
    return np.concatenate(out).astype(np.int64)
