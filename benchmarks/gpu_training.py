"""Training speed on a GPU: notes per second and share of the bf16 peak (``bash benchmarks/gpu.sh``).

Windows of many lengths (as of real music: most are full, some short) are masked as in pre-training.  Measured are whole
training steps (forward, backward, Adam on float32 master weights) on batches that are already on the device:

* ``bf16``: the plugin as in ``fairseq-train --bf16``, with windows packed into rows;
* ``bf16, compiled``: the same with ``--compile-layers``;
* ``float32, padded, full heads``: the same model and windows, one window per row, logits for every sub-token.

Utilisation is three times the operations of the forward pass (matrix products and attention in the original
arrangement, with everything up-projected and the head for masked fields) over the lengths of the windows, relative to
989 TFLOP/s (H100, H200; ``--peak`` for another GPU).  Times are medians over steps, each ended by a synchronisation,
without the first steps (compilation).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.environment import environment
from benchmarks.training_step import PAD, masked_rows, plugin_model

VARIANTS = ("bf16", "bf16, compiled", "float32, padded, full heads")


def piece_lengths(rows: int, octuples: int, rng: np.random.Generator) -> list[list[int]]:
    """Octuples of the windows in each row, with frames: two thirds fill a row, the others have random lengths."""
    packed = []
    for _ in range(rows):
        row: list[int] = []
        while (room := octuples - sum(row)) >= 8:
            full = not row and rng.random() < 2 / 3
            row.append(room if full else int(rng.integers(8, room + 1)))
        packed.append(row)
    return packed


def batches(count: int, rows: int, octuples: int, seed: int, device: torch.device):
    """Packed batches: source, target, segment lengths, and the lengths as lists."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        lengths = piece_lengths(rows, octuples, rng)
        source = torch.full((rows, 8 * octuples), PAD)
        target = torch.full((rows, 8 * octuples), PAD)
        segments = torch.zeros(rows, max(map(len, lengths)), dtype=torch.long)
        for row, pieces in enumerate(lengths):
            begin = 0
            for number, length in enumerate(pieces):
                s, t = masked_rows(1, length, rng)
                source[row, begin : begin + 8 * length], target[row, begin : begin + 8 * length] = s[0], t[0]
                segments[row, number] = length
                begin += 8 * length
        yield source.to(device), target.to(device), segments.to(device), lengths


def one_piece_per_row(source, target, lengths):
    """The same windows, one per row, padded to the longest."""
    longest = 8 * max(map(max, lengths))
    rows = []
    for row, pieces in enumerate(lengths):
        begin = 0
        for length in pieces:
            part = slice(begin, begin + 8 * length)
            rows.append([F.pad(x[row, part], (0, longest - 8 * length), value=PAD) for x in (source, target)])
            begin += 8 * length
    return (torch.stack(column) for column in zip(*rows, strict=True))


class Training:
    """A model and Adam on float32 master weights."""

    def __init__(self, size: str, variant: str, device: torch.device, rows_at_once: int) -> None:
        torch.manual_seed(1)
        self.variant, self.rows_at_once = variant, rows_at_once
        self.model = plugin_model(size, 0.1).to(device).train()
        self.masters = [p.detach().clone() for p in self.model.parameters()]
        if variant.startswith("bf16"):
            self.model.bfloat16()
        if variant.endswith("compiled"):
            for layer in self.model.encoder.sentence_encoder.layers:
                # A dry run traces the layers without compiling them.
                layer.compile(backend="inductor" if device.type == "cuda" else "eager")
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-4, betas=(0.9, 0.98), fused=device.type == "cuda")

    def step(self, source, target, segments, lengths) -> float:
        """One update on one batch; returns its loss per masked field."""
        total = 0.0
        masked_count = (target != PAD).sum()
        if "padded" in self.variant:
            source, target = one_piece_per_row(source, target, lengths)
            parts = zip(source.split(self.rows_at_once), target.split(self.rows_at_once), strict=True)
            losses = (self._padded_loss(*part) for part in parts)
        else:
            losses = iter([self._packed_loss(source, target, segments)])
        for loss in losses:
            (loss / masked_count).backward()
            total += loss.detach()
        parameters = list(self.model.parameters())
        for master, parameter in zip(self.masters, parameters, strict=True):
            master.grad = parameter.grad.float()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(parameters, self.masters)
        self.model.zero_grad(set_to_none=True)
        return float(total / masked_count)

    def _packed_loss(self, source, target, segments):
        masked = target != PAD
        logits = self.model(source, masked_tokens=masked, segment_lengths=segments)[0]
        return F.cross_entropy(logits.float(), target[masked], reduction="sum")

    def _padded_loss(self, source, target):
        logits = self.model(source)[0]
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="sum")


def measure(size: str, variant: str, options: argparse.Namespace, device: torch.device) -> dict:
    """Notes per second and utilisation of a variant of a size, or the reason why it could not be measured."""
    cuda = device.type == "cuda"
    try:
        training = Training(size, variant, device, options.reference_rows)
        data = list(batches(4, options.rows, options.octuples, 0, device))
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds, rates, flops, losses = [], [], [], []
        for turn in range(options.warmup + options.steps):
            source, target, segments, lengths = data[turn % len(data)]
            if cuda:
                torch.cuda.synchronize()
            begin = time.perf_counter()
            losses.append(training.step(source, target, segments, lengths))
            if cuda:
                torch.cuda.synchronize()
            spent = time.perf_counter() - begin
            if turn >= options.warmup:
                notes = sum(n - 2 for row in lengths for n in row)
                work = 3 * training.model.forward_flops(segments.cpu(), int((target != PAD).sum()))
                seconds.append(spent)
                rates.append(notes / spent)
                flops.append(work / spent)
    except (RuntimeError, torch.OutOfMemoryError) as error:
        return {"failed": " ".join(str(error).split())[:300]}
    return {
        "notes per second": round(statistics.median(rates)),
        "seconds per step (median, least, most)": [
            round(x, 4) for x in (statistics.median(seconds), min(seconds), max(seconds))
        ],
        "percent of the bf16 peak": round(100 * statistics.median(flops) / options.peak, 1),
        "loss, first and last": [round(losses[0], 3), round(losses[-1], 3)],
        "peak memory, GiB": round(torch.cuda.max_memory_allocated() / 2**30, 1) if cuda else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["small", "base"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--rows", type=int, default=64, help="packed rows per step")
    parser.add_argument("--octuples", type=int, default=1024, help="octuples per row")
    parser.add_argument("--reference-rows", type=int, default=4, help="rows at once with full heads (memory)")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=8, help="first steps, not measured (compilation)")
    parser.add_argument("--peak", type=float, default=989e12, help="dense bf16 operations per second of the GPU")
    parser.add_argument("--dry-run", action="store_true", help="run tiny sizes on a CPU to test the script")
    options = parser.parse_args()
    if options.dry_run:
        options.sizes, options.rows, options.octuples, options.steps, options.warmup = ["tiny"], 2, 64, 2, 1
    elif not torch.cuda.is_available():
        sys.exit("gpu_training: torch finds no CUDA GPU; --dry-run tests the script on a CPU.")
    device = torch.device("cpu" if options.dry_run else "cuda")
    torch.set_float32_matmul_precision("highest")
    result = {
        "benchmark": "GPU training" + (" (dry run on a CPU: the numbers have no meaning)" if options.dry_run else ""),
        "rows x octuples": [options.rows, options.octuples],
        "peak, TFLOP/s": options.peak / 1e12,
        "gpu": None if options.dry_run else torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        **environment("torch", "numpy"),
    }
    for size in options.sizes:
        measured = {variant: measure(size, variant, options, device) for variant in options.variants}
        rates = {variant: values.get("notes per second") for variant, values in measured.items()}
        reference = rates.get(VARIANTS[-1])
        measured["times the reference"] = {
            variant: round(rate / reference, 2) for variant, rate in rates.items() if rate and reference
        }
        result[f"musicbert_{size}"] = measured
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
