"""The encoder of frames: positions, arrangement, and that a clip is alone in its batch."""

import math

import pytest
import torch

from musicbert_plugin.modules.frame_encoder import ConvolutionalPositions, FrameEncoder, sinusoids
from musicbert_plugin.modules.packed_batch import pack_rows


@pytest.fixture(params=["conv", "sinusoids", "both, post-LN"])
def encoder(request):
    torch.manual_seed(0)
    conv = "sinusoids" not in request.param
    return (
        FrameEncoder(
            5,
            16,
            2,
            32,
            2,
            kernel=7 if conv else 0,
            use_sinusoids=request.param != "conv",
            norm_first="post" not in request.param,
        )
        .double()
        .eval()
    )


def test_defect_6_padding_and_company_change_nothing(encoder):
    """Batch invariance: the original attended to padding."""
    clips = [torch.randn(n, 5, dtype=torch.float64) for n in (3, 11, 7)]
    batch = torch.randn(3, 14, 5, dtype=torch.float64)  # anything at all on padding
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    together, states = encoder(batch, [len(clip) for clip in clips])
    for row, clip in enumerate(clips):
        alone, alone_states = encoder(clip[None], [len(clip)])
        torch.testing.assert_close(together[row, : len(clip)], alone[0], atol=1e-10, rtol=0)
        assert not together[row, len(clip) :].any()
        for state, alone_state in zip(states, alone_states, strict=True):
            torch.testing.assert_close(state[row, : len(clip)], alone_state[0], atol=1e-10, rtol=0)


def test_gradients_of_a_batch_are_the_sum_of_its_clips_gradients(encoder):
    clips = [torch.randn(n, 5, dtype=torch.float64) for n in (4, 9)]
    batch = torch.zeros(2, 9, 5, dtype=torch.float64)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    encoder(batch, [4, 9])[0].square().sum().backward()
    together = [parameter.grad.clone() for parameter in encoder.parameters()]
    encoder.zero_grad()
    for clip in clips:
        encoder(clip[None], [len(clip)])[0].square().sum().backward()
    for parameter, expected in zip(encoder.parameters(), together, strict=True):
        torch.testing.assert_close(parameter.grad, expected, atol=1e-8, rtol=1e-6)


def test_pre_and_post_layernorm_are_their_formulas():
    torch.manual_seed(0)
    for norm_first in (True, False):
        encoder = FrameEncoder(3, 8, 1, 16, 2, kernel=0, use_sinusoids=True, norm_first=norm_first).double().eval()
        x_BTF = torch.randn(1, 6, 3, dtype=torch.float64)
        layer = encoder.layers[0]
        x = encoder.input(x_BTF[0]) + sinusoids(torch.arange(6), 8).double()

        def attention(h, layer=layer):
            q, k, v = (
                p(h).view(6, 2, 4).transpose(0, 1)
                for p in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
            )
            weights = (q @ k.transpose(1, 2) / 2).softmax(-1)
            return layer.self_attn.out_proj((weights @ v).transpose(0, 1).reshape(6, 8))

        def ffn(h, layer=layer):
            return layer.fc2(torch.nn.functional.gelu(layer.fc1(h)))

        one, two = layer.self_attn_layer_norm, layer.final_layer_norm
        if norm_first:
            x = x + attention(one(x))
            expected = encoder.layer_norm(x + ffn(two(x)))
        else:
            x = encoder.layer_norm(x)
            x = one(x + attention(x))
            expected = two(x + ffn(x))
        torch.testing.assert_close(encoder(x_BTF, [6])[0][0], expected)


def test_defect_11_sinusoids_are_the_papers_for_all_positions_at_once():
    table = sinusoids(torch.arange(50), 10)
    for t, d in ((0, 0), (7, 3), (49, 8), (31, 9)):
        angle = t / 10000 ** (2 * (d // 2) / 10)
        assert table[t, d].item() == pytest.approx(math.sin(angle) if d % 2 == 0 else math.cos(angle), abs=1e-5)


def test_convolutional_positions_see_zeros_beyond_a_clip():
    torch.manual_seed(0)
    positions = ConvolutionalPositions(4, 5).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    weight, bias = positions.conv.weight[:, 0], positions.conv.bias
    padded = torch.nn.functional.pad(x, (0, 0, 2, 2))
    expected = torch.stack([(padded[t : t + 5] * weight.T).sum(0) + bias for t in range(6)])
    found = positions(x, pack_rows([6], 6, x.device))
    torch.testing.assert_close(found, torch.nn.functional.gelu(expected))


def test_defect_7_no_dropout_in_evaluation(encoder):
    x = torch.randn(2, 8, 5, dtype=torch.float64)
    assert torch.equal(encoder(x, [8, 8])[0], encoder(x, [8, 8])[0])
    encoder.train()
    assert not torch.equal(encoder(x, [8, 8])[0], encoder(x, [8, 8])[0])


def test_layers_that_train_in_a_frozen_encoder_tell_the_kernel_of_their_dropout(monkeypatch):
    """On a GPU, the kernel for clips of different lengths depends on it: one of them knows no dropout."""
    from musicbert_plugin.modules import frame_encoder

    rates = []
    plan = frame_encoder.varlen_metadata
    monkeypatch.setattr(frame_encoder, "varlen_metadata", lambda *given: rates.append(given[-1]) or plan(*given))
    encoder = FrameEncoder(5, 16, 2, 32, 2, attention_dropout=0.25).eval()
    encoder(torch.randn(2, 8, 5), [8, 6])
    encoder.layers[1].train()
    encoder(torch.randn(2, 8, 5), [8, 6])
    assert rates == [0.0, 0.25]


def test_recomputed_activations_give_the_same_gradients():
    torch.manual_seed(0)
    encoder = FrameEncoder(5, 16, 2, 32, 2, dropout=0.0, attention_dropout=0.0).train()
    x = torch.randn(2, 8, 5)
    gradients = []
    for recompute in (False, True):
        encoder.checkpoint_activations = recompute
        encoder.zero_grad()
        encoder(x, [8, 6])[0].sum().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_lengths_that_cannot_be_are_refused():
    for lengths in ([0, 3], [9], []):
        with pytest.raises(ValueError, match="lengths"):
            pack_rows(lengths, 8, torch.device("cpu"))
