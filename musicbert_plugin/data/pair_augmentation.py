"""Augmentation of pairs: conditions that specify less than the music, so that a model learns to arrange, not to copy.

A pair is a condition, ``[X-n] PITCH (o p...)* INS (i [voice...])* [HIST ...]``, and the bar of music that it describes.
Seven augmentations, each enabled separately, change training pairs in this order.  "1/3 each" means that one of two
changes or none is applied, with equal probabilities:

``inst_slight``   1/3 each: one program is removed from the content (the part after PITCH), so that the model has to
                  predict its notes; or one program is removed from content, INS and music
``drum``          1/3 each: drums are removed from INS and music, so that the model learns to omit what is only in the
                  content; or from the content.  Then, with probability 1/2, drums are removed from the history
``bass``          1/3 each: the first two changes of ``drum``, for programs 32, 33, 43 and 70
``hist``          with probability 1/10, the history is emptied
``inst``          1/3 each: of n programs, Poisson(n // 2), at least one, are removed from the content; or from INS and
                  music
``denoise``       with probability 1/2, of k notes of a program at a position, Poisson(k // 2), not all, are removed
                  from the content
``content``       1/3 each, with n = max(1, Poisson(P // 4)) for P pitches: n pitches, but never the highest melodic one
                  of a position, are removed from the content, and the condition begins with X-1; or n pitches below the
                  highest are added (duplicates are merged), and it begins with X-2

The melody, the melodic program with the highest mean pitch, never changes, nor does music of one program or of drums
alone.  Removing a program from the content removes the pitches that no other program plays.  An augmentation does not
change a pair whose condition has another form, or lacks a part that the augmentation needs.

All random numbers depend on (seed, epoch, index) only, and each augmentation has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from musicbert_plugin.codecs.conditions import (
    Ids,
    Pair,
    PairWords,
    notes_of,
    read_pair,
    without_programs,
    write_condition,
)
from musicbert_plugin.codecs.remi import INSTRUMENT, PITCH
from musicbert_plugin.codecs.score import DRUMS
from musicbert_plugin.data.epoch_rng import epoch_rng

AUGMENTATIONS = ("inst_slight", "drum", "bass", "hist", "inst", "denoise", "content")
BASSES = (32, 33, 43, 70)
_STREAM = 16  # above those of ``prefix_lm_dataset``


# ------------------------------------------------------------------------------------------------------------- changes


def _keys(onset: Ids, pitch: Ids) -> Ids:
    return onset * 4096 + pitch


def hide(pair: Pair, programs: Collection[int]) -> Pair:
    """Remove programs from the content: all pitches that only these, and programs removed before, play."""
    if pair.content is None:
        return pair
    hidden = pair.hidden | set(programs)
    notes, keys = pair.described_notes, _keys(*pair.content.T)
    removed = np.isin(notes[:, 1], list(hidden))
    played = _keys(notes[:, 0], notes[:, 2])
    lost = np.isin(keys, played[removed]) & ~np.isin(keys, played[~removed])
    return replace(pair, content=pair.content[~lost], hidden=frozenset(hidden))


def delete(pair: Pair, programs: Collection[int]) -> Pair:
    """Remove programs from INS and from the music."""
    instruments = pair.instruments
    if instruments is not None:
        instruments = tuple(words for words in instruments if int(words[0]) - INSTRUMENT not in programs)
    music = without_programs(pair.music, programs)
    return replace(pair, instruments=instruments, music=music, notes=notes_of(music))


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
    chosen = [others[random.integers(len(others))]]
    pair = hide(pair, chosen)
    return pair if third == 0 else delete(pair, chosen)


def _present(pair: Pair, programs: Collection[int]) -> list[int]:
    """The given programs that have notes; none if no other program has notes."""
    playing = [program for program in pair.programs if program in programs]
    return playing if len(playing) < len(pair.programs) else []


def _drum(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    if pair.content is not None and pair.instruments is not None:
        pair = _delete_or_hide(pair, _present(pair, (DRUMS,)), random)
    if random.random() < 0.5 and pair.history is not None:
        pair = replace(pair, history=without_programs(pair.history, (DRUMS,)))
    return pair


def _bass(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    if pair.content is None or pair.instruments is None:
        return pair
    others = pair.others()
    return _delete_or_hide(pair, [program for program in _present(pair, BASSES) if program in others], random)


def _hist(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    if random.random() < 0.1 and pair.history is not None:
        return replace(pair, history=pair.history[:0])
    return pair


def _inst(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    third, others = _third(random), pair.others()
    if pair.content is None or pair.instruments is None or not others or third == 2:
        return pair
    count = int(np.clip(random.poisson(len(others) // 2), 1, len(others)))
    chosen = random.permutation(others)[:count].tolist()
    return hide(pair, chosen) if third == 0 else delete(pair, chosen)


def _denoise(pair: Pair, random: np.random.Generator, words: PairWords) -> Pair:
    if random.random() >= 0.5 or pair.content is None:
        return pair
    notes = pair.described_notes
    others = np.isin(notes[:, 1], pair.others())
    _, group, count = np.unique(notes[:, 0] * 256 + notes[:, 1], return_inverse=True, return_counts=True)
    number = np.minimum(random.poisson(count // 2), count - 1)
    # The notes of each group are shuffled, and the first ones removed.
    order = np.lexsort((random.random(len(notes)), group))
    rank = np.empty(len(notes), np.int64)
    rank[order] = np.arange(len(notes)) - (np.cumsum(count) - count)[group[order]]
    removed = others & (rank < number[group])
    keys, played = _keys(*pair.content.T), _keys(notes[:, 0], notes[:, 2])
    visible = ~removed & ~np.isin(notes[:, 1], list(pair.hidden))
    lost = np.isin(keys, played[removed]) & ~np.isin(keys, played[visible])
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
        candidates = [onset for onset, pitch in top.items() if pitch > PITCH]
        if not candidates:
            return pair
        onsets = random.choice(candidates, count)
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
    """Condition and music of a training pair after the augmentations ``names``."""
    pair = read_pair(condition, music, words)
    if pair is None:
        return condition, music
    for number, name in enumerate(AUGMENTATIONS):
        if name in names:
            random = epoch_rng(seed, epoch, index, _STREAM + number)
            pair = _CHANGES[name](pair, random, words)
    return write_condition(pair, words), pair.music
