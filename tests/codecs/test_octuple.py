"""The octuple codec against its specification: constants, a note-by-note reference, round trips, and wild input."""

from __future__ import annotations

import gzip
import hashlib
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.score import DRUMS, Score, midi_bytes, read_midi
from musicbert_plugin.errors import ScoreError

ROOT = Path(__file__).resolve().parents[2]


def reference_encoding(score: Score) -> np.ndarray:
    """The octuples of a score, note by note and position by position, in Python's own arithmetic."""

    def position(tick: int) -> int:
        return round(int(tick) * 16 / score.resolution)

    def code_of_meter(numerator: int, denominator: int) -> int:
        while denominator > 64 and numerator % 2 == 0 and denominator % 2 == 0:
            numerator, denominator = numerator // 2, denominator // 2
        while numerator > 2 * denominator:
            factor = 2
            while numerator % factor:
                factor += 1
            numerator //= factor
        codes = [(j, 2**i) for i in range(7) for j in range(1, 2 * 2**i + 1)]
        return codes.index((numerator, denominator))

    lower_edges = [16 * (2**octave - 1) + j * 2**octave for octave in range(8) for j in range(16)]
    total = min(max(position(t) for t in score.onset) + 1, 65536)
    meters, tempi = [9] * total, [35] * total
    events = list(zip(score.meter_tick, score.meter_numerator, score.meter_denominator, strict=True))
    for i, (tick, numerator, denominator) in enumerate(events):
        stop = position(events[i + 1][0]) if i + 1 < len(events) else total
        for p in range(position(tick), min(stop, total)):
            meters[p] = code_of_meter(int(numerator), int(denominator))
    changes = list(zip(score.tempo_tick, score.tempo_bpm, strict=True))
    for i, (tick, bpm) in enumerate(changes):
        stop = position(changes[i + 1][0]) if i + 1 < len(changes) else total
        for p in range(position(tick), min(stop, total)):
            tempi[p] = round(12 * math.log2(min(max(bpm, 16), 256) / 16))
    sizes = [(j, 2**i) for i in range(7) for j in range(1, 2 * 2**i + 1)]
    places, bar, at, length = [], -1, 0, 0
    for p in range(total):
        if at == length:
            numerator, denominator = sizes[meters[p]]
            bar, at, length = bar + 1, 0, max(numerator * 64 // denominator, 1)
        places.append((bar, at))
        at += 1
    rows = []
    for onset, end, program, pitch, velocity in zip(
        score.onset, score.end, score.program, score.pitch, score.velocity, strict=True
    ):
        start = position(onset)
        if start >= 65536:
            continue
        duration = max(code for code, edge in enumerate(lower_edges) if edge <= position(end) - start)
        drums = program == DRUMS
        rows.append(
            (
                *places[start],
                int(program),
                int(pitch) + 128 * drums,
                duration,
                int(velocity) // 4,
                meters[start],
                tempi[start],
            )
        )
    return np.array(sorted(rows), np.int32)


METERS = [(4, 4), (3, 4), (2, 4), (6, 8), (7, 8), (1, 1), (5, 16), (9, 4), (11, 4), (17, 8), (4, 128), (64, 64)]


@st.composite
def any_scores(draw: st.DrawFn) -> Score:
    """Scores of any kind: overlaps, duplicates, events anywhere, odd resolutions."""
    resolution = draw(st.sampled_from([1, 7, 24, 96, 97, 480, 1024]))
    n = draw(st.integers(1, 12))
    ticks = st.integers(0, 24 * resolution)
    onset = np.array(draw(st.lists(ticks, min_size=n, max_size=n)))
    length = np.array(draw(st.lists(st.integers(0, 300 * resolution), min_size=n, max_size=n)))

    def column(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=n, max_size=n))

    meters = draw(st.lists(st.tuples(ticks, st.sampled_from(METERS)), max_size=4))
    return Score.of(
        resolution, onset, onset + length, column(0, 127), column(1, 127), column(0, 128),
        tempi=draw(st.lists(st.tuples(ticks, st.floats(1, 1000)), max_size=4)),
        meters=[(tick, *meter) for tick, meter in meters],
    )  # fmt: skip


@st.composite
def well_formed_scores(draw: st.DrawFn) -> Score:
    """Scores whose notes of one program and pitch do not overlap and whose meters change only at bar lines."""
    resolution = draw(st.sampled_from([16, 24, 96, 480, 960]))
    per_position = resolution / 16
    bars = draw(st.lists(st.sampled_from([(4, 4), (3, 4), (6, 8), (5, 16), (2, 2), (64, 64)]), min_size=1, max_size=6))
    lengths = [n * 64 // d for n, d in bars]
    lines = np.concatenate(([0], np.cumsum(lengths)))
    at = lambda p: int(math.ceil(p * per_position))  # noqa: E731  (the first tick that rounds to position p or later)
    notes = []
    for program, pitch in draw(
        st.lists(st.tuples(st.integers(0, 128), st.integers(0, 127)), min_size=1, max_size=5, unique=True)
    ):
        borders = sorted(draw(st.sets(st.integers(0, int(lines[-1]) - 1), min_size=1, max_size=8)))
        for start, stop in zip(borders, [*borders[1:], int(lines[-1])], strict=True):
            end = draw(st.integers(at(start), max(at(start), at(stop))))
            notes.append((at(start), end, pitch, draw(st.integers(1, 127)), program))
    onset, end, pitch, velocity, program = (list(column) for column in zip(*notes, strict=True))
    tempi = draw(st.lists(st.tuples(st.integers(0, at(int(lines[-1]))), st.floats(10, 400)), max_size=4))
    return Score.of(
        resolution, onset, end, pitch, velocity, program, tempi=tempi,
        meters=[(at(int(line)), *meter) for line, meter in zip(lines[:-1], bars, strict=True)],
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(any_scores())
def test_encoding_equals_a_walk_over_every_position(score: Score) -> None:
    np.testing.assert_array_equal(octuple.encode(score), reference_encoding(score))


@settings(max_examples=150, deadline=None)
@given(well_formed_scores())
def test_encode_decode_encode_is_exact_for_well_formed_scores(score: Score) -> None:
    first = octuple.encode(score)
    decoded, repairs = octuple.decode_with_repairs(first)
    assert not repairs
    np.testing.assert_array_equal(octuple.encode(decoded), first)
    np.testing.assert_array_equal(octuple.encode(read_midi(midi_bytes(decoded))), first)


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(
        np.int64,
        st.tuples(st.integers(0, 30), st.just(8)),
        elements=st.one_of(st.integers(-3, 300), st.integers(-(2**63), 2**63 - 1)),
    )
)
def test_decoding_never_fails_and_gives_a_score_that_can_be_written(octuples: np.ndarray) -> None:
    score, repairs = octuple.decode_with_repairs(octuples)
    assert len(score) == len(octuples) - repairs["bar out of reach"]
    data = midi_bytes(score)
    if len(score):
        assert len(read_midi(data)) <= len(score)


def test_repairs_are_counted_by_kind() -> None:
    rows = np.array(
        [
            [0, 0, 0, 60, 8, 16, 9, 35],  # fine
            [0, 127, 0, 60, 8, 16, 9, 35],  # a 4/4 bar has 64 positions
            [0, 0, 128, 60, 8, 16, 9, 35],  # a drum with a melodic pitch
            [0, 0, 0, 300, 8, 99, 9, 35],  # pitch and velocity out of range; then a melodic program with a drum's pitch
            [70000, 0, 0, 60, 8, 16, 9, 35],
        ]
    )
    score, repairs = octuple.decode_with_repairs(rows)
    assert repairs == {
        "bar out of reach": 1,
        "pitch out of range": 1,
        "velocity out of range": 1,
        "drum pitch": 2,
        "position beyond the bar": 1,
    }
    assert len(score) == 4


def test_constants_of_the_published_encoding() -> None:
    assert octuple.FIELD_OFFSETS == (4, 260, 388, 517, 773, 901, 933, 1187)
    assert (octuple.VOCABULARY_SIZE, octuple.MASK) == (1236, 1236)
    codes = {(1, 1): 0, (2, 1): 1, (2, 2): 3, (3, 4): 8, (4, 4): 9, (5, 4): 10, (6, 8): 19, (7, 8): 20, (12, 8): 25}
    codes[128, 64] = 253
    assert {meter: octuple.meter_code(*meter) for meter in codes} == codes
    assert [octuple.reduce_meter(*m) for m in [(9, 4), (10, 4), (11, 4), (17, 8), (34, 8), (4, 128)]] == [
        (3, 4), (5, 4), (1, 4), (1, 8), (1, 8), (2, 64),
    ]  # fmt: skip
    for code, (n, d) in enumerate(zip(octuple.METER_NUMERATORS, octuple.METER_DENOMINATORS, strict=True)):
        assert octuple.meter_code(n, d) == code
    lengths = np.array([0, 15, 16, 17, 18, 47, 48, 4079, 4080, 10**6])
    assert octuple.duration_code(lengths).tolist() == [0, 15, 16, 16, 17, 31, 32, 127, 127, 127]
    assert octuple.DURATION_VALUES[127] == 3952
    assert octuple.tempo_code(np.array([1, 16, 120, 256, 9999])).tolist() == [0, 0, 35, 48, 48]


def test_the_committed_dictionary_is_what_the_code_writes() -> None:
    data = (ROOT / "dicts" / "dict.octuple.txt").read_bytes()
    assert data == octuple.dictionary_text().encode()
    assert hashlib.sha256(data).hexdigest() == octuple.DICTIONARY_SHA256
    assert len(octuple.dictionary_lines()) == 1232
    assert octuple.is_dictionary(data) and not octuple.is_dictionary(data[:-12])


def test_a_meter_outside_the_vocabulary_fails_the_piece() -> None:
    score = Score.of(96, [0], [10], [60], meters=[(0, 3, 128)])
    with pytest.raises(ScoreError, match="3/128") as error:
        octuple.encode(score)
    assert error.value.reason == "unsupported meter"


def test_a_meter_change_inside_a_bar_leaves_the_bar_and_marks_its_later_notes() -> None:
    quarter = 96
    onset = np.array([0, 2, 4, 7]) * quarter  # 4/4 turns to 3/4 on the second beat of bar 0
    score = Score.of(quarter, onset, onset + 10, [60] * 4, meters=[(0, 4, 4), (quarter, 3, 4)])
    rows = octuple.encode(score)
    assert rows[:, octuple.BAR].tolist() == [0, 0, 1, 2]
    assert rows[:, octuple.POSITION].tolist() == [0, 32, 0, 0]
    assert rows[:, octuple.TIME_SIGNATURE].tolist() == [9, 8, 8, 8]


def test_half_positions_round_to_even() -> None:
    score = Score.of(32, [1, 3, 5], [1, 3, 5], [60, 61, 62])  # half a position, one and a half, two and a half
    assert octuple.encode(score)[:, octuple.POSITION].tolist() == [0, 2, 2]


def test_the_published_encoding_leaves_out_notes_after_its_last_position() -> None:
    score = Score.of(16, [0, 65535, 65536], [5, 65540, 65540], [60, 61, 62])
    assert octuple.encode(score, octuple.PUBLISHED_END)[:, octuple.PITCH].tolist() == [60, 61]
    with pytest.raises(ScoreError, match="65536"):
        octuple.encode(Score.of(16, [65536], [65537], [60]), octuple.PUBLISHED_END)


def test_notes_beyond_the_published_encodings_end_are_encoded_and_decoded() -> None:
    onset = np.array([0, 65535, 65536, 100_000, octuple.REACH - 1])
    score = Score.of(16, onset, onset + 4, [60, 61, 62, 63, 64])
    rows = octuple.encode(score)
    assert (rows[:, octuple.BAR] * 64 + rows[:, octuple.POSITION]).tolist() == onset.tolist()
    decoded, repairs = octuple.decode_with_repairs(rows)
    assert not repairs and (decoded.onset // octuple.TICKS_PER_POSITION).tolist() == onset.tolist()
    np.testing.assert_array_equal(octuple.encode(read_midi(midi_bytes(decoded))), rows)
    parts = octuple.split_bars(rows)
    assert sum(map(len, parts)) == 5 and max(part[:, octuple.BAR].max() for part in parts) < 256


def test_a_few_bytes_of_midi_cannot_ask_for_gigabytes_of_bars() -> None:
    last = 2**31 - 1
    rows = octuple.encode(Score.of(1, [0, last], [1, last], [60, 61], meters=[(0, 1, 64)]))
    assert rows[:, octuple.PITCH].tolist() == [60]
    with pytest.raises(ScoreError, match="4194304"):
        octuple.encode(Score.of(1, [last], [last], [60]))


def test_decoding_skips_what_lies_beyond_all_music() -> None:
    row = [0, 0, 0, 60, 8, 16, 253, 35]  # bars of two whole notes
    rows = np.array([row, [2**15, *row[1:]], [2**15 + 1, *row[1:]], [2**22 - 1, *row[1:]], [2**22, *row[1:]]])
    score, repairs = octuple.decode_with_repairs(rows)
    assert (len(score), repairs) == (1, {"bar out of reach": 4})
    assert len(octuple.decode(np.array([row, [2**15 - 1, *row[1:]]]))) == 2


def test_duplicate_notes_stay() -> None:
    assert len(octuple.encode(Score.of(16, [0, 0], [5, 5], [60, 60]))) == 2


def test_a_bar_is_written_with_the_meter_of_most_of_its_notes_and_empty_bars_with_their_predecessors() -> None:
    row = [0, 0, 0, 60, 8, 16, 8, 35]
    rows = np.array([row, [1, 0, 0, 60, 8, 16, 9, 35], [1, 1, 0, 60, 8, 16, 8, 35], [1, 2, 0, 60, 8, 16, 8, 35]])
    rows = np.vstack([rows, [[4, 0, 0, 60, 8, 16, 9, 35]]])
    score = octuple.decode(rows)
    assert list(zip(score.meter_tick // 480, score.meter_numerator, strict=True)) == [(0, 3), (12, 4)]


def test_the_tempo_at_a_position_is_the_rounded_mean_of_its_codes() -> None:
    rows = np.array([[0, 0, 0, p, 8, 16, 9, code] for p, code in ((60, 30), (62, 31), (64, 33))])
    assert octuple.decode(rows).tempo_bpm == pytest.approx([16 * 2 ** (31 / 12)])


def test_parts_hold_at_most_256_bars_counted_from_their_beginning() -> None:
    rows = np.zeros((5, 8), np.int32)
    rows[:, octuple.BAR] = [0, 255, 256, 300, 1030]
    parts = octuple.split_bars(rows)
    assert [part[:, octuple.BAR].tolist() for part in parts] == [[0, 255], [0, 44], [6]]
    assert octuple.split_bars(rows[:2])[0] is not None and len(octuple.split_bars(rows[:2])) == 1


@settings(max_examples=60, deadline=None)
@given(any_scores())
def test_words_and_ids_give_the_octuples_back(score: Score) -> None:
    rows = octuple.encode(score)
    line = octuple.to_words(rows)
    back, dropped = octuple.from_words("<s> " * 8 + line + " </s>" * 7)
    np.testing.assert_array_equal(back, rows)
    assert dropped == 0
    ids = octuple.frame(octuple.split_bars(rows)[0])
    back, dropped = octuple.unframe(ids)
    np.testing.assert_array_equal(back, octuple.split_bars(rows)[0])
    assert dropped == 0
    dictionary = ["<s>", "<pad>", "</s>", "<unk>"] + [entry.split()[0] for entry in octuple.dictionary_lines()]
    assert " ".join(dictionary[i] for i in ids[8:-8]) == octuple.to_words(back)


def test_broken_sequences_of_words_lose_only_the_broken_octuples() -> None:
    good = "<0-1> <1-2> <2-3> <3-4> <4-5> <5-6> <6-7> <7-8>"
    rows, dropped = octuple.from_words(f"nonsense {good} <0-1> <1-2> <mask> {good} <0-> <9-1> <0--1> <0-1")
    assert rows.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]] * 2
    assert dropped == 8
    ids = octuple.frame(rows)
    rows, dropped = octuple.unframe(np.concatenate([ids[:10], [octuple.MASK], ids[10:], [1, 3]]))
    assert (len(rows), dropped) == (1, 10)
    assert octuple.from_words("")[0].shape == (0, 8)


def test_values_outside_the_vocabulary_are_never_written_as_ids() -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        octuple.frame(np.array([[256, 0, 0, 0, 0, 0, 0, 0]]))


def test_the_expressive_performances_equal_their_reference_octuples(music_data: Path) -> None:
    folder = music_data / "expression"
    compared = 0
    with zipfile.ZipFile(folder / "midi.zip") as archive:
        for split in ("train", "valid"):
            names = (folder / "octuple" / f"{split}.id").read_text().split()
            with gzip.open(folder / "octuple" / f"{split}.txt.gz", "rt") as lines:
                for name, line in zip(names, lines, strict=True):
                    rows = octuple.encode(read_midi(archive.read(f"midi/{name}.mid"), name=name))[:1000]
                    words = octuple.to_words(rows[rows[:, octuple.BAR] < 256])
                    assert "<s> " * 8 + words + " </s>" * 7 == line.rstrip("\n"), name
                    compared += 1
    assert compared == 1189


def test_the_codecs_load_neither_torch_nor_fairseq() -> None:
    code = (
        "import sys, musicbert_plugin, musicbert_plugin.codecs.octuple; "
        "print([name for name in ('torch', 'fairseq') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
