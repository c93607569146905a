"""The folded table gives what eight embeddings and the down-projection give, and the same gradients."""

import pytest
import torch
from torch import nn

from musicbert_plugin.modules.compound_embedding import FieldVocabularies, embed_directly, embed_folded, folding_pays

OFFSETS, SIZES, V = (4, 10, 12, 17, 22, 25, 29, 35), (6, 2, 5, 5, 3, 4, 6, 3), 39


@pytest.fixture
def parts():
    torch.manual_seed(0)
    embedding = nn.Embedding(V, 6, padding_idx=1).double()
    return embedding, nn.Linear(48, 6).double(), FieldVocabularies(OFFSETS, SIZES, V)


def tokens(kind, n=200):
    torch.manual_seed(1)
    own = torch.stack([torch.randint(o, o + s, (n,)) for o, s in zip(OFFSETS, SIZES, strict=True)], 1)
    if kind == "own":
        return own
    if kind == "special":
        return torch.where(torch.rand(n, 8) < 0.3, torch.tensor([0, 1, 2, 3, V - 1])[torch.randint(5, (n, 8))], own)
    return torch.randint(0, V, (n, 8))


@pytest.mark.parametrize("kind", ["own", "special", "foreign"])
def test_folded_equals_direct_in_values_and_gradients(parts, kind):
    embedding, projection, vocabularies = parts
    weight = torch.randn(200, 6, dtype=torch.float64)
    results = []
    for embed in (
        lambda t: embed_directly(t, embedding, projection),
        lambda t: embed_folded(t, embedding, projection, vocabularies),
    ):
        out = embed(tokens(kind))
        gradients = torch.autograd.grad((out * weight).sum(), [*embedding.parameters(), *projection.parameters()])
        results.append((out, *gradients))
    for direct, folded in zip(*results, strict=True):
        assert torch.allclose(direct, folded, atol=1e-12)
    assert not results[1][1][1].any(), "the padding row gets no gradient"


def test_float32_agrees_to_1e5(parts):
    embedding, projection, vocabularies = (part.float() for part in parts)
    direct = embed_directly(tokens("foreign"), embedding, projection)
    folded = embed_folded(tokens("foreign"), embedding, projection, vocabularies)
    assert (direct - folded).abs().max() < 1e-5


def test_nothing_is_kept_between_batches(parts):
    """The same tokens after a change of the parameters: the table is made anew."""
    embedding, projection, vocabularies = parts
    before = embed_folded(tokens("own"), embedding, projection, vocabularies)
    with torch.no_grad():
        projection.weight.mul_(2)
    after = embed_folded(tokens("own"), embedding, projection, vocabularies)
    assert not torch.allclose(before, after)
    assert torch.allclose(after, embed_directly(tokens("own"), embedding, projection), atol=1e-12)


def test_the_table_holds_each_field_and_the_specials_and_is_never_saved(parts):
    vocabularies = parts[2]
    assert len(vocabularies.token_R) == sum(SIZES) + 8 * 5
    assert not vocabularies.state_dict() and not list(vocabularies.parameters())


def test_folding_is_for_batches_larger_than_the_table(parts):
    assert not folding_pays(10, parts[2])
    assert folding_pays(1000, parts[2])


def test_gradients_of_common_tokens_keep_growing_in_half_precision(parts):
    """4,096 octuples that are all the same: the gradient of their tokens is 4,096 times that of one."""
    embedding, projection, vocabularies = (part.bfloat16() for part in parts)
    one = tokens("own", 1)
    for count in (1, 4096):
        embedding.zero_grad()
        embed_folded(one.expand(count, 8), embedding, projection, vocabularies).sum().backward()
        if count == 1:
            single = embedding.weight.grad.float()
    assert torch.allclose(embedding.weight.grad.float(), 4096 * single, rtol=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_folds_too(parts, dtype):
    embedding, projection, vocabularies = (part.to(dtype) for part in parts)
    out = embed_folded(tokens("foreign"), embedding, projection, vocabularies)
    assert out.dtype == dtype
    assert (out - embed_directly(tokens("foreign"), embedding, projection)).abs().max() < 0.05
    out.sum().backward()
