"""The grammar: whatever it lets be written decodes without a repair and is what encoding gives; and limits hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import programs_of
from musicbert_plugin.codecs.remi_grammar import GrammarState, RemiGrammar, transpose
from musicbert_plugin.codecs.requests import parse_request
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import OptionError


def write(
    grammar: RemiGrammar, state: GrammarState, seed: int, bias: dict[str, float] | None = None
) -> list[np.ndarray]:
    """Sequences of allowed words until every row has ended; a kind of word that may come is drawn with its weight."""
    random = np.random.default_rng(seed)
    weights = np.array([(bias or {}).get(word[0], 1.0) if word != "</s>" else 1.0 for word in remi.WORDS])
    kind = np.array([word[0] for word in remi.WORDS])
    share = np.array([weights[at] / max(int((kind == kind[at]).sum()), 1) for at in range(len(weights))])
    share[remi.EOS] = (bias or {}).get("</s>", 1.0)
    rows: list[list[int]] = [[] for _ in range(len(state))]
    done = np.zeros(len(state), bool)
    while not done.all():
        allowed = grammar.allowed(state)
        assert allowed.any(axis=1).all()
        chances = allowed * share
        chances = np.where(chances.sum(axis=1, keepdims=True) > 0, chances, allowed)
        tokens = np.array([random.choice(len(row), p=row / row.sum()) for row in chances])
        for row in np.flatnonzero(~done):
            if tokens[row] == remi.EOS:
                done[row] = True
            else:
                rows[row].append(int(tokens[row]))
        state = grammar.advance(state, tokens)
    return [np.array(row, np.int64) for row in rows]


def without_trailing_empty_bars(ids: np.ndarray, layout: str) -> np.ndarray:
    notes = np.flatnonzero((ids >= remi.PITCH) & (ids < remi.DURATION))
    if len(notes) == 0:
        return ids[:0]
    ends = np.flatnonzero(ids == remi.BAR_END)
    return ids[: int(ends[np.searchsorted(ends, notes[-1])]) + 1]


def assert_is_an_encoding(ids: np.ndarray, layout: str, meter: tuple[int, int] = (4, 4)) -> None:
    score, repairs = remi.decode_with_repairs(ids, meter, layout)
    assert not repairs
    music = without_trailing_empty_bars(ids, layout)
    if len(music):
        np.testing.assert_array_equal(remi.encode(score, layout, plain=True), music)
    else:
        assert len(score) == 0


layouts = st.sampled_from(remi.LAYOUTS)


@settings(max_examples=60, deadline=None)
@given(layouts, st.integers(0, 2**32), st.integers(5, 200), st.sampled_from([0.02, 1.0, 20.0]))
def test_whatever_is_allowed_decodes_without_repair_and_encodes_to_itself(
    layout: str, seed: int, room: int, endings: float
) -> None:
    grammar = RemiGrammar(layout)
    for ids in write(grammar, grammar.start(4, room), seed, {"b": endings, "</s>": 0.05, "s": 1.0}):
        assert len(ids) <= room
        assert_is_an_encoding(ids, layout)


@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_every_maximum_length_can_be_closed(layout: str) -> None:
    grammar = RemiGrammar(layout)
    rooms = np.arange(0, 201)
    state = grammar.start(len(rooms), rooms)
    for room, ids in zip(rooms.tolist(), write(grammar, state, 1, {"</s>": 0.0, "b": 0.1}), strict=True):
        assert len(ids) <= room
        assert_is_an_encoding(ids, layout)


def closing(phrase: list[int], layout: str) -> list[int]:
    """The shortest way to close a bar after these words."""
    letter = remi.WORDS[phrase[-1]][0]
    words = {
        remi.BAR_TEMPO: {"s": "t-0 b-1", "t": "b-1", "o": "i-0 p-0 d-1 v-0 b-1"},
        remi.POSITION_TEMPO: {"s": "b-1", "t": "i-128 p-128 d-1 v-0 b-1", "o": "t-0 i-0 p-0 d-1 v-0 b-1"},
        remi.NOTES: {"o": "i-0 p-0 d-1 b-1", "d": "b-1"},
        remi.NOTES_BY_PROGRAM: {"i": "o-0 {pitch} d-1 b-1", "o": "{pitch} d-1 b-1", "d": "b-1"},
    }[layout] | {"v": "b-1", "b": "", "<": ""}
    drums = [one for one in phrase if remi.WORDS[one][0] == "i"][-1:] == [remi.INSTRUMENT + DRUMS]
    pitch = "p-128" if drums else "p-0"
    alone = layout in remi.NOTES_ALONE
    words.setdefault("i", "{pitch} d-1 b-1" if alone else "{pitch} d-1 v-0 b-1")
    words.setdefault("p", "d-1 b-1" if alone else "d-1 v-0 b-1")
    words.setdefault("d", "v-0 b-1")
    return remi.from_words(words.get(letter, "").format(pitch=pitch)).tolist()


@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_a_word_is_allowed_exactly_if_encoding_can_give_it_there(layout: str) -> None:
    """By trying every word of the dictionary: closed as soon as possible, and with one more bar, it must come back."""
    grammar = RemiGrammar(layout)
    random = np.random.default_rng(5)
    last_bar = {
        remi.BAR_TEMPO: "s-9 t-35 o-0 i-0 p-60 d-12 v-3 b-1",
        remi.POSITION_TEMPO: "s-9 o-0 t-35 i-0 p-60 d-12 v-3 b-1",
        remi.NOTES: "o-0 i-0 p-60 d-12 b-1",
        remi.NOTES_BY_PROGRAM: "i-0 o-0 p-60 d-12 b-1",
    }[layout]
    state = grammar.start(1, 10**6)
    phrase: list[int] = []
    for _ in range(12):
        allowed = np.flatnonzero(grammar.allowed(state)[0]).tolist()
        possible = []
        for one in range(4, remi.MUSIC_END):
            ids = np.array([*phrase, one, *closing([*phrase, one], layout), *remi.from_words(last_bar)])
            score, repairs = remi.decode_with_repairs(ids, layout=layout)
            if not repairs and np.array_equal(remi.encode(score, layout, plain=True), ids):
                possible.append(one)
        has_note = any(remi.DURATION <= one < remi.VELOCITY for one in phrase)
        ends = remi.EOS in allowed
        assert ends == (bool(phrase) and phrase[-1] == remi.BAR_END and has_note)
        if not has_note and layout not in remi.NOTES_ALONE:  # silence before the first note is trimmed
            possible = [one for one in possible if one != remi.BAR_END or phrase[-1] == remi.BAR_END]
        assert sorted(set(allowed) - {remi.EOS}) == possible, remi.to_words(np.array(phrase, np.int64))
        letters = sorted({remi.WORDS[one][0] for one in possible})
        letter = letters[random.integers(len(letters))]
        chosen = int(random.choice([one for one in possible if remi.WORDS[one][0] == letter]))
        phrase.append(chosen)
        state = grammar.advance(state, np.array([chosen]))


@settings(max_examples=40, deadline=None)
@given(layouts, st.integers(0, 2**32), st.integers(1, 12), st.integers(0, 150))
def test_an_exact_number_of_bars_is_kept_whatever_the_room(layout: str, seed: int, bars: int, more: int) -> None:
    grammar = RemiGrammar(layout)
    room = bars * grammar.empty_bar + more
    for ids in write(grammar, grammar.start(3, room, least_bars=bars, most_bars=bars), seed, {"b": 0.2}):
        assert int((ids == remi.BAR_END).sum()) == bars
        assert len(ids) <= room
        assert_is_an_encoding(ids, layout)


def test_a_maximum_length_too_small_for_the_bars_is_refused() -> None:
    grammar = RemiGrammar(remi.BAR_TEMPO)
    with pytest.raises(OptionError, match="48 words"):
        grammar.start(1, 47, least_bars=16, most_bars=16)
    grammar.start(1, 48, least_bars=16, most_bars=16)
    with pytest.raises(OptionError, match="at most 4"):
        grammar.start(1, 100, least_bars=5, most_bars=4)


@settings(max_examples=20, deadline=None)
@given(layouts, st.integers(0, 2**32))
def test_only_the_instruments_that_may_occur_do(layout: str, seed: int) -> None:
    grammar = RemiGrammar(layout)
    requests = np.stack([parse_request("piano"), parse_request("drum violin no-piano"), parse_request("key=minor")])
    programs = programs_of(requests)
    assert np.flatnonzero(programs[1]).tolist() == [40, 114, 116, 118, 128] and programs[2].all()
    for ids, own in zip(write(grammar, grammar.start(3, 120, programs=programs), seed), programs, strict=True):
        used = ids[(ids >= remi.INSTRUMENT) & (ids < remi.PITCH)] - remi.INSTRUMENT
        assert own[used].all()
        assert_is_an_encoding(ids, layout)


def test_a_first_bar_has_a_note_and_a_piece_does_not_end_without_one() -> None:
    for layout in remi.LAYOUTS:
        grammar = RemiGrammar(layout)
        for ids in write(grammar, grammar.start(20, 60), 3, {"b": 50.0, "</s>": 50.0}):
            first = int(np.flatnonzero(ids == remi.BAR_END)[0])
            if layout not in remi.NOTES_ALONE:
                assert ((ids[:first] >= remi.PITCH) & (ids[:first] < remi.DURATION)).any()


@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_rows_do_not_see_each_other(layout: str) -> None:
    grammar = RemiGrammar(layout)
    random = np.random.default_rng(2)
    rooms = np.array([30, 50, 90])
    together = grammar.start(3, rooms)
    alone = [grammar.start(1, int(room)) for room in rooms]
    for _ in range(40):
        allowed = grammar.allowed(together)
        for row in range(3):
            np.testing.assert_array_equal(allowed[row], grammar.allowed(alone[row])[0])
        tokens = np.array([random.choice(np.flatnonzero(row)) for row in allowed])
        together = grammar.advance(together, tokens)
        alone = [grammar.advance(state, tokens[row : row + 1]) for row, state in enumerate(alone)]
    swapped = grammar.select(together, np.array([2, 0]))
    np.testing.assert_array_equal(grammar.allowed(swapped), grammar.allowed(together)[[2, 0]])


PROMPT = {
    remi.BAR_TEMPO: "s-8 t-35 o-0 i-0 p-60 d-12 v-20 o-12 i-0 p-62 d-12 v-20 b-1 s-8 t-35 o-3 i-5 p-64 d-1 v-1",
    remi.POSITION_TEMPO: "s-8 o-0 t-35 i-0 p-60 d-12 v-20 b-1 s-8 o-3 t-35 i-5 p-64 d-1 v-1",
    remi.NOTES: "o-0 i-0 p-60 d-12 o-12 i-0 p-62 d-12 b-1 o-3 i-5 p-64 d-1",
    remi.NOTES_BY_PROGRAM: "i-0 o-0 p-60 d-12 o-12 p-62 d-12 b-1 i-5 o-3 p-64 d-1",
}


@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_a_prompt_is_closed_and_its_bars_count(layout: str) -> None:
    grammar = RemiGrammar(layout)
    closed = remi.from_words(PROMPT[layout] + " b-1")
    whole = remi.from_words(PROMPT[layout])
    np.testing.assert_array_equal(grammar.whole_bars(whole), closed)
    np.testing.assert_array_equal(grammar.whole_bars(closed), closed)
    for extra in ("o-7", "i-7", "p-3"):
        np.testing.assert_array_equal(grammar.whole_bars(np.append(whole, remi.from_words(extra))), closed)
    start = grammar.start(2, 40, least_bars=4, most_bars=4, prompt=closed)
    assert start.bars.tolist() == [2, 2]
    for ids in write(grammar, start, 1):
        assert int((ids == remi.BAR_END).sum()) == 2
        assert_is_an_encoding(np.concatenate([closed, ids]), layout)
    with pytest.raises(OptionError, match="2"):
        grammar.start(1, 40, most_bars=1, prompt=closed)


def test_a_prompt_of_another_layout_is_refused_with_the_word_that_does_not_fit() -> None:
    with pytest.raises(OptionError, match="word 2 of the prompt, o-0"):
        RemiGrammar(remi.BAR_TEMPO).whole_bars(remi.from_words(PROMPT[remi.POSITION_TEMPO]))
    with pytest.raises(OptionError, match="word 1 of the prompt, s-8"):
        RemiGrammar(remi.NOTES).whole_bars(remi.from_words(PROMPT[remi.BAR_TEMPO]))
    with pytest.raises(OptionError, match="word 1"):
        RemiGrammar(remi.BAR_TEMPO).whole_bars(remi.from_words("K1_0"))


def test_another_dictionary_moves_the_words_and_a_longer_one_adds_none() -> None:
    words = list(remi.WORDS[:4]) + list(remi.WORDS[4:984])[::-1] + ["<sep>", "another", "yet-another"]
    plain, moved = RemiGrammar(remi.BAR_TEMPO), RemiGrammar(remi.BAR_TEMPO, words=words)
    own, other = plain.start(1, 60), moved.start(1, 60)
    random = np.random.default_rng(0)
    for _ in range(50):
        ids = np.flatnonzero(plain.allowed(own)[0])
        theirs = np.flatnonzero(moved.allowed(other)[0])
        assert {remi.WORDS[one] for one in ids} == {words[one] for one in theirs}
        chosen = int(random.choice(ids))
        own = plain.advance(own, np.array([chosen]))
        other = moved.advance(other, np.array([words.index(remi.WORDS[chosen])]))
    with pytest.raises(OptionError, match="v-31"):
        RemiGrammar(remi.BAR_TEMPO, words=[word for word in words if word != "v-31"])
    RemiGrammar(remi.NOTES, words=[word for word in words if word != "v-31"])


@settings(max_examples=40, deadline=None)
@given(layouts, st.integers(0, 2**32), st.integers(-11, 11))
def test_transposed_music_is_legal_and_comes_back_where_no_octave_was_folded(
    layout: str, seed: int, semitones: int
) -> None:
    grammar = RemiGrammar(layout)
    (ids,) = write(grammar, grammar.start(1, 150), seed, {"p": 5.0, "b": 0.2})
    moved = transpose(ids, semitones)
    assert_is_an_encoding(moved, layout)
    score, other = remi.decode(ids), remi.decode(moved)
    melodic = score.program != DRUMS
    if len(score) and not (((score.pitch + semitones) % 128) != score.pitch + semitones)[melodic].any():
        np.testing.assert_array_equal(other.pitch[melodic], score.pitch[melodic] + semitones)
        np.testing.assert_array_equal(transpose(moved, -semitones), ids)


def test_an_encoded_score_is_legal() -> None:
    random = np.random.default_rng(0)
    onset = random.integers(0, 400, 60)
    score = Score.of(
        12, onset, onset + random.integers(1, 90, 60), random.integers(0, 128, 60), random.integers(1, 128, 60),
        random.choice([0, 40, 128], 60), tempi=[(0, 90), (200, 140)], meters=[(0, 3, 4), (150, 7, 8)],
    )  # fmt: skip
    for layout in remi.LAYOUTS[:2]:
        ids = remi.encode(score, layout)
        np.testing.assert_array_equal(RemiGrammar(layout).whole_bars(ids), ids)


def first_not_allowed(grammar: RemiGrammar, ids: np.ndarray) -> int:
    """The first word of a line that ``allowed`` refuses, or its length if it ends in a bar, word by word; else -1."""
    state = grammar.start(1, 10**6)
    state.rows[:, -1] = 1  # a first bar may be silent
    for index, word_id in enumerate(ids.tolist()):
        if word_id == remi.EOS or not grammar.allowed(state)[0, word_id]:
            return index
        state = grammar.advance(state, np.array([word_id]))
    return -1 if not len(ids) or ids[-1] == remi.BAR_END else len(ids)


@settings(max_examples=60, deadline=None)
@given(layouts, layouts, st.integers(0, 2**32))
def test_the_first_word_that_does_not_fit_is_that_of_a_walk(layout: str, own: str, seed: int) -> None:
    """Lines of any layout, many of them with one word changed, moved or cut off."""
    random = np.random.default_rng(seed)
    grammar = RemiGrammar(layout, meter=(3, 4))
    writer = RemiGrammar(own, meter=(3, 4))
    lines = []
    for line in write(writer, writer.start(6, 60), seed, {"p": 3.0, "b": 0.3}):
        change = random.integers(5)
        line = np.array(line, np.int64)
        if change == 1 and len(line):
            line[random.integers(len(line))] = random.integers(0, remi.MUSIC_END)
        elif change == 2:
            line = line[: random.integers(len(line) + 1)]
        elif change == 3 and len(line):
            at = random.integers(len(line))
            line[[at, at - 1]] = line[[at - 1, at]]
        lines.append(line)
    begins = np.cumsum([0, *map(len, lines)])
    found = grammar.misfits(np.concatenate(lines), begins)
    assert found.tolist() == [first_not_allowed(grammar, line) for line in lines]
    assert grammar.misfits(np.zeros(0, np.int64), np.zeros(3, np.int64)).tolist() == [-1, -1]
