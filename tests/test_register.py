"""fairseq finds the plugin's tasks, models and criterions in whichever order things are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = """--arch musicbert_tiny --encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8
    --encoder-attention-heads 2 --tokens-per-sample 256 --optimizer adam --lr 0.001 --batch-size 1 --max-update 1"""


def run(program: str, folder: Path) -> str:
    """What a Python of its own prints and logs."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_training_works_after_a_codec_was_imported(octuple_folder: Callable[..., Path], tmp_path: Path) -> None:
    """fairseq itself skips tasks and models of a user directory that was imported before it."""
    data = octuple_folder(train=[30], valid=[30])
    program = f"""
import musicbert_plugin.codecs.octuple
assert not {{"torch", "fairseq"}} & set(sys.modules)
musicbert_plugin.register()
from fairseq_cli.train import cli_main
sys.argv = '''fairseq-train {data} --user-dir {ROOT / "musicbert_plugin"} --task octuple_masked_lm --cpu
    --criterion octuple_masked_lm {MODEL} --num-workers 0 --no-progress-bar --no-save'''.split()
cli_main()
"""
    assert "done training" in run(program, tmp_path)


def test_the_package_registers_itself_where_fairseq_is_already_loaded(tmp_path: Path) -> None:
    program = """
import fairseq, musicbert_plugin
print("octuple_masked_lm" in fairseq.tasks.TASK_REGISTRY, "musicbert_base" in fairseq.models.ARCH_MODEL_REGISTRY)
"""
    assert "True True" in run(program, tmp_path)


def test_registering_twice_changes_nothing(registered: None) -> None:
    from fairseq.models import ARCH_MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY

    import musicbert_plugin

    before = dict(TASK_REGISTRY), dict(ARCH_MODEL_REGISTRY)
    musicbert_plugin.register()
    assert (dict(TASK_REGISTRY), dict(ARCH_MODEL_REGISTRY)) == before
    assert "octuple_masked_lm" in TASK_REGISTRY and "musicbert_base" in ARCH_MODEL_REGISTRY
