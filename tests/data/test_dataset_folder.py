"""A dataset folder that cannot be trained on is refused in one sentence that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from musicbert_plugin.codecs.octuple import dictionary_lines
from musicbert_plugin.data.dataset_folder import check_octuple_folder
from musicbert_plugin.errors import DatasetError


@pytest.mark.parametrize("windows", ["drawn", "stored"])
def test_the_folder_says_what_its_items_are(octuple_folder: Callable[..., Path], windows: str) -> None:
    assert check_octuple_folder(octuple_folder(train=[20], config={"windows": windows})) == windows


def test_a_folder_of_fairseq_preprocess_holds_windows(octuple_folder: Callable[..., Path]) -> None:
    assert check_octuple_folder(octuple_folder(train=[20], config=None)) == "stored"


def test_a_dictionary_with_the_line_ends_of_another_system_is_the_same(octuple_folder: Callable[..., Path]) -> None:
    folder = octuple_folder(train=[20])
    (folder / "dict.txt").write_bytes("\r\n".join(dictionary_lines()).encode())
    assert check_octuple_folder(folder) == "drawn"


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({"format": 2}, "has dataset format 2, but this version reads format 1"),
        ({"format": None}, "has dataset format None"),
        ({"kind": "remi"}, "kind 'remi', but this task reads kind 'octuple'"),
        ({"dictionary_sha256": "00"}, "made with another dictionary"),
        ({"windows": "some"}, "'some', but it is one of drawn, stored"),
    ],
)
def test_a_config_of_something_else_is_refused(
    octuple_folder: Callable[..., Path], config: dict[str, object], sentence: str
) -> None:
    with pytest.raises(DatasetError, match=sentence):
        check_octuple_folder(octuple_folder(train=[20], config=config))


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda folder: (folder / "dict.txt").unlink(), "dict.txt is missing"),
        (lambda folder: (folder / "dict.txt").write_text("<0-0> 0\n"), "is not the octuple dictionary"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "holds no JSON object"),
    ],
)
def test_a_damaged_folder_is_refused(
    octuple_folder: Callable[..., Path], damage: Callable[[Path], object], sentence: str
) -> None:
    folder = octuple_folder(train=[20])
    damage(folder)
    with pytest.raises(DatasetError, match=sentence):
        check_octuple_folder(folder)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        check_octuple_folder(tmp_path / "nothing")
