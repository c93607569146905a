"""Generated notes that strike a key while it sounds: doubles are merged, and earlier notes end where the next begins.

A note that must stay as it was, such as one of a prompt, ends by itself, and new notes of its key begin after it.

A key is a pitch of one program in one track.  Models write such notes (a token more or less at the end of a chord), but
a keyboard cannot play them: the note-off of one ends the other in most synthesizers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.score import Score


def without_overlaps(score: Score, new: NDArray[np.bool_] | None = None) -> Score:
    """The score with at most one note of each key sounding at a time.

    * Notes of a key that begin together become one, with the largest end and velocity of them.
    * A note that still sounds at the next onset of its key ends there.
    * A note that may change and begins while one sounds that may not, begins at its end, or is removed if it would end
      before.

    Parameters
    ----------
    score : Score
    new : bool [N], optional
        The notes that may change; by default all.  One that begins together with another that may not is removed.

    Returns
    -------
    Score
        The remaining notes in their order.
    """
    if not len(score):
        return score
    new = np.ones(len(score), bool) if new is None else new
    onset = _free_onsets(score, new)
    if not (onset == score.onset).all():
        left = ~new | (onset < score.end) | (onset == score.onset)
        score, new = replace(score, onset=onset).select(left), new[left]
    key = _keys_of(score)
    order = np.lexsort((new, score.onset, key))  # of notes that begin together, those that must stay first
    onset, key, new = score.onset[order], key[order], new[order]
    new_key = np.append(True, key[1:] != key[:-1])
    starts = np.flatnonzero(np.append(True, (onset[1:] != onset[:-1]) | new_key[1:]))
    run = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(onset)))
    first = np.zeros(len(onset), bool)
    first[starts] = True
    # The next onset of the key, after each run of notes that begin together.
    following = np.where(np.append(new_key[starts[1:]], True), np.iinfo(np.int64).max, np.append(onset[starts[1:]], 0))
    end = np.minimum(np.maximum.reduceat(score.end[order], starts), following)[run]
    velocity = np.maximum.reduceat(score.velocity[order], starts)[run]
    out_end, out_velocity = score.end.copy(), score.velocity.copy()
    out_end[order[new]], out_velocity[order[new]] = end[new], velocity[new]
    keep = np.ones(len(score), bool)
    keep[order] = first | ~new
    return replace(score, end=out_end, velocity=out_velocity).select(keep)


def _keys_of(score: Score) -> NDArray[np.int64]:
    """A number for the key of each note, int64 [N]."""
    return (score.track.astype(np.int64) << 16) | (score.program.astype(np.int64) << 8) | score.pitch


def _free_onsets(score: Score, new: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The ticks, int64 [N], at which notes begin: new ones inside others of their key at the end of these."""
    if new.all() or not new.any():
        return score.onset
    rank = np.unique(_keys_of(score), return_inverse=True)[1].astype(np.int64) << 40
    others = np.flatnonzero(~new)
    others = others[np.argsort(rank[others] + score.onset[others], kind="stable")]
    begin = rank[others] + score.onset[others]
    # The latest end so far in each key, and of all notes that follow without a gap.
    sounding = np.maximum.accumulate(rank[others] + np.maximum(score.end, score.onset + 1)[others])
    last = np.append(begin[1:] > sounding[:-1], True)
    free = sounding[last][np.append(0, np.cumsum(last)[:-1])]
    moment = rank + score.onset
    before = np.searchsorted(begin, moment, side="right") - 1
    inside = new & (before >= 0) & (moment < sounding[before]) & (moment > begin[before])
    return np.where(inside, free[before] - rank, score.onset)
