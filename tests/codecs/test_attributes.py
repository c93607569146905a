"""Attributes of small pieces whose values one can count by hand, requests in words, chords against a plain Viterbi."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.codecs import attributes, chords, remi
from musicbert_plugin.codecs.attributes import KEYS, NOT_GIVEN, SLOT_CLASSES, SLOTS, class_vector, extract
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import OptionError


def values_of(score: Score, begin: int = 0, end: int | None = None, **options: object) -> dict[str, object]:
    return extract(remi.grid_of(score), begin, end, **options)  # type: ignore[arg-type]


def notes(onsets: list[int], pitch: object = 60, program: object = 0, **options: object) -> Score:
    """Eighth notes at positions (twelfths of a quarter)."""
    return Score.of(12, onsets, np.array(onsets) + 6, [pitch] * len(onsets) if isinstance(pitch, int) else pitch,
                    64, program, 0, **options)  # fmt: skip


def test_there_are_63_commands_and_they_have_the_published_ids() -> None:
    assert SLOTS == 63 and attributes.SLOT_ID[0] == 985
    assert [remi.WORDS[one] for one in attributes.command_ids(NOT_GIVEN)[[0, 28, 29, 62]]] == [
        "I1s2_0_2", "I4_28", "C1_4", "TM1_5"
    ]  # fmt: skip
    assert int(attributes.SLOT_ID[-1] + SLOT_CLASSES[-1]) == remi.VOCABULARY_SIZE
    ids = attributes.command_ids(NOT_GIVEN)
    np.testing.assert_array_equal(attributes.classes_of_ids(ids), NOT_GIVEN)
    with pytest.raises(ValueError, match="63"):
        attributes.classes_of_ids(ids[::-1])


def test_every_program_belongs_to_one_group() -> None:
    assert len(attributes.INSTRUMENTS) == 28
    members = sorted(one for group in attributes._PROGRAMS for one in group)
    assert members == list(range(129))
    assert attributes.INSTRUMENTS[attributes.GROUP_OF_PROGRAM[DRUMS]] == "drum"


def test_instruments_are_those_that_sound_in_the_window() -> None:
    score = notes([0, 48, 60], program=[0, 40, 128])
    assert values_of(score, 0, 1)["I1s2"] == [0]
    assert values_of(score)["I1s2"] == [0, 6, 27]


def test_the_melody_has_the_highest_mean_pitch_of_those_with_more_than_twenty_notes() -> None:
    onsets = list(range(0, 21 * 6, 6))
    pitch = [60] * 21 + [50] * 21 + [90] * 20 + [100] * 30
    program = [5] * 21 + [70] * 21 + [73] * 20 + [128] * 30
    score = notes(onsets * 2 + onsets[:20] + list(range(30)), pitch, program)
    assert values_of(score)["I4"] == [0, False]
    # the original takes the highest program number, and nothing if it has too few notes
    assert values_of(score, legacy=True)["I4"] == [None, False]
    assert values_of(notes(onsets, program=40))["I4"] == [6, True]
    assert values_of(notes([0], program=DRUMS))["I4"] is None


def drums(positions: list[int], meter: tuple[int, int]) -> Score:
    return notes(positions, 40, DRUMS, meters=[(0, *meter)])


@pytest.mark.parametrize(
    ("positions", "meter", "danceable"),
    [
        ([0, 24], (4, 4), True),
        ([0, 11, 12], (4, 4), True),  # all twelve positions of a strong beat count
        ([0, 12], (4, 4), None),
        ([0, 12, 36], (4, 4), False),
        ([0, 48 + 12, 96 + 24], (4, 4), True),  # summed over bars
        ([0, 12], (3, 4), None),
        ([0, 36], (3, 4), True),
        ([0, 12, 24], (3, 4), False),
        ([0, 24], (2, 4), True),
        ([0, 0, 12], (2, 4), True),  # hits, not positions
        ([0], (6, 8), None),
    ],
)
def test_danceable_weighs_hits_on_strong_beats(
    positions: list[int], meter: tuple[int, int], danceable: bool | None
) -> None:
    assert values_of(drums(positions, meter))["R1"] is danceable


def test_the_original_counts_positions_so_that_four_beats_tie_and_three_never_dance() -> None:
    assert values_of(drums([0, 24], (4, 4)), legacy=True)["R1"] is None
    assert values_of(drums([0, 36, 71], (3, 4)), legacy=True)["R1"] is False
    assert values_of(drums([0, 12], (3, 4)), legacy=True)["R1"] is None  # 13 positions do not divide by three
    assert values_of(notes([0]), legacy=True)["R1"] is None


def test_intensity_is_onset_positions_per_beat_up_to_the_last_onset() -> None:
    assert values_of(notes([0, 12, 24, 47]))["R3"] == 0  # 4 onsets in 48 positions
    assert values_of(notes([0, 12, 24, 36]))["R3"] == 1  # the bar ends with the last onset: 4 in 37
    assert values_of(notes([0, 3, 6]))["R3"] == 2
    assert values_of(notes([0, 0, 0, 47], [60, 64, 67, 60]))["R3"] == 0


def test_bars_meter_tempo_range_and_length() -> None:
    score = notes([0, 48 * 16], [48, 85], tempi=[(0, 120)], meters=[(0, 4, 4)])
    values = values_of(score)
    assert values["B1s1"] == [17, -1] and values_of(score, 0, 16)["B1s1"] == [16, 3]
    assert values_of(score, 0, 5)["B1s1"] == [5, 1]
    assert values["TS1s1"] == [4, 4] and values["P4"] == 3
    bpm = 16 * 2 ** (35 / 12)
    assert values["T1s1"] == [pytest.approx(bpm), 2]
    assert values["TM1"] == [pytest.approx((48 * 16 + 1) * 5 / bpm), 2]
    changing = notes([0, 48], tempi=[(0, 60), (24, 90)], meters=[(0, 4, 4), (48, 3, 4)])
    values = values_of(changing)
    assert values["T1s1"] is None and values["TS1s1"] is None
    assert values["TM1"][0] == pytest.approx(24 * 5 / (16 * 2 ** (23 / 12)) + 25 * 5 / (16 * 2 ** (30 / 12)))
    assert values_of(changing, 1, 2)["TS1s1"] == [3, 4]
    assert values_of(notes([0], meters=[(0, 5, 4)]))["TS1s1"] == "other"


@pytest.mark.parametrize(("bpm", "speed"), [(117, 1), (118, 2), (74, 1), (73, 0), (76, 1)])
def test_tempo_classes_follow_quantised_tempi(bpm: int, speed: int) -> None:
    assert values_of(notes([0], tempi=[(0, bpm)]))["T1s1"][1] == speed  # type: ignore[index]


def test_key_is_that_of_the_whole_piece() -> None:
    minor = notes([0, 48, 96, 144], [69, 72, 76, 69])
    assert values_of(minor)["K1"] == "minor" and values_of(minor, 1, 2)["K1"] == "minor"
    assert values_of(notes([0], program=DRUMS))["K1"] is None
    assert values_of(notes([0], program=DRUMS))["P4"] is None


def test_what_the_caller_knows_is_spelled_as_here_and_checked() -> None:
    values = values_of(notes([0]), given={"S4": ["jazz", "new age"], "S2s1": "handel", "EM1": "sad"})
    assert (values["S4"], values["S2s1"], values["EM1"]) == (["Jazz", "New Age"], "Handel", "Q3")
    words = attributes.request_words(class_vector(values))
    assert "genre=Jazz" in words and "artist=Handel" in words and "emotion=Q3" in words
    with pytest.raises(OptionError, match="polka"):
        values_of(notes([0]), given={"S4": ["polka"]})
    with pytest.raises(OptionError, match="comes from the music"):
        values_of(notes([0]), given={"K1": "major"})
    with pytest.raises(OptionError, match="0:1"):
        values_of(notes([0]), 0, 2)


def test_given_values_replace_those_of_class_vectors() -> None:
    classes = np.stack([class_vector(values_of(notes([0]))), NOT_GIVEN])
    told = attributes.with_given(classes, {"EM1": "Q2", "S4": ["Blues"]})
    assert attributes.request_words(told[1]).count("S4_") == 21
    assert (told[:, attributes.SLOT_OF["EM1"]] == 1).all()
    own = ~np.isin(attributes.SLOT_KEY, [KEYS.index("EM1"), KEYS.index("S4")])
    np.testing.assert_array_equal(told[:, own], classes[:, own])


def test_labels_of_files_come_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,genre,emotion,other\na.mid,Jazz|Blues,happy,1\nb.mid,,,2\n")
    assert attributes.read_given(str(table)) == {"a.mid": {"S4": ["Jazz", "Blues"], "EM1": "Q1"}, "b.mid": {}}
    table.write_text("file,genre\na.mid,Polka\n")
    with pytest.raises(OptionError, match="line 2: 'Polka'"):
        attributes.read_given(str(table))
    table.write_text("name\nx\n")
    with pytest.raises(OptionError, match="column file"):
        attributes.read_given(str(table))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,artist\na.mid,mozart|chopin\n", r"line 2: 'mozart\|chopin' gives S2s1 2 labels"),
        ("file,emotion\na.mid,Q1\n\nb.mid,Q1|Q3\n", r"line 4: 'Q1\|Q3' gives EM1 2 labels"),
        ("file,emotion\na.mid,joyful\n", "Q4, happy, tense, sad, calm"),
        ("file,genre\na.mid,Jazz,Blues\n", r"line 2: 3 cells for 2 columns; several genres are joined with \|"),
        ("file,genre,genre\na.mid,Jazz,Blues\n", "the column genre is there 2 times"),
        ("file,genre\na.mid,Jazz\na.mid,Blues\n", "line 3: a.mid has two rows that differ"),
    ],
)
def test_a_table_that_says_more_than_it_may_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(OptionError, match=sentence):
        attributes.read_given(str(table))


# ---------------------------------------------------------------------------------------------------------- requests


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_words_say_every_class_vector(data: st.DataObject) -> None:
    classes = np.array([data.draw(st.integers(0, int(size) - 1)) for size in SLOT_CLASSES], np.uint8)
    line = attributes.request_words(classes)
    np.testing.assert_array_equal(attributes.parse_request(line), classes)
    np.testing.assert_array_equal(attributes.parse_request(line.upper()), classes)
    shuffled = " ".join(data.draw(st.permutations(line.split())))
    np.testing.assert_array_equal(attributes.parse_request(shuffled), classes)
    raw = " ".join(attributes.command_words_of(classes)) + " <sep>"
    np.testing.assert_array_equal(attributes.parse_request(raw), classes)


def test_a_request_in_words() -> None:
    line = (
        "piano violin no-drum key=minor tempo=slow bars=16 meter=3/4 genre=Classical,new_age seconds=31 emotion=tense"
    )
    classes = attributes.parse_request(line)
    told = {remi.WORDS[one] for one in attributes.command_ids(classes)[classes != NOT_GIVEN]}
    assert told == {
        "I1s2_0_0", "I1s2_6_0", "I1s2_27_1", "K1_1", "T1s1_0", "B1s1_3", "TS1s1_2", "S4_11_0", "S4_0_0", "TM1_2",
        "EM1_1",
    }  # fmt: skip
    assert (attributes.parse_request("") == NOT_GIVEN).all()


@pytest.mark.parametrize(
    "line",
    ["piano no-piano", "key=minor key=major", "key=minor K1_0", "bars=3 bars=4", "seconds=20 TM1_0", "piano I1s2_0_1"],
)
def test_contradictions_are_refused(line: str) -> None:
    with pytest.raises(OptionError, match="contradict"):
        attributes.parse_request(line)
    attributes.parse_request(" ".join(line.split()[:1] * 2))  # the same twice is no contradiction


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ("pianoforte", "synthesizer"), ("key=lydian", "major"), ("bars=17", "bars=16"), ("bars=x", "whole number"),
        ("seconds=-1", "above 0"), ("seconds=nan", "above 0"), ("seconds=inf", "above 0"), ("seconds=1e999", "above 0"),
        ("octaves=12", "11"), ("genre=Polka", "Blues"), ("K1_3", "K1_1"),
        ("no-key=major", "piano"),
    ],
)  # fmt: skip
def test_unknown_words_are_refused_with_what_is_accepted(line: str, accepted: str) -> None:
    with pytest.raises(OptionError, match=accepted):
        attributes.parse_request(line)


def test_words_of_a_file_tell_its_own_numbers() -> None:
    values = values_of(notes([0, 48 * 9]))
    words = attributes.request_words(class_vector(values), values)
    assert "bars=10" in words and "seconds=18" in words


# ------------------------------------------------------------------------------------------------------------ chords


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
