"""Sidecars: files beside the containers of a dataset folder that have one row per item, or describe all items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preprocess.engine.entries import Failure
from preprocess.engine.sources import Collection
from preprocess.engine.split_plan import SplitPlan


class SidecarWriter:
    """Writes the sidecars of a kind of dataset; this base class writes none.

    Attributes
    ----------
    files : tuple of str
        Names of the files that it writes.
    optional_files : tuple of str
        Names of files that it may write; a dataset is complete without them.
    splits, groups : dict of str to str
        Splits and groups of files, by name, beside those that the user's tables name.
    splits_of : str
        What has fixed ``splits``, for messages.
    lenient : bool
        Whether tables of splits and groups may name files that are not in the source.
    only_listed : bool
        Whether files without a split are left out where splits are fixed; else they are split by content.
    left_out : dict of int to Failure
        Files, by index, that are left out before they are read; known after :meth:`check`.  Those without a sentence
        are not named one by one.
    failures : int
        What could not be used of the user's tables, so that the command has not done all; known after :meth:`check`.
    """

    files: tuple[str, ...] = ()
    optional_files: tuple[str, ...] = ()
    splits: dict[str, str] = {}
    groups: dict[str, str] = {}
    splits_of = "the source"
    lenient = False
    only_listed = False
    left_out: dict[int, Failure] = {}
    failures = 0

    def description(self) -> dict[str, Any]:
        """What decides the bytes of the files."""
        return {}

    def check(self, collection: Collection) -> None:
        """Called before the build begins, with the files of the source; an :class:`OptionError` ends the build."""

    def decided(self, plan: SplitPlan) -> None:
        """Called when it is decided where every file goes; an :class:`OptionError` ends the build."""

    def begin(self, out: Path) -> None:
        """Called when all files are read and those of the dataset follow, in the order of their names."""

    def add(self, index: int, split: str, sidecars: dict[str, Any]) -> dict[str, Any]:
        """Add a file of a split, with its :attr:`Piece.sidecars`; returns entries of its line in the manifest."""
        return {}

    def leave_out(self, sidecars: dict[str, Any]) -> None:
        """Add a file that became no piece, with its :attr:`ScoreError.sidecars`."""

    def finish(self) -> dict[str, Any]:
        """Complete the files; returns entries of ``config.json``."""
        return {}
