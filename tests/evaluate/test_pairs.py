"""Likeness of generated bars to true ones, from two files, from what fairseq printed, and from a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import remi
from musicbert_plugin.evaluate.__main__ import main
from musicbert_plugin.evaluate.pairs import measure

BAR = "o-0 i-0 p-72 d-12 p-60 d-12 i-33 p-40 d-24 o-24 i-0 p-74 d-12 b-1"
OTHER = "o-0 i-0 p-72 d-12 o-12 i-0 p-74 d-12 i-128 p-164 d-1 b-1"


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, dict[str, Any], str]:
    status = main(["pairs", *map(str, arguments), "--draws", "200"])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else {}, said.err


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_bar_is_exactly_like_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.txt", BAR, OTHER)
    status, values, _ = run(capsys, "--hyp", path, "--ref", path)
    assert status == 0 and values["lines"] == values["bars"] == 2 and values["same_bars"] == 1.0
    for name, one in values["metrics"].items():
        perfect = 0.0 if name.endswith(("_wer", "_diff")) else 1.0
        assert one["mean"] == perfect and one["interval"] == [perfect, perfect], name


def test_metrics_of_a_bar_that_is_partly_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyp, ref = write(tmp_path / "hyp.txt", OTHER), write(tmp_path / "ref.txt", BAR)
    status, values, _ = run(capsys, "--hyp", hyp, "--ref", ref)
    mean = {name: one["mean"] for name, one in values["metrics"].items()}
    assert status == 0
    assert mean["bar_inst_iou"] == pytest.approx(1 / 3), "piano; bass and drums are in one of them each"
    assert mean["bar_groove_wer"] == 0.5 and mean["bar_groove_sor"] == 0.5, "0 12 for 0 24"
    assert mean["bar_melody_wer"] == 0.0 and mean["bass_wer"] == 1.0 and mean["drum_wer"] == 1.0


def test_the_interval_of_a_mean_over_bars_lies_around_it() -> None:
    """Many short lines are right, few long ones are wrong: most bars are wrong, and so is what is reported."""
    right, wrong = (remi.from_words(f"o-0 i-0 p-{pitch} d-3 b-1") for pitch in (60, 62))
    lines = [(right, right)] * 60 + [(np.tile(wrong, 30), np.tile(right, 30))] * 20
    melody = measure(lines, draws=500)["metrics"]["bar_melody_wer"]
    assert melody["mean"] == pytest.approx(600 / 660)
    assert melody["interval"][0] < melody["mean"] < melody["interval"][1]


def test_a_bar_that_is_missing_is_an_empty_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyp, ref = write(tmp_path / "hyp.txt", BAR), write(tmp_path / "ref.txt", f"{BAR} {BAR}")
    status, values, _ = run(capsys, "--hyp", hyp, "--ref", ref)
    assert status == 0 and values["bars"] == 2 and values["same_bars"] == 0.0
    assert values["metrics"]["bar_pitch_wer"]["mean"] == 0.5
    assert values["metrics"]["track_sor"]["mean"] == 1.0, "an empty bar shares no instrument and has no say"


def test_what_stands_before_the_separator_is_not_music(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyp, ref = write(tmp_path / "hyp.txt", f"o-0 i-5 <sep> {BAR} </s>"), write(tmp_path / "ref.txt", BAR)
    status, values, _ = run(capsys, "--hyp", hyp, "--ref", ref)
    assert status == 0 and values["bars"] == 1 and values["metrics"]["bar_inst_iou"]["mean"] == 1.0


def test_true_bars_of_a_longer_meter_need_no_repair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.txt", BAR, "o-0 i-0 p-72 d-12 o-66 i-0 p-74 d-12 b-1")
    for meter, share in (("4/4", 0.5), ("5/4", 0.5), ("12/8", 1.0), ("6/4", 1.0)):
        status, values, _ = run(capsys, "--hyp", path, "--ref", path, "--meter", meter)
        assert status == 0 and values["without_repairs"] == share, meter


def test_music_and_reference_of_one_number_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"S-1\tPITCH\nT-1\t{BAR}\nH-1\t-0.1\t{BAR}", f"S-0\tPITCH\nT-0\t{OTHER}\nH-0\t-0.1\t{OTHER}", "Generate"]
    status, values, _ = run(capsys, "--hyp", write(tmp_path / "out.txt", *lines))
    assert status == 0 and values["lines"] == 2 and values["metrics"]["bar_pitch_wer"]["mean"] == 0.0


def pairs_folder(path: Path, write_items: Callable[..., None]) -> tuple[Path, list[str]]:
    words = ["PITCH" if word == "d-96" else word for word in remi.dictionary_words()]
    path.mkdir()
    (path / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    number = {word: at for at, word in enumerate(words, start=4)}
    music = [[*map(number.get, line.split()), remi.EOS] for line in (BAR, OTHER)]
    write_items(path / "test", music)
    write_items(path / "test_input", [[number["PITCH"], number["o-0"], number["p-72"], remi.EOS]] * 2)
    return path, words


def test_a_model_answers_the_conditions_of_a_split(
    random_model: Callable[..., Path],
    write_items: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, words = pairs_folder(tmp_path / "data", write_items)
    path = random_model(words, layout="notes", prefix="conditions")
    arguments = ["--path", path, data, "--max-length", 40]
    status, values, _ = run(capsys, *arguments)
    assert status == 0 and values["lines"] == 2 and values["without_repairs"] == 1.0
    assert run(capsys, *arguments, "--batch-size", 1, "--dest", tmp_path / "music")[1] == values
    assert sorted(path.name for path in (tmp_path / "music").iterdir()) == ["0.mid", "1.mid", "answers.jsonl"]
    assert run(capsys, *arguments, "--dest", tmp_path / "music")[1] == values
    assert run(capsys, *arguments, "--limit", 1)[1]["lines"] == 1
    status, values, _ = run(capsys, *arguments, "--max-length", 400, "--meter", "8/4")
    assert status == 0 and values["without_repairs"] == 1.0
    status, _, said = run(capsys, "--path", random_model(remi.dictionary_words()), data)
    assert status == 2 and "different dictionaries" in said


def test_references_come_from_the_split_where_lines_have_none(
    write_items: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = pairs_folder(tmp_path / "data", write_items)
    status, values, _ = run(capsys, "--hyp", write(tmp_path / "out.txt", f"H-1\t0\t{OTHER}", f"H-0\t0\t{BAR}"), data)
    assert status == 0 and values["metrics"]["bar_pitch_wer"]["mean"] == 0.0
    status, _, said = run(capsys, "--hyp", write(tmp_path / "out.txt", f"H-7\t0\t{BAR}"), data)
    assert status == 2 and "sample 7" in said


def test_what_cannot_be_compared_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path / "one.txt", BAR), write(tmp_path / "two.txt", BAR, BAR)
    empty = write(tmp_path / "empty.txt")
    for arguments, word in (
        ([], "--path"),
        (["--hyp", one], "--ref"),
        (["--hyp", one, "--ref", two], "has 2:"),
        (["--hyp", empty, "--ref", empty], "is empty"),
        (["--hyp", one, "--ref", tmp_path / "nowhere.txt"], "nowhere.txt"),
        (["--path", "nowhere.pt"], "dataset folder"),
        (["--hyp", one, tmp_path / "nowhere"], "nowhere"),
        (["--hyp", one, "--ref", one, "--meter", "waltz"], "'waltz': N/D"),
    ):
        status, values, said = run(capsys, *arguments)
        assert status == 2 and not values and word in said and len(said.strip().splitlines()) == 1, arguments


def test_numbers_are_of_the_music_that_plays() -> None:
    from musicbert_plugin.evaluate.pairs import bars_of

    (bar,) = bars_of(remi.from_words(f"<sep> {BAR} </s>"))
    np.testing.assert_array_equal(bar, [[0, 0, 72, 12], [0, 0, 60, 12], [0, 33, 40, 36], [24, 0, 74, 12]])
