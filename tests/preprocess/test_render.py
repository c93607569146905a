"""Rendering MIDI: excerpts, programs, tempi and levels are what the labels say, and stopping a run loses nothing."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicbert_plugin.codecs.score import DRUMS, Score, read_midi, write_midi
from musicbert_plugin.errors import MusicError, OptionError
from musicbert_plugin.files import FolderLock
from preprocess import audio, render
from preprocess.engine import cli as command
from preprocess.render import Excerpt, Synthesiser, Tempo, excerpt_of, program_of, stems_of, times_of, to_level

Render = Callable[..., tuple[int, str]]
RATE = 8000


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Render:
    """``run(source, dest, "--clips", 2)``: the command in one spawned worker, with the synthesiser in numpy."""

    def call(source: Path, dest: Path, *arguments: object) -> tuple[int, str]:
        words = [source, "--dest", dest, "--synthesiser", "numpy", "--sample-rate", RATE, "--jobs", 1, *arguments]
        try:
            status = render.main([str(word) for word in words])
        except MusicError as error:
            command.say(str(error))
            status = command.CANNOT_START
        return status, capsys.readouterr().err

    return call


def labels(dest: Path) -> list[dict[str, str]]:
    with open(dest / "labels.csv", newline="") as file:
        return list(csv.DictReader(file))


def scale(notes: int = 40, program: int = 0, tempi: tuple[tuple[int, float], ...] = ((0, 120.0),)) -> Score:
    """Quarter notes one after the other, at 480 ticks each."""
    onset = np.arange(notes) * 480
    pitch = 40 + np.arange(notes) % 40
    return Score.of(480, onset, onset + 480, pitch, 80, program, tempi=tempi)


# ------------------------------------------------------------------------------------------------------------- excerpts


def test_ticks_become_seconds_by_the_tempo_map_or_by_one_tempo() -> None:
    score = scale(tempi=((0, 60.0), (960, 120.0), (1920, 240.0)))
    ticks = np.array([0, 480, 960, 1440, 1920, 2400])
    assert np.allclose(times_of(ticks, score, math.nan), [0, 1, 2, 2.5, 3, 3.25])
    assert np.allclose(times_of(ticks, score, 90.0), np.arange(6) / 1.5)
    late = scale(tempi=((960, 60.0),))
    assert np.allclose(times_of(ticks[:4], late, math.nan), [0, 0.5, 1, 2])  # 120 before the first tempo


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("tempo", [60.0, 150.0])
def test_an_excerpt_has_the_tempo_and_length_that_were_asked_for(place: float, tempo: float) -> None:
    excerpt = excerpt_of(scale(), 73, tempo, 5.0, place)
    assert excerpt.tempo == pytest.approx(tempo)
    assert excerpt.seconds == pytest.approx(5.0)
    assert excerpt.onset[0] == 0 and (excerpt.onset < 5.0).all() and excerpt.end.max() <= 5.0 + 1e-9
    assert np.allclose(np.diff(excerpt.onset), 60 / tempo)
    assert set(excerpt.program.tolist()) == {73} and excerpt.instrument == "flute"


def test_a_short_piece_and_no_limit_give_the_whole_piece() -> None:
    for seconds in (0.0, 100.0):
        excerpt = excerpt_of(scale(10), -1, math.nan, seconds, 0.7)
        assert len(excerpt.onset) == 10 and excerpt.seconds == pytest.approx(5.0)


def test_the_own_tempo_is_the_mean_over_the_excerpt() -> None:
    # Two quarter notes in two seconds, two in one: four in three seconds.
    assert excerpt_of(scale(4, tempi=((0, 60.0), (960, 120.0))), -1, math.nan, 0.0, 0.0).tempo == pytest.approx(80.0)


def test_a_program_replaces_all_but_the_drums() -> None:
    score = Score.of(480, [0, 0, 480], [480, 240, 960], [60, 36, 64], 80, [10, DRUMS, 20], [0, 1, 2])
    assert sorted(excerpt_of(score, 40, 120.0, 0.0, 0.0).program.tolist()) == [40, 40, DRUMS]
    assert sorted(excerpt_of(score, -1, 120.0, 0.0, 0.0).program.tolist()) == [10, 20, DRUMS]
    only_drums = score.select(score.program == DRUMS)
    assert excerpt_of(only_drums, 40, 120.0, 0.0, 0.0).instrument == ""


def test_the_instrument_is_the_one_that_sounds_longest() -> None:
    score = Score.of(
        480, [0, 0, 480, 960], [480 * 9, 480, 960, 1440], [60, 62, 64, 65], 80, [40, 0, 0, 0], [0, 1, 1, 1]
    )
    assert excerpt_of(score, -1, 120.0, 0.0, 0.0).instrument == "violin"


def test_fluidsynth_gets_a_file_that_sounds_as_the_excerpt_says(tmp_path: Path) -> None:
    excerpt = excerpt_of(scale(20), 5, 97.0, 6.0, 0.4)
    excerpt.write_midi(str(tmp_path / "e.mid"))
    read = read_midi(tmp_path / "e.mid")
    order = np.argsort(read.onset)
    assert np.abs(times_of(read.onset[order], read, math.nan) - excerpt.onset).max() < 0.001
    assert np.array_equal(read.pitch[order], excerpt.pitch) and set(read.program.tolist()) == {5}


def test_the_level_is_reached_unless_it_would_be_cut_off() -> None:
    wave = np.sin(np.arange(8000)).astype(np.float32) * 0.01
    assert 20 * math.log10(float(np.sqrt((to_level(wave, -20) ** 2).mean()))) == pytest.approx(-20, abs=0.01)
    click = np.zeros(8000, np.float32)
    click[100] = 0.5
    assert np.abs(to_level(click, -6)).max() == pytest.approx(0.99)
    assert not to_level(np.zeros(5, np.float32), -6).any()


# -------------------------------------------------------------------------------------------------------------- options


def test_programs_are_numbers_or_names() -> None:
    assert [program_of(word) for word in ("own", "0", "127", "violin", "Pan Flute")] == [-1, 0, 127, 40, 75]
    for word in ("128", "-1", "kazoo"):
        with pytest.raises(OptionError, match=word):
            program_of(word)


def test_tempi_are_numbers_or_ranges() -> None:
    assert Tempo.of("90") == Tempo(90, 90) and Tempo.of("60-180") == Tempo(60, 180)
    assert math.isnan(Tempo.of("own").low)
    for word in ("fast", "180-60", "5", "60-", "nan"):
        with pytest.raises(OptionError, match=word):
            Tempo.of(word)


def test_clips_stay_inside_the_folder_and_have_names_of_their_own() -> None:
    assert stems_of(["a/b.mid", "../../c.mid", "/d.mid", "e.mid", "e.midi"]) == ["a/b", "c", "d", "e.mid", "e.midi"]


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--clips", 0], "--clips"),
        (["--seconds", -1], "--seconds"),
        (["--sample-rate", 10], "--sample-rate"),
        (["--level", 3], "--level"),
        (["--synthesiser", "moog"], "moog"),
        (["--programs", "kazoo"], "kazoo"),
        (["--group-column", "piece"], "--labels"),
        (["--sound-font", "/nowhere.sf2"], "/nowhere.sf2"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    corpus: Callable[..., Path], tmp_path: Path, run: Render, arguments: list[object], word: str
) -> None:
    status, said = run(corpus(1), tmp_path / "out", *arguments)
    assert status == 2 and word in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_fluidsynth_the_synthesiser_in_numpy_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render.shutil, "which", lambda name: None)
    assert Synthesiser.choose("auto", "") == Synthesiser()
    with pytest.raises(OptionError, match="numpy needs neither"):
        Synthesiser.choose("fluidsynth", "")


def test_fluidsynth_and_numpy_place_notes_alike() -> None:
    synthesiser = Synthesiser.choose("auto", "")
    if not synthesiser.program:
        pytest.skip("fluidsynth or a sound font is not installed")
    onset = np.array([0.5, 1.5])
    excerpt = Excerpt(onset, onset + 0.3, np.array([60, 67]), np.array([90, 90]), np.array([19, 19]), 2.5, 60.0)
    for one in (synthesiser, Synthesiser()):
        sound = np.abs(one.render(excerpt, RATE))
        assert len(sound) == 2.5 * RATE
        loud = sound > 0.1 * sound.max()
        assert not loud[: int(0.49 * RATE)].any() and loud[int(0.5 * RATE) : int(0.6 * RATE)].any()
        assert not loud[int(1.3 * RATE) : int(1.49 * RATE)].any() and loud[int(1.5 * RATE) : int(1.6 * RATE)].any()


# ---------------------------------------------------------------------------------------------------------- the command


def test_every_piece_is_heard_with_every_program_and_the_tempi_lie_in_their_range(
    corpus: Callable[..., Path], tmp_path: Path, run: Render
) -> None:
    options = ("--programs", 0, "violin", 73, "--tempi", "80-160", "--clips", 3, "--seconds", 2)
    status, said = run(corpus(4), tmp_path / "out", *options)
    assert status == 0 and "12 excerpts of 4 pieces" in said
    rows = labels(tmp_path / "out")
    for piece in {row["piece"] for row in rows}:
        mine = [row for row in rows if row["piece"] == piece]
        assert {row["instrument"] for row in mine} == {"acoustic_grand_piano", "violin", "flute"}
        assert len({row["tempo"] for row in mine}) == 3
    assert all(80 <= float(row["tempo"]) <= 160 for row in rows)
    for row in rows:
        samples, rate = soundfile.read(tmp_path / "out" / row["file"])
        assert rate == RATE and samples.ndim == 1 and abs(len(samples) / RATE - 2) < 0.01
        assert -26 < 20 * np.log10(np.sqrt((samples**2).mean())) < -19


def test_a_run_that_was_stopped_ends_with_the_same_bytes(
    corpus: Callable[..., Path], tmp_path: Path, run: Render, content: Callable[[Path], dict[str, bytes]]
) -> None:
    source = corpus(3)
    options = ("--clips", 2, "--seconds", 1, "--programs", 0, 40, "--tempi", "60-180")
    assert run(source, tmp_path / "whole", *options, "--jobs", 2)[0] == 0
    assert run(source, tmp_path / "stopped", *options)[0] == 0
    for name in ("labels.csv", "manifest.jsonl", "001_0.wav", "002_1.wav"):
        (tmp_path / "stopped" / name).unlink()
    (tmp_path / "stopped" / "001_0.wav.unfinished").write_bytes(b"half")
    kept = (tmp_path / "stopped" / "000_0.wav").stat().st_mtime_ns
    assert run(source, tmp_path / "stopped", *options)[0] == 0
    assert (tmp_path / "stopped" / "000_0.wav").stat().st_mtime_ns == kept
    assert content(tmp_path / "whole") == content(tmp_path / "stopped")


def test_other_options_and_a_folder_in_use_are_refused_and_a_changed_piece_is_rendered_anew(
    corpus: Callable[..., Path], tmp_path: Path, run: Render, make_piece: Callable[..., Score]
) -> None:
    source, dest = corpus(2), tmp_path / "out"
    assert run(source, dest, "--seconds", 1)[0] == 0
    status, said = run(source, dest, "--seconds", 2)
    assert status == 2 and "other options" in said
    assert run(source, source, "--seconds", 1)[0] == 2
    with FolderLock(dest / render.LOCK):
        status, said = run(source, dest, "--seconds", 1)
    assert status == 2 and "another run writes there" in said
    before = (dest / "000_0.wav").read_bytes(), (dest / "001_0.wav").read_bytes()
    write_midi(make_piece(7), source / "000.mid")
    assert run(source, dest, "--seconds", 1)[0] == 0
    assert (dest / "000_0.wav").read_bytes() != before[0] and (dest / "001_0.wav").read_bytes() == before[1]


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(
    corpus: Callable[..., Path], tmp_path: Path, run: Render
) -> None:
    source = corpus(1)
    (source / "broken.mid").write_bytes(b"MThd nothing more")
    status, said = run(source, tmp_path / "out", "--seconds", 1)
    assert status == 1 and "left out broken.mid" in said
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["000.mid", "broken.mid"]
    assert lines[0]["clips"] == ["000_0.wav"] and lines[1]["reason"] == "unreadable"
    assert [row["file"] for row in labels(tmp_path / "out")] == ["000_0.wav"]
    (source / "000.mid").unlink()
    assert run(source, tmp_path / "none", "--seconds", 1)[0] == 2


def test_a_piece_that_had_to_be_repaired_is_rendered_and_named(
    corpus: Callable[..., Path], tmp_path: Path, run: Render
) -> None:
    source = corpus(2)
    data = bytearray((source / "000.mid").read_bytes())
    data[data.index(b"\x90") + 2] |= 0x80
    (source / "000.mid").write_bytes(data)
    status, said = run(source, tmp_path / "out", "--seconds", 1)
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert status == 0 and [line.get("repaired") for line in lines] == [1, None]
    assert "000.mid: repaired: data byte above 127, read as 127 (1)\n" in said
    assert [line.split() for line in said.splitlines() if line.startswith("repaired")] == [
        "repaired: data byte above 127 1 in 1 files".split()
    ]


def test_folders_name_composers_and_copies_share_a_piece(
    corpus: Callable[..., Path], tmp_path: Path, run: Render, make_piece: Callable[..., Score]
) -> None:
    source = corpus(2)
    (source / "bach").mkdir()
    piece = make_piece(0)
    transposed = Score.of(
        480,
        piece.onset,
        piece.end,
        piece.pitch + 5 * (piece.program != DRUMS),
        piece.velocity,
        piece.program,
        piece.track,
    )
    write_midi(transposed, source / "bach" / "copy.mid")
    assert run(source, tmp_path / "out", "--seconds", 1)[0] == 0
    rows = {row["file"]: row for row in labels(tmp_path / "out")}
    assert rows["bach/copy_0.wav"]["composer"] == "bach" and rows["000_0.wav"]["composer"] == ""
    assert rows["bach/copy_0.wav"]["piece"] == rows["000_0.wav"]["piece"] != rows["001_0.wav"]["piece"]


def test_a_table_of_the_pieces_labels_their_clips(corpus: Callable[..., Path], tmp_path: Path, run: Render) -> None:
    table = tmp_path / "pieces.csv"
    table.write_text("file,composer,group,mood\n000.mid,Liszt,A,calm\n001.mid,Satie,A,\n")
    options = ("--seconds", 1, "--labels", table, "--group-column", "group")
    assert run(corpus(3), tmp_path / "out", *options)[0] == 0
    first, second, third = labels(tmp_path / "out")
    assert (first["composer"], first["mood"], second["composer"], second["mood"]) == ("Liszt", "calm", "Satie", "")
    assert first["piece"] == second["piece"] != third["piece"] and third["composer"] == ""
    assert "split" not in first
    table.write_text("file;split\n000.mid;test\ngone.mid;train\n")
    status, said = run(corpus(3), tmp_path / "split", "--seconds", 1, "--labels", table)
    assert status == 0 and "1 of 2 files are not in the source, the first is gone.mid" in said
    assert [row["split"] for row in labels(tmp_path / "split")] == ["test", "", ""]
    table.write_text("file,tempo\n000.mid,9\n")
    status, said = run(corpus(3), tmp_path / "other", *options[:4])
    assert status == 2 and "tempo" in said


def test_renderings_of_a_piece_never_lie_on_both_sides_of_a_split(
    corpus: Callable[..., Path], tmp_path: Path, run: Render
) -> None:
    options = ("--clips", 3, "--seconds", 1, "--programs", 0, 40, 73)
    assert run(corpus(10), tmp_path / "out", *options)[0] == 0
    words = ["build", str(tmp_path / "out" / "labels.csv"), "--dest", str(tmp_path / "data"), "--jobs", "1"]
    words += ["--sample-rate", str(RATE), "--n-mels", "16", "--group-column", "piece", "--duplicates", "keep"]
    assert audio.main([*words, "--split-ratios", "60,20,20"]) == 0
    piece = {row["file"]: row["piece"] for row in labels(tmp_path / "out")}
    sides = {}
    for split in ("train", "valid", "test"):
        with open(tmp_path / "data" / f"{split}.clips.csv", newline="") as file:
            sides[split] = list(csv.DictReader(file))
    assert sum(map(len, sides.values())) == 30
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not {piece[row["clip"]] for row in sides[one]} & {piece[row["clip"]] for row in sides[other]}
    assert {"instrument", "tempo", "piece"} <= set(sides["train"][0])  # probes take folds from the piece
