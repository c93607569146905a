"""Dropout keeps the expectation, drops the share it says, and follows torch's seed."""

import pytest
import torch

from musicbert_plugin.modules.dropout import drawn_keep, dropout, keep_scale


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_dropped_share_is_p_and_the_mean_stays(p):
    torch.manual_seed(0)
    x = torch.ones(1000, 1001)
    y = dropout(x, p, True)
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs((y == 0).double().mean().item() - p) < 5 * deviation
    assert abs(y.double().mean().item() - 1) < 5 * deviation / (1 - p)
    assert torch.unique(y).tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-4)


def test_every_element_is_drawn_alike():
    """16 bits decide about an element: none of the four elements that share a drawn word is favoured."""
    torch.manual_seed(0)
    keep = drawn_keep(torch.empty(400_000), 0.25).view(-1, 4)
    assert (keep.mean(0) - 0.75).abs().max() < 0.01
    assert torch.corrcoef(keep.t()).fill_diagonal_(0).abs().max() < 0.02


def test_it_does_nothing_in_evaluation_or_with_p_zero():
    x = torch.randn(5)
    assert dropout(x, 0.5, False) is x
    assert dropout(x, 0.0, True) is x
    assert keep_scale(0.0) == 1.0


def test_the_seed_decides_and_gradients_go_where_values_went():
    x = torch.randn(64, 3, requires_grad=True)
    torch.manual_seed(3)
    y = dropout(x, 0.3, True)
    torch.manual_seed(3)
    assert torch.equal(y, dropout(x, 0.3, True))
    y.sum().backward()
    assert torch.equal(x.grad != 0, y != 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_type_stays(dtype):
    y = dropout(torch.ones(7, 3, dtype=dtype), 0.5, True)
    assert y.dtype == dtype
    assert set(y.unique().tolist()) <= {0.0, 2.0}
