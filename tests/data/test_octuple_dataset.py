"""Batches of masked octuples: what is in a row, that nothing is lost, and that an epoch can be asked for again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from musicbert_plugin.codecs.octuple import BOS, EOS, MASK, PAD
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.octuple_masking import MaskingProbabilities, OctupleMasking

if TYPE_CHECKING:
    from musicbert_plugin.data.octuple_dataset import MaskedOctuples

Folder = Callable[..., Path]
LENGTHS = [300, 5, 40, 33, 90, 101, 64, 20, 1, 77]


def open_rows(
    folder: Path,
    split: str = "train",
    pack: bool = True,
    probabilities: MaskingProbabilities = MaskingProbabilities(),  # noqa: B008
    strategies: tuple[str, ...] = ("bar",),
    seed: int = 1,
) -> MaskedOctuples:
    from musicbert_plugin.data.octuple_dataset import MaskedOctuples
    from musicbert_plugin.data.octuple_windows import OctupleWindows

    size = 8 * 104
    windows = OctupleWindows(IndexedDataset(folder / split), tokens_per_sample=size, train=split == "train", seed=seed)
    return MaskedOctuples(windows, OctupleMasking(probabilities, strategies), tokens_per_sample=size, pack=pack)


def whole_epoch(rows: MaskedOctuples) -> dict[str, torch.Tensor]:
    batch = rows.collater([rows[index] for index in range(len(rows))])
    return {"source": batch["net_input"]["src_tokens"], "target": batch["target"]}


def pieces_of(batch: dict[str, object], row: int) -> list[np.ndarray]:
    tokens = batch["net_input"]["src_tokens"][row].numpy().reshape(-1, 8)  # type: ignore[index]
    lengths = batch["net_input"]["segment_lengths"][row].numpy()  # type: ignore[index]
    ends = np.cumsum(lengths[lengths > 0])
    assert (tokens[ends[-1] :] == PAD).all()
    return np.split(tokens[: ends[-1]], ends[:-1])


@pytest.mark.parametrize("split", ["train", "valid"])
def test_the_rows_of_an_epoch_hold_every_window_once(octuple_folder: Folder, split: str) -> None:
    rows = open_rows(octuple_folder(**{split: LENGTHS}), split, probabilities=MaskingProbabilities(0.0))
    found = []
    for index in range(len(rows)):
        batch = rows.collater([rows[index]])
        found += [piece.tobytes() for piece in pieces_of(batch, 0)]
        assert batch["target"].eq(PAD).all()
    expected = [rows.windows[index].tobytes() for index in range(len(rows.windows))]
    assert sorted(found) == sorted(expected)
    assert len(rows) < len(expected)


def test_each_piece_of_a_row_is_framed_and_the_lengths_say_where_it_ends(octuple_folder: Folder) -> None:
    rows = open_rows(octuple_folder(train=LENGTHS), probabilities=MaskingProbabilities(0.0))
    batch = rows.collater([rows[index] for index in range(len(rows))])
    for row in range(len(rows)):
        for piece in pieces_of(batch, row):
            assert (piece[0] == BOS).all() and (piece[-1] == EOS).all()
            assert not np.isin(piece[1:-1], (BOS, EOS, PAD)).any()


def test_a_batch_tells_its_rows_sub_tokens_notes_and_targets(octuple_folder: Folder) -> None:
    rows = open_rows(octuple_folder(train=LENGTHS))
    batch = rows.collater([rows[0], rows[len(rows) - 1]])
    source = batch["net_input"]["src_tokens"]
    assert batch["id"].tolist() == [0, len(rows) - 1]
    assert source.shape == batch["target"].shape and source.shape[1] % 8 == 0
    assert batch["nsentences"] == 2
    assert batch["ntokens"] == int(source.ne(PAD).sum())
    assert batch["n_targets"] == int(batch["target"].ne(PAD).sum()) > 0
    assert batch["n_notes"] == batch["ntokens"] // 8 - 2 * len(batch["piece_lengths"])
    assert batch["net_input"]["segment_lengths"].sum(1).tolist() == source[:, ::8].ne(PAD).sum(1).tolist()
    assert rows.collater([]) == {}


def test_masks_and_targets_of_a_row_fit_together(octuple_folder: Folder) -> None:
    folder = octuple_folder(train=LENGTHS)
    rows, unmasked = open_rows(folder), open_rows(folder, probabilities=MaskingProbabilities(0.0))
    masked, plain = whole_epoch(rows), whole_epoch(unmasked)
    is_target = masked["target"].ne(PAD)
    assert masked["target"][is_target].equal(plain["source"][is_target])
    assert masked["source"][~is_target].equal(plain["source"][~is_target])
    assert is_target[masked["source"].eq(MASK)].all()
    assert 0.1 < is_target.float().mean() < 0.2


def test_a_piece_is_masked_alike_alone_and_packed(octuple_folder: Folder) -> None:
    folder = octuple_folder(valid=LENGTHS)
    packed, alone = open_rows(folder, "valid"), open_rows(folder, "valid", pack=False)
    batch = packed.collater([packed[index] for index in range(len(packed))])
    together = sorted(piece.tobytes() for row in range(len(packed)) for piece in pieces_of(batch, row))
    assert together == sorted(alone[index]["source"].numpy().tobytes() for index in range(len(alone)))
    assert "segment_lengths" not in alone.collater([alone[0]])["net_input"]


def test_training_epochs_differ_in_masks_and_in_rows(octuple_folder: Folder) -> None:
    rows = open_rows(octuple_folder(train=[40] * 30))
    first, order = whole_epoch(rows), rows.ordered_indices()
    rows.set_epoch(2)
    second = whole_epoch(rows)
    assert not first["source"].equal(second["source"])
    assert not first["target"].ne(PAD).equal(second["target"].ne(PAD))
    assert (order != rows.ordered_indices()).any()
    rows.set_epoch(1)
    again = whole_epoch(rows)
    assert again["source"].equal(first["source"]) and again["target"].equal(first["target"])
    assert (order == rows.ordered_indices()).all()


def test_validation_is_the_same_in_every_epoch(octuple_folder: Folder) -> None:
    rows = open_rows(octuple_folder(valid=LENGTHS), "valid")
    first = whole_epoch(rows)
    rows.set_epoch(5)
    again = whole_epoch(rows)
    assert first["source"].equal(again["source"]) and first["target"].equal(again["target"])


def test_another_seed_gives_other_masks(octuple_folder: Folder) -> None:
    folder = octuple_folder(valid=LENGTHS)
    one, two = (whole_epoch(open_rows(folder, "valid", seed=seed)) for seed in (1, 2))
    assert not one["target"].equal(two["target"])


def test_rows_are_batched_by_length_with_ties_in_random_order(octuple_folder: Folder) -> None:
    rows = open_rows(octuple_folder(train=[40] * 20 + LENGTHS), pack=False)
    order = rows.ordered_indices()
    assert sorted(order.tolist()) == list(range(len(rows)))
    assert (np.diff(rows.sizes[order]) >= 0).all()
    equal = order[rows.sizes[order] == 42 * 8]
    assert (np.diff(equal) < 0).any()


@pytest.mark.parametrize(
    "limits", [{"max_sentences": 4}, {"max_tokens": 2000}, {"max_sentences": 3, "max_tokens": 2000}]
)
def test_no_row_is_left_out_of_the_batches(octuple_folder: Folder, limits: dict[str, int]) -> None:
    """fairseq drops the last batch where its rows are no multiple of 8, its default; here it must not."""
    rows = open_rows(octuple_folder(train=LENGTHS))
    batches = rows.batch_by_size(rows.ordered_indices(), required_batch_size_multiple=8, **limits)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(rows)))
    for batch in batches:
        assert len(batch) <= limits.get("max_sentences", len(rows))
        assert len(batch) * max(rows.sizes[batch]) <= limits.get("max_tokens", 10**9)
    assert rows.batch_by_size(np.zeros(0, np.int64), **limits) == []


def test_rows_survive_the_way_to_a_loader_process(octuple_folder: Folder) -> None:
    rows = open_rows(octuple_folder(train=LENGTHS))
    rows.set_epoch(3)
    copy = pickle.loads(pickle.dumps(rows))
    assert whole_epoch(copy)["source"].equal(whole_epoch(rows)["source"])


def test_note_count_and_fill_describe_an_epoch(octuple_folder: Folder) -> None:
    rows = open_rows(octuple_folder(valid=LENGTHS), "valid")
    assert rows.note_count == sum(LENGTHS)
    assert rows.fill == pytest.approx(rows.sizes.mean() / (8 * 104))
