"""The result of a prompt begins with the prompt as it was, and goes on at the bar line after it."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import command_ids
from musicbert_plugin.codecs.octuple import TEMPO_VALUES, positions
from musicbert_plugin.codecs.remi_grammar import transpose
from musicbert_plugin.codecs.requests import parse_request
from musicbert_plugin.codecs.score import DRUMS, Score, bar_line_from, midi_bytes, read_midi, write_midi
from musicbert_plugin.errors import ScoreError
from musicbert_plugin.generation.continuation import prompt_bars
from musicbert_plugin.generation.prompts import Prompt, prompt_of, read_prompt

NEW = {  # two bars of C major, the second longer and slower
    "bar-tempo": "s-9 t-32 o-0 i-0 p-60 d-12 v-20 o-24 i-0 p-64 d-12 v-20 i-128 p-164 d-3 v-20 b-1 "
    "s-10 t-30 o-6 i-73 p-67 d-60 v-31 b-1 </s>",
    "position-tempo": "s-9 o-0 t-32 i-0 p-60 d-12 v-20 o-24 t-32 i-0 p-64 d-12 v-20 i-128 p-164 d-3 v-20 b-1 "
    "s-10 o-6 t-30 i-73 p-67 d-60 v-31 b-1 </s>",
    "notes": "o-0 i-0 p-60 d-12 o-24 i-0 p-64 d-12 i-128 p-164 d-3 b-1 o-6 i-73 p-67 d-60 b-1 </s>",
    "notes-by-program": "i-0 o-0 p-60 d-12 o-24 p-64 d-12 i-128 o-24 p-164 d-3 b-1 i-73 o-6 p-67 d-60 b-1 </s>",
}


def finished(prompt: Prompt, layout: str, words: str, request: str | None = None) -> Score:
    """The score of a piece that a model might have written after a prompt."""
    from musicbert_plugin.generation.generator import ConditionalGenerator, Piece

    generator: Any = ConditionalGenerator.__new__(ConditionalGenerator)
    generator.layout, generator.prompt = layout, prompt
    ids = np.concatenate([prompt.ids, remi.from_words(words)])
    prefix = None if request is None else command_ids(parse_request(request))
    return generator.finished(Piece(transpose(ids, -prompt.shift), np.zeros(len(ids), np.float32), False), prefix)


def events(score: Score, end: Fraction | int) -> tuple[list[Any], ...]:
    """Notes, tempi and time signatures of a score before a moment; times in quarter notes."""
    resolution = score.resolution
    columns = (score.program, score.pitch, score.velocity, score.onset, score.end)
    notes = [
        (*row[:3], Fraction(row[3], resolution), Fraction(row[4], resolution)) for row in np.stack(columns, 1).tolist()
    ]
    tempi = zip(score.tempo_tick.tolist(), np.round(score.tempo_bpm, 3).tolist(), strict=True)
    meters = zip(
        score.meter_tick.tolist(), score.meter_numerator.tolist(), score.meter_denominator.tolist(), strict=True
    )
    return (
        sorted(note for note in notes if note[3] < end),
        [(Fraction(tick, resolution), bpm) for tick, bpm in tempi if Fraction(tick, resolution) < end],
        [(Fraction(tick, resolution), *meter) for tick, *meter in meters if Fraction(tick, resolution) < end],
    )


def own_piece(resolution: int = 480) -> Score:
    """A rest of a bar, then notes off the grid in 3/4 at a tempo of 100, with a change of tempo inside a bar."""
    quarter = resolution
    onset = np.array([3 * quarter + 7, 4 * quarter - 3, 6 * quarter, 7 * quarter + 11])
    return Score.of(
        resolution, onset, onset + quarter + np.array([1, 5, 3, 9 * quarter]), [62, 66, 69, 38], [81, 83, 1, 127],
        [0, 0, 42, DRUMS], [0, 0, 1, 2],
        tempi=[(0, 100.0), (7 * quarter, 91.3), (99 * quarter, 60.0)],
        meters=[(0, 3, 4), (6 * quarter, 3, 4), (90 * quarter, 4, 4)],
    )  # fmt: skip


@pytest.mark.parametrize("resolution", [480, 96, 100, 1000, 31999])
@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_the_prompt_stays_note_for_note_and_the_music_goes_on_at_the_next_bar(layout: str, resolution: int) -> None:
    score = own_piece(resolution)
    result = read_midi(midi_bytes(finished(prompt_of(score, layout), layout, NEW[layout])))
    end = Fraction(9)  # the last onset is in the third bar
    assert events(result, end) == events(score, end)
    length = 3 if layout in remi.NOTES_ALONE else 4
    onsets = sorted((result.onset[result.onset >= 9 * result.resolution] / result.resolution).tolist())
    expected = [9, 11, 11, 9 + length + 0.5]
    np.testing.assert_allclose(onsets, expected, atol=1 / result.resolution)
    late = result.pitch[result.onset >= 9 * result.resolution]
    assert sorted(late.tolist()) == sorted([36, *(np.array([60, 64, 67]) - prompt_of(score, layout).shift)])
    tempi = [(tick / result.resolution, bpm) for tick, bpm in zip(result.tempo_tick, result.tempo_bpm, strict=True)]
    if layout in remi.NOTES_ALONE:
        assert len(tempi) == 2, "there are no words for a tempo"
    else:
        slower = pytest.approx(13.0 if layout == "bar-tempo" else 13.5, abs=1e-3)
        assert tempi[2:] == [(9.0, pytest.approx(100.0)), (slower, pytest.approx(91.3))], "not 101.59 and 90.51"
        assert result.meter_numerator.tolist() == [3, 3, 4, 5]
    assert bar_line_from(result, int(result.onset.max())) >= result.onset.max()


def test_a_tempo_that_rounds_to_one_of_the_prompts_is_the_prompts() -> None:
    words = NEW["bar-tempo"]
    same = finished(prompt_of(own_piece(), "bar-tempo"), "bar-tempo", words.replace("t-32", "t-30"))
    assert same.tempo_bpm.tolist() == [100.0, 91.3], "30 is the code of 91.3"
    other = finished(prompt_of(own_piece(), "bar-tempo"), "bar-tempo", words.replace("t-32", "t-40"))
    assert other.tempo_bpm.tolist() == [100.0, 91.3, TEMPO_VALUES[40], 91.3]


@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_bars_before_the_first_note_count_as_bars_of_the_prompt(layout: str) -> None:
    prompt = prompt_of(own_piece(), layout)
    assert (prompt.ids == remi.BAR_END).sum() + prompt.silent_bars == 3
    assert prompt.silent_bars == (0 if layout in remi.NOTES_ALONE else 1)


def test_new_notes_are_in_the_tracks_of_their_programs() -> None:
    result = finished(prompt_of(own_piece(), "bar-tempo"), "bar-tempo", NEW["bar-tempo"])
    assert result.program.tolist() == [0, 0, 42, DRUMS, 0, 0, DRUMS, 73]
    assert result.track.tolist() == [0, 0, 1, 2, 0, 0, 2, 3]
    assert bar_line_from(result, result.end_tick) == result.end_tick == (9 + 4 + 5) * 480
    named = replace(own_piece(), track_names=("Flute", "Cello", "Drums", "Bass"))
    both = finished(prompt_of(named, "bar-tempo"), "bar-tempo", NEW["bar-tempo"])
    assert both.track_names == ("Flute", "Cello", "Drums"), "the new track is none of the prompt's"
    tracks = mido.MidiFile(file=io.BytesIO(midi_bytes(both))).tracks
    assert [track.name for track in tracks] == ["conductor", "Flute", "Cello", "flute", "Drums"]


def test_words_continue_at_the_end_of_their_bars(tmp_path: Path) -> None:
    line = "s-9 t-32 b-1 s-9 t-32 o-0 i-0 p-62 d-12 v-20 b-1 s-9 t-32 b-1"
    (tmp_path / "prompt.txt").write_text(line + "\n")
    result = finished(read_prompt(tmp_path / "prompt.txt", "bar-tempo"), "bar-tempo", NEW["bar-tempo"])
    assert result.onset.tolist() == [4 * 480, 12 * 480, 14 * 480, 14 * 480, 16 * 480 + 240]


def test_a_piece_ends_with_its_last_bar_even_if_notes_would_sound_beyond_it() -> None:
    long = finished(Prompt(), "bar-tempo", "s-9 t-32 o-0 i-0 p-60 d-90 v-20 o-40 i-0 p-62 d-20 v-20 b-1 </s>")
    assert long.end.tolist() == [1920, 1920] and long.end_tick == 1920
    prompt = Score.of(480, [0], [9000], [60])
    both = finished(prompt_of(prompt, "bar-tempo"), "bar-tempo", "s-9 t-32 o-0 i-0 p-64 d-90 v-20 b-1 </s>")
    assert both.end.tolist() == [9000, 3840], "the prompt's notes stay"


def test_a_piece_ends_with_its_last_bar_even_if_that_is_empty() -> None:
    result = finished(Prompt(), "bar-tempo", "s-9 t-32 o-0 i-0 p-60 d-12 v-20 b-1 s-9 t-32 b-1 </s>")
    assert result.end_tick == 2 * 1920


def test_the_key_of_a_piece_is_known_where_its_request_names_the_mode() -> None:
    prompt = prompt_of(own_piece(), "bar-tempo")
    assert prompt.shift == -2, "D major"
    for request, minor in (("key=major", False), ("key=minor", True)):
        assert finished(Prompt(), "bar-tempo", NEW["bar-tempo"], request).keys == ((0, 0, minor),)
        assert finished(prompt, "bar-tempo", NEW["bar-tempo"], request).keys == ((0, 2, minor),), "D major or B minor"
    assert finished(Prompt(), "bar-tempo", NEW["bar-tempo"], "piano").keys == ()
    sharps = {-1: 7 - 12, 1: -7 + 12, 6: 6, -6: 6, -5: -1, 5: 1, -2: 2}  # D flat rather than C sharp
    for shift, number in sharps.items():
        assert finished(replace(prompt, shift=shift), "bar-tempo", "", "key=major").keys == ((0, number, False),)


@pytest.mark.parametrize("request_", [None, "key=minor"])
def test_the_key_signatures_of_a_prompt_stay(request_: str | None, tmp_path: Path) -> None:
    keys = ((0, 7, False), (700, -7, True))
    write_midi(replace(own_piece(100), keys=(*keys, (90_000, 0, False))), tmp_path / "prompt.mid")
    prompt = read_prompt(tmp_path / "prompt.mid", "bar-tempo")
    result = read_midi(midi_bytes(finished(prompt, "bar-tempo", NEW["bar-tempo"], request_)))
    assert result.resolution == 300 and result.keys == ((0, 7, False), (3 * 700, -7, True)), "not C and A minor"


def test_new_notes_strike_no_key_that_sounds_and_the_prompts_stay(tmp_path: Path) -> None:
    words = (
        "s-9 t-32 o-0 i-0 p-62 d-24 v-20 p-60 d-24 v-20 p-60 d-12 v-20 o-12 i-0 p-64 d-24 v-20 p-62 d-36 v-20 b-1 </s>"
    )
    prompt = Score.of(480, [0, 0, 960, 960], [9000, 9000, 2300, 3000], [60, 60, 64, 62])
    result = finished(prompt_of(prompt, "bar-tempo"), "bar-tempo", words)
    notes = np.stack([result.onset, result.end, result.pitch], 1).tolist()
    assert notes[:4] == [[0, 9000, 60], [0, 9000, 60], [960, 2300, 64], [960, 3000, 62]], "the prompt as it was"
    assert sorted(notes[4:]) == [[2400, 3840, 64], [3000, 3840, 62]], "no 60; a 62 when the prompt's has ended"
    write_midi(
        finished(prompt_of(prompt.select(prompt.pitch > 60), "bar-tempo"), "bar-tempo", words), tmp_path / "a.mid"
    )
    sounding = set()
    for message in mido.MidiFile(tmp_path / "a.mid").tracks[1]:
        if message.type == "note_on":
            assert message.note not in sounding, "no key is struck while it sounds"
            sounding.add(message.note)
        elif message.type == "note_off":
            sounding.remove(message.note)
    assert not sounding


@pytest.mark.parametrize("layout", remi.LAYOUTS)
def test_real_pieces_are_continued(layout: str, music_data: Path, sample: Any) -> None:
    with zipfile.ZipFile(music_data / "midi" / "pretrain.zip") as archive:
        names = [name for name in sorted(archive.namelist()) if name.lower().endswith(".mid")]
        files = [archive.read(name) for name in sample(names, 150)]
    compared = 0
    for data in files:
        try:
            score = read_midi(data)
            prompt = prompt_of(score, layout)
        except ScoreError:
            continue
        assert prompt.score is not None
        end = Fraction(prompt.score.end_tick, score.resolution)
        result = read_midi(midi_bytes(finished(prompt, layout, NEW[layout])))
        assert events(result, end) == events(read_midi(midi_bytes(prompt_bars(score, prompt.score.end_tick))), end)
        lost = positions(score.onset, score.resolution, 12) >= remi.END_OF_TIME
        assert (score.onset >= prompt.score.end_tick).sum() == lost.sum(), "no note of the prompt is cut"
        assert bar_line_from(score, prompt.score.end_tick) == prompt.score.end_tick
        first_new = result.onset[result.onset >= end * result.resolution].min()
        assert abs(first_new - end * result.resolution) <= 1, "the continuation begins at the bar line"
        compared += 1
    assert compared >= 5
