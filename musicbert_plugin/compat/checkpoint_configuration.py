"""Checks of the configuration in a checkpoint: the models, tasks and criterions that it may name.

A checkpoint holds weights and the configuration of its training.  fairseq builds whatever task, model and criterion
that configuration names, and some of its builders evaluate option strings as Python (``wav2vec2`` its
``conv_feature_layers``, ``ctc`` its ``wer_args``).  ``weights_only=True`` does not prevent this, since the strings are
evaluated after the file is read.  :func:`checked_configuration` therefore checks every checkpoint, and accepts only

* models, tasks and criterions of this plugin, and the names in :data:`OLD_TASKS` and :data:`OLD_CRITERIONS`, which
  published files have;
* optimizers and learning-rate schedules of fairseq whose options are numbers (they are never built from a file);
* ``bleu`` as scorer (fairseq's default), and no tokenizer or byte-pair encoding.

A section of the configuration is a mapping whose fields must be those of the dataclass that it names; or, in older
files, an ``argparse.Namespace`` with the whole command line, of which builders get the fields of their dataclass only.
Values must be plain: numbers, strings, lists and mappings of them.  A string that fairseq evaluates (``adam_betas``)
must be a literal, and no string may call a resolver (``${oc.env:HOME}``).
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from musicbert_plugin.errors import CheckpointError

OLD_TASKS = ("masked_lm", "sentence_prediction")
"""fairseq's own tasks in published files; those of other code are registered by this plugin."""

OLD_CRITERIONS = ("masked_lm", "sentence_prediction", "cross_entropy")
"""fairseq's own criterions in published files; those of other code are registered by this plugin."""

LOADED_ONLY = {
    "task": ("sentence_prediction_multilabel", "xai", "xai_pretrain_task"),
    "criterion": (
        *("sentence_prediction_multilabel", "M2P_xai", "M2PF_xai", "M2PFnP_xai", "M2PF_xai_adv"),
        *("xai_pretrain_loss", "xai_pretrain_loss_ntxent", "xai_finetuning_loss"),
    ),
}
"""Tasks and criterions that this plugin registers for published files alone: options that they lack are left out."""

OPTIMIZERS = ("adadelta", "adafactor", "adagrad", "adam", "adamax", "cpu_adam", "lamb", "nag", "sgd")
LR_SCHEDULERS = (
    *("cosine", "fixed", "inverse_sqrt", "pass_through", "polynomial_decay"),
    *("reduce_lr_on_plateau", "step", "tri_stage", "triangular"),
)
SCORERS = ("bleu",)

EVALUATED = ("adam_betas", "adamax_betas", "adafactor_eps", "lamb_betas")
"""Options of the optimizers that fairseq passes to ``eval``."""

DEEPEST = 12
"""Largest depth of nesting in a configuration; fairseq's have 4."""

_RESOLVER = re.compile(r"\$\{[^}$]*:")


BUILT = ("model", "task", "criterion")
"""Sections from which fairseq builds objects when it reads a file."""


def checked_configuration(
    state: Mapping[str, Any], path: object, required: Collection[str] = ("model",)
) -> tuple[argparse.Namespace | None, Any]:
    """Check the configuration of a checkpoint by the rules of the module.

    Parameters
    ----------
    state : mapping
        The content of the file, with its ``args`` and ``cfg``.
    path : object
        The name of the file in error messages.
    required : collection of str
        Sections that must exist and have a name; :data:`BUILT` if fairseq builds from the file.

    Returns
    -------
    args, cfg : Namespace or None, dict or None
        Copies of the two, made of the checked dictionaries, lists, Namespaces and values.

    Raises
    ------
    CheckpointError
        A name, a field or a value is not accepted.
    """
    try:
        args, cfg = _rebuilt(state.get("args"), path, "args"), _rebuilt(state.get("cfg"), path, "cfg")
        if args is None and cfg is None and set(required) >= set(BUILT):
            raise CheckpointError(f"{path} has neither 'cfg' nor 'args', so it does not say what model it holds.")
        _check_args(args, path, required)
        _check_cfg(cfg, path, required)
    except (RecursionError, OmegaConfBaseException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} has a configuration that cannot be read: {reason}.") from error
    return args, cfg


def _check_args(args: Any, path: object, required: Collection[str]) -> None:
    """Check the options of an older file, all in one Namespace."""
    if args is None:
        return
    if not isinstance(args, argparse.Namespace):
        raise CheckpointError(f"{path} has {_type(args)} as 'args', but a Namespace of options is expected.")
    for section, key in SECTIONS.items():
        if section in required and getattr(args, key, None) is None:
            raise CheckpointError(f"{path} does not say which {section} it holds: its 'args' have no {key!r}.")
        _check_name(section, getattr(args, key, None), path)
    _check_name("model", getattr(args, "_name", None), path)


def _check_cfg(cfg: Any, path: object, required: Collection[str]) -> None:
    """Check the configuration of a newer file, a mapping of sections."""
    if cfg is None:
        return
    if not isinstance(cfg, dict):
        raise CheckpointError(f"{path} has {_type(cfg)} as 'cfg', but a mapping is expected.")
    for section in SECTIONS:
        _check_section(section, cfg.get(section), path, section in required)


SECTIONS = {
    "model": "arch",
    "task": "task",
    "criterion": "criterion",
    "optimizer": "optimizer",
    "lr_scheduler": "lr_scheduler",
    "scoring": "scoring",
    "tokenizer": "tokenizer",
    "bpe": "bpe",
    "simul_type": "simul_type",
}
"""Sections from which fairseq can build objects, and the fields of a Namespace that name them."""


def accepted_names(section: str) -> list[str]:
    """The names that a file may give in a section of its configuration, sorted.

    Parameters
    ----------
    section : str
        ``"model"``, ``"task"``, ``"criterion"``, ``"optimizer"``, ``"lr_scheduler"``, ``"scoring"``, ``"tokenizer"``,
        ``"bpe"`` or ``"simul_type"``.
    """
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY

    def ours(*registries: Mapping[str, type]) -> list[str]:
        return [name for registry in registries for name, cls in registry.items() if _is_ours(cls)]

    names: Collection[str] = {
        "model": lambda: ours(MODEL_REGISTRY, ARCH_MODEL_REGISTRY),
        "task": lambda: (*ours(TASK_REGISTRY), *OLD_TASKS),
        "criterion": lambda: (*ours(CRITERION_REGISTRY), *OLD_CRITERIONS),
        "optimizer": lambda: OPTIMIZERS,
        "lr_scheduler": lambda: LR_SCHEDULERS,
        "scoring": lambda: SCORERS,
    }.get(section, tuple)()
    return sorted(set(names))


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _check_section(section: str, value: Any, path: object, required: bool) -> None:
    if value is None and not required:
        return
    if value is None:
        raise CheckpointError(f"{path} has no cfg.{section}, so it does not say which {section} it holds.")
    if not isinstance(value, dict | argparse.Namespace):
        raise CheckpointError(f"{path} has {_type(value)} as cfg.{section}, but a mapping is expected.")
    options = value if isinstance(value, dict) else vars(value)
    # fairseq takes the name of what it builds from any of these, and without one from the first key of a model
    names = [name for name in (options.get("_name"), options.get(SECTIONS[section])) if name is not None]
    if not names and (required or set(options) - {"_name"}):
        raise CheckpointError(f"{path} does not say which {section} it holds: cfg.{section} has no '_name'.")
    for name in names:
        _check_name(section, name, path)
    known = _fields(section, options.get("_name")) if isinstance(value, dict) else set()
    unknown = [field for field in options if known and field not in known]
    if options.get("_name") in LOADED_ONLY.get(section, ()):
        for field in unknown:
            del options[field]
    elif unknown:
        raise CheckpointError(
            f"{path} gives the {_WORDS.get(section, section)} {options['_name']!r} the option {unknown[0]!r}, which "
            f"this version does not know; accepted are: {', '.join(sorted(known - {'_name'}))}."
        )


_WORDS = {"lr_scheduler": "learning-rate schedule", "scoring": "scorer", "bpe": "byte-pair encoding"}


def _check_name(section: str, name: Any, path: object) -> None:
    accepted = accepted_names(section)
    if name is None or (isinstance(name, str) and name in accepted):
        return
    word = _WORDS.get(section, section)
    if section == "model":
        raise CheckpointError(
            f"{path} holds a model of the architecture {name!r}, but one of {', '.join(accepted)} is expected."
        )
    kinds = f"accepted are: {', '.join(accepted)}" if accepted else "none is accepted"
    raise CheckpointError(f"{path} names the {word} {str(name)[:60]!r}, which is not built from a file; {kinds}.")


def _fields(section: str, name: Any) -> set[str]:
    """The fields that a section of this name may have; empty if the name has no dataclass."""
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    if section == "model":
        found = MODEL_DATACLASS_REGISTRY.get(ARCH_MODEL_NAME_REGISTRY.get(name, name))
    elif section == "task":
        found = TASK_DATACLASS_REGISTRY.get(name)
    else:
        found = REGISTRIES[section]["dataclass_registry"].get(name) if section in REGISTRIES else None
    return {field.name for field in dataclasses.fields(found)} | {"_name"} if found is not None else set()


def _rebuilt(value: Any, path: object, name: str, depth: int = 0) -> Any:
    """Copy a nested configuration to plain containers, and check every value.

    Interpolations of omegaconf are kept, except those that call a resolver, which are refused.
    """
    if depth > DEEPEST:
        raise CheckpointError(f"{path} nests {name} more than {DEEPEST} levels deep; at most {DEEPEST} are accepted.")
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=False, enum_to_str=True)
    if isinstance(value, argparse.Namespace):
        return argparse.Namespace(**_rebuilt(dict(vars(value)), path, name, depth))
    if isinstance(value, dict):
        return {str(key): _rebuilt(inner, path, f"{name}.{key}", depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rebuilt(inner, path, f"{name}.{index}", depth + 1) for index, inner in enumerate(value)]
    if isinstance(value, str):
        if _RESOLVER.search(value):
            raise CheckpointError(f"{path} computes {name} as {value[:60]!r}; a value without a resolver is accepted.")
        if name.rpartition(".")[2] in EVALUATED and not _is_literal(value):
            raise CheckpointError(f"{path} gives {name} as {value[:60]!r}; numbers in brackets are accepted.")
    elif value is not None and not isinstance(value, bool | int | float | np.generic):
        raise CheckpointError(f"{path} has {_type(value)} as {name}; numbers, strings and lists are accepted.")
    return value


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False
    return True


def _type(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
