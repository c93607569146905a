"""The model under fairseq's own commands: half precision, frozen layers, recomputation, continuing from a file."""

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from musicbert_plugin.codecs.octuple import FIELD_SIZES, dictionary_text, frame

LITTLE = (
    "--encoder-layers 2 --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --encoder-attention-heads 2 "
    "--tokens-per-sample 512 --task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert_tiny "
    "--optimizer adam --lr 0.01 --lr-scheduler fixed --batch-size 4 --log-format json --log-interval 1"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, registered):
    """Pieces whose octuples count upwards in every field: something to learn."""
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    folder = tmp_path_factory.mktemp("octuples")
    (folder / "dict.txt").write_text(dictionary_text())
    rng = default_rng(0)
    for split, pieces in (("train", 12), ("valid", 4)):
        builder = MMapIndexedDatasetBuilder(str(folder / f"{split}.bin"), dtype=np.uint16)
        for length in rng.integers(4, 40, pieces):
            octuples = (np.arange(length)[:, None] // 4 + np.arange(8)) % np.array(FIELD_SIZES)
            builder.add_item(torch.from_numpy(frame(octuples).astype(np.int64)))
        builder.finalize(str(folder / f"{split}.idx"))
    return folder


def train(command, folder, save, *options):
    return command(
        "train", folder, *LITTLE, "--save-dir", save, "--max-update", 12, "--max-epoch", 12, "--no-epoch-checkpoints",
        "--disable-validation", *options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        ["--bf16"],
        ["--memory-efficient-bf16", "--bf16", "--checkpoint-activations"],
        ["--freeze-encoder-layers", "1", "--encoder-layerdrop", "0.2", "--update-freq", "2"],
    ],
    ids=lambda options: " ".join(options),
)
def test_training_brings_the_loss_down(fairseq_command, folder, tmp_path, options):
    outcome = train(fairseq_command, folder, tmp_path, *options)
    losses = [float(line["loss"]) for line in outcome.statistics if "loss" in line]
    assert np.isfinite(losses).all() and len(losses) >= 4
    assert losses[-1] < losses[0] - 1
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert all(value.dtype == torch.float32 or "bf16" in options[0] for value in state["model"].values())


def test_the_hub_opens_what_training_saved(fairseq_command, folder, tmp_path):
    from musicbert_plugin.hub import MusicBERTHub

    train(fairseq_command, folder, tmp_path, "--checkpoint-activations", "--freeze-encoder-layers", 1)
    hub = MusicBERTHub.from_pretrained(tmp_path / "checkpoint_last.pt")
    assert hub.window == 62
    assert hub.extract_features(np.zeros((3, 8), int)).shape == (3, 16)
    assert all(parameter.requires_grad for parameter in hub.model.parameters())


def test_training_goes_on_where_it_stopped(fairseq_command, folder, tmp_path):
    train(fairseq_command, folder, tmp_path)
    outcome = train(fairseq_command, folder, tmp_path, "--max-update", 14, "--max-epoch", 20)
    updates = [int(line["num_updates"]) for line in outcome.statistics if "num_updates" in line]
    assert min(updates) == 13 and max(updates) == 14
