"""The REMI commands: datasets of windows and pairs are whole, equal however they were built, and read back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs import attributes, remi, requests
from musicbert_plugin.codecs.conditions import CONDITION_WORDS, PAIR_WORDS, condition_of
from musicbert_plugin.codecs.remi_grammar import RemiGrammar
from musicbert_plugin.codecs.score import DRUMS, Score, midi_bytes, read_midi
from musicbert_plugin.errors import OptionError
from preprocess import attributes as attributes_command
from preprocess import remi as command


def piece(seed: int, bars: int = 20) -> Score:
    random = np.random.default_rng(seed)
    count = 6 * bars
    onset = np.sort(random.integers(0, bars * 48, count)) * 10
    return Score.of(
        120, onset, onset + random.integers(30, 240, count), random.integers(50, 80, count),
        random.integers(30, 120, count), random.choice([0, 33, DRUMS], count), tempi=[(0, 60 + seed)],
        meters=[(0, 4, 4)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("midi")
    for seed in range(12):
        (folder / f"{seed:02d}.mid").write_bytes(midi_bytes(piece(seed, 3 if seed == 5 else 20)))
    return folder


def items(stem: Path) -> list[list[int]]:
    """The items of a container, read from its two files by their published format."""
    index = stem.with_name(stem.name + ".idx").read_bytes()
    count = struct.unpack_from("<Q", index, 18)[0]
    sizes = np.frombuffer(index, "<i4", count, 26)
    data = np.frombuffer(stem.with_name(stem.name + ".bin").read_bytes(), "<u2")
    return [part.tolist() for part in np.split(data, np.cumsum(sizes)[:-1])] if count else []


def build(folder: Path, dest: Path, *options: str) -> int:
    return command.main(["build", str(folder), "--dest", str(dest), "--split-ratios", "60,20,20", *options])


def test_windows_are_whole_bars_of_their_piece_with_the_attributes_of_those_bars(folder: Path, tmp_path: Path) -> None:
    assert build(folder, tmp_path / "data", "--window-bars", "4-8") == 0
    manifest = [json.loads(line) for line in (tmp_path / "data" / "manifest.jsonl").read_text().splitlines()]
    assert len(manifest) == 12 and {line["split"] for line in manifest} == {"train", "valid", "test"}
    for line in manifest:
        stem = tmp_path / "data" / line["split"]
        classes = np.load(f"{stem}.attributes.npy", mmap_mode="r")
        assert classes.dtype == np.uint8 and classes.shape == (len(items(stem)), 63)
        grid = remi.grid_of(read_midi(folder / line["file"]))
        ids, ends = remi.encode_grid(grid)
        begins = np.concatenate(([0], ends[:-1])).tolist()
        windows = []
        for number in range(*line["items"]):
            item = items(stem)[number]
            assert item[-1] == remi.EOS
            (where,) = [
                (begin, end)
                for begin in range(grid.bars)
                for end in range(begin + 1, grid.bars + 1)
                if ids[begins[begin] : ends[end - 1]].tolist() == item[:-1]
            ]
            windows.append(where)
            assert where[1] - where[0] == 3 if grid.bars == 3 else 4 <= where[1] - where[0] <= 8
            np.testing.assert_array_equal(classes[number], attributes.class_vector(attributes.extract(grid, *where)))
            RemiGrammar(remi.BAR_TEMPO).whole_bars(np.array(item[:-1]))
        assert len({begin for begin, _ in windows}) == len(windows) == (1 if grid.bars == 3 else 3)
    config = json.loads((tmp_path / "data" / "config.json").read_text())
    assert (config["kind"], config["layout"]) == ("remi", "bar-tempo")
    assert config["dictionary_sha256"] == remi.DICTIONARY_SHA256


def test_the_same_bytes_whatever_the_workers_and_other_windows_for_another_seed(folder: Path, tmp_path: Path) -> None:
    assert build(folder, tmp_path / "one") == 0 and build(folder, tmp_path / "two", "--jobs", "2") == 0
    assert build(folder, tmp_path / "three", "--seed", "2") == 0
    names = [path.name for path in (tmp_path / "one").iterdir()]
    assert "train.attributes.npy" in names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert (tmp_path / "one" / "train.bin").read_bytes() != (tmp_path / "three" / "train.bin").read_bytes()


def test_long_windows_are_left_out_and_counted(folder: Path, tmp_path: Path) -> None:
    build(folder, tmp_path / "data", "--window-bars", "4-8", "--max-tokens", "200")
    config = json.loads((tmp_path / "data" / "config.json").read_text())
    sizes = [len(item) - 1 for split in ("train", "valid", "test") for item in items(tmp_path / "data" / split)]
    assert max(sizes) <= 200 and len(sizes) >= 12
    assert config["windows_too_long"] > 0


def test_windows_too_long_are_counted_of_pieces_too_that_give_no_other(folder: Path, tmp_path: Path) -> None:
    assert build(folder, tmp_path / "all", "--duplicates", "keep") == 0
    assert build(folder, tmp_path / "few", "--duplicates", "keep", "--max-tokens", "500") == 0
    found = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("all", "few")]
    drawn, kept = (sum(split["items"] for split in config["splits"].values()) for config in found)
    assert found[1]["left_out"]["windows too long"] > 0 and found[1]["windows_too_long"] == drawn - kept


def test_labels_from_a_table_reach_every_window_of_their_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,emotion\n03.mid,sad\nmissing.mid,happy\n")
    assert build(folder, tmp_path / "data", "--labels", str(tmp_path / "labels.csv"), "--layout", "position-tempo") == 0
    slot = attributes.SLOT_OF["EM1"]
    for line in map(json.loads, (tmp_path / "data" / "manifest.jsonl").read_text().splitlines()):
        rows = np.load(tmp_path / "data" / f"{line['split']}.attributes.npy")[slice(*line["items"])]
        assert (rows[:, slot] == (2 if line["file"] == "03.mid" else 4)).all()


def test_text_holds_the_same_words(folder: Path, tmp_path: Path) -> None:
    build(folder, tmp_path / "bin")
    build(folder, tmp_path / "text", "--format", "text")
    lines = (tmp_path / "text" / "train.txt").read_text().splitlines()
    assert [remi.from_words(line).tolist() + [remi.EOS] for line in lines] == items(tmp_path / "bin" / "train")


def test_a_condition_tells_pitches_instruments_and_the_bar_before() -> None:
    target = remi.from_words("o-0 i-0 p-64 d-12 p-60 d-12 i-33 p-60 d-1 i-128 p-164 d-1 o-6 i-0 p-67 d-12 b-1")
    history = remi.from_words("o-3 i-0 p-50 d-2 b-1")
    words = [PAIR_WORDS[token] for token in condition_of(target, history).tolist()]
    assert " ".join(words) == ("PITCH o-0 p-164 p-64 p-60 o-6 p-67 INS i-0 i-33 i-128 HIST o-3 i-0 p-50 d-2 b-1")


def test_pairs_are_neighbouring_bars_and_give_the_same_as_lines(folder: Path, tmp_path: Path) -> None:
    ratios = ["--split-ratios", "60,20,20"]
    assert command.main(["pairs", str(folder), "--dest", str(tmp_path / "bin"), *ratios]) == 0
    assert command.main(["pairs", str(folder), "--dest", str(tmp_path / "text"), "--format", "text", *ratios]) == 0
    assert command.main(["pairs", str(tmp_path / "text"), "--dest", str(tmp_path / "own")]) == 0
    for name in ("train", "train_input", "test_input"):
        assert items(tmp_path / "bin" / name) == items(tmp_path / "own" / name) and items(tmp_path / "own" / name)
    assert (tmp_path / "bin" / "dict.txt").read_bytes() == (tmp_path / "own" / "dict.txt").read_bytes()
    words = (tmp_path / "bin" / "dict.txt").read_text().splitlines()
    assert len(words) == 1249 and words[515 + 96 : 515 + 102] == [f"{word} 1" for word in CONDITION_WORDS]
    line = json.loads((tmp_path / "bin" / "manifest.jsonl").read_text().splitlines()[0])
    ids, ends = remi.encode_grid(remi.grid_for(read_midi(folder / line["file"]), remi.NOTES), remi.NOTES)
    bars = np.split(ids, ends[:-1])
    first = line["items"][0]
    target = items(tmp_path / "bin" / line["split"])[first]
    assert target == [*bars[1].tolist(), remi.EOS]
    condition = items(tmp_path / "bin" / f"{line['split']}_input")[first]
    assert condition[-1 - len(bars[0]) : -1] == bars[0].tolist()


def write_own(folder: Path, dictionary: str, condition: str = "PITCH o-0\n", answer: str = "o-0 b-1\n") -> None:
    folder.mkdir()
    (folder / "train_input.txt").write_text(condition)
    (folder / "train.txt").write_text(answer)
    (folder / "dict.txt").write_text(dictionary)


def test_ones_own_pairs_that_do_not_fit_are_refused_in_a_sentence(tmp_path: Path) -> None:
    write_own(tmp_path / "a", remi.dictionary_text(), "PITCH o-0\nPITCH o-0\n")
    with pytest.raises(OptionError, match="2 lines, but train.txt has 1"):
        command.main(["pairs", str(tmp_path / "a"), "--dest", str(tmp_path / "out")])
    write_own(tmp_path / "b", remi.dictionary_text(), "CHORD o-0\n")
    with pytest.raises(OptionError, match="line 1: 'CHORD'"):
        command.main(["pairs", str(tmp_path / "b"), "--dest", str(tmp_path / "out")])
    for rename, sentence in (("z-9=CHORD", "1,249"), ("d-96=o-0", "1,249"), ("d-96", "OLD=NEW")):
        with pytest.raises(OptionError, match=sentence):
            command.main(["pairs", str(tmp_path / "b"), "--dest", str(tmp_path / "out"), "--rename", rename])
    assert not (tmp_path / "out").exists()
    assert command.main(["pairs", str(tmp_path / "b"), "--dest", str(tmp_path / "out"), "--rename", "d-96=CHORD"]) == 0
    assert items(tmp_path / "out" / "train_input") == [[remi.DURATION + 96, remi.ONSET, remi.EOS]]
    with pytest.raises(OptionError, match="made with another dictionary sha256"):
        command.main(["pairs", str(tmp_path / "b"), "--dest", str(tmp_path / "out"), "--rename", "d-97=CHORD"])
    write_own(tmp_path / "c", remi.dictionary_text() + "d-3 1\n")
    with pytest.raises(OptionError, match="d-3 has more than one row"):
        command.main(["pairs", str(tmp_path / "c"), "--dest", str(tmp_path / "other")])
    write_own(tmp_path / "d", remi.dictionary_text().replace("<sep> 1\n", ""))
    with pytest.raises(OptionError, match="a row <sep> is needed"):
        command.main(["pairs", str(tmp_path / "d"), "--dest", str(tmp_path / "other")])
    write_own(tmp_path / "e", remi.dictionary_text())
    (tmp_path / "e" / "valid.txt").write_text("o-0 b-1\n")
    with pytest.raises(OptionError, match=r"valid_input.txt: cannot be read"):
        command.main(["pairs", str(tmp_path / "e"), "--dest", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


def test_options_and_sources_that_ones_own_pairs_have_no_use_for_are_refused(folder: Path, tmp_path: Path) -> None:
    write_own(tmp_path / "own", remi.dictionary_text())
    own, to = str(tmp_path / "own"), ["--dest", str(tmp_path / "out")]
    for more in (["--duplicates", "exact"], ["--split-ratios", "60,20,20"], ["--max-notes", "7"]):
        with pytest.raises(OptionError, match=f"^{more[0]} {more[1]}: it is for MIDI files"):
            command.main(["pairs", own, *to, *more])
    with pytest.raises(OptionError, match="2 sources are given"):
        command.main(["pairs", str(folder), own, *to])
    with pytest.raises(OptionError, match="^--layout bar-tempo belongs to lines of your own"):
        command.main(["pairs", str(folder), *to, "--layout", "bar-tempo"])
    for entry in (own, str(folder)):
        with pytest.raises(OptionError, match="--max-tokens 0: 1 or more"):
            command.main(["pairs", entry, *to, "--max-tokens", "0"])
    with pytest.raises(OptionError, match="--max-tokens -1: 1 or more"):
        command.main(["build", str(folder), *to, "--max-tokens", "-1"])
    assert not (tmp_path / "out").exists()


def test_ones_own_pairs_that_are_too_long_are_left_out_of_both_sides(tmp_path: Path) -> None:
    lines = ("PITCH o-0\nPITCH o-0 o-1 o-2\nPITCH o-3\n", "o-0 b-1\no-1 b-1\no-3 b-1\n")
    write_own(tmp_path / "own", remi.dictionary_text(), *lines)
    for format in ("bin", "text"):
        dest = tmp_path / format
        limit = ["--max-tokens", "4", "--format", format]
        assert command.main(["pairs", str(tmp_path / "own"), "--dest", str(dest), *limit]) == 0
        config = json.loads((dest / "config.json").read_text())
        assert config["pairs_too_long"] == 1 and config["splits"]["train"]["items"] == 2
    text = [(tmp_path / "text" / f"{name}.txt").read_text() for name in ("train_input", "train")]
    assert text == ["PITCH o-0\nPITCH o-3\n", "o-0 b-1\no-3 b-1\n"]
    assert [item[1] for item in items(tmp_path / "bin" / "train_input")] == [remi.ONSET, remi.ONSET + 3]
    assert [item[0] for item in items(tmp_path / "bin" / "train")] == [remi.ONSET, remi.ONSET + 3]


BY_PROGRAM = "i-0 o-0 p-64 d-12 p-60 d-12 o-24 p-62 d-12 i-128 o-0 p-164 d-1 b-1\n"
ENGLISH = "".join(f"{line}\n" for line in remi.dictionary_text().splitlines()[:981]) + "".join(
    f"word{number} 1\n" for number in range(3241 - 981)
)


@pytest.mark.parametrize(
    ("answers", "layout", "fitting", "said"),
    [
        (["o-0 i-0 p-64 d-12 b-1\n"] * 3, "notes", 3, "layout notes,"),
        ([BY_PROGRAM] * 3 + ["b-1\n"], "notes-by-program", 4, "layout notes-by-program,"),
        (
            [BY_PROGRAM] * 19 + ["p-60 d-1 b-1\n"],
            "notes-by-program",
            19,
            "train.txt, line 20: word 1, p-60, cannot follow",
        ),
        (["d-3 p-60 o-1\n", BY_PROGRAM], "free", 1, "generates without a grammar"),
        (["o-60 i-0 p-64 d-12 b-1\n"], "notes", 1, "generate with --meter 6/4"),
        (["s-9 o-0 t-35 i-0 p-64 d-12 v-20 b-1\n"], "position-tempo", 1, "layout position-tempo,"),
    ],
)
def test_the_layout_of_ones_own_pairs_is_the_one_whose_grammar_admits_them(
    answers: list[str], layout: str, fitting: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(tmp_path / "own", remi.dictionary_text(), "PITCH o-0\n" * len(answers), "".join(answers))
    assert command.main(["pairs", str(tmp_path / "own"), "--dest", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["layout"], config["answers"], config["answers_in_layout"]) == (layout, len(answers), fitting)
    assert said in capsys.readouterr().err
    assert command.main(["pairs", str(tmp_path / "own"), "--dest", str(tmp_path / "notes"), "--layout", "notes"]) == 0
    assert json.loads((tmp_path / "notes" / "config.json").read_text())["layout"] == "notes"


def test_ones_own_pairs_in_a_dictionary_with_english_words_with_windows_line_ends_and_a_byte_order_mark(
    tmp_path: Path,
) -> None:
    write_own(tmp_path / "own", "", "", "")
    condition = "word7 PITCH o-0 p-64 INS i-0 word2259"
    for name, text in (
        ("train_input.txt", condition),
        ("train.txt", BY_PROGRAM.strip()),
        ("dict.txt", ENGLISH.strip()),
    ):
        (tmp_path / "own" / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
    assert command.main(["pairs", str(tmp_path / "own"), "--dest", str(tmp_path / "out")]) == 0
    rows = (tmp_path / "out" / "dict.txt").read_text().splitlines()
    words = [row.split()[0] for row in rows]
    assert len(words) == 3241 and words[515 + 96 : 515 + 102] == list(CONDITION_WORDS) and words[-1] == "word2259"
    (ids,) = items(tmp_path / "out" / "train_input")
    assert [words[token - 4] for token in ids[:-1]] == condition.split()
    (ids,) = items(tmp_path / "out" / "train")
    assert remi.to_words(np.array(ids[:-1])) == BY_PROGRAM.strip()


def test_a_dictionary_of_ones_own_pairs_with_other_rows_is_refused(tmp_path: Path) -> None:
    own, to = str(tmp_path / "own"), ["--dest", str(tmp_path / "out")]
    write_own(tmp_path / "own", remi.dictionary_text() + "more 1\n", answer="o-0 i-0 p-64 d-12 b-1\n")
    with pytest.raises(OptionError, match="1,250 rows, but 1,249 or 3,241 are needed"):
        command.main(["pairs", own, *to])
    with pytest.raises(OptionError, match="--dictionary-rows 70000: a number from 981 to 65,532"):
        command.main(["pairs", own, *to, "--dictionary-rows", "70000"])
    assert command.main(["pairs", own, *to, "--dictionary-rows", "1250"]) == 0
    rows = remi.dictionary_text().splitlines()
    (tmp_path / "own" / "dict.txt").write_text("\n".join(["first 1", *rows[:-1]]))
    with pytest.raises(OptionError, match="row 2: b-0 belongs in row 1"):
        command.main(["pairs", own, "--dest", str(tmp_path / "other")])
    with pytest.raises(OptionError, match="^--dictionary-rows belongs to lines of your own"):
        command.main(["pairs", str(tmp_path), *to, "--dictionary-rows", "1250"])
    assert not (tmp_path / "other").exists()


def test_pairs_of_midi_may_be_ordered_by_program_and_have_the_same_conditions(folder: Path, tmp_path: Path) -> None:
    sides = {}
    for layout in remi.NOTES_ALONE:
        line = ["pairs", str(folder), "--dest", str(tmp_path / layout), "--layout", layout]
        assert command.main([*line, "--split-ratios", "60,20,20"]) == 0
        sides[layout] = [
            [np.array(item) for item in items(tmp_path / layout / name)] for name in ("train_input", "train")
        ]
    for notes, by_program in zip(*(zip(*sides[layout], strict=True) for layout in remi.NOTES_ALONE), strict=True):
        history = [int(np.flatnonzero(condition == remi.DURATION + 98)[0]) for condition in (notes[0], by_program[0])]
        np.testing.assert_array_equal(notes[0][: history[0]], by_program[0][: history[1]])
        for first, second in zip(remi.bar_notes(notes[1]), remi.bar_notes(by_program[1]), strict=True):
            np.testing.assert_array_equal(first[np.lexsort(first.T)], second[np.lexsort(second.T)])


def test_a_split_of_ones_own_pairs_may_stand_alone(tmp_path: Path) -> None:
    write_own(tmp_path / "own", remi.dictionary_text())
    for name in ("train_input.txt", "train.txt"):
        (tmp_path / "own" / name).rename(tmp_path / "own" / name.replace("train", "test"))
    assert command.main(["pairs", str(tmp_path / "own"), "--dest", str(tmp_path / "out")]) == 0
    assert len(items(tmp_path / "out" / "test")) == 1 and items(tmp_path / "out" / "train") == []


@pytest.mark.parametrize("files", [0, 3, 10])
def test_ones_own_pairs_that_were_stopped_end_with_the_same_bytes(
    files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own(tmp_path / "own", remi.dictionary_text())
    line = ["pairs", str(tmp_path / "own"), "--dest"]
    assert command.main([*line, str(tmp_path / "whole")]) == 0
    replace, left = os.replace, [files + 1]  # the first gives the work folder its options

    def stop(source: str, target: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            command.main([*line, str(tmp_path / "stopped")])
    assert not (tmp_path / "stopped" / "config.json").exists()
    assert command.main([*line, str(tmp_path / "stopped")]) == 0
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "stopped")]
    assert contents[0] == contents[1]
    assert command.main([*line, str(tmp_path / "stopped")]) == 0  # finished already: left alone


def test_pieces_beyond_the_budget_give_no_pairs(folder: Path, tmp_path: Path) -> None:
    line = ["pairs", str(folder), "--dest", str(tmp_path / "data"), "--max-notes", "60", "--split-ratios", "1,0,0"]
    assert command.main(line) == 1
    manifest = [json.loads(line) for line in (tmp_path / "data" / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in manifest if "split" in line] == ["05.mid"]
    assert {line["reason"] for line in manifest if "reason" in line} == {"too large"}
    assert json.loads((tmp_path / "data" / "config.json").read_text())["max_notes"] == 60


def _journaled(dest: Path) -> int:
    return sum(path.read_bytes().count(b"\n") - 1 for path in dest.glob(".build/run-*/journal.jsonl"))


def test_a_killed_build_of_windows_ends_with_the_same_bytes(tmp_path: Path) -> None:
    source, killed, options = tmp_path / "midi", tmp_path / "killed", ["--window-bars", "2-4", "--duplicates", "keep"]
    source.mkdir()
    for seed in range(40):
        (source / f"{seed}.mid").write_bytes(midi_bytes(piece(seed, 5)))
        for copy in range(15):  # many files, few different ones: writing them is what takes a test's time
            os.link(source / f"{seed}.mid", source / f"{seed}-{copy}.mid")
    assert build(source, tmp_path / "whole", *options) == 0
    line = [sys.executable, "-m", "preprocess.remi", "build", str(source), "--dest", str(killed), *options]
    line += ["--split-ratios", "60,20,20", "--jobs", "2"]
    process = subprocess.Popen(
        line, cwd=Path(__file__).resolve().parents[2], stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and _journaled(killed) < 1:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < _journaled(killed) < 640 and not (killed / "config.json").exists()
    assert build(source, killed, *options) == 0
    contents = [{path.name: path.read_bytes() for path in dest.iterdir()} for dest in (tmp_path / "whole", killed)]
    assert "train.attributes.npy" in contents[0] and contents[0] == contents[1]


def test_encoding_and_decoding_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / "00.mid"), str(folder / "01.mid")]
    for layout in remi.LAYOUTS:
        assert command.main(["encode", *files, str(tmp_path / "none.mid"), "--layout", layout]) == 1
        said = capsys.readouterr()
        assert "none.mid" in said.err
        (tmp_path / "lines.txt").write_text(said.out)
        assert len(said.out.splitlines()) == 2
        assert command.main(["decode", str(tmp_path / "lines.txt"), "--dest", str(tmp_path / layout)]) == 0
        assert "repaired" not in capsys.readouterr().err
        back = [str(tmp_path / layout / f"{number}.mid") for number in range(2)]
        assert command.main(["encode", *back, "--layout", layout, "--plain"]) == 0
        assert capsys.readouterr().out == said.out
    with pytest.raises(OptionError, match="N/D"):
        command.main(["decode", str(tmp_path / "lines.txt"), "--dest", str(tmp_path), "--meter", "waltz"])


def test_hypotheses_of_fairseq_become_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "s-9 t-35 o-0 i-0 p-60 d-12 v-20 b-1"
    (tmp_path / "out.txt").write_text(f"S-3\tK1_0\nH-3\t-1.5\t{words}\nH-3\t-2\tK1_0 <sep> {words[:-4]}\n")
    assert command.main(["decode", str(tmp_path / "out.txt"), "--dest", str(tmp_path)]) == 0
    assert remi.to_words(remi.encode(read_midi(tmp_path / "3.mid"))) == words
    assert remi.to_words(remi.encode(read_midi(tmp_path / "3.1.mid"))) == words
    assert "3.1.mid: repaired: last bar not closed (1)" in capsys.readouterr().err


def test_lost_notes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # midi_bytes gives every note a tick, so the file is written here: a note of no ticks, and one of 96
    track = b"\x00\x90\x3c\x40\x00\x80\x3c\x40\x00\x90\x40\x40\x60\x80\x40\x40\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track))
    (tmp_path / "a.mid").write_bytes(header + track)
    assert command.main(["encode", str(tmp_path / "a.mid")]) == 0
    assert "note without length (1)" in capsys.readouterr().err
    assert attributes_command.main([str(tmp_path / "a.mid")]) == 0
    assert f"{tmp_path / 'a.mid'}: lost: note without length (1)" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["build", "pairs"])
def test_repaired_files_and_lost_notes_are_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    name = sorted(path.name for path in source.iterdir())[0]
    data = bytearray((source / name).read_bytes())
    data[data.index(b"\x90") + 2] |= 0x80
    (source / name).write_bytes(data)
    assert command.main([kind, str(source), "--dest", str(tmp_path / "data"), "--duplicates", "keep"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "data" / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines if "repaired" in line] == [name]
    said = capsys.readouterr().err
    assert f"{name}: repaired: data byte above 127, read as 127 (1)" in said and "in 1 files" in said


@pytest.mark.parametrize("text", ["0", "17-16", "a", "1-300", ""])
def test_numbers_of_bars_are_checked(text: str) -> None:
    with pytest.raises(OptionError, match="--window-bars"):
        command.parse_window_bars(text)


def test_attributes_of_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / "00.mid"), str(folder / "05.mid")]
    assert attributes_command.main([*files, "--bars", "0:3", "--chords"]) == 0
    for line, file in zip(capsys.readouterr().out.splitlines(), files, strict=True):
        found = json.loads(line)
        assert list(found) == ["file", "bars", "values", "tokens"]
        assert found["file"] == file and found["bars"] == [0, 3]
        assert list(found["values"]) == list(attributes.KEYS) and len(found["tokens"]) == 63
        assert found["values"]["B1s1"] == [3, 0]
    assert attributes_command.main([files[1], "--words"]) == 0
    line = capsys.readouterr().out
    grid = remi.grid_of(read_midi(files[1]))
    expected = attributes.class_vector(attributes.extract(grid))
    np.testing.assert_array_equal(requests.parse_request(line), expected)
    assert attributes_command.main([*files, "--bars", "0:10"]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 and "05.mid" in said.err
    with pytest.raises(OptionError, match="BEGIN:END"):
        attributes_command.main([*files, "--bars", "4"])
    with pytest.raises(OptionError, match="END must be above BEGIN"):
        attributes_command.main([*files, "--bars", "2:2"])


def test_a_table_of_other_files_is_refused_and_files_without_a_row_are_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, table = [str(folder / "00.mid"), str(folder / "05.mid")], tmp_path / "labels.csv"
    table.write_text("file,emotion\n00.mid,sad\n")
    with pytest.raises(OptionError, match="the same paths are needed"):
        attributes_command.main([*files, "--labels", str(table)])
    table.write_text(f"file,emotion\n{files[0]},sad\n")
    assert attributes_command.main([*files, "--words", "--labels", str(table)]) == 0
    said = capsys.readouterr()
    assert ["emotion=Q3" in line for line in said.out.splitlines()] == [True, False]
    assert "1 of 2 files have no row" in said.err
