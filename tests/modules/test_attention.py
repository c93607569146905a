"""Attention inside pieces equals the formula softmax(q k^T / sqrt(K)) v, written out in float64, piece by piece."""

import math

import pytest
import torch

from musicbert_plugin.modules import attention
from musicbert_plugin.modules.attention import SelfAttention, attend, varlen_metadata

CPU = torch.device("cpu")
PIECES = [
    ((3, 3), (3, 3)),  # stacked
    ((4, 1, 6), (4, 1, 6)),  # one after the other
    ((2, 2), (5, 5)),  # stacked, fewer queries
    ((3, 0, 2), (4, 1, 2)),  # a piece that asks nothing
    ((0, 0), (2, 3)),
]


def by_formula(q, k, v, query_lengths, lengths, keep=None):
    out = []
    for qs, ks, vs in zip(q.split(query_lengths), k.split(lengths), v.split(lengths), strict=True):
        scores = torch.einsum("mhk,nhk->hmn", qs, ks) / math.sqrt(q.shape[-1])
        out.append(torch.einsum("hmn,nhk->mhk", scores.exp() / scores.exp().sum(-1, keepdim=True), vs))
    return torch.cat(out)


def drawn(query_lengths, lengths, heads=2, size=4, dtype=torch.float64):
    torch.manual_seed(0)
    q = torch.randn(sum(query_lengths), heads, size, dtype=dtype, requires_grad=True)
    k, v = (torch.randn(sum(lengths), heads, size, dtype=dtype, requires_grad=True) for _ in "kv")
    return q, k, v


@pytest.mark.parametrize(("query_lengths", "lengths"), PIECES)
def test_each_piece_attends_to_itself_alone(query_lengths, lengths):
    q, k, v = drawn(query_lengths, lengths)
    metadata = varlen_metadata(query_lengths, lengths, CPU, q.dtype, 4, 0.0)
    assert torch.allclose(attend(q, k, v, metadata), by_formula(q, k, v, query_lengths, lengths), atol=1e-12)


@pytest.mark.parametrize(("query_lengths", "lengths"), PIECES)
@pytest.mark.parametrize("block", [1, 8, 1 << 18])
def test_dropping_no_weight_changes_nothing(query_lengths, lengths, block, monkeypatch):
    """The blockwise attention with a probability too small to drop, in blocks of every size."""
    monkeypatch.setattr(attention, "_BLOCK", block)
    q, k, v = drawn(query_lengths, lengths)
    metadata = varlen_metadata(query_lengths, lengths, CPU, q.dtype, 4, 1e-9)
    out = attend(q, k, v, metadata, 1e-9)
    expected = by_formula(q, k, v, query_lengths, lengths)
    assert torch.allclose(out, expected, atol=1e-12)
    weight = torch.randn_like(out)
    ours = torch.autograd.grad((out * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((expected * weight).sum(), (q, k, v))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_gradients_with_dropped_weights_are_those_of_finite_differences():
    query_lengths, lengths = (3, 0, 2), (4, 1, 2)
    metadata = varlen_metadata(query_lengths, lengths, CPU, torch.float64, 4, 0.3)

    def seeded(*qkv):
        torch.manual_seed(1)
        return attend(*qkv, metadata, 0.3)

    assert torch.autograd.gradcheck(seeded, drawn(query_lengths, lengths))


def test_dropped_weights_keep_the_mean_and_are_a_share_p():
    """With values that are unit vectors, the output is the row of dropped and scaled weights."""
    torch.manual_seed(0)
    n, p = 64, 0.2
    q, k = torch.zeros(2, n, 1, n, dtype=torch.float64)
    v = torch.eye(n, dtype=torch.float64).unsqueeze(1)
    metadata = varlen_metadata((n,), (n,), CPU, q.dtype, n, p)
    weights = torch.stack([attend(q, k, v, metadata, p)[:, 0] for _ in range(50)]) * n
    assert abs((weights == 0).double().mean().item() - p) < 0.01
    assert abs(weights.mean().item() - 1) < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_half_precision_stays_within_its_rounding(dtype, p):
    q, k, v = drawn((5, 3), (5, 3), dtype=dtype)
    metadata = varlen_metadata((5, 3), (5, 3), CPU, dtype, 4, p)
    out = attend(q, k, v, metadata, p)
    assert out.dtype == dtype
    expected = by_formula(q.double(), k.double(), v.double(), (5, 3), (5, 3))
    assert torch.allclose(out.double(), expected, atol=0.02)
    out.sum().backward()
    assert q.grad.dtype == dtype and torch.isfinite(q.grad).all()


def test_asking_for_some_octuples_gives_their_rows():
    torch.manual_seed(0)
    module = SelfAttention(8, 2, 0.0).double()
    x = torch.randn(9, 8, dtype=torch.float64)
    full = module(x, varlen_metadata((4, 5), (4, 5), CPU, x.dtype, 4, 0.0))
    needed = torch.tensor([0, 3, 4, 8])
    some = module(x, varlen_metadata((2, 2), (4, 5), CPU, x.dtype, 4, 0.0), needed)
    assert torch.allclose(some, full[needed], atol=1e-12)


def test_heads_that_do_not_divide_the_dimensions_are_refused():
    with pytest.raises(ValueError, match="3 attention heads"):
        SelfAttention(8, 3, 0.0)


def test_the_variable_length_kernels_are_tried_before_use():
    """On a CPU the flash operators refuse or agree with the formula; neither way is an error."""
    for with_dropout in (False, True):
        kernel = attention.variable_length_kernel(CPU, torch.bfloat16, 8, with_dropout)
        assert kernel is None or attention._agrees(kernel, CPU, torch.bfloat16, 8)
    assert not attention._agrees(lambda q, *rest: q, CPU, torch.float32, 8)


@torch.inference_mode()
def test_a_kernel_that_works_is_found_in_inference_too():
    def kernel(q, k, v, begin_q, begin_k, max_q, max_k, p):
        lengths = tuple(begin_k.diff().tolist())
        return by_formula(q, k, v, lengths, lengths)

    with torch.autocast("cpu", torch.bfloat16):
        assert attention._agrees(kernel, CPU, torch.float32, 8)
