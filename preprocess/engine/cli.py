"""Shared by all commands that build: options declared as dataclasses, and progress.

How a command starts and ends is that of all commands, see ``musicbert_plugin.commands``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any

from musicbert_plugin.arguments import checked_seed
from musicbert_plugin.commands import CANNOT_START, DONE, INTERRUPTED, SOME_FAILED, run_command, say, write_line

__all__ = [
    "CANNOT_START",
    "DONE",
    "INTERRUPTED",
    "Heartbeat",
    "SOME_FAILED",
    "ProgressBar",
    "add_options",
    "option",
    "options_of",
    "run_command",
    "say",
    "write_line",
]


def option(default: Any, help: str, **argparse_settings: Any) -> Any:
    """A dataclass field that :func:`add_options` turns into an option of the same name."""
    metadata = {"help": help, "argparse": argparse_settings}
    return field(default=default, metadata=metadata)


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """Add every field of a dataclass of :func:`option` fields to a parser."""
    for declared in fields(options):
        settings = dict(declared.metadata["argparse"])
        default = declared.default
        if isinstance(default, bool):
            settings.setdefault("action", "store_true")
        elif default is not None:
            settings.setdefault("type", type(default))
        shown = "" if default is None or isinstance(default, bool) or default == "" else f" (default: {default})"
        name = "--" + declared.name.replace("_", "-")
        parser.add_argument(
            name, default=default, help=declared.metadata["help"].replace("%", "%%") + shown, **settings
        )


def options_of(namespace: argparse.Namespace, options: type) -> Any:
    """An instance of the dataclass with the values of parsed arguments.

    Raises
    ------
    OptionError
        ``--seed`` is no seed.
    """
    values = {declared.name: getattr(namespace, declared.name) for declared in fields(options)}
    if "seed" in values:
        checked_seed(values["seed"], "--seed")
    return options(**values)


class Heartbeat:
    """Says a line on stderr every half minute, so that long work is never silent."""

    def __init__(self) -> None:
        self._last_line = time.monotonic()

    def say(self, sentence: Callable[[], str]) -> None:
        """Say the sentence if it is time."""
        if time.monotonic() - self._last_line > 30:
            self._last_line = time.monotonic()
            say(sentence())


class ProgressBar:
    """A context manager that shows progress on stderr: a bar on a terminal, else a line every half minute."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._bar: Any = None
        self._done, self._total, self._heartbeat = done, total, Heartbeat()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="file", file=sys.stderr, smoothing=0.05)

    def advance(self, files: int) -> None:
        """Count ``files`` more files as done."""
        self._done += files
        if self._bar is not None:
            self._bar.update(files)
        else:
            self._heartbeat.say(lambda: f"{self._done:,} of {self._total:,} files")

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
