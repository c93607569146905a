"""Files of weights: loading checkpoints, and writing smaller ones and the safetensors format."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY
from omegaconf import MISSING, DictConfig, OmegaConf
from safetensors import SafetensorError
from torch import Tensor

from musicbert_plugin.arguments import check_not_input
from musicbert_plugin.compat.model_folder import read_model_folder
from musicbert_plugin.compat.safe_loading import checked_content, is_zipped, load_safely
from musicbert_plugin.errors import CheckpointError, OptionError
from musicbert_plugin.files import atomic_path

HEADS = ("clip_heads.heads", "label_heads.heads", "classification_heads")
"""Modules of models of labelled recordings and of labelled notes that hold a head by task."""


class Configuration(NamedTuple):
    """The options of a checkpoint's model and of its task."""

    model: Namespace
    """All options of the model; those missing in the file have the values of its architecture."""
    task: Namespace


def load(path: str | Path, model: str) -> tuple[Configuration, dict[str, Tensor], dict[str, Any]]:
    """Load a checkpoint of any age; if its format allows, tensors stay in the file until they are used.

    Parameters
    ----------
    path : path
        One ``.pt`` file, or a Hugging Face folder.
    model : str
        Registered name of the expected model.

    Returns
    -------
    configuration : Configuration
    state : dict
        The state dict of the model.
    task_state : dict
        Empty if the file has none.

    Raises
    ------
    CheckpointError
        The file is missing, has other content than weights, or holds another model.
    """
    checkpoint = load_mapped(path)
    if checkpoint.get("args") is not None:
        options = task = checkpoint["args"]
    elif checkpoint.get("cfg") is not None:
        options, task = checkpoint["cfg"].get("model"), checkpoint["cfg"].get("task")
    else:
        raise CheckpointError(f"{path} has neither 'cfg' nor 'args', so its model is unknown.")
    options = _namespace(options)
    name = getattr(options, "_name", None) or getattr(options, "arch", None)
    if not isinstance(name, str) or ARCH_MODEL_NAME_REGISTRY.get(name) != model:
        known = ", ".join(sorted(arch for arch, owner in ARCH_MODEL_NAME_REGISTRY.items() if owner == model))
        raise CheckpointError(f"{path} holds a model of the architecture {name!r}, but one of {known} is expected.")
    ARCH_CONFIG_REGISTRY[name](options)
    return Configuration(options, _namespace(task)), checkpoint["model"], checkpoint.get("task_state") or {}


def model_of(path: str | Path) -> str | None:
    """Registered name of the model of a checkpoint, such as ``"musicbert"``; None for one that is not registered.

    Raises
    ------
    CheckpointError
        The file is missing, or has other content than weights.
    """
    checkpoint = load_mapped(path)
    options = checkpoint["args"] if checkpoint.get("args") is not None else (checkpoint.get("cfg") or {}).get("model")
    options = _namespace(options)
    return ARCH_MODEL_NAME_REGISTRY.get(getattr(options, "_name", None) or getattr(options, "arch", None))


def _namespace(options: Any) -> Namespace:
    """A section of a configuration as a Namespace, without missing values."""
    if isinstance(options, Namespace):
        return Namespace(**vars(options))
    if isinstance(options, DictConfig):
        options = OmegaConf.to_container(options)
    return Namespace(**{str(key): value for key, value in (options or {}).items() if value != MISSING})


@contextlib.contextmanager
def fitting(path: str | Path) -> Iterator[None]:
    """Raise :class:`CheckpointError` with the name of the file if a model does not accept its weights."""
    try:
        yield
    except (RuntimeError, CheckpointError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} does not fit the model that it describes: {reason[:300]}.") from error


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors in the safetensors format; the file appears under its name when it is complete."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_path(path) as unfinished:
            safetensors.torch.save_file(contiguous, unfinished, {"format": "pt"})
    except SafetensorError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise OptionError(f"{path} cannot be written ({reason}).") from error


def strip_checkpoint(source: str | Path, target: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write only the weights and configuration of a fairseq checkpoint; the source is mapped into memory.

    Parameters
    ----------
    source, target : path
    dtype : torch.dtype, optional
        Type of the written weights; unchanged by default.

    Raises
    ------
    CheckpointError
        The source is not a checkpoint.
    OptionError
        The target is the source, or cannot be written.
    """
    check_not_input(target, source)
    state = load_mapped(source)
    weights = {
        name: value.to(dtype) if dtype is not None and value.is_floating_point() else value
        for name, value in state["model"].items()
    }
    _save_stripped(state, weights, target)


def export_head(source: str | Path, target: str | Path, head: str) -> None:
    """Write only the encoder, one head and its classes from a checkpoint that was fine-tuned on labels.

    The shared parts (mix of layers, pooling, mean and standard deviation, front-end) are kept, so the predictions of
    the head are identical.  The source is mapped into memory.

    Parameters
    ----------
    source, target : path
    head : str
        Name of the task.

    Raises
    ------
    CheckpointError
        The source is not a checkpoint, or has no heads for labels.
    OptionError
        The source has no such head, or the target is the source or cannot be written.
    """
    check_not_input(target, source)
    state = load_mapped(source)
    tasks = (state.get("task_state") or {}).get("label_tasks") or []
    if not tasks:
        raise CheckpointError(
            f"{source} has no heads for labels; a checkpoint of audio_multitask, music_sequence_prediction or "
            "music_token_prediction is expected."
        )
    kept = [task for task in tasks if task["name"] == head]
    if not kept:
        raise OptionError(f"head is {head!r}, but {source} has {', '.join(task['name'] for task in tasks)}.")
    if hidden := {field for task in tasks for field in task.get("hide", ())}:
        kept = [task | {"hide": sorted(hidden)} for task in kept]  # the model has never seen them
    others = tuple(f"{heads}.{task['name']}." for heads in HEADS for task in tasks if task["name"] != head)
    weights = {name: value for name, value in state["model"].items() if not name.startswith(others)}
    _save_stripped(state | {"task_state": state["task_state"] | {"label_tasks": kept}}, weights, target)


def _save_stripped(state: dict[str, Any], weights: dict[str, Tensor], target: str | Path) -> None:
    """Write weights with the configuration of a checkpoint, atomically."""
    history = [
        {key: entry.get(key) for key in ("criterion_name", "optimizer_name", "num_updates")}
        | {"lr_scheduler_state": {}}
        for entry in (state.get("optimizer_history") or [{}])[-1:]
    ]
    kept = {
        "args": state.get("args"),
        "cfg": state.get("cfg"),
        "model": weights,
        # fairseq's loader requires these two.
        "optimizer_history": history,
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "version": 2}},
    }
    if "task_state" in state:
        kept["task_state"] = state["task_state"]
    if not Path(target).parent.is_dir() or Path(target).is_dir():
        raise OptionError(f"{target} cannot be written: the name of a file in a folder that exists is accepted.")
    try:
        with atomic_path(target) as unfinished, open(unfinished, "wb") as file:
            torch.save(kept, file)
    except RuntimeError as error:  # what torch makes of an error of the system
        raise _unwritten(target, error) from error


def _unwritten(target: str | Path, error: Exception) -> OptionError:
    """The error of a file that torch or safetensors could not write."""
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    reason = getattr(cause, "strerror", None) or "is the disk full?"
    return OptionError(f"{target} cannot be written ({reason}).")


def load_mapped(path: str | Path) -> dict[str, Any]:
    """Load a fairseq checkpoint or a Hugging Face folder; tensors stay in the file until they are used, if possible.

    Raises
    ------
    CheckpointError
        The file is missing, not a checkpoint, or has other content than weights.
    """
    if Path(path).is_dir():
        return checked_content(read_model_folder(path), path)
    if not Path(path).is_file():
        raise CheckpointError(f"{path} is not a file; the path of one checkpoint (.pt) is expected.")
    return load_safely(str(path), map_location="cpu", **({"mmap": True} if is_zipped(path) else {}))
