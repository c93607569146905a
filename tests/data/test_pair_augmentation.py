"""Augmented pairs: what leaves the content is what only the chosen instruments play, and the melody always stays."""

import numpy as np
import pytest

from musicbert_plugin.codecs import remi
from musicbert_plugin.data.pair_augmentation import AUGMENTATIONS, PairWords, augment, read_pair, write_condition

WORDS = list(remi.WORDS)
for _at, _word in enumerate(("PITCH", "INS", "HIST", "X-0", "X-1", "X-2")):
    WORDS[WORDS.index(f"d-{96 + _at}")] = _word
NUMBER = {word: at for at, word in enumerate(WORDS)}
PAIR_WORDS = PairWords.of(WORDS)

# Flute (melody), piano, bass and drums; piano and bass share p-48 at o-0.
MUSIC = (
    "o-0 i-0 p-60 d-12 p-55 d-12 p-48 d-12 i-33 p-48 d-12 i-73 p-84 d-6 i-128 p-164 d-6 "
    "o-12 i-0 p-62 d-12 p-57 d-12 i-73 p-86 d-6 o-24 i-33 p-43 d-12 i-128 p-166 d-6 b-1"
)
CONTENT = "o-0 p-164 p-84 p-60 p-55 p-48 o-12 p-86 p-62 p-57 o-24 p-166 p-43"
HISTORY = "o-0 i-0 p-60 d-12 i-128 p-164 d-6 o-6 i-128 p-166 d-6 o-24 i-73 p-84 d-6 b-1"
CONDITION = f"PITCH {CONTENT} INS i-0 i-33 i-73 i-128 HIST {HISTORY}"


def ids(line):
    return np.array([NUMBER[word] for word in line.split()], np.int64)


def words(ids):
    return " ".join(WORDS[one] for one in ids)


def outcomes(names, condition=CONDITION, music=MUSIC, count=400):
    """Condition and music of many samples, as words, with how often each comes."""
    found = {}
    for index in range(count):
        one = augment(ids(condition), ids(music), PAIR_WORDS, names, seed=1, epoch=1, index=index)
        key = tuple(map(words, one))
        found[key] = found.get(key, 0) + 1
    return found


def part(condition, name):
    """The words behind PITCH, INS or HIST."""
    after = condition.split(f"{name} ", 1)[1] if f"{name} " in condition + " " else ""
    for other in ("PITCH", "INS", "HIST"):
        after = after.split(other)[0]
    return after.strip()


def test_a_condition_is_written_as_it_was_read():
    for line in (CONDITION, f"X-0 {CONDITION}", "PITCH INS HIST", f"INS i-0 HIST {HISTORY}", f"PITCH {CONTENT}"):
        assert words(write_condition(read_pair(ids(line), ids(MUSIC), PAIR_WORDS), PAIR_WORDS)) == line


@pytest.mark.parametrize("name", ["inst_slight", "inst", "drum", "bass"])
def test_what_leaves_the_content_is_what_only_those_instruments_play(name):
    full = {(0, p) for p in (164, 84, 60, 55, 48)} | {(12, p) for p in (86, 62, 57)} | {(24, 166), (24, 43)}
    players = {0: {(0, 60), (0, 55), (0, 48), (12, 62), (12, 57)}, 33: {(0, 48), (24, 43)}, 128: {(0, 164), (24, 166)}}
    candidates = {"drum": [{128}], "bass": [{33}], "inst_slight": [{0}, {33}, {128}]}.get(
        name, [{0}, {33}, {128}, {0, 33}, {0, 128}, {33, 128}, {0, 33, 128}]
    )
    allowed = set()
    for chosen in candidates:
        staying = set().union(*(players[one] for one in players if one not in chosen), {(0, 84), (12, 86)})
        allowed.add((frozenset(full & staying), frozenset(chosen)))
    hidden = deleted = 0
    found = outcomes([name])
    for (condition, music), count in found.items():
        notes = read_pair(ids(condition), ids(music), PAIR_WORDS)
        content = frozenset((o - remi.ONSET, p - remi.PITCH) for o, p in notes.content.tolist())
        instruments = {int(one[0]) - remi.INSTRUMENT for one in notes.instruments}
        playing = set(notes.programs)
        assert 73 in playing and instruments == playing, "the melody stays"
        gone = {0, 33, 73, 128} - playing
        if gone:
            assert (content, frozenset(gone)) in allowed
            deleted += count
        elif content != full:
            assert content in {one for one, _ in allowed}
            hidden += count
        score, repairs = remi.decode_with_repairs(ids(music), layout="notes")
        assert not +repairs and music.endswith("b-1")
    assert 90 < deleted < 180 and 90 < hidden < 180, "thirds of 400"


def test_drums_leave_the_history_half_of_the_time():
    without = "o-0 i-0 p-60 d-12 o-24 i-73 p-84 d-6 b-1"
    count = sum(n for (condition, _), n in outcomes(["drum"]).items() if part(condition, "HIST") == without)
    assert 160 < count < 240


def test_the_history_is_empty_one_time_in_ten():
    found = outcomes(["hist"])
    assert set(found) == {(CONDITION, MUSIC), (CONDITION.split(HISTORY)[0].strip(), MUSIC)}
    assert 20 < found[CONDITION.split(HISTORY)[0].strip(), MUSIC] < 65


def test_denoising_leaves_a_note_of_each_instrument_and_position():
    found = outcomes(["denoise"])
    assert {music for _, music in found} == {MUSIC}
    assert 170 < found[CONDITION, MUSIC] < 330
    for condition, _ in found:
        content = read_pair(ids(condition), ids(MUSIC), PAIR_WORDS).content.tolist()
        kept = {(o - remi.ONSET, p - remi.PITCH) for o, p in content}
        assert {(0, 84), (12, 86), (0, 164), (24, 166), (24, 43), (0, 48)} <= kept
        assert len(kept & {(0, 60), (0, 55), (0, 48)}) >= 1 and len(kept & {(12, 62), (12, 57)}) >= 1


def test_content_loses_or_gains_pitches_below_the_highest_and_says_so():
    found = outcomes(["content"])
    full = set(map(tuple, read_pair(ids(CONDITION), ids(MUSIC), PAIR_WORDS).content.tolist()))
    top = {0: 84, 12: 86, 24: 43}
    counts = {"": 0, "X-1": 0, "X-2": 0}
    for (condition, music), count in found.items():
        assert music == MUSIC
        head = condition.split("PITCH")[0].strip()
        counts[head] += count
        pairs = list(map(tuple, read_pair(ids(condition), ids(MUSIC), PAIR_WORDS).content.tolist()))
        assert pairs == sorted(pairs, key=lambda one: (one[0], -one[1])) and len(set(pairs)) == len(pairs)
        lost, gained = full - set(pairs), set(pairs) - full
        assert (not lost or head == "X-1") and (not gained or head == "X-2")
        for onset, pitch in lost | gained:
            assert pitch - remi.PITCH < top[onset - remi.ONSET]
    assert all(95 < count < 175 for count in counts.values())


def test_tokens_stack():
    stacked = {condition.split("PITCH")[0].strip() for condition, _ in outcomes(["content"], f"X-1 {CONDITION}")}
    assert stacked == {"X-1", "X-1 X-1", "X-2 X-1"}


@pytest.mark.parametrize(
    "condition",
    ["", "i-0 o-3", "HIST", "INS i-0 PITCH o-0", "PITCH p-60 INS i-0", "PITCH o-0 p-60 INS p-3", "PITCH PITCH"],
)
def test_a_condition_of_another_form_passes_unchanged(condition):
    assert set(outcomes(AUGMENTATIONS, condition, count=30)) == {(condition, MUSIC)}


@pytest.mark.parametrize("music", ["o-0 i-0 p-60 d-12 b-1", "o-0 i-128 p-164 d-6 b-1", "b-1"])
def test_music_of_one_instrument_or_none_is_left_alone(music):
    condition = "PITCH o-0 p-60 INS i-0 HIST"
    names = ["inst_slight", "drum", "bass", "inst", "denoise"]
    assert set(outcomes(names, condition, music, count=50)) == {(condition, music)}


def test_pairs_depend_on_seed_epoch_and_index_alone():
    def draw(**key):
        return tuple(map(words, augment(ids(CONDITION), ids(MUSIC), PAIR_WORDS, AUGMENTATIONS, **key)))

    assert draw(seed=1, epoch=2, index=3) == draw(seed=1, epoch=2, index=3)
    drawn = {draw(seed=s, epoch=e, index=i) for s in (1, 2) for e in (1, 2, 3) for i in range(5)}
    assert len(drawn) > 15


def test_other_layouts_lose_the_onsets_that_nothing_is_left_of():
    from musicbert_plugin.data.pair_augmentation import _without

    line = "s-9 o-0 t-35 i-128 p-164 d-6 v-20 o-12 t-35 i-0 p-60 d-6 v-20 i-128 p-164 d-6 v-20 b-1"
    assert words(_without(ids(line), (128,))) == "s-9 o-12 t-35 i-0 p-60 d-6 v-20 b-1"
    line = "s-9 t-35 o-0 i-128 p-164 d-6 v-20 b-1"
    assert words(_without(ids(line), (128,))) == "s-9 t-35 b-1"
