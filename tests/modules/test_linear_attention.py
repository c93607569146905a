"""The three forms of linear attention are one formula: each is held to its plain, quadratic form in float64."""

import pytest
import torch

from musicbert_plugin.modules import linear_attention as module
from musicbert_plugin.modules.linear_attention import (
    CHUNK,
    empty_state,
    linear_attention,
    linear_attention_step,
    linear_attention_with_state,
)
from tests.reference.linear_attention import quadratic_linear_attention

LENGTHS = [1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7]


def drawn(rows, length, heads, size, scale=1.0, dtype=torch.float32, shift=0.0):
    torch.manual_seed(length)
    q, k = (scale * torch.randn(rows, length, heads, size) + shift for _ in "qk")
    return q.to(dtype), k.to(dtype), (scale * torch.randn(rows, length, heads, size)).to(dtype)


def exact(tensors):
    return [x.detach().double().requires_grad_() for x in tensors]


def by_sums(q, k, v):
    """The definition, place by place, for one row and one head: nothing of the module is used."""
    phi = lambda x: torch.nn.functional.elu(x) + 1  # noqa: E731
    out = []
    for last in range(len(q)):
        weights = torch.stack([(phi(q[last]) * phi(k[j])).sum() for j in range(last + 1)])
        out.append((weights[:, None] * v[: last + 1]).sum(0) / (weights.sum() + 1e-6))
    return torch.stack(out)


def test_the_quadratic_form_is_the_definition():
    q, k, v = exact(drawn(2, 7, 3, 4, scale=3.0))
    out = quadratic_linear_attention(q, k, v)
    for row in range(2):
        for head in range(3):
            expected = by_sums(*(x[row, :, head] for x in (q, k, v)))
            assert torch.allclose(out[row, :, head], expected, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_chunks_give_what_the_formula_gives(length, scale):
    tensors = drawn(2, length, 3, 20, scale)
    expected = quadratic_linear_attention(*exact(tensors))
    assert torch.allclose(linear_attention(*tensors).double(), expected, atol=1e-5)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_one_place_after_the_other_gives_what_the_formula_gives(length, scale):
    q, k, v = drawn(2, length, 3, 20, scale)
    state = empty_state(2, 3, 20)
    out = torch.stack([linear_attention_step(q[:, i], k[:, i], v[:, i], state) for i in range(length)], 1)
    assert torch.allclose(out.double(), quadratic_linear_attention(*exact((q, k, v))), atol=1e-5)


@pytest.mark.parametrize("together", [1, 1 << 13, 1 << 18])
def test_gradients_are_those_of_the_formula(together, monkeypatch):
    """Whatever is worked on together: single chunks whose states are carried on, single heads, or everything."""
    monkeypatch.setattr(module, "_TOGETHER", together)
    padding_mask = torch.arange(3 * CHUNK + 5) >= torch.tensor([[3 * CHUNK + 5], [CHUNK + 9]])
    for scale in (1.0, 8.0):
        tensors = drawn(2, 3 * CHUNK + 5, 3, 20, scale)
        weight = torch.randn_like(tensors[0])
        theirs = exact(tensors)
        expected = quadratic_linear_attention(*theirs, padding_mask)
        expected_gradients = torch.autograd.grad((expected * weight).sum(), theirs)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
            ours = [x.to(dtype).requires_grad_() for x in tensors]
            out = linear_attention(*ours, padding_mask)
            assert torch.allclose(out.double(), expected, atol=tolerance)
            gradients = torch.autograd.grad((out * weight.to(dtype)).sum(), ours)
            for ours_x, theirs_x in zip(gradients, expected_gradients, strict=True):
                assert (ours_x - theirs_x).norm() <= 10 * tolerance * theirs_x.norm()


def test_gradients_are_those_of_finite_differences():
    tensors = exact(drawn(1, 5, 2, 3))
    assert torch.autograd.gradcheck(linear_attention, tensors)


def test_padding_counts_for_nobody_and_gets_no_gradient():
    q, k, v = drawn(1, 90, 2, 8)
    padded = [torch.cat([x, 100 * torch.ones(1, 30, 2, 8)], 1).requires_grad_() for x in (q, k, v)]
    padding_mask = torch.arange(120)[None] >= 90
    out = linear_attention(*padded, padding_mask)[:, :90]
    assert torch.allclose(out, linear_attention(q, k, v), atol=1e-6)
    for gradient in torch.autograd.grad(out.sum(), padded):
        assert not gradient[:, 90:].any()


def test_the_state_after_a_prefix_continues_it_in_rows_of_different_length():
    q, k, v = drawn(2, 150, 3, 20)
    lengths = torch.tensor([140, 77])
    padding_mask = torch.arange(150) >= lengths[:, None]
    _, state = linear_attention_with_state(q, k, v, padding_mask)
    place = lengths[:, None, None, None].expand(-1, 1, 3, 20)
    ours = linear_attention_step(*(x.gather(1, place).squeeze(1) for x in (q, k, v)), state)
    for row, length in enumerate(lengths.tolist()):
        alone = linear_attention(*(x[row : row + 1, : length + 1] for x in (q, k, v)))
        assert torch.allclose(ours[row], alone[0, -1], atol=1e-5)


def test_where_all_features_are_small_the_published_epsilon_decides():
    """q = k = -12 everywhere: the weights' sum, 64 exp(-24) = 2.4e-9 a place, is far below 1e-6."""
    q = torch.full((1, 1, 1, 64), -12.0)
    out = linear_attention(q, q, torch.ones(1, 1, 1, 64))
    assert out.mean() == pytest.approx(0.0024, abs=5e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("scale", "shift"), [(1.0, 0.0), (3.0, 0.0), (8.0, 0.0), (1.0, -12.0), (8.0, -60.0), (1.0, -60000.0), (8.0, 1000.0)]
)
def test_half_precision_is_finite_and_as_exact_as_its_type(dtype, scale, shift):
    """fp16 sums of features pass 65,504 after a thousand places, and vanish for very negative inputs; here neither."""
    tensors = [x.requires_grad_() for x in drawn(1, 1024, 2, 32, scale, dtype, shift)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = linear_attention(*tensors)
    assert out.dtype == dtype
    gradients = torch.autograd.grad(out.float().square().mean(), tensors)
    assert all(torch.isfinite(x).all() for x in (out, *gradients))
    expected = quadratic_linear_attention(*exact(tensors))
    bound = torch.finfo(dtype).eps * expected.abs().max() + 1e-5
    assert ((out - expected).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_at_length_8192(dtype):
    tensors = [x.requires_grad_() for x in drawn(1, 8192, 1, 16, 8.0, dtype)]
    out = linear_attention(*tensors)
    gradients = torch.autograd.grad(out.float().sum(), tensors)
    assert all(torch.isfinite(x).all() for x in (out, *gradients))
    state = empty_state(1, 1, 16)
    for place in (0, 1, 8191):
        step = linear_attention_step(*(x.detach()[:, place] for x in tensors), state)
        assert torch.isfinite(step).all() and step.dtype == dtype


def test_the_recurrent_form_agrees_at_length_8192():
    q, k, v = drawn(1, 8192, 1, 8, 3.0)
    out = linear_attention(q, k, v)
    state = empty_state(1, 1, 8)
    for place in range(8192):
        last = linear_attention_step(q[:, place], k[:, place], v[:, place], state)
    r = module.feature_map(k.double())[0, :, 0]
    weights = r @ module.feature_map(q.double())[0, -1, 0]
    expected = weights @ v.double()[0, :, 0] / (weights.sum() + module.EPSILON)
    assert torch.allclose(last[0, 0].double(), expected, atol=1e-5)
    assert torch.allclose(out[0, -1, 0].double(), expected, atol=1e-5)
