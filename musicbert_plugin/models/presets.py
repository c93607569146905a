"""Options that the encoders share, and named sizes of a model for ``--arch``."""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairseq.dataclass import FairseqDataclass
from fairseq.models import register_model_architecture
from torch import nn

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
    adapter_rank: int = field(
        default=0,
        metadata={
            "help": "rank of low-rank adapters of the layers' matrices, which with the heads are all that is trained; "
            "0: no adapters (fine-tuning)"
        },
    )
    adapter_alpha: float = field(
        default=16.0, metadata={"help": "adapters are scaled by this number, divided by their rank (fine-tuning)"}
    )
    layer_lr_decay: float = field(
        default=1.0,
        metadata={
            "help": "factor D of the learning rate: heads learn at the rate, the last layer at D times it, the one "
            "before at D^2 times it, and so on (fine-tuning)"
        },
    )


def check_trainable_layers(trainable: int, layers: int) -> None:
    """Raise :class:`OptionError` if ``--trainable-layers`` is none of -1 to the number of layers."""
    if not -1 <= trainable <= layers:
        raise OptionError(
            f"--trainable-layers {trainable}: the model has {layers} layers, so -1 (all of the encoder) to {layers} "
            "is accepted"
        )


def check_adapters(cfg: LabelledEncoderConfig, trainable: int) -> None:
    """Raise :class:`OptionError` for adapters of no rank, or beside layers that are trained or frozen by choice."""
    if cfg.adapter_rank < 0:
        raise OptionError(
            f"--adapter-rank is {cfg.adapter_rank}, but a rank of at least 1, or 0 for none, is accepted."
        )
    if cfg.adapter_rank and trainable != -1:
        raise OptionError(
            f"--adapter-rank {cfg.adapter_rank} trains adapters in place of layers, but {trainable} layers are to be "
            "trained; one of the two is accepted."
        )


def learning_rate_factors(
    layers: Sequence[nn.Module], first: Iterable[nn.Module], decay: float
) -> dict[nn.Parameter, float]:
    """Factors of the learning rate of an encoder's parameters: decay^1 for the last layer, and so on.

    Parameters
    ----------
    layers : sequence of Module
        From the input on.
    first : iterable of Module
        What is before the first layer, and learns slowest.
    decay : float

    Raises
    ------
    OptionError
        The decay is no factor.
    """
    if not 0 < decay <= 1:
        raise OptionError(f"--layer-lr-decay is {decay:g}, but a factor above 0 and of at most 1 is accepted.")
    if decay == 1:
        return {}
    depths = [(module, len(layers) + 1) for module in first]
    depths += [(layer, len(layers) - number) for number, layer in enumerate(layers)]
    return {parameter: decay**depth for module, depth in depths for parameter in module.parameters()}


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
