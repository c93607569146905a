"""A key is struck only when it is free: doubles are one note, and earlier notes end where the next begins.

New notes wait for the end of the notes that stay as they were.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.generation.overlaps import without_overlaps

Note = tuple[int, int, int, int, int, int]


def notes_of(score: Score) -> list[Note]:
    columns = (score.track, score.program, score.pitch, score.onset, score.end, score.velocity)
    return [tuple(row) for row in np.stack(columns, 1).tolist()]  # type: ignore[misc]


def random_score(seed: int) -> Score:
    random = np.random.default_rng(seed)
    onset = random.integers(0, 40, 60)
    return Score.of(
        12, onset, onset + random.integers(1, 20, 60), random.integers(60, 63, 60), random.integers(1, 128, 60),
        random.choice([0, 40, DRUMS], 60), random.integers(0, 2, 60),
    )  # fmt: skip


def free(note: Note, notes: list[Note], new: list[bool]) -> Note:
    """The note from the first tick on at which no note of its key sounds that stays, unless it begins with one."""
    *key, onset, end, velocity = note
    stay = [other for other, changes in zip(notes, new, strict=True) if not changes and list(other[:3]) == key]
    if all(other[3] != onset for other in stay):
        while any(other[3] <= onset < other[4] for other in stay):
            onset += 1
    return (*key, onset, end, velocity)  # type: ignore[return-value]


def expected(notes: list[Note], new: list[bool]) -> list[Note]:
    """The rules of the function, one note after the other."""
    notes = [free(note, notes, new) if changes else note for note, changes in zip(notes, new, strict=True)]
    new = [changes for note, changes in zip(notes, new, strict=True) if note[3] < note[4]]
    notes = [note for note in notes if note[3] < note[4]]
    out = []
    for number, (note, changes) in enumerate(zip(notes, new, strict=True)):
        *key, onset, end, velocity = note
        others = [(other, new[n]) for n, other in enumerate(notes) if list(other[:3]) == key and n != number]
        together = [other for other, _ in others if other[3] == onset]
        earlier = [n for n, other in enumerate(notes) if other[:4] == note[:4] and n < number]
        if changes:
            if earlier or any(not mine for other, mine in others if other[3] == onset):
                continue
            end = max(other[4] for other in [note, *together])
            end = min([end, *(other[3] for other, _ in others if other[3] > onset)])
            velocity = max(other[5] for other in [note, *together])
        out.append((*key, onset, end, velocity))
    return out  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(8))
def test_doubles_are_merged_and_the_earlier_note_is_shortened(seed: int) -> None:
    score = random_score(seed)
    everything = np.ones(len(score), bool)
    clean = without_overlaps(score)
    assert notes_of(clean) == expected(notes_of(score), everything.tolist())
    assert notes_of(without_overlaps(clean)) == notes_of(clean)
    in_order = sorted(notes_of(clean))
    for before, after in zip(in_order[:-1], in_order[1:], strict=True):
        assert before[:3] != after[:3] or (before[3] < after[3] and before[4] <= after[3])
    new = np.random.default_rng(seed).random(len(score)) < 0.5
    mixed = without_overlaps(score, new)
    assert notes_of(mixed) == expected(notes_of(score), new.tolist())
    kept = [note for note, changes in zip(notes_of(score), new.tolist(), strict=True) if not changes]
    assert not Counter(kept) - Counter(notes_of(mixed)), "what is not new stays as it was"
    for note in Counter(notes_of(mixed)) - Counter(kept):
        assert not [other for other in kept if other[:3] == note[:3] and other[3] <= note[3] < other[4]]


def test_music_without_overlaps_and_music_without_notes_stay_as_they_are() -> None:
    score = Score.of(480, [0, 480, 0], [480, 960, 960], [60, 60, 64])
    assert notes_of(without_overlaps(score)) == notes_of(score)
    assert len(without_overlaps(Score.of(480, [], [], []))) == 0
