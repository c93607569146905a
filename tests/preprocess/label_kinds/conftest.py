"""The command ``preprocess.labels`` inside the test process, and what it has built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from musicbert_plugin.data.dataset_folder import check_octuple_folder
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import LabelledItems, check_items, read_labels
from musicbert_plugin.errors import MusicError
from preprocess import labels
from preprocess.engine import cli as command


@pytest.fixture
def label_build(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """``label_build("tokens", source, dest, "--label", "velocity")``: gives the exit status and what was said."""

    def run(kind: str, source: Path, dest: Path, *options: object) -> tuple[int, str]:
        try:
            status = labels.main([kind, str(source), "--dest", str(dest), *map(str, options)])
        except MusicError as error:
            command.say(str(error))
            status = command.CANNOT_START
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def labelled_items() -> Callable[[Path, str], LabelledItems]:
    """``labelled_items(dest, "train")``: the table of a split, compared with its container."""

    def read(dest: Path, split: str) -> LabelledItems:
        check_octuple_folder(dest)
        items = read_labels(dest, split)
        check_items(items, IndexedDataset(dest / split).sizes, dest / split)
        return items

    return read
