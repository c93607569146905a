"""Who may know whom: imports run from the commands down to the codecs, and never back up.

The layers are those of the list below, from the ground up; a module imports modules of its own folder, of its own layer
where no circle arises, and of layers below.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PURE = ("errors", "files", "tables", "parsing", "arguments", "extras", "commands", "compression")
"""Modules that every layer may import."""
LAYERS = [
    {"", *PURE, "metrics"},
    {"codecs"},
    {"audio", "modules", "compat"},
    {"data", "models", "generation"},
    {"criterions", "plots", "preprocess"},
    {"tasks"},
    {"hub"},
    {"evaluate"},
]
"""Folders (or files) of ``musicbert_plugin``, and ``preprocess``."""
HEAVY = {"torch", "fairseq"}


def modules() -> dict[str, Path]:
    """Every module of the plugin and of preprocess, by its dotted name."""
    found = {}
    for package in ("musicbert_plugin", "preprocess"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str, top_level_only: bool = False) -> set[str]:
    """What a module imports: modules of this project by their full names, others by their first word."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    nodes = _run_at_import(tree) if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: imports are absolute"
            assert node.module is not None
            found |= {
                module if (module := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return {module if module in MODULES else module.partition(".")[0] for module in found}


def _run_at_import(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run when a module is imported: not those of functions, nor those for type checkers."""
    found: list[ast.stmt] = []
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found.append(node)
        for field in ("body", "orelse", "finalbody", "handlers"):
            for inner in getattr(node, field, []):
                waiting += inner.body if isinstance(inner, ast.ExceptHandler) else [inner]
    return found


def folder(name: str) -> str:
    """The folder or file below the package that a module belongs to."""
    parts = name.split(".")
    return "preprocess" if parts[0] == "preprocess" else (parts[1] if len(parts) > 1 else "")


def layer(name: str) -> int:
    (number,) = [number for number, folders in enumerate(LAYERS) if folder(name) in folders]
    return number


ORDINARY = [name for name in MODULES if name not in ("musicbert_plugin", "musicbert_plugin.__main__")]


def test_every_module_has_a_layer() -> None:
    for name in ORDINARY:
        assert layer(name) >= 0


@pytest.mark.parametrize("name", ORDINARY)
def test_no_import_runs_back_up(name: str) -> None:
    for other in imported(name):
        if other in MODULES and other not in ("musicbert_plugin", "preprocess"):
            assert layer(other) <= layer(name), f"{name} imports {other}, which stands above it"


def test_folders_of_one_layer_form_no_circle() -> None:
    arrows = {
        (folder(name), folder(other))
        for name in ORDINARY
        for other in imported(name)
        if other in MODULES and other not in ("musicbert_plugin", "preprocess") and folder(other) != folder(name)
    }
    while leaves := {source for source, _ in arrows} - {target for _, target in arrows}:
        arrows = {arrow for arrow in arrows if arrow[0] not in leaves}
    assert not arrows


def test_modules_form_no_circle() -> None:
    arrows = {
        (name, other) for name in ORDINARY for other in imported(name, top_level_only=True) if other in set(ORDINARY)
    }
    arrows = {(name, other) for name, other in arrows if not name.startswith(f"{other}.")}  # a package and its parts
    while leaves := {source for source, _ in arrows} - {target for _, target in arrows}:
        arrows = {arrow for arrow in arrows if arrow[0] not in leaves}
    packages = {arrow for arrow in arrows if any(name.startswith(f"{arrow[1]}.") for name, _ in arrows)}
    assert not arrows - packages, sorted(arrows)


NUMPY_ALONE = ("codecs", "metrics", *PURE)


@pytest.mark.parametrize("name", [name for name in MODULES if folder(name) in NUMPY_ALONE])
def test_codecs_and_metrics_know_neither_torch_nor_fairseq(name: str) -> None:
    assert not imported(name) & HEAVY


@pytest.mark.parametrize("name", [name for name in MODULES if folder(name) == "preprocess"])
def test_preprocess_knows_formats_and_neither_fairseq_nor_tasks_nor_models(name: str) -> None:
    others = imported(name)
    assert not others & {"fairseq", "fairseq_cli"}
    for other in others & set(MODULES):
        if folder(other) == "data":
            assert not imported(other, top_level_only=True) & HEAVY, f"{name} reaches {other}, which imports torch"
        assert folder(other) in ("", "preprocess", "codecs", "audio", "data", *PURE)


@pytest.mark.parametrize("name", [name for name in MODULES if folder(name) == "generation"])
def test_generation_does_not_know_fairseq(name: str) -> None:
    assert not imported(name) & {"fairseq", "fairseq_cli", "hydra", "omegaconf"}


def test_codecs_and_builders_load_neither_torch_nor_fairseq() -> None:
    """Seen from a fresh process, and also true of the workers of a build of MIDI."""
    program = """
import sys
import musicbert_plugin.codecs.octuple, musicbert_plugin.codecs.requests, musicbert_plugin.codecs.remi_grammar
import preprocess.octuple, preprocess.remi, preprocess.attributes, preprocess.corpus, preprocess.labels
preprocess.labels.commands()
print(sorted({"torch", "fairseq"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr
