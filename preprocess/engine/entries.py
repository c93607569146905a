"""What sources list: the files in them, and what cannot be read there."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from musicbert_plugin.errors import ScoreError


class Failure(NamedTuple):
    """Why something in a source cannot be read: the reason, as in manifests, and the sentence."""

    reason: str
    sentence: str


class Entry(NamedTuple):
    """A file of a source: its (escaped) name, its stamp, and the location by which the source reads it.

    With a ``failure`` it is something that cannot be read, such as a loop of links; the name is empty if that is the
    source itself.
    """

    name: str
    stamp: int
    place: bytes = b""
    failure: Failure | None = None


def is_music(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a path with ``/`` has one of the suffixes, and is neither hidden nor one that macOS adds to archives."""
    base = name.rpartition("/")[2]
    return base.lower().endswith(suffixes) and not base.startswith(".") and not name.startswith("__MACOSX/")


def count_other(others: Counter[str], name: str) -> None:
    """Count the suffix of a file that is passed over; hidden files and those of macOS do not count."""
    base = name.rpartition("/")[2]
    if not base.startswith(".") and not name.startswith("__MACOSX/"):
        others[os.path.splitext(base)[1].lower()] += 1


@dataclass(frozen=True)
class Unreadable:
    """The source of everything that cannot be read; the place of a file is its :class:`Failure`."""

    streamed = False

    @staticmethod
    def place_of(failure: Failure) -> bytes:
        """A failure as the place of a file."""
        return "\0".join(failure).encode("utf-8", "surrogatepass")

    def read(self, name: str, place: bytes, limit: int) -> bytes:
        """Raise the :class:`ScoreError` of the failure."""
        reason, _, sentence = place.decode("utf-8", "surrogatepass").partition("\0")
        raise ScoreError(reason, sentence)
