"""Hugging Face folders of MuseCoco models, read as the fairseq checkpoints that they stand for.

A folder holds ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin`` (or several of them, with an index),
with fairseq's names of parameters, except ``lm_head.weight`` for the output matrix.  :func:`read_model_folder` gives
the content that a ``.pt`` file of the same model would have, so that folders are accepted wherever a checkpoint is.

Sizes come from the weights, and the number of heads from the configuration.  Folders that this plugin writes have
``position_mode``, ``layout``, ``prefix`` and ``loss_on``, which may be added to other folders.  The code of the public
fine-tuning fork, which made the format, numbers all positions of a row, the prefix included: a folder that does not
name the mode has ``all``.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import logging
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from safetensors import SafetensorError
from torch import Tensor

from musicbert_plugin.codecs.remi import FREE, LAYOUTS
from musicbert_plugin.compat.safe_loading import load_weights
from musicbert_plugin.errors import CheckpointError
from musicbert_plugin.modules.position_offset import POSITION_MODES
from musicbert_plugin.parsing import read_json

logger = logging.getLogger(__name__)

MODEL, TASK = "linear_transformer_lm", "attribute_to_music"
POSITIONS_OF_FORK = "all"
HEADS = ("n_head", "num_attention_heads", "num_heads", "decoder_attention_heads", "attention_heads")
"""Names of the number of heads in configurations."""
CHOICES = {
    "position_mode": POSITION_MODES,
    "layout": (*LAYOUTS, FREE),
    "prefix": ("attributes", "conditions"),
    "loss_on": ("target", "all"),
}
"""What a configuration may say of the model beside its sizes."""
_LAYER = re.compile(r"decoder\.layers\.([0-9]{1,6})\.")
_SHAPES = {
    "decoder.embed_tokens.weight": 2,
    "decoder.layers.0.fc1.weight": 2,
    "decoder.layers.0.self_attn.q_proj.bias": 1,
}
"""Tensors that tell the sizes, and their numbers of dimensions."""


_mode_is_given: contextvars.ContextVar[bool] = contextvars.ContextVar("mode_is_given", default=False)
"""Whether the position mode of a folder that is read is not used, since the user gave one."""


@contextlib.contextmanager
def position_mode_is_given(mode: Any) -> Iterator[None]:
    """Within this context, folders that do not name their mode bring no warning, unless ``mode`` is None or auto."""
    token = _mode_is_given.set(_mode_is_given.get() or str(mode) not in ("None", "auto"))
    try:
        yield
    finally:
        _mode_is_given.reset(token)


def read_model_folder(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of the fairseq checkpoint that a Hugging Face folder stands for.

    Parameters
    ----------
    path : path
        On the CPU, tensors of ``.safetensors`` stay in the file until they are used.

    Returns
    -------
    dict
        ``args`` None, ``cfg`` with the model, the task ``attribute_to_music`` and a criterion, ``model`` the weights.

    Raises
    ------
    CheckpointError
        A file is missing or damaged, or the folder holds another model.
    """
    path = Path(path)
    weights = _read_weights(path)
    config = _read_json(path / "config.json")
    if not isinstance(config, dict):
        raise CheckpointError(f"{path / 'config.json'} is not a configuration: a JSON object is expected.")
    model: dict[str, Any] = {"_name": MODEL, **_sizes(path, config, weights)}
    for name, accepted in CHOICES.items():
        value = config.get(name) or "auto"
        if value not in (*accepted, "auto"):
            file, known = path / "config.json", ", ".join(accepted)
            raise CheckpointError(f"{file} gives the {name} {str(value)[:60]!r}; one of {known} is accepted.")
        model[name] = value
    model["seen_attributes"] = config.get("seen_attributes")
    if not isinstance(model["seen_attributes"], str | None):
        raise CheckpointError(f"{path / 'config.json'}: seen_attributes is not text; command words are accepted.")
    if model["position_mode"] == "auto":
        model["position_mode"] = POSITIONS_OF_FORK
        if not _mode_is_given.get():
            logger.warning(
                "%s does not name its position mode: the whole row has positions (%s), as in the fine-tuning fork; "
                "--position-mode, or position_mode= of the hub, chooses another",
                path,
                POSITIONS_OF_FORK,
            )
    # every option of the task, since fairseq's commands override only those that a file has
    options = {field.name: field.default for field in dataclasses.fields(TASK_DATACLASS_REGISTRY[TASK])}
    task = {**options, "_name": TASK, "position_mode": model["position_mode"], "seed": 1}
    criterion = {"_name": "cross_entropy", "sentence_avg": False}
    return {"args": None, "cfg": {"model": model, "task": task, "criterion": criterion}, "model": weights}


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from None


def _sizes(path: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, int]:
    """Layers, dimensions and heads of the model."""
    for name, dimensions in _SHAPES.items():
        if name not in weights:
            raise CheckpointError(f"{path} has no {name!r}, so it holds another kind of model.")
        if weights[name].dim() != dimensions or not len(weights[name]):
            raise CheckpointError(f"{path} has {name!r} of shape {list(weights[name].shape)}, as no model has it.")
    layers = 1 + max((int(found[1]) for name in weights if (found := _LAYER.match(name))), default=-1)
    if layers > len(weights):  # a number in a name alone would make so many layers
        raise CheckpointError(f"{path} names layer {layers - 1}, but has {len(weights)} tensors in all.")
    embedding, inner_matrix, bias = (weights[name] for name in _SHAPES)
    dim, ffn, inner = embedding.shape[1], inner_matrix.shape[0], len(bias)
    heads = next((config[name] for name in HEADS if config.get(name)), None)
    if heads is None:
        heads = _heads_of_published_size(layers, dim, ffn)
    if type(heads) is not int or not 0 < heads <= dim or heads * (dim // heads) != inner:
        raise CheckpointError(
            f"{path / 'config.json'} gives {str(heads)[:60] if type(heads) is int else repr(heads)[:60]} heads, which "
            f"does not fit {inner} attention dimensions of {dim}."
        )
    return {
        "decoder_layers": layers,
        "decoder_embed_dim": dim,
        "decoder_ffn_embed_dim": ffn,
        "decoder_attention_heads": heads,
    }


def _heads_of_published_size(layers: int, dim: int, ffn: int) -> int | None:
    """The number of heads of the registered architecture with these sizes, if there is one."""
    for arch, family in ARCH_MODEL_NAME_REGISTRY.items():
        if family == MODEL and arch != MODEL:
            options = Namespace()
            ARCH_CONFIG_REGISTRY[arch](options)
            if (options.decoder_layers, options.decoder_embed_dim, options.decoder_ffn_embed_dim) == (layers, dim, ffn):
                return int(options.decoder_attention_heads)
    return None


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a folder."""
    for name, read in (("model.safetensors", read_safetensors), ("pytorch_model.bin", _read_bin)):
        index = path / f"{name}.index.json"
        if index.is_file():
            content = _read_json(index)
            places = content.get("weight_map") if isinstance(content, dict) else None
            if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
                raise CheckpointError(f"{index} does not say which files hold the weights: no 'weight_map'.")
            files = sorted({Path(file).name for file in places.values()})
            return {key: tensor for file in files for key, tensor in read(path / file).items()}
        if (path / name).is_file():
            return read(path / name)
    raise CheckpointError(
        f"{path} is a folder with neither model.safetensors nor pytorch_model.bin; a .pt file, or a Hugging Face "
        "folder of a MuseCoco model, is a checkpoint."
    )


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file in the safetensors format, mapped into memory.

    Raises
    ------
    CheckpointError
        The file is missing, or not of this format.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        # the library's own error, or, for shapes and types that only torch refuses, torch's
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise CheckpointError(f"{path} cannot be read as safetensors: {reason}.") from error


def _read_bin(path: Path) -> dict[str, Tensor]:
    weights = load_weights(path, map_location="cpu")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(f"{path} holds something else than named tensors.")
    return weights
