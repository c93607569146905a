"""Chords of cadences that everybody hears, and the path of a plain Viterbi over all states."""

from __future__ import annotations

import itertools
import math

import numpy as np

from musicbert_plugin.codecs import chords, remi
from musicbert_plugin.codecs.score import Score
from tests.reference.scores import notes


def test_a_cadence_is_recognised() -> None:
    triads = {"C": (60, 64, 67), "F": (60, 65, 69), "G": (59, 62, 67), "Am": (60, 64, 69)}
    score_notes = [
        (24 * at, pitch) for at, name in enumerate(["C", "F", "G", "C", "Am", "F", "G", "C"]) for pitch in triads[name]
    ]
    onset, pitch = map(np.array, zip(*score_notes, strict=True))
    grid = remi.grid_of(Score.of(12, onset, onset + 24, pitch))
    found = chords.most_likely_chords(chords.frame_likelihoods(grid))
    names = {1: "C", 1 + 8 * 5: "F", 1 + 8 * 7: "G", 1 + 8 * 9 + 1: "Am"}
    # the last chord is only as long as its onset: the grid ends there
    assert [names.get(int(one)) for one in found[:7]] == ["C", "F", "G", "C", "Am", "F", "G"]
    shades = chords.brightness(grid)
    assert shades is not None and shades[:7] == [0, 0, 0, 0, 1, 0, 0] and len(shades) == 8


def test_the_path_is_that_of_a_viterbi_over_all_states() -> None:
    random = np.random.default_rng(3)
    likelihood = random.normal(0, 3, (6, chords.CHORDS))
    weight = chords._chords_of_keys()
    states = list(itertools.product(range(12), range(chords.CHORDS)))
    key, chord = np.array(states).T
    same_key, same_chord = key[:, None] == key, chord[:, None] == chord
    stay = (1 - 0.001) * np.where(
        same_chord, 0.5, 0.5 * (weight[key, chord][None, :] + weight[key[None, :], chord[:, None]] / 96)
    )
    transition = np.log(np.where(same_key, stay, 0.001 / 11 * weight[key, chord][None, :]))
    best = np.log(weight[key, chord] / 12) + likelihood[0, chord]
    parents = []
    for frame in likelihood[1:]:
        step = best[:, None] + transition
        parents.append(step.argmax(axis=0))
        best = step.max(axis=0) + frame[chord]
    path = [int(best.argmax())]
    for parent in reversed(parents):
        path.append(int(parent[path[-1]]))
    assert chords.most_likely_chords(likelihood).tolist() == [int(chord[state]) for state in reversed(path)]


def test_chord_progressions() -> None:
    bright, dark = [0] * 8, [1] * 8
    assert chords.chord_progression(bright) == 0 and chords.chord_progression(dark) == 1
    assert chords.chord_progression([0] * 7 + [None]) == 0 and chords.chord_progression([0] * 6 + [None] * 2) is None
    assert chords.chord_progression(bright + dark) == 2 and chords.chord_progression(dark + bright) == 3
    assert chords.chord_progression([0, 1] * 8) is None and chords.chord_progression([]) is None
    assert chords.brightness(remi.grid_of(notes([0], meters=[(0, 3, 4)]))) is None
    assert chords.brightness(remi.grid_of(notes([0, 48 * 600]))) is None
    assert math.isclose(chords._chords_of_keys().sum(), 12)
