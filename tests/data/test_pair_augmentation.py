"""Augmented pairs: what leaves the content is what only the chosen instruments play, and the melody always stays."""

import itertools
import math

import numpy as np
import pytest

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.conditions import PairWords, read_pair, without_programs, write_condition
from musicbert_plugin.data.pair_augmentation import AUGMENTATIONS, augment, delete, hide

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


# ------------------------------------------------------------------------- what may come, with its probability, by hand

NOTES = [  # onset, instrument, pitch of MUSIC
    (0, 0, 60), (0, 0, 55), (0, 0, 48), (0, 33, 48), (0, 73, 84), (0, 128, 164),
    (12, 0, 62), (12, 0, 57), (12, 73, 86), (24, 33, 43), (24, 128, 166),
]  # fmt: skip
LENGTH = {0: 12, 33: 12, 73: 6, 128: 6}
MELODY, OTHERS = 73, (0, 33, 128)


def written(told, instruments, history, played, head=""):
    """A sample as a person writes it: content (a set of onset and pitch), instruments, words of history, notes."""
    out = [head] if head else []
    out.append("PITCH")
    for onset in sorted({onset for onset, _ in told}):
        out += [f"o-{onset}", *(f"p-{pitch}" for pitch in sorted((p for o, p in told if o == onset), reverse=True))]
    condition = " ".join([*out, "INS", *(f"i-{one}" for one in instruments), "HIST", *history.split()])
    music = []
    for onset in sorted({note[0] for note in played}):
        music.append(f"o-{onset}")
        for one in sorted({note[1] for note in played if note[0] == onset}):
            music.append(f"i-{one}")
            pitches = sorted((p for o, i, p in played if (o, i) == (onset, one)), reverse=True)
            music += [word for pitch in pitches for word in (f"p-{pitch}", f"d-{LENGTH[one]}")]
    return condition, " ".join([*music, "b-1"])


def sample(unheard=(), silent=(), history=HISTORY):
    """The sample whose content lacks notes (a set of places in NOTES) and whose music lacks instruments."""
    told = {(o, p) for at, (o, _, p) in enumerate(NOTES) if at not in unheard}
    return written(
        told, [one for one in LENGTH if one not in silent], history, [note for note in NOTES if note[1] not in silent]
    )


def notes_of(instruments):
    return {at for at, note in enumerate(NOTES) if note[1] in instruments}


def poisson(mean, least, most):
    """Probabilities of each number when numbers outside the bounds count as the bounds."""
    weights = [math.exp(-mean) * mean**n / math.factorial(n) for n in range(60)]
    out = dict.fromkeys(range(least, most + 1), 0.0)
    for n, weight in enumerate(weights):
        out[min(max(n, least), most)] += weight
    return out


def expected(name):
    """Every sample that an augmentation may give, with its probability."""
    out = {}

    def add(probability, *parts, **more):
        key = sample(*parts, **more)
        out[key] = out.get(key, 0) + probability

    if name == "inst_slight":
        add(1 / 3)
        for one in OTHERS:
            add(1 / 9, notes_of([one]))
            add(1 / 9, notes_of([one]), [one])
    if name == "drum":
        for history in (HISTORY, "o-0 i-0 p-60 d-12 o-24 i-73 p-84 d-6 b-1"):
            add(1 / 6, history=history)
            add(1 / 6, notes_of([128]), history=history)
            add(1 / 6, (), [128], history=history)
    if name == "bass":
        add(1 / 3)
        add(1 / 3, notes_of([33]))
        add(1 / 3, (), [33])
    if name == "hist":
        add(0.9)
        add(0.1, history="")
    if name == "inst":
        add(1 / 3)
        for count, probability in poisson(len(OTHERS) // 2, 1, len(OTHERS)).items():
            chosen = list(itertools.combinations(OTHERS, count))
            for some in chosen:
                add(probability / 3 / len(chosen), notes_of(some))
                add(probability / 3 / len(chosen), (), some)
    if name == "denoise":
        add(0.5)
        groups = [
            [at for at, note in enumerate(NOTES) if note[:2] == (onset, one)] for onset in (0, 12, 24) for one in OTHERS
        ]
        choices = []
        for group in filter(None, groups):
            choices.append([])
            for count, probability in poisson(len(group) // 2, 0, len(group) - 1).items():
                some = list(itertools.combinations(group, count))
                choices[-1] += [(set(one), probability / len(some)) for one in some]
        for picks in itertools.product(*choices):
            gone, probabilities = zip(*picks, strict=True)
            add(0.5 * math.prod(probabilities), set().union(*gone))
    return out


@pytest.mark.parametrize("name", ["inst_slight", "drum", "bass", "hist", "inst", "denoise"])
def test_every_sample_comes_as_often_as_it_should(name):
    assert sample() == (CONDITION, MUSIC)
    count = 3000
    by_hand, found = expected(name), outcomes([name], count=count)
    assert sum(by_hand.values()) == pytest.approx(1) and set(found) <= set(by_hand)
    for key, probability in by_hand.items():
        deviation = math.sqrt(count * probability * (1 - probability))
        assert abs(found.get(key, 0) - count * probability) < 5 * deviation + 1, key


def test_an_instrument_that_went_is_still_told_when_another_leaves_the_content():
    """Bass and piano share a note: where the bass has gone from the music alone, its part of the content stays."""
    pair = read_pair(ids(CONDITION), ids(MUSIC), PAIR_WORDS)
    condition = words(write_condition(hide(delete(pair, [33]), [0]), PAIR_WORDS))
    assert part(condition, "PITCH") == "o-0 p-164 p-84 p-48 o-12 p-86 o-24 p-166 p-43"
    condition = words(write_condition(hide(delete(hide(pair, [33]), [33]), [0]), PAIR_WORDS))
    assert part(condition, "PITCH") == "o-0 p-164 p-84 o-12 p-86 o-24 p-166"


def test_content_loses_pitches_that_are_not_the_highest_or_gains_some_below_and_says_so():
    count = 3000
    found = outcomes(["content"], count=count)
    full = set(map(tuple, read_pair(ids(CONDITION), ids(MUSIC), PAIR_WORDS).content.tolist()))
    highest = {0: 84, 12: 86, 24: 43}
    heads, lost_pitches, numbers = {"": 0, "X-1": 0, "X-2": 0}, {}, {}
    for (condition, music), times in found.items():
        assert music == MUSIC and condition.split(" INS ")[1] == CONDITION.split(" INS ")[1]
        head = condition.split("PITCH")[0].strip()
        heads[head] += times
        pairs = list(map(tuple, read_pair(ids(condition), ids(MUSIC), PAIR_WORDS).content.tolist()))
        assert pairs == sorted(pairs, key=lambda one: (one[0], -one[1])) and len(set(pairs)) == len(pairs)
        lost, gained = full - set(pairs), set(pairs) - full
        assert (not lost or head == "X-1") and (not gained or head == "X-2") and (head != "X-1" or lost)
        for _, pitch in lost:
            lost_pitches[pitch - remi.PITCH] = lost_pitches.get(pitch - remi.PITCH, 0) + times
        for onset, pitch in gained:
            assert pitch - remi.PITCH < highest[onset - remi.ONSET]
        if head == "X-1":
            numbers[len(lost)] = numbers.get(len(lost), 0) + times
    assert all(abs(times - count / 3) < 5 * math.sqrt(count * 2 / 9) for times in heads.values())
    below = {60, 55, 48, 62, 57, 164, 166}
    assert set(lost_pitches) == below, "drums have no height"
    expected_numbers = poisson(11 // 4, 1, len(below))
    for number, probability in expected_numbers.items():
        deviation = math.sqrt(heads["X-1"] * probability * (1 - probability))
        assert abs(numbers.get(number, 0) - heads["X-1"] * probability) < 5 * deviation + 1, number


def test_tokens_stack():
    stacked = {condition.split("PITCH")[0].strip() for condition, _ in outcomes(["content"], f"X-1 {CONDITION}")}
    assert stacked == {"X-1", "X-1 X-1", "X-2 X-1"}


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "i-0 o-3",
        "HIST",
        "INS i-0 PITCH o-0",
        "PITCH p-60 INS i-0",
        "PITCH o-0 p-60 INS p-3",
        "PITCH PITCH",
        "PITCH o-0 o-12 p-60 p-55 INS i-0 i-33 HIST",
        "PITCH o-0 p-60 o-0 p-55 INS i-0 i-33 HIST",
    ],
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
    line = "s-9 o-0 t-35 i-128 p-164 d-6 v-20 o-12 t-35 i-0 p-60 d-6 v-20 i-128 p-164 d-6 v-20 b-1"
    assert words(without_programs(ids(line), (128,))) == "s-9 o-12 t-35 i-0 p-60 d-6 v-20 b-1"
    line = "s-9 t-35 o-0 i-128 p-164 d-6 v-20 b-1"
    assert words(without_programs(ids(line), (128,))) == "s-9 t-35 b-1"


def test_music_ordered_by_program_changes_as_music_ordered_by_onset_does():
    def by_program(music):
        if not len(music) or not (music == remi.BAR_END).any():
            return music
        score = remi.decode_with_repairs(music, layout=remi.NOTES)[0]
        return remi.encode(score, remi.NOTES_BY_PROGRAM, plain=True).astype(np.int64) if len(score) else music

    history_word = NUMBER["HIST"]
    names = [name for name in AUGMENTATIONS if name != "denoise"]  # which draws for the notes in their order
    reordered = np.concatenate([ids(CONDITION.split("HIST")[0] + "HIST"), by_program(ids(HISTORY))])
    changed = 0
    for index in range(150):
        draw = {"seed": 1, "epoch": 1, "index": index}
        condition, music = augment(ids(CONDITION), ids(MUSIC), PAIR_WORDS, names, **draw)
        other_condition, other_music = augment(reordered, by_program(ids(MUSIC)), PAIR_WORDS, names, **draw)
        begin = int(np.flatnonzero(condition == history_word)[0]) + 1
        expected = np.concatenate([condition[:begin], by_program(condition[begin:])])
        assert words(other_condition) == words(expected)
        assert words(other_music) == words(by_program(music))
        changed += len(music) < len(ids(MUSIC))
    assert changed > 50
