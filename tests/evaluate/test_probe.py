"""The probe on notes: labelled folders, MIDI with a table, and what does not fit (``test_audio`` has that on sound)."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.descriptors import NAMES, PEDAL, descriptors
from musicbert_plugin.codecs.score import Score, write_midi
from musicbert_plugin.evaluate.__main__ import main

SIZES = {"encoder_layers": 1, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32, "encoder_attention_heads": 2}


@pytest.fixture
def checkpoint(registered: None, tmp_path: Path) -> Path:
    import torch

    from musicbert_plugin.models.musicbert import MusicBERTModel
    from musicbert_plugin.tasks.octuple_task import octuple_dictionary

    sizes = {**SIZES, "max_positions": 512}
    torch.manual_seed(0)
    model = MusicBERTModel.build_model(Namespace(**sizes), SimpleNamespace(source_dictionary=octuple_dictionary()))
    cfg = {"model": {"_name": "musicbert", **sizes}, "task": {"_name": "octuple_masked_lm"}}
    torch.save({"args": None, "cfg": cfg, "model": model.state_dict()}, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    status = main(["probe", *map(str, words)])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else None, said.err


def test_a_folder_of_notes_is_probed_in_its_units_and_folds(checkpoint, labelled_folder, capsys) -> None:
    """High pieces are told from low ones by descriptors and by states; the folds are those of the dataset."""
    folder = labelled_folder(train=[20 + number for number in range(12)], folds=3)
    status, values, said = run(capsys, "--path", checkpoint, folder, "--label", "register")
    assert status == 0 and values["clips"] == 12 and values["groups"] == 6 and values["folds"] == 3
    assert set(values["scores"]) == {
        "descriptors", "layer 0", "layer 1", "random encoder, layer 0", "random encoder, layer 1"
    }  # fmt: skip
    assert values["scores"]["descriptors"] > 0.8 and values["macro_f1"]["descriptors"] > 0.8
    assert values["scores"]["layer 0"] > 0.8 and values["majority"] == 0.5
    gain = values["gain_over_raw"]["layer 0"]
    assert gain["low"] <= gain["mean"] <= gain["high"] and "3 folds" in said
    status, values, _ = run(
        capsys, "--path", checkpoint, folder, "--label", "mean", "--regression", "--folds", 2, "--layers", 0
    )
    assert status == 0 and values["folds"] == 2 and values["clips"] == 11, "a piece has no mean"
    assert values["scores"]["descriptors"] > 0.2


def test_a_piece_of_two_items_has_the_mean_of_their_vectors_weighted_by_notes(checkpoint, labelled_folder) -> None:
    from musicbert_plugin.data.indexed_dataset import IndexedDataset
    from musicbert_plugin.evaluate.probe_items import items_of_notes, pooled
    from musicbert_plugin.hub import MusicBERTHub

    folder = labelled_folder(train=[30, 10, 7, 12], parts=True)
    items = items_of_notes(str(folder))
    assert items.names == ["0.mid", "1.mid"] and items.units == ["g0", "g1"] and items.folds is None
    parts = [octuple.unframe(IndexedDataset(folder / "train").read(item))[0].astype(np.int64) for item in range(2)]
    expected = [descriptors(octuple.decode(part))[: -len(PEDAL)] for part in parts]
    np.testing.assert_allclose(items.raw([0])[0], (3 * expected[0] + expected[1]) / 4)
    hub = MusicBERTHub.from_pretrained(checkpoint)
    states = [pooled(hub.extract_features(part, [1])[0].numpy()) for part in parts]
    np.testing.assert_allclose(items.vectors(hub, [1], [0])[0, 0], (3 * states[0] + states[1]) / 4, rtol=1e-5)
    assert hub.layers == 1 and not np.allclose(items.vectors(hub.untrained(5), [1], [0]), items.vectors(hub, [1], [0]))


@pytest.fixture
def midi(tmp_path: Path) -> Path:
    """A folder of eight pieces, high ones and low ones in turn, and a file that is none."""
    folder = tmp_path / "midi"
    folder.mkdir()
    random = np.random.default_rng(1)
    for number in range(8):
        onset = np.arange(24) * 240
        pitch = random.integers(0, 12, 24) + 40 + 30 * (number % 2)
        write_midi(Score.of(480, onset, onset + 200, pitch, random.integers(1, 128, 24)), folder / f"{number}.mid")
    (folder / "broken.mid").write_bytes(b"MThd nothing")
    return folder


def test_midi_files_are_probed_by_a_table_and_broken_ones_are_named(checkpoint, midi, tmp_path, capsys, caplog) -> None:
    table = tmp_path / "labels.csv"
    rows = "".join(f"{number}.mid,{'low high'.split()[number % 2]},{number // 2}\n" for number in range(8))
    table.write_text(f"file,register,album\n{rows}broken.mid,low,9\nabsent.mid,low,9\n")
    common = ("--path", checkpoint, midi, "--csv", table, "--label", "register", "--folds", 2, "--layers", 0)
    status, values, _ = run(capsys, *common, "--group", "album")
    assert status == 1, "a file could not be read"
    assert values["clips"] == 8 and values["groups"] == 4 and values["scores"]["descriptors"] == 1
    assert "broken.mid" in caplog.text and "1 of its files" in caplog.text and "'absent.mid'" in caplog.text
    status, _, said = run(capsys, *common, "--group", "year")
    assert status == 2 and "no label column 'year'" in said


def test_descriptors_of_midi_have_the_pedal_if_a_file_has_one(checkpoint, midi, tmp_path) -> None:
    import symusic

    from musicbert_plugin.evaluate.probe_items import items_of_midi
    from musicbert_plugin.hub import MusicBERTHub

    table, hub = tmp_path / "labels.csv", MusicBERTHub.from_pretrained(checkpoint)
    table.write_text("file,x\n0.mid,a\n1.mid,b\n")
    assert items_of_midi(str(midi), str(table), hub).raw([0, 1]).shape == (2, len(NAMES) - len(PEDAL))
    score = symusic.Score(str(midi / "1.mid"))
    score.tracks[0].controls.extend([symusic.ControlChange(0, 64, 127), symusic.ControlChange(480, 64, 0)])
    score.dump_midi(str(midi / "1.mid"))
    found = items_of_midi(str(midi), str(table), hub).raw([0, 1])
    assert found.shape == (2, len(NAMES)) and found[1, NAMES.index("pedal_down")] > 0


def test_what_does_not_fit_is_one_sentence(checkpoint, labelled_folder, spectrogram_folder, tmp_path, capsys) -> None:
    folder = labelled_folder(train=[20, 21, 22, 23], folds=2)
    status, _, said = run(capsys, "--path", checkpoint, folder, "--label", "key")
    assert status == 2 and "no label column 'key'" in said
    status, _, said = run(capsys, "--path", checkpoint, folder, "--label", "register", "--folds", 3)
    assert status == 2 and "2 to 2 is accepted" in said
    sound = spectrogram_folder(train=[40, 50], labels={"level": lambda clip: "a"})
    status, _, said = run(capsys, "--path", checkpoint, sound, "--label", "level")
    assert status == 2 and "musicoder" in said and len(said.strip().splitlines()) == 1
    (folder / "train.labels.csv").unlink()
    status, _, said = run(capsys, "--path", checkpoint, folder, "--label", "register")
    assert status == 2 and "has no labels" in said
    table = tmp_path / "other.csv"
    table.write_text("name,register\n0.mid,low\n")
    status, _, said = run(capsys, "--path", checkpoint, tmp_path, "--csv", table, "--label", "register")
    assert status == 2 and "no column 'file'" in said
    table.write_text("file,register\n0.mid,low\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.mid").write_bytes(b"")
    status, _, said = run(capsys, "--path", checkpoint, tmp_path / "empty", "--csv", table, "--label", "register")
    assert status == 2 and "has none of the 1 files" in said
