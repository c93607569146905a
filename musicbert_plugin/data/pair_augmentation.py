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
    """Programs leave the content: those pitches go that no instrument plays which has not left it."""
    if pair.content is None:
        return pair
    hidden = pair.hidden | set(programs)
    notes, keys = pair.described_notes, _keys(*pair.content.T)
    gone = np.isin(notes[:, 1], list(hidden))
    played = _keys(notes[:, 0], notes[:, 2])
    lost = np.isin(keys, played[gone]) & ~np.isin(keys, played[~gone])
    return replace(pair, content=pair.content[~lost], hidden=frozenset(hidden))


def delete(pair: Pair, programs: Collection[int]) -> Pair:
    """Programs go from INS and from the music."""
    instruments = pair.instruments
    if instruments is not None:
        instruments = tuple(one for one in instruments if int(one[0]) - INSTRUMENT not in programs)
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
        pair = replace(pair, history=without_programs(pair.history, (DRUMS,)))
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
    notes = pair.described_notes
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
