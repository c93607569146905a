"""Phrases of four bars, and pairs of them: the true ones of a song, and false ones from others."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.score import DRUMS, Score, midi_bytes, write_midi
from musicbert_plugin.data.dataset_folder import read_config
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import LabelledItems, read_pairs
from musicbert_plugin.errors import ScoreError
from preprocess.label_kinds.phrases import (
    MELODY,
    OTHER,
    PhrasesSpec,
    SplitPhrases,
    phrases_of,
    query_pairs,
    skyline,
    training_pairs,
)
from preprocess.label_kinds.tokens import octuples_of

Build = Callable[..., tuple[int, str]]
Items = Callable[[Path, str], LabelledItems]


def song(seed: int, bars: int = 17, meters: tuple = ()) -> Score:
    """A melody above chords in quarter notes, and drums, on a grid of eighths."""
    random = np.random.default_rng(seed)
    beats = np.arange(4 * bars) * 480
    onset = np.concatenate([beats + 240, beats, beats, beats])
    pitch = np.concatenate([random.integers(low, low + 12, len(beats)) for low in (72, 48, 60, 36)])
    program = np.repeat([0, 0, 0, DRUMS], len(beats))
    return Score.of(480, onset, onset + 230, pitch, 99, program, np.repeat([0, 1, 1, 2], len(beats)), meters=meters)


def test_a_phrase_holds_four_bars_on_the_grid_of_sixteenths_and_all_else_is_constant() -> None:
    onset = np.array([0, 125, 1900, 7679, 7690, 9000, 9600, 14000])  # two of them begin in bar 3 and round to bar 4
    score = Score.of(480, onset, onset + 100, 60 + np.arange(8), [3, 90, 127, 50, 60, 1, 2, 3], 40)
    found = phrases_of(score, np.ones(8, bool), (MELODY,))
    assert found.number.tolist() == [1], "the first four bars have three notes, too few for a phrase"
    (rows,) = found.items
    assert rows[:, octuple.BAR].tolist() == [0, 0, 0, 1, 3]
    assert rows[:, octuple.POSITION].tolist() == [0, 0, 44, 0, 20]
    assert set(rows[:, octuple.PROGRAM]) == {80} and set(rows[:, octuple.VELOCITY]) == {20}
    assert set(rows[:, octuple.TEMPO]) == {35} and set(rows[:, octuple.TIME_SIGNATURE]) == {9}


def test_notes_are_cut_at_the_end_of_their_phrase_and_have_a_sixteenth_at_least() -> None:
    onset = np.array([0, 480, 960, 7200])
    score = Score.of(480, onset, [10, 20000, 960, 7800], [60, 62, 64, 65])
    (rows,) = phrases_of(score, np.ones(4, bool), (MELODY,)).items
    durations = octuple.DURATION_VALUES[rows[:, octuple.DURATION]]
    assert durations.tolist() == [4, 240, 4, 16]


def test_of_notes_that_share_onset_and_pitch_the_longest_is_kept() -> None:
    score = Score.of(480, [0, 0, 480, 960, 7000], [240, 960, 500, 1000, 7100], [60, 60, 62, 64, 65])
    (rows,) = phrases_of(score, np.ones(5, bool), (MELODY,)).items
    assert len(rows) == 4 and octuple.DURATION_VALUES[rows[0, octuple.DURATION]] == 32


def test_phrases_lie_in_stretches_of_four_four() -> None:
    """Five bars of 4/4, one of 3/4, and eleven of 4/4: one phrase, and two that follow each other."""
    score = song(1, bars=16, meters=((0, 4, 4), (5 * 1920, 3, 4), (5 * 1920 + 1440, 4, 4)))
    found = phrases_of(score, score.track == 0, (MELODY, OTHER))
    assert found.part.tolist() == [MELODY, OTHER] * 3
    numbers = found.number[::2].tolist()
    assert numbers[1] - numbers[0] > 1 and numbers[2] - numbers[1] == 1
    first = found.items[2]  # of the second phrase: its first melody note is an eighth after the bar line
    assert first[0, octuple.BAR] == 0 and first[0, octuple.POSITION] == 8
    waltz = song(1, meters=((0, 3, 4),))
    assert not phrases_of(waltz, waltz.track == 0, (MELODY,)).items


def test_the_skyline_is_what_no_higher_note_covers() -> None:
    onset, end = np.array([0, 0, 2, 4, 4, 8]), np.array([4, 8, 4, 5, 5, 9])
    pitch = np.array([60, 50, 55, 48, 52, 40])
    assert skyline(onset, end, pitch).tolist() == [True, False, False, False, True, True]
    assert skyline(onset[:0], end[:0], pitch[:0]).tolist() == []


def test_without_a_named_track_the_melody_is_the_skyline() -> None:
    data = midi_bytes(song(3))
    piece = PhrasesSpec(task="accompaniment").read_piece(data, "a.mid")
    assert piece.sidecars["by_rule"] and piece.sidecars["part"].tolist() == [MELODY, OTHER] * 4
    by_name = PhrasesSpec(task="accompaniment", melody=("lead",)).read_piece(data, "a.mid")
    assert by_name.sidecars["by_rule"]
    with pytest.raises(ScoreError) as error:
        PhrasesSpec(no_skyline=True).read_piece(data, "a.mid")
    assert error.value.reason == "no melody" and "no track is called melody" in str(error.value)
    with pytest.raises(ScoreError) as error:
        PhrasesSpec(no_skyline=False).read_piece(midi_bytes(song(3, bars=3)), "a.mid")
    assert error.value.reason == "no phrases"


def split_of(songs: int, phrases: int = 6, keys: int = 3) -> SplitPhrases:
    """Songs of a melody and an accompaniment for every four bars; two songs are a unit."""
    song, number, part = np.meshgrid(np.arange(songs), np.arange(phrases), [MELODY, OTHER], indexing="ij")
    columns = part.ravel(), number.ravel(), song.ravel()
    return SplitPhrases(*columns, columns[2] // 2, columns[2] % keys - 1)


@pytest.mark.parametrize("task", ["completion", "accompaniment"])
def test_every_true_pair_has_a_false_one_of_another_song_half_of_them_in_its_key(task: str) -> None:
    phrases = split_of(40)
    rows = training_pairs(phrases, task, np.random.default_rng(0))
    assert [label for _, _, label, _ in rows] == [1, 0] * (len(rows) // 2)
    assert len(rows) == 2 * 40 * (5 if task == "completion" else 6)
    shared = []
    for first, second, label, query in rows:
        assert query == "" and phrases.part[first] == MELODY
        assert phrases.part[second] == (MELODY if task == "completion" else OTHER)
        if label:
            assert phrases.song[first] == phrases.song[second]
            assert phrases.number[second] - phrases.number[first] == (task == "completion")
        else:
            assert phrases.unit[first] != phrases.unit[second]
            if phrases.key[first] >= 0:
                shared.append(phrases.key[first] == phrases.key[second])
    assert 0.5 < np.mean(shared) < 0.8, "a half on purpose, and a third of the other half by chance"


def test_a_query_has_one_true_candidate_among_fifty() -> None:
    phrases = split_of(30)
    rows = query_pairs(phrases, "completion", np.random.default_rng(0), 20)
    groups = defaultdict(list)
    for first, second, label, query in rows:
        groups[query].append((first, second, label))
    assert len(groups) == 20
    for group in groups.values():
        assert len(group) == 50 and sum(label for *_, label in group) == 1
        assert len({second for _, second, _ in group}) == 50 and len({first for first, *_ in group}) == 1
        units = [phrases.unit[second] for _, second, label in group if not label]
        assert phrases.unit[group[0][0]] not in units
    few = query_pairs(split_of(4), "completion", np.random.default_rng(0), 0)
    assert set(Counter(row[3] for row in few).values()) == {1 + 2 * 6}, "all that other songs have"


def test_a_dataset_of_phrases_names_its_pairs(label_build: Build, labelled_items: Items, tmp_path: Path) -> None:
    source, keys, dest = tmp_path / "midi", tmp_path / "keys", tmp_path / "dest"
    for folder in (source, keys):
        folder.mkdir()
    for number in range(9):
        write_midi(song(number), source / f"{number}.mid")
        (keys / f"{number}.txt").write_text("0 9 D:maj\n" if number else "0 9 D:maj\n9 12 E:maj\n")
    write_midi(song(1, meters=((0, 3, 4),)), source / "waltz.mid")
    splits = [f"{number}.mid,{('train', 'valid', 'test')[number % 3]}" for number in range(9)]
    (tmp_path / "splits.csv").write_text("\n".join(["file,split", *splits, "waltz.mid,train", ""]))
    options = ("--task", "accompaniment", "--key", "{}.txt", "--annotations-in", keys)
    options += ("--splits", tmp_path / "splits.csv")
    status, said = label_build("phrases", source, dest, *options)
    assert status == 0, said
    assert "9 files have no track of that name; their melody is the skyline" in said
    assert read_config(dest / "config.json")["phrases"]["second_bar"] == 0
    for split in ("train", "valid", "test"):
        items = labelled_items(dest, split)
        pairs = read_pairs(dest, split, len(items))
        assert set(items.labels["part"]) == {"melody", "accompaniment"}
        assert set(items.labels["key"]) <= {"D:maj", ""}
        same = np.array([items.pieces[a] == items.pieces[b] for a, b in zip(pairs.first, pairs.second, strict=True)])
        np.testing.assert_array_equal(same, pairs.label == 1)
        assert (pairs.query >= 0).all() == (split != "train") and len(pairs)
    status, said = label_build("phrases", source, tmp_path / "transposed", *options, "--one-key")
    assert status == 0 and "no key" in said
    pitches = {}
    for name in ("dest", "transposed"):
        items = [labelled_items(tmp_path / name, split) for split in ("train", "valid", "test")]
        for split, found in zip(("train", "valid", "test"), items, strict=True):
            container = IndexedDataset(tmp_path / name / split)
            for file, item in zip(found.files, found.item.tolist(), strict=True):
                rows = octuples_of(container.raw(item))
                pitches.setdefault(name, {}).setdefault(file, []).append(rows[:, octuple.PITCH].mean())
    assert "0.mid" not in pitches["transposed"] and "0.mid" in pitches["dest"]
    assert pitches["dest"]["3.mid"][0] - pitches["transposed"]["3.mid"][0] == pytest.approx(2)
    with (tmp_path / "transposed" / "train.labels.csv").open() as table:
        assert {row["key"] for row in csv.DictReader(table)} == {"C:maj"}


def test_what_cannot_start_is_told_in_a_sentence(label_build: Build, tmp_path: Path) -> None:
    source = tmp_path / "midi"
    source.mkdir()
    for number in range(3):
        write_midi(song(number), source / f"{number}.mid")
    for options, said in (
        (["--one-key"], "--one-key: the keys of the files must be known, by --key TEMPLATE"),
        (["--queries", "-1"], "--queries -1"),
        (["--melody", " "], "--melody"),
        (["--split-ratios", "1,1,1"], "would have phrases of one song only"),
    ):
        status, text = label_build("phrases", source, tmp_path / "dest", "--task", "completion", *options)
        assert status == 2 and said in text and not (tmp_path / "dest").exists()
