"""Checkpoints (``.pt``), zipped and not: what loads is a dictionary with weights, and nothing in it was run."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

CASES = 150


@functools.cache
def _state() -> dict[str, Any]:
    import torch

    from tests.attacks.files import sections

    return {"args": None, "cfg": sections(), "model": {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}}


def _saved(state: Any, zipped: bool = True, **options: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=zipped, **options)
    return file.getvalue()


def seeds() -> list[bytes]:
    """A small checkpoint in both formats of torch."""
    return [_saved(_state()), _saved(_state(), zipped=False)]


KEPT = {"four bytes": b"junk", "nothing": b"", "an empty zip": b"PK\5\6" + bytes(18)}
"""Files that once ended in a traceback."""


def check(data: bytes, folder: Path) -> None:
    """Load a file, whose tensors stay in it if its format allows."""
    from musicbert_plugin.errors import CheckpointError
    from musicbert_plugin.hub.checkpoints import load_mapped

    path = folder / "checkpoint.pt"
    path.unlink(missing_ok=True)  # the one before may still be mapped
    path.write_bytes(data)
    try:
        state = load_mapped(path)
    except CheckpointError as error:
        assert "weights_only" not in str(error), str(error)
        raise
    for value in state["model"].values():
        value.sum()
