"""Up-projecting single fields equals up-projecting everything and looking the fields up."""

import torch
from torch import nn

from musicbert_plugin.modules.heads import LanguageModelHead, group_fields, project_fields


def test_single_fields_equal_the_whole_projection_in_any_order():
    torch.manual_seed(0)
    projection = nn.Linear(6, 48).double()
    x = torch.randn(10, 6, dtype=torch.float64)
    octuple = torch.randint(10, (25,))
    field = torch.randint(6, (25,))  # fields 6 and 7 never
    whole = projection(x).view(10, 8, 6)[octuple, field]
    single = project_fields(x, octuple, group_fields(field), projection)
    assert torch.allclose(single, whole, atol=1e-12)
    weight = torch.randn_like(whole)
    for a, b in zip(
        torch.autograd.grad((whole * weight).sum(), list(projection.parameters())),
        torch.autograd.grad((single * weight).sum(), list(projection.parameters())),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_no_field_at_all_gives_an_empty_result():
    nothing = torch.zeros(0, dtype=torch.long)
    assert project_fields(torch.randn(3, 4), nothing, group_fields(nothing), nn.Linear(4, 32)).shape == (0, 4)


def test_the_language_model_head_has_the_published_names():
    assert set(LanguageModelHead(4, 9).state_dict()) == {
        "weight",
        "bias",
        "dense.weight",
        "dense.bias",
        "layer_norm.weight",
        "layer_norm.bias",
    }
