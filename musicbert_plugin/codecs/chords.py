"""Chords of a piece, two per bar of 4/4, from the most likely path of a hidden Markov model, and their brightness.

The model is the one of Magenta's chord inference with MuseCoco's constants.  A hidden state is a major scale (12) and a
chord (97: none, and a major, minor, augmented, diminished, dominant seventh, major seventh, minor seventh or
half-diminished chord on each of 12 roots).

* Initial probabilities: the weight of a chord with k tones on the scale of a key and m off it is
  ``0.99**k * 0.01**m``, normalised over the 97 chords of the key; all keys are equally likely.
* Transitions: the key changes with probability 0.001, to each of 11 alike, with a chord of the new key's distribution.
  Within a key the chord changes with probability 0.5, to a chord with probability its weight plus 1/96 of the old
  chord's weight.
* Emissions: the vector of a frame holds the sounding times of its pitch classes, that of a chord its tones; both have
  length 1 (0 in silence, and for no chord), and the log-likelihood is 100 times their dot product.

A frame is half a bar (24 positions), and melodic notes sound until their end.  Source: MuseCoco (arXiv 2306.00110),
attribute C1.  Limits: pieces in 4/4 throughout, of at most 500 bars.
"""

from __future__ import annotations

import numpy as np

from musicbert_plugin.codecs.octuple import DEFAULT_METER_CODE
from musicbert_plugin.codecs.remi import DURATION_VALUES, Grid
from musicbert_plugin.codecs.score import DRUMS

FRAME = 24  # positions
MOST_FRAMES = 1000
CONCENTRATION = 100.0
OFF_SCALE, KEY_CHANGE, CHORD_CHANGE = 0.01, 0.001, 0.5
_KINDS = ((0, 4, 7), (0, 3, 7), (0, 4, 8), (0, 3, 6), (0, 4, 7, 10), (0, 4, 7, 11), (0, 3, 7, 10), (0, 3, 6, 10))
_BRIGHT_KINDS = (0, 4, 5)  # major, dominant seventh, major seventh
_SCALE = (0, 2, 4, 5, 7, 9, 11)
NO_CHORD = 0
CHORDS = 1 + 12 * len(_KINDS)  # chord 1 + 8 root + kind
SHARE = 0.875  # smallest share of bright (dark) chords in a bright (dark) passage


def _tones() -> np.ndarray:
    """The pitch classes of each chord, bool [97, 12]."""
    tones = np.zeros((CHORDS, 12), bool)
    for root in range(12):
        for kind, steps in enumerate(_KINDS):
            tones[1 + len(_KINDS) * root + kind, [(root + step) % 12 for step in steps]] = True
    return tones


def _chords_of_keys() -> np.ndarray:
    """Probability of each chord in each key, float64 [12, 97]."""
    tones = _tones()
    scales = np.stack([np.isin(np.arange(12), [(key + step) % 12 for step in _SCALE]) for key in range(12)])
    on = scales.astype(int) @ tones.T.astype(int)
    weights = (1 - OFF_SCALE) ** on * OFF_SCALE ** (tones.sum(axis=1) - on)
    return weights / weights.sum(axis=1, keepdims=True)


def frame_likelihoods(grid: Grid) -> np.ndarray:
    """Log-likelihood of every chord in every frame of 24 positions, float64 [F, 97]."""
    melodic = grid.program != DRUMS
    onset, pitch_class = grid.onset[melodic], grid.pitch[melodic] % 12
    end = np.minimum(onset + np.maximum(DURATION_VALUES[grid.duration[melodic]], 1), int(grid.bar_start[-1]))
    frames = -(-int(grid.bar_start[-1]) // FRAME)
    first, last = onset // FRAME, (end - 1) // FRAME
    spans = last - first + 1
    note = np.repeat(np.arange(len(onset)), spans)
    frame = first[note] + np.arange(len(note)) - np.repeat(np.cumsum(spans) - spans, spans)
    sounding = np.minimum(end[note], (frame + 1) * FRAME) - np.maximum(onset[note], frame * FRAME)
    vectors = np.bincount(frame * 12 + pitch_class[note], sounding, frames * 12).reshape(frames, 12)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    tones = _tones().astype(float)
    tones[1:] /= np.linalg.norm(tones[1:], axis=1, keepdims=True)
    return CONCENTRATION * vectors @ tones.T


def most_likely_chords(likelihood: np.ndarray) -> np.ndarray:
    """The chords, int64 [F], of the most likely path of keys and chords (Viterbi), given log-likelihoods [F, 97].

    A transition to another key depends only on the best state of the old key, so that a step costs 12 x 97 x 97
    operations instead of 1,164 squared.  Of equally likely states the first is taken, key by key.
    """
    chords = _chords_of_keys()
    start = np.log(chords)
    stay = np.log((1 - KEY_CHANGE) * CHORD_CHANGE * (chords[:, None, :] + chords[:, :, None] / (CHORDS - 1)))
    diagonal = np.arange(CHORDS)
    stay[:, diagonal, diagonal] = np.log((1 - KEY_CHANGE) * (1 - CHORD_CHANGE))
    move = np.log(KEY_CHANGE / 11 * chords)

    best = start - np.log(12) + likelihood[0]
    parents = np.zeros((len(likelihood), 12, CHORDS), np.int64)
    keys = np.arange(12)
    for frame in range(1, len(likelihood)):
        inside = best[:, :, None] + stay
        from_chord = inside.argmax(axis=1)
        staying = np.take_along_axis(inside, from_chord[:, None, :], axis=1)[:, 0]
        out_chord = best.argmax(axis=1)
        out = best[keys, out_chord]
        others = np.where(keys[:, None] == keys, -np.inf, out)  # row: new key; column: old key
        out_key = others.argmax(axis=1)
        moving = others[keys, out_key][:, None] + move
        moved = moving > staying
        parents[frame] = np.where(
            moved, (out_key * CHORDS + out_chord[out_key])[:, None], keys[:, None] * CHORDS + from_chord
        )
        best = np.where(moved, moving, staying) + likelihood[frame]
    path = np.empty(len(likelihood), np.int64)
    state = int(best.argmax())
    for frame in range(len(likelihood) - 1, -1, -1):
        path[frame] = state
        state = int(parents[frame].ravel()[state])
    return path % CHORDS


def brightness(grid: Grid) -> list[int | None] | None:
    """For every half bar of a piece, 0 if its chord is bright, 1 if it is dark, None if there is no chord.

    The result is None if the piece is not in 4/4 throughout, has more than 500 bars, or no melodic note.
    """
    if (grid.meter != DEFAULT_METER_CODE).any() or (grid.program == DRUMS).all():
        return None
    slots = 2 * grid.bars
    likelihood = frame_likelihoods(grid)
    if len(likelihood) > MOST_FRAMES:
        return None
    chords = most_likely_chords(likelihood).tolist()
    kinds = [None if chord == NO_CHORD else (chord - 1) % len(_KINDS) for chord in chords]
    shades: list[int | None] = [None if kind is None else 0 if kind in _BRIGHT_KINDS else 1 for kind in kinds]
    return (shades + [None] * slots)[:slots]


def chord_progression(shades: list[int | None]) -> int | None:
    """C1 of a window, given :func:`brightness` of its half bars: 0 bright, 1 dark, 2 bright then dark, 3 the reverse.

    A passage is bright (dark) if at least 87.5 % of its half bars are.  A window that is neither is split, if possible,
    into a bright and a dark part at a bar between its first and last quarter; otherwise the result is None.
    """
    bars = len(shades) // 2

    def shade(part: list[int | None]) -> int | None:
        return next((kind for kind in (0, 1) if part and part.count(kind) >= SHARE * len(part)), None)

    whole = shade(shades)
    if whole is not None:
        return whole
    for split in range(max(1, bars // 4), min(bars - 1, -(-3 * bars // 4))):
        halves = shade(shades[: 2 * split]), shade(shades[2 * split :])
        if halves in ((0, 1), (1, 0)):
            return 2 if halves[0] == 0 else 3
    return None
