"""The model equals the published one: sizes, names, logits, gradients; and what it leaves out changes nothing."""

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.original_musicbert import OriginalMusicBERT
from musicbert_plugin.codecs.octuple import FIELD_SIZES, MASK, PAD, frame
from musicbert_plugin.errors import OptionError

PUBLISHED = {  # parameters and tensors at V = 1237, 8192 positions
    "musicbert_tiny": (2_043_605, 46),
    "musicbert_mini": (7_008_981, 78),
    "musicbert_small": (22_536_405, 78),
    "musicbert_medium": (35_145_941, 142),
    "musicbert_base": (103_286_485, 206),
    "musicbert": (103_286_485, 206),
    "musicbert_large": (331_074_773, 398),
}
LITTLE = {
    "encoder_layers": 3,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_attention_heads": 2,
    "max_positions": 512,
}
HEADLINE = (3, 16, 24, 2)
EXACT = {"atol": 1e-10, "rtol": 0}


@pytest.fixture(scope="module")
def dictionary(registered):
    from musicbert_plugin.tasks.octuple_task import octuple_dictionary

    return octuple_dictionary()


@pytest.fixture
def build(dictionary):
    def build(arch="musicbert", heads=None, per_note=False, **options):
        from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

        args = Namespace(**options)
        ARCH_CONFIG_REGISTRY[arch](args)
        task = SimpleNamespace(
            source_dictionary=dictionary,
            cfg=SimpleNamespace(tokens_per_sample=8192),
            head_sizes=heads,
            per_note=per_note,
        )
        return ARCH_MODEL_REGISTRY[arch].build_model(args, task)

    return build


@pytest.fixture
def pair(build):
    """The plugin's model and the reference, in float64, with the same random weights and no dropout."""
    torch.manual_seed(0)
    reference = OriginalMusicBERT(*HEADLINE, max_positions=512).double().randomize(0.1, 0.1)
    model = build(**LITTLE, dropout=0.0, attention_dropout=0.0).double()
    model.load_state_dict(reference.published_state())
    return model, reference


def music(*lengths, seed=0, noise=True):
    """Rows of random octuples in their frames, padded; some masked and some replaced by any word."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        octuples = np.stack([rng.integers(0, size, length - 2) for size in FIELD_SIZES], 1)
        row = frame(octuples).astype(np.int64)
        if noise:
            inner = row[8:-8]
            draw = rng.random(inner.shape)
            inner[draw < 0.03] = rng.integers(4, MASK, (draw < 0.03).sum())
            inner[draw > 0.85] = MASK
        rows.append(torch.from_numpy(row))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def some_masked(tokens, seed=0, share=0.1):
    generator = torch.Generator().manual_seed(seed)
    exists = (tokens[:, ::8] != PAD).repeat_interleave(8, 1)
    return (torch.rand(tokens.shape, generator=generator) < share) & exists


# ----------------------------------------------------------------------------------------------- sizes, names, counts


@pytest.mark.parametrize("arch", PUBLISHED)
def test_every_size_has_the_published_number_of_parameters(build, arch):
    with torch.device("meta"):
        model = build(arch)
    assert (sum(p.numel() for p in model.parameters()), len(list(model.parameters()))) == PUBLISHED[arch]
    assert len(model.state_dict()) == PUBLISHED[arch][1], "nothing is saved but parameters"


def test_names_and_shapes_are_the_published_ones(build):
    with torch.device("meta"):
        model, reference = build("musicbert_small"), OriginalMusicBERT(4, 512, 2048, 8)
    ours = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    assert ours == {name: tuple(p.shape) for name, p in reference.published_state().items()}


def test_a_preset_fills_only_what_is_absent(build):
    assert len(build("musicbert_small", encoder_embed_dim=64, encoder_layers=1).encoder.sentence_encoder.layers) == 1


def test_weights_start_as_in_bert(build):
    torch.manual_seed(0)
    model = build("musicbert_tiny")
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.dim() == 2:
            assert tensor.std().item() == pytest.approx(0.02, rel=0.05), name
        else:
            assert torch.equal(tensor, torch.full_like(tensor, "norm.weight" in name)), name
    for name in ("sentence_encoder.embed_tokens", "sentence_encoder.embed_positions", "lm_head"):
        assert not state[f"encoder.{name}.weight"][PAD].any()


def test_the_head_is_not_tied_to_the_embedding(build):
    model = build(**LITTLE)
    assert not torch.equal(model.encoder.lm_head.weight, model.encoder.sentence_encoder.embed_tokens.weight)


# -------------------------------------------------------------------------------------------------- equal to published


@pytest.mark.parametrize("lengths", [(9, 9), (9, 5, 3), (300, 280)])
def test_logits_and_features_are_the_published_models(pair, lengths):
    """Short rows embed directly, long ones through the folded table; padded rows compute nothing for padding."""
    model, reference = pair
    model.eval()
    tokens = music(*lengths)
    exists = (tokens[:, ::8] != PAD).repeat_interleave(8, 1)
    assert torch.allclose(model(tokens)[0][exists], reference(tokens)[exists], **EXACT)
    features = model(tokens, features_only=True)[0]
    assert torch.allclose(features[exists], reference(tokens, features_only=True)[exists], **EXACT)
    masked = some_masked(tokens)
    for hiddens in (False, True):
        logits = model(tokens, masked_tokens=masked, return_all_hiddens=hiddens)[0]
        assert torch.allclose(logits, reference(tokens, masked), **EXACT)


def test_float32_stays_within_1e5(pair):
    model, reference = pair
    tokens = music(300, 280)
    masked = some_masked(tokens)
    expected = reference(tokens, masked)
    assert (model.float()(tokens, masked_tokens=masked)[0] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("lengths", [(7, 5), (260, 220)])
def test_every_gradient_is_the_published_models(pair, lengths):
    model, reference = pair
    tokens = music(*lengths)
    masked = some_masked(tokens)
    target = torch.randint(4, MASK, (int(masked.sum()),))
    F.cross_entropy(model(tokens, masked_tokens=masked)[0], target, reduction="sum").backward()
    F.cross_entropy(reference(tokens, masked), target, reduction="sum").backward()
    ours = dict(model.named_parameters())
    for name, parameter in reference.named().items():
        assert torch.allclose(ours[name].grad, parameter.grad, atol=1e-8), name


def test_a_padded_bar_slot_inside_a_row_hides_the_octuple_as_in_the_original(pair):
    model, reference = pair
    tokens = music(9)
    tokens[0, 32] = PAD
    exists = (tokens[:, ::8] != PAD).repeat_interleave(8, 1)
    assert torch.allclose(model(tokens)[0][exists], reference(tokens)[exists], **EXACT)
    masked = torch.zeros_like(tokens, dtype=torch.bool)
    masked[0, [33, 40]] = True
    logits = model(tokens, masked_tokens=masked)[0]
    assert torch.allclose(logits[1:], reference(tokens, masked)[1:], **EXACT)
    assert torch.allclose(logits, model(tokens)[0][masked], **EXACT), "its masked fields keep their place"


def test_no_masked_token_gives_no_logits_and_no_gradient(pair):
    model, _ = pair
    tokens = music(6)
    logits = model.train()(tokens, masked_tokens=torch.zeros_like(tokens, dtype=torch.bool))[0]
    assert logits.shape == (0, MASK + 1)
    logits.sum().backward()


# -------------------------------------------------------------------------------------------------------------- packing


@pytest.mark.parametrize("lengths", [((5, 4), (3, 6, 2)), ((150, 140), (120, 90, 100))])
def test_a_packed_row_gives_each_piece_the_logits_it_has_alone(build, lengths):
    """In float32, to 1e-5, with positions that begin anew; whatever stands beside the piece."""
    torch.manual_seed(0)
    model = build(**LITTLE).eval()
    pieces = [[music(n, seed=10 * r + i)[0] for i, n in enumerate(row)] for r, row in enumerate(lengths)]
    packed = torch.nn.utils.rnn.pad_sequence([torch.cat(row) for row in pieces], batch_first=True, padding_value=PAD)
    segments = torch.tensor([[*row, *[0] * (3 - len(row))] for row in lengths])
    logits = model(packed, segment_lengths=segments)[0]
    masked = some_masked(packed)
    assert torch.allclose(model(packed, masked_tokens=masked, segment_lengths=segments)[0], logits[masked], atol=1e-5)
    for row, row_logits in zip(pieces, logits, strict=True):
        alone = torch.cat([model(piece[None])[0][0] for piece in row])
        assert (row_logits[: len(alone)] - alone).abs().max() < 1e-5


def test_packed_and_separate_rows_give_the_same_gradients(pair):
    model, _ = pair
    a, b = music(6, seed=1), music(4, seed=2)
    weight = torch.randn(80, MASK + 1, dtype=torch.float64)
    together = model(torch.cat([a, b], 1), segment_lengths=torch.tensor([[6, 4]]))[0][0]
    alone = torch.cat([model(a)[0][0], model(b)[0][0]])
    parameters = list(model.parameters())
    for x, y in zip(
        torch.autograd.grad((together * weight).sum(), parameters),
        torch.autograd.grad((alone * weight).sum(), parameters),
        strict=True,
    ):
        assert torch.allclose(x, y, atol=1e-8)


def test_pieces_without_a_masked_field_are_context_for_nobody(pair):
    """Nothing is masked in the first piece and the last: the logits of the others are as ever, in training too."""
    model, _ = pair
    tokens = torch.cat([music(5, seed=1), music(4, seed=2), music(6, seed=3), music(3, seed=4)], 1)
    segments = torch.tensor([[5, 4, 6, 3]])
    masked = some_masked(tokens, share=0.3)
    masked[:, : 5 * 8] = False
    masked[:, 15 * 8 :] = False
    expected = model(tokens, segment_lengths=segments)[0][masked]
    logits = model(tokens, masked_tokens=masked, segment_lengths=segments)[0]
    assert torch.allclose(logits, expected, **EXACT)
    logits.sum().backward()


def test_segments_that_do_not_fill_the_row_are_refused(build):
    with pytest.raises(ValueError, match="7 octuples, but 6"):
        build(**LITTLE)(music(6), segment_lengths=torch.tensor([[4, 3]]))


def test_a_piece_longer_than_the_position_table_is_refused(build):
    with pytest.raises(ValueError, match="longer than the model's 4 positions"):
        build(**{**LITTLE, "max_positions": 4})(music(6))


# ----------------------------------------------------------------------------------------------- states, heads, probs


def test_all_states_are_reachable_and_the_last_makes_the_features(build):
    model = build(**LITTLE).eval()
    tokens = music(6, 4)
    features, extra = model(tokens, features_only=True, return_all_hiddens=True)
    assert [tuple(state.shape) for state in extra["inner_states"]] == [(2, 6, 16)] * 4
    assert torch.equal(extra["inner_states"][-1], extra["octuple_states"])
    assert not extra["octuple_states"][1, 4:].any(), "padding has zero states"
    upsampled = model.encoder.sentence_encoder.upsampling(extra["octuple_states"])
    assert torch.equal(features, upsampled.view(2, 48, 16))


def test_a_classification_head_sees_sub_token_0_of_the_first_octuple(pair):
    model, reference = pair
    model.register_classification_head("genre", num_classes=13)
    model.double().eval()
    tokens = music(7, 5)
    logits, _ = model(tokens, classification_head_name="genre", features_only=True, src_lengths=torch.tensor([56, 40]))
    expected = model.classification_heads["genre"](reference(tokens, features_only=True))
    assert logits.shape == (2, 13)
    assert torch.allclose(logits, expected, **EXACT)
    with_states, extra = model(tokens, classification_head_name="genre", return_all_hiddens=True)
    assert torch.allclose(with_states, expected, **EXACT) and len(extra["inner_states"]) == 4


def test_probabilities_are_normalised_in_float32(build):
    model = build(**LITTLE).bfloat16()
    output = model(music(4))
    probabilities = model.get_normalized_probs(output, log_probs=False)
    assert probabilities.dtype == torch.float32
    assert torch.allclose(probabilities.sum(-1), torch.ones(1, 32), atol=1e-5)
    assert torch.allclose(model.get_normalized_probs(output, log_probs=True).exp(), probabilities, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- training


def loss_of(model, tokens, masked):
    target = (torch.arange(int(masked.sum())) * 7) % MASK
    return F.cross_entropy(model(tokens, masked_tokens=masked)[0].float(), target)


def test_recomputed_activations_change_neither_loss_nor_gradients(build):
    results = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = build(**LITTLE, checkpoint_activations=checkpointed).train()
        tokens = music(9, 7)
        loss = loss_of(model, tokens, some_masked(tokens))
        loss.backward()
        results.append((loss.detach(), {name: p.grad for name, p in model.named_parameters()}))
    assert torch.equal(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        assert torch.allclose(gradient, results[1][1][name], atol=1e-7), name


def test_frozen_layers_get_no_gradient_and_drop_nothing(build):
    torch.manual_seed(0)
    model = build(**LITTLE, freeze_encoder_layers=2, dropout=0.5, attention_dropout=0.5).train()
    tokens = music(6, 5)
    states = [model(tokens, return_all_hiddens=True)[1]["inner_states"] for _ in range(2)]
    same = [torch.equal(a, b) for a, b in zip(*states, strict=True)]
    assert same == [True, True, True, False]
    loss_of(model, tokens, some_masked(tokens)).backward()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    start = "encoder.sentence_encoder."
    expected = ("embed_tokens", "embed_positions", "emb_layer_norm", "downsampling", "layers.0.", "layers.1.")
    assert frozen == {name for name, _ in model.named_parameters() if name.removeprefix(start).startswith(expected)}
    assert all(p.grad is not None for name, p in model.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("layers", [-1, 4])
def test_freezing_layers_that_do_not_exist_is_refused(build, layers):
    with pytest.raises(OptionError, match="0 to 3 is accepted"):
        build(**LITTLE, freeze_encoder_layers=layers)


def test_layers_are_dropped_in_training_only(build):
    model = build(**LITTLE, encoder_layerdrop=1.0, dropout=0.0)
    tokens = music(6, 5)
    masked = some_masked(tokens)
    states = model.train()(tokens, return_all_hiddens=True)[1]["inner_states"]
    assert len(states) == 1, "every layer was left out"
    expected = model(tokens)[0][masked]
    assert torch.allclose(model(tokens, masked_tokens=masked)[0], expected, atol=1e-6)
    assert len(model.eval()(tokens, return_all_hiddens=True)[1]["inner_states"]) == 4


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "autocast"])
def test_half_precision_trains(build, precision):
    """A few steps on one batch bring the loss down, with dropout on, packed pieces and the folded table."""
    torch.manual_seed(0)
    model = build(**LITTLE).train()
    if precision != "autocast":
        model.to(getattr(torch, precision))
    tokens = torch.cat([music(150, seed=1), music(140, seed=2)], 1)
    masked = some_masked(tokens)
    segments = torch.tensor([[150, 140]])
    masters = [p.detach().float().clone().requires_grad_() for p in model.parameters()]
    optimizer = torch.optim.Adam(masters, lr=0.01)
    target = tokens[masked]
    losses = []
    for _ in range(6):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            logits = model(tokens, masked_tokens=masked, segment_lengths=segments)[0]
        loss = F.cross_entropy(logits.float(), target)
        model.zero_grad()
        (loss * 128).backward()
        for master, parameter in zip(masters, model.parameters(), strict=True):
            master.grad = parameter.grad.float() / 128
        optimizer.step()
        with torch.no_grad():
            for master, parameter in zip(masters, model.parameters(), strict=True):
                parameter.copy_(master)
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.5


def test_compiled_layers_keep_names(build):
    """Only the names: compiling itself is for a GPU and its own compiler."""
    model = build(**LITTLE, compile_layers=True)
    assert set(model.state_dict()) == set(build(**LITTLE).state_dict())


# ---------------------------------------------------------------------------------------------------------- operations


def test_a_training_step_of_base_takes_0_69_gflop_per_note(build):
    with torch.device("meta"):
        model = build("musicbert_base")
    flops = 3 * model.forward_flops((1, 1024), round(0.15 * 8 * 1024)) / 1024
    assert flops == pytest.approx(0.69e9, rel=0.01)


def test_operations_are_those_that_torch_counts_in_the_published_arrangement(build):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model, reference = build(**LITTLE), OriginalMusicBERT(*HEADLINE, max_positions=512).randomize()
    tokens = music(30, 30)
    masked = some_masked(tokens)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        reference(tokens, masked)
    n = int(masked.sum())
    assert model.forward_flops((2, 30), n) == counter.get_total_flops()
    assert model.forward_flops(torch.tensor([[30, 0], [30, 0]]), n) == counter.get_total_flops()
    assert model.forward_flops(torch.tensor([20, 10, 30]), n) < counter.get_total_flops()


# ------------------------------------------------------------------------------------------------------- state dicts


def test_names_of_newer_fairseq_versions_load_and_ours_are_saved(pair):
    model, reference = pair
    state = {
        name.replace("emb_layer_norm", "layernorm_embedding").replace("encoder.", "decoder.", 1): tensor
        for name, tensor in reference.published_state().items()
    }
    state["encoder.sentence_encoder.version"] = torch.tensor([3.0])
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_state_dict(state, strict=True)
    saved = model.state_dict()
    assert saved.keys() == reference.published_state().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in reference.published_state().items())


def test_heads_of_a_file_are_left_out_unless_asked_for(build, caplog):
    donor = build(**LITTLE)
    donor.register_classification_head("next", num_classes=2, inner_dim=5)
    model = build(**LITTLE)
    model.load_state_dict(donor.state_dict(), strict=True)
    assert "next" not in model.classification_heads and "'next'" in caplog.text
    model = build(**LITTLE, load_checkpoint_heads=True)
    model.load_state_dict(donor.state_dict(), strict=True)
    assert torch.equal(
        model.classification_heads["next"].out_proj.weight, donor.classification_heads["next"].out_proj.weight
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_of_the_same_shape_is_loaded_and_another_keeps_its_weights(build, classes):
    donor, model = build(**LITTLE), build(**LITTLE)
    donor.register_classification_head("genre", num_classes=2)
    model.register_classification_head("genre", num_classes=classes)
    before = model.classification_heads["genre"].out_proj.weight.clone()
    model.load_state_dict(donor.state_dict(), strict=True)
    expected = donor.classification_heads["genre"].out_proj.weight if classes == 2 else before
    assert torch.equal(model.classification_heads["genre"].out_proj.weight, expected)


def test_a_head_that_only_the_model_has_survives_loading(build):
    donor, model = build(**LITTLE), build(**LITTLE)
    model.register_classification_head("style", num_classes=25)
    model.load_state_dict(donor.state_dict(), strict=True)
    assert model.classification_heads["style"].out_proj.out_features == 25


# ---------------------------------------------------------------------------------------------------------- label heads


HEADS = {"composer": 4, "mood": 2}
POOLED = ["first", "mean", "attention", "mean+max", "none"]


def labelled(build, pooling, **options):
    torch.manual_seed(0)
    return build(**LITTLE, heads=HEADS, per_note=pooling == "none", pooling=pooling, pooler_dropout=0.0, **options)


@pytest.mark.parametrize(
    "pooling, mix", [*((pooling, "last") for pooling in POOLED), ("none", "learned"), ("mean", "1")]
)
def test_label_logits_of_a_piece_are_the_same_alone_padded_and_packed(build, pooling, mix):
    model = labelled(build, pooling, layer_mix=mix).eval()
    pieces = [[music(n, seed=10 * row + n)[0] for n in lengths] for row, lengths in enumerate([(9, 3, 14), (20, 5)])]
    packed = torch.nn.utils.rnn.pad_sequence([torch.cat(row) for row in pieces], batch_first=True, padding_value=PAD)
    together = model(packed, segment_lengths=torch.tensor([[9, 3, 14], [20, 5, 0]]), labels=True)[0]
    every = [piece for row in pieces for piece in row]
    padded = torch.nn.utils.rnn.pad_sequence(every, batch_first=True, padding_value=PAD)
    separate = model(padded, labels=True)[0]
    for name, size in HEADS.items():
        alone = torch.cat([model(piece[None], labels=True)[0][name] for piece in every])
        assert alone.shape == (41 if pooling == "none" else 5, size)
        assert (together[name] - alone).abs().max() < 1e-5
        assert (separate[name] - alone).abs().max() < 1e-5


def test_pooling_is_over_the_states_of_notes(build):
    model = labelled(build, "mean").eval()
    tokens = music(9)
    states = model(tokens, return_all_hiddens=True)[1]["octuple_states"][0, 1:-1]
    expected = model.label_heads.heads["mood"](states.mean(0))
    torch.testing.assert_close(model(tokens, labels=True)[0]["mood"][0], expected)
    per_note = labelled(build, "none").eval()
    states = per_note(tokens, return_all_hiddens=True)[1]["octuple_states"][0, 1:-1]
    torch.testing.assert_close(per_note(tokens, labels=True)[0]["mood"], per_note.label_heads.heads["mood"](states))


def test_the_pooling_first_is_the_published_head_under_its_published_name(build):
    model = labelled(build, "first").eval()
    tokens = music(9, 4)
    torch.testing.assert_close(
        model(tokens, labels=True)[0]["mood"], model(tokens, classification_head_name="mood")[0], atol=1e-6, rtol=0
    )
    assert "classification_heads.mood.out_proj.weight" in model.state_dict()


@pytest.mark.parametrize("pooling", POOLED)
def test_what_the_loss_does_not_use_is_frozen_and_the_rest_has_gradients(build, pooling):
    model = labelled(build, pooling).train()
    sum(logits.sum() for logits in model(music(9, 6), labels=True)[0].values()).backward()
    frozen = {
        name.split(".")[2 if "upsampling" in name else 1] for name, p in model.named_parameters() if not p.requires_grad
    }
    assert frozen == ({"lm_head"} if pooling == "first" else {"lm_head", "upsampling"})
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "autocast"])
@pytest.mark.parametrize("pooling", ["first", "attention", "mean+max", "none"])
def test_heads_compute_in_half_precision(build, pooling, precision):
    model, tokens = labelled(build, pooling, dropout=0.0, attention_dropout=0.0), music(9, 6)
    exact = model(tokens, labels=True)[0]
    if precision != "autocast":
        model.to(getattr(torch, precision))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        half = model(tokens, labels=True)[0]
    for name, logits in half.items():
        torch.testing.assert_close(logits.float(), exact[name], atol=0.05, rtol=0.05)
    sum(logits.float().sum() for logits in half.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("trainable", [0, 1, 3])
def test_trainable_layers_are_counted_from_the_end(build, trainable):
    model = labelled(build, "mean", trainable_layers=trainable)
    start = "encoder.sentence_encoder."
    moving = {name for name, p in model.named_parameters() if p.requires_grad}
    expected = ("label_heads.", *(f"{start}layers.{layer}." for layer in range(3 - trainable, 3)))
    assert moving == {name for name, _ in model.named_parameters() if name.startswith(expected)}
    same = {name for name, p in labelled(build, "mean", freeze_encoder_layers=3 - trainable).named_parameters()
            if p.requires_grad}  # fmt: skip
    assert trainable == 3 or same == moving


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trainable_layers": 4}, "--trainable-layers 4: the model has 3 layers"),
        ({"trainable_layers": 1, "freeze_encoder_layers": 1}, "leaves 2, but --trainable-layers is 1"),
        ({"pooling": "none"}, "--pooling is none, but for labels of windows: first, mean"),
        ({"pooling": "first", "layer_mix": "learned"}, "--layer-mix is learned, but --pooling first"),
    ],
)
def test_options_of_heads_that_contradict_are_refused(build, options, said):
    with pytest.raises(OptionError, match=said):
        build(**LITTLE, heads=HEADS, **options)


@pytest.mark.parametrize("pooling", ["first", "attention"])
def test_heads_are_restored_or_fresh_and_both_are_told(build, pooling, caplog):
    caplog.set_level("INFO")
    donor = labelled(build, pooling)
    torch.manual_seed(5)
    options = {**LITTLE, "pooling": pooling, "heads": {"composer": 4, "mood": 3}}
    model = build(**options)
    mood = {name: p.clone() for name, p in model.named_parameters() if "mood" in name}
    model.load_state_dict(donor.state_dict(), strict=True)
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in donor.state_dict().items() if "mood" not in name)
    assert all(torch.equal(state[name], value) for name, value in mood.items() if value.shape[0] == 3)
    assert "heads from the checkpoint: composer; heads that start fresh: mood" in caplog.text
    build(**LITTLE).load_state_dict(donor.state_dict(), strict=True)  # pre-training goes on from a fine-tuned file


# -------------------------------------------------------------------------------------------------- low-rank adapters


def test_only_adapters_and_heads_are_trained_and_every_one_gets_a_gradient(build):
    model = labelled(build, "mean", adapter_rank=2, dropout=0.0, attention_dropout=0.0)
    plain, tokens = labelled(build, "mean", dropout=0.0, attention_dropout=0.0), music(9, 6)
    plain.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(
        model(tokens, labels=True)[0], plain(tokens, labels=True)[0], msg="they begin at nothing"
    )
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    adapters = {name: p for name, p in trained.items() if "parametrizations" in name}
    assert len(adapters) == 3 * 6 * 2 and all(name.startswith("label_heads.") for name in set(trained) - set(adapters))
    optimizer = torch.optim.Adam(trained.values(), lr=0.1)
    for _ in range(2):  # in the first step, A has no gradient since B is zero
        optimizer.zero_grad()
        sum((logits**2).sum() for logits in model(tokens, labels=True)[0].values()).backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in adapters.values())


def test_merging_adapters_changes_no_logit_in_a_model_or_in_a_file(build):
    from musicbert_plugin.modules.low_rank import merge_adapters

    model, tokens = labelled(build, "attention", adapter_rank=2).eval(), music(9, 6)
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter, std=0.1)
    expected, state = model(tokens, labels=True)[0], model.state_dict()
    plain, again, other = (labelled(build, "attention", adapter_rank=rank).eval() for rank in (0, 2, 3))
    for fresh in (plain, again, other):
        fresh.load_state_dict(dict(state), strict=True)
        torch.testing.assert_close(fresh(tokens, labels=True)[0], expected)
    merge_adapters(model)
    torch.testing.assert_close(model(tokens, labels=True)[0], expected)
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adapter_rank": -1}, "--adapter-rank is -1"),
        ({"adapter_rank": 2, "trainable_layers": 1}, "but 1 layers are to"),
    ],
)
def test_adapters_that_make_no_sense_are_refused(build, options, said):
    with pytest.raises(OptionError, match=said):
        labelled(build, "mean", **options)
