"""The masked loss: its value, its sums over batches and workers, and what is logged, against float64 brute force."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from musicbert_plugin.codecs.octuple import BOS, EOS, FIELD_OFFSETS, FIELDS, MASK, PAD

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = MASK + 1


class Oracle(nn.Module):
    """A model whose logits are a table: one row of numbers for each sub-token of the batch."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, src_tokens: Tensor, masked_tokens: Tensor, **kwargs: Any) -> tuple[Tensor, dict]:
        return self.logits[masked_tokens], {}


def make_batch(octuples: int = 12, rows: int = 2, share: float = 0.3, seed: int = 0) -> dict[str, Any]:
    """Rows between frames, with random targets."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 20, (rows, octuples, 8)) + np.array(FIELD_OFFSETS)
    tokens[:, 0], tokens[:, -1] = BOS, EOS
    is_target = rng.random(tokens.shape) < share
    target = np.where(is_target, tokens, PAD).reshape(rows, -1)
    return {
        "net_input": {"src_tokens": torch.from_numpy(tokens.reshape(rows, -1))},
        "target": torch.from_numpy(target),
        "ntokens": tokens.size,
        "nsentences": rows,
        "n_notes": rows * (octuples - 2),
        "n_targets": int(is_target.sum()),
        "piece_lengths": np.full(rows, octuples),
    }


def random_logits(batch: dict[str, Any], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch["target"].shape, VOCABULARY, generator=generator)


@pytest.fixture
def criterion(registered: None) -> Any:
    from musicbert_plugin.criterions.octuple_masked_lm import OctupleMaskedLmCriterion
    from musicbert_plugin.tasks.octuple_masked_lm import OctupleMaskedLmTask, OctupleMaskedLmTaskConfig

    return OctupleMaskedLmCriterion(OctupleMaskedLmTask(OctupleMaskedLmTaskConfig(data=".", seed=1)))


def reduce(criterion: Any, outputs: list[dict[str, Any]]) -> dict[str, float]:
    from fairseq.logging import metrics

    metrics.reset()
    with metrics.aggregate() as meters:
        type(criterion).reduce_metrics(outputs)
    return meters.get_smoothed_values()


def test_loss_is_the_summed_cross_entropy_of_targets_in_float64(criterion: Any) -> None:
    batch = make_batch()
    logits = random_logits(batch)
    loss, sample_size, _ = criterion(Oracle(logits), batch)
    expected, count = 0.0, 0
    log_probabilities = torch.log_softmax(logits.double(), dim=-1)
    for row in range(2):
        for position, token in enumerate(batch["target"][row].tolist()):
            if token != PAD:
                expected -= float(log_probabilities[row, position, token])
                count += 1
    assert sample_size == count
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_half_precision_logits_are_summed_in_float32(criterion: Any) -> None:
    batch = make_batch(octuples=200)
    logits = random_logits(batch).bfloat16()
    loss, _, _ = criterion(Oracle(logits), batch)
    reference, _, _ = criterion(Oracle(logits.double()), batch)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(reference), rel=1e-5)


def test_loss_accuracy_and_perplexity_of_each_field_count_notes_alone(criterion: Any) -> None:
    batch = make_batch(octuples=40)
    logits = random_logits(batch)
    target = batch["target"]
    # Half of the targets are guessed right.
    favoured = (target != PAD) & (torch.arange(target.numel()).view(target.shape) // 8 % 2 == 0)
    logits[favoured] += 20 * nn.functional.one_hot(target[favoured], VOCABULARY)
    model = Oracle(logits).eval()
    logged = reduce(criterion, [criterion(model, batch)[2]])
    nll = -torch.log_softmax(logits.double(), dim=-1)
    rights, notes = 0, 0
    for index, name in enumerate(FIELDS):
        losses, right = [], 0
        for row, position in (target != PAD).nonzero().tolist():
            token = int(target[row, position])
            if position % 8 == index and token not in (BOS, EOS):
                losses.append(float(nll[row, position, token]))
                right += int(nll[row, position].argmin() == token)
        assert float(logged[f"loss_{name}"]) == pytest.approx(np.mean(losses) / math.log(2), abs=1e-3)
        assert float(logged[f"acc_{name}"]) == pytest.approx(right / len(losses), abs=1e-4)
        assert float(logged[f"ppl_{name}"]) == pytest.approx(np.exp(np.mean(losses)), rel=1e-2)
        rights, notes = rights + right, notes + len(losses)
    assert float(logged["acc"]) == pytest.approx(rights / notes, abs=1e-4)
    assert float(logged["ppl"]) == pytest.approx(2 ** float(logged["loss"]), rel=1e-2)


def test_per_field_values_are_those_of_the_metrics_module(criterion: Any) -> None:
    from musicbert_plugin.metrics.masked_tokens import accuracy, perplexity

    batch = make_batch(octuples=60)
    logits = random_logits(batch)
    logged = reduce(criterion, [criterion(Oracle(logits).eval(), batch)[2]])
    row, position = (batch["target"] > EOS).nonzero().T
    reference, scores = batch["target"][row, position], torch.log_softmax(logits[row, position].double(), -1)
    field = (position % 8).numpy()
    nll = -scores.gather(1, reference[:, None]).squeeze(1)
    accuracies, perplexities = accuracy(reference, scores.argmax(-1), field), perplexity(nll, field)
    for index, name in enumerate(FIELDS):
        assert float(logged[f"acc_{name}"]) == pytest.approx(accuracies[index], abs=1e-4)
        assert float(logged[f"ppl_{name}"]) == pytest.approx(perplexities[index], rel=1e-3)


def test_perplexity_per_field_is_logged_while_validating_only(criterion: Any) -> None:
    batch = make_batch()
    model = Oracle(random_logits(batch))
    assert not [key for key in reduce(criterion, [criterion(model.train(), batch)[2]]) if key.startswith("ppl_")]
    assert len([key for key in reduce(criterion, [criterion(model.eval(), batch)[2]]) if key.startswith("ppl_")]) == 8


def test_what_two_batches_log_adds_up_to_what_one_batch_of_both_logs(criterion: Any) -> None:
    first, second = make_batch(seed=1), make_batch(seed=2, share=0.1)
    logits = random_logits(first, 1), random_logits(second, 2)
    both = {key: first[key] + second[key] for key in ("ntokens", "nsentences", "n_notes", "n_targets")}
    both |= {"target": torch.cat([first["target"], second["target"]])}
    both["net_input"] = {"src_tokens": torch.cat([one["net_input"]["src_tokens"] for one in (first, second)])}
    outputs = [criterion(Oracle(table), batch)[2] for table, batch in zip(logits, (first, second), strict=True)]
    apart, together = reduce(criterion, outputs), reduce(criterion, [criterion(Oracle(torch.cat(logits)), both)[2]])
    # fairseq adds up the outputs of workers itself.
    summed = {key: sum(output[key] for output in outputs) for key in outputs[0]}
    added = reduce(criterion, [summed])
    assert criterion.logging_outputs_can_be_summed()
    for key in apart:
        if not key.startswith("notes"):
            assert float(apart[key]) == pytest.approx(float(together[key]), abs=2e-3)
            assert float(apart[key]) == pytest.approx(float(added[key]), abs=2e-3)


def test_a_batch_without_targets_has_loss_zero_and_changes_no_average(criterion: Any) -> None:
    empty, full = make_batch(share=0.0), make_batch()
    model = Oracle(random_logits(empty))
    loss, sample_size, output = criterion(model, empty)
    loss.backward()
    assert float(loss) == 0 and sample_size == 0
    assert model.logits.grad.eq(0).all()
    alone = reduce(criterion, [output])
    assert all(math.isfinite(float(value)) for value in alone.values())
    one = criterion(Oracle(random_logits(full)), full)[2]
    with_empty, without = reduce(criterion, [output, one]), reduce(criterion, [one])
    for key in without:
        if not key.startswith("notes"):
            assert float(with_empty[key]) == float(without[key])


def test_floating_point_operations_are_three_forward_passes_of_the_model(criterion: Any) -> None:
    batch = make_batch()
    model = Oracle(random_logits(batch))
    model.forward_flops = lambda lengths, n_masked: float(lengths.sum()) * 1000 + n_masked  # type: ignore[assignment]
    assert criterion._flops(model, batch) == 3 * (24 * 1000 + batch["n_targets"])
    assert criterion(model, batch)[2]["flops"] == 0  # on a CPU utilisation is not counted


def test_utilisation_is_logged_against_the_peak_of_a_gpu(criterion: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fairseq.logging import meters, metrics

    monkeypatch.setattr(meters.TimeMeter, "elapsed_time", 2.0)
    batch = make_batch()
    output = criterion(Oracle(random_logits(batch)), batch)[2] | {"flops": 989e12}
    with metrics.aggregate(new_root=True) as logged:
        for _ in range(2):  # a rate begins to count after its first call
            type(criterion).reduce_metrics([output])
    assert logged.get_smoothed_values()["mfu"] == 50.0
    assert logged.get_smoothed_values()["notes/s"] == 10.0


SMALL = "--encoder-layers 1 --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --encoder-attention-heads 2"
STEADY = "--dropout 0 --attention-dropout 0 --optimizer adam --adam-eps 1e-6 --lr 0.0005 --clip-norm 0.5 --max-update 3"
RUN = (
    "--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert --tokens-per-sample 512 --batch-size 2 "
    f"--disable-validation --log-format json --log-interval 1 --save-interval-updates 3 {SMALL} {STEADY}"
)


def parameters(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_one_process_with_two_batches_per_update_equals_two_processes_with_one(
    octuple_folder: Callable[..., Path], fairseq_command: Callable[..., Any], tmp_path: Path
) -> None:
    data = octuple_folder(train=[50, 20, 300, 41, 7, 120, 60, 33, 10, 90, 200, 15])
    address = f"tcp://127.0.0.1:{free_port()}"
    shared = [*RUN.split(), "--cpu", "--num-workers", "0", "--user-dir", str(ROOT / "musicbert_plugin")]
    distributed = (
        "--ddp-backend legacy_ddp --distributed-backend gloo --distributed-no-spawn --distributed-world-size 2"
    )
    commands = [
        [sys.executable, "-m", "fairseq_cli.train", str(data), *shared, *distributed.split()]
        + ["--distributed-init-method", address, "--distributed-rank", str(rank), "--save-dir", str(tmp_path / "two")]
        for rank in (0, 1)
    ]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    alone = fairseq_command("train", data, *RUN.split(), "--update-freq", 2, "--save-dir", tmp_path / "one")
    logs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(logs)

    one, two = parameters(tmp_path / "one"), parameters(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-6)
    steps = [line for line in alone.statistics if "gnorm" in line and "train_wall" in line]
    for line in steps:
        # The same numbers stand in the first worker's log: loss, accuracies, tokens and rows of the whole update.
        for key in ("loss", "acc", "loss_pitch", "acc_tempo", "wpb", "bsz", "gnorm"):
            assert f'"{key}": "{line[key]}"' in logs[0]
    assert len(steps) == 3
