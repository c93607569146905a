"""``config.json`` of dataset folders of all kinds: what is accepted can be read."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from pathlib import Path

import numpy as np

from musicbert_plugin.codecs import octuple, remi
from musicbert_plugin.data.dataset_folder import KINDS, check_octuple_folder, check_remi_folder
from musicbert_plugin.data.indexed_dataset import IndexedDatasetWriter
from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
from musicbert_plugin.errors import DatasetError
from tests.fuzz.mutation import mutate_json

CASES = 250
FEATURES, FRAMES = 4, 6


def seeds() -> list[bytes]:
    """The configuration of each kind."""
    remi_sha = hashlib.sha256(remi.dictionary_text().encode()).hexdigest()
    spectrogram = {
        "format": 1,
        "kind": "spectrogram",
        "front_end": {"name": "logmel4", "sample_rate": 8000, "n_fft": 256, "hop": 128, "window": "hann", "n_mels": 4}
        | {"stack": False, "normalisation": "none", "tuning": 0.0},
        "feature_names": [f"mel {band}" for band in range(FEATURES)],
        "blocks": {"mel": [0, FEATURES]},
        "frequencies": [100.0, 1000.0, None, 3000.0],
        "frame_rate": 62.5,
        "mean": [-4.0] * FEATURES,
        "std": [1.0] * FEATURES,
    }
    entries = (
        {"format": 1, "kind": "octuple", "windows": "drawn", "dictionary_sha256": octuple.DICTIONARY_SHA256, "seed": 1},
        {"format": 1, "kind": "remi", "layout": "bar-tempo", "dictionary_sha256": remi_sha, "versions": {"numpy": "2"}},
        {"format": 1, "kind": "remi_pairs", "layout": "notes", "dictionary_sha256": remi_sha},
        spectrogram,
    )
    return [json.dumps(entry).encode() for entry in entries]


KEPT = {
    "nested deeply": b"[" * 100_000 + b"]" * 100_000,
    "objects nested deeply": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "no number as a mean": seeds()[3].replace(b'"mean": [-4.0', b'"mean": [NaN'),
    "a deviation above all": seeds()[3].replace(b'"std": [1.0', b'"std": [1e999'),
    "no frames in a second": seeds()[3].replace(b"62.5", b"0"),
    "a rate with a thousand digits": seeds()[3].replace(b"62.5", b"9" * 1000),
}
"""Files that once ended in a traceback, or in features that are no numbers."""


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage the tree of values."""
    return mutate_json(data, rng, others)


def check(data: bytes, folder: Path) -> None:
    """Open a folder of each kind with this configuration; at most one accepts it."""
    if not (folder / "octuple").exists():
        _make(folder)
    answers = 0
    for kind in ("octuple", "remi", "spectrogram"):
        (folder / kind / "config.json").write_bytes(data)
        try:
            if kind == "octuple":
                assert check_octuple_folder(folder / kind) in ("drawn", "stored")
            elif kind == "remi":
                assert check_remi_folder(folder / kind).layout in (None, *remi.LAYOUTS)
            else:
                split = SpectrogramFolder(folder / kind).split("train")
                assert split[0].shape == (FRAMES, FEATURES)
                assert split.mean.shape == split.std.shape == (FEATURES,)
                assert np.isfinite(split.mean).all() and np.isfinite(split.std).all()
                assert 0 < split.frame_rate < float("inf")
        except DatasetError as error:
            assert "\n" not in str(error), str(error)
        else:
            answers += 1
    assert answers < 2, f"{answers} of {', '.join(KINDS)}"


def _make(folder: Path) -> None:
    """Folders that lack their config.json only."""
    for kind in ("octuple", "remi", "spectrogram"):
        (folder / kind).mkdir()
    (folder / "octuple" / "dict.txt").write_text(octuple.dictionary_text())
    (folder / "remi" / "dict.txt").write_text(remi.dictionary_text())
    writer = IndexedDatasetWriter(folder / "spectrogram" / "train", "uint16")
    writer.add(np.zeros((FRAMES, FEATURES), np.float16).view(np.uint16).ravel())
    writer.close()
    with (folder / "spectrogram" / "train.clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["clip", "frames"], ["a.wav", FRAMES]])
