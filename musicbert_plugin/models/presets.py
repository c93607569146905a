"""Named sizes of a model, for ``--arch``: they fill what the command line leaves open."""

from __future__ import annotations

from typing import Any

from fairseq.models import register_model_architecture

Size = tuple[int, int, int, int]
"""Layers, model dimensions, feed-forward dimensions, attention heads."""


def register_sizes(model: str, stack: str, sizes: dict[str, Size]) -> None:
    """Register ``--arch NAME`` for each size of a model; ``stack``, encoder or decoder, is what its layers make up."""
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
