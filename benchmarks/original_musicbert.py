"""The published MusicBERT in its original arrangement, in plain torch, as the reference of tests and benchmarks.

Implemented from the description of the published model; shares no code with the plugin.  As in the original, all eight
embeddings of every octuple go through the down-projection, all octuples through the whole up-projection, and only the
language-model head is restricted to masked sub-tokens.  Padding is kept, and masked in attention.
:meth:`OriginalMusicBERT.published_state` has the published names and shapes; ``.double()`` makes it a float64
reference.

Shapes: B rows, T = 8 L sub-tokens, L octuples, H heads, K dimensions per head, D = H * K.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

PAD = 1


class OriginalMusicBERT(nn.Module):
    def __init__(
        self, layers, embed_dim, ffn_dim, heads, vocabulary=1237, max_positions=8192, dropout=0.0, attention_dropout=0.0
    ):
        super().__init__()
        self.layer_count, self.heads = layers, heads
        self.dropout, self.attention_dropout = dropout, attention_dropout
        shapes = {
            "embed_tokens.weight": (vocabulary, embed_dim),
            "embed_positions.weight": (max_positions + 2, embed_dim),
            "emb_layer_norm.weight": (embed_dim,),
            "emb_layer_norm.bias": (embed_dim,),
        }
        for n in range(layers):
            for p in ("k_proj", "v_proj", "q_proj", "out_proj"):
                shapes[f"layers.{n}.self_attn.{p}.weight"] = (embed_dim, embed_dim)
                shapes[f"layers.{n}.self_attn.{p}.bias"] = (embed_dim,)
            shapes[f"layers.{n}.self_attn_layer_norm.weight"] = (embed_dim,)
            shapes[f"layers.{n}.self_attn_layer_norm.bias"] = (embed_dim,)
            shapes[f"layers.{n}.fc1.weight"] = (ffn_dim, embed_dim)
            shapes[f"layers.{n}.fc1.bias"] = (ffn_dim,)
            shapes[f"layers.{n}.fc2.weight"] = (embed_dim, ffn_dim)
            shapes[f"layers.{n}.fc2.bias"] = (embed_dim,)
            shapes[f"layers.{n}.final_layer_norm.weight"] = (embed_dim,)
            shapes[f"layers.{n}.final_layer_norm.bias"] = (embed_dim,)
        shapes |= {
            "downsampling.0.weight": (embed_dim, 8 * embed_dim),
            "downsampling.0.bias": (embed_dim,),
            "upsampling.0.weight": (8 * embed_dim, embed_dim),
            "upsampling.0.bias": (8 * embed_dim,),
        }
        shapes = {f"encoder.sentence_encoder.{name}": shape for name, shape in shapes.items()}
        shapes |= {
            "encoder.lm_head.weight": (vocabulary, embed_dim),
            "encoder.lm_head.bias": (vocabulary,),
            "encoder.lm_head.dense.weight": (embed_dim, embed_dim),
            "encoder.lm_head.dense.bias": (embed_dim,),
            "encoder.lm_head.layer_norm.weight": (embed_dim,),
            "encoder.lm_head.layer_norm.bias": (embed_dim,),
        }
        # Names in a ParameterDict must not contain dots, so tensors are kept in a list and named in published_state().
        self.names = list(shapes)
        self.tensors = nn.ParameterList(torch.empty(shape) for shape in shapes.values())

    def named(self):
        """The published name of every parameter, and the parameter."""
        return dict(zip(self.names, self.tensors, strict=True))

    def randomize(self, std=0.02, noise=0.0):
        """Draw weights from N(0, std), with zero padding rows, and add ``noise`` to biases and LayerNorms."""
        for name, tensor in self.named().items():
            with torch.no_grad():
                if tensor.dim() == 2:
                    tensor.normal_(std=std)
                else:
                    tensor.fill_(1.0 if "norm.weight" in name else 0.0).add_(torch.randn_like(tensor), alpha=noise)
                if "embed" in name or name == "encoder.lm_head.weight":
                    tensor[PAD].zero_()
        return self

    def published_state(self):
        """A state dict with the names of published files."""
        return {name: tensor.detach().clone() for name, tensor in self.named().items()}

    def load(self, state):
        for name, tensor in self.named().items():
            with torch.no_grad():
                tensor.copy_(state[name])
        return self

    def forward(self, tokens_BT, masked_BT=None, features_only=False):
        """Logits [B, T, V], or [M, V] for masked sub-tokens only; or features [B, T, D]."""
        w = self.named()

        def linear(x, name):
            return F.linear(x, w[name + ".weight"], w[name + ".bias"])

        def norm(x, name):
            return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"])

        def drop(x):
            return F.dropout(x, self.dropout, self.training)

        e = "encoder.sentence_encoder."
        rows, subtokens = tokens_BT.shape
        bar_BL = tokens_BT[:, ::8]
        padding_BL = bar_BL.eq(PAD)
        x = F.embedding(tokens_BT, w[e + "embed_tokens.weight"], padding_idx=PAD)
        x = linear(x.view(rows, subtokens // 8, -1), e + "downsampling.0")
        position_BL = (~padding_BL).cumsum(1) * ~padding_BL + PAD
        x = x + F.embedding(position_BL, w[e + "embed_positions.weight"], padding_idx=PAD)
        x = drop(norm(x, e + "emb_layer_norm")) * ~padding_BL[..., None]
        mask = ~padding_BL[:, None, None, :] if padding_BL.any() else None
        for n in range(self.layer_count):
            layer = f"{e}layers.{n}."
            q, k, v = (
                linear(x, f"{layer}self_attn.{p}_proj").view(rows, subtokens // 8, self.heads, -1).transpose(1, 2)
                for p in "qkv"
            )
            dropout = self.attention_dropout if self.training else 0.0
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
            a = linear(a.transpose(1, 2).flatten(2), layer + "self_attn.out_proj")
            x = norm(x + drop(a), layer + "self_attn_layer_norm")
            h = linear(F.gelu(linear(x, layer + "fc1")), layer + "fc2")
            x = norm(x + drop(h), layer + "final_layer_norm")
        features = linear(x, e + "upsampling.0").view(rows, subtokens, -1)
        if features_only:
            return features
        if masked_BT is not None:
            features = features[masked_BT]
        h = norm(F.gelu(linear(features, "encoder.lm_head.dense")), "encoder.lm_head.layer_norm")
        return F.linear(h, w["encoder.lm_head.weight"], w["encoder.lm_head.bias"])
