"""Each size of MuseCoco has two complete YAMLs: the model that --arch gives, and the recipes of the shell scripts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from musicbert_plugin.codecs import attributes, remi

CONFIG = Path(__file__).resolve().parents[2] / "musicbert_plugin" / "config"
SCRIPTS = CONFIG.parents[1] / "scripts"
SIZES = ("std", "large", "gpt", "gpt_base", "xl", "1billion")
RECIPES = {"attribute_to_music": "train_attribute_to_music.sh", "pairs_finetune": "finetune_pairs.sh"}


def load(recipe: str, size: str) -> Any:
    return OmegaConf.load(CONFIG / f"{recipe}_{size}.yaml")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", SIZES)
def test_each_size_is_that_of_its_architecture(registered: None, recipe: str, size: str) -> None:
    from fairseq.models import ARCH_CONFIG_REGISTRY

    expected = Namespace()
    ARCH_CONFIG_REGISTRY[f"linear_transformer_lm_{size}"](expected)
    model = load(recipe, size).model
    assert {name: model[name] for name in vars(expected)} == vars(expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_differ_in_the_size_and_the_save_dir_alone(recipe: str) -> None:
    base = load(recipe, "std")
    for size in SIZES:
        other = load(recipe, size)
        other.checkpoint.save_dir = base.checkpoint.save_dir
        for key in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads"):
            other.model[f"decoder_{key}"] = base.model[f"decoder_{key}"]
        assert other == base


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipe_is_that_of_the_shell_script(recipe: str) -> None:
    script = (SCRIPTS / RECIPES[recipe]).read_text()
    told = load(recipe, "std")
    options = {
        "--dropout": told.model.dropout,
        "--adam-betas": f"'{told.optimizer.adam_betas}'",
        "--adam-eps": told.optimizer.adam_eps,
        "--weight-decay": told.optimizer.weight_decay,
        "--clip-norm": told.optimization.clip_norm,
        "--lr": told.optimization.lr[0],
        "--lr-scheduler": told.lr_scheduler._name,
        "--warmup-updates": told.lr_scheduler.warmup_updates,
        "--num-workers": told.dataset.num_workers,
        "--seed": told.common.seed,
    }
    if recipe == "attribute_to_music":
        options |= {
            "--max-update": told.optimization.max_update,
            "--save-interval-updates": told.checkpoint.save_interval_updates,
            "--keep-interval-updates": told.checkpoint.keep_interval_updates,
            "--validate-interval-updates": told.dataset.validate_interval_updates,
        }
    else:
        options |= {
            "--max-epoch": told.optimization.max_epoch,
            "--position-mode": told.task.position_mode,
            "--loss-on": told.task.loss_on,
        }
    for option, expected in options.items():
        value = script.split(f" {option} ")[-1].split()[0]
        assert value == str(expected) or float(value) == expected, option
    assert f"\nrows={told.dataset.batch_size}\n" in script


def dataset(folder: Path, items: list[np.ndarray], conditions: list[np.ndarray] | None = None) -> Path:
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    folder.mkdir()
    (folder / "dict.txt").write_text(remi.dictionary_text())
    for split in ("train", "valid"):
        for stem, rows in ((split, items), (f"{split}_input", conditions)):
            if rows is not None:
                builder = MMapIndexedDatasetBuilder(str(folder / f"{stem}.bin"), dtype=np.uint16)
                for row in rows:
                    builder.add_item(torch.as_tensor(row))
                builder.finalize(str(folder / f"{stem}.idx"))
        if conditions is None:
            np.save(folder / f"{split}.attributes.npy", np.tile(attributes.NOT_GIVEN, (len(items), 1)))
    return folder


def test_hydra_trains_and_then_fine_tunes_on_a_cpu(
    registered: None, fairseq_command: Callable[..., Any], tmp_path: Path
) -> None:
    items = [np.append(np.random.default_rng(at).integers(4, 900, 20), remi.EOS) for at in range(4)]
    shared = [
        *(f"common.user_dir={CONFIG.parent}", "common.cpu=true", "common.bf16=false", f"hydra.run.dir={tmp_path}"),
        *("dataset.num_workers=0", "optimization.max_update=2", "model.decoder_layers=1"),
        *("model.decoder_embed_dim=16", "model.decoder_ffn_embed_dim=16", "model.decoder_attention_heads=2"),
    ]
    data = dataset(tmp_path / "windows", items)
    fairseq_command(
        "hydra-train",
        *("--config-dir", CONFIG, "--config-name", "attribute_to_music_std", f"task.data={data}"),
        *shared,
        f"checkpoint.save_dir={tmp_path / 'first'}",
    )
    data = dataset(tmp_path / "pairs", items, conditions=items)
    fairseq_command(
        "hydra-train",
        *("--config-dir", CONFIG, "--config-name", "pairs_finetune_std", f"task.data={data}", *shared),
        f"checkpoint.finetune_from_model={tmp_path / 'first' / 'checkpoint_last.pt'}",
        f"checkpoint.save_dir={tmp_path / 'second'}",
    )
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    state = load_checkpoint_to_cpu(str(tmp_path / "second" / "checkpoint_last.pt"))
    assert state["cfg"]["model"]["position_mode"] == "all" and state["cfg"]["model"]["prefix"] == "conditions"
