"""Windows into pieces: how many, how long, from where, and the same again for the same seed, epoch and index."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from musicbert_plugin.codecs.octuple import BAR, BOS, EOS, FIELD_OFFSETS
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.errors import DatasetError, OptionError

if TYPE_CHECKING:
    from musicbert_plugin.data.octuple_windows import OctupleWindows

Folder = Callable[..., Path]


def open_windows(folder: Path, split: str = "train", **options: object) -> OctupleWindows:
    from musicbert_plugin.data.octuple_windows import OctupleWindows

    return OctupleWindows(IndexedDataset(folder / split), **{"tokens_per_sample": 8 * 102, **options})  # type: ignore[arg-type]


def notes_of(window: np.ndarray) -> np.ndarray:
    octuples = window.reshape(-1, 8)
    assert (octuples[0] == BOS).all() and (octuples[-1] == EOS).all()
    return octuples[1:-1] - np.array(FIELD_OFFSETS)


def positions_in(piece: np.ndarray, window: np.ndarray) -> list[int]:
    """Where the window's notes stand in the piece, whatever bar offset was added to all of them."""
    last = len(piece) - len(window)
    candidates = np.flatnonzero((piece[: last + 1, 1:] == window[0, 1:]).all(axis=1))
    differences = (window - piece[start : start + len(window)] for start in candidates)
    alike = ((one == one[0] * [1, 0, 0, 0, 0, 0, 0, 0]).all() for one in differences)
    return [int(start) for start, same in zip(candidates, alike, strict=True) if same]


@pytest.mark.parametrize("tokens_per_sample, notes", [(8192, 1000), (16384, 1000), (8016, 1000), (8015, 999), (24, 1)])
def test_a_window_has_at_most_a_thousand_notes_and_what_a_row_can_hold(tokens_per_sample: int, notes: int) -> None:
    from musicbert_plugin.data.octuple_windows import notes_per_window

    assert notes_per_window(tokens_per_sample) == notes


def test_a_row_too_short_for_a_note_is_refused() -> None:
    from musicbert_plugin.data.octuple_windows import notes_per_window

    with pytest.raises(OptionError, match="tokens_per_sample is 16"):
        notes_per_window(16)


def test_an_epoch_draws_one_window_for_every_full_length_begun(octuple_folder: Folder) -> None:
    windows = open_windows(octuple_folder(train=[1, 99, 100, 101, 250]))
    assert (windows.lengths - 2).tolist() == [1, 99, 100, 100, 100, 100, 100, 100]
    for index, length in enumerate(windows.lengths):
        assert len(notes_of(windows[index])) == length - 2
        assert windows.num_tokens(index) == windows.size(index) == windows.sizes[index] == 8 * length


def test_a_drawn_window_is_a_stretch_of_its_piece_with_all_bars_moved_alike(octuple_folder: Folder) -> None:
    windows = open_windows(octuple_folder(train=[30, 250, 1200]))
    pieces = [notes_of(windows.items[part]) for part in range(3)]
    of_part = [0] + 3 * [1] + 12 * [2]
    for index, part in enumerate(of_part):
        window = notes_of(windows[index])
        assert positions_in(pieces[part], window)
        assert window[:, BAR].min() >= 0 and window[:, BAR].max() <= 255


def test_starts_and_bar_offsets_take_every_value_they_can(octuple_folder: Folder) -> None:
    windows = open_windows(octuple_folder(train=[300]), tokens_per_sample=8 * 102)
    piece, epochs = notes_of(windows.items[0]), 1500
    starts, offsets = [], []
    for epoch in range(1, epochs + 1):
        windows.set_epoch(epoch)
        for index in range(3):
            window = notes_of(windows[index])
            start = positions_in(piece, window)[0]
            starts.append(start)
            room = 255 - (window[-1, BAR] - window[0, BAR])
            offsets.append((window[0, BAR] + 0.5) / (room + 1))
    starts = np.array(starts)
    # Uniform over -50..250, moved into 0..200: a sixth of the windows begin the piece, a sixth end it.
    assert set(starts) == set(range(201))
    for edge in (0, 200):
        share = (starts == edge).mean()
        assert abs(share - 51 / 301) < 4 * np.sqrt(share * (1 - share) / len(starts))
    inner = starts[(starts > 0) & (starts < 200)]
    assert abs(inner.mean() - 100) < 4 * inner.std() / np.sqrt(len(inner))
    # Offsets, as a share of those possible, are uniform over 0..1.
    assert abs(np.mean(offsets) - 0.5) < 4 * np.sqrt(1 / 12 / len(offsets))
    assert min(offsets) < 0.01 and max(offsets) > 0.99


def test_every_note_of_a_long_piece_is_seen_at_least_half_as_often_as_the_average(octuple_folder: Folder) -> None:
    windows = open_windows(octuple_folder(train=[500]), tokens_per_sample=8 * 102)
    piece, seen = notes_of(windows.items[0]), np.zeros(500)
    for epoch in range(1, 401):
        windows.set_epoch(epoch)
        for index in range(5):
            window = notes_of(windows[index])
            start = positions_in(piece, window)[0]
            seen[start : start + len(window)] += 1
    assert seen.min() > 0.4 * 400


def test_windows_depend_on_seed_epoch_and_index_alone(octuple_folder: Folder) -> None:
    folder = octuple_folder(train=[900, 900])
    first, same, other_seed = (open_windows(folder, seed=seed) for seed in (1, 1, 2))
    for windows in (first, same, other_seed):
        windows.set_epoch(3)
    backwards = {index: same[index] for index in reversed(range(len(same)))}
    assert all((first[index] == backwards[index]).all() for index in range(len(first)))
    assert any((first[index] != other_seed[index]).any() for index in range(len(first)))
    before = [first[index] for index in range(len(first))]
    first.set_epoch(4)
    assert any((first[index] != before[index]).any() for index in range(len(first)))
    first.set_epoch(3)
    assert all((first[index] == before[index]).all() for index in range(len(first)))


def test_validation_tiles_each_piece_in_every_epoch_alike(octuple_folder: Folder) -> None:
    windows = open_windows(octuple_folder(valid=[30, 250, 200]), "valid", train=False)
    for epoch in (1, 7):
        windows.set_epoch(epoch)
        tiles = [notes_of(windows[index]) for index in range(len(windows))]
        assert [len(tile) for tile in tiles] == [30, 100, 100, 50, 100, 100]
        pieces = [notes_of(windows.items[part]) for part in range(3)]
        assert (np.concatenate(tiles) == np.concatenate(pieces)).all()


def test_stored_windows_are_taken_as_they_are(octuple_folder: Folder) -> None:
    windows = open_windows(octuple_folder(train=[30, 100, 7]), windows="stored")
    assert len(windows) == 3
    for epoch in (1, 2):
        windows.set_epoch(epoch)
        for index in range(3):
            assert (windows[index] == windows.items[index]).all()


def test_a_stored_window_that_no_row_can_hold_is_refused(octuple_folder: Folder) -> None:
    with pytest.raises(DatasetError, match="stored windows of up to 960 sub-tokens, but tokens_per_sample is 816"):
        open_windows(octuple_folder(train=[30, 118]), windows="stored")


def test_an_empty_split_is_refused_with_what_to_do(octuple_folder: Folder) -> None:
    with pytest.raises(DatasetError, match="valid holds no pieces .*--disable-validation"):
        open_windows(octuple_folder(valid=[]), "valid")


def test_items_that_are_not_framed_octuples_are_refused(tmp_path: Path, registered: None) -> None:
    import torch
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    framed = np.concatenate([np.full(8, BOS), np.array(FIELD_OFFSETS), np.full(8, EOS)])
    wrong_field = framed.copy()
    wrong_field[8] = FIELD_OFFSETS[3]
    for name, item, sentence in (
        ("odd", framed[:-1], "has 23 sub-tokens"),
        ("unframed", framed[8:], "is not octuples between"),
        ("field", wrong_field, "is not octuples between"),
    ):
        builder = MMapIndexedDatasetBuilder(str(tmp_path / f"{name}.bin"), dtype=np.uint16)
        builder.add_item(torch.from_numpy(item))
        builder.finalize(str(tmp_path / f"{name}.idx"))
        with pytest.raises(DatasetError, match=sentence):
            open_windows(tmp_path, name)


@pytest.mark.parametrize("options", [{}, {"train": False}, {"windows": "stored", "tokens_per_sample": 8 * 400}])
def test_a_damaged_item_is_named_when_it_is_read(octuple_folder: Folder, options: dict[str, object]) -> None:
    folder = octuple_folder(train=[50, 300, 40])
    data = bytearray((folder / "train.bin").read_bytes())
    for octuple in range(60, 340):
        data[octuple * 16 : octuple * 16 + 2] = b"\xff\xff"
    (folder / "train.bin").write_bytes(data)
    windows = open_windows(folder, **options)
    assert len(notes_of(windows[0])) == 50
    with pytest.raises(DatasetError, match="item 1 of .*train.bin is not octuples"):
        windows[1]


def test_the_iterator_is_rebuilt_for_each_epoch_of_training_only(octuple_folder: Folder) -> None:
    folder = octuple_folder(train=[50], valid=[50])
    assert not open_windows(folder).can_reuse_epoch_itr_across_epochs
    assert open_windows(folder, "valid", train=False).can_reuse_epoch_itr_across_epochs


def test_windows_survive_the_way_to_a_loader_process(octuple_folder: Folder) -> None:
    windows = open_windows(octuple_folder(train=[500]))
    windows.set_epoch(2)
    copy = pickle.loads(pickle.dumps(windows))
    assert all((copy[index] == windows[index]).all() for index in range(len(windows)))
