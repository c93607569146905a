"""All changes to fairseq for today's versions of its dependencies, each with its reason.

fairseq was last released for Python 3.8, numpy 1.2x and torch 1.x, and parts of it fail on today's versions.
``tasks/__init__.py`` imports this file, which changes them, after fairseq is imported and before it parses arguments,
starts processes or opens files.  Every change tests for the feature it needs instead of a version, may be applied
twice, and is tested by ``tests/compat/test_fairseq.py``, which also shows the failure without it.

numpy and torch are not changed (modules of fairseq get views of them), and tasks, models and criterions of fairseq keep
working.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import logging
import os
import shutil
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fairseq.checkpoint_utils
import fairseq.dataclass.initialize
import fairseq.distributed.utils as distributed_utils
import fairseq.options
import fairseq.trainer
import fairseq.utils
import numpy
import torch
from fairseq.file_io import PathManager
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from musicbert_plugin.arguments import checked_seed
from musicbert_plugin.commands import occupy_standard_streams, silence
from musicbert_plugin.compat.checkpoint_configuration import BUILT
from musicbert_plugin.compat.error_messages import UNWRITTEN, one_sentence, report_hydra_job
from musicbert_plugin.compat.model_folder import position_mode_is_given, read_model_folder
from musicbert_plugin.compat.newest_checkpoint import LAST_CHECKPOINT, is_whole, newest_whole_checkpoint
from musicbert_plugin.compat.safe_loading import (
    allow_checkpoint_types,
    checked_content,
    load_safely,
    weights_alone_are_used,
)
from musicbert_plugin.errors import CheckpointError, OptionError
from musicbert_plugin.extras import require
from musicbert_plugin.files import atomic_path

logger = logging.getLogger(__name__)


class _View(types.ModuleType):
    """A module with some names replaced and all others from the original."""

    def __init__(self, original: types.ModuleType, **names: Any) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update(names, _original=original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _has_view(module: Any, name: str) -> bool:
    return "_original" in vars(getattr(module, name))


def _in_place_of(original: Callable[..., Any]) -> Callable[[Callable[..., Any]], None]:
    """Decorate a function that replaces ``original``, which it takes as an additional first argument.

    It replaces every reference in the modules of fairseq, including those from ``from x import y``.  A function that
    is a replacement already is not replaced again.
    """

    def replace(function: Callable[..., Any]) -> None:
        if getattr(original, "replaced_by_plugin", False):
            return

        @functools.wraps(original)
        def replacement(*args: Any, **options: Any) -> Any:
            return function(original, *args, **options)

        replacement.replaced_by_plugin = True  # type: ignore[attr-defined]
        for name, module in list(sys.modules.items()):
            ours = name.partition(".")[0] in ("fairseq", "fairseq_cli", "__main__")
            for attribute, value in list(vars(module).items()) if ours and isinstance(module, types.ModuleType) else ():
                if value is original:
                    setattr(module, attribute, replacement)

    return replace


# ---------------------------------------------------------------------------------------------------------------------
# numpy

NUMPY_READERS = (
    "fairseq.data.token_block_dataset",  # np.compat.long: every dataset cut at sentence ends
    "fairseq.data.language_pair_dataset",  # np.compat.long: lengths in buckets
    "fairseq.data.data_utils",  # np.int: spans without overlap; np.percentile(interpolation=): lengths in buckets
    "fairseq.modules.dynamic_crf_layer",  # np.float
)


def _percentile(*args: Any, interpolation: str | None = None, **options: Any) -> Any:
    if interpolation is not None:
        options["method"] = interpolation
    return numpy.percentile(*args, **options)


def give_numpy_views() -> None:
    """Provide names that numpy removed to the modules of fairseq that use them.

    ``np.int`` and ``np.float`` were removed in 1.24 and ``np.compat`` in 2.0, and ``interpolation`` became ``method``.
    numpy itself is not changed, since other code may test which names it has.
    """
    old_names: dict[str, Any] = {"int": int, "float": float, "compat": types.SimpleNamespace(long=int)}
    missing = {name: value for name, value in old_names.items() if name not in vars(numpy)}
    if "interpolation" not in inspect.signature(numpy.percentile).parameters:
        missing["percentile"] = _percentile
    for name in NUMPY_READERS:
        module: Any = sys.modules.get(name)
        if missing and module is not None and not _has_view(module, "np"):
            module.np = _View(numpy, **missing)


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def load_checkpoints_safely() -> None:
    """Make ``fairseq.checkpoint_utils``, which reads every checkpoint, use :func:`load_safely`.

    A resumed training (``fairseq.trainer``) builds nothing from the file, so its configuration is not checked, and
    models of fairseq, whose names :func:`checked_configuration` refuses, can still be resumed.
    """
    module: Any = fairseq.checkpoint_utils
    if not _has_view(module, "torch"):
        module.torch = _View(torch, load=functools.partial(load_safely, required=BUILT))
    trainer: Any = fairseq.trainer
    if not _has_view(trainer, "checkpoint_utils"):

        @functools.wraps(module.load_checkpoint_to_cpu)
        def load_weights(*args: Any, **options: Any) -> Any:
            with weights_alone_are_used(), position_mode_is_given("that of the training"):
                return module.load_checkpoint_to_cpu(*args, **options)

        trainer.checkpoint_utils = _View(module, load_checkpoint_to_cpu=load_weights)


class _CheckpointFiles(PathManager):
    """fairseq's file operations, for which a folder to begin a training with is a file."""

    @staticmethod
    def isfile(path: str) -> bool:
        return bool(PathManager.isfile(path)) or os.path.isdir(path)


def load_model_folders() -> None:
    """Accept Hugging Face folders in ``--path``, ``--restore-file`` and ``--finetune-from-model``.

    fairseq opens what it is given as one file; a training that is to begin with a folder would begin with random
    weights, since the folder is no file.
    """

    @_in_place_of(fairseq.checkpoint_utils.load_checkpoint_to_cpu)
    def load_checkpoint_to_cpu(original: Any, path: str, arg_overrides: Any = None, *args: Any, **options: Any) -> Any:
        if not os.path.isdir(path):
            return original(path, arg_overrides, *args, **options)
        with position_mode_is_given((arg_overrides or {}).get("position_mode")):
            state = checked_content(read_model_folder(path), path, BUILT)
        if state["cfg"] is not None:
            state["cfg"] = OmegaConf.create(state["cfg"], flags={"allow_objects": True})
            fairseq.checkpoint_utils.overwrite_args_by_name(state["cfg"], arg_overrides or {})
        return fairseq.checkpoint_utils._upgrade_state_dict(state)

    @_in_place_of(fairseq.checkpoint_utils.load_model_ensemble_and_task)
    def load_for_task(original: Any, *args: Any, **options: Any) -> Any:
        task = args[2] if len(args) > 2 else options.get("task")
        with position_mode_is_given(getattr(getattr(task, "cfg", None), "position_mode", None)):
            return original(*args, **options)

    trainer: Any = fairseq.trainer
    if not issubclass(trainer.PathManager, _CheckpointFiles):
        trainer.PathManager = _CheckpointFiles


class _WholeFiles(PathManager):
    """fairseq's file operations, with copies that appear under their name only when they are complete."""

    @staticmethod
    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if not PathManager.supports_rename(dst_path):
            return bool(PathManager.copy(src_path, dst_path, overwrite=overwrite))
        with atomic_path(dst_path) as unfinished:
            shutil.copyfile(src_path, unfinished)
        return True


def copy_checkpoints_whole() -> None:
    """Copy checkpoints atomically.

    fairseq writes a checkpoint and copies it to its other names in place, such as ``checkpoint_last.pt``.  A process
    that is killed while it copies leaves a truncated file, from which the training cannot be resumed.
    """
    module: Any = fairseq.checkpoint_utils
    if not issubclass(module.PathManager, _WholeFiles):
        module.PathManager = _WholeFiles


def report_unwritten_checkpoints() -> None:
    """End with a sentence where a checkpoint cannot be written, as on a full disk, and remove the part that was.

    fairseq tries three times, which appends to the same file, and logs a traceback.
    """

    @_in_place_of(fairseq.checkpoint_utils._torch_persistent_save)
    def save(original: Any, obj: Any, file: Any) -> None:
        try:
            torch.save(obj, file)
        except (OSError, RuntimeError) as error:
            causes = [error, error.__context__, error.__cause__]
            reason = next((cause.strerror for cause in causes if isinstance(cause, OSError)), None)
            if reason is None and not UNWRITTEN.search(str(error)):
                raise
            unfinished = str(getattr(file, "name", file))
            if unfinished.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    os.unlink(unfinished)
            raise CheckpointError(
                f"{unfinished.removesuffix('.tmp')} cannot be written ({reason or 'is the disk full?'}); the same "
                "command goes on from the checkpoint before it."
            ) from error


def speak_to_nobody() -> None:
    """Let a command run to its end if a standard stream that it logs to is closed, its reader is gone or its disk full.

    For each message that it cannot write, logging would print a traceback.
    """
    occupy_standard_streams()
    if getattr(logging.StreamHandler, "speaks_to_nobody", False):
        return
    original = logging.StreamHandler.handleError

    def handle(handler: Any, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            original(handler, record)
            return
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            if handler.stream is stream:
                silence(number)

    logging.StreamHandler.handleError = handle  # type: ignore[method-assign]
    logging.StreamHandler.speaks_to_nobody = True  # type: ignore[attr-defined]


def resume_from_newest_complete_checkpoint() -> None:
    """Without ``--restore-file``, resume a training from the newest complete checkpoint of its folder.

    This is ``checkpoint_last.pt``, unless a training was killed before it copied a newer file to that name, or that
    file is truncated (by a training without this module).
    """

    @_in_place_of(fairseq.checkpoint_utils.load_checkpoint)
    def load_checkpoint(original: Any, cfg: Any, trainer: Any, **options: Any) -> Any:
        if cfg.restore_file == LAST_CHECKPOINT and os.path.isdir(cfg.save_dir):
            suffix = trainer.checkpoint_suffix or ""
            last = Path(cfg.save_dir, LAST_CHECKPOINT.replace(".pt", f"{suffix}.pt"))
            begins_with = None if cfg.finetune_from_model is None else Path(cfg.finetune_from_model)
            newest = newest_whole_checkpoint(last, suffix, begins_with) if not cfg.no_last_checkpoints else None
            if newest is not None and newest != last:
                state = "missing" if not last.exists() else "older" if is_whole(last) else "not complete"
                logger.warning(f"{last} is {state}; this training goes on from {newest}.")
                cfg = copy.copy(cfg)
                # fairseq adds the suffix again, and must not start from the file to fine-tune
                cfg.restore_file = str(newest.with_name(newest.name.replace(f"{suffix}.pt", ".pt")))
                cfg.finetune_from_model = None
        return original(cfg, trainer, **options)


# ---------------------------------------------------------------------------------------------------------------------
# Several processes


def broadcast_from_peers() -> None:
    """Broadcast the state that rank 0 has read to the other processes of a resumed training with pickle.

    fairseq uses ``torch.save`` and ``torch.load``, which with ``weights_only=True`` refuses fairseq's placeholders.
    The sender is a process of the same training and trusted, as torch's object broadcast assumes.
    """

    @_in_place_of(distributed_utils._broadcast_object_slow)
    def broadcast(original: Any, obj: Any, src_rank: int, group: Any, dist_device: torch.device) -> Any:
        if distributed_utils.use_xla():
            return original(obj, src_rank, group, dist_device)
        box = [obj]
        torch.distributed.broadcast_object_list(box, src=src_rank, group=group, device=dist_device)
        return box[0]


def gather_from_peers() -> None:
    """Gather objects of all processes (predictions, counts) without a GPU and of any size.

    fairseq copies them into a CUDA buffer of 16 KiB, which needs a GPU and is too small for a batch of predictions.
    It is replaced by torch's object gather; all processes belong to the same training and are trusted.
    """

    @_in_place_of(distributed_utils.all_gather_list)
    def gather(original: Any, data: Any, group: Any = None, max_size: int = 16384) -> list[Any]:
        group = distributed_utils.get_global_group() if group is None else group
        if distributed_utils.use_xla():
            return original(data, group, max_size)
        gathered: list[Any] = [None] * distributed_utils.get_world_size(group)
        torch.distributed.all_gather_object(gathered, fairseq.utils.move_to_cpu(data), group=group)
        return gathered


def bf16_without_tpu(cfg: Any) -> None:
    """Use ``--bf16`` without a TPU: fairseq's option parser also sets ``tpu``, which fails without torch_xla."""
    if cfg.common.bf16 and distributed_utils.xm is None:
        cfg.common.tpu = False
        cfg.distributed_training.tpu = False


def processes_of_a_launcher(cfg: Any) -> None:
    """Join a training that ``torchrun`` started, also on machines without a GPU.

    fairseq divides the rank by the number of GPUs, uses NCCL, and wraps the model for a device number, which fails on a
    CPU.  With at most one GPU per machine, its default world size of 1 also makes it ignore the launcher, so that N
    trainings would write to one folder.
    """
    training = cfg.distributed_training
    on_gpu = torch.cuda.is_available() and not cfg.common.cpu
    launched = all(name in os.environ for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"))
    if launched and training.distributed_init_method is None and int(os.environ["WORLD_SIZE"]) > 1:
        training.distributed_world_size = int(os.environ["WORLD_SIZE"])
        if not on_gpu:
            training.distributed_init_method = "env://"
            training.distributed_rank = int(os.environ["RANK"])
            training.device_id = 0
            training.distributed_no_spawn = True
    if not on_gpu and training.distributed_world_size > 1:
        training.distributed_backend = "gloo"
        if training.ddp_backend in ("c10d", "pytorch_ddp"):
            training.ddp_backend = "legacy_ddp"


def refuse_fp16_without_cuda(cfg: Any) -> None:
    """Raise :class:`OptionError` for ``--fp16`` without a GPU, with which fairseq fails inside its optimizer."""
    wanted = cfg.common.fp16 or getattr(cfg.common, "memory_efficient_fp16", False)
    if wanted and (cfg.common.cpu or not torch.cuda.is_available()):
        why = "--cpu was given" if torch.cuda.is_available() else "this machine has none that torch can use"
        raise OptionError(f"--fp16 needs a CUDA GPU, but {why}: use --bf16, which also works on the CPU.")


def check_seed(cfg: Any) -> None:
    """Raise :class:`OptionError` for a ``--seed`` that no generator of random numbers accepts."""
    checked_seed(getattr(getattr(cfg, "common", cfg), "seed", 1), "--seed")  # fairseq-generate passes a Namespace


def refuse_model_of_another_task(task: str | None, model: str | None) -> None:
    """Refuse a model of this plugin that a task of this plugin cannot train.

    Parameters
    ----------
    task : str or None
        The registered name of a task.  Its class lists the models that it trains in ``accepted_models``; a class
        without this attribute accepts any model.
    model : str or None
        The registered name of a model, or of one of its sizes.  Models of fairseq and of the user are not refused.

    Raises
    ------
    OptionError
        The model belongs to another task.
    """
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY

    accepted = getattr(TASK_REGISTRY.get(task), "accepted_models", None)
    family = ARCH_MODEL_NAME_REGISTRY.get(model, model)
    if accepted is None or family in accepted or family not in MODEL_REGISTRY:
        return
    if MODEL_REGISTRY[family].__module__.partition(".")[0] == __name__.partition(".")[0]:
        sizes = [size for size, of in ARCH_MODEL_NAME_REGISTRY.items() if of in accepted and size != of]
        raise OptionError(f"The task {task} cannot train the model {model}; accepted are: {', '.join(sizes)}.")


def check_arguments() -> None:
    """Report a model that does not belong to its task as one sentence in ``fairseq-train``.

    fairseq combines any task with any model, and fails with a traceback if the two do not match.
    """

    @_in_place_of(fairseq.options.parse_args_and_arch)
    def parse_args_and_arch(original: Any, *arguments: Any, **options: Any) -> Any:
        parsed = original(*arguments, **options)
        args = parsed[0] if isinstance(parsed, tuple) else parsed
        with one_sentence():
            refuse_model_of_another_task(getattr(args, "task", None), getattr(args, "arch", None))
        return parsed


def check_configurations() -> None:
    """Report a model of another task, or an unknown option, as one sentence in ``fairseq-hydra-train``.

    Hydra composes any recipe with any model, and ``+model.name=value`` adds any option.  fairseq compares them with the
    dataclasses of the plugin in ``add_defaults``, where omegaconf raises its own errors.
    """

    @_in_place_of(fairseq.dataclass.initialize.add_defaults)
    def add_defaults(original: Any, cfg: Any) -> None:
        refuse_model_of_another_task(*(getattr(cfg.get(section), "_name", None) for section in ("task", "model")))
        try:
            original(cfg)
        except (ConfigKeyError, ValidationError) as error:
            if not dataclasses.is_dataclass(error.object_type):
                raise
            section = error.object_type.__name__
            if isinstance(error, ConfigKeyError):
                options = sorted({field.name for field in dataclasses.fields(error.object_type)} - {"_name"})
                sentence = f"{error.key} is no option of {section}; accepted are: {', '.join(options)}."
            else:
                sentence = f"{error.full_key} of {section}: {str(error).splitlines()[0]}."
            raise OptionError(sentence) from error


def wrap_call_main() -> None:
    """Adjust options and report errors in ``call_main``, which all commands of fairseq that compute call.

    A user error ends the command with one sentence on stderr and status 2; a defect keeps its traceback.
    ``fairseq-generate`` does not call ``call_main``, so only its errors are reported.  Under ``fairseq-hydra-train``
    the plugin is imported while ``call_main`` is running, so the result of hydra's job is examined instead.
    """

    @_in_place_of(distributed_utils.call_main)
    def call_main(original: Any, cfg: Any, main: Callable[..., Any], **kwargs: Any) -> Any:
        with one_sentence(cfg):
            speak_to_nobody()
            check_seed(cfg)
            if cfg.common.tensorboard_logdir:
                require("tensorboardX", "--tensorboard-logdir")  # fairseq would only log that it is missing
            refuse_fp16_without_cuda(cfg)
            bf16_without_tpu(cfg)
            processes_of_a_launcher(cfg)
            return original(cfg, main, **kwargs)

    generate: Any = sys.modules.get("fairseq_cli.generate")
    if generate is not None:

        @_in_place_of(generate.main)
        def main(original: Any, cfg: Any) -> Any:
            with one_sentence(cfg):
                speak_to_nobody()
                check_seed(cfg)
                return original(cfg)

    report_hydra_job()


# ---------------------------------------------------------------------------------------------------------------------
# Log


def quiet_the_root_logger() -> None:
    """Reset the root logger, which ``fairseq.models.wav2vec.wav2vec2_classification`` sets to DEBUG on import.

    Commands that configure logging before they import fairseq (``fairseq-train``) are not affected; all other programs
    would log details of torch and file locks.  The level is reset to that of fairseq's commands.
    """
    root = logging.getLogger()
    wanted = os.environ.get("LOGLEVEL", "INFO").upper()
    configured_there = any(
        getattr(handler.formatter, "_fmt", None) == logging.BASIC_FORMAT for handler in root.handlers
    )
    if root.level == logging.DEBUG and configured_there and wanted != "DEBUG":
        root.setLevel(wanted if isinstance(logging.getLevelName(wanted), int) else logging.INFO)


HARMLESS_WARNINGS = (
    r"\s*The version_base parameter is not specified",
    r"\s*'.*' is validated against ConfigStore schema with the same name",
    r"\s*The strict flag in the compose API is deprecated",
    r"\s*hydra\.experimental\.",
    r"\s*In '.*': Usage of deprecated keyword in package header",
    r"\s*Future Hydra versions will no longer change working directory",
    r"'pin_memory' argument is set as true but no accelerator is found",
    r"`torch\.cuda\.amp\.autocast\(args\.\.\.\)` is deprecated",
)


def quiet_advice() -> None:
    """Silence warnings of hydra and torch that concern fairseq's code, which no user can act on."""
    for message in HARMLESS_WARNINGS:
        for category in (UserWarning, FutureWarning):
            warnings.filterwarnings("ignore", message=message, category=category)


give_numpy_views()
allow_checkpoint_types()
load_checkpoints_safely()
load_model_folders()
copy_checkpoints_whole()
report_unwritten_checkpoints()
resume_from_newest_complete_checkpoint()
broadcast_from_peers()
gather_from_peers()
check_arguments()
check_configurations()
wrap_call_main()
quiet_the_root_logger()
quiet_advice()
