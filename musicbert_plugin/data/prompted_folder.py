"""Dataset folders of prefixes and music: is this folder one that this code can train on, and what is in it?

``preprocess.remi build`` makes folders of kind ``remi``: ``dict.txt``, ``{train,valid,test}.{bin,idx}`` with the music,
and ``{split}.attributes.npy``.  ``preprocess.remi pairs`` (and its entry for one's own pairs) makes kind
``remi_pairs``: ``{split}_input.{bin,idx}`` hold the condition of each sample instead.  ``config.json`` names the
layout.  A folder without it, as ``fairseq-preprocess`` makes it, is told by its files, and has no layout.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from musicbert_plugin.codecs.remi import LAYOUTS
from musicbert_plugin.data.dataset_folder import read_config
from musicbert_plugin.errors import DatasetError

FORMAT = 1
KINDS = ("remi", "remi_pairs")


@dataclass(frozen=True)
class PromptedFolder:
    """What a folder says of itself: its dictionary's words in order, and its layout, if it has one."""

    path: Path
    words: tuple[str, ...]
    layout: str | None

    def pairs(self, split: str) -> bool:
        """Whether a split's prefixes are conditions of its own, not attributes."""
        return (self.path / f"{split}_input.idx").is_file()


def read_dictionary(path: Path) -> tuple[str, ...]:
    """The words of a ``dict.txt``, in order.

    Raises
    ------
    DatasetError
        If it is missing or malformed, a word stands there twice, or ``<sep>`` is not among them.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): a dataset folder holds the words of "
            "its dictionary there, as 'python -m preprocess.remi' writes it."
        ) from error
    words = [line.rsplit(" ", 1)[0] for line in lines if line]
    seen: set[str] = set()
    for number, (line, word) in enumerate(zip([line for line in lines if line], words, strict=True), 1):
        if not line.rpartition(" ")[2].isdigit() or not word:
            raise DatasetError(f"{path}, row {number}: '{line}' is no word and count, such as 'b-1 1'.")
        if word in seen:
            raise DatasetError(f"{path}, row {number}: '{word}' stands there a second time.")
        seen.add(word)
    if "<sep>" not in seen:
        raise DatasetError(f"{path} has no word <sep>, which separates prefix and music.")
    return tuple(words)


def check_prompted_folder(folder: str | Path) -> PromptedFolder:
    """Check a folder.

    Raises
    ------
    DatasetError
        If the folder or its dictionary is missing, if it was made by a newer format, for another kind of data or with
        another dictionary.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} is not a folder: it should be a dataset folder, as 'python -m preprocess.remi build SRC --dest "
            f"{folder}' makes it."
        )
    words = read_dictionary(folder / "dict.txt")
    layout = None
    path = folder / "config.json"
    if path.is_file():
        config = read_config(path)
        number, kind, layout = config.get("format"), config.get("kind"), config.get("layout")
        if not isinstance(number, int) or not 1 <= number <= FORMAT:
            raise DatasetError(
                f"{folder} has dataset format {number}, but this version reads format {FORMAT}; update the plugin."
            )
        if kind not in KINDS:
            raise DatasetError(f"{folder} holds data of kind '{kind}', but this task reads {' and '.join(KINDS)}.")
        stated = config.get("dictionary_sha256")
        actual = hashlib.sha256((folder / "dict.txt").read_bytes()).hexdigest()
        if stated is not None and stated != actual:
            raise DatasetError(
                f"{folder / 'dict.txt'} is not the dictionary that the folder was made with (sha256 {actual}, but "
                f"config.json says {stated}); build it again."
            )
        if layout is not None and layout not in LAYOUTS:
            raise DatasetError(f'{path} says "layout": {layout!r}, but it is one of {", ".join(LAYOUTS)}.')
    return PromptedFolder(folder, words, layout)
