"""A float64 model of MuseCoco's language model, and small models of ours to compare it with.

It knows the published names and formulas only: loops over positions, sums over the past, no tensors of chunks.
"""

from __future__ import annotations

import math
from argparse import Namespace

import torch


def expected_logits(state, tokens, begin, heads):
    """Logits [L, V] of one row without padding, in float64; positions begin at ``begin``."""
    w = {name: value.double() for name, value in state.items()}
    embedding = w["decoder.embed_tokens.weight"]
    dim = embedding.shape[1]
    layers = 1 + max(int(name.split(".")[2]) for name in w if name.startswith("decoder.layers."))
    x = math.sqrt(dim) * embedding[tokens]
    for place in range(begin, len(tokens)):
        for i in range(dim // 2):
            angle = (place - begin + 2) * math.exp(-i * math.log(10000) / (dim // 2 - 1))
            x[place, i] += math.sin(angle)
            x[place, dim // 2 + i] += math.cos(angle)

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def phi(x):
        return torch.where(x > 0, x + 1, x.exp())

    size = dim // heads
    for n in range(layers):
        layer = f"decoder.layers.{n}"
        h = norm(x, f"{layer}.self_attn_layer_norm")
        q, k, v = (linear(h, f"{layer}.self_attn.{name}_proj") for name in "qkv")
        out = torch.zeros_like(v)
        for head in range(heads):
            of = slice(head * size, (head + 1) * size)
            for place in range(len(tokens)):
                weights = phi(k[: place + 1, of]) @ phi(q[place, of])
                out[place, of] = weights @ v[: place + 1, of] / (weights.sum() + 1e-6)
        x = x + linear(out, f"{layer}.self_attn.out_proj")
        h = linear(norm(x, f"{layer}.final_layer_norm"), f"{layer}.fc1")
        h = 0.5 * h * (1 + torch.erf(h / math.sqrt(2)))
        x = x + linear(h, f"{layer}.fc2")
    return norm(x, "decoder.layer_norm") @ w["decoder.output_projection.weight"].T


def dictionary(size=1253, sep=984):
    from fairseq.data import Dictionary

    words = Dictionary()
    while len(words) < size:
        words.add_symbol("<sep>" if len(words) == sep else f"w{len(words)}")
    return words


def make(words=None, arch="debug", **options):
    from fairseq.models import ARCH_CONFIG_REGISTRY

    from musicbert_plugin.models.linear_transformer_lm import LinearTransformerLM

    args = Namespace(**options)
    ARCH_CONFIG_REGISTRY[f"linear_transformer_lm_{arch}"](args)
    task = Namespace(source_dictionary=words or dictionary(), cfg=Namespace(position_mode="zero-prefix"))
    torch.manual_seed(1)
    return LinearTransformerLM.build_model(args, task).eval()


def spread(model, scale=3.0):
    """Weights large enough that a wrong formula shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name or name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "self_attn" in name:
                parameter.mul_(scale)
    return model
