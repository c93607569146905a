"""No command that reads a checkpoint runs what the file asks for: each ends with one sentence."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from musicbert_plugin.errors import CheckpointError
from tests.attacks.files import MARK, write_attacks

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert_tiny --tokens-per-sample 256
    --encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 2
    --optimizer adam --lr 0.001 --batch-size 2 --max-update 1 --no-progress-bar""".split()


@pytest.fixture
def attacks(registered: None, tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "attacks").mkdir()
    return write_attacks(tmp_path / "attacks")


@pytest.fixture
def data(octuple_folder: Callable[..., Path]) -> Path:
    return octuple_folder(train=[40, 30], valid=[30], test=[30])


def sample(attacks: dict[str, Path], number: int) -> list[tuple[str, Path]]:
    """All attacks for the first command, and another third of them for each that loads by the same function."""
    return list(attacks.items()) if number == 0 else list(attacks.items())[number - 1 :: 3]


def executed(attacks: dict[str, Path]) -> bool:
    return (next(iter(attacks.values())).parent / MARK).exists()


def one_sentence(text: str, path: Path) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and str(path) in lines[-1] and "Traceback" not in text


def test_the_attacks_work_on_fairseq_alone(tmp_path: Path) -> None:
    """Without the plugin fairseq runs them: what the other tests refuse is a danger."""
    program = f"""
import argparse, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import fairseq.tasks, fairseq.models, fairseq.criterions
from fairseq.dataclass.configs import FairseqDataclass
from omegaconf import OmegaConf
from tests.attacks.files import CFG, MARK
for name, section in (("wav2vec2", "model"), ("ctc_beside_an_intact_model", "criterion")):
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    cfg = OmegaConf.create(CFG[name](folder), flags={{"allow_objects": True}})
    try:
        build = {{"model": fairseq.models.build_model, "criterion": fairseq.criterions.build_criterion}}[section]
        build(cfg[section], argparse.Namespace(target_dictionary=argparse.Namespace(
            bos=lambda: 0, pad=lambda: 1, eos=lambda: 2, index=lambda word: 3, unk=lambda: 3, indices={{}})))
    except Exception as error:
        print(type(error).__name__, error)
    print(name, (folder / MARK).exists())
"""
    found = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert "wav2vec2 True" in found.stdout and "ctc_beside_an_intact_model True" in found.stdout, (
        found.stdout + found.stderr
    )


COMMANDS: dict[str, list[str]] = {
    "validate": ["--task", "octuple_masked_lm", "--valid-subset", "valid", "--batch-size", "2"],
    "interactive": ["--task", "attribute_to_music"],
    "generate": ["--task", "attribute_to_music", "--gen-subset", "valid"],
    "eval-lm": ["--task", "attribute_to_music", "--gen-subset", "valid"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_fairseq_commands_refuse_every_attack(
    command: str,
    attacks: dict[str, Path],
    data: Path,
    fairseq_command: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOGLEVEL", raising=False)
    if command != "validate":
        from musicbert_plugin.codecs import remi

        (data / "config.json").unlink()
        (data / "dict.txt").write_text("".join(f"{word} 1\n" for word in remi.WORDS[4:]))
    for name, path in sample(attacks, list(COMMANDS).index(command)):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ending:
            fairseq_command(command, data, *COMMANDS[command], "--path", path)
        assert ending.value.code == 2, name
        assert one_sentence(capfd.readouterr().err, path), name
        assert not executed(attacks), name


@pytest.mark.parametrize("option", ["--restore-file", "--finetune-from-model"])
def test_a_training_that_goes_on_from_an_attack_runs_nothing(
    option: str, attacks: dict[str, Path], data: Path, fairseq_command: Callable[..., Any], tmp_path: Path
) -> None:
    for name, path in list(attacks.items())[option == "--restore-file" :: 6]:
        with pytest.raises(SystemExit):
            fairseq_command("train", data, *RECIPE, option, path, "--save-dir", tmp_path / "saved")
        assert not executed(attacks), name


def hubs() -> Iterator[Any]:
    from musicbert_plugin.hub import MuseCocoHub, MusicBERTHub, MusiCoderHub

    yield from (MusicBERTHub, MuseCocoHub, MusiCoderHub)


def test_every_hub_refuses_every_attack(attacks: dict[str, Path]) -> None:
    for hub in hubs():
        for name, path in attacks.items():
            with pytest.raises(CheckpointError, match=r"^(?!.*\n)"):
                hub.from_pretrained(path)
            assert not executed(attacks), (hub, name)


@pytest.mark.parametrize(
    "words",
    [
        *(["strip"], ["export-head", "--head", "a"], ["hugging-face"]),
    ],
)
def test_commands_of_the_hub_refuse_every_attack(
    words: list[str], attacks: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from musicbert_plugin.hub import __main__ as hub

    for name, path in attacks.items():
        with pytest.raises(SystemExit) as ending:
            hub.main([words[0], str(path), str(tmp_path / "out"), *words[1:]])
        assert ending.value.code == 2, name
        assert one_sentence(capsys.readouterr().err, path), name
        assert not executed(attacks) and not (tmp_path / "out").exists(), name


EVALUATIONS: dict[str, list[str]] = {
    "octuple_masked_lm": ["--path", "CKPT", "DATA"],
    "infill": ["--path", "CKPT", "DATA", "--bars", "1:2", "--dest", "OUT"],
    "audio": ["--path", "CKPT", "DATA"],
    "correlate": ["--path", "CKPT", "DATA", "--dest", "OUT"],
    "probe": ["--path", "CKPT", "DATA", "--label", "a", "--group", "b"],
    "labels": ["--path", "CKPT", "DATA"],
    "explain": ["--path", "CKPT", "DATA"],
    "attributes": ["--path", "CKPT", "DATA"],
    "pairs": ["--path", "CKPT", "DATA"],
}


def test_every_evaluation_is_tried(registered: None) -> None:
    from musicbert_plugin.evaluate.__main__ import TASKS

    assert set(EVALUATIONS) == set(TASKS) - {"ranking"}, "ranking reads no checkpoint"


@pytest.mark.parametrize("task", EVALUATIONS)
def test_evaluations_refuse_every_attack(
    task: str, attacks: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from musicbert_plugin.evaluate.__main__ import main

    for name, path in attacks.items():
        words = {"CKPT": str(path), "DATA": str(data), "OUT": str(tmp_path / "out")}
        assert main([task, *(words.get(word, word) for word in EVALUATIONS[task])]) == 2, name
        assert len(capsys.readouterr().err.strip().splitlines()) == 1, name
        assert not executed(attacks), name


# ---------------------------------------------------------------------------------------------------------------------
# What a file may name at all

EVALUATORS = {"eval", "exec", "compile", "__import__", "eval_str_list", "eval_str_dict", "eval_bool", "import_module"}
"""Functions that run a string, fairseq's own included."""


def evaluated(source: str) -> set[str]:
    """Calls in a source text that run a string."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            # model.eval(), re.compile() and layer.compile() run no string
            if name in EVALUATORS and not (name in ("eval", "exec", "compile") and owner):
                found.add(ast.unparse(node))
    return found


def registries() -> dict[str, dict[str, type]]:
    from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_REGISTRY

    return {
        "model": {**MODEL_REGISTRY, **ARCH_MODEL_REGISTRY},
        "task": TASK_REGISTRY,
        **{name: registry["registry"] for name, registry in REGISTRIES.items()},
    }


def test_every_registry_of_fairseq_is_checked(registered: None) -> None:
    from musicbert_plugin.compat.checkpoint_configuration import accepted_names

    for section, registry in registries().items():
        assert len(registry) > 0 or section in ("simul_type",), section
        assert not set(accepted_names(section)) >= set(registry) or section == "lr_scheduler", section


def test_no_builder_that_a_file_reaches_runs_a_string(registered: None) -> None:
    """Every entry of every registry is either refused, or neither it nor a base class of it evaluates a string."""
    from musicbert_plugin.compat.checkpoint_configuration import BUILT, EVALUATED, accepted_names, checked_configuration
    from tests.attacks.files import sections

    reached = 0
    for section, registry in registries().items():
        accepted = set(accepted_names(section))
        for name, cls in registry.items():
            if name not in accepted:
                with pytest.raises(CheckpointError, match="file.pt"):
                    checked_configuration({"cfg": sections(**{section: {"_name": name}})}, "file.pt")
                with pytest.raises(CheckpointError, match="file.pt"):  # as the one key of a section
                    checked_configuration({"cfg": sections(**{section: {name: {}}})}, "file.pt", BUILT)
                continue
            checked_configuration({"cfg": sections(**{section: {"_name": name}})}, "file.pt")
            classes = inspect.getmro(cls) if inspect.isclass(cls) else (cls,)
            for base in classes:
                if base.__module__.partition(".")[0] in ("fairseq", "musicbert_plugin"):
                    reached += 1
                    calls = evaluated(inspect.getsource(sys.modules[base.__module__]))
                    # optimizers are never built from a file; their strings have to be literals all the same
                    allowed = {call for call in calls if any(option in call for option in EVALUATED)}
                    assert calls == (allowed if section == "optimizer" else set()), (name, base, calls)
    assert reached > 50


def test_options_that_are_evaluated_are_all_known(registered: None) -> None:
    from musicbert_plugin.compat.checkpoint_configuration import EVALUATED, OPTIMIZERS

    for name in OPTIMIZERS:
        cls = registries()["optimizer"].get(name)
        for call in evaluated(inspect.getsource(sys.modules[cls.__module__])) if cls else ():
            assert any(option in call for option in EVALUATED), call


def test_no_file_of_the_plugin_runs_a_string() -> None:
    for path in sorted((ROOT / "musicbert_plugin").rglob("*.py")):
        calls = evaluated(path.read_text(encoding="utf-8"))
        # modules of the plugin itself, by constant names
        assert {call for call in calls if "import_module" not in call} == set(), path


def test_an_intact_configuration_passes(registered: None) -> None:
    from musicbert_plugin.compat.checkpoint_configuration import BUILT, checked_configuration
    from tests.attacks.files import sections

    checked_configuration({"args": None, "cfg": sections()}, "file.pt")
    checked_configuration({"args": None, "cfg": None}, "file.pt")
    with pytest.raises(CheckpointError, match="file.pt has neither 'cfg' nor 'args'"):
        checked_configuration({"args": None, "cfg": None}, "file.pt", BUILT)


@pytest.mark.parametrize("section", ["model", "task", "criterion"])
def test_a_section_that_fairseq_builds_from_has_to_be_there(registered: None, section: str) -> None:
    from musicbert_plugin.compat.checkpoint_configuration import BUILT, checked_configuration
    from tests.attacks.files import sections

    cfg = {key: value for key, value in sections().items() if key != section}
    with pytest.raises(CheckpointError, match=f"file.pt has no cfg.{section}"):
        checked_configuration({"cfg": cfg}, "file.pt", BUILT)


def test_options_that_this_version_does_not_know_are_refused(registered: None) -> None:
    from musicbert_plugin.compat.checkpoint_configuration import checked_configuration
    from tests.attacks.files import sections

    for section, name in (("task", "octuple_masked_lm"), ("criterion", "octuple_masked_lm"), ("model", "musicbert")):
        with pytest.raises(CheckpointError, match=f"file.pt gives the {section} '{name}' the option 'surprise'"):
            checked_configuration({"cfg": sections(**{section: {"_name": name, "surprise": 1}})}, "file.pt")


def test_values_are_numbers_strings_and_lists(registered: None) -> None:
    from musicbert_plugin.compat.checkpoint_configuration import checked_configuration
    from tests.attacks.files import sections

    with pytest.raises(CheckpointError, match=r"file.pt has a value of type Tensor as cfg.common.seed"):
        checked_configuration({"cfg": sections(common={"seed": torch.zeros(1)})}, "file.pt")


def damaged(folder: Path) -> dict[str, bytes]:
    """Files that torch refuses with a sentence of its own."""
    import io
    import pickle

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)  # type: ignore[no-untyped-call]
    found = {"torchscript": file.getvalue(), "nothing": b"", "four bytes": b"junk", "text": b"not a checkpoint\n"}
    found |= {f"protocol {number}": pickle.dumps({"model": {}}, protocol=number) for number in range(6)}
    file = io.BytesIO()
    torch.save({"model": {"a": torch.zeros(3)}}, file)
    return found | {"half": file.getvalue()[:300], "empty_zip": b"PK\5\6" + bytes(18), "zip": b"PK\3\4junk"}


def test_no_refusal_advises_to_load_the_file_unsafely(attacks: dict[str, Path], tmp_path: Path) -> None:
    """torch's own sentences do."""
    from musicbert_plugin.compat.error_messages import sentence_for
    from musicbert_plugin.compat.safe_loading import load_weights

    for name, content in damaged(tmp_path).items():
        attacks[name] = tmp_path / f"{name}.pt"
        attacks[name].write_bytes(content)
    quoted = 0
    for name, path in attacks.items():
        with pytest.raises(Exception) as unsafe:
            torch.load(path, weights_only=True)
            raise EOFError  # what is intact for torch is refused by its configuration
        quoted += "weights_only" in str(unsafe.value)
        for read in (load_weights, load_safely_mapped):
            try:
                read(path)
            except CheckpointError as error:
                for text in (str(error), sentence_for(error) or ""):
                    assert "weights_only" not in text and "trust" not in text and "\n" not in text, name
                    assert str(path) in text, name
    assert quoted > 5


def load_safely_mapped(path: Path) -> Any:
    from musicbert_plugin.hub.checkpoints import load_mapped

    return load_mapped(path)
