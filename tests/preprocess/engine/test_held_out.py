"""A dataset holds no copy of what is held out, wherever that lies."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs.score import DRUMS, Score, write_midi
from preprocess import remi
from preprocess.engine.destination import Destination

Build = Callable[..., tuple[int, str]]
Corpus = Callable[..., Path]
Content = Callable[[Path], dict[str, bytes]]
Manifest = Callable[[Path], dict[str, dict]]
OPTIONS = ("--split-ratios", "1,0,0", "--duplicates", "keep")


@pytest.fixture
def others(corpus: Corpus, make_piece: Callable[..., Score]) -> Path:
    """A folder with the second piece of ``corpus(8)``, transposed and half as fast, and one that nothing is like."""
    folder = corpus(1, "others", first=90)
    score = make_piece(1)
    pitch = np.where(score.program != DRUMS, score.pitch + 3, score.pitch).astype(np.int16)
    write_midi(replace(score, onset=score.onset * 2, end=score.end * 2, pitch=pitch), folder / "slow.mid")
    return folder


def test_copies_of_another_source_and_their_groups_are_left_out_with_a_reason(
    corpus: Corpus,
    build: Build,
    others: Path,
    manifest: Manifest,
    content: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, dest = corpus(8), tmp_path / "data"
    (tmp_path / "groups.tsv").write_text("file\tgroup\n001.mid\tduo\n004.mid\tduo\n")
    options = (*OPTIONS, "--groups", tmp_path / "groups.tsv", "--held-out", others)
    status, said = build(source, dest, *options)
    assert status == 0 and "left out: held out" in said and "left out: group held out" in said
    lines = manifest(dest)
    assert lines["001.mid"]["reason"] == "held out" and lines["001.mid"]["of"] == "slow.mid"
    assert lines["004.mid"]["reason"] == "group held out"
    assert sum("split" in line for line in lines.values()) == 6
    config = json.loads((dest / "config.json").read_text())
    assert config["held_out"] == {"files": 2, "unread": 0}
    assert config["left_out"] == {"group held out": 1, "held out": 1}
    assert "nothing to do" in build(source, dest, *options)[1]
    assert build(source, dest, *OPTIONS, "--groups", tmp_path / "groups.tsv")[0] == 2  # it is another dataset

    def killed(_: Destination) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Destination, "publish", killed)
        build(source, tmp_path / "again", *options)
    assert build(source, tmp_path / "again", *options, "--jobs", 2)[0] == 0
    assert content(tmp_path / "again") == content(dest)


def test_copies_of_a_dataset_are_found_by_its_notes(
    corpus: Corpus, build: Build, others: Path, manifest: Manifest, tmp_path: Path
) -> None:
    """A piece of more than 256 bars is two items of a dataset, and one piece."""
    source = corpus(4)
    onset = np.sort(np.random.default_rng(5).integers(0, 300 * 16, 400)) * 120
    long = Score.of(480, onset, onset + 480, 40 + np.random.default_rng(6).integers(0, 40, 400))
    write_midi(long, others / "long.mid")
    write_midi(replace(long, pitch=(long.pitch + 5).astype(np.int16)), source / "higher.mid")
    assert build(others, tmp_path / "held", *OPTIONS)[0] == 0
    status, said = build(source, tmp_path / "data", *OPTIONS, "--held-out", tmp_path / "held")
    assert status == 0, said
    found = {name: line["of"] for name, line in manifest(tmp_path / "data").items() if "of" in line}
    assert found == {"higher.mid": f"{tmp_path}/held/long.mid", "001.mid": f"{tmp_path}/held/slow.mid"}
    assert build(source, tmp_path / "stored", *OPTIONS, "--windows", "stored")[0] == 0
    for arguments, sentence in (
        ((*OPTIONS, "--held-out", tmp_path / "stored"), "holds windows, not whole pieces; give what it was made of"),
        ((*OPTIONS, "--format", "text", "--held-out", tmp_path / "held"), "others take the files that it was made of"),
        ((*OPTIONS, "--held-out", tmp_path / "nowhere"), "no such file or folder"),
    ):
        status, said = build(source, tmp_path / "none", *arguments)
        assert (status, sentence in said, said.count("\n")) == (2, True, 1), said


def test_held_out_files_that_cannot_be_read_are_named_and_cost_a_status(
    corpus: Corpus, build: Build, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (others / "bad.mid").write_bytes(b"junk")
    source = corpus(3)
    for _ in range(2):  # also where the dataset is finished
        status, said = build(source, tmp_path / "data", *OPTIONS, "--held-out", others)
        assert status == 1, said
    words = ["build", str(source), "--dest", str(tmp_path / "remi"), *OPTIONS, "--held-out", str(others)]
    assert remi.main(words) == 1
    said = capsys.readouterr().err
    assert "held out, but not read: bad.mid" in said
    reasons = [json.loads(line).get("reason") for line in (tmp_path / "remi" / "manifest.jsonl").open()]
    assert reasons == [None, "held out", None]


def test_a_folder_of_pretraining_music_holds_29_pieces_of_vgmidi(
    build: Build, music_data: Path, manifest: Manifest, tmp_path: Path
) -> None:
    folder = "midi/Skuldur_Classical_Piano_Composer/"
    with zipfile.ZipFile(music_data / "midi" / "pretrain.zip") as archive:
        archive.extractall(tmp_path / "music", [name for name in archive.namelist() if name.startswith(folder)])
    held_out = music_data / "midi" / "emotion.zip"
    assert build(tmp_path / "music", tmp_path / "data", *OPTIONS, "--held-out", held_out)[0] == 0
    reasons = [line.get("reason") for line in manifest(tmp_path / "data").values()]
    assert (reasons.count("held out"), len(reasons)) == (29, 72)
