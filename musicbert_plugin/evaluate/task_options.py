"""The options of the task in an evaluation: those of the checkpoint unless given, as ``fairseq-validate`` has them.

A checkpoint holds the options of its training's task.  ``fairseq-validate`` takes all of them, but for those on its
command line; every evaluation that depends on such options takes them through :func:`settle`, and so measures the same.
Options that the checkpoint lacks (published files, other tasks) have the task's defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from musicbert_plugin.errors import CheckpointError, OptionError


class Settled(NamedTuple):
    """The options of a task, and where each comes from."""

    config: Any
    """The task's configuration."""
    values: dict[str, Any]
    """The options that :func:`settle` was asked for, by name, as plain values."""
    sources: dict[str, str]
    """For each of them ``given``, ``checkpoint`` or ``default``."""

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """A table for the report."""
        rows = [[name.replace("_", "-"), str(self.values[name]), self.sources[name]] for name in self.values]
        return "options of the task", ["option", "value", "from"], rows


def add_task_options(parser: argparse._ActionsContainer, options: Mapping[str, Callable[[str], Any]]) -> None:
    """Add options of a task that are the checkpoint's unless given.

    Parameters
    ----------
    parser : ArgumentParser or group
    options : mapping
        From the name of a field of the task's configuration to the type of its values.
    """
    for name, kind in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="as in training (default: the checkpoint's)")


def settle(
    configuration: type,
    held: Mapping[str, Any],
    given: argparse.Namespace,
    names: Mapping[str, Any],
    path: object,
    **fixed: Any,
) -> Settled:
    """The configuration of a task: the options that are given, else the checkpoint's, else the defaults.

    Parameters
    ----------
    configuration : type
        The dataclass of the task's options.
    held : mapping
        The options of the checkpoint's task.
    given : Namespace
        The command line; an option that is None was not given.
    names : mapping
        The options to settle, by name.
    path : object
        The checkpoint, for messages.
    **fixed
        Other options, such as the dataset folder; they override the checkpoint's.

    Raises
    ------
    CheckpointError
        The checkpoint has an option of another type, or with a value that the task does not have.
    OptionError
        The same for an option that is given.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = OmegaConf.structured(configuration)
    values, sources = {}, {}
    for name in names:
        asked, stored = getattr(given, name, None), held.get(name)
        value = stored if asked is None else asked
        sources[name] = "default" if value is None else "checkpoint" if asked is None else "given"
        if value is None:
            # an interpolation of a configuration that is not there, such as that of the seed
            value = getattr(configuration(), name)
            value = _SEED if name == "seed" else value
        try:
            config[name] = value
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0].rstrip(".")
            if asked is None:
                raise CheckpointError(f"{path} has the option {name} = {value!r}: {reason}.") from None
            raise OptionError(f"--{name.replace('_', '-')} {value}: {reason}.") from None
        plain = config[name]
        values[name] = plain if plain is None or isinstance(plain, bool | int | float) else str(plain)
    for name, value in fixed.items():
        config[name] = value
    return Settled(config, values, sources)


_SEED = 1  # of fairseq's configuration, where tasks find their seed
