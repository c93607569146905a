"""``model.safetensors`` of a Hugging Face folder: what the hub accepts is a whole model."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.fuzz.mutation import mutate_bytes, mutate_tree

CASES = 40


@functools.cache
def tiny_folder() -> dict[str, bytes]:
    """The files of a Hugging Face folder of a model with one layer, 8 numbers wide."""
    from musicbert_plugin.codecs import remi
    from musicbert_plugin.hub import MuseCocoHub
    from musicbert_plugin.models.linear_transformer_lm import LinearTransformerLM
    from musicbert_plugin.tasks.attribute_to_music import dictionary_of

    words = (*remi.WORDS[:4], "b-1", "o-0", "i-0", "p-60", "d-12", "<sep>")
    options = SimpleNamespace(decoder_layers=1, decoder_embed_dim=8, decoder_ffn_embed_dim=8, decoder_attention_heads=2)
    from argparse import Namespace

    task: Any = SimpleNamespace(source_dictionary=dictionary_of(words[4:]), cfg=None)
    model = LinearTransformerLM.build_model(Namespace(**vars(options)), task)
    with tempfile.TemporaryDirectory() as folder:
        MuseCocoHub(model, words).save_hugging_face(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def seeds() -> list[bytes]:
    """The file of a small model."""
    return [tiny_folder()["model.safetensors"]]


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage bytes, or the header, whose length is right again afterwards."""
    if rng.random() < 0.25:
        return mutate_bytes(data, rng, others=others)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]
    kind, name, other = rng.randrange(6), rng.choice(names), rng.choice(names)
    entry = header[name] = dict(header[name])
    if kind == 0:
        entry["shape"] = [rng.choice((-1, 0, 2**40, value + 1, -value)) for value in entry["shape"]]
    elif kind == 1:
        entry["data_offsets"] = header[other]["data_offsets"]
    elif kind == 2:
        entry["dtype"] = rng.choice(("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "C64", "X", ""))
    elif kind == 3:
        header[rng.choice((other + "x", "decoder.layers.x.a", "decoder.layers.7", "decoder.layers."))] = header.pop(
            name
        )
    else:
        header = mutate_tree(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _with(**entries: Any) -> bytes:
    """A file of four numbers with these tensors."""
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


_TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
KEPT = {
    "a negative shape": _with(a={**_TENSOR, "shape": [-4]}),
    "tensors that overlap": _with(a=_TENSOR, b=_TENSOR),
    "a header of gigabytes": (2**40).to_bytes(8, "little") + b"{}",
    "a layer without a number": _with(**{"decoder.layers.": _TENSOR}),
    "a layer of a number alone": _with(**{"decoder.layers.999999.a": _TENSOR}),
    "an embedding of one dimension": _with(**{"decoder.embed_tokens.weight": _TENSOR}),
    "nothing": b"",
}
"""Files that once ended in a traceback."""


def check(data: bytes, folder: Path) -> None:
    """Load the folder through the hub, and give logits."""
    load_folder(folder, {**tiny_folder(), "model.safetensors": data})


def load_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder and load it; the model has to give logits."""
    import torch

    from musicbert_plugin.hub import MuseCocoHub

    for name, content in files.items():
        (folder / name).write_bytes(content)
    hub = MuseCocoHub.from_pretrained(folder)
    with torch.no_grad():
        logits = hub.model(torch.tensor([[2, 9, 4, 5]]), src_lengths=torch.tensor([4]), sep_pos=[1])[0]
    assert logits.shape == (1, 4, len(hub.words))
