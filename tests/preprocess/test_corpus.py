"""Real scores from music21's corpus: which are taken, that a second run keeps what is there, and where bars begin."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("music21", reason="the corpus is an extra (requirements-quickstart.txt)")

from benchmarks.corpus_bars import bars_agree, measures
from musicbert_plugin.codecs import octuple, remi
from musicbert_plugin.codecs.score import read_midi
from musicbert_plugin.errors import OptionError, ScoreError
from preprocess.corpus import bars_of, corpus_pieces, main, set_bars, write_piece


def test_a_count_takes_pieces_spread_over_a_collection() -> None:
    everything = [path for _, path in corpus_pieces(["bach"])]
    some = [path for _, path in corpus_pieces(["bach:5"])]
    assert len(everything) > 350 and len({path.stem for path in everything}) == len(everything)
    assert len(some) == 5 and set(some) <= set(everything)


def test_unknown_collections_and_counts_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="'nobody'"):
        corpus_pieces(["nobody"])
    with pytest.raises(OptionError, match="bach:none"):
        corpus_pieces(["bach:none"])
    assert main(["--dest", str(tmp_path), "--collections", "nobody"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_chorale_becomes_midi_once(tmp_path: Path) -> None:
    (_, source), *_ = corpus_pieces(["bach:1"])
    target = tmp_path / "chorale.mid"
    assert write_piece((source, target)) == ""
    score = read_midi(target)
    assert len(score) > 50 and len(set(score.track.tolist())) >= 4
    target.write_bytes(b"kept")
    assert write_piece((source, target)) == ""
    assert target.read_bytes() == b"kept"


def test_files_of_a_version_that_placed_bar_lines_otherwise_are_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dest", str(tmp_path), "--collections", "bach:2", "--jobs", "1"]
    files = [tmp_path / "bach" / f"{path.stem}.mid" for _, path in corpus_pieces(["bach:2"])]
    other = tmp_path / "bach" / "mine.mid"
    other.parent.mkdir()
    for file in (files[0], other):
        file.write_bytes(b"old")
    assert main(arguments) == 0
    assert "corpus: 1 files of an earlier version" in capsys.readouterr().err
    assert all(len(read_midi(file)) for file in files) and other.read_bytes() == b"old"
    files[0].write_bytes(b"kept")
    assert main(arguments) == 0
    assert "earlier version" not in capsys.readouterr().err and files[0].read_bytes() == b"kept"


def test_a_score_that_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    source = tmp_path / "broken.krn"
    source.write_text("nonsense")
    reason = write_piece((source, tmp_path / "out.mid"))
    assert reason.startswith("broken.krn: ")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.krn"]


# ----------------------------------------------------------------------------------------------------------- bar lines


def bars(*lengths: float, meter: tuple[int, int] = (4, 4)) -> tuple[float, list[tuple[float, int, int]]]:
    """Rest and bars (onset, numerator, denominator) of measures of these lengths in quarter notes."""
    rest, found = bars_of([(Fraction(length), meter) for length in lengths])
    return float(rest), [(float(onset), *signature) for onset, signature in found]


def test_a_pickup_becomes_a_whole_bar_that_begins_with_a_rest() -> None:
    assert bars(4, 4) == (0, [(0, 4, 4), (4, 4, 4)])
    assert bars(1, 4, 3) == (3, [(0, 4, 4), (4, 4, 4), (8, 4, 4)]), "and a short last measure stays a bar"
    assert bars(0.5, 3, 2.5, meter=(6, 8)) == (2.5, [(0, 6, 8), (3, 6, 8), (6, 6, 8)])


def test_a_bar_that_a_repeat_mark_splits_is_one_bar() -> None:
    assert bars(1, 4, 3, 1, 4, 3, 1, 3) == (3, [(onset, 4, 4) for onset in (0, 4, 8, 12, 16, 20)])
    assert bars(4, 1, 1, 2, 4) == (0, [(0, 4, 4), (4, 4, 4), (8, 4, 4)])


def test_any_other_measure_of_its_own_length_has_a_time_signature_of_its_own() -> None:
    assert bars(2, 1.5, 2, meter=(2, 4)) == (0, [(0, 2, 4), (2, 3, 8), (3.5, 2, 4)])
    assert bars(2, 1.5, 0.75, 2, meter=(2, 4)) == (0, [(0, 2, 4), (2, 3, 8), (3.5, 3, 16), (4.25, 2, 4)])
    assert bars(4, 10, 4) == (0, [(0, 4, 4), (4, 10, 4), (14, 4, 4)])
    assert bars(4, 3, 3, 1) == (0, [(0, 4, 4), (4, 3, 4), (7, 4, 4)]), "only measures that add up are joined"
    new_meter = [(Fraction(3), (4, 4)), (Fraction(4), (4, 4)), (Fraction(3), (4, 4)), (Fraction(1), (3, 4))]
    onsets = [(float(onset), *meter) for onset, meter in bars_of(new_meter)[1]]
    assert onsets == [(0, 4, 4), (4, 4, 4), (8, 3, 4), (11, 3, 4)], "a new time signature begins a bar"


def test_a_length_that_no_time_signature_states_is_refused_with_its_measure() -> None:
    with pytest.raises(ScoreError, match="measure 2 \\(repeats counted\\) has a length of 4/3 quarter notes"):
        bars_of([(Fraction(4), (4, 4)), (Fraction(4, 3), (4, 4)), (Fraction(4), (4, 4))])


@given(
    st.lists(
        st.tuples(
            st.integers(1, 40).map(lambda eighths: Fraction(eighths, 2)), st.sampled_from([(4, 4), (3, 4), (6, 8)])
        ),
        min_size=1,
        max_size=30,
    )
)
def test_a_bar_begins_with_every_measure_but_inside_a_whole_bar(
    score: list[tuple[Fraction, tuple[int, int]]],
) -> None:
    rest, found = bars_of(score)
    lines = {onset: Fraction(4 * n, d) for onset, (n, d) in found}
    start = rest
    for number, (length, meter) in enumerate(score):
        if start not in lines and number:
            before = max(line for line in lines if line < start)
            assert lines[before] == Fraction(4 * meter[0], meter[1]) and before + lines[before] >= start + length
        start += length
    ends = [onset + length for onset, length in lines.items()]
    assert [*lines][1:] == ends[:-1], "a bar lasts until the next"


PIECES = {
    "a pickup, and repeats inside a bar": ("bach", "bwv101.7"),
    "no pickup": ("bach", "bwv259"),
    "a repeat to a whole first bar": ("bach", "bwv140.7"),
    "compound time": ("ryansMammoth", "LarryGrogansJig"),
    "repeats of strains that do not add up to bars": ("ryansMammoth", "BallAndPinHornpipe"),
    "a short measure behind the pickup": ("ryansMammoth", "CaledonianClubStrathspey"),
    "bars of two whole notes": ("palestrina", "Agnus"),
}


@pytest.mark.parametrize("kind", PIECES)
def test_bar_lines_of_both_codecs_are_the_measures_of_music21(tmp_path: Path, kind: str) -> None:
    collection, stem = PIECES[kind]
    (source,) = (path for _, path in corpus_pieces([collection]) if path.stem == stem)
    target = tmp_path / "piece.mid"
    assert write_piece((source, target)) == ""
    score = read_midi(target)
    starts, first_note, _ = measures(source)
    moved = Fraction(int(score.onset.min()), score.resolution) - first_note
    grid = remi.grid_of(score, trim=False, normalise=False)
    lines = [Fraction(line, remi.POSITIONS_PER_QUARTER) for line in grid.bar_start[:-1].tolist()]
    assert bars_agree(starts, moved, lines, Fraction(int(score.onset.max()), score.resolution))
    notes = octuple.encode(score)
    quarter = octuple.POSITIONS_PER_QUARTER
    onset = sorted((octuple.positions(score.onset, score.resolution)).tolist())
    begins = {
        Fraction(at - int(position), quarter) for at, position in zip(onset, notes[:, octuple.POSITION], strict=True)
    }
    assert begins <= set(lines)


def test_a_chorale_with_a_pickup_begins_on_beat_four_and_has_one_meter(tmp_path: Path) -> None:
    (source,) = (path for _, path in corpus_pieces(["bach"]) if path.stem == "bwv101.7")
    assert write_piece((source, tmp_path / "chorale.mid")) == ""
    score = read_midi(tmp_path / "chorale.mid")
    assert score.onset.min() == 3 * score.resolution
    assert (score.meter_tick.tolist(), score.meter_numerator.tolist()) == ([0], [4])
    assert score.tempo_tick[0] == 0


def midi_of(*measures: tuple[list[Any], float]) -> Any:
    """music21's MIDI file of a part whose measures hold these elements, and quarter notes of C up to these lengths."""
    from music21 import midi, note, stream

    part = stream.Part()
    for elements, length in measures:
        measure = stream.Measure()
        for element in elements:
            measure.insert(0, element)
        measure.append(note.Note("C4", quarterLength=length))
        part.append(measure)
    score = stream.Score([part])
    return midi.translate.streamToMidiFile(score)


def test_what_stands_before_the_music_stays_at_the_start_and_the_rest_moves(tmp_path: Path) -> None:
    from music21 import meter, tempo

    file = midi_of(
        ([meter.TimeSignature("3/4"), tempo.MetronomeMark(number=90)], 1),
        ([tempo.MetronomeMark(number=60)], 3),
        ([meter.TimeSignature("2/4")], 2),
    )
    set_bars(file, Fraction(2), [(Fraction(0), (3, 4)), (Fraction(3), (3, 4)), (Fraction(6), (2, 4))])
    score = read_midi(file.writestr())
    quarters = score.resolution
    assert (score.onset / quarters).tolist() == [2, 3, 6] and (score.end / quarters).tolist() == [3, 6, 8]
    assert (score.tempo_tick / quarters).tolist() == [0, 3] and score.tempo_bpm.round().tolist() == [90, 60]
    assert (score.meter_tick / quarters).tolist() == [0, 6] and score.meter_numerator.tolist() == [3, 2]


def test_a_file_of_several_pieces_is_named_with_its_reason(tmp_path: Path) -> None:
    source = tmp_path / "book.abc"
    source.write_text("X:1\nT:one\nM:4/4\nL:1/4\nK:C\nCDEF|\n\nX:2\nT:two\nM:4/4\nL:1/4\nK:C\nFEDC|\n")
    assert "a file of 2 pieces" in write_piece((source, tmp_path / "out.mid"))
