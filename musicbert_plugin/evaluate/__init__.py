"""Commands that measure: ``python -m musicbert_plugin.evaluate TASK --path CKPT DATA``, one file per task.

Every task file has ``add_arguments(parser)`` and ``evaluate(options) -> Report``.  ``__main__`` prints the report as
one line of JSON on stdout and as tables on stderr, and reports an error as one sentence and exit status 2 (1 if some
inputs failed and the others were measured).
"""

from __future__ import annotations

import argparse
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicbert_plugin.arguments import checked_seed
from musicbert_plugin.errors import DatasetError, OptionError


@dataclass
class Report:
    """The results of a task: plain values for JSON, and tables (title, header, rows) to print."""

    values: dict[str, Any]
    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)
    failed: bool = False
    """Whether some inputs could not be read, so that the command ends with status 1."""


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add the option ``--device``, see :func:`device_of`."""
    parser.add_argument("--device", help="cpu or cuda (default: cuda if there is a GPU)")


def device_of(options: argparse.Namespace) -> str:
    """The device of ``--device``, or by default a GPU if there is one.

    Raises
    ------
    OptionError
        There is no such device.
    """
    import torch

    from musicbert_plugin.compat.devices import checked_device

    return str(checked_device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"), "--device"))


def check_common(options: argparse.Namespace) -> None:
    """Check the options that many tasks have, where they have them; raises :class:`OptionError`."""
    if getattr(options, "seed", None) is not None:  # None: that of the checkpoint
        checked_seed(options.seed, "--seed")
    if hasattr(options, "device"):
        device_of(options)


def check_at_least(options: argparse.Namespace, name: str, least: int, meaning: str = "") -> None:
    """Raise :class:`OptionError` if an option is given and below ``least``, whose meaning is added to the message."""
    value = getattr(options, name)
    if value is not None and value < least:
        least_value = f"{least} {meaning}".strip()
        raise OptionError(f"--{name.replace('_', '-')} is {value}, but it is at least {least_value}.")


def check_not_empty(samples: Sized, options: argparse.Namespace) -> None:
    """Raise :class:`DatasetError` if the split of ``--gen-subset`` is empty."""
    if not len(samples):
        raise DatasetError(f"{options.data}: the split {options.gen_subset!r} is empty.")


def make_folder(path: Path) -> None:
    """Make a folder and its parents; raises :class:`OptionError` if this fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{path}: the folder cannot be made ({error.strerror}).") from None
