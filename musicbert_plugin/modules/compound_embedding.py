"""Eight token embeddings, concatenated and projected down to one vector per octuple, in two ways with equal results.

An octuple with tokens t_0 .. t_7 becomes  W [E(t_0); ...; E(t_7)] + b,  E the embedding table, W of shape D x 8D.
With W = [W_0 | ... | W_7] that is  b + sum_f W_f E(t_f),  and W_f E(t) depends on (f, t) alone.

*Direct*: gather and multiply, 8 N products of a row with a D x D block.
*Folded*: the table W_f E(t) is computed once per batch, for the tokens of field f's own vocabulary and the special
tokens; octuples then look rows up and add them.  A random replacement may put a token where another field belongs:
such (field, token) pairs get a row of their own behind the table.  About 1,270 row products instead of 8 N, so it pays
for batches of more than a few hundred octuples.  Parameters and gradients are those of the direct form; nothing is
cached between batches.

Shapes: N octuples, F = 8 fields, V vocabulary, D model dimensions, R rows of the folded table.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FieldVocabularies(nn.Module):
    """Which token ids belong to which field: the layout of the folded table.  Holds nothing that is trained or saved.

    Parameters
    ----------
    offsets, sizes : sequence of int
        First id and number of ids of each field.
    vocabulary_size : int
        V; every id that belongs to no field is special and belongs to all.
    """

    def __init__(self, offsets: Sequence[int], sizes: Sequence[int], vocabulary_size: int) -> None:
        super().__init__()
        special = sorted(
            set(range(vocabulary_size)) - {i for o, n in zip(offsets, sizes, strict=True) for i in range(o, o + n)}
        )
        tokens, self.counts = [], []
        row_FV = torch.full((len(offsets), vocabulary_size), -1)
        for field, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
            own = [*special, *range(offset, offset + size)]
            row_FV[field, own] = torch.arange(len(own)) + sum(self.counts)
            tokens += own
            self.counts.append(len(own))
        self.register_buffer("token_R", torch.tensor(tokens), persistent=False)
        self.register_buffer("row_FV", row_FV, persistent=False)


def embed_directly(tokens_NF: Tensor, embedding_VD: nn.Embedding, projection: nn.Linear) -> Tensor:
    """[N, F] to [N, D] by the direct formula."""
    return projection(embedding_VD(tokens_NF).flatten(1))


def embed_folded(
    tokens_NF: Tensor, embedding_VD: nn.Embedding, projection: nn.Linear, vocabularies: FieldVocabularies
) -> Tensor:
    """[N, F] to [N, D] through the folded table; equal to :func:`embed_directly` up to rounding."""
    fields = tokens_NF.shape[1]
    field_F = torch.arange(fields, device=tokens_NF.device)
    row_NF = vocabularies.row_FV[field_F, tokens_NF]
    foreign_n, foreign_field_n = (row_NF < 0).nonzero(as_tuple=True)
    foreign_counts = torch.bincount(foreign_field_n, minlength=fields).tolist()
    if sum(foreign_counts):
        # Rows for foreign tokens come after the table, field by field.
        order = foreign_field_n.argsort(stable=True)
        foreign_n, foreign_field_n = foreign_n[order], foreign_field_n[order]
        first = len(vocabularies.token_R)
        row_NF[foreign_n, foreign_field_n] = torch.arange(first, first + len(order), device=tokens_NF.device)
    foreign_tokens = tokens_NF[foreign_n, foreign_field_n].split(foreign_counts)
    own_tokens = vocabularies.token_R.split(vocabularies.counts)
    tokens = torch.cat([*own_tokens, *foreign_tokens])
    own, foreign = embedding_VD(tokens).split([len(vocabularies.token_R), sum(foreign_counts)])
    block_FDD = projection.weight.chunk(fields, dim=1)
    parts = list(own.split(vocabularies.counts)) + list(foreign.split(foreign_counts))
    table_RD = torch.cat([part @ block.t() for part, block in zip(parts, [*block_FDD, *block_FDD], strict=True)])
    # Summed in float32: gradients of rows that thousands of notes share would stand still in half precision.
    sum_ND = F.embedding_bag(row_NF, table_RD.float() if table_RD.itemsize < 4 else table_RD, mode="sum")
    return sum_ND.to(projection.bias.dtype) + projection.bias


def folding_pays(octuples: int, vocabularies: FieldVocabularies) -> bool:
    """Whether the folded form is cheaper: its table costs fewer products than half of the direct form's (it also
    gathers).
    """
    return 2 * len(vocabularies.token_R) < len(vocabularies.counts) * octuples
