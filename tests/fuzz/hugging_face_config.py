"""``config.json`` of a Hugging Face folder, beside intact weights."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutation import mutate_json
from tests.fuzz.safetensors import load_folder, tiny_folder

CASES = 40


def seeds() -> list[bytes]:
    """The configuration that the hub writes, and one with the published name of the heads."""
    return [tiny_folder()["config.json"], b'{"num_attention_heads": 2, "model_type": "musecoco"}']


KEPT = {"true as a number of heads": b'{"n_head": true}', "nested deeply": b"[" * 100_000}
"""Files that once ended in a traceback."""


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage the tree of values."""
    return mutate_json(data, rng, others)


def check(data: bytes, folder: Path) -> None:
    """Load the folder through the hub, and give logits."""
    load_folder(folder, {**tiny_folder(), "config.json": data})
