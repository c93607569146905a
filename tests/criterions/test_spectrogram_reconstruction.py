"""The loss on masked cells and its baselines, against sums over cells."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from musicbert_plugin.errors import OptionError

pytestmark = pytest.mark.usefixtures("registered")


def make_criterion(**options):
    from musicbert_plugin.criterions.spectrogram_reconstruction import SpectrogramReconstructionCriterion

    defaults = {"reconstruction_loss": "huber", "huber_delta": 1.0, "code_weight": 1.0}
    return SpectrogramReconstructionCriterion(SimpleNamespace(), **(defaults | options))


def make_model(**options):
    from musicbert_plugin.models.musicoder import MusiCoderConfig, MusiCoderModel

    torch.manual_seed(0)
    cfg = MusiCoderConfig(
        encoder_layers=1,
        encoder_embed_dim=8,
        encoder_ffn_embed_dim=16,
        encoder_attention_heads=2,
        conv_kernel=5,
        dropout=0.0,
        attention_dropout=0.0,
        **options,
    )
    return MusiCoderModel.build_model(
        cfg, SimpleNamespace(feature_mean=np.full(6, 0.3), feature_std=np.full(6, 2.0))
    ).eval()


def make_batch(rows, seed=0, frames=(30, 18, 25, 12)):
    """A collated batch of the clips numbered ``rows``, each masked by itself."""
    from musicbert_plugin.data.spectrogram_dataset import MaskedSpectrograms
    from musicbert_plugin.data.spectrogram_masking import SpectrogramMasking
    from musicbert_plugin.data.spectrogram_windows import SpectrogramWindows

    rng = np.random.default_rng(seed)
    clips = [rng.normal(size=(n, 6)).astype(np.float32) * 2 for n in frames]
    reader = SimpleNamespace(frames=np.array(frames), read=lambda i, a=0, b=None: clips[i][a:b].copy())
    windows = SpectrogramWindows(reader, max_frames=0, train=True, seed=3)
    data = MaskedSpectrograms(windows, SpectrogramMasking.preset("musicoder", 6))
    return data.collater([data[row] for row in rows])


@pytest.mark.parametrize("kind, delta", [("huber", 1.0), ("huber", 0.3), ("l1", 1.0), ("l2", 1.0)])
def test_defect_2_the_loss_is_over_masked_cells_alone_whatever_the_batch(kind, delta):
    criterion, model = make_criterion(reconstruction_loss=kind, huber_delta=delta), make_model()
    batch = make_batch([0, 1, 2])
    loss, sample_size, _ = criterion(model, batch)
    out = model(**batch["net_input"])[0].detach().double()
    target = (batch["target"].double() - 0.3) / 2
    total = 0.0
    for cell in (batch["target_mask"] > 0).nonzero().tolist():
        error = abs(float(out[tuple(cell)] - target[tuple(cell)]))
        total += {
            "l1": error,
            "l2": error**2 / 2,
            "huber": error**2 / 2 if error <= delta else delta * (error - delta / 2),
        }[kind]
    assert sample_size == int((batch["target_mask"] > 0).sum())
    assert float(loss) == pytest.approx(total, rel=1e-5)
    changed = {**batch, "target": torch.where(batch["target_mask"] > 0, batch["target"], 99.0)}
    assert float(criterion(model, changed)[0]) == float(loss)


def test_defect_18_any_split_into_batches_gives_the_same_gradient():
    """The original stepped on its first micro-batch alone and carried the rest over."""
    criterion, model = make_criterion(), make_model(codes=7, frame_stack=2)
    gradients, sizes = [], []
    for batches in ([[0, 1, 2, 3]], [[3, 0], [2], [1]]):
        model.zero_grad()
        size = 0
        for rows in batches:
            loss, sample_size, _ = criterion(model, make_batch(rows))
            loss.backward()
            size += sample_size
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        sizes.append(size)
    assert sizes[0] == sizes[1]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_baselines_see_only_what_is_not_masked_and_errors_are_told_per_region():
    from musicbert_plugin.criterions.spectrogram_reconstruction import TARGET_KINDS, error_sums
    from musicbert_plugin.modules.interpolation import channel_means, interpolate_gaps

    torch.manual_seed(1)
    target, estimate = torch.randn(2, 20, 6), torch.randn(2, 20, 6)
    target_mask = torch.zeros(2, 20, 6, dtype=torch.uint8)
    target_mask[0, 3:8] |= 1
    target_mask[0, :, 4] |= 2
    target_mask[1, 5:7, 2:4] |= 4
    lengths = (20, 14)
    visible = target_mask == 0
    visible[1, 14:] = False
    found = error_sums(estimate, target, target_mask, lengths)
    candidates = {"mse": estimate, "mean": channel_means(target, visible).expand_as(target)}
    candidates["interp"] = interpolate_gaps(target, visible)
    for place, bits in enumerate(TARGET_KINDS.values()):
        where = target_mask == bits if bits else target_mask > 0
        assert found[0, place] == where.sum()
        for row, guess in enumerate(candidates.values(), start=1):
            assert float(found[row, place]) == pytest.approx(float((guess - target)[where].square().sum()), rel=1e-5)
    hidden = error_sums(estimate, torch.where(target_mask > 0, target, target), target_mask, lengths)
    torch.testing.assert_close(hidden, found)


def test_means_and_ratios_add_up_over_batches_and_workers():
    from fairseq.logging import metrics

    from musicbert_plugin.criterions.spectrogram_reconstruction import SpectrogramReconstructionCriterion

    criterion, model = make_criterion(), make_model()
    with metrics.aggregate(new_root=True) as one:
        outputs = [criterion(model, make_batch(rows))[2] for rows in ([0, 1], [2, 3])]
        SpectrogramReconstructionCriterion.reduce_metrics(outputs)
    with metrics.aggregate(new_root=True) as other:
        SpectrogramReconstructionCriterion.reduce_metrics([criterion(model, make_batch([0, 1, 2, 3]))[2]])
    a, b = one.get_smoothed_values(), other.get_smoothed_values()
    for key in ("loss", "mse", "mse_frames", "mean", "interp_channels", "vs_mean", "vs_interp_frames"):
        assert a[key] == pytest.approx(b[key], abs=2e-4), key
    assert a["vs_interp"] == pytest.approx(a["mse"] / a["interp"], rel=1e-3)


@pytest.mark.parametrize("options", [{"huber_delta": 0.0}, {"huber_delta": -1.0}, {"code_weight": -1.0}])
def test_a_loss_that_could_fall_without_end_or_be_0_everywhere_is_refused(options):
    with pytest.raises(OptionError, match="is accepted"):
        make_criterion(**options)


def test_codes_are_predicted_where_frames_are_masked():
    criterion, model = make_criterion(reconstruction_loss="l1"), make_model(codes=9, codebooks=2, frame_stack=2)
    batch = make_batch([0, 1])
    plain = float(make_criterion(reconstruction_loss="l1", code_weight=0.0)(model, batch)[0])
    loss, _, output = criterion(model, batch)
    logits = model(**batch["net_input"])[1]["code_logits"]
    codes = model.code_targets(batch["target"], batch["net_input"]["lengths"])
    expected, positions = 0.0, 0
    for row, length in enumerate(batch["net_input"]["lengths"]):
        for position in range(-(-length // 2)):
            frames = batch["target_mask"][row, 2 * position : min(2 * position + 2, length)]
            if (frames & 1).any():
                positions += 1
                for book in range(2):
                    log_probability = logits[row, position, book].log_softmax(-1)
                    expected -= float(log_probability[codes[row, position, book]]) / 2
    assert output["code_sums"][0] == positions
    assert float(loss) - plain == pytest.approx(expected * 6 * 2, rel=1e-4)


def test_a_batch_without_targets_is_worth_nothing_and_no_nan():
    criterion, model = make_criterion(), make_model(codes=4)
    batch = make_batch([0, 1])
    batch["target_mask"].zero_()
    batch["n_targets"] = 0
    loss, sample_size, output = criterion(model, batch)
    assert float(loss) == 0 and sample_size == 0
    criterion.reduce_metrics([output])
