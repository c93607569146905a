"""Padding disappears from the flat sequence and comes back as zeros; positions begin anew with each piece."""

import pytest
import torch

from musicbert_plugin.modules.packed_batch import pack_octuples

PAD = 1


def rows(*lengths, width=6):
    tokens = torch.full((len(lengths), width, 8), PAD)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.arange(10, 10 + 8 * length).view(length, 8)
    return tokens


def test_an_octuple_is_padding_if_and_only_if_its_bar_slot_is():
    tokens = rows(6)
    tokens[0, 2, 0] = PAD
    tokens[0, 4, 1:] = PAD
    packed = pack_octuples(tokens, PAD)
    assert packed.lengths == (5,)
    assert packed.kept_N.tolist() == [0, 1, 3, 4, 5]


def test_flatten_then_restore_is_the_identity_but_for_zeros_at_padding():
    tokens = rows(4, 0, 6)
    packed = pack_octuples(tokens, PAD)
    x = torch.randn(3, 6, 5)
    restored = packed.restore(packed.flatten(x))
    exists = (tokens[..., 0] != PAD)[..., None]
    assert torch.equal(restored, x * exists)
    assert packed.lengths == (4, 6)


def test_positions_count_from_zero_in_every_piece():
    packed = pack_octuples(rows(5, 6), PAD, torch.tensor([[2, 3], [6, 0]]))
    assert packed.lengths == (2, 3, 6)
    assert packed.position_N.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3, 4, 5]


def test_without_padding_nothing_is_gathered():
    packed = pack_octuples(rows(6, 6), PAD)
    assert packed.kept_N is None
    assert packed.position_N.tolist() == [*range(6), *range(6)]


def test_pieces_that_do_not_fill_their_row_are_refused():
    with pytest.raises(ValueError, match="row 1"):
        pack_octuples(rows(5, 6), PAD, torch.tensor([[2, 3], [5, 0]]))
