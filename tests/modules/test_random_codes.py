"""Random codes: the nearest vector, the same for everyone."""

import torch

from musicbert_plugin.modules.random_codes import RandomCodes


def test_a_code_is_the_nearest_vector_of_the_projected_frame():
    codes = RandomCodes(features=6, codes=20, dim=4, codebooks=3)
    x = torch.randn(5, 7, 6, dtype=torch.float64)
    found = codes(x)
    assert found.shape == (5, 7, 3)
    for book in range(3):
        projected = x.float() @ codes.projection[book]
        projected = projected / projected.norm(dim=-1, keepdim=True)
        distance = (projected[..., None, :] - codes.vectors[book]).norm(dim=-1)
        assert torch.equal(found[..., book], distance.argmin(-1))


def test_loudness_alone_changes_no_code():
    codes, x = RandomCodes(6, 50), torch.randn(100, 6)
    assert torch.equal(codes(x), codes(3.0 * x))


def test_codes_are_drawn_from_a_seed_and_saved_with_the_model():
    torch.manual_seed(1)
    one = RandomCodes(6, 20)
    torch.manual_seed(2)
    two = RandomCodes(6, 20)
    assert torch.equal(one.vectors, two.vectors) and set(one.state_dict()) == {"projection", "vectors"}
    assert not list(one.parameters())
