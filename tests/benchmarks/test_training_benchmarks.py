"""The benchmarks of training run, compare models that agree, and print JSON; their times are nobody's business here."""

import pytest
import torch


def test_the_training_step_compares_equal_models(run):
    from benchmarks import training_step

    sizes = "--size tiny --rows 1 --octuples 64 --dropout 0 --steps 1".split()
    result = run(training_step, *sizes)
    plugin, original = result["loss per step"].values()
    assert plugin == pytest.approx(original, abs=1e-3)
    assert result["ratio (median)"] > 0 and result["versions"]["torch"] == torch.__version__


def test_the_gpu_benchmark_can_be_tried_on_a_cpu(run):
    from benchmarks import gpu_training

    variants = ["bf16", "float32, padded, full heads"]
    result = run(gpu_training, "--dry-run", "--variants", *variants)["musicbert_tiny"]
    packed, padded = (result[variant]["loss, first and last"][0] for variant in variants)
    assert packed == pytest.approx(padded, abs=0.05), "both see the same pieces"
    assert set(result["times the reference"]) == set(variants)
