"""The infill command on a small random model: the files it writes, what it keeps, and how wrong bars are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.score import Score, read_midi, write_midi
from musicbert_plugin.evaluate import infill
from musicbert_plugin.evaluate.__main__ import main

pytest.importorskip("matplotlib", reason="pictures are an extra (requirements-quickstart.txt)")


@pytest.fixture
def checkpoint(registered: None, tmp_path: Path) -> Path:
    """A file as fairseq-train writes it, of a tiny model with random weights."""
    import torch

    from musicbert_plugin.models.musicbert import MusicBERTConfig, MusicBERTModel
    from musicbert_plugin.tasks.octuple_task import octuple_dictionary

    torch.manual_seed(0)
    size = {"encoder_layers": 1, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32, "encoder_attention_heads": 2}
    size["max_positions"] = 1024
    model = MusicBERTModel.build_model(MusicBERTConfig(**size), SimpleNamespace(source_dictionary=octuple_dictionary()))
    cfg = {"model": {"_name": "musicbert", **size}, "task": {"_name": "octuple_masked_lm"}}
    path = tmp_path / "model.pt"
    torch.save({"args": None, "cfg": cfg, "model": model.state_dict()}, path)
    return path


@pytest.fixture
def piece(tmp_path: Path) -> Path:
    """Eight bars of two instruments, whose meter changes inside the sixth."""
    onset = np.repeat(np.arange(0, 32), 2) * 240
    score = Score.of(
        240, onset, onset + 200, 60 + np.arange(64) % 13, 70, np.tile([0, 40], 32), meters=[(0, 4, 4), (5000, 3, 4)]
    )
    path = tmp_path / "piece.mid"
    write_midi(score, path)
    return path


def test_only_the_asked_notes_change_and_everything_is_written(
    checkpoint: Path, piece: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "out"
    arguments = ["--path", str(checkpoint), "--bars", "2:4", "--programs", "40", "--dest", str(dest)]
    assert main(["infill", str(piece), *arguments]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["bars"] == [2, 4] and values["notes"] == 8
    assert {path.name for path in dest.iterdir()} == {*infill.FILES, "answers.jsonl"}
    original = octuple.encode(read_midi(dest / "original.mid"))
    masked = octuple.encode(read_midi(dest / "masked.mid"))
    filled = octuple.encode(read_midi(dest / "filled.mid"))
    np.testing.assert_array_equal(original, octuple.encode(read_midi(piece)))
    assert len(masked) == len(original) - 8
    new = infill._written(filled, masked)
    assert 0 < new.sum() <= 8, "notes that coincide are one"
    assert main(["infill", str(piece), *arguments]) == 0, "what an earlier run wrote is replaced"
    (dest / "filled.mid").write_bytes(b"mine")
    capsys.readouterr()
    assert main(["infill", str(piece), *arguments]) == 2 and (dest / "filled.mid").read_bytes() == b"mine"
    assert "filled.mid was changed since it was generated" in capsys.readouterr().err
    assert set(filled[new, octuple.PROGRAM].tolist()) == {40}
    assert set(filled[new, octuple.BAR].tolist()) <= {1, 2}


def test_a_piece_of_any_name_is_filled_and_drawn_and_may_be_named_by_its_escaped_form(
    checkpoint: Path, piece: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, form = os.fsencode(tmp_path) + "/$x^{$ 日\n".encode() + b"\xe9.mid", rf"{tmp_path}/$x^{{$ 日\x0a\xe9.mid"
    try:
        os.rename(piece, odd)
    except OSError:
        pytest.skip("this file system takes no such names")
    for name in (os.fsdecode(odd), form):
        arguments = ["--path", str(checkpoint), "--bars", "2:4", "--dest", str(tmp_path / "out")]
        assert main(["infill", name, *arguments]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["piece"] == form and "Traceback" not in said.err and "lyph" not in said.err


def jig(tmp_path: Path) -> Path:
    """Eight bars of 6/8 for one instrument: in the bars that are filled no other note stays."""
    onset = np.arange(48) * 240
    score = Score.of(480, onset, onset + 240, 60 + np.arange(48) % 13, 70, 40, tempi=[(0, 66.0)], meters=[(0, 6, 8)])
    write_midi(score, tmp_path / "jig.mid")
    return tmp_path / "jig.mid"


def test_by_default_a_jig_of_one_instrument_keeps_its_meter_and_tempo_and_all_other_notes(
    checkpoint: Path, tmp_path: Path
) -> None:
    for seed in range(5):
        dest = tmp_path / str(seed)
        arguments = ["--path", str(checkpoint), "--bars", "3:5", "--seed", str(seed), "--dest", str(dest)]
        assert main(["infill", str(jig(tmp_path)), *arguments]) == 0
        before, after = read_midi(dest / "original.mid"), read_midi(dest / "filled.mid")
        for name in ("resolution", "tempo_tick", "tempo_bpm", "meter_tick", "meter_numerator", "meter_denominator"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        outside = [octuple.encode(score) for score in (before, after)]
        outside = [rows[(rows[:, octuple.BAR] < 2) | (rows[:, octuple.BAR] >= 4)] for rows in outside]
        np.testing.assert_array_equal(*outside)


def test_a_new_meter_and_a_new_tempo_can_be_asked_for(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["infill", str(jig(tmp_path)), "--path", str(checkpoint), "--bars", "3:5", "--dest", str(tmp_path)]
    assert main([*arguments, "--redraw", "tempo"]) == 0
    filled = read_midi(tmp_path / "filled.mid")
    assert len(filled.tempo_tick) > 1 and len(filled.meter_tick) == 1
    assert main([*arguments, "--redraw", "meter,tempo"]) == 0
    filled = read_midi(tmp_path / "filled.mid")
    assert len(filled.tempo_tick) > 1 and len(filled.meter_tick) > 1
    capsys.readouterr()
    assert main([*arguments, "--redraw", "key"]) == 2
    assert capsys.readouterr().err == (
        "evaluate infill: redraw is 'key', but meter, tempo or both (meter,tempo) are accepted.\n"
    )


def test_bars_that_cannot_be_filled_are_refused_in_one_sentence(
    checkpoint: Path, piece: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bars in ("4:2", "0:3", "x", "90:92"):
        assert main(["infill", str(piece), "--path", str(checkpoint), "--bars", bars, "--dest", str(tmp_path)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "filled.mid").exists()


def test_agreement_counts_each_note_once_within_its_bar() -> None:
    truth = np.array([[0, 0, 0, 60, 8, 16, 9, 35], [0, 0, 0, 60, 8, 16, 9, 35], [1, 16, 0, 62, 4, 16, 9, 35]])
    written = np.array([[0, 0, 0, 60, 8, 16, 9, 35], [0, 16, 0, 72, 4, 16, 9, 35], [0, 16, 0, 62, 4, 16, 9, 35]])
    shares = infill._compare(truth, written)
    assert shares == {
        "same_onset": pytest.approx(1 / 3),
        "same_pitch_class": pytest.approx(2 / 3),
        "same_pitch": pytest.approx(1 / 3),
        "same_onset_and_pitch": pytest.approx(1 / 3),
        "same_duration": pytest.approx(1 / 3),
    }
