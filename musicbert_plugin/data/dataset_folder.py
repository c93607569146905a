"""Dataset folders: the format that all of them share, and the one check that readers and the builder make.

A dataset folder holds ``{train,valid,test}.{bin,idx}`` (see ``indexed_dataset``), ``dict.txt`` where the values are
words, and ``config.json`` with ``"format": 1``, its ``"kind"`` and what made it:

``octuple``
    OctupleMIDI.  ``"windows"`` is ``"drawn"`` where an item is a part of a piece from which every epoch draws windows,
    or ``"stored"`` where the items are windows already.
``remi``
    MuseCoco's REMI with the classes of its attributes in ``{split}.attributes.npy``.  ``"layout"`` names the layout.
``remi_pairs``
    Conditions in ``{split}_input.{bin,idx}``, item for item, and the music that answers them in ``{split}.{bin,idx}``.
``spectrogram``
    Features of recordings; see ``spectrogram_folder``.

A folder without ``config.json`` is taken for the work of ``fairseq-preprocess``: octuples in it are stored windows, and
REMI has no layout; conditions are recognised by their files.

What does not fit is refused in one sentence (:class:`~musicbert_plugin.errors.DatasetError`) before training starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicbert_plugin.codecs.octuple import DICTIONARY_SHA256, is_dictionary
from musicbert_plugin.codecs.remi import FREE, LAYOUTS
from musicbert_plugin.errors import DatasetError

FORMAT = 1
KINDS = {
    "octuple": "python -m preprocess.octuple build",
    "remi": "python -m preprocess.remi build",
    "remi_pairs": "python -m preprocess.remi pairs",
    "spectrogram": "python -m preprocess.audio build",
}
"""Kinds of datasets and the commands that build them."""
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


def write_config(folder: Path, kind: str, entries: dict[str, Any]) -> None:
    """Write the ``config.json`` of a dataset of a kind of :data:`KINDS`."""
    config = {"format": FORMAT, "kind": kind, **entries}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def check_folder(folder: str | Path, *kinds: str) -> dict[str, Any] | None:
    """The ``config.json`` of a dataset folder of one of the kinds; None if it has none, or that of a model.

    Raises
    ------
    DatasetError
        If the folder is missing, or was made by a newer format or for another kind of data.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} is not a folder: it should be a dataset folder, as '{KINDS[kinds[0]]} SRC --dest {folder}' "
            "makes it."
        )
    path = folder / "config.json"
    if not path.is_file():
        return None
    config = read_config(path)
    if "format" not in config and "model_type" in config:
        return None  # a Hugging Face folder, which names the dictionary of its model
    number, kind = config.get("format"), config.get("kind")
    if not isinstance(number, int) or not 1 <= number <= FORMAT:
        raise DatasetError(
            f"{folder} has dataset format {number}, but this version reads format {FORMAT}; update the plugin."
        )
    if kind not in kinds:
        raise DatasetError(f"{folder} holds data of kind '{kind}', but this task reads kind '{' or '.join(kinds)}'.")
    return config


def _check_choice(folder: Path, config: dict[str, Any], name: str, accepted: Sequence[str], default: Any) -> Any:
    value = config.get(name, default)
    if value not in (*accepted, default):
        known = ", ".join(accepted)
        raise DatasetError(f'{folder / "config.json"} says "{name}": {value!r}, but it is one of {known}.')
    return value


def check_octuple_folder(folder: str | Path) -> str:
    """Check a dataset folder of octuples; returns how its items are read, ``"drawn"`` or ``"stored"``.

    Raises
    ------
    DatasetError
        As :func:`check_folder`, or if the dictionary is missing or another.
    """
    folder = Path(folder)
    config = check_folder(folder, "octuple")
    dictionary = folder / "dict.txt"
    if not dictionary.is_file():
        raise DatasetError(
            f"{dictionary} is missing, so {folder} is no finished dataset folder; '{KINDS['octuple']} SRC --dest "
            f"{folder}' makes one."
        )
    windows = "stored"
    if config is not None:
        if config.get("dictionary_sha256") != DICTIONARY_SHA256:
            raise DatasetError(
                f"{folder} was made with another dictionary (sha256 {config.get('dictionary_sha256')}) than this "
                f"version's ({DICTIONARY_SHA256}); build it again."
            )
        windows = _check_choice(folder, config, "windows", WINDOWS, "drawn")
    if not is_dictionary(dictionary.read_bytes()):
        raise DatasetError(f"{dictionary} is not the octuple dictionary (1,232 words, sha256 {DICTIONARY_SHA256}).")
    return windows


@dataclass(frozen=True)
class RemiFolder:
    """A dataset folder of kind ``remi`` or ``remi_pairs``.

    Attributes
    ----------
    path : Path
    words : tuple of str
        The words of its dictionary, in order.
    layout : str or None
        None where it is not known.
    """

    path: Path
    words: tuple[str, ...]
    layout: str | None

    def pairs(self, split: str) -> bool:
        """Whether the music of a split is conditioned on custom conditions, not on attributes."""
        return (self.path / f"{split}_input.idx").is_file()


def read_dictionary(path: Path) -> tuple[str, ...]:
    """The words of a ``dict.txt``, in order.

    Raises
    ------
    DatasetError
        If it is missing or malformed, a word stands there twice, or ``<sep>`` is not among them.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): a dataset folder holds the words of "
            "its dictionary there, as 'python -m preprocess.remi' writes it."
        ) from error
    words: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        word, _, count = line.rpartition(" ")
        if not count.isdigit() or not word:
            raise DatasetError(f"{path}, row {number}: '{line}' is no word and count, such as 'b-1 1'.")
        if word in words:
            raise DatasetError(f"{path}, row {number}: '{word}' stands there a second time.")
        words[word] = None
    if "<sep>" not in words:
        raise DatasetError(f"{path} has no word <sep>, which separates prefix and music.")
    return tuple(words)


def check_remi_folder(folder: str | Path) -> RemiFolder:
    """Check a dataset folder of kind ``remi`` or ``remi_pairs``.

    Raises
    ------
    DatasetError
        As :func:`check_folder`, or if the dictionary is missing, malformed or another than the folder was made with.
    """
    folder = Path(folder)
    config = check_folder(folder, "remi", "remi_pairs")
    words = read_dictionary(folder / "dict.txt")
    layout = None
    if config is not None:
        stated = config.get("dictionary_sha256")
        actual = hashlib.sha256((folder / "dict.txt").read_bytes()).hexdigest()
        if stated not in (None, actual):
            raise DatasetError(
                f"{folder / 'dict.txt'} is not the dictionary that the folder was made with (sha256 {actual}, but "
                f"config.json says {stated}); build it again."
            )
        layout = _check_choice(folder, config, "layout", (*LAYOUTS, FREE), None)
    return RemiFolder(folder, words, layout)
