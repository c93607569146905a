"""Small models with random weights, and dataset files, for the commands that measure generated music."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def random_model(registered: None, tmp_path: Path) -> Callable[..., Path]:
    """``random_model(words, layout="notes")``: a checkpoint as fairseq-train writes it, ``dict.txt`` beside it."""
    import torch

    from musicbert_plugin.models.linear_transformer_lm import LinearTransformerLM
    from musicbert_plugin.tasks.attribute_to_music import dictionary_of

    def make(words: Sequence[str], **settings: str) -> Path:
        size = {"decoder_layers": 1, "decoder_embed_dim": 16, "decoder_ffn_embed_dim": 16, "decoder_attention_heads": 2}
        settings = {"position_mode": "zero-prefix", "layout": "bar-tempo", "prefix": "attributes", **settings}
        torch.manual_seed(1)
        task = Namespace(source_dictionary=dictionary_of(tuple(words)), cfg=None)
        model = LinearTransformerLM.build_model(Namespace(**size, **settings), task)
        cfg = {"model": {"_name": "linear_transformer_lm", **size, **settings}, "task": {"_name": "attribute_to_music"}}
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        torch.save({"args": None, "cfg": cfg, "model": model.state_dict()}, folder / "model.pt")
        (folder / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
        return folder / "model.pt"

    return make


@pytest.fixture
def write_items(registered: None) -> Callable[[Path, Sequence[np.ndarray]], None]:
    """``write_items(stem, items)``: ``stem.bin`` and ``stem.idx`` of these rows of ids."""
    import torch
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    def write(stem: Path, items: Sequence[np.ndarray]) -> None:
        builder = MMapIndexedDatasetBuilder(f"{stem}.bin", dtype=np.uint16)
        for item in items:
            builder.add_item(torch.as_tensor(np.asarray(item, np.int64)))
        builder.finalize(f"{stem}.idx")

    return write
