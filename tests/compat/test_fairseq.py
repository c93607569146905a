"""fairseq on today's Python, torch and numpy: each thing that breaks, without compat.py and with it.

:data:`BREAKAGES` are plain functions on fairseq.  Run as a program, this file calls them in a process that has never
seen the plugin and prints what each raised; the test process, which has, calls the same functions and nothing may be
raised.
"""

from __future__ import annotations

import argparse
import collections
import copy
import importlib
import io
import json
import logging
import os
import pickle
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
TOY_MODEL = """--task masked_lm --criterion masked_lm --arch roberta_base --cpu --encoder-layers 1 --encoder-embed-dim 8
    --encoder-ffn-embed-dim 8 --encoder-attention-heads 2 --tokens-per-sample 16 --optimizer adam --lr 0.001
    --batch-size 4 --num-workers 0 --no-progress-bar"""


# ---------------------------------------------------------------------------------------------------------------------
# What breaks: each function takes a scratch folder and uses fairseq as its documentation says


def toy_dataset(folder: Path) -> Path:
    """A masked-LM dataset of 24 short lines over 9 words, in fairseq's own container."""
    from fairseq.data import Dictionary, indexed_dataset

    folder.mkdir(exist_ok=True)
    dictionary = Dictionary()
    for word in "abcdefghi":
        dictionary.add_symbol(word)
    dictionary.save(str(folder / "dict.txt"))
    generator = np.random.default_rng(0)
    for split in ("train", "valid"):
        builder = indexed_dataset.MMapIndexedDatasetBuilder(str(folder / f"{split}.bin"), dtype=np.uint16)
        for _ in range(24):
            line = generator.integers(dictionary.nspecial, len(dictionary), generator.integers(4, 9))
            builder.add_item(torch.from_numpy(np.append(line, dictionary.eos())))
        builder.finalize(str(folder / f"{split}.idx"))
    return folder


def train(folder: Path, *options: object, break_mode: str = "none", save: str = "checkpoints") -> None:
    """fairseq-train of a stock model so small that an update takes milliseconds."""
    from fairseq import checkpoint_utils
    from fairseq_cli import train as command

    if hasattr(checkpoint_utils.save_checkpoint, "best"):
        del checkpoint_utils.save_checkpoint.best
    arguments = f"""fairseq-train {toy_dataset(folder / "toy")} {TOY_MODEL}
        --sample-break-mode {break_mode} --max-update 1 --save-dir {folder / save}""".split()
    with mock.patch.object(sys, "argv", arguments + [str(option) for option in options]):
        command.cli_main()


def blocks_that_end_with_sentences(folder: Path) -> None:
    from fairseq.data import TokenBlockDataset

    lines = [torch.tensor([4, 5, 2]), torch.tensor([6, 2])]
    dataset = TokenBlockDataset(lines, [3, 2], None, pad=1, eos=2, break_mode="eos")
    assert [line.tolist() for line in dataset] == [[4, 5, 2], [6, 2]]


def pairs_in_length_buckets(folder: Path) -> None:
    from fairseq.data import Dictionary, LanguagePairDataset, ListDataset

    dictionary = Dictionary()
    lines, sizes = [torch.tensor([4, 5, 2]), torch.tensor([6, 2])], np.array([3, 2])
    pairs = LanguagePairDataset(
        ListDataset(lines, sizes), sizes, dictionary, ListDataset(lines, sizes), sizes, dictionary, num_buckets=2
    )
    assert len(pairs.buckets) == 2


def normalizer_of_a_random_field(folder: Path) -> None:
    from fairseq.modules.dynamic_crf_layer import DynamicCRF

    field = DynamicCRF(num_embedding=6, low_rank=2, beam_size=3)
    assert field(torch.zeros(1, 3, 6), torch.tensor([[4, 5, 2]]), torch.ones(1, 3, dtype=torch.bool)).isfinite().all()


def a_second_start_in_the_same_folder(folder: Path) -> None:
    train(folder, save="resumed")
    train(folder, "--max-update", 2, save="resumed")


def published_file(folder: Path) -> None:
    """A file as fairseq wrote them in 2021: no args, an omegaconf cfg with Namespaces inside, a best loss from
    numpy 1.
    """
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    state = load_checkpoint_to_cpu(str(write_published_file(folder / "published.pt")), {"data": "elsewhere"})
    assert state["args"] is None
    assert state["cfg"].model.arch == "musicbert_base" and state["cfg"].task.data == "elsewhere"
    assert state["extra_state"]["best"] == 1.5


def file_of_arguments(folder: Path) -> None:
    """An older file: all options in one Namespace, written before torch's files were zip archives."""
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    path = folder / "arguments.pt"
    names = argparse.Namespace(task="masked_lm", arch="musicbert_base", criterion="masked_lm", optimizer="adam", lr=0.1)
    torch.save(small_state(args=names), path, _use_new_zipfile_serialization=False)
    state = load_checkpoint_to_cpu(str(path))
    assert state["cfg"].task._name == "masked_lm" and state["args"].lr == [0.1]


def bf16(folder: Path) -> None:
    train(folder, "--bf16", save="bf16")


def two_processes_of_torchrun(folder: Path) -> None:
    """How call_main places a process that torchrun started, up to the moment of connecting."""
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq.distributed import utils
    from omegaconf import OmegaConf

    cfg = OmegaConf.structured(FairseqConfig)
    cfg.common.cpu, cfg.distributed_training.distributed_world_size = True, 2
    launcher = dict(MASTER_ADDR="localhost", MASTER_PORT="1", WORLD_SIZE="2", RANK="1")
    placed = []
    with (
        mock.patch.dict(os.environ, launcher),
        mock.patch.object(utils, "distributed_init", lambda cfg: placed.append(cfg.distributed_training) or 1),
    ):
        utils.call_main(cfg, lambda cfg: None)
    assert (placed[0].distributed_init_method, placed[0].distributed_rank, placed[0].device_id) == ("env://", 1, 0)
    assert (placed[0].distributed_backend, placed[0].ddp_backend) == ("gloo", "legacy_ddp")


def state_sent_to_the_other_workers(folder: Path) -> None:
    """Rank 0 sends, rank 1 receives: both in this process, over a wire that is a list."""
    from fairseq.distributed import utils
    from omegaconf import OmegaConf

    wire: list[torch.Tensor] = []
    objects: list[Any] = []

    def sends(tensor: torch.Tensor, src: int, group: Any) -> None:
        wire.append(tensor.clone())

    def receives(tensor: torch.Tensor, src: int, group: Any) -> None:
        tensor.copy_(wire.pop(0))

    def objects_list(box: list[Any], src: int, group: Any, device: torch.device) -> None:
        if rank == 0:
            objects.append(copy.deepcopy(box))
        else:
            box[:] = objects.pop(0)

    state = {"cfg": OmegaConf.create({"a": 1}), "model": {"w": torch.arange(3)}}
    received = None
    for rank, carry in ((0, sends), (1, receives)):
        with (
            mock.patch.object(utils, "get_rank", lambda group, rank=rank: rank),
            mock.patch.object(utils, "broadcast", carry),
            mock.patch.object(torch.distributed, "broadcast_object_list", objects_list),
        ):
            received = utils.broadcast_object(state if rank == 0 else None, 0, None, torch.device("cpu"))
    assert received["cfg"].a == 1 and received["model"]["w"].tolist() == [0, 1, 2]


def test_workers_without_a_gpu_tell_each_other_things_of_any_length(registered: None) -> None:
    from fairseq.distributed import utils

    said = {"predictions": torch.arange(50_000), "name": "one"}  # more than fairseq's buffer of 16 KiB
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        heard = utils.all_gather_list(said, group=torch.distributed.group.WORLD)
    finally:
        torch.distributed.destroy_process_group()
    assert len(heard) == 1 and heard[0]["name"] == "one" and torch.equal(heard[0]["predictions"], said["predictions"])


def code_in_a_file_where_the_default_is_switched_off(folder: Path) -> None:
    """Raises where the code inside a downloaded file was run."""
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    path = folder / "malicious.pt"
    torch.save(small_state(extra=Malicious(f"{str(folder / 'was-here')!r}")), path)
    with mock.patch.dict(os.environ, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"):
        try:
            load_checkpoint_to_cpu(str(path))
        except Exception as error:
            assert "contains eval" in str(error)
    if (folder / "was-here").exists():
        raise RuntimeError("the file ran code")


def log_of_the_inner_life_of_torch(folder: Path) -> None:
    if logging.getLogger().level == logging.DEBUG:
        raise RuntimeError("the root logger is at DEBUG")


BREAKAGES = {
    blocks_that_end_with_sentences: "module 'numpy' has no attribute 'compat'",
    pairs_in_length_buckets: "percentile() got an unexpected keyword argument 'interpolation'",
    normalizer_of_a_random_field: "module 'numpy' has no attribute 'float'",
    a_second_start_in_the_same_folder: "Unsupported global: GLOBAL argparse.Namespace",
    published_file: "Unsupported global: GLOBAL omegaconf.dictconfig.DictConfig",
    file_of_arguments: "Unsupported global: GLOBAL argparse.Namespace",
    bf16: "'NoneType' object has no attribute 'xla_device'",
    two_processes_of_torchrun: "integer modulo by zero",
    state_sent_to_the_other_workers: "Unsupported global: GLOBAL",
    code_in_a_file_where_the_default_is_switched_off: "the file ran code",
    log_of_the_inner_life_of_torch: "the root logger is at DEBUG",
}


# ---------------------------------------------------------------------------------------------------------------------
# Files


def small_state(**entries: Any) -> dict[str, Any]:
    """The entries that every fairseq checkpoint has."""
    history = {"criterion_name": "C", "optimizer_name": "O", "lr_scheduler_state": {"best": None}, "num_updates": 7}
    return {
        "args": entries.pop("args", None),
        **entries,
        "model": collections.OrderedDict(weight=torch.ones(2)),
        "optimizer_history": [history],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, "best": np.float64(1.5)},
    }


def write_published_file(path: Path) -> Path:
    from omegaconf import OmegaConf

    options = {"arch": "musicbert_base", "data": "d", "lr": [0.1]}
    cfg = OmegaConf.create({"common": {"seed": 1}, "optimization": {"lr": [0.1]}}, flags={"allow_objects": True})
    for part, name in (("model", "musicbert_base"), ("task", "masked_lm"), ("criterion", "masked_lm")):
        cfg[part] = argparse.Namespace(_name=name, **options)
    torch.save(small_state(cfg=as_omegaconf_2_0(cfg)), path, pickle_module=PickleOfNumpy1)
    return path


def as_omegaconf_2_0(node: Any) -> Any:
    """Give every node of a configuration the attributes that omegaconf 2.0 pickled, and no others."""
    vars(node._metadata).pop("flags_root", None)
    node._metadata.flags, node._metadata.object_type = {}, None
    content = vars(node).get("_content")
    if content is not None:
        node._metadata.key_type = node._metadata.element_type = None
        for child in content.values() if isinstance(content, dict) else content:
            as_omegaconf_2_0(child)
    return node


class PickleOfNumpy1(types.SimpleNamespace):
    """pickle as numpy 1 had it: numpy's scalars are found in numpy.core, which numpy 2 renamed."""

    class Pickler(pickle._Pickler):
        def save_global(self, value: Any, name: str | None = None) -> None:
            if getattr(value, "__name__", "") == "scalar" and "multiarray" in getattr(value, "__module__", ""):
                self.write(pickle.GLOBAL + b"numpy.core.multiarray\nscalar\n")
                self.memoize(value)
            else:
                super().save_global(value, name)

        dispatch = {**pickle._Pickler.dispatch, types.FunctionType: save_global, type(len): save_global}

    dumps = staticmethod(pickle.dumps)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({self.path}, 'w').close()",)


def globals_of(path: Path) -> set[str]:
    """Every name that a checkpoint asks for while it is read."""
    import pickletools
    import zipfile

    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        return {str(argument) for code, argument, _ in pickletools.genops(archive.read(name)) if code.name == "GLOBAL"}


# ---------------------------------------------------------------------------------------------------------------------
# Tests


@pytest.fixture(scope="module")
def without_compat(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each breakage raised in one process that never imports the plugin."""
    folder = tmp_path_factory.mktemp("without")
    run = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | ONE_THREAD,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_breaks_without_compat(without_compat: dict[str, str], breakage: Any) -> None:
    assert BREAKAGES[breakage] in without_compat[breakage.__name__]


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_works_with_compat(registered: None, tmp_path: Path, breakage: Any) -> None:
    breakage(tmp_path)


def test_numpy_itself_is_not_changed(registered: None) -> None:
    from fairseq.data import data_utils, token_block_dataset

    assert not hasattr(np, "compat")
    assert "int" not in vars(np) and "float" not in vars(np)
    assert data_utils.np.int is int and token_block_dataset.np.compat.long is int
    assert data_utils.np.ndarray is np.ndarray


def test_torch_itself_is_not_changed(registered: None) -> None:
    from fairseq import checkpoint_utils

    assert torch.load.__module__ == "torch.serialization"
    assert checkpoint_utils.torch.load is not torch.load
    assert checkpoint_utils.torch.Tensor is torch.Tensor


def test_importing_compat_twice_changes_nothing_more(registered: None) -> None:
    from fairseq import checkpoint_utils, options
    from fairseq.data import data_utils
    from fairseq.dataclass import initialize
    from fairseq.distributed import utils
    from hydra.core.utils import JobReturn

    from musicbert_plugin.compat import fairseq as compat

    def patched() -> list[Any]:
        return [
            initialize.add_defaults,
            options.parse_args_and_arch,
            utils.call_main,
            utils._broadcast_object_slow,
            utils.all_gather_list,
            checkpoint_utils.torch,
            data_utils.np,
            JobReturn.return_value,
            sorted(map(str, torch.serialization.get_safe_globals())),
        ]

    before = patched()
    importlib.reload(compat)
    assert patched() == before


def test_names_that_were_bound_before_are_replaced_too(registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from fairseq.distributed import utils

    from musicbert_plugin.compat import fairseq as compat

    stock = utils.call_main.__wrapped__
    module = types.ModuleType("fairseq_cli.of_a_user")
    module.call_main = stock  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(utils, "call_main", stock)
    compat.wrap_call_main()
    assert module.call_main is utils.call_main is not stock


def test_the_types_that_may_be_read_run_no_code(registered: None) -> None:
    from musicbert_plugin.compat.safe_loading import checkpoint_types

    harmless = ("argparse", "omegaconf", "collections", "builtins", "numpy", "typing")
    for entry in checkpoint_types():
        kind = entry[0] if isinstance(entry, tuple) else entry
        name = entry[1] if isinstance(entry, tuple) else f"{kind.__module__}.{kind.__qualname__}"
        assert name.split(".")[0] in harmless
        assert isinstance(kind, type) or name.endswith((".scalar", "typing.Any"))
        assert name.split(".")[-1] not in ("eval", "exec", "getattr", "setattr", "__import__", "open", "compile")
    assert (typing.Any, "typing.Any") in checkpoint_types()


def test_what_our_own_training_saves_holds_namespaces_at_most(registered: None, tmp_path: Path) -> None:
    train(tmp_path, save="own")
    names = {name for name in globals_of(tmp_path / "own" / "checkpoint_last.pt") if not name.startswith("torch")}
    assert names <= {"argparse Namespace", "collections OrderedDict", "__builtin__ set"}


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("switched_off", [False, True])
def test_a_file_with_code_inside_is_refused_by_name(
    registered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_format: bool, switched_off: bool
) -> None:
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    from musicbert_plugin.errors import CheckpointError

    if switched_off:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / "malicious.pt"
    state = small_state(extra=Malicious(f"{str(tmp_path / 'was-here')!r}"))
    torch.save(state, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint_to_cpu(str(path))
    assert str(refusal.value).startswith(f"{path} contains eval, which")
    assert not (tmp_path / "was-here").exists()


VERSIONS = {"2.6.0": False, "2.9.1+cpu": False, "2.10.0+cu128": True, "3.0": True}


@pytest.mark.parametrize(("version", "safe"), VERSIONS.items())
def test_a_torch_that_a_file_can_harm_loads_none(
    registered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, safe: bool
) -> None:
    from musicbert_plugin.compat.safe_loading import load_safely
    from musicbert_plugin.errors import CheckpointError

    torch.save(small_state(), tmp_path / "good.pt")
    monkeypatch.setattr(torch, "__version__", version)
    if safe:
        assert load_safely(str(tmp_path / "good.pt"))["model"]["weight"].tolist() == [1, 1]
    else:
        with pytest.raises(CheckpointError) as refusal:
            load_safely(str(tmp_path / "good.pt"))
        assert str(refusal.value).startswith(f"{tmp_path}/good.pt is not loaded: torch {version} cannot load files")
        assert "2.10 or newer is needed" in str(refusal.value)


@pytest.mark.parametrize("kept", [0, 1, 10, 1000])
def test_a_damaged_file_is_called_damaged(registered: None, tmp_path: Path, kept: int) -> None:
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    from musicbert_plugin.errors import CheckpointError

    buffer = io.BytesIO()
    torch.save(small_state(), buffer)
    (tmp_path / "cut.pt").write_bytes(buffer.getvalue()[:kept])
    with pytest.raises(CheckpointError, match="cut.pt is damaged, or is not a checkpoint|cut.pt cannot be read"):
        load_checkpoint_to_cpu(str(tmp_path / "cut.pt"))


@pytest.mark.parametrize("content", [{"weight": torch.ones(2)}, torch.ones(2), [1]], ids=["weights", "tensor", "list"])
def test_a_file_of_bare_weights_is_not_taken_for_a_checkpoint(registered: None, tmp_path: Path, content: Any) -> None:
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    from musicbert_plugin.errors import CheckpointError

    torch.save(content, tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match='bare.pt is not a fairseq checkpoint.* "model"'):
        load_checkpoint_to_cpu(str(tmp_path / "bare.pt"))


def test_a_launcher_of_one_gpu_per_machine_is_not_overlooked(registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """fairseq's default world size there is 1, and every machine would train by itself into the same folder."""
    from fairseq.dataclass.configs import FairseqConfig
    from omegaconf import OmegaConf

    from musicbert_plugin.compat.fairseq import processes_of_a_launcher

    for name, value in dict(MASTER_ADDR="h", MASTER_PORT="1", WORLD_SIZE="4", RANK="3").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = OmegaConf.structured(FairseqConfig)
    cfg.distributed_training.distributed_world_size = 1
    processes_of_a_launcher(cfg)
    assert cfg.distributed_training.distributed_world_size == 4
    assert cfg.distributed_training.distributed_init_method is None, "on a GPU the rest is fairseq's own"
    assert cfg.distributed_training.distributed_backend == "nccl"


def test_a_training_of_one_process_is_left_as_it_is(registered: None) -> None:
    from fairseq.dataclass.configs import FairseqConfig
    from omegaconf import OmegaConf

    from musicbert_plugin.compat.fairseq import bf16_without_tpu, processes_of_a_launcher

    cfg = OmegaConf.structured(FairseqConfig)
    cfg.distributed_training.distributed_world_size = 1
    before = copy.deepcopy(cfg)
    processes_of_a_launcher(cfg)
    bf16_without_tpu(cfg)
    assert cfg == before


@pytest.mark.parametrize("level", ["INFO", "WARNING", "DEBUG", "nonsense"])
def test_the_log_level_is_the_one_that_fairseq_reads(
    registered: None, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    from musicbert_plugin.compat.fairseq import quiet_the_root_logger

    root = logging.getLogger()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(root, "level", logging.DEBUG)
    monkeypatch.setenv("LOGLEVEL", level)
    quiet_the_root_logger()
    assert logging.getLevelName(root.level) == ("INFO" if level == "nonsense" else level)


def test_a_log_that_a_program_set_to_debug_itself_stays_there(
    registered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musicbert_plugin.compat.fairseq import quiet_the_root_logger

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    monkeypatch.delenv("LOGLEVEL", raising=False)
    quiet_the_root_logger()
    assert logging.getLogger().level == logging.DEBUG


def test_two_processes_of_torchrun_resume_on_a_cpu(registered: None, tmp_path: Path) -> None:
    """Everything at once: no options but the launcher's, and rank 1 gets the state that rank 0 reads."""
    train(tmp_path, save="checkpoints")
    command = f"""{sys.executable} -m torch.distributed.run --standalone --nproc_per_node 2 -m fairseq_cli.train
        {tmp_path / "toy"} --user-dir {ROOT / "musicbert_plugin"} {TOY_MODEL}
        --sample-break-mode eos --max-update 3 --save-dir {tmp_path / "checkpoints"}""".split()
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "training on 2 devices" in run.stdout
    assert "Loaded checkpoint" in run.stdout and "@ 1 updates" in run.stdout
    assert "num_updates: 3 >= max_update: 3" in run.stdout


def test_importing_the_package_and_its_codecs_loads_neither_torch_nor_fairseq() -> None:
    program = "import sys, musicbert_plugin, musicbert_plugin.codecs; print({'torch', 'fairseq'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


if __name__ == "__main__":
    import fairseq  # noqa: F401  (first, as every program does: it sets the log level)

    outcomes = {}
    scratch = Path(sys.argv[1])
    # the log is looked at before anything else configures it
    for function in sorted(BREAKAGES, key=lambda function: function is not log_of_the_inner_life_of_torch):
        try:
            place = scratch / function.__name__
            place.mkdir()
            function(place)
            outcomes[function.__name__] = "nothing was raised"
        except Exception as error:
            outcomes[function.__name__] = f"{type(error).__name__}: {error}"
    print(json.dumps(outcomes))
