"""Attributes of small pieces whose values one can count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs import attributes, remi, requests
from musicbert_plugin.codecs.attributes import KEYS, NA, SLOT_CLASSES, SLOTS, class_vector, extract
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import OptionError
from tests.reference.scores import notes


def values_of(score: Score, begin: int = 0, end: int | None = None, **options: object) -> dict[str, object]:
    return extract(remi.grid_of(score), begin, end, **options)  # type: ignore[arg-type]


def test_there_are_63_commands_and_they_have_the_published_ids() -> None:
    assert SLOTS == 63 and attributes.SLOT_ID[0] == 985
    assert [remi.WORDS[one] for one in attributes.command_ids(NA)[[0, 28, 29, 62]]] == [
        "I1s2_0_2",
        "I4_28",
        "C1_4",
        "TM1_5",
    ]
    assert int(attributes.SLOT_ID[-1] + SLOT_CLASSES[-1]) == remi.VOCABULARY_SIZE
    ids = attributes.command_ids(NA)
    np.testing.assert_array_equal(attributes.classes_of_ids(ids), NA)
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
    words = requests.request_words(class_vector(values))
    assert "genre=Jazz" in words and "artist=Handel" in words and "emotion=Q3" in words
    with pytest.raises(OptionError, match="polka"):
        values_of(notes([0]), given={"S4": ["polka"]})
    with pytest.raises(OptionError, match="is extracted from the music"):
        values_of(notes([0]), given={"K1": "major"})
    with pytest.raises(OptionError, match="0:1"):
        values_of(notes([0]), 0, 2)


def test_given_values_replace_those_of_class_vectors() -> None:
    classes = np.stack([class_vector(values_of(notes([0]))), NA])
    told = attributes.with_given(classes, {"EM1": "Q2", "S4": ["Blues"]})
    assert requests.request_words(told[1]).count("S4_") == 21
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
        ("file,artist\na.mid,mozart|chopin\n", r"line 2: 'mozart\|chopin': 2 labels for S2s1"),
        ("file,emotion\na.mid,Q1\n\nb.mid,Q1|Q3\n", r"line 4: 'Q1\|Q3': 2 labels for EM1"),
        ("file,emotion\na.mid,joyful\n", "Q4, happy, tense, sad, calm"),
        ("file,genre\na.mid,Jazz,Blues\n", r"line 2: 3 cells for 2 columns; several genres are joined with \|"),
        ("file,genre,genre\na.mid,Jazz,Blues\n", "2 columns are named genre"),
        ("file,genre\na.mid,Jazz\na.mid,Blues\n", "line 3: a.mid has two rows that differ"),
    ],
)
def test_a_table_that_says_more_than_it_may_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(OptionError, match=sentence):
        attributes.read_given(str(table))
