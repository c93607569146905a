"""Weights without anything beside them: the safetensors format, and checkpoints stripped of their optimizer, or of all
heads but one.

safetensors (https://github.com/huggingface/safetensors): eight bytes, the length of the header (little-endian); the
header, JSON that gives for each tensor its type, shape and place; the tensors, one after the other.  Reading maps the
file into memory, so that nothing is read that is not asked for.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musicbert_plugin.errors import CheckpointError, OptionError

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LONGEST_HEADER = 100_000_000
HEADS = "clip_heads.heads"
"""Where a model of labelled clips keeps its heads."""


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped into memory (private: changes stay in memory).

    Raises
    ------
    CheckpointError
        If the file is missing, or not of this format.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if length > min(size - 8, _LONGEST_HEADER):
                raise CheckpointError(f"{path} is no safetensors file, or only the beginning of one.")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        data = torch.from_numpy(np.memmap(path, np.uint8, "c", 8 + length)) if size > 8 + length else torch.empty(0)
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype, shape = TYPES[entry["dtype"]], entry["shape"]
            if not 0 <= begin <= end <= size - 8 - length or end - begin != math.prod(shape) * dtype.itemsize:
                raise CheckpointError(f"{path}: {name} lies outside the file, which is damaged or incomplete.")
            tensors[name] = _typed(data[begin:end], dtype).view(shape)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}.") from error
    return tensors


def _typed(data: Tensor, dtype: torch.dtype) -> Tensor:
    # Other writers do not align every tensor to its type.
    return data.view(dtype) if data.storage_offset() % dtype.itemsize == 0 else data.clone().view(dtype)


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, one at a time; the file appears under its name when it is whole."""
    path = Path(path)
    names = {dtype: name for name, dtype in TYPES.items()}
    header, place = {}, 0
    for name, tensor in tensors.items():
        end = place + tensor.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            stream.write(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    os.replace(unfinished, path)


def strip_checkpoint(source: str | Path, target: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a fairseq checkpoint's weights and configuration, and nothing else; the source is mapped, not read.

    Parameters
    ----------
    source, target : path
    dtype : torch.dtype, optional
        Of the written weights; by default each keeps its own.

    Raises
    ------
    CheckpointError
        If the source is no checkpoint.
    """
    state = load_mapped(source)
    weights = {
        name: value.to(dtype) if dtype is not None and value.is_floating_point() else value
        for name, value in state["model"].items()
    }
    _save_stripped(state, weights, target)


def export_head(source: str | Path, target: str | Path, head: str) -> None:
    """Write the encoder, one head and its classes out of a checkpoint of ``audio_multitask``, and nothing else.

    What all heads share (mix of layers, pooling, mean and deviation, front-end) stays, so that the head answers as
    before, to the bit.  The source is mapped, not read.

    Parameters
    ----------
    source, target : path
    head : str
        Name of the task.

    Raises
    ------
    CheckpointError
        If the source is no checkpoint, or has no heads for labels.
    OptionError
        If it has no such head, or the target cannot be written.
    """
    state = load_mapped(source)
    tasks = (state.get("task_state") or {}).get("label_tasks") or []
    if not tasks:
        raise CheckpointError(f"{source} has no heads for labels; a checkpoint of audio_multitask is expected.")
    kept = [task for task in tasks if task["name"] == head]
    if not kept:
        raise OptionError(f"--head is {head!r}, but {source} has {', '.join(task['name'] for task in tasks)}.")
    others = tuple(f"{HEADS}.{task['name']}." for task in tasks if task["name"] != head)
    weights = {name: value for name, value in state["model"].items() if not name.startswith(others)}
    _save_stripped(state | {"task_state": state["task_state"] | {"label_tasks": kept}}, weights, target)


def _save_stripped(state: dict[str, Any], weights: dict[str, Tensor], target: str | Path) -> None:
    """Write weights with a checkpoint's configuration; the file appears under its name when it is whole."""
    history = [
        {key: entry.get(key) for key in ("criterion_name", "optimizer_name", "num_updates")}
        | {"lr_scheduler_state": {}}
        for entry in (state.get("optimizer_history") or [{}])[-1:]
    ]
    kept = {
        "args": state.get("args"),
        "cfg": state.get("cfg"),
        "model": weights,
        # fairseq's loader asks for these two.
        "optimizer_history": history,
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "version": 2}},
    }
    if "task_state" in state:
        kept["task_state"] = state["task_state"]
    if not Path(target).parent.is_dir() or Path(target).is_dir():
        raise OptionError(f"{target} cannot be written: the name of a file in a folder that exists is accepted.")
    unfinished = Path(f"{target}.unfinished")
    torch.save(kept, unfinished)
    os.replace(unfinished, target)


def load_mapped(path: str | Path) -> dict[str, Any]:
    """A fairseq checkpoint whose tensors stay in the file until they are used, where the file's format allows it.

    Raises
    ------
    CheckpointError
        If it is missing, carries more than weights, or is something else.
    """
    from musicbert_plugin.compat import load_safely

    if not Path(path).is_file():
        raise CheckpointError(f"{path} is not a file; the path of one checkpoint (.pt) is expected.")
    mapped = zipfile.is_zipfile(path)
    return load_safely(str(path), map_location="cpu", **({"mmap": True} if mapped else {}))
