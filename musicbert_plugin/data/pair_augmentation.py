"""Conditions that say less than the music, so that a model fine-tuned on pairs learns to arrange, and not to copy.

A pair is a condition, ``[X-n] PITCH (o p...)* INS (i [voice...])* [HIST ...]``, and the bar of music that it describes.
Seven augmentations, each switched on by itself, change training pairs; they come in this order.  "Thirds" means that
one draw decides between two changes and none:

``inst_slight``   thirds: the content (the part behind PITCH) lacks one instrument, which is to be predicted; or one
                  instrument goes from INS, content and music
``drum``          thirds: drums go from INS and music, so that the model leaves out what the content still tells; or
                  from the content.  Then, with probability 1/2, from the history
``bass``          thirds: as with drums, for programs 32, 33, 43 and 70
``hist``          with probability 1/10 the history is empty
``inst``          thirds: of n instruments Poisson(n // 2), at least one, leave the content; or go from INS and music
``denoise``       with probability 1/2, of k notes of an instrument at a position Poisson(k // 2), not all, leave the
                  content
``content``       thirds: of P pitches max(1, Poisson(P // 4)) leave the content, never the highest of a position, and
                  X-1 stands before the condition; or so many below the highest are added (one that is there already
                  does not come twice), and X-2 stands there.  Drums have no height: they may leave

The melody, the instrument other than drums with the highest mean pitch, is never touched, and nothing happens to music
of one instrument or of drums alone.  An instrument that leaves the content leaves those pitches that no other plays.
A pair whose condition lacks a part that an augmentation needs passes through it unchanged; so does one of another form.

Everything depends on (seed, epoch, index) alone, and each augmentation draws for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.remi import BAR_END, INSTRUMENT, ONSET, PITCH, SIZES, TEMPO
from musicbert_plugin.codecs.score import DRUMS
from musicbert_plugin.data.epoch_rng import epoch_rng

Ids = NDArray[np.int64]
AUGMENTATIONS = ("inst_slight", "drum", "bass", "hist", "inst", "denoise", "content")
BASSES = (32, 33, 43, 70)
_STREAM = 16  # above those of ``prefix_lm_dataset``


@dataclass(frozen=True)
class PairWords:
    """Ids of the words of conditions; None where the dictionary lacks one."""

    pitch: int | None
    instruments: int | None
    history: int | None
    deleted: int | None
    added: int | None

    @classmethod
    def of(cls, words: Sequence[str]) -> PairWords:
        """From a dictionary, by id."""
        number = {word: at for at, word in enumerate(words)}
        return cls(*(number.get(word) for word in ("PITCH", "INS", "HIST", "X-1", "X-2")))


@dataclass(frozen=True, eq=False)
class Pair:
    """A pair in its parts; ``None`` for a part that the condition lacks.

    ``content``: (onset, pitch) [n, 2], ids, in their order; ``instruments``: each ``i`` with what follows it;
    ``notes``: (onset, program, pitch) [n, 3] of the music; ``told``: those that the content was made of, which may be
    more; ``hidden``: programs that have left the content.
    """

    head: Ids
    content: Ids | None
    instruments: tuple[Ids, ...] | None
    history: Ids | None
    music: Ids
    notes: Ids
    told: Ids
    hidden: frozenset[int] = frozenset()

    @property
    def programs(self) -> list[int]:
        """Of the music, ascending."""
        return np.unique(self.notes[:, 1]).tolist()

    def others(self) -> list[int]:
        """Programs but for the melody; none if there is no melody."""
        melodic = self.notes[self.notes[:, 1] != DRUMS]
        if not len(melodic):
            return []
        programs, place = np.unique(melodic[:, 1], return_inverse=True)
        melody = programs[(np.bincount(place, melodic[:, 2]) / np.bincount(place)).argmax()]
        return [program for program in self.programs if program != melody]


def _is(ids: Ids, first: int, letter: str) -> NDArray[np.bool_]:
    return (ids >= first) & (ids < first + SIZES[letter])


def _latest(here: NDArray[np.bool_]) -> Ids:
    return np.maximum.accumulate(np.where(here, np.arange(len(here)), -1))


def _program_of(ids: Ids) -> Ids:
    """The program that each word belongs to, from its ``i`` to the next ``o``, ``i`` or ``b-1``; -1 outside."""
    starts = _is(ids, INSTRUMENT, "i")
    last, ends = _latest(starts), _latest(_is(ids, ONSET, "o") | (ids == BAR_END))
    return np.where(last > ends, ids[last] - INSTRUMENT, -1)


def _notes(ids: Ids) -> Ids:
    places = np.flatnonzero(_is(ids, PITCH, "p"))
    onset = _latest(_is(ids, ONSET, "o"))[places]
    program = _program_of(ids)[places]
    whole = (onset >= 0) & (program >= 0)
    return np.stack([ids[onset], program, ids[places]], 1)[whole]


def _without(ids: Ids, programs: Collection[int]) -> Ids:
    """Music without these programs, and without positions that only they had."""
    ids = ids[~np.isin(_program_of(ids), list(programs))]
    # An onset has an instrument behind it, or, in one layout, a tempo and then an instrument.
    instrument = np.append(_is(ids, INSTRUMENT, "i"), [False, False])
    tempo = np.append(_is(ids, TEMPO, "t"), False)
    left = _is(ids, ONSET, "o") & ~(instrument[1:-1] | (tempo[1:] & instrument[2:]))
    return ids[~(left | (np.append(False, left[:-1])[: len(ids)] & tempo[:-1]))]


def read_pair(condition: Ids, music: Ids, words: PairWords) -> Pair | None:
    """A pair in its parts; None if the condition has another form."""
    marks = [words.pitch, words.instruments, words.history]
    places = [np.flatnonzero(condition == mark) if mark is not None else np.zeros(0, np.int64) for mark in marks]
    if any(len(place) > 1 for place in places):
        return None
    begins = [int(place[0]) if len(place) else -1 for place in places]
    there = [begin for begin in begins if begin >= 0]
    if not there or there != sorted(there):
        return None
    ends = dict(zip(there, [*there[1:], len(condition)], strict=True))
    parts = [condition[begin + 1 : ends[begin]] if begin >= 0 else None for begin in begins]
    content, instruments, history = parts
    pairs = None
    if content is not None:
        onset, pitch = _is(content, ONSET, "o"), _is(content, PITCH, "p")
        if not (onset | pitch).all() or (len(content) and not onset[0]):
            return None
        pairs = np.stack([content[_latest(onset)], content], 1)[pitch]
    split = None
    if instruments is not None:
        starts = _is(instruments, INSTRUMENT, "i")
        if len(instruments) and not starts[0]:
            return None
        split = tuple(np.split(instruments, np.flatnonzero(starts)[1:])) if len(instruments) else ()
    notes = _notes(music)
    pair = Pair(condition[: there[0]], pairs, split, history, music, notes, notes)
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


# ------------------------------------------------------------------------------------------------------------- changes


def _keys(onset: Ids, pitch: Ids) -> Ids:
    return onset * 4096 + pitch


def hide(pair: Pair, programs: Collection[int]) -> Pair:
    """Programs leave the content: those pitches go that no instrument plays which has not left it."""
    if pair.content is None:
        return pair
    hidden = pair.hidden | set(programs)
    notes, keys = pair.told, _keys(*pair.content.T)
    gone = np.isin(notes[:, 1], list(hidden))
    played = _keys(notes[:, 0], notes[:, 2])
    lost = np.isin(keys, played[gone]) & ~np.isin(keys, played[~gone])
    return replace(pair, content=pair.content[~lost], hidden=frozenset(hidden))


def delete(pair: Pair, programs: Collection[int]) -> Pair:
    """Programs go from INS and from the music."""
    instruments = pair.instruments
    if instruments is not None:
        instruments = tuple(one for one in instruments if int(one[0]) - INSTRUMENT not in programs)
    music = _without(pair.music, programs)
    return replace(pair, instruments=instruments, music=music, notes=_notes(music))


def _third(random: np.random.Generator) -> int:
    return int(random.integers(3))


def _delete_or_hide(pair: Pair, programs: list[int], random: np.random.Generator) -> Pair:
    third = _third(random)
    if third == 2 or not programs:
        return pair
    return delete(pair, programs) if third == 0 else hide(pair, programs)


def _inst_slight(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    third, others = _third(random), pair.others()
    if pair.content is None or pair.instruments is None or not others or third == 2:
        return pair
    one = [others[random.integers(len(others))]]
    pair = hide(pair, one)
    return pair if third == 0 else delete(pair, one)


def _present(pair: Pair, programs: Collection[int]) -> list[int]:
    """Those of the programs that play, if something else plays too."""
    playing = [program for program in pair.programs if program in programs]
    return playing if len(playing) < len(pair.programs) else []


def _drum(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    if pair.content is not None and pair.instruments is not None:
        pair = _delete_or_hide(pair, _present(pair, (DRUMS,)), random)
    if random.random() < 0.5 and pair.history is not None:
        pair = replace(pair, history=_without(pair.history, (DRUMS,)))
    return pair


def _bass(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    if pair.content is None or pair.instruments is None:
        return pair
    others = pair.others()
    return _delete_or_hide(pair, [one for one in _present(pair, BASSES) if one in others], random)


def _hist(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    if random.random() < 0.1 and pair.history is not None:
        return replace(pair, history=pair.history[:0])
    return pair


def _inst(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    third, others = _third(random), pair.others()
    if pair.content is None or pair.instruments is None or not others or third == 2:
        return pair
    count = int(np.clip(random.poisson(len(others) // 2), 1, len(others)))
    some = random.permutation(others)[:count].tolist()
    return hide(pair, some) if third == 0 else delete(pair, some)


def _denoise(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    if random.random() >= 0.5 or pair.content is None:
        return pair
    notes = pair.told
    others = np.isin(notes[:, 1], pair.others())
    _, group, count = np.unique(notes[:, 0] * 256 + notes[:, 1], return_inverse=True, return_counts=True)
    leaving = np.minimum(random.poisson(count // 2), count - 1)
    # In random order within each group, the first ones leave.
    order = np.lexsort((random.random(len(notes)), group))
    rank = np.empty(len(notes), np.int64)
    rank[order] = np.arange(len(notes)) - (np.cumsum(count) - count)[group[order]]
    gone = others & (rank < leaving[group])
    keys, played = _keys(*pair.content.T), _keys(notes[:, 0], notes[:, 2])
    visible = ~gone & ~np.isin(notes[:, 1], list(pair.hidden))
    lost = np.isin(keys, played[gone]) & ~np.isin(keys, played[visible])
    return replace(pair, content=pair.content[~lost])


def _content(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    third = _third(random)
    if pair.content is None or not len(pair.content) or third == 2:
        return pair
    content = pair.content
    count = max(1, int(random.poisson(len(content) // 4)))
    melodic = np.flatnonzero(content[:, 1] < PITCH + 128)
    top: dict[int, int] = {}
    for onset, pitch in content[melodic].tolist():
        top[onset] = max(pitch, top.get(onset, 0))
    if third == 0:
        highest = np.array([top.get(onset, 0) for onset in content[:, 0].tolist()])
        below = np.flatnonzero(content[:, 1] != highest)
        if not len(below):
            return pair
        changed, mark = np.delete(content, random.permutation(below)[:count], axis=0), words.deleted
    else:
        places = [onset for onset, pitch in top.items() if pitch > PITCH]
        if not places:
            return pair
        onsets = random.choice(places, count)
        pitches = np.array([random.integers(PITCH, top[int(onset)]) for onset in onsets])
        changed = np.unique(np.concatenate([content, np.stack([onsets, pitches], 1)]), axis=0)
        changed, mark = changed[np.lexsort((-changed[:, 1], changed[:, 0]))], words.added
    head = pair.head if mark is None else np.concatenate([[mark], pair.head])
    return replace(pair, content=changed, head=head)


_CHANGES: dict[str, Callable[[Pair, np.random.Generator, PairWords], Pair]] = {
    "inst_slight": _inst_slight,
    "drum": _drum,
    "bass": _bass,
    "hist": _hist,
    "inst": _inst,
    "denoise": _denoise,
    "content": _content,
}


def augment(
    condition: Ids, music: Ids, words: PairWords, names: Collection[str], seed: int, epoch: int, index: int
) -> tuple[Ids, Ids]:
    """Condition and music of a training pair, with the augmentations of these names."""
    pair = read_pair(condition, music, words)
    if pair is None:
        return condition, music
    for number, name in enumerate(AUGMENTATIONS):
        if name in names:
            random = epoch_rng(seed, epoch, index, _STREAM + number)
            pair = _CHANGES[name](pair, random, words)
    return write_condition(pair, words), pair.music
