"""The YAMLs of MuseCoco: hydra trains behind attributes, and fine-tunes on pairs from what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musicbert_plugin.codecs import attributes, remi

CONFIG = Path(__file__).resolve().parents[2] / "musicbert_plugin" / "config"


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
            np.save(folder / f"{split}.attributes.npy", np.tile(attributes.NA, (len(items), 1)))
    return folder


def test_hydra_trains_and_then_fine_tunes_on_a_cpu(
    registered: None, fairseq_command: Callable[..., Any], tmp_path: Path
) -> None:
    items = [np.append(np.random.default_rng(at).integers(4, 900, 20), remi.EOS) for at in range(4)]
    shared = [
        *("model=linear_transformer_lm_std", f"common.user_dir={CONFIG.parent}"),
        *("common.cpu=true", "common.bf16=false", f"hydra.run.dir={tmp_path}"),
        *("dataset.num_workers=0", "optimization.max_update=2", "model.decoder_layers=1"),
        *("model.decoder_embed_dim=16", "model.decoder_ffn_embed_dim=16", "model.decoder_attention_heads=2"),
    ]
    data = dataset(tmp_path / "windows", items)
    fairseq_command(
        "hydra-train",
        *("--config-dir", CONFIG, "--config-name", "attribute_to_music", f"task.data={data}"),
        *shared,
        f"checkpoint.save_dir={tmp_path / 'first'}",
    )
    data = dataset(tmp_path / "pairs", items, conditions=items)
    fairseq_command(
        "hydra-train",
        *("--config-dir", CONFIG, "--config-name", "pairs_finetune", f"task.data={data}", *shared),
        f"checkpoint.finetune_from_model={tmp_path / 'first' / 'checkpoint_last.pt'}",
        f"checkpoint.save_dir={tmp_path / 'second'}",
    )
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    state = load_checkpoint_to_cpu(str(tmp_path / "second" / "checkpoint_last.pt"))
    assert state["cfg"]["model"]["position_mode"] == "all" and state["cfg"]["model"]["prefix"] == "conditions"
