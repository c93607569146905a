"""Options that the encoders share, and named sizes of a model for ``--arch``."""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from dataclasses import dataclass, field
from typing import Any

from fairseq.dataclass import FairseqDataclass
from fairseq.models import register_model_architecture

from musicbert_plugin.errors import OptionError

Size = tuple[int, int, int, int]
"""Layers, model dimensions, feed-forward dimensions, attention heads."""


@dataclass
class EncoderConfig(FairseqDataclass):
    """Sizes and regularisation of an encoder; the defaults are the base size of BERT."""

    encoder_layers: int = field(default=12, metadata={"help": "number of Transformer layers"})
    encoder_embed_dim: int = field(default=768, metadata={"help": "model dimensions"})
    encoder_ffn_embed_dim: int = field(default=3072, metadata={"help": "inner dimensions of the feed-forward network"})
    encoder_attention_heads: int = field(default=12, metadata={"help": "number of attention heads"})
    dropout: float = field(
        default=0.1, metadata={"help": "dropout after embedding, attention and feed-forward network"}
    )
    attention_dropout: float = field(default=0.1, metadata={"help": "dropout of attention weights"})
    activation_dropout: float = field(default=0.0, metadata={"help": "dropout inside the feed-forward network"})
    encoder_layerdrop: float = field(default=0.0, metadata={"help": "probability of leaving out a layer in training"})
    checkpoint_activations: bool = field(
        default=False,
        metadata={"help": "recompute each layer in the backward pass: less memory, about a third more time"},
    )


@dataclass
class LabelledEncoderConfig(EncoderConfig):
    """An encoder that is fine-tuned on labels, too."""

    layer_mix: str = field(
        default="last",
        metadata={"help": "last, learned (a weighted mean of all layers), or a layer's number from 0 (fine-tuning)"},
    )
    trainable_layers: int = field(
        default=-1,
        metadata={"help": "-1 trains the whole encoder, 0 freezes it, k trains the last k layers (fine-tuning)"},
    )
    head_dim: int = field(default=0, metadata={"help": "hidden dimensions of the heads; 0: linear heads (fine-tuning)"})


def check_trainable_layers(trainable: int, layers: int) -> None:
    """Raise :class:`OptionError` if ``--trainable-layers`` is none of -1 to the number of layers."""
    if not -1 <= trainable <= layers:
        raise OptionError(
            f"--trainable-layers {trainable}: the model has {layers} layers, so -1 (all of the encoder) to {layers} "
            "is accepted"
        )


def register_sizes(model: str, stack: str, sizes: dict[str, Size]) -> None:
    """Register ``--arch NAME`` for each size of a model.

    Parameters
    ----------
    model : str
        Registered name of the model.
    stack : {"encoder", "decoder"}
        Prefix of the options that are set; those of the command line take precedence.
    sizes : dict of str to Size
    """
    for name, (layers, embed_dim, ffn_dim, heads) in sizes.items():
        fields = {"layers": layers, "embed_dim": embed_dim, "ffn_embed_dim": ffn_dim, "attention_heads": heads}
        preset = _preset({f"{stack}_{field}": value for field, value in fields.items()})
        register_model_architecture(model, name)(preset)


def _preset(values: dict[str, int]) -> Any:
    def preset(args: Any) -> None:
        """Fill the fields that are absent."""
        for name, value in values.items():
            if not hasattr(args, name):
                setattr(args, name, value)

    return preset
