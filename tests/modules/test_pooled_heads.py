"""Pooling over real frames, mixes of layers, a head per task."""

import pytest
import torch

from musicbert_plugin.errors import OptionError
from musicbert_plugin.modules.packed_batch import pack_rows
from musicbert_plugin.modules.pooled_heads import ClassificationHead, PooledHeads, Pooling


@pytest.mark.parametrize("kind", ["mean", "attention", "mean+max"])
def test_pooling_is_over_real_frames_alone(kind):
    torch.manual_seed(0)
    pooling = Pooling(4, kind).double()
    x = torch.randn(3, 9, 4, dtype=torch.float64)
    lengths = [9, 2, 5]
    found = pooling(pack_rows(lengths, 9, x.device).flatten(x), lengths)
    for row, length in enumerate(lengths):
        real = x[row, :length]
        expected = real.mean(0)
        if kind == "attention":
            weights = pooling.attention(real)[:, 0].softmax(0)
            expected = (weights[:, None] * real).sum(0)
        if kind == "mean+max":
            expected = torch.cat([expected, real.max(0).values])
        torch.testing.assert_close(found[row], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["mean", "attention", "mean+max"])
def test_pooling_has_the_gradients_of_its_definition(kind):
    torch.manual_seed(0)
    pooling = Pooling(3, kind).double()
    x = torch.randn(11, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pooling(x, [4, 1, 6]), (x,))


def test_attention_on_large_scores_stays_finite():
    pooling = Pooling(1, "attention")
    torch.nn.init.constant_(pooling.attention.weight, 1.0)
    found = pooling(torch.tensor([[500.0], [0.0], [-500.0], [-501.0]]), [2, 2])
    expected = torch.tensor([[500.0], [-500 - torch.tensor(-1.0).exp() / (1 + torch.tensor(-1.0).exp())]])
    torch.testing.assert_close(found, expected)


def test_without_pooling_every_position_has_logits():
    heads = PooledHeads(4, 2, {"a": 3}, pooling="none", dropout=0.0)
    x = torch.randn(7, 4)
    torch.testing.assert_close(heads(x, [], [5, 2])["a"], heads.heads["a"](x))


def test_a_learned_mix_begins_as_the_mean_of_normalised_layers_and_learns():
    torch.manual_seed(0)
    heads = PooledHeads(4, 2, {"a": 3, "b": 1}, layer_mix="learned", dropout=0.0)
    states = [torch.randn(2, 5, 4) for _ in range(3)]
    found = heads.of_rows(states[-1], states, [5, 5])
    mixed = torch.stack([torch.nn.functional.layer_norm(s, (4,)) for s in states]).mean(0).mean(1)
    torch.testing.assert_close(found["a"], heads.heads["a"](mixed))
    found["b"].sum().backward()
    assert heads.mix.grad.abs().sum() > 0


@pytest.mark.parametrize("mix, layer", [("0", 0), ("2", 2)])
def test_one_layer_can_be_chosen(mix, layer):
    heads = PooledHeads(4, 2, {"a": 3}, layer_mix=mix, dropout=0.0)
    states = [torch.randn(2, 5, 4) for _ in range(3)]
    torch.testing.assert_close(heads.of_rows(states[-1], states, [5, 5])["a"], heads.heads["a"](states[layer].mean(1)))


@pytest.mark.parametrize("mix", ["3", "first", "-1"])
def test_a_layer_that_is_not_there_is_refused(mix):
    with pytest.raises(OptionError, match="layer_mix"):
        PooledHeads(4, 2, {"a": 3}, layer_mix=mix)


def test_the_classification_head_looks_at_the_first_sub_token_alone():
    head = ClassificationHead(4, 5, 3, 0.0)
    x = torch.randn(2, 16, 4)
    changed = x.clone()
    changed[:, 1:] = 0
    assert torch.equal(head(x), head(changed))
    expected = torch.tanh(x[:, 0] @ head.dense.weight.t() + head.dense.bias) @ head.out_proj.weight.t()
    assert torch.allclose(head(x), expected + head.out_proj.bias, atol=1e-6)
