"""Requests in words say every class vector, in any order and case, and refuse what means nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.codecs import attributes, remi, requests
from musicbert_plugin.codecs.attributes import NA, SLOT_CLASSES, class_vector, extract
from musicbert_plugin.codecs.score import Score
from musicbert_plugin.errors import OptionError


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_words_say_every_class_vector(data: st.DataObject) -> None:
    classes = np.array([data.draw(st.integers(0, int(size) - 1)) for size in SLOT_CLASSES], np.uint8)
    line = requests.request_words(classes)
    np.testing.assert_array_equal(requests.parse_request(line), classes)
    np.testing.assert_array_equal(requests.parse_request(line.upper()), classes)
    shuffled = " ".join(data.draw(st.permutations(line.split())))
    np.testing.assert_array_equal(requests.parse_request(shuffled), classes)
    raw = " ".join(attributes.command_words_of(classes)) + " <sep>"
    np.testing.assert_array_equal(requests.parse_request(raw), classes)


def test_a_request_in_words() -> None:
    line = (
        "piano violin no-drum key=minor tempo=slow bars=16 meter=3/4 genre=Classical,new_age seconds=31 emotion=tense"
    )
    classes = requests.parse_request(line)
    told = {remi.WORDS[one] for one in attributes.command_ids(classes)[classes != NA]}
    assert told == {
        "I1s2_0_0",
        "I1s2_6_0",
        "I1s2_27_1",
        "K1_1",
        "T1s1_0",
        "B1s1_3",
        "TS1s1_2",
        "S4_11_0",
        "S4_0_0",
        "TM1_2",
        "EM1_1",
    }
    assert (requests.parse_request("") == NA).all()


@pytest.mark.parametrize(
    "line",
    ["piano no-piano", "key=minor key=major", "key=minor K1_0", "bars=3 bars=4", "seconds=20 TM1_0", "piano I1s2_0_1"],
)
def test_contradictions_are_refused(line: str) -> None:
    with pytest.raises(OptionError, match="contradict"):
        requests.parse_request(line)
    requests.parse_request(" ".join(line.split()[:1] * 2))  # the same twice is no contradiction


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ("pianoforte", "synthesizer"),
        ("key=lydian", "major"),
        ("bars=17", "bars=16"),
        ("bars=x", "whole number"),
        ("seconds=-1", "above 0"),
        ("seconds=nan", "above 0"),
        ("seconds=inf", "above 0"),
        ("seconds=1e999", "above 0"),
        ("octaves=12", "11"),
        ("genre=Polka", "Blues"),
        ("K1_3", "K1_1"),
        ("no-key=major", "piano"),
    ],
)
def test_unknown_words_are_refused_with_what_is_accepted(line: str, accepted: str) -> None:
    with pytest.raises(OptionError, match=accepted):
        requests.parse_request(line)


def test_words_of_a_file_tell_its_own_numbers() -> None:
    values = extract(remi.grid_of(Score.of(12, [0, 48 * 9], [6, 48 * 9 + 6], [60, 60])))
    words = requests.request_words(class_vector(values), values)
    assert "bars=10" in words and "seconds=18" in words


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("drums", "did you mean 'drum'?"),
        ("saxophone", "did you mean 'sax'?"),
        ("No-Drums", "did you mean 'no-drum'?"),
        ("violine", "did you mean 'violin'?"),
        ("synth", "did you mean 'synthesizer'?"),
        ("minor", "did you mean 'key=minor'?"),
        ("slow", "did you mean 'tempo=slow'?"),
        ("3/4", "did you mean 'meter=3/4'?"),
        ("tempo:slow", "did you mean 'tempo=slow'?"),
        ("keys=minor", "did you mean 'key=minor'?"),
        ("bar=8", "did you mean 'bars=8'?"),
        ("key=minr", "did you mean 'key=minor'?"),
        ("genre=jaz", "did you mean 'genre=Jazz'?"),
        ("artist=bach", "did you mean 'artist=bach-js'?"),
        ("bpm=140", "did you mean 'tempo=fast'?"),
        ("piano,violin", "words are separated by spaces, not by other signs: piano violin"),
        ("piano,", "words are separated by spaces, not by other signs: piano"),
        ("key=minor,tempo=slow", "words are separated by spaces, not by other signs: key=minor tempo=slow"),
    ],
)
def test_a_word_that_is_nearly_right_brings_a_suggestion(word: str, meant: str) -> None:
    with pytest.raises(OptionError) as error:
        requests.parse_request(f"piano {word}")
    assert meant in str(error.value)


def test_a_word_that_is_like_no_other_brings_none() -> None:
    with pytest.raises(OptionError, match="'xyzzy' is not an attribute; accepted"):
        requests.parse_request("xyzzy")


@pytest.mark.parametrize("number", ["٣", "²", "9" * 5000, "1.5", ""])
def test_a_number_of_bars_is_written_in_ascii_digits(number: str) -> None:
    with pytest.raises(OptionError) as refused:
        requests.parse_request(f"piano bars={number}")
    assert "whole number is needed" in str(refused.value) and len(str(refused.value)) < 200
