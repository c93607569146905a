"""Generated notes that strike a key while it sounds: doubles are merged, and earlier notes end where the next begins.

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

    Parameters
    ----------
    score : Score
    new : bool [N], optional
        The notes that may change; by default all.  A new note that begins together with another is removed, and one
        that sounds at another's onset is shortened; a new note that begins while another sounds stays.

    Returns
    -------
    Score
        The remaining notes in their order.
    """
    if not len(score):
        return score
    new = np.ones(len(score), bool) if new is None else new
    key = (score.track.astype(np.int64) << 16) | (score.program.astype(np.int64) << 8) | score.pitch
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
