"""Each size of MusiCoder has a YAML for pre-training and one for fine-tuning: the same model as --arch gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

CONFIG = Path(__file__).resolve().parents[2] / "musicbert_plugin" / "config"
ARCHITECTURES = {
    "tiny": "musicoder_tiny", "base": "musicoder_base", "large": "musicoder_large", "m3bert_base": "m3bert_base",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["spectrogram_pretrain", "audio_multitask"])
@pytest.mark.parametrize("size", ARCHITECTURES)
def test_each_yaml_has_the_sizes_of_its_architecture(registered: None, size: str, kind: str) -> None:
    from fairseq.models import ARCH_CONFIG_REGISTRY

    args = SimpleNamespace()
    ARCH_CONFIG_REGISTRY[ARCHITECTURES[size]](args)
    recipe = OmegaConf.load(CONFIG / f"{kind}_{size}.yaml")
    assert {key: recipe.model[key] for key in vars(args)} == vars(args)


@pytest.mark.parametrize("kind", ["spectrogram_pretrain", "audio_multitask"])
def test_the_recipes_differ_in_the_size_the_masks_and_the_save_dir_alone(kind: str) -> None:
    base = OmegaConf.load(CONFIG / f"{kind}_base.yaml")
    for size in ARCHITECTURES:
        recipe = OmegaConf.load(CONFIG / f"{kind}_{size}.yaml")
        recipe.checkpoint.save_dir = base.checkpoint.save_dir
        for key in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads"):
            recipe.model[f"encoder_{key}"] = base.model[f"encoder_{key}"]
        if kind == "spectrogram_pretrain":
            assert recipe.task.masking == ("m3bert" if size == "m3bert_base" else "mixed")
            recipe.task.masking = base.task.masking
        assert recipe == base


def test_hydra_pretrains_and_fine_tunes_on_a_cpu(
    spectrogram_folder: Callable[..., Path], fairseq_command: Callable[..., Any], tmp_path: Path
) -> None:
    data = spectrogram_folder(
        train=[60, 40], valid=[30], labels={"level": lambda clip: "loud" if clip.mean() > -4 else "quiet"}
    )
    tasks_file = tmp_path / "levels.yaml"
    tasks_file.write_text("tasks:\n  level: {type: single, classes: [loud, quiet]}\n")
    common = (
        f"task.data={data}", f"common.user_dir={CONFIG.parent}", "common.cpu=true", "common.bf16=false",
        "common.log_format=json", "optimization.max_update=2", "dataset.num_workers=0", f"hydra.run.dir={tmp_path}",
    )  # fmt: skip
    fairseq_command(
        "hydra-train", "--config-dir", CONFIG, "--config-name", "spectrogram_pretrain_tiny", *common,
        f"checkpoint.save_dir={tmp_path / 'pre'}", "task.pictures=0",
    )  # fmt: skip
    outcome = fairseq_command(
        "hydra-train", "--config-dir", CONFIG, "--config-name", "audio_multitask_tiny", *common,
        f"task.tasks_file={tasks_file}",
        f"checkpoint.save_dir={tmp_path / 'fine'}",
        f"checkpoint.finetune_from_model={tmp_path / 'pre' / 'checkpoint_last.pt'}",
    )  # fmt: skip
    assert (tmp_path / "fine" / "checkpoint_last.pt").is_file()
    assert any("valid_level_accuracy" in line for line in outcome.statistics)
