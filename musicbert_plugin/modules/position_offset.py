"""Where positions begin in a row of prefix, ``<sep>`` and music, by the position mode of a model.

* ``zero-prefix``: at ``<sep>``; the prefix has no positions;
* ``zero-prefix-shifted``: one token before ``<sep>``, as in the inference script released with the published weights;
* ``all``: at 0; the prefix has positions too.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

POSITION_MODES = ("zero-prefix", "zero-prefix-shifted", "all")

Index = TypeVar("Index", int, Tensor)


def position_offset(separator: Index, mode: str) -> Index:
    """Index of the first token with a position, from the index of ``<sep>`` (an int, or an int tensor of any shape)."""
    if mode == "all":
        return separator * 0
    return separator - int(mode == "zero-prefix-shifted")
