"""The language model gives the published logits in each position mode: those of a float64 model of it."""

import pytest
import torch

from tests.reference.linear_transformer_lm import dictionary, expected_logits, make, spread

PAD = 1
SIZES = {
    "debug": (32, 32, 2, 8, 32, 93_184),
    "std": (512, 2048, 6, 8, 512, 20_198_400),
    "large": (768, 3072, 12, 12, 768, 86_980_608),
    "gpt": (768, 3072, 12, 12, 768, 86_980_608),
    "gpt_base": (896, 3584, 12, 12, 888, 117_648_096),
    "xl": (1024, 4096, 16, 12, 1020, 203_845_440),
    "1billion": (2048, 8192, 24, 24, 2040, 1_212_161_472),
}
"""D, feed-forward dimensions, layers, heads, width of query, key and value, parameters with 1,253 ids."""


@pytest.mark.parametrize("arch", SIZES)
def test_sizes_and_shapes_are_the_published_ones(registered, arch):
    dim, ffn, layers, heads, inner, count = SIZES[arch]
    with torch.device("meta"):
        model = make(arch=arch)
    state = model.state_dict()
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert state["decoder.embed_tokens.weight"].shape == state["decoder.output_projection.weight"].shape == (1253, dim)
    assert state["decoder.embed_positions._float_tensor"].shape == state["decoder.version"].shape == (1,)
    layer = f"decoder.layers.{layers - 1}"
    for name in "qkv":
        assert state[f"{layer}.self_attn.{name}_proj.weight"].shape == (inner, dim)
        assert state[f"{layer}.self_attn.{name}_proj.bias"].shape == (inner,)
    assert state[f"{layer}.self_attn.out_proj.weight"].shape == (dim, inner)
    assert state[f"{layer}.fc1.weight"].shape == (ffn, dim) and state[f"{layer}.fc2.weight"].shape == (dim, ffn)
    for name in (f"{layer}.self_attn_layer_norm", f"{layer}.final_layer_norm", "decoder.layer_norm"):
        assert state[f"{name}.weight"].shape == state[f"{name}.bias"].shape == (dim,)
    assert len(state) == 6 + 16 * layers


@pytest.mark.parametrize(
    ("mode", "begin"), [("zero-prefix", 8), ("zero-prefix-shifted", 7), ("all", 0)], ids=lambda x: str(x)
)
@pytest.mark.parametrize("heads", [8, 3], ids=["D = H K", "D > H K"])
def test_logits_are_the_originals_in_each_position_mode(registered, mode, begin, heads):
    model = spread(make(position_mode=mode, decoder_attention_heads=heads))
    tokens = torch.randint(4, 900, (2, 90))
    tokens[:, 8] = 984
    tokens[:, 0] = 2
    found, _ = model(tokens)
    given, _ = model(tokens, src_lengths=torch.tensor([90, 90]), sep_pos=[begin, begin])
    assert torch.equal(found, given)
    for row in range(2):
        expected = expected_logits(model.state_dict(), tokens[row], begin, heads)
        assert (found[row] - expected).abs().max() < 5e-5


def test_rows_in_a_batch_give_what_they_give_alone(registered):
    model = spread(make())
    long, short = torch.randint(4, 900, (80,)), torch.randint(4, 900, (33,))
    long[20] = short[5] = 984
    batch = torch.full((2, 80), PAD)
    batch[0], batch[1, :33] = long, short
    logits, _ = model(batch)
    assert torch.allclose(logits[0], model(long[None])[0][0], atol=1e-5)
    assert torch.allclose(logits[1, :33], model(short[None])[0][0], atol=1e-5)


def test_a_row_may_begin_anywhere_and_be_longer_than_the_first_table(registered):
    model = make()
    tokens = torch.randint(4, 900, (1, 1200))
    assert torch.isfinite(model(tokens, sep_pos=-3)[0]).all()
    head = model(tokens[:, :50])[0]
    assert torch.allclose(head, model(tokens)[0][:, :50], atol=1e-5)


def test_recomputing_layers_changes_nothing(registered):
    tokens = torch.randint(4, 900, (2, 40))
    gradients = []
    for again in (False, True):
        model = make(checkpoint_activations=again, dropout=0.1).train()
        torch.manual_seed(5)
        model(tokens)[0].square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_dictionary_decides_the_size_of_the_vocabulary(registered):
    model = make(dictionary(3245))
    assert model(torch.randint(4, 3245, (1, 7)))[0].shape == (1, 7, 3245)


@pytest.mark.parametrize(
    "options", [{"decoder_attention_heads": 0}, {"decoder_attention_heads": 33}, {"position_mode": "nowhere"}]
)
def test_impossible_options_are_told_in_one_sentence(registered, options):
    from musicbert_plugin.errors import OptionError

    with pytest.raises(OptionError, match="is accepted"):
        make(**options)


def test_the_prefix_is_read_in_one_pass_into_a_state_that_continues_it(registered):
    model = spread(make())
    tokens = torch.randint(4, 900, (2, 60))
    tokens[:, 30] = 984
    padded = tokens.clone()
    padded[1, 41:] = PAD
    logits, states = model.decoder.prefill(padded, model.decoder.position_offset(padded))
    assert torch.allclose(logits[0], model(tokens)[0][0, -1], atol=1e-5)
    assert torch.allclose(logits[1], model(tokens[1:, :41])[0][0, -1], atol=1e-5)
    assert [state.shape for state in states] == [(2, 8, 4, 5)] * 2
