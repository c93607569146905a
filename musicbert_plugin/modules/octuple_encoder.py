"""The MusicBERT encoder: compound embedding, learned positions, post-LN Transformer layers, and the up-projection.

Zeng et al. 2021, "MusicBERT: Symbolic Music Understanding with Large-Scale Pre-Training", section 3; names and shapes
of the parameters are those of the published checkpoints.  Octuple i of a segment (from 0) takes row i + 2 of the
position table.

Shapes: B rows, T = 8 L sub-tokens, L octuples per row, F = 8 fields, D model dimensions, S segments per row,
N octuples that are not padding, M of them whose final state is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from musicbert_plugin.modules.attention import VarlenMetadata, varlen_metadata
from musicbert_plugin.modules.compound_embedding import FieldVocabularies, embed_directly, embed_folded, folding_pays
from musicbert_plugin.modules.dropout import dropout
from musicbert_plugin.modules.encoder_layer import EncoderLayer
from musicbert_plugin.modules.packed_batch import PackedBatch, pack_octuples

FIELDS = 8
FIRST_POSITION = 2
"""Row of the position table for the first octuple of a segment: rows 0 and 1 were fairseq's, for padding."""


class OctupleEncoder(nn.Module):
    """Octuples to one state per octuple.

    Parameters
    ----------
    vocabulary_size : int
        V, special tokens and mask included.
    embed_dim, layers, ffn_dim, heads : int
    max_positions : int
        Most octuples of a segment; the position table has two rows more.
    pad : int
        Id of the padding token.
    dropout, attention_dropout, activation_dropout : float
    layerdrop : float
        Probability of leaving out a layer in training (Fan et al. 2020).
    checkpoint_activations : bool
        Whether each layer is recomputed in the backward pass instead of keeping its intermediate results.
    trainable_layers : int
        -1 trains everything; k from 0 on trains the last k layers and freezes the embeddings (tokens, down-projection,
        positions, their LayerNorm) and the first layers, which then also run without dropout.
    field_offsets, field_sizes : sequence of int
        First id and number of ids of each field, or empty for another vocabulary (the embedding is then never folded).
    """

    def __init__(
        self,
        vocabulary_size: int,
        embed_dim: int,
        layers: int,
        ffn_dim: int,
        heads: int,
        max_positions: int,
        *,
        pad: int = 1,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.0,
        layerdrop: float = 0.0,
        checkpoint_activations: bool = False,
        trainable_layers: int = -1,
        field_offsets: Sequence[int] = (),
        field_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.pad = pad
        self.max_positions = max_positions
        self.dropout = dropout
        self.layerdrop = layerdrop
        self.checkpoint_activations = checkpoint_activations
        self.embeddings_frozen = trainable_layers >= 0
        self.frozen_layers = layers - trainable_layers if self.embeddings_frozen else 0
        self.embed_tokens = nn.Embedding(vocabulary_size, embed_dim, padding_idx=pad)
        self.embed_positions = nn.Embedding(max_positions + FIRST_POSITION, embed_dim, padding_idx=pad)
        self.emb_layer_norm = nn.LayerNorm(embed_dim)
        self.layers = nn.ModuleList(
            EncoderLayer(embed_dim, ffn_dim, heads, dropout, attention_dropout, activation_dropout)
            for _ in range(layers)
        )
        self.downsampling = nn.Sequential(nn.Linear(FIELDS * embed_dim, embed_dim))
        self.upsampling = nn.Sequential(nn.Linear(embed_dim, FIELDS * embed_dim))
        self.vocabularies = FieldVocabularies(field_offsets, field_sizes, vocabulary_size) if field_offsets else None

    @property
    def embeddings(self) -> list[nn.Module]:
        """The modules before the first layer."""
        return [self.embed_tokens, self.embed_positions, self.emb_layer_norm, self.downsampling]

    def freeze(self) -> None:
        """Switch off gradients of what ``trainable_layers`` leaves out."""
        if self.embeddings_frozen:
            for module in [*self.embeddings, *self.layers[: self.frozen_layers]]:
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> OctupleEncoder:
        """Set the mode as ``nn.Module.train`` does, but keep frozen layers in evaluation mode."""
        super().train(mode)
        for layer in self.layers[: self.frozen_layers]:
            layer.eval()
        return self

    def embed(self, tokens_NF: Tensor, position_N: Tensor) -> Tensor:
        """The first layer's input, [N, D]."""
        projection = self.downsampling[0]
        if self.vocabularies is not None and folding_pays(len(tokens_NF), self.vocabularies):
            x = embed_folded(tokens_NF, self.embed_tokens, projection, self.vocabularies)
        else:
            x = embed_directly(tokens_NF, self.embed_tokens, projection)
        x = self.emb_layer_norm(x + self.embed_positions(position_N + FIRST_POSITION))
        return dropout(x, self.dropout, self.training and not self.embeddings_frozen)

    def forward(
        self,
        tokens_BT: Tensor,
        segment_lengths_BS: Tensor | None = None,
        needed_BL: Tensor | None = None,
        keep_all: bool = False,
    ) -> tuple[Tensor, PackedBatch, list[Tensor]]:
        """Encode a batch.

        Parameters
        ----------
        tokens_BT : Tensor
            Token ids, eight per octuple; an octuple whose bar slot is padding is padding.
        segment_lengths_BS : Tensor, optional
            Octuples of each segment packed into a row (zeros on the right); by default a row is one segment.
        needed_BL : bool Tensor, optional
            Octuples whose final states are needed; the last layer computes no others.
        keep_all : bool
            Whether the states after the embedding and after each layer are returned; not together with ``needed_BL``.

        Returns
        -------
        final states, Tensor [N, D], or [M, D] in the same order where ``needed_BL`` is given
        packed : PackedBatch
        all states, list of layers + 1 Tensor [N, D]; empty without ``keep_all``

        Raises
        ------
        ValueError
            If T is not a multiple of 8 or a segment is longer than the position table.
        """
        rows, subtokens = tokens_BT.shape
        if subtokens % FIELDS:
            raise ValueError(f"{subtokens} sub-tokens per row are not a multiple of {FIELDS}")
        tokens_BLF = tokens_BT.reshape(rows, -1, FIELDS)
        packed = pack_octuples(tokens_BLF, self.pad, segment_lengths_BS)
        longest = max(packed.lengths, default=0)
        if longest > self.max_positions:
            raise ValueError(
                f"a segment of {longest} octuples is longer than the model's {self.max_positions} positions"
            )
        x = self.embed(packed.flatten(tokens_BLF), packed.position_N)
        states = [x] if keep_all else []
        full = self._metadata(packed.lengths, packed.lengths, x)
        needed_M, metadata, asked = None, full, None
        if needed_BL is not None:
            needed_M, needed_lengths, asked = _needed(packed, needed_BL)
            metadata = self._metadata(needed_lengths, packed.lengths, x)
        layers = [layer for layer in self.layers if not (layer.training and self._dropped())]
        for layer in layers:
            arguments = (x, metadata, needed_M) if layer is layers[-1] else (x, full)
            if self.checkpoint_activations and layer.training and torch.is_grad_enabled():
                x = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                x = layer(*arguments)
            if keep_all:
                states.append(x)
        if needed_M is not None and not layers:
            x = x.index_select(0, needed_M)
        return x if asked is None else x.index_select(0, asked), packed, states

    def _metadata(self, query_lengths: tuple[int, ...], lengths: tuple[int, ...], x_ND: Tensor) -> VarlenMetadata:
        device = x_ND.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else x_ND.dtype
        attention = self.layers[0].self_attn
        dropped = attention.dropout if self.training else 0.0
        return varlen_metadata(query_lengths, lengths, device, dtype, x_ND.shape[1] // attention.heads, dropped)

    def _dropped(self) -> bool:
        return self.layerdrop > 0 and torch.rand(()).item() < self.layerdrop


def _needed(packed: PackedBatch, needed_BL: Tensor) -> tuple[Tensor, tuple[int, ...], Tensor | None]:
    """Which of the N octuples to compute, how many of each segment, and which of those were asked for (None: all).

    The first octuple of a segment in which nothing is needed is computed all the same: not all kernels for variable
    lengths are safe with segments that have keys and no query.
    """
    needed_N = packed.flatten(needed_BL)
    length_P = torch.tensor(packed.lengths, device=needed_N.device, dtype=torch.long)
    ends_P = length_P.cumsum(0)
    up_to = [0, *needed_N.cumsum(0)[ends_P - 1].tolist()]
    counts = tuple(b - a for a, b in zip(up_to, up_to[1:], strict=False))
    if all(counts):
        return needed_N.nonzero().flatten(), counts, None
    computed_N = needed_N.clone()
    idle = [piece for piece, count in enumerate(counts) if not count]
    computed_N[(ends_P - length_P)[idle]] = True
    computed_M = computed_N.nonzero().flatten()
    return computed_M, tuple(max(count, 1) for count in counts), needed_N[computed_M].nonzero().flatten()
