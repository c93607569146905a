"""Labels of notes: evaluation, the hub and fairseq-validate give one number, and heads are exported and applied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.score import write_midi
from musicbert_plugin.data.labelled_octuples import pairs_path
from musicbert_plugin.errors import CheckpointError
from musicbert_plugin.evaluate.__main__ import main
from tests.tasks.test_music_sequence_prediction import YAML, fine_tune


@pytest.fixture
def folder(labelled_folder: Callable[..., Path]) -> Path:
    folder = labelled_folder(train=[30, 9, 14, 3, 7, 22], valid=[12, 25, 5, 61], test=[8, 17])
    (folder / "tasks.yaml").write_text(YAML)
    return folder


def last_of(outcome: Any) -> dict[str, Any]:
    return [line for line in outcome.statistics if "valid_loss" in line][-1]


def measured(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["labels", "--draws", "20", *map(str, words)]) == 0
    return json.loads(capsys.readouterr().out)


def piece_of(folder: Path, split: str, item: int) -> np.ndarray:
    from musicbert_plugin.data.indexed_dataset import IndexedDataset

    return octuple.unframe(IndexedDataset(folder / split).read(item))[0]


def test_evaluation_the_hub_and_the_validation_give_one_number_for_pieces(
    fairseq_command: Callable[..., Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from musicbert_plugin.hub import MusicBERTHub
    from musicbert_plugin.hub.__main__ import main as hub_command

    options = ("--max-epoch", 2, "--adapter-rank", 2, "--layer-lr-decay", 0.9, "--pooling", "attention")
    line = last_of(fine_tune(fairseq_command, folder, tmp_path / "fine", *options))
    checkpoint = tmp_path / "fine" / "checkpoint_last.pt"
    values = measured(capsys, "--path", checkpoint, folder)
    for task, metric in (("register", "accuracy"), ("tags", "roc_auc"), ("mean", "r2"), ("mean", "ccc")):
        assert float(line[f"valid_{task}_{metric}"]) == pytest.approx(values[task]["model"][metric], abs=1e-4)
    assert values["items"] == 4 and values["register"]["baseline"]["accuracy"] == 0.5
    found = values["register"]["metrics"]["accuracy"]
    assert found["value"] == values["register"]["model"]["accuracy"]
    assert found["interval"][0] <= found["value"] <= found["interval"][1]

    hub = MusicBERTHub.from_pretrained(checkpoint)
    assert hub.label_window == 18  # --tokens-per-sample 160
    answers = [hub.predict(piece_of(folder, "valid", item)) for item in range(4)]
    right = [max(answer["register"], key=answer["register"].get) for answer in answers]
    accuracy = np.mean([name == truth for name, truth in zip(right, ["low", "high"] * 2, strict=True)])
    assert accuracy == values["register"]["model"]["accuracy"]
    task = {task.name: task for task in hub.label_tasks}["mean"]
    truth = [piece_of(folder, "valid", item)[:, 3].mean() for item in range(4)]
    errors = np.array([answer["mean"]["mean"] for answer in answers]) - truth
    assert 1 - (errors**2).sum() / np.var(truth) / 4 == pytest.approx(values["mean"]["model"]["r2"], abs=1e-3)
    assert task.size == 1 and hub.classify(piece_of(folder, "valid", 0), "register") == pytest.approx(
        answers[0]["register"]
    )

    small = tmp_path / "register.pt"
    assert hub_command(["export-head", str(checkpoint), str(small), "--head", "register"]) == 0
    assert measured(capsys, "--path", small, folder)["register"] == values["register"]
    assert MusicBERTHub.from_pretrained(small).predict(piece_of(folder, "valid", 3)) == {
        "register": pytest.approx(answers[3]["register"])
    }

    music = tmp_path / "music"
    music.mkdir()
    write_midi(octuple.decode(piece_of(folder, "valid", 3)), music / "a.mid")
    (music / "b.mid").write_bytes(b"no music")
    capsys.readouterr()
    assert main(["labels", "--path", str(small), "--predict", str(music), "--csv", str(tmp_path / "out.csv")]) == 1
    assert "evaluate labels: b.mid" in capsys.readouterr().err
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert (
        rows[0] == "file,register,register_probability,note,error"
        and rows[1].startswith("a.mid,")
        and "b.mid" in rows[2]
    )


def test_evaluation_the_hub_and_the_validation_give_one_number_for_notes(
    fairseq_command: Callable[..., Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from musicbert_plugin.hub import MusicBERTHub

    (folder / "tasks.yaml").write_text("tasks:\n  voice: {type: single, hide: [velocity]}\n")
    line = last_of(fine_tune(fairseq_command, folder, tmp_path / "fine", "--max-epoch", 2, task="token"))
    checkpoint = tmp_path / "fine" / "checkpoint_last.pt"
    values = measured(capsys, "--path", checkpoint, folder, "--batch-size", 2)
    assert float(line["valid_voice_accuracy"]) == pytest.approx(values["voice"]["model"]["accuracy"], abs=1e-4)
    assert values["notes"] == 103 and values["voice"]["labelled"] == 103 - 2 - 5 - 1 - 12
    hub = MusicBERTHub.from_pretrained(checkpoint)
    quieter = piece_of(folder, "valid", 1)
    quieter[:, 5] = 3
    assert np.array_equal(hub.predict_notes(quieter)["voice"], hub.predict_notes(piece_of(folder, "valid", 1))["voice"])
    right = count = 0
    for item in range(4):
        piece = piece_of(folder, "valid", item)
        found = hub.predict_notes(piece)["voice"]
        assert found.shape == (len(piece), 2)
        labelled = np.arange(len(piece)) % 5 != 4
        right += (found.argmax(1) == (piece[:, 3] % 12 >= 6))[labelled].sum()
        count += labelled.sum()
    assert right / count == pytest.approx(values["voice"]["model"]["accuracy"])
    with pytest.raises(CheckpointError, match=r"labels of notes, which predict_notes\(\) gives"):
        hub.predict(piece_of(folder, "valid", 0))
    assert main(["labels", "--path", str(checkpoint), str(folder), "--head", "chord"]) == 2
    assert "--head is 'chord'" in capsys.readouterr().err


def test_scores_of_pairs_are_written_for_the_ranking(
    fairseq_command: Callable[..., Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "tasks.yaml").unlink()
    for split, lines in (("train", "0,1,1,\n0,3,0,\n2,3,1,\n2,1,0,"), ("valid", "0,2,1,0\n0,1,0,0")):
        pairs_path(folder, split).write_text(f"first,second,label,query\n{lines}\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"phrases": {"second_bar": 4}}))
    options = ("--max-epoch", 1, "--tokens-per-sample", 400, "--max-tokens", 400)
    line = last_of(fine_tune(fairseq_command, folder, tmp_path / "fine", *options))
    checkpoint = tmp_path / "fine" / "checkpoint_last.pt"
    values = measured(capsys, "--path", checkpoint, folder, "--scores", tmp_path / "scores.csv")
    assert values["pairs"] == 2
    assert values["pair"]["model"]["accuracy"] == pytest.approx(float(line["valid_pair_accuracy"]))
    rows = [row.split(",") for row in (tmp_path / "scores.csv").read_text().splitlines()]
    assert rows[0] == ["first", "second", "score"] and [row[:2] for row in rows[1:]] == [["0", "2"], ["0", "1"]]
    right = [float(rows[1][2]) >= 0.5, float(rows[2][2]) < 0.5]
    assert np.mean(right) == values["pair"]["model"]["accuracy"]
