"""Shared by all commands: options declared as dataclasses, messages on stderr, and exit statuses.

Status 0: done.  1: done, but some inputs failed, each named on stderr.  2: could not start, for the reason on stderr.
Standard output carries data only.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, NoReturn

from musicbert_plugin.arguments import checked_seed
from musicbert_plugin.errors import MusicError
from musicbert_plugin.files import shown

DONE, SOME_FAILED, CANNOT_START, INTERRUPTED = 0, 1, 2, 130


def say(sentence: str) -> None:
    """Print one line on stderr."""
    print(shown(sentence), file=sys.stderr, flush=True)


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


class ProgressBar:
    """A context manager that shows progress on stderr: a bar on a terminal, else a line every half minute."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._bar: Any = None
        self._done, self._total, self._last_line = done, total, time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="file", file=sys.stderr, smoothing=0.05)

    def advance(self, files: int) -> None:
        """Count ``files`` more files as done."""
        self._done += files
        if self._bar is not None:
            self._bar.update(files)
        elif time.monotonic() - self._last_line > 30:
            self._last_line = time.monotonic()
            say(f"{self._done:,} of {self._total:,} files")

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def run_command(main: Callable[[list[str]], int], arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit with its status; a :class:`MusicError` is printed as one sentence."""
    try:
        status = main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except MusicError as error:
        say(str(error))
        status = CANNOT_START
    except KeyboardInterrupt:
        say("Interrupted.")
        status = INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has closed it, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = DONE
    sys.exit(status)
