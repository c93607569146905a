"""Prediction of masked notes: loss, and accuracy and perplexity per field, with the majority baseline.

    python -m musicbert_plugin.evaluate octuple_masked_lm --path checkpoints/checkpoint_best.pt DATA

Rows and masks are those of ``fairseq-validate``, with the checkpoint's options unless others are given
(``task_options``), and the same in every run; so is the loss.  The majority baseline predicts the most frequent value
of each field in the training split; ``--untrained`` also measures the same architecture with fresh weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicbert_plugin.codecs.octuple import BOS, EOS, FIELD_OFFSETS, FIELD_SIZES, FIELDS, PAD, VOCABULARY_SIZE
from musicbert_plugin.errors import DatasetError
from musicbert_plugin.evaluate import Report, add_device, check_at_least, check_not_empty, device_of
from musicbert_plugin.evaluate.task_options import add_task_options, settle
from musicbert_plugin.metrics import masked_tokens

if TYPE_CHECKING:
    import torch

    from musicbert_plugin.models.musicbert import MusicBERTModel

TASK_OPTIONS = {
    "tokens_per_sample": int,
    "mask_strategy": str,
    "mask_unit": str,
    "mask_prob": float,
    "random_token_prob": float,
    "leave_unmasked_prob": float,
    "pack": str,
    "windows": str,
    "seed": int,
}
"""Options of the task ``octuple_masked_lm``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="dataset folder")
    parser.add_argument("--path", required=True, help="checkpoint (.pt)")
    parser.add_argument("--gen-subset", default="valid", help="split to measure on (default: valid)")
    parser.add_argument("--batch-size", type=int, default=8, help="rows per batch")
    parser.add_argument("--untrained", action="store_true", help="also measure fresh weights of the same size")
    add_device(parser)
    add_task_options(parser.add_argument_group("rows and masks"), TASK_OPTIONS)


def majority_values(folder: Path) -> np.ndarray:
    """The most frequent value of each field in the training split, int64 [8].

    Raises
    ------
    DatasetError
        The training split has no notes.
    """
    from musicbert_plugin.data.indexed_dataset import IndexedDataset

    parts = IndexedDataset(folder / "train")
    counts = np.zeros(VOCABULARY_SIZE, np.int64)
    for index in range(len(parts)):
        counts += np.bincount(parts.read(index), minlength=VOCABULARY_SIZE)
    if not counts[FIELD_OFFSETS[0] :].any():
        raise DatasetError(f"{folder}: the training split is empty, so no value of a field is the most frequent one.")
    ranges = zip(FIELD_OFFSETS, FIELD_SIZES, strict=True)
    return np.array([counts[offset : offset + size].argmax() for offset, size in ranges])


def evaluate(options: argparse.Namespace) -> Report:
    import torch
    from fairseq.data import iterators

    from musicbert_plugin.hub import MusicBERTHub
    from musicbert_plugin.tasks.octuple_masked_lm import OctupleMaskedLmTask, OctupleMaskedLmTaskConfig

    check_at_least(options, "batch_size", 1)
    device = torch.device(device_of(options))
    hub = MusicBERTHub.from_pretrained(options.path)
    held = {"tokens_per_sample": int(hub.model.max_positions())} | hub.task_options
    settled = settle(OctupleMaskedLmTaskConfig, held, options, TASK_OPTIONS, options.path, data=options.data)
    seed = settled.values["seed"]
    task = OctupleMaskedLmTask(settled.config)
    task.load_dataset(options.gen_subset)
    dataset = task.dataset(options.gen_subset)
    check_not_empty(dataset, options)
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=options.batch_size)
    majority = np.asarray(FIELD_OFFSETS) + majority_values(Path(options.data.split(":")[0]))

    models = {"trained": hub.model}
    if options.untrained:
        torch.manual_seed(seed)
        models["untrained"] = type(hub.model).build_model(hub.model.args, task)
    results = {}
    for name, model in models.items():
        iterator = iterators.EpochBatchIterator(dataset, dataset.collater, batches, seed=seed)
        results[name] = _measure(model, iterator.next_epoch_itr(shuffle=False), device)
    truth, field = results["trained"]["target"], results["trained"]["field"]
    notes = (truth != BOS) & (truth != EOS)
    majority_accuracy = masked_tokens.accuracy(truth[notes], majority[field[notes]], field[notes])

    values: dict[str, Any] = {
        "path": str(options.path),
        "data": options.data,
        "split": options.gen_subset,
        "task_options": settled.values,
        "masked_tokens": len(truth),
        "masked_note_tokens": int(notes.sum()),
        "majority_accuracy": dict(zip(FIELDS, majority_accuracy, strict=True)),
        "majority_accuracy_mean": float((truth[notes] == majority[field[notes]]).mean()),
    }
    for name, result in results.items():
        values[name] = {
            "loss": float(result["nll"].mean() / np.log(2)),
            "accuracy_mean": float((result["guess"] == truth)[notes].mean()),
            "perplexity_mean": float(np.exp(result["nll"][notes].mean())),
            "accuracy": dict(
                zip(FIELDS, masked_tokens.accuracy(truth[notes], result["guess"][notes], field[notes]), strict=True)
            ),
            "perplexity": dict(zip(FIELDS, masked_tokens.perplexity(result["nll"][notes], field[notes]), strict=True)),
        }
    return Report(values, [settled.table(), _table(values)])


def _measure(model: MusicBERTModel, batches: Any, device: torch.device) -> dict[str, np.ndarray]:
    """For each masked token, the true id, the most probable id, -ln p(true id) and the field, each [N]."""
    import torch

    model.to(device).eval()
    found: dict[str, list[np.ndarray]] = {"target": [], "guess": [], "nll": [], "field": []}
    with torch.inference_mode():
        for batch in batches:
            net_input = {key: tensor.to(device) for key, tensor in batch["net_input"].items()}
            masked = batch["target"].ne(PAD)
            truth = batch["target"][masked]
            logits = model(**net_input, masked_tokens=masked.to(device))[0].float().cpu()
            log_probabilities = torch.log_softmax(logits, dim=-1)
            found["target"].append(truth.numpy())
            found["guess"].append(log_probabilities.argmax(dim=-1).numpy())
            found["nll"].append(-log_probabilities.gather(1, truth[:, None])[:, 0].double().numpy())
            found["field"].append((masked.nonzero()[:, 1] % len(FIELDS)).numpy())
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _table(values: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    models = [name for name in ("untrained", "trained") if name in values]
    header = ["field", "majority", *[f"{name} {what}" for name in models for what in ("accuracy", "perplexity")]]
    rows = []
    for name in FIELDS:
        cells = [f"{100 * values['majority_accuracy'][name]:.1f} %"]
        for model in models:
            cells += [f"{100 * values[model]['accuracy'][name]:.1f} %", f"{values[model]['perplexity'][name]:.2f}"]
        rows.append([name.replace("_", " "), *cells])
    cells = [f"{100 * values['majority_accuracy_mean']:.1f} %"]
    for model in models:
        cells += [f"{100 * values[model]['accuracy_mean']:.1f} %", f"{values[model]['perplexity_mean']:.2f}"]
    rows.append(["all of notes", *cells])
    losses = ", ".join(f"{name} {values[name]['loss']:.3f} bits" for name in models)
    return f"{values['split']}: {values['masked_tokens']} masked tokens, loss with <s> and </s> {losses}", header, rows
