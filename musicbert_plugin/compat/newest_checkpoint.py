"""Which checkpoint of its folder a training goes on from: the newest that is whole.

A process may be killed while it saves.  What it leaves is found by :func:`newest_whole_checkpoint`.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from musicbert_plugin.compat.safe_loading import load_safely, weights_alone_are_used
from musicbert_plugin.errors import CheckpointError

LAST_CHECKPOINT = "checkpoint_last.pt"


def newest_whole_checkpoint(last: Path, suffix: str = "", begins_with: Path | None = None) -> Path | None:
    """The checkpoint that a training in the folder of ``last`` goes on from.

    Parameters
    ----------
    last : Path
        ``checkpoint_last.pt`` with the suffix of the process, which may be missing or cut off.
    suffix : str
        What the names of this process's files carry before ``.pt``.
    begins_with : Path, optional
        The file that a training which has no checkpoint yet is fine-tuned from.

    Returns
    -------
    Path or None
        None where the folder has no checkpoint to go on from: the training begins anew.

    Raises
    ------
    CheckpointError
        If ``last`` is cut off and there is no other.
    """
    exists, whole = last.is_file(), is_whole(last)
    written = last.stat().st_mtime_ns if exists and whole else -1
    others = [
        path
        for path in last.parent.glob(f"checkpoint*{suffix}.pt")
        if path != last and path.stat().st_mtime_ns > written and is_whole(path)
    ]
    if not exists:
        others = [path for path in others if _is_of_this_training(path, begins_with)]
    candidates = [last, *others] if exists and whole else others
    if not candidates:
        if not exists:
            return None
        raise CheckpointError(
            f"{last} is not complete and {last.parent} has no other checkpoint to go on from: remove it to begin anew, "
            "or name another file with --restore-file."
        )
    return max(candidates, key=lambda path: (_updates(path) if len(candidates) > 1 else 0, path.stat().st_mtime_ns))


def _is_of_this_training(path: Path, begins_with: Path | None) -> bool:
    """Whether a checkpoint in a folder without ``checkpoint_last.pt`` is one that a killed training has left there.

    It holds the state of an optimizer; and where the training is to be fine-tuned from a file, which may lie in the
    same folder, its name has a number, as those have that a training writes by the way.
    """
    if begins_with is not None and not re.match(r"checkpoint_?\d", path.name):
        return False
    try:
        return bool(_read_weights(path).get("last_optimizer_state"))
    except CheckpointError:
        return False


def is_whole(path: Path) -> bool:
    """Whether a file is a complete zip archive, as the files of torch.save are, or else can be read."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("data.pkl") for name in archive.namelist())
        _read_weights(path)
    except (OSError, zipfile.BadZipFile, CheckpointError):
        return False
    return True


def _updates(path: Path) -> int:
    """The number of updates that a checkpoint was written after; -1 if it does not say."""
    try:
        return int(_read_weights(path)["optimizer_history"][-1]["num_updates"])
    except (CheckpointError, KeyError, IndexError, TypeError, ValueError):
        return -1


def _read_weights(path: Path) -> dict[str, Any]:
    """A checkpoint that nothing is built from, mapped into memory where its format allows it."""
    with weights_alone_are_used():
        return load_safely(str(path), map_location="cpu", **({"mmap": True} if zipfile.is_zipfile(path) else {}))
