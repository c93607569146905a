"""Dataset folders: is this folder one that this code can train on?

A folder of octuples holds ``dict.txt`` and ``{train,valid,test}.{bin,idx}``, and, if ``preprocess`` made it,
``config.json`` with ``"format": 1``, ``"kind": "octuple"``, the sha256 of the dictionary and ``"windows"``:
``"drawn"`` where an item is a whole part of a piece and every epoch draws its own windows from it, or ``"stored"``
where the items are windows already. A folder without ``config.json`` is taken for the work of ``fairseq-preprocess``:
its items are windows.

Whatever does not fit is told in one sentence (:class:`~musicbert_plugin.errors.DatasetError`) before training starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from musicbert_plugin.codecs.octuple import DICTIONARY_SHA256, is_dictionary
from musicbert_plugin.errors import DatasetError

FORMAT = 1
WINDOWS = ("drawn", "stored")


def read_config(path: Path) -> dict[str, Any]:
    """The values of a ``config.json``.  Raises DatasetError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON ({error}); build the dataset again.") from error
    if not isinstance(config, dict):
        raise DatasetError(f"{path} holds no JSON object; build the dataset again.")
    return config


def check_octuple_folder(folder: str | Path) -> str:
    """Check a dataset folder of octuples; returns how its items are to be read, ``"drawn"`` or ``"stored"``.

    Raises
    ------
    DatasetError
        If the folder or its dictionary is missing, if it was made by a newer format, for another kind of data or with
        another dictionary, or if it is unfinished.
    """
    folder = Path(folder)
    build = f"'python -m preprocess.octuple build SRC --dest {folder}'"
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder: it should be a dataset folder, as {build} makes it.")
    dictionary = folder / "dict.txt"
    if not dictionary.is_file():
        raise DatasetError(f"{dictionary} is missing, so {folder} is no finished dataset folder; {build} makes one.")
    windows = "stored"
    if (folder / "config.json").is_file():
        config = read_config(folder / "config.json")
        number, kind = config.get("format"), config.get("kind")
        if not isinstance(number, int) or number > FORMAT or number < 1:
            raise DatasetError(
                f"{folder} has dataset format {number}, but this version reads format {FORMAT}; update the plugin."
            )
        if kind != "octuple":
            raise DatasetError(f"{folder} holds data of kind '{kind}', but this task reads kind 'octuple'.")
        if config.get("dictionary_sha256") != DICTIONARY_SHA256:
            raise DatasetError(
                f"{folder} was made with another dictionary (sha256 {config.get('dictionary_sha256')}) than this "
                f"version's ({DICTIONARY_SHA256}); build it again."
            )
        windows = config.get("windows", "drawn")
        if windows not in WINDOWS:
            raise DatasetError(
                f'{folder / "config.json"} says "windows": {windows!r}, but it is one of {", ".join(WINDOWS)}.'
            )
    if not is_dictionary(dictionary.read_bytes()):
        raise DatasetError(f"{dictionary} is not the octuple dictionary (1,232 words, sha256 {DICTIONARY_SHA256}).")
    return windows
