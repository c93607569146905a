"""A Transformer over the frames of spectrograms, for rows of different lengths in one batch.

Nothing is computed for padding: the other frames lie end to end, and attention stays inside a row (see ``attention``).
Positions are a depth-wise convolution along time (Mohamed et al. 2019, "Transformers with convolutional context for
ASR"; as in wav2vec 2.0), which sees zeros beyond the ends of a row.  So neither padding nor the other rows of a batch
change the states of a row.

Two arrangements:

* pre-LN (the default), with a LayerNorm after the last layer;
* post-LN with sinusoids (``use_sinusoids=True, norm_first=False``), that of MusiCoder and M3BERT (Wu et al. 2020, arXiv
  2008.00781): positions are added to the input, LN and dropout follow, the layers are BERT's, LN's epsilon is 1e-12.

Shapes: B rows, T frames per row, N frames that are not padding, D model dimensions, F input features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from musicbert_plugin.modules.attention import varlen_metadata
from musicbert_plugin.modules.dropout import dropout
from musicbert_plugin.modules.encoder_layer import EncoderLayer
from musicbert_plugin.modules.packed_batch import PackedBatch, pack_rows


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

    def forward(self, x_ND: Tensor, packed: PackedBatch) -> Tensor:
        """[N, D] to [N, D]; padding is zero before the convolution."""
        x_BTD = packed.restore(x_ND)
        return F.gelu(packed.flatten(self.conv(x_BTD.transpose(1, 2)).transpose(1, 2)))


class FrameEncoder(nn.Module):
    """Input projection, positions and layers.

    Parameters
    ----------
    features : int
        F, features per input frame (of stacked frames: of all of them).
    embed_dim, layers, ffn_dim, heads : int
    kernel : int
        Frames that the convolution sees, odd; 0 for no convolution.
    use_sinusoids : bool
        Whether sinusoids are added to the input.
    norm_first : bool
        Pre-LN, or post-LN with a LayerNorm on the input.
    eps : float
        Of the LayerNorms.
    dropout, attention_dropout, activation_dropout : float
    layerdrop : float
        Probability of leaving out a layer in training (Fan et al. 2020).
    checkpoint_activations : bool
        Whether each layer is recomputed in the backward pass instead of keeping its intermediate results.
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
            EncoderLayer(embed_dim, ffn_dim, heads, dropout, attention_dropout, activation_dropout, norm_first, eps)
            for _ in range(layers)
        )
        # After the last layer (pre-LN), or on the input (post-LN, whose layers end in a LayerNorm).
        self.layer_norm = nn.LayerNorm(embed_dim, eps=eps)

    @property
    def embeddings(self) -> list[nn.Module]:
        """The modules before the first layer."""
        modules = [self.input, self.positions, None if self.norm_first else self.layer_norm]
        return [module for module in modules if module is not None]

    def forward(self, x_BTF: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Run the encoder.

        Parameters
        ----------
        x_BTF : Tensor
        lengths : sequence of int
            Frames of each row, 1 .. T.

        Returns
        -------
        final states, Tensor [B, T, D]
        states after the input and after each layer, list of Tensor [B, T, D]
            All are zero at padding.
        """
        packed = pack_rows(lengths, x_BTF.shape[1], x_BTF.device)
        x = self._embed(packed.flatten(x_BTF), packed)
        # In a partly frozen encoder, the layers that train have dropout, and the kernel depends on it.
        rate = self.attention_dropout if any(layer.training for layer in self.layers) else 0.0
        head_dim = self.embed_dim // self.heads
        metadata = varlen_metadata(packed.lengths, packed.lengths, x.device, x.dtype, head_dim, rate)
        states = [x]
        for layer in self.layers:
            if layer.training and self.layerdrop > 0 and torch.rand(()).item() < self.layerdrop:
                pass  # the layer is left out
            elif self.checkpoint_activations and layer.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, metadata, use_reentrant=False)
            else:
                x = layer(x, metadata)
            states.append(x)
        if self.norm_first:
            x = self.layer_norm(x)
        return packed.restore(x), [packed.restore(state) for state in states]

    def _embed(self, x_NF: Tensor, packed: PackedBatch) -> Tensor:
        x = self.input(x_NF)
        if self.use_sinusoids:
            x = x + sinusoids(packed.position_N, self.embed_dim).to(x.dtype)
        if self.positions is not None:
            x = x + self.positions(x, packed)
        if not self.norm_first:
            x = self.layer_norm(x)
        return dropout(x, self.dropout, self.training)
