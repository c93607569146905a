"""Speed of a training step compared with the original's arrangement: ``python -m benchmarks.training_step``.

musicbert_small, rows of 1,024 octuples, float32, one thread, dropout 0.1 everywhere as published; forward, backward
and Adam.  The original's arrangement (``original_musicbert.py``) projects every octuple down from its eight embeddings
and up to its eight sub-tokens, restricts only the language-model head to masked fields, and uses PyTorch's attention
with dropout.  Both have the same initial weights and batches and are measured alternately, in CPU-seconds; the result
is the median of the ratios of neighbouring steps.  ``--dropout 0`` excludes the effect of the plugin's faster dropout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F

import musicbert_plugin
from benchmarks.environment import environment
from benchmarks.original_musicbert import OriginalMusicBERT
from musicbert_plugin.codecs.octuple import FIELD_OFFSETS, FIELD_SIZES, MASK, VOCABULARY_SIZE

BOS, PAD, EOS = 0, 1, 2


def masked_rows(rows: int, octuples: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and target ids [rows, 8 * octuples] of a pre-training batch.

    The notes are random, of four programs, 20 per bar, and masked by (bar, program, field) with probability 15 %: 80 %
    mask, 10 % unchanged, 10 % random.
    """
    notes = octuples - 2
    values = np.stack([rng.integers(0, size, (rows, notes)) for size in FIELD_SIZES], -1)
    values[..., 0] = np.arange(notes) // 20
    values[..., 2] = np.sort(rng.choice(129, 4, replace=False))[rng.integers(0, 4, (rows, notes))]
    unit = values[..., 0] * 129 + values[..., 2]
    draw = np.take_along_axis(rng.random((rows, 256 * 129, 8)), unit[..., None].repeat(8, -1), 1)
    original = values + np.array(FIELD_OFFSETS)
    replaced = np.where(draw < 0.015, rng.integers(4, VOCABULARY_SIZE, original.shape), original)
    source = np.where((draw >= 0.03) & (draw < 0.15), MASK, replaced)
    target = np.where(draw < 0.15, original, PAD)
    frame = np.full((rows, 1, 8), BOS), np.full((rows, 1, 8), EOS), np.full((rows, 1, 8), PAD)
    source = np.concatenate([frame[0], source, frame[1]], 1)
    target = np.concatenate([frame[2], target, frame[2]], 1)
    return torch.from_numpy(source.reshape(rows, -1)), torch.from_numpy(target.reshape(rows, -1))


def plugin_model(size: str, dropout: float) -> torch.nn.Module:
    """A model of the plugin with random weights."""
    musicbert_plugin.register()
    from fairseq.data import Dictionary

    from musicbert_plugin.codecs.octuple import dictionary_lines
    from musicbert_plugin.models.musicbert import SIZES, MusicBERTConfig, MusicBERTEncoder, MusicBERTModel

    dictionary = Dictionary()
    for line in dictionary_lines():
        dictionary.add_symbol(line.split()[0])
    dictionary.add_symbol("<mask>")
    cfg = MusicBERTConfig(*(), max_positions=8192, dropout=dropout, attention_dropout=dropout)
    fields = ("encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads")
    for name, value in zip(fields, SIZES[f"musicbert_{size}"], strict=True):
        setattr(cfg, name, value)
    return MusicBERTModel(cfg, MusicBERTEncoder(cfg, dictionary))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=("tiny", "mini", "small", "medium", "base", "large"))
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--octuples", type=int, default=1024)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=5, help="measured steps of each, after two that are not")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)

    plugin = plugin_model(options.size, options.dropout).train()
    from fairseq.optim.adam import Adam

    from musicbert_plugin.models.musicbert import SIZES

    original = OriginalMusicBERT(
        *SIZES[f"musicbert_{options.size}"], dropout=options.dropout, attention_dropout=options.dropout
    ).train()
    original.load(plugin.state_dict())

    def plugin_logits(source, masked):
        return plugin(source, masked_tokens=masked)[0]

    def stepper(logits_of, model):
        optimizer = Adam(model.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01)

        def step(source, target):
            begin = time.process_time()
            masked = target != PAD
            logits = logits_of(source, masked)
            loss = F.cross_entropy(logits.float(), target[masked], reduction="sum")
            (loss / masked.sum()).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            return time.process_time() - begin, float(loss.detach() / masked.sum())

        return step

    steps = {"plugin": stepper(plugin_logits, plugin), "original arrangement": stepper(original, original)}
    seconds = {name: [] for name in steps}
    losses = {name: [] for name in steps}
    for turn in range(options.steps + 2):
        source, target = masked_rows(options.rows, options.octuples, rng)
        for name in sorted(steps, reverse=bool(turn % 2)):
            spent, loss = steps[name](source, target)
            losses[name].append(round(loss, 4))
            if turn >= 2:
                seconds[name].append(spent)
    octuples = options.rows * options.octuples
    ratios = [o / p for o, p in zip(seconds["original arrangement"], seconds["plugin"], strict=True)]
    result = {
        "benchmark": "training step",
        "model": f"musicbert_{options.size}",
        "rows x octuples": [options.rows, options.octuples],
        "dropout": options.dropout,
        "precision": "float32",
        "threads": torch.get_num_threads(),
        "octuples per CPU-second": {name: round(octuples / statistics.median(s), 1) for name, s in seconds.items()},
        "CPU-seconds per step": {name: [round(x, 3) for x in s] for name, s in seconds.items()},
        "ratio (median)": round(statistics.median(ratios), 3),
        "ratio (least, most)": [round(min(ratios), 3), round(max(ratios), 3)],
        "loss per step": losses,
        **environment("torch", "numpy"),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
