"""Batches of masked windows: determinism, padding, batching by frames."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def dataset():
    from musicbert_plugin.data.spectrogram_dataset import MaskedSpectrograms
    from musicbert_plugin.data.spectrogram_masking import SpectrogramMasking
    from musicbert_plugin.data.spectrogram_windows import SpectrogramWindows

    def make(frames=(50, 20, 90, 7), train=True, masking="mixed", seed=1, value=None):
        rng = np.random.default_rng(0)
        clips = [
            np.full((n, 6), value, np.float32) if value is not None else rng.normal(size=(n, 6)).astype(np.float32)
            for n in frames
        ]
        reader = SimpleNamespace(frames=np.array(frames), read=lambda i, a=0, b=None: clips[i][a:b].copy())
        windows = SpectrogramWindows(reader, max_frames=40, train=train, seed=seed)
        return MaskedSpectrograms(windows, SpectrogramMasking.preset(masking, 6))

    return make


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in ("source", "input_mask", "target", "target_mask"))


def test_defect_22_masks_depend_on_seed_epoch_and_index_and_on_no_worker(dataset):
    """The original drew from numpy's global state, which every worker had a copy of."""
    one, two = dataset(masking="frames"), dataset(masking="frames")
    np.random.seed(1)
    first = [one[index] for index in range(len(one))]
    np.random.seed(2)
    second = [two[index] for index in reversed(range(len(two)))][::-1]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    one.set_epoch(2)
    assert not all(torch.equal(one[index]["target_mask"], first[index]["target_mask"]) for index in range(len(one)))


def test_validation_masks_are_the_same_in_every_epoch_and_hide_everything(dataset):
    valid = dataset(train=False)
    first = [valid[index] for index in range(len(valid))]
    valid.set_epoch(9)
    for index, before in enumerate(first):
        assert same(valid[index], before)
        assert torch.equal(before["input_mask"], before["target_mask"] > 0)
        assert torch.equal(before["source"], before["target"])


@pytest.mark.parametrize("masking", ["mixed", "frames", "musicoder", "m3bert"])
def test_defect_14_nothing_is_masked_or_restored_on_padding(dataset, masking):
    data = dataset(train=False, masking=masking)
    batch = data.collater([data[index] for index in range(len(data))])
    lengths = batch["net_input"]["lengths"]
    assert lengths == (50 - 10, 20, 40, 40, 7) and batch["ntokens"] == sum(lengths)
    for row, length in enumerate(lengths):
        assert not batch["target_mask"][row, length:].any()
        assert not batch["net_input"]["input_mask"][row, length:].any()
    assert batch["n_targets"] == int((batch["target_mask"] > 0).sum())


def test_defect_13_lengths_are_told_and_not_guessed_from_zeros(dataset):
    data = dataset(train=False, value=0.0)  # silence after subtracting a mean
    batch = data.collater([data[index] for index in range(len(data))])
    assert batch["net_input"]["lengths"] == tuple(data.windows.sizes.tolist())


def test_batches_are_counted_in_frames(dataset):
    data = dataset(frames=(40,) * 9 + (10,) * 6)
    batches = data.batch_by_size(data.ordered_indices(), max_tokens=80, required_batch_size_multiple=8)
    assert sorted(index for batch in batches for index in batch) == list(range(len(data)))
    for batch in batches:
        assert len(batch) * max(data.num_tokens(index) for index in batch) <= 80


def test_features_keep_their_units_and_half_precision(dataset):
    sample = dataset()[0]
    assert sample["target"].dtype == sample["source"].dtype == torch.float16
    batch = dataset().collater([sample])
    assert batch["target"].dtype == torch.float16  # fairseq's --bf16 rounds float32 tensors only
