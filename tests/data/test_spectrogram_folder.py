"""A feature folder gives every clip back, whole or in slices, with the numbers that a model must know about it."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.data.indexed_dataset import IndexedDatasetWriter
from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
from musicbert_plugin.errors import DatasetError


@pytest.fixture
def spectrogram_folder(tmp_path: Path) -> Callable[..., Path]:
    """``spectrogram_folder(train=[400, 250], valid=[300])``: made-up clips with that many frames each.

    Clips are smooth in time and frequency, as spectrograms are.  ``labels`` has a list of raw cells per column, for the
    clips of all splits in order; ``config`` replaces entries of config.json.
    """

    def make(
        name: str = "spectrograms",
        features: int = 96,
        labels: dict[str, list[str]] | None = None,
        config: dict[str, Any] | None = None,
        seed: int = 1,
        **splits: list[int],
    ) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / name
        folder.mkdir()
        columns = labels or {}
        clips, done = {}, 0
        for split in ("train", "valid", "test"):
            clips[split] = []
            writer = IndexedDatasetWriter(folder / split, "uint16")
            with (folder / f"{split}.clips.csv").open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(["clip", "frames", *columns])
                for frames in splits.get(split, []):
                    time, band = np.arange(frames)[:, None], np.arange(features)
                    phase, speed, slope = rng.uniform(0, 6, 3)
                    clip = 3 * np.sin(time * (0.05 + speed / 30) + band * slope / 9 + phase) - 5 - band / 30
                    clip = (clip + 0.3 * rng.standard_normal(clip.shape)).astype(np.float16)
                    clips[split].append(clip)
                    writer.add(clip.reshape(-1).view(np.uint16))
                    table.writerow([f"{split}-{done}.wav", frames, *(cells[done] for cells in columns.values())])
                    done += 1
            writer.close()
        rows = np.concatenate(clips["train"] or [np.zeros((1, features))]).astype(np.float64)
        entries = {
            "format": 1,
            "kind": "spectrogram",
            "front_end": {"name": "made up", "sample_rate": 22050, "hop": 512},
            "feature_names": [f"mel {band}" for band in range(features)],
            "blocks": {"mel": [0, features]},
            "frequencies": [50.0 * 2 ** (band / 12) for band in range(features)],
            "frame_rate": 22050 / 512,
            "mean": rows.mean(0).tolist(),
            "std": rows.std(0).tolist(),
            "on_the_fly": False,
        }
        (folder / "config.json").write_text(json.dumps(entries | (config or {})))
        return folder

    return make


def test_a_folder_tells_its_splits_clips_and_frames(spectrogram_folder):
    folder = SpectrogramFolder(spectrogram_folder(train=[400, 250], valid=[300]))
    train, valid, test = (folder.split(name) for name in ("train", "valid", "test"))
    assert (len(train), len(valid), len(test)) == (2, 1, 0)
    assert train.frames.tolist() == [400, 250] and train.frames.dtype == np.int64
    assert train.names == ["train-0.wav", "train-1.wav"] and valid.names == ["valid-2.wav"]
    assert folder.num_features == len(train.feature_names) == 96
    assert train.frame_rate == 22050 / 512
    assert folder.blocks == {"mel": (0, 96)}


def test_a_slice_is_that_part_of_the_clip(spectrogram_folder):
    train = SpectrogramFolder(spectrogram_folder(train=[40, 25])).split("train")
    whole = train.read(1)
    assert whole.shape == (25, 96) and whole.dtype == np.float32 and whole.flags.writeable
    for start, stop in ((0, 25), (3, 10), (24, 25), (7, 7)):
        np.testing.assert_array_equal(train.read(1, start, stop), whole[start:stop])
    np.testing.assert_array_equal(train.read(1, 20), whole[20:])


def test_mean_and_deviation_are_those_of_the_training_clips(spectrogram_folder):
    folder = SpectrogramFolder(spectrogram_folder(train=[400, 250], valid=[300]))
    rows = np.concatenate(list(folder.split("train"))).astype(np.float64)
    for name in ("train", "valid"):
        np.testing.assert_allclose(folder.split(name).mean, rows.mean(0), atol=1e-5)
        np.testing.assert_allclose(folder.split(name).std, rows.std(0), atol=1e-5)


def test_a_feature_that_never_changes_has_a_deviation_to_divide_by(spectrogram_folder):
    folder = SpectrogramFolder(spectrogram_folder(train=[40], config={"std": [0.0] * 96}))
    assert (folder.std == np.float32(1e-3)).all()


def test_labels_are_the_raw_cells_and_empty_ones_stay_empty(spectrogram_folder):
    labels = {"genre": ["rock", "", "jazz"], "AV": ["0.5/-0.25", "", "0/0"]}
    folder = SpectrogramFolder(spectrogram_folder(train=[10, 20], valid=[30], labels=labels))
    assert folder.split("train").labels == {"genre": ["rock", ""], "AV": ["0.5/-0.25", ""]}
    assert folder.split("valid").labels == {"genre": ["jazz"], "AV": ["0/0"]}


def test_columns_of_older_tables_are_found_by_their_names_without_spaces_and_in_normal_form(spectrogram_folder):
    labels = {" genre ": ["rock"], "Cafe\u0301": ["x"]}
    folder = SpectrogramFolder(spectrogram_folder(train=[10], labels=labels))
    assert folder.split("train").labels == {"genre": ["rock"], "Café": ["x"]}


def test_two_columns_of_one_name_are_not_read_and_told(spectrogram_folder, caplog):
    labels = {"genre": ["rock"], "genre ": ["jazz"], "mood": ["calm"]}
    folder = SpectrogramFolder(spectrogram_folder(train=[10], labels=labels))
    assert folder.split("train").labels == {"mood": ["calm"]}
    assert "train.clips.csv has two columns named genre, which are not read" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,frames\na.wav,10,x\n", r"line 2 has no clip, frames and labels\); build the dataset again"),
        ("clip,length\na.wav,10\n", r"line 1 has no clip, frames"),
        ('clip,frames\n"a.wav,10\n', r"cannot be read as CSV \(a quotation mark .*\); build the dataset again"),
        (None, r"train.clips.csv: cannot be read as CSV \(No such file or directory\); build"),
    ],
)
def test_a_damaged_table_is_told_with_its_name(spectrogram_folder, text, words):
    path = spectrogram_folder(train=[10])
    table = path / "train.clips.csv"
    table.unlink() if text is None else table.write_text(text)
    with pytest.raises(DatasetError, match=words):
        SpectrogramFolder(path).split("train")


def test_a_loader_process_reads_the_same_clips(spectrogram_folder):
    train = SpectrogramFolder(spectrogram_folder(train=[400, 250])).split("train")
    pickled = pickle.dumps(train)
    np.testing.assert_array_equal(pickle.loads(pickled).read(1), train.read(1))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"format": 2}, "format 2"),
        ({"kind": "octuple"}, "kind 'octuple'"),
        ({"mean": [0.0]}, "mean has shape"),
    ],
)
def test_another_folder_is_refused_in_one_sentence(spectrogram_folder, config, expected):
    with pytest.raises(DatasetError, match=expected):
        SpectrogramFolder(spectrogram_folder(train=[10], config=config))


def test_a_missing_folder_and_frames_outside_a_clip_are_told(spectrogram_folder, tmp_path):
    with pytest.raises(DatasetError, match="is not a folder"):
        SpectrogramFolder(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="config.json is missing"):
        SpectrogramFolder(tmp_path)
    train = SpectrogramFolder(spectrogram_folder(train=[10])).split("train")
    with pytest.raises(DatasetError, match="frames 0 to 11 of an item of 10 frames"):
        train.read(0, 0, 11)


def test_a_shortened_container_is_told(spectrogram_folder):
    path = spectrogram_folder(train=[10, 20])
    table = path / "train.clips.csv"
    table.write_text(table.read_text().replace(",20", ",21"))
    with pytest.raises(DatasetError, match="list different items"):
        SpectrogramFolder(path).split("train")
