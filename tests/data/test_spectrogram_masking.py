"""Masks of spectrograms: laws of spans, budgets, no preference of place, what the model sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicbert_plugin.data.spectrogram_masking import (
    CHANNELS,
    FRAMES,
    PATCHES,
    PRESETS,
    Corruption,
    SpanDistribution,
    SpectrogramMasking,
    parse_corruption,
    place_spans,
)
from musicbert_plugin.errors import OptionError

FRAMES_ONLY = SpectrogramMasking(frames=1.0, channels=0.0, patches=0.0)


def clip_of(frames, channels=6, seed=0):
    """A clip in which every cell is different, so that it can be told where a value came from."""
    return np.arange(1, frames * channels + 1, dtype=np.float32).reshape(frames, channels)


def spans_of(rows):
    """Lengths of the runs of True in a bool [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows.astype(int), [0]])))
    return edges[1::2] - edges[::2]


# ------------------------------------------------------------------------------------------------------- span lengths


def test_truncated_and_clamped_geometric_laws_are_their_formulas():
    p, lengths = 0.2, np.arange(2, 8)
    weights = p * (1 - p) ** (lengths - 1)
    np.testing.assert_allclose(SpanDistribution("geometric", p, 2, 7).probabilities, weights / weights.sum())
    everything = np.arange(1, 500)
    moved = np.clip(everything, 2, 7)
    weights = p * (1 - p) ** (everything - 1.0)
    expected = np.array([weights[moved == length].sum() for length in lengths])
    np.testing.assert_allclose(SpanDistribution("clamped", p, 2, 7).probabilities, expected / expected.sum(), rtol=1e-9)


def test_uniform_and_fixed_laws():
    assert SpanDistribution("uniform", 1, 3, 5).probabilities.tolist() == [1 / 3] * 3
    assert SpanDistribution("fixed", 1, 2, 10).lengths.tolist() == [10]


def test_drawn_lengths_follow_the_law():
    law = SpanDistribution()
    drawn = np.bincount(law.draw(200_000, np.random.default_rng(0)), minlength=44)[2:] / 200_000
    np.testing.assert_allclose(drawn, law.probabilities, atol=0.004)


def test_defect_4_lengths_are_truncated_not_clamped_and_masks_are_not_static():
    paper = SpectrogramMasking.preset("musicoder").spans
    assert (paper.kind, paper.shortest, paper.longest) == ("geometric", 2, 7)
    clip = clip_of(100)
    regions = [FRAMES_ONLY(clip, np.random.default_rng(seed)).target_mask for seed in range(2)]
    assert (regions[0] != regions[1]).any()


# ------------------------------------------------------------------------------------------------------------- frames


@given(st.integers(2, 400), st.integers(0, 10_000))
def test_the_budget_is_of_distinct_frames(frames, seed):
    masked = FRAMES_ONLY(clip_of(frames, 2), np.random.default_rng(seed)).target_mask[:, 0] > 0
    budget = max(int(0.15 * frames), min(2, frames - 1))
    assert budget - 1 <= masked.sum() <= budget  # a rest of one frame is shorter than any span


@given(st.integers(30, 300), st.integers(0, 10_000))
def test_spans_lie_within_the_law_but_for_the_cut_one(frames, seed):
    masking = SpectrogramMasking(1.0, 0.0, 0.0, spans=SpanDistribution("fixed", 1, 4, 4))
    spans = spans_of(masking(clip_of(frames, 2), np.random.default_rng(seed)).target_mask[:, 0] > 0)
    assert (spans[spans != int(0.15 * frames) % 4] == 4).all() and (spans != 4).sum() <= 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 40), st.integers(0, 1000))
def test_spans_do_not_overlap_and_stay_inside(lengths, free, seed):
    lengths = np.array(lengths)
    frames = int(lengths.sum()) + free
    starts = place_spans(frames, lengths, np.random.default_rng(seed))
    gaps = starts[1:] - (starts + lengths)[:-1]
    assert starts[0] >= 0 and starts[-1] + lengths[-1] <= frames
    assert (gaps >= (1 if free >= len(lengths) - 1 else 0)).all()


def test_every_arrangement_of_two_spans_is_equally_likely():
    rng = np.random.default_rng(0)
    found = [tuple(place_spans(9, np.array([2, 3]), rng)) for _ in range(9000)]
    arrangements = [(a, b) for a in range(9) for b in range(9) if a + 2 < b and b + 3 <= 9]
    counts = np.array([found.count(arrangement) for arrangement in arrangements])
    assert counts.sum() == 9000
    np.testing.assert_allclose(counts / 9000, 1 / len(arrangements), atol=0.015)


def test_defect_3_spans_set_to_zero_and_kept_ones_count_and_are_labelled_like_replaced_ones():
    altered, labelled = [], []
    masking = SpectrogramMasking(1.0, 0.0, 0.0, spans=SpanDistribution("geometric", 0.2, 2, 7))
    for seed in range(300):
        clip = clip_of(200, 1)
        masked = masking(clip, np.random.default_rng(seed))
        altered.append((masked.input_mask | (masked.source != clip)).mean())
        labelled.append((masked.target_mask > 0).mean())
    assert 0.145 <= np.mean(labelled) <= 0.15
    assert abs(np.mean(altered) - 0.9 * np.mean(labelled)) < 0.006  # but for the tenth that is kept
    assert all(a <= b for a, b in zip(altered, labelled, strict=True))


def test_shares_of_zero_other_and_kept_spans():
    masking = SpectrogramMasking(1.0, 0.0, 0.0, spans=SpanDistribution("fixed", 1, 3, 3))
    kinds = []
    for seed in range(400):
        clip = clip_of(200, 2)
        masked = masking(clip, np.random.default_rng(seed))
        starts = np.flatnonzero(np.diff(np.concatenate([[0], (masked.target_mask[:, 0] > 0).astype(int)])) == 1)
        for start in starts:
            kinds.append(0 if masked.input_mask[start, 0] else 2 if masked.source[start, 0] == clip[start, 0] else 1)
    np.testing.assert_allclose(np.bincount(kinds) / len(kinds), [0.7, 0.2, 0.1], atol=0.02)


def test_defect_15_a_replacement_is_one_contiguous_stretch_and_the_die_is_thrown_per_span():
    masking = SpectrogramMasking(
        1.0, 0.0, 0.0, spans=SpanDistribution("fixed", 1, 5, 5), corruption=Corruption(0.5, 0.5, 0.0)
    )
    both = 0
    for seed in range(50):
        clip = clip_of(200, 3)
        masked = masking(clip, np.random.default_rng(seed))
        replaced = (masked.source != clip).all(axis=1)
        both += bool(replaced.any() and masked.input_mask.any())
        origin = (masked.source[:, 0].astype(int) - 1) // 3  # the frame that each value came from
        edges = np.flatnonzero(np.diff(np.concatenate([[0], replaced.astype(int), [0]])))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            assert (np.diff(origin[start:stop]) == 1).all() and origin[start] != start
            assert (masked.source[start:stop] == clip[origin[start:stop]]).all()
    assert both > 40


def test_defect_8_short_clips_are_masked_too():
    for frames in range(2, 14):
        masked = FRAMES_ONLY(clip_of(frames, 3), np.random.default_rng(frames))
        assert 1 <= (masked.target_mask[:, 0] > 0).sum() < frames
    single = FRAMES_ONLY(clip_of(1, 3), np.random.default_rng(0))
    assert not single.target_mask.any()  # nothing would be left to restore it from


# ----------------------------------------------------------------------------------------------------------- channels


def test_defect_15_widths_come_before_starts_so_no_channel_is_preferred_but_by_the_edges():
    masking = SpectrogramMasking(0.0, 1.0, 0.0, channel_share=1.0)
    counts, widths = np.zeros(21), []
    for seed in range(4000):
        target_mask = masking(clip_of(2, 21), np.random.default_rng(seed)).target_mask
        assert (target_mask[0] == target_mask[1]).all() and set(np.unique(target_mask)) <= {0, CHANNELS}
        counts += target_mask[0] > 0
        widths.append((target_mask[0] > 0).sum())
    np.testing.assert_allclose(np.bincount(widths, minlength=22) / 4000, 1 / 22, atol=0.015)
    np.testing.assert_allclose(counts, counts[::-1], rtol=0.1)  # mirrored
    expected = [np.mean([np.mean([s <= c < s + w for s in range(21 - w + 1)]) for w in range(22)]) for c in range(21)]
    np.testing.assert_allclose(counts / 4000, expected, atol=0.03)


def test_channel_blocks_are_contiguous_zero_and_within_their_range():
    masking = SpectrogramMasking(0.0, 1.0, 0.0, channel_share=0.5, first_channel=4, last_channel=16)
    for seed in range(100):
        masked = masking(clip_of(3, 20), np.random.default_rng(seed))
        where = np.flatnonzero(masked.target_mask[0])
        assert len(where) <= 6 and (np.diff(where) == 1).all()
        assert not len(where) or (where[0] >= 4 and where[-1] < 16)
        assert (masked.input_mask == (masked.target_mask > 0)).all()


# ------------------------------------------------------------------------------------------------------------ patches


@pytest.mark.parametrize("frames, channels, size", [(200, 96, 8), (40, 12, 3), (5, 4, 8), (7, 3, 1)])
def test_patches_cover_their_share_of_distinct_cells(frames, channels, size):
    masking = SpectrogramMasking(0.0, 0.0, 1.0, patch_size=size)
    masked = masking(clip_of(frames, channels), np.random.default_rng(1))
    covered = (masked.target_mask > 0).sum()
    area = min(size, max(frames // 2, 1)) * min(size, channels)
    assert set(np.unique(masked.target_mask)) <= {0, PATCHES}
    assert int(0.15 * frames * channels) <= covered < int(0.15 * frames * channels) + area


def test_defect_16_any_number_of_patches_can_be_drawn():
    masking = SpectrogramMasking(0.0, 0.0, 1.0, patch_size=4, first_channel=0)
    masked = masking(clip_of(1292, 324), np.random.default_rng(0))  # 3,924 squares and more
    assert 0.15 <= (masked.target_mask > 0).mean() < 0.151


def test_a_replaced_patch_shows_the_same_channels_of_another_time():
    masking = SpectrogramMasking(0.0, 0.0, 1.0, patch_size=4, patch_share=0.02, corruption=Corruption(0.0, 1.0, 0.0))
    clip = clip_of(60, 12)
    masked = masking(clip, np.random.default_rng(3))
    frame, channel = np.nonzero(masked.target_mask)
    origin = masked.source[frame, channel].astype(int) - 1
    assert (origin % 12 == channel).all() and (origin // 12 != frame).any()
    assert not masked.input_mask.any()


# ---------------------------------------------------------------------------------------------------------- the whole


@given(st.sampled_from(PRESETS), st.integers(1, 90), st.integers(1, 30), st.integers(0, 10_000))
def test_unmasked_cells_are_as_they_were_and_every_change_is_a_target(preset, frames, channels, seed):
    clip = clip_of(frames, channels)
    before = clip.copy()
    masked = SpectrogramMasking.preset(preset, channels)(clip, np.random.default_rng(seed))
    assert (clip == before).all()
    assert (masked.source[masked.target_mask == 0] == clip[masked.target_mask == 0]).all()
    assert not masked.input_mask[masked.target_mask == 0].any()


def test_the_hidden_variant_masks_the_same_cells_and_shows_none():
    masking = SpectrogramMasking.preset("mixed")
    for seed in range(30):
        clip = clip_of(80, 20)
        hidden = masking.hidden(clip, np.random.default_rng(seed))
        shown = masking(clip, np.random.default_rng(seed))
        frames_or_channels = (shown.target_mask & PATCHES) == 0
        assert (hidden.target_mask == shown.target_mask)[frames_or_channels].all()
        assert (hidden.input_mask == (hidden.target_mask > 0)).all()


def test_presets_are_the_originals_laws():
    m3bert = SpectrogramMasking.preset("m3bert", 324)
    assert m3bert.corruption == Corruption(0.8, 0.1, 0.1) and m3bert.first_channel == 52
    assert m3bert.frames == m3bert.channels == 1 and m3bert.channel_share == 1
    assert SpectrogramMasking.preset("frames").spans == SpanDistribution("geometric", 0.1, 2, 43)
    clip = clip_of(400, 324)
    target_mask = m3bert(clip, np.random.default_rng(5)).target_mask
    assert not (target_mask[:, :52] & CHANNELS).any() and (target_mask & FRAMES).any()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: SpanDistribution("geometric", 0.0), "p of the span distribution is 0.0"),
        (lambda: SpanDistribution("gauss"), "kind is gauss"),
        (lambda: SpanDistribution("uniform", 0.1, 5, 4), "shortest span 5 and longest span 4"),
        (lambda: Corruption(0.5, 0.1, 0.1), "corruption is 0.5,0.1,0.1"),
        (lambda: SpectrogramMasking(frame_share=1.5), "frame_share is 1.5"),
        (lambda: SpectrogramMasking(channels=-1), "channels is -1"),
        (lambda: SpectrogramMasking(patch_size=0), "patch_size is 0"),
        (lambda: SpectrogramMasking(first_channel=5, last_channel=5), "first_channel 5"),
        (lambda: SpectrogramMasking.preset("all"), "the preset is all"),
        (lambda: parse_corruption("a,b"), "corruption is 'a,b'"),
    ],
)
def test_impossible_options_are_told_in_a_sentence(make, words):
    with pytest.raises(OptionError, match=words.replace(".", r"\.")):
        make()


def test_a_shares_option_is_read():
    assert parse_corruption("0.8, 0.1, 0.1") == Corruption(0.8, 0.1, 0.1)


def test_fixed_spans_are_never_cut():
    masking = SpectrogramMasking(1.0, 0.0, 0.0, spans=SpanDistribution("fixed", 1, 2, 10))
    for frames in (40, 200, 333, 512):
        lengths = masking.span_lengths(frames, np.random.default_rng(frames))
        assert lengths.tolist() == [10] * max(int(0.15 * frames) // 10, 1)


@pytest.mark.parametrize("frames, mean", [(200, 8.47), (512, 9.6), (1292, 10.12)])
def test_spans_are_a_little_shorter_than_their_law_since_the_last_is_cut(frames, mean):
    masking, rng = SpectrogramMasking.preset("frames"), np.random.default_rng(1)
    lengths = np.concatenate([masking.span_lengths(frames, rng) for _ in range(4000)])
    assert lengths.mean() == pytest.approx(mean, abs=0.15)
    assert masking.spans.lengths @ masking.spans.probabilities == pytest.approx(10.49, abs=0.005)


@pytest.mark.parametrize("share", [0.9, 1.0])
@pytest.mark.parametrize("shape", [(512, 96), (1, 5), (37, 11)])
def test_patches_can_cover_nearly_or_wholly_everything(share, shape):
    masking = SpectrogramMasking(0.0, 0.0, 1.0, patch_share=share)
    drawn = CountingGenerator(np.random.PCG64(1))
    masked = masking(np.zeros(shape, np.float32), drawn)
    assert np.count_nonzero(masked.target_mask) >= int(share * masked.target_mask.size)
    assert drawn.calls < 2000


class CountingGenerator(np.random.Generator):
    """Counts how often whole numbers are drawn."""

    calls = 0

    def integers(self, *arguments, **options):
        self.calls += 1
        return super().integers(*arguments, **options)
