"""MusiCoder: sizes, standardisation, frame stacking, heads, loading of files of the other task."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from musicbert_plugin.errors import CheckpointError, OptionError

pytestmark = pytest.mark.usefixtures("registered")

MEAN, STD = np.array([1.0, -5.0, 0.5], np.float32), np.array([2.0, 0.5, 1e-9], np.float32)


def build(heads=None, mean=MEAN, std=STD, **options):
    from musicbert_plugin.models.musicoder import MusiCoderConfig, MusiCoderModel

    torch.manual_seed(0)
    sizes = {
        "encoder_layers": 2,
        "encoder_embed_dim": 8,
        "encoder_ffn_embed_dim": 16,
        "encoder_attention_heads": 2,
        "conv_kernel": 5,
        "head_dropout": 0.0,
    }
    task = SimpleNamespace(feature_mean=mean, feature_std=std)
    if heads:
        task.head_sizes = heads
    return MusiCoderModel.build_model(MusiCoderConfig(**(sizes | options)), task)


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("musicoder_tiny", (2, 128, 512, 2)),
        ("musicoder_base", (4, 768, 3072, 12)),
        ("musicoder_large", (8, 1024, 4096, 16)),
        ("m3bert_base", (12, 768, 3072, 12)),
    ],
)
def test_sizes_are_those_that_the_architectures_are_named_for(name, sizes):
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

    from musicbert_plugin.models.musicoder import MusiCoderModel

    args = SimpleNamespace()
    ARCH_CONFIG_REGISTRY[name](args)
    found = (
        args.encoder_layers,
        args.encoder_embed_dim,
        args.encoder_ffn_embed_dim,
        args.encoder_attention_heads,
    )
    assert found == sizes and ARCH_MODEL_REGISTRY[name] is MusiCoderModel


def test_base_has_as_many_parameters_as_the_paper_says():
    """29.3 million, of which features and positions are ours."""
    args = SimpleNamespace()
    from fairseq.models import ARCH_CONFIG_REGISTRY

    ARCH_CONFIG_REGISTRY["musicoder_base"](args)
    model = build(mean=np.zeros(324, np.float32), std=np.ones(324, np.float32), compat="musicoder", **vars(args))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(29.4e6, rel=0.01)


def test_features_are_standardised_with_the_training_datas_mean_and_deviation():
    model = build()
    x = torch.tensor([[1.0, -4.5, 0.5], [3.0, -5.0, 0.501]])
    expected = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    torch.testing.assert_close(model.standardise(x), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(model.restore_units(model.standardise(x)), x)


def test_defect_10_a_zero_is_the_mean_and_a_constant_feature_does_not_explode():
    model = build().eval()
    source, input_mask = torch.randn(1, 6, 3), torch.zeros(1, 6, 3, dtype=torch.bool)
    input_mask[0, 2:4] = True
    filled = source.clone()
    filled[0, 2:4] = torch.from_numpy(MEAN)
    torch.testing.assert_close(model(source, input_mask=input_mask)[0], model(filled)[0], atol=1e-5, rtol=0)
    assert model.standardise(torch.full((1, 3), 0.51)).abs().max() < 20


def test_defect_5_the_output_can_be_of_any_level():
    """The original's head ended in GELU and LayerNorm, so that every frame had the same mean and deviation."""
    model = build(dropout=0.0, attention_dropout=0.0).train()
    loud, quiet = torch.randn(1, 9, 3) + 4.0, torch.randn(1, 9, 3) - 4.0
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        loss = (model(loud)[0] - 10).square().mean() + (model(quiet)[0] + 10).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model(loud)[0].mean() > 8 and model(quiet)[0].mean() < -8


@pytest.mark.parametrize("stack", [1, 2, 3])
@pytest.mark.parametrize("compat", ["none", "musicoder"])
def test_stacked_frames_keep_the_tail_and_ignore_padding(stack, compat):
    model = build(frame_stack=stack, compat=compat).eval()
    clips = [torch.randn(n, 3) for n in (7, 4, 9)]
    batch = torch.randn(3, 11, 3)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    out, extra = model(batch, [len(clip) for clip in clips])
    assert out.shape == (3, 11, 3) and extra["lengths"] == tuple(-(-len(clip) // stack) for clip in clips)
    for row, clip in enumerate(clips):
        alone = model(clip[None])[0]
        assert alone.shape == (1, len(clip), 3)
        torch.testing.assert_close(out[row, : len(clip)], alone[0], atol=1e-5, rtol=1e-4)


def test_stacking_is_undone_frame_by_frame():
    model, x = build(frame_stack=4), torch.randn(2, 10, 3)
    stacked, positions = model.stack(x, (10, 6))
    assert stacked.shape == (2, 3, 12) and positions == (3, 2)
    torch.testing.assert_close(model.unstack(stacked, 10)[0], x[0])
    assert not model.unstack(stacked, 10)[1, 6:].any()


def test_hidden_states_of_every_layer_are_given():
    model = build(frame_stack=2).eval()
    states, extra = model(torch.randn(2, 8, 3), [8, 5], features_only=True, return_all_hiddens=True)
    assert states.shape == (2, 4, 8) and len(extra["inner_states"]) == 3
    torch.testing.assert_close(model.encoder.layer_norm(extra["inner_states"][-1][0]), states[0])


def test_a_correction_starts_as_the_interpolation():
    from musicbert_plugin.modules.interpolation import interpolate_gaps

    model = build(predict="correction").eval()
    source, input_mask = torch.randn(2, 12, 3), torch.rand(2, 12, 3) < 0.3
    shown = ~input_mask
    shown[1, 8:] = False
    expected = interpolate_gaps(model.standardise(source).masked_fill(input_mask, 0.0), shown)
    torch.testing.assert_close(model(source, [12, 8], input_mask)[0][1, :8], expected[1, :8])


def test_defect_20_half_precision_keeps_the_standardised_scale():
    """No mask of -10,000 in half precision: padding is not computed at all."""
    model = build().eval()
    source = torch.randn(2, 9, 3)
    half = build(mean=MEAN * np.pi).eval().to(torch.bfloat16)
    assert torch.equal(half.feature_mean, torch.from_numpy(MEAN * np.float32(np.pi)))
    half = build().eval().to(torch.bfloat16)
    torch.testing.assert_close(half(source.half())[0].float(), model(source)[0], atol=0.05, rtol=0.05)


# ---------------------------------------------------------------------------------------------------------- fine-tuning


def test_heads_give_logits_by_name():
    model = build({"genre": 4, "affect": 2}, pooling="mean+max", head_dim=6).eval()
    logits, _ = model(torch.randn(3, 9, 3), [9, 2, 5])
    assert {name: tuple(x.shape) for name, x in logits.items()} == {"genre": (3, 4), "affect": (3, 2)}


@pytest.mark.parametrize("trainable, moving", [(0, set()), (1, {1}), (2, {0, 1})])
def test_frozen_layers_keep_their_weights_and_drop_nothing(trainable, moving):
    model = build({"genre": 4}, trainable_layers=trainable, dropout=0.5).train()
    model(torch.randn(3, 9, 3))[0]["genre"].square().sum().backward()
    for number, layer in enumerate(model.encoder.layers):
        assert layer.training == (number in moving)
        assert (layer.fc1.weight.grad is not None) == (number in moving)
    assert model.encoder.input.weight.grad is None
    if not trainable:
        x = torch.randn(2, 5, 3)
        assert torch.equal(model(x, features_only=True)[0], model(x, features_only=True)[0])
    assert model.clip_heads.heads["genre"].weight.grad.abs().sum() > 0


def test_a_pretrained_file_gives_encoder_and_standardisation_to_a_fine_tuned_model():
    pretrained = build(codes=5)
    torch.manual_seed(9)
    model = build({"genre": 4}, mean=np.zeros(3, np.float32), std=np.ones(3, np.float32))
    with torch.no_grad():
        model.encoder.input.weight.add_(1)
    head = model.clip_heads.heads["genre"].weight.clone()
    state = dict(pretrained.state_dict())
    model.upgrade_state_dict_named(state, "")
    model.load_state_dict(state, strict=True)
    assert torch.equal(model.encoder.input.weight, pretrained.encoder.input.weight)
    assert torch.equal(model.feature_mean, torch.from_numpy(MEAN))
    assert torch.equal(model.clip_heads.heads["genre"].weight, head)


def test_a_file_of_another_front_end_is_refused_and_one_that_tells_none_is_not():
    from musicbert_plugin.models.musicoder import MusiCoderConfig, MusiCoderModel

    mean = torch.zeros(3)
    sizes = {"encoder_layers": 1, "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 8, "encoder_attention_heads": 2}
    one, two, unknown = (MusiCoderModel(MusiCoderConfig(**sizes), mean, mean + 1, None, h) for h in (5, 6, 0))
    with pytest.raises(CheckpointError, match="another front-end"):
        two.load_state_dict(one.state_dict())
    unknown.load_state_dict(one.state_dict())
    old = {key: value for key, value in one.state_dict().items() if key != "front_end_hash"}
    two.load_state_dict(old)
    assert int(two.front_end_hash) == 6 and int(unknown.front_end_hash) == 5


def test_a_file_of_other_features_is_refused_in_a_sentence():
    state = build(mean=np.zeros(5, np.float32), std=np.ones(5, np.float32)).state_dict()
    with pytest.raises(CheckpointError, match="5 features per frame, but the data have 3"):
        build().upgrade_state_dict_named(dict(state), "")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"frame_stack": 0}, "--frame-stack 0"),
        ({"conv_kernel": 4}, "--conv-kernel 4"),
        ({"encoder_attention_heads": 3}, "not a multiple of 3"),
        ({"encoder_attention_heads": 0}, "--encoder-attention-heads 0"),
        ({"encoder_layers": 0}, "--encoder-layers 0"),
        ({"codes": -5}, "--codes -5"),
        ({"codes": 8, "codebooks": 0}, "--codebooks 0"),
        ({"codes": 8, "code_dim": 0}, "--code-dim 0"),
        ({"head_dim": -1}, "--head-dim -1"),
        ({"dropout": 1.5}, "--dropout 1.5"),
        ({"attention_dropout": -0.1}, "--attention-dropout -0.1"),
        ({"trainable_layers": 3}, "--trainable-layers 3"),
    ],
)
def test_impossible_sizes_are_told(options, words):
    with pytest.raises(OptionError, match=words):
        build(**options)
