"""Loading checkpoints: the only code that reads ``.pt`` files, restricted to weights and plain values.

:func:`load_safely` always reads with ``weights_only=True``: a pickle with a type that is not in
:func:`checkpoint_types` is refused, since loading it could run code.  The configuration of a file is checked in
``checkpoint_configuration``.  Nothing is read with a torch whose reader is not safe.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import contextvars
import os
import pickle
import re
import struct
import typing
import warnings
import zipfile
from collections.abc import Collection, Iterator
from typing import Any

import numpy
import omegaconf
import torch

from musicbert_plugin.compat.checkpoint_configuration import checked_configuration
from musicbert_plugin.errors import CheckpointError


def checkpoint_types() -> list[Any]:
    """The types that a fairseq checkpoint may hold besides tensors; unpickling them runs no code.

    * ``argparse.Namespace``: in every file whose model has no dataclass, and as ``args`` of older files;
    * omegaconf's containers, and the types in their metadata: in files of 2021, whose ``cfg`` was pickled unconverted;
    * numpy's scalar and its dtypes: for best metrics and meters that are numpy numbers.
    """
    scalar = numpy.float64(0).__reduce__()[0]
    return [
        argparse.Namespace,
        omegaconf.dictconfig.DictConfig,
        omegaconf.listconfig.ListConfig,
        omegaconf.base.ContainerMetadata,
        omegaconf.base.Metadata,
        *(
            getattr(omegaconf.nodes, name)
            for name in ("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "EnumNode")
        ),
        collections.OrderedDict,
        collections.defaultdict,
        list,
        dict,
        int,
        float,
        str,
        bool,
        tuple,
        # pickle does not find typing.Any by its own name on every Python version
        (typing.Any, "typing.Any"),
        numpy.dtype,
        *sorted({type(numpy.dtype(code)) for code in "?bBhHiIlLqQefd"}, key=repr),
        # numpy 1 and numpy 2 have the same function in different modules
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]


def allow_checkpoint_types() -> None:
    """Extend torch's list of the types that a checkpoint may hold; all others are refused (``weights_only=True``).

    ``weights_only=False`` would run code in a downloaded file.
    """
    torch.serialization.add_safe_globals(checkpoint_types())


_DAMAGE = (
    *(RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError),
    *(OverflowError, MemoryError, NotImplementedError, UnicodeError, struct.error, zipfile.BadZipFile),
)
"""What torch raises for damaged files."""
_ADVICE = re.compile(r"weights_only|torch\.load|torch\.serialization|PyTorch 2|trust|file an issue", re.IGNORECASE)
"""Words of those sentences of torch that are no reason."""

OLDEST_TORCH = (2, 10)
"""The first version without CVE-2026-24747, by which a file of weights can corrupt memory while it is read."""


def require_safe_torch(name: Any) -> None:
    """Raise :class:`CheckpointError` if torch is older than :data:`OLDEST_TORCH`."""
    found = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if found < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise CheckpointError(
            f"{name} is not loaded: torch {torch.__version__} cannot load files safely (CVE-2026-24747); {oldest} or "
            "newer is needed, and bash scripts/setup.sh installs it."
        )


def load_weights(file: Any, *args: Any, **options: Any) -> Any:
    """Load weights and plain values with ``torch.load``.

    ``weights_only`` is passed explicitly, since TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD changes the default.

    Raises
    ------
    CheckpointError
        The file holds a type that is not allow-listed, or is damaged; or torch is not safe.
    """
    name = _name_of(file)
    require_safe_torch(name)
    options["weights_only"] = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of torch, about files that are then refused
            return torch.load(file, *args, **options)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise CheckpointError(
                f"{name} contains {refused[1]}, which no checkpoint of weights needs: it is refused, because loading "
                "it could run code."
            ) from error
        raise CheckpointError(f"{name} cannot be read as a checkpoint of weights: {_reason(error)}.") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{name} is damaged, or is not a checkpoint: {_reason(error)}.") from error


def is_zipped(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a zip archive, as newer checkpoints are, whose tensors can stay in the file."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it ends like one that is damaged
        return True


def load_safely(file: Any, *args: Any, required: Collection[str] = ("model",), **options: Any) -> dict[str, Any]:
    """Load a fairseq checkpoint with a checked copy of its configuration.

    Parameters
    ----------
    file : path or binary file
    required : collection of str
        Required sections, see :func:`checked_configuration`.
    *args, **options
        Arguments of ``torch.load``.

    Raises
    ------
    CheckpointError
        As :func:`load_weights` and :func:`checked_configuration`, or the file is not a checkpoint.
    """
    name = _name_of(file)
    state = load_weights(file, *args, **options)
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f'{name} is not a fairseq checkpoint: a dictionary with an entry "model" is expected.')
    return checked_content(state, name, required)


def checked_content(state: dict[str, Any], name: Any, required: Collection[str] = ("model",)) -> dict[str, Any]:
    """The content of a checkpoint with an empty history, if it has none, and a checked copy of its configuration.

    Parameters
    ----------
    state : dict
        Changed in place.
    name : object
        The name of the file in messages.
    required : collection of str
        Required sections, see :func:`checked_configuration`.

    Raises
    ------
    CheckpointError
        As :func:`checked_configuration`, or the weights are something else than named tensors.
    """
    weights = state["model"]
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in weights.items()
    ):
        raise CheckpointError(f'{name} is not a fairseq checkpoint: "model" holds something else than named tensors.')
    _add_history(state)
    if _only_weights_are_used.get():
        # fairseq converts the configuration of older files, and fails on an unknown one
        state["args"] = state["cfg"] = None
    else:
        state["args"], state["cfg"] = checked_configuration(state, name, required)
    return state


def _name_of(file: Any) -> str:
    """The path of a file that is given by its path or opened."""
    return str(file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", file))


def _add_history(state: dict[str, Any]) -> None:
    """Add the empty training history that fairseq requires to a file that holds weights only."""
    if not state.get("optimizer_history") and "best_loss" not in state:
        names = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
        state["optimizer_history"] = [names]
    if "extra_state" not in state and "epoch" not in state:
        state["extra_state"] = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "version": 2}}


_only_weights_are_used: contextvars.ContextVar[bool] = contextvars.ContextVar("only_weights_are_used", default=False)
"""True while a training reads the checkpoint to resume from, since its model is built from the command line."""


@contextlib.contextmanager
def weights_alone_are_used() -> Iterator[None]:
    """Within this context, configurations of checkpoints are dropped instead of checked: nothing is built from them."""
    token = _only_weights_are_used.set(True)
    try:
        yield
    finally:
        _only_weights_are_used.reset(token)


def _reason(error: Exception) -> str:
    """What torch says is wrong with a file, without its advice, which is to load the file unsafely."""
    message = str(error)
    if "TorchScript" in message:
        return "it is a TorchScript archive, which holds code"
    found = re.search(r"WeightsUnpickler error:\s*(.*)", message)
    lines = [line.strip() for line in (found[1] if found else message).splitlines() if line.strip()]
    sentences = re.split(r"(?<=[.!])\s+", lines[0]) if lines else []
    said = [sentence for sentence in sentences if not _ADVICE.search(sentence)]
    return " ".join(said).strip().rstrip(".")[:300] or "it is not a file of torch.save"
