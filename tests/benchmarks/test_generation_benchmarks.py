"""The benchmarks of attention and generation run and print JSON; their times are nobody's business here."""

import torch


def test_linear_attention_is_compared_with_softmax_and_running_sums(run):
    from benchmarks import linear_attention

    result = run(linear_attention, *"--lengths 70 --heads 2 --head-dim 5 --rounds 1".split())
    assert set(result["lengths"]["70"]["times faster than"]) == {"sdpa", "running sums"}


def test_the_forms_that_are_compared_agree():
    from benchmarks.linear_attention import running_sums
    from musicbert_plugin.modules.linear_attention import linear_attention

    q, k, v = torch.randn(3, 1, 70, 2, 5)
    assert torch.allclose(running_sums(q, k, v), linear_attention(q, k, v), atol=1e-5)


def test_generation_is_measured_at_both_batch_sizes(run, monkeypatch):
    from benchmarks import generation

    monkeypatch.setattr(generation, "PLACES", (100, 300))
    monkeypatch.setattr(generation, "LENGTHS", (70,))
    result = run(generation, *"--size debug --tokens 12 --rounds 1".split())
    assert set(result["tokens per CPU-second"]) == {"batch 1", "batch 16"}
