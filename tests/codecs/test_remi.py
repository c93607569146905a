"""The REMI codec against its specification: constants, a note-by-note reference, round trips, and wild input."""

from __future__ import annotations

import hashlib
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.score import DRUMS, Score, midi_bytes, read_midi
from musicbert_plugin.errors import OptionError, ScoreError

ROOT = Path(__file__).resolve().parents[2]


def reduced(numerator: int, denominator: int) -> tuple[int, int]:
    while denominator > 64:
        numerator, denominator = max(numerator // 2, 1), denominator // 2
    while denominator not in (1, 2, 4, 8, 16, 32, 64):
        denominator -= 1
    while numerator > 2 * denominator:
        factor = next(f for f in range(2, numerator + 1) if numerator % f == 0)
        numerator = 2 * denominator if factor == numerator else numerator // factor
    return (2, 64) if (numerator, denominator) == (1, 64) else (numerator, denominator)


def reference_words(score: Score, layout: str, plain: bool) -> list[str]:
    """The words of a score, written note by note and position by position in Python's own arithmetic."""

    def position(tick: int) -> int:
        return round(int(tick) * 12 / score.resolution)

    def duration_id(length: int) -> int:
        for octave in range(8):
            for step in range(12):
                if length < 12 * (2**octave - 1) + (step + 1) * 2**octave:
                    return 12 * octave + step
        return 95

    def length_of(number: int) -> int:
        return 12 * (2 ** (number // 12) - 1) + number % 12 * 2 ** (number // 12)

    notes = []
    for onset, end, program, pitch, velocity in zip(
        score.onset, score.end, score.program, score.pitch, score.velocity, strict=True
    ):
        if end > onset:
            number = duration_id(position(end) - position(onset))
            if not plain:
                number = max(number, 1)
            notes.append([position(onset), int(program), int(pitch), number, int(velocity) // 4])
    total = max(note[0] for note in notes) + 1
    meters, tempi = [(4, 4)] * total, [35] * total
    for tick, numerator, denominator in zip(
        score.meter_tick, score.meter_numerator, score.meter_denominator, strict=True
    ):
        for p in range(position(tick), total):
            meters[p] = reduced(int(numerator), int(denominator))
    for tick, bpm in zip(score.tempo_tick, score.tempo_bpm, strict=True):
        for p in range(position(tick), total):
            tempi[p] = round(12 * math.log2(min(max(bpm, 16), 256) / 16))
    if not plain:
        weights = [0] * 12
        for _, program, pitch, number, velocity in notes:
            if program != DRUMS:
                weights[pitch % 12] += length_of(number) * (4 * velocity + 2)
        scale = (0, 2, 4, 5, 7, 9, 11)
        best, tonic = max(
            (sum(w if (pc - key) % 12 in scale else -w for pc, w in enumerate(weights)), -key) for key in range(12)
        )
        tonic = -tonic
        minor = weights[(tonic + 9) % 12] > weights[tonic]
        shift = 9 - (tonic + 9) % 12 if minor else -tonic
        pitches = [pitch for _, program, pitch, _, _ in notes if program != DRUMS]
        if pitches:
            while min(pitches) + shift < 0:
                shift += 12
            while max(pitches) + shift >= 128:
                shift -= 12
            if min(pitches) + shift < 0:
                shift = 0
            for note in notes:
                note[2] += shift * (note[1] != DRUMS)

    words: list[str] = []
    at = 0
    started = plain or layout in remi.NOTES_ALONE
    codes = [(n, d) for d in (1, 2, 4, 8, 16, 32, 64) for n in range(1, 2 * d + 1)]
    while at < total:
        numerator, denominator = meters[at]
        length = 48 * numerator // denominator
        here = [note for note in notes if at <= note[0] < at + length]
        started = started or bool(here)
        if started:
            if layout not in remi.NOTES_ALONE:
                words.append(f"s-{codes.index((numerator, denominator))}")
            if layout == remi.BAR_TEMPO:
                words.append(f"t-{tempi[at]}")
            if layout == remi.NOTES_BY_PROGRAM:
                for program in sorted({note[1] for note in here}):
                    words.append(f"i-{program}")
                    for p in sorted({note[0] for note in here if note[1] == program}):
                        words.append(f"o-{p - at}")
                        for pitch, number, _ in sorted(
                            (note[2:] for note in here if note[0] == p and note[1] == program), reverse=True
                        ):
                            words += [f"p-{pitch + 128 * (program == DRUMS)}", f"d-{number}"]
                here = []
            for p in sorted({note[0] for note in here}):
                words.append(f"o-{p - at}")
                if layout == remi.POSITION_TEMPO:
                    words.append(f"t-{tempi[p]}")
                for program in sorted({note[1] for note in here if note[0] == p}):
                    words.append(f"i-{program}")
                    for pitch, number, velocity in sorted(
                        (note[2:] for note in here if note[0] == p and note[1] == program), reverse=True
                    ):
                        words += [f"p-{pitch + 128 * (program == DRUMS)}", f"d-{number}"]
                        words += [] if layout == remi.NOTES else [f"v-{velocity}"]
            words.append("b-1")
        at += length
    return words


METERS = [
    (4, 4), (3, 4), (2, 4), (6, 8), (7, 8), (1, 1), (5, 16), (9, 4), (11, 4), (17, 8), (3, 128), (4, 128), (64, 64),
    (1, 64), (34, 8), (5, 3),
]  # fmt: skip


@st.composite
def any_scores(draw: st.DrawFn) -> Score:
    """Scores of any kind: overlaps, duplicates, notes without length, events anywhere, odd resolutions, silence."""
    resolution = draw(st.sampled_from([1, 7, 24, 96, 97, 480, 1024]))
    n = draw(st.integers(1, 12))
    ticks = st.integers(0, 24 * resolution)
    silence = draw(st.sampled_from([0, 0, 9])) * resolution
    onset = np.array(draw(st.lists(ticks, min_size=n, max_size=n))) + silence
    longest = draw(st.sampled_from([2, 300])) * resolution
    length = np.array(draw(st.lists(st.integers(0, longest), min_size=n, max_size=n)))
    length[0] = max(length[0], 1)

    def column(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=n, max_size=n))

    programs = (
        column(0, 128) if draw(st.booleans()) else draw(st.lists(st.sampled_from([0, 7, 128]), min_size=n, max_size=n))
    )
    pitches = column(0, 127) if draw(st.booleans()) else column(58, 66)
    meters = draw(st.lists(st.tuples(ticks, st.sampled_from(METERS)), max_size=4))
    return Score.of(
        resolution, onset, onset + length, pitches, column(1, 127), programs,
        tempi=draw(st.lists(st.tuples(ticks, st.floats(1, 1000)), max_size=4)),
        meters=[(tick, *meter) for tick, meter in meters],
    )  # fmt: skip


layouts = st.sampled_from(remi.LAYOUTS)


@settings(max_examples=200, deadline=None)
@given(any_scores(), layouts, st.booleans())
def test_encoding_equals_a_walk_over_every_bar_and_position(score: Score, layout: str, plain: bool) -> None:
    assert remi.to_words(remi.encode(score, layout, plain=plain)).split() == reference_words(score, layout, plain)


@settings(max_examples=200, deadline=None)
@given(any_scores(), st.sampled_from(remi.LAYOUTS[:2]))
def test_encode_decode_is_the_identity_on_encoded_pieces(score: Score, layout: str) -> None:
    ids = remi.encode(score, layout)
    decoded, repairs = remi.decode_with_repairs(ids, layout=layout)
    assert not repairs
    np.testing.assert_array_equal(remi.encode(decoded, layout), ids)
    np.testing.assert_array_equal(remi.encode(decoded, layout, plain=True), ids)
    np.testing.assert_array_equal(remi.encode(read_midi(midi_bytes(decoded)), layout), ids)


@settings(max_examples=100, deadline=None)
@given(any_scores(), st.sampled_from([(3, 4), (4, 4), (6, 8), (5, 4)]))
def test_pieces_without_meters_come_back_under_the_meter_that_is_told(score: Score, meter: tuple[int, int]) -> None:
    columns = score.onset, score.end, score.pitch, score.velocity, score.program
    ids = remi.encode(Score.of(score.resolution, *columns, meters=[(0, *meter)]), remi.NOTES)
    decoded, repairs = remi.decode_with_repairs(ids, meter, remi.NOTES)
    assert not repairs
    assert set(decoded.velocity.tolist()) == {96}
    np.testing.assert_array_equal(remi.encode(decoded, remi.NOTES, plain=True), ids)


wild_ids = st.lists(
    st.one_of(
        st.integers(0, remi.VOCABULARY_SIZE + 5),
        st.sampled_from([remi.BAR_END, remi.ONSET, remi.INSTRUMENT, remi.PITCH + 60, remi.DURATION + 5]),
        st.integers(-(2**62), 2**62),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(wild_ids, st.sampled_from([None, *remi.LAYOUTS]))
def test_decoding_never_fails_and_gives_a_score_that_can_be_written(ids: list[int], layout: str | None) -> None:
    score, repairs = remi.decode_with_repairs(np.array(ids, np.int64), layout=layout)
    assert all(count > 0 for count in repairs.values())
    data = midi_bytes(score)
    if len(score):
        assert len(read_midi(data)) == len(score)


@settings(max_examples=100, deadline=None)
@given(any_scores(), st.sampled_from(remi.LAYOUTS[:2]), st.integers(0, 200))
def test_a_piece_that_breaks_off_keeps_all_its_whole_notes(score: Score, layout: str, cut: int) -> None:
    ids = remi.encode(score, layout)
    begun = ids[: min(cut, len(ids))]
    decoded, repairs = remi.decode_with_repairs(begun, layout=layout)
    whole = (begun >= remi.VELOCITY) & (begun < remi.METER)
    assert len(decoded) == int(whole.sum()) + repairs["note without a velocity"]
    complete = remi.decode(ids)
    np.testing.assert_array_equal(decoded.onset, complete.onset[: len(decoded)])
    np.testing.assert_array_equal(decoded.pitch, complete.pitch[: len(decoded)])


def decoded_words(words: str, **options: object) -> tuple[list[tuple[int, ...]], dict[str, int]]:
    score, repairs = remi.decode_with_repairs(remi.from_words(words), **options)  # type: ignore[arg-type]
    columns = score.onset // 40, (score.end - score.onset) // 40, score.program, score.pitch, score.velocity
    return [tuple(row) for row in np.stack(columns, axis=1).tolist()], dict(repairs)


def test_every_kind_of_damage_is_mended_and_counted() -> None:
    fine = "s-9 t-35 o-0 i-0 p-60 d-12 v-24 b-1"
    assert decoded_words(fine) == ([(0, 12, 0, 60, 98)], {})
    assert decoded_words("s-9 t-35 o-0 i-0 p-60 d-12 v-24")[1] == {"last bar not closed": 1}
    assert decoded_words("s-9 o-0 i-0 p-60 v-24 b-1") == (
        [],
        {
            "pitch without a duration": 1,
            "velocity without a note": 1,
            "onset that no note follows": 1,
            "instrument that no note follows": 1,
        },
    )
    assert decoded_words("s-9 o-0 i-0 i-5 p-60 d-12 v-1 b-1 s-9 i-7 b-1") == (
        [(0, 12, 5, 60, 6)],
        {"instrument that no note follows": 2},
    )
    assert decoded_words("s-9 o-0 i-0 p-60 d-12 p-62 d-1 v-1 b-1") == (
        [(0, 12, 0, 60, 96), (0, 1, 0, 62, 6)],
        {"note without a velocity": 1},
    )
    assert decoded_words("s-9 o-3 i-128 p-40 d-1 v-0 i-5 p-200 d-127 v-0 b-1") == (
        [(3, 1, 128, 40, 2), (3, 2932, 5, 72, 2)],
        {"drum pitch": 2, "duration out of range": 1},
    )
    assert decoded_words("s-9 p-60 d-1 v-0 b-1 s-126 o-1 p-60 d-1 v-0 b-1") == (
        [(0, 1, 0, 60, 2), (49, 1, 0, 60, 2)],
        {
            "note without an onset": 1, "note without an instrument": 2, "meter without length": 1,
            "onset beyond the bar": 1,
        },
    )  # fmt: skip
    assert decoded_words("s-8 s-9 o-0 i-0 p-60 d-1 v-0 b-1 o-0 i-0 p-60 d-1 v-0 b-1 b-0 e-0 nonsense") == (
        [(0, 1, 0, 60, 2), (36, 1, 0, 60, 2)],
        {"second meter in a bar": 1, "bar without a meter": 1, "word that is no music": 3},
    )
    assert decoded_words("o-0 i-0 p-60 d-12 v-1 b-1 b-1", layout="bar-tempo")[1] == {"bar without a meter": 2}
    assert decoded_words("o-0 i-0 p-60 d-12 b-1", meter=(3, 4), layout="notes") == ([(0, 12, 0, 60, 96)], {})


def test_a_meter_is_two_numbers() -> None:
    assert [remi.parse_meter(text) for text in ("3/4", "12/8", "1/64")] == [(3, 4), (12, 8), (1, 64)]
    for text in ("", "waltz", "4", "0/4", "4/0", "-3/4", "3/4 ", "3.5/4", "10000/4"):
        with pytest.raises(OptionError, match="N/D is accepted, such as 3/4"):
            remi.parse_meter(text)


def test_what_stands_before_the_separator_and_specials_are_passed_over() -> None:
    fine = "s-9 t-35 o-0 i-0 p-60 d-12 v-24 b-1"
    words = "</s> K1_0 o-0 i-0 p-60 d-12 <sep> " + fine + " </s> <pad> <pad>"
    assert decoded_words(words) == decoded_words(fine)


def test_tempi_of_both_layouts_are_heard_where_they_stand() -> None:
    score = remi.decode(remi.from_words("s-9 t-23 o-6 i-0 p-60 d-1 v-0 b-1 s-9 t-35 o-0 i-0 p-60 d-1 v-0 b-1"))
    assert (score.tempo_tick // 40).tolist() == [0, 48]
    assert score.tempo_bpm == pytest.approx([16 * 2 ** (23 / 12), 16 * 2 ** (35 / 12)])
    score = remi.decode(remi.from_words("s-9 o-6 t-23 i-0 p-60 d-1 v-0 o-9 t-35 i-0 p-60 d-1 v-0 b-1"))
    assert (score.tempo_tick // 40).tolist() == [0, 6, 9]


def test_constants_of_the_published_encoding() -> None:
    assert (remi.VOCABULARY_SIZE, remi.SEPARATOR, remi.BAR_END) == (1253, 984, 5)
    assert (remi.ONSET, remi.INSTRUMENT, remi.PITCH, remi.DURATION, remi.VELOCITY, remi.METER, remi.TEMPO) == (
        6,
        134,
        263,
        519,
        647,
        679,
        933,
    )
    assert [remi.WORDS[remi.SEPARATOR + 1 + row - 981] for row in (981, 1065, 1094, 1124, 1190, 1248)] == [
        "I1s2_0_0",
        "I4_0",
        "C1_0",
        "S4_0_0",
        "B1s1_0",
        "TM1_5",
    ]
    values = remi.DURATION_VALUES
    assert [values[k] for k in (11, 12, 13, 24, 25, 84, 95)] == [11, 12, 14, 36, 40, 1524, 2932]
    assert remi.duration_code(np.array([0, 1, 13, 35, 3059, 3060, 10**6])).tolist() == [0, 1, 12, 23, 95, 95, 95]
    meters = {(4, 4): 9, (3, 4): 8, (2, 4): 7, (1, 4): 6, (6, 8): 19, (3, 8): 16, (12, 8): 25, (2, 2): 3}
    assert {meter: remi.meter_code(*meter) for meter in meters} == meters


def test_the_committed_dictionary_is_what_the_code_writes() -> None:
    data = (ROOT / "dicts" / "dict.remi.txt").read_bytes()
    assert data == remi.dictionary_text().encode()
    assert hashlib.sha256(data).hexdigest() == remi.DICTIONARY_SHA256
    assert len(remi.dictionary_words()) == 1249
    assert remi.is_dictionary(data.replace(b"\n", b"\r\n")) and not remi.is_dictionary(data[:-9])


def test_a_note_of_no_ticks_is_lost_and_counted_and_one_below_a_position_is_lengthened() -> None:
    score = Score.of(480, [0, 0, 480], [0, 3, 960], [60, 64, 67])
    grid = remi.grid_for(score)
    assert grid.lost == {"note without length": 1}
    assert remi.to_words(remi.encode(score)) == "s-9 t-35 o-0 i-0 p-64 d-1 v-16 o-12 i-0 p-67 d-12 v-16 b-1"
    assert remi.to_words(remi.encode(score, plain=True)).split()[5] == "d-0"
    with pytest.raises(ScoreError, match="no note") as error:
        remi.encode(Score.of(480, [0], [0], [60]))
    assert error.value.reason == "no notes"


def test_notes_far_beyond_any_music_are_left_out_and_counted() -> None:
    grid = remi.grid_of(Score.of(1, [0, 2**31 - 2], [5, 2**31 - 1], [60, 61]))
    assert len(grid.onset) == 1 and grid.lost == {"note out of reach": 1}


def test_a_meter_that_changes_inside_a_bar_counts_from_the_next() -> None:
    quarter = 96
    onset = np.array([0, 2, 4, 7]) * quarter
    score = Score.of(quarter, onset, onset + 10, [60] * 4, meters=[(0, 4, 4), (quarter, 3, 4)])
    assert [word for word in remi.to_words(remi.encode(score)).split() if word[0] in "sob"] == [
        "s-9", "o-0", "o-24", "b-1", "s-8", "o-0", "b-1", "s-8", "o-0", "b-1"
    ]  # fmt: skip


def test_trimming_carries_meter_and_tempo_into_the_first_kept_bar() -> None:
    onset = 12 * 6 + 4  # in the third bar of 3/4
    score = Score.of(12, [onset], [onset + 1], [60], tempi=[(0, 60)], meters=[(0, 3, 4)])
    assert remi.to_words(remi.encode(score)).startswith("s-8 t-23 o-4 ")
    assert remi.to_words(remi.encode(score, remi.NOTES)).startswith("b-1 b-1 o-4 ")
    assert remi.to_words(remi.encode(score, plain=True)).startswith("s-8 t-23 b-1 s-8 t-23 b-1 s-8 t-23 o-4 ")


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize("major", [True, False])
def test_every_key_comes_to_c_major_or_a_minor(tonic: int, major: bool) -> None:
    steps = np.array([0, 2, 4, 5, 7, 9, 11] if major else [0, 2, 3, 5, 7, 8, 10])
    pitch = 60 + tonic + steps
    weight = np.where(steps == 0, 10, 1)
    shift, found = remi.key_of(pitch, weight)
    assert found is major
    assert (60 + tonic + shift) % 12 == (0 if major else 9)
    assert -11 <= shift <= 0 if major else -2 <= shift <= 9


def test_normalisation_stays_inside_the_range_of_midi() -> None:
    assert remi.key_of(np.array([1, 2, 6, 9]), np.array([1, 3, 1, 2])) == (10, True)  # D major, too low to go down
    assert remi.key_of(np.array([127, 124, 120]), np.array([1, 1, 9]))[0] <= 0
    assert remi.key_of(np.array([], np.int64), np.array([], np.int64)) == (0, None)
    wide = np.array([1, 5, 8, 127])  # D flat major over the whole range: no octave fits
    assert remi.key_of(wide, np.array([5, 1, 1, 1]))[0] == 0 or wide.max() - wide.min() < 116


def test_a_piece_with_drums_alone_has_no_key() -> None:
    grid = remi.grid_of(Score.of(12, [0], [12], [40], program=DRUMS))
    assert grid.major is None and grid.shift == 0


def test_windows_of_the_words_are_whole_bars() -> None:
    score = Score.of(12, [0, 50, 100, 200], [12, 60, 110, 220], [60, 62, 64, 65])
    ids, ends = remi.encode_grid(remi.grid_of(score))
    assert (ids[ends - 1] == remi.BAR_END).all() and int((ids == remi.BAR_END).sum()) == len(ends) == 5
    assert (ids[np.concatenate(([0], ends[:-1]))] == remi.METER + 9).all()


@settings(max_examples=40, deadline=None)
@given(any_scores())
def test_music_ordered_by_program_is_recognised_where_its_layout_is_not_named(score: Score) -> None:
    ids = remi.encode(score, remi.NOTES_BY_PROGRAM)
    long_bars = (34, 8)
    named, repairs = remi.decode_with_repairs(ids, long_bars, layout=remi.NOTES_BY_PROGRAM)
    found, others = remi.decode_with_repairs(ids, long_bars)
    assert repairs == others == {}
    np.testing.assert_array_equal(found.onset, named.onset)
    np.testing.assert_array_equal(found.pitch, named.pitch)
    assert remi.is_by_program(ids) and not remi.is_by_program(remi.encode(score, remi.NOTES))


def test_an_unknown_layout_is_told_in_one_sentence() -> None:
    with pytest.raises(OptionError, match="bar-tempo, position-tempo, notes"):
        remi.encode(Score.of(12, [0], [1], [60]), "remigen")


def test_notes_of_one_pitch_and_onset_keep_their_own_lengths_and_velocities_in_a_midi_file() -> None:
    onset = np.repeat(np.arange(50) * 480, 3)
    end = onset + np.tile([160, 160, 480], 50)
    score = Score.of(480, onset, end, np.full(150, 59), np.tile([62, 78, 30], 50), DRUMS)
    words = remi.to_words(remi.encode(score))
    assert remi.to_words(remi.encode(read_midi(midi_bytes(score)))) == words


def test_words_and_ids_are_two_ways_to_write_the_same() -> None:
    ids = np.arange(remi.VOCABULARY_SIZE)
    np.testing.assert_array_equal(remi.from_words(remi.to_words(ids)), ids)
    assert remi.from_words("b-2 p-256 hello").tolist() == [remi.UNK] * 3


def test_real_music_comes_back_exactly(music_data: Path) -> None:
    pieces = 0
    with zipfile.ZipFile(music_data / "midi" / "pretrain.zip") as archive:
        for name in sorted(archive.namelist())[::40]:
            if not name.lower().endswith((".mid", ".midi")):
                continue
            score = read_midi(archive.read(name), name=name)
            for layout in remi.LAYOUTS[:2]:
                ids = remi.encode(score, layout)
                decoded, repairs = remi.decode_with_repairs(ids, layout=layout)
                assert not repairs, name
                np.testing.assert_array_equal(remi.encode(decoded, layout), ids, name)
            pieces += 1
    assert pieces > 50
