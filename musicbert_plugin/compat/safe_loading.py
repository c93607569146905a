"""Loading checkpoints: every ``.pt`` file is read here, as weights and plain values alone.

:func:`load_safely` reads with ``weights_only=True``, always: a pickle that names any type which is not on the list of
:func:`checkpoint_types` is refused, since loading it could run code.  What a file's configuration may name is checked
in ``checkpoint_configuration``, and with a torch whose own reader is not safe nothing is read.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import contextvars
import pickle
import re
import typing
from collections.abc import Collection, Iterator
from typing import Any

import numpy
import omegaconf
import torch

from musicbert_plugin.compat.checkpoint_configuration import checked_configuration
from musicbert_plugin.errors import CheckpointError


def checkpoint_types() -> list[Any]:
    """The types that a fairseq checkpoint may hold besides tensors; reading any of these runs no code.

    * ``argparse.Namespace``: in every file whose model has no dataclass, and the whole ``args`` of older ones;
    * omegaconf's containers, and the types their metadata name: files of 2021, whose ``cfg`` was pickled as it stood;
    * numpy's scalar and its dtypes: a best metric or a meter that was a numpy number.
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
        # typing.Any carries no name of its own that pickle would find on every Python
        (typing.Any, "typing.Any"),
        numpy.dtype,
        *sorted({type(numpy.dtype(code)) for code in "?bBhHiIlLqQefd"}, key=repr),
        # numpy 1 and numpy 2 have the same function in different modules
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]


def allow_checkpoint_types() -> None:
    """Extend torch's list of what a checkpoint may hold: all else is refused (``weights_only=True``).

    The alternative, ``weights_only=False``, would run whatever a downloaded file asks for.
    """
    torch.serialization.add_safe_globals(checkpoint_types())


OLDEST_TORCH = (2, 10)
"""The first whose reader of weights cannot be made to write outside its memory by what it reads (CVE-2026-24747)."""


def require_safe_torch(name: Any) -> None:
    """Refuse to read a file of weights with a torch that the file could harm.

    Raises
    ------
    CheckpointError
    """
    found = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if found < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise CheckpointError(
            f"{name} is not loaded: torch {torch.__version__} can be harmed by what it loads (CVE-2026-24747); "
            f"{oldest} or newer is needed, and bash scripts/setup.sh installs it."
        )


def load_weights(file: Any, *args: Any, **options: Any) -> Any:
    """``torch.load`` of weights and plain values.

    ``weights_only`` is passed explicitly, since a default can be switched off by TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.

    Raises
    ------
    CheckpointError
        If the file holds a type which is not on the list, is damaged, or torch itself is not safe.
    """
    name = getattr(file, "name", file)
    require_safe_torch(name)
    options["weights_only"] = True
    try:
        return torch.load(file, *args, **options)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise CheckpointError(
                f"{name} asks for {refused[1]} while it is read, which no checkpoint of weights needs: "
                "it is refused, because loading it could run code."
            ) from error
        raise CheckpointError(f"{name} cannot be read as a checkpoint of weights: {_reason(error)}.") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{name} is damaged, or is not a checkpoint: {_reason(error)}.") from error


def load_safely(file: Any, *args: Any, required: Collection[str] = ("model",), **options: Any) -> dict[str, Any]:
    """Read a fairseq checkpoint; its configuration is checked and made anew.

    Parameters
    ----------
    file : path or binary file
    required : collection of str
        Sections that the configuration has to have: more where fairseq builds from them.
    *args, **options
        Of ``torch.load``.

    Raises
    ------
    CheckpointError
        As :func:`load_weights` and :func:`checked_configuration`, or if the file is no checkpoint.
    """
    name = getattr(file, "name", file)
    state = load_weights(file, *args, **options)
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f'{name} is not a fairseq checkpoint: a dictionary with an entry "model" is expected.')
    _add_history(state)
    if _only_weights_are_used.get():
        # fairseq rewrites the configuration of older files, and fails on one that it does not understand
        state["args"] = state["cfg"] = None
    else:
        state["args"], state["cfg"] = checked_configuration(state, name, required)
    return state


def _add_history(state: dict[str, Any]) -> None:
    """Give a file that holds weights and no history of a training the empty history that fairseq asks for."""
    if not state.get("optimizer_history") and "best_loss" not in state:
        names = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
        state["optimizer_history"] = [names]
    if "extra_state" not in state and "epoch" not in state:
        state["extra_state"] = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "version": 2}}


_only_weights_are_used: contextvars.ContextVar[bool] = contextvars.ContextVar("only_weights_are_used", default=False)
"""True while a training reads the file that it goes on from: its model is built from the command line alone."""


@contextlib.contextmanager
def weights_alone_are_used() -> Iterator[None]:
    token = _only_weights_are_used.set(True)
    try:
        yield
    finally:
        _only_weights_are_used.reset(token)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = re.search(r"WeightsUnpickler error: (.*)", str(error))
    reason = found[1] if found else (lines[0] if lines else type(error).__name__)
    return reason.strip().rstrip(".") or "it is no file of torch.save"
