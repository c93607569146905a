"""Arguments that many commands and functions take: seeds, layers and files to write, checked in one place.

Pure Python: every layer may import this module.  Devices, which only torch knows, are checked in ``compat.devices``.
"""

from __future__ import annotations

import operator
import os
from typing import Any

from musicbert_plugin.errors import OptionError
from musicbert_plugin.parsing import shortened

LARGEST_SEED = 2**32 - 1
"""What numpy, scikit-learn and fairseq accept; torch also accepts larger ones."""


def checked_seed(seed: Any, name: str = "seed") -> int:
    """A seed as a whole number from 0 to :data:`LARGEST_SEED`.

    Parameters
    ----------
    seed : int
    name : str
        How the sentence calls it.

    Raises
    ------
    OptionError
        It is something else.
    """
    number = _whole(seed)
    if number is None or not 0 <= number <= LARGEST_SEED:
        raise OptionError(f"{name} is {shortened(seed)}, but a whole number from 0 to {LARGEST_SEED} is accepted.")
    return number


def checked_layers(layers: Any, least: int, most: int, name: str = "layers") -> list[int]:
    """The numbers of layers, one or more.

    Parameters
    ----------
    layers : iterable of int
    least, most : int
        The first and the last accepted number.
    name : str
        How the sentence calls them.

    Raises
    ------
    OptionError
        It is no iterable, is empty, or has an element that is not such a number.
    """
    try:
        numbers = [_whole(layer) for layer in layers]
    except TypeError:
        numbers = []
    if not numbers or not all(number is not None and least <= number <= most for number in numbers):
        raise OptionError(
            f"{name} is {shortened(layers)}, but a list of whole numbers from {least} to {most} is accepted."
        )
    return [number for number in numbers if number is not None]


def check_not_input(target: str | os.PathLike[str], *sources: str | os.PathLike[str] | None) -> None:
    """Refuse to write a file that is read, under whatever name.

    Parameters
    ----------
    target : path
        A file that will be written.
    *sources : path
        Files that are read; those that do not exist, and None, are passed over.

    Raises
    ------
    OptionError
        They are the same file, also by way of links.
    """
    for source in sources:
        if source is None:
            continue
        try:
            same = os.path.samefile(target, source)
        except (OSError, ValueError):
            same = False
        if same or os.path.realpath(target) == os.path.realpath(source):
            raise OptionError(f"{target} cannot be written, since it is {source}, which is read: choose another name.")


def _whole(value: Any) -> int | None:
    """A number of Python, numpy or torch as an int; None for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return None
