"""The checkpoint from which a training is resumed: the newest complete one of its folder.

The newest file may be incomplete, since a process may be killed while it writes a checkpoint.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from musicbert_plugin.compat.safe_loading import is_zipped, load_safely, weights_alone_are_used
from musicbert_plugin.errors import CheckpointError

LAST_CHECKPOINT = "checkpoint_last.pt"


def newest_whole_checkpoint(last: Path, suffix: str = "", begins_with: Path | None = None) -> Path | None:
    """The checkpoint from which a training in the folder of ``last`` is resumed.

    Parameters
    ----------
    last : Path
        ``checkpoint_last.pt`` with the suffix of the process, which may be missing or truncated.
    suffix : str
        The suffix of this process's files before ``.pt``.
    begins_with : Path, optional
        The file to fine-tune, from which a training without a checkpoint starts.

    Returns
    -------
    Path or None
        None if the folder has no checkpoint, so that the training starts from the beginning.

    Raises
    ------
    CheckpointError
        ``last`` is truncated, and there is no other checkpoint.
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
            f"{last} is not complete and {last.parent} has no other checkpoint to resume from: remove it to start "
            "again, or name another file with --restore-file."
        )
    return max(candidates, key=lambda path: (_updates(path) if len(candidates) > 1 else 0, path.stat().st_mtime_ns))


def training_progress(folder: Path, begins_with: Path | None = None) -> tuple[int, float]:
    """How far a training in a folder has come.

    Parameters
    ----------
    folder : Path
        ``--save-dir``; it need not exist.
    begins_with : Path, optional
        The file to fine-tune, from which a training without a checkpoint starts.

    Returns
    -------
    updates : int
        0 for a training that has not begun.
    seconds : float
        The training time that ``--stop-time-hours`` of the next run counts as already spent: that of the checkpoint
        from which it is resumed, or else of the file to fine-tune.

    Raises
    ------
    CheckpointError
        As :func:`newest_whole_checkpoint`, or the file to fine-tune cannot be read.
    """
    newest = newest_whole_checkpoint(folder / LAST_CHECKPOINT, begins_with=begins_with) if folder.is_dir() else None
    source = newest or begins_with
    if source is None:
        return 0, 0.0
    spent = (_read_weights(source).get("extra_state") or {}).get("previous_training_time", 0.0)
    return max(_updates(newest), 0) if newest else 0, float(spent)


def _is_of_this_training(path: Path, begins_with: Path | None) -> bool:
    """Whether a checkpoint in a folder without ``checkpoint_last.pt`` is from a killed training.

    Such a checkpoint has the state of an optimizer.  If there is a file to fine-tune, which may be in the same folder,
    the name must also have a number, like the names of intermediate checkpoints.
    """
    if begins_with is not None and not re.match(r"checkpoint_?\d", path.name):
        return False
    try:
        return bool(_read_weights(path).get("last_optimizer_state"))
    except CheckpointError:
        return False


def is_whole(path: Path) -> bool:
    """Whether a file is a complete zip archive of torch.save, or an older file that can be read."""
    try:
        if is_zipped(path):
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("data.pkl") for name in archive.namelist())
        _read_weights(path)
    except (OSError, zipfile.BadZipFile, CheckpointError):
        return False
    return True


def _updates(path: Path) -> int:
    """The number of updates of a checkpoint; -1 if it is unknown."""
    try:
        return int(_read_weights(path)["optimizer_history"][-1]["num_updates"])
    except (CheckpointError, KeyError, IndexError, TypeError, ValueError):
        return -1


def _read_weights(path: Path) -> dict[str, Any]:
    """Read a checkpoint without its configuration, mapped into memory if its format allows."""
    with weights_alone_are_used():
        return load_safely(str(path), map_location="cpu", **({"mmap": True} if is_zipped(path) else {}))
