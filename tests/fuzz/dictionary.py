"""``dict.txt`` of a folder with one's own words."""

from __future__ import annotations

from pathlib import Path

from musicbert_plugin.data.dataset_folder import read_dictionary

CASES = 300


def seeds() -> list[bytes]:
    """Music words and others, with either kind of line end."""
    text = "".join(
        f"{word} {count}\n" for count, word in enumerate(["b-1", "o-0", "p-60", "<sep>", "a word", "é", "K1_0"])
    )
    return [text.encode(), text.replace("\n", "\r\n").encode()]


def check(data: bytes, folder: Path) -> None:
    """Read the words."""
    (folder / "dict.txt").write_bytes(data)
    words = read_dictionary(folder / "dict.txt")
    assert len(set(words)) == len(words) and "<sep>" in words
