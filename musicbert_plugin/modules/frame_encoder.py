"""A Transformer over the frames of a spectrogram, for clips of different lengths in one batch.

Only the frames that exist are computed: they lie end to end, and attention stays inside a clip (see ``attention.py``).
Positions are a depth-wise convolution along time (Mohamed et al. 2019, "Transformers with convolutional context for
ASR"; as in wav2vec 2.0), which sees zeros beyond a clip's ends.  So neither padding nor the other clips of a batch
change what a clip gives.

Two arrangements:

* pre-LN (the default): x = x + attention(LN(x)); x = x + FFN(LN(x)); a LayerNorm after the last layer;
* post-LN with sinusoids (``sinusoids=True, norm_first=False``), that of MusiCoder and M3BERT (Wu et al. 2020, arXiv
  2008.00781): positions are added to the input, LN and dropout follow, the layers are BERT's, LN's epsilon is 1e-12.

Shapes: B clips, T frames per row, N frames that exist, D model dimensions, F input features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from musicbert_plugin.modules.attention import Spans, plan_spans
from musicbert_plugin.modules.dropout import dropout
from musicbert_plugin.modules.encoder_layer import EncoderLayer
from musicbert_plugin.modules.packed_batch import Pieces


def clip_pieces(lengths: Sequence[int], row_length: int, device: torch.device) -> Pieces:
    """Which frames of a batch exist.

    Args:
        lengths: frames of each row, 1 .. row_length.
    """
    lengths = tuple(int(n) for n in lengths)
    if not lengths or min(lengths) < 1 or max(lengths) > row_length:
        raise ValueError(f"lengths {lengths} do not lie within 1 and the {row_length} frames of a row")
    if min(lengths) == row_length:
        kept_N, position_N = None, torch.arange(row_length, device=device).repeat(len(lengths))
    else:
        exists_BT = torch.arange(row_length, device=device) < torch.tensor(lengths, device=device)[:, None]
        kept_N = exists_BT.flatten().nonzero().flatten()
        position_N = kept_N % row_length
    return Pieces(len(lengths), row_length, lengths, kept_N, position_N)


def sinusoids(position_N: Tensor, dim: int) -> Tensor:
    """[N, D] in float32: sin(t / 10000^(2k/D)) at 2k, cos of the same angle at 2k + 1 (Vaswani et al. 2017, 3.5)."""
    rate = torch.exp(torch.arange(0, dim, 2, device=position_N.device) * (-math.log(10000.0) / dim))
    angle = position_N[:, None].float() * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :dim]


class ConvolutionalPositions(nn.Module):
    """A depth-wise convolution along time and GELU, to be added to its input."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel of {kernel} frames has no middle; an odd number is needed")
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x_ND: Tensor, pieces: Pieces) -> Tensor:
        """[N, D] to [N, D]; padding is zero before the convolution."""
        x_BTD = pieces.restore(x_ND)
        return F.gelu(pieces.flatten(self.conv(x_BTD.transpose(1, 2)).transpose(1, 2)))


class FrameLayer(EncoderLayer):
    """A Transformer layer whose LayerNorms come first or last."""

    def __init__(
        self,
        embed_dim: int,
        ffn_dim: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
        norm_first: bool,
        eps: float,
    ) -> None:
        super().__init__(embed_dim, ffn_dim, heads, dropout, attention_dropout, activation_dropout)
        self.norm_first = norm_first
        self.self_attn_layer_norm.eps = self.final_layer_norm.eps = eps

    def forward(self, x_ND: Tensor, spans: Spans, needed_M: Tensor | None = None) -> Tensor:
        """[N, D] to [N, D]."""
        if not self.norm_first:
            return super().forward(x_ND, spans, needed_M)
        h = self.self_attn(self.self_attn_layer_norm(x_ND), spans)
        x = x_ND + dropout(h, self.dropout, self.training)
        h = dropout(F.gelu(self.fc1(self.final_layer_norm(x))), self.activation_dropout, self.training)
        return x + dropout(self.fc2(h), self.dropout, self.training)


class FrameEncoder(nn.Module):
    """Input projection, positions and layers.

    Args:
        features: F, features per input frame (of stacked frames: of all of them).
        kernel: frames that the convolution sees, odd; 0 for no convolution.
        use_sinusoids: add sinusoids to the input.
        norm_first: pre-LN, or post-LN with a LayerNorm on the input.
        layerdrop: probability of leaving out a layer in training (Fan et al. 2020).
        checkpoint_activations: recompute each layer in the backward pass instead of keeping what it computed.
    """

    def __init__(
        self,
        features: int,
        embed_dim: int,
        layers: int,
        ffn_dim: int,
        heads: int,
        *,
        kernel: int = 31,
        use_sinusoids: bool = False,
        norm_first: bool = True,
        eps: float = 1e-5,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.0,
        layerdrop: float = 0.0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.embed_dim, self.heads = embed_dim, heads
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.layerdrop, self.checkpoint_activations = layerdrop, checkpoint_activations
        self.use_sinusoids, self.norm_first = use_sinusoids, norm_first
        self.input = nn.Linear(features, embed_dim)
        self.positions = ConvolutionalPositions(embed_dim, kernel) if kernel else None
        self.layers = nn.ModuleList(
            FrameLayer(embed_dim, ffn_dim, heads, dropout, attention_dropout, activation_dropout, norm_first, eps)
            for _ in range(layers)
        )
        # After the last layer (pre-LN), or on the input (post-LN, whose layers end in a LayerNorm).
        self.layer_norm = nn.LayerNorm(embed_dim, eps=eps)

    def forward(self, x_BTF: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Run the encoder.

        Args:
            lengths: frames of each row.

        Returns:
            the final states [B, T, D], and a list of those after the input and after each layer, each [B, T, D]; zero
            at padding.
        """
        pieces = clip_pieces(lengths, x_BTF.shape[1], x_BTF.device)
        x = self._embed(pieces.flatten(x_BTF), pieces)
        # Of a partly frozen encoder, the layers that train have dropout, and their kernel must know it.
        rate = self.attention_dropout if any(layer.training for layer in self.layers) else 0.0
        spans = plan_spans(pieces.lengths, pieces.lengths, x.device, x.dtype, self.embed_dim // self.heads, rate)
        states = [x]
        for layer in self.layers:
            left_out = layer.training and self.layerdrop > 0 and torch.rand(()).item() < self.layerdrop
            if left_out:
                pass
            elif self.checkpoint_activations and layer.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, spans, use_reentrant=False)
            else:
                x = layer(x, spans)
            states.append(x)
        if self.norm_first:
            x = self.layer_norm(x)
        return pieces.restore(x), [pieces.restore(state) for state in states]

    def _embed(self, x_NF: Tensor, pieces: Pieces) -> Tensor:
        x = self.input(x_NF)
        if self.use_sinusoids:
            x = x + sinusoids(pieces.position_N, self.embed_dim).to(x.dtype)
        if self.positions is not None:
            x = x + self.positions(x, pieces)
        if not self.norm_first:
            x = self.layer_norm(x)
        return dropout(x, self.dropout, self.training)
