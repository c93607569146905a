"""Re-timing puts annotated beats on quarter notes and annotated bar lines on bars."""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.score import Pedal, Score, read_midi
from musicbert_plugin.errors import ScoreError
from preprocess.engine.beats import Beats, parse_beats, retimed


def score_in_seconds(onset: list[float], length: float = 0.2) -> Score:
    """Notes at these seconds, at 1,000 ticks to the second."""
    ticks = np.rint(np.array(onset) * 1000).astype(np.int64)
    return Score.of(500, ticks, ticks + round(length * 1000), 60 + np.arange(len(onset)))


def test_notes_move_linearly_between_their_beats() -> None:
    beats = Beats(np.array([0.0, 0.5, 1.5, 2.0]), np.array([True, False, False, False]))
    score = retimed(score_in_seconds([0, 0.25, 1.0, 1.5, 2.25]), beats, "a.mid")
    assert (score.onset / score.resolution).tolist() == [0, 0.5, 1.5, 2, 3.5]
    assert score.tempo_bpm.tolist() == [120.0], "of the median beat"


def test_the_pedal_moves_with_the_notes() -> None:
    beats = Beats(np.array([0.0, 0.5, 1.5, 2.0]), np.array([True, False, False, False]))
    pedal = Pedal(np.array([0, 250, 1000]), np.array([127, 0, 64], np.int16), np.zeros(3, np.int32))
    moved = retimed(replace(score_in_seconds([0, 1.0]), pedal=pedal), beats, "a.mid").pedal
    assert moved is not None and (moved.tick / 480).tolist() == [0, 0.5, 1.5]


def test_bars_begin_where_the_annotation_says() -> None:
    """A pick-up of one beat, then bars of three, three and two beats."""
    begins = np.zeros(9, bool)
    begins[[1, 4, 7]] = True
    beats = Beats(np.arange(9.0), begins)
    rows = octuple.encode(retimed(score_in_seconds(np.arange(9.0).tolist()), beats, "a.mid"))
    assert rows[:, octuple.BAR].tolist() == [0, 1, 1, 1, 2, 2, 2, 3, 3]
    assert rows[:, octuple.POSITION].tolist() == [48, 0, 16, 32, 0, 16, 32, 0, 16]
    meters = {3: octuple.meter_code(3, 4), 4: octuple.meter_code(4, 4)}
    assert rows[:, octuple.TIME_SIGNATURE].tolist() == [meters[4], *[meters[3]] * 8]


def test_notes_before_the_first_beat_get_whole_bars() -> None:
    beats = Beats(np.arange(3.0, 12.0), np.arange(9) % 4 == 0)
    rows = octuple.encode(retimed(score_in_seconds([0.5, 3, 4]), beats, "a.mid"))
    assert rows[:, octuple.BAR].tolist() == [0, 1, 1] and rows[:, octuple.POSITION].tolist() == [24, 0, 16]


def test_beats_that_miss_the_notes_fail_the_file() -> None:
    beats = Beats(np.arange(4.0) + 100, np.ones(4, bool))
    with pytest.raises(ScoreError) as error:
        retimed(score_in_seconds([0, 1, 2, 100]), beats, "a.mid")
    assert error.value.reason == "beats miss notes"
    assert str(error.value) == ("a.mid: 3 of 4 notes begin outside its beats, which go from 100.00 to 103.00 seconds.")


@pytest.mark.parametrize("text", ["", "1.0\n", "a b\n1 2\n", "0 1\n1\n", "0 1 1\n0 0 0\n", "0 nan 1\n1 0 0\n"])
def test_what_is_no_list_of_beats_fails_the_file(text: str) -> None:
    with pytest.raises(ScoreError) as error:
        parse_beats(text, "beats.txt")
    assert error.value.reason == "bad annotation" and "beats.txt" in str(error.value)


def test_onsets_of_pop909_lie_on_the_annotated_grid_and_not_on_that_of_the_ticks(music_data: Path) -> None:
    """0.26 of a sixteenth off the grid of the ticks, which is what chance gives, and 0.02 off the annotated one."""

    def distance(score: Score) -> float:
        sixteenth = score.onset / score.resolution * 4
        return float(np.abs(sixteenth - np.rint(sixteenth)).mean())

    distances = []
    with zipfile.ZipFile(music_data / "midi" / "melody.zip") as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".mid"))[::12]:
            song = re.findall(r"POP909_(\d+)", name)[0]
            score = read_midi(archive.read(name), channel_programs="ignore")
            beats = parse_beats(archive.read(f"annotations/{song}/beat_midi.txt").decode(), name)
            distances.append((distance(score), distance(retimed(score, beats, name))))
    ticks, annotated = np.mean(distances, axis=0)
    assert ticks == pytest.approx(0.26, abs=0.02) and annotated < 0.03
