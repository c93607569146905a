"""What a kind of dataset is to the builder: how a file becomes a piece, and what the builder writes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from preprocess.engine.near_duplicates import Fingerprint

Item = NDArray[Any]
"""An item of a dataset: values [n]."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A file as a dataset stores it.

    Attributes
    ----------
    notes : int
        Its length in the unit of the dataset.
    items : list of array
        What the dataset will hold, values [n] each.
    exact : bytes
        Hash of the items before anything is drawn: pieces with equal hashes are duplicates for any ``duplicates`` but
        ``keep``.
    fingerprint : Fingerprint
        What near-duplicates are found by.
    sidecars : dict
        What the sidecars of the dataset need of the piece: arrays, and values that JSON knows.
    lost : dict of str to int
        Notes that could not be kept, by reason.
    repairs : mapping of str to int
        What had to be repaired in the file, from kind to number.
    other_program : int
        See ``codecs.score.Score``.
    detail : str
        What was repaired, in a sentence; empty where kind and number say it.
    """

    notes: int
    items: list[Item]
    exact: bytes
    fingerprint: Fingerprint
    sidecars: dict[str, Any] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    repairs: Mapping[str, int] = field(default_factory=dict)
    other_program: int = 0
    detail: str = ""


class DatasetSpec(Protocol):
    """What the builder must know of a kind of dataset; it is sent to the workers."""

    @property
    def name(self) -> str:
        """The kind, one of ``dataset_folder.KINDS``."""

    @property
    def dtype(self) -> str:
        """Type of the values of an item."""

    @property
    def unit(self) -> str:
        """What the length of a piece is counted in."""

    @property
    def batch_files(self) -> int:
        """Number of files that a worker gets at a time: few where each takes long, so that all workers have some."""

    @property
    def share_of_copies(self) -> float:
        """Share of equal shingles from which on two pieces are near-duplicates."""

    @property
    def reads_paths(self) -> bool:
        """Whether :meth:`read_piece` takes the path of a file on disk instead of its bytes."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that it reads."""

    @property
    def largest_file(self) -> int:
        """Largest size of a file, bytes."""

    def read_piece(self, data: Any, name: str) -> Piece:
        """The piece in a file's bytes, or in the file of a path (see :attr:`reads_paths`).

        Raises
        ------
        ScoreError
            There is none, or a filter leaves it out.
        """

    def left_out(self, reason: str) -> bool:
        """Whether a reason of :meth:`read_piece` is that of a filter, which the user has asked for, not a failure."""

    def line(self, item: Item) -> str:
        """An item as a line of text."""

    def dictionary(self) -> bytes:
        """Content of ``dict.txt``; empty where the values are not words."""

    def settings(self) -> dict[str, Any]:
        """Entries of ``config.json``: what decides the content of the items, apart from the seed."""

    def comparer(self) -> DatasetSpec:
        """How files are read whose copies this dataset must not hold: without filters, and with few data."""

    def versions(self) -> dict[str, str]:
        """Versions of the libraries that decide what a file becomes; called in the workers."""
