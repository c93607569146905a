"""MuseCoco's language model of attributes and music for fairseq: ``--arch linear_transformer_lm_{debug,std,...}``.

Lu et al. 2023, "MuseCoco: Generating Symbolic Music from Text" (arXiv 2306.00110).  The network is
``modules/linear_decoder.py``; it is called as fairseq calls a language model,

    ``model(src_tokens, src_lengths=, sep_pos=)`` -> logits [B, L, V], extra

where ``sep_pos`` is one int per row: the index at which positions begin.  Without it, it is computed from the first
``<sep>`` of the row by the model's position mode, see ``modules/position_offset.py``.

Shapes: B rows, L tokens per row, D model dimensions, V vocabulary.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import FairseqDecoder, FairseqLanguageModel, register_model
from torch import Tensor

from musicbert_plugin.codecs.remi import LAYOUTS
from musicbert_plugin.data.prefix_lm_dataset import LOSS_ON
from musicbert_plugin.errors import OptionError
from musicbert_plugin.models.presets import Size, register_sizes
from musicbert_plugin.modules.linear_decoder import LinearDecoder
from musicbert_plugin.modules.position_offset import POSITION_MODES, position_offset

EMPTY_BUFFERS = {"decoder.version": 3.0, "decoder.embed_positions._float_tensor": 0.0}
"""Entries of published files that say nothing, and their values."""


@dataclass
class LinearTransformerLMConfig(FairseqDataclass):
    """Sizes and regularisation; the defaults are the size ``std``."""

    decoder_layers: int = field(default=6, metadata={"help": "number of Transformer layers"})
    decoder_embed_dim: int = field(default=512, metadata={"help": "model dimensions"})
    decoder_ffn_embed_dim: int = field(default=2048, metadata={"help": "inner dimensions of the feed-forward network"})
    decoder_attention_heads: int = field(
        default=8, metadata={"help": "number of attention heads, each of (model dimensions // heads) dimensions"}
    )
    dropout: float = field(
        default=0.1, metadata={"help": "dropout after embedding, attention and feed-forward network"}
    )
    activation_dropout: float = field(default=0.0, metadata={"help": "dropout inside the feed-forward network"})
    checkpoint_activations: bool = field(
        default=False,
        metadata={"help": "recompute each layer in the backward pass: less memory, about a third more time"},
    )
    position_mode: str = field(
        default="auto",
        metadata={"help": "where positions begin if a batch does not say: at <sep>, one token before it, or at 0"},
    )
    layout: str = field(default="auto", metadata={"help": "layout of the music, kept for generation"})
    prefix: str = field(default="auto", metadata={"help": "what comes before <sep>, kept for generation"})
    loss_on: str = field(default="auto", metadata={"help": "what the loss is over, kept for evaluation"})
    max_target_positions: Optional[int] = field(  # noqa: UP045 (fairseq reads the annotation)
        default=8192,
        metadata={"help": "longest row, prefix included, that fairseq lets through (the model itself has no limit)"},
    )


class LinearTransformerDecoder(LinearDecoder, FairseqDecoder):
    """The network as a fairseq decoder."""

    def __init__(self, cfg: LinearTransformerLMConfig, dictionary: Any) -> None:
        super().__init__(
            len(dictionary),
            cfg.decoder_embed_dim,
            cfg.decoder_ffn_embed_dim,
            cfg.decoder_layers,
            cfg.decoder_attention_heads,
            pad=dictionary.pad(),
            dropout=cfg.dropout,
            activation_dropout=cfg.activation_dropout,
            checkpoint_activations=cfg.checkpoint_activations,
            dictionary=dictionary,
        )
        self.position_mode = str(cfg.position_mode)
        self.longest = int(cfg.max_target_positions)
        sep = dictionary.index("<sep>")
        self.sep = None if sep == dictionary.unk() else sep

    def position_offset(self, tokens_BL: Tensor, sep_pos: Tensor | Sequence[int] | int | None = None) -> Tensor:
        """Index at which positions begin, int64 [B], as given or from ``<sep>``; 0 in a row without ``<sep>``."""
        rows = len(tokens_BL)
        if sep_pos is not None:
            given = torch.as_tensor(sep_pos, dtype=torch.int64, device=tokens_BL.device).flatten()
            if len(given) not in (1, rows):
                raise ValueError(f"sep_pos has {len(given)} entries for {rows} rows")
            return given.expand(rows)
        if self.sep is None:
            return tokens_BL.new_zeros(rows)
        # argmax of a row without <sep> is 0.
        return position_offset((tokens_BL == self.sep).int().argmax(1), self.position_mode).clamp(min=0)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Any = None,
        sep_pos: Tensor | Sequence[int] | int | None = None,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """See :meth:`LinearTransformerLM.forward`."""
        x, states = super().forward(src_tokens, self.position_offset(src_tokens, sep_pos), return_all_hiddens)
        return (x if features_only else self.output_projection(x)), {"inner_states": states or None}

    def extract_features(self, src_tokens: Tensor, **others: Any) -> tuple[Tensor, dict[str, Any]]:
        """States [B, L, D] after the final LayerNorm, and the extra dict."""
        return self.forward(src_tokens, features_only=True, **others)

    def output_layer(self, features: Tensor, **unused: Any) -> Tensor:
        """Logits of features."""
        return self.output_projection(features)

    def max_positions(self) -> int:
        """Longest row, prefix included."""
        return self.longest


@register_model("linear_transformer_lm", dataclass=LinearTransformerLMConfig)
class LinearTransformerLM(FairseqLanguageModel):
    """Attributes and music as one causal language model; see the module."""

    def __init__(self, args: LinearTransformerLMConfig, decoder: LinearTransformerDecoder) -> None:
        super().__init__(decoder)
        self.args = args

    @classmethod
    def build_model(cls, args: Any, task: Any) -> "LinearTransformerLM":
        """Make a model for a task's dictionary.

        Parameters
        ----------
        args : LinearTransformerLMConfig, or any object with its fields
            A Namespace comes from older files and named presets.
        task : FairseqTask
            With ``source_dictionary``.

        Raises
        ------
        OptionError
            If there are more heads than model dimensions, or the position mode is unknown.
        """
        args = LinearTransformerLMConfig.from_namespace(args)
        # Files of the original carry neither: they were trained with the defaults.
        if args.position_mode in (None, "auto"):
            args.position_mode = POSITION_MODES[0]
        if args.layout in (None, "auto"):
            args.layout = LAYOUTS[0]
        if args.prefix in (None, "auto"):
            args.prefix = "attributes"
        if args.loss_on in (None, "auto"):
            args.loss_on = LOSS_ON[0]
        if str(args.position_mode) not in POSITION_MODES:
            raise OptionError(f"--position-mode {args.position_mode}: one of {', '.join(POSITION_MODES)} is accepted")
        try:
            args.max_target_positions = int(args.max_target_positions)
        except (TypeError, ValueError):
            args.max_target_positions = 8192
        if not 1 <= args.decoder_attention_heads <= args.decoder_embed_dim:
            raise OptionError(
                f"--decoder-attention-heads {args.decoder_attention_heads}: with --decoder-embed-dim "
                f"{args.decoder_embed_dim}, 1 to {args.decoder_embed_dim} is accepted"
            )
        return cls(args, LinearTransformerDecoder(args, task.source_dictionary))

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Accept what other versions of fairseq, and Hugging Face folders, call or leave out; in place.

        Buffers without content (``version``, and ``_float_tensor`` of the positions, which fairseq no longer writes)
        may be absent; a table of positions, which is computed, goes; the output matrix may be ``embed_out`` or
        ``lm_head.weight``.
        """
        prefix = f"{name}." if name else ""
        decoder = f"{prefix}decoder."
        state_dict.pop(f"{decoder}embed_positions.weights", None)
        for key, value in EMPTY_BUFFERS.items():
            state_dict.setdefault(prefix + key, torch.tensor([value]))
        output = f"{decoder}output_projection.weight"
        for other in (f"{decoder}embed_out", f"{prefix}lm_head.weight"):
            if other in state_dict:
                state_dict.setdefault(output, state_dict.pop(other))
        super().upgrade_state_dict_named(state_dict, name)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Any = None,
        sep_pos: Tensor | Sequence[int] | int | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Run the model.

        Parameters
        ----------
        src_tokens : Tensor
            Ids [B, L], padded on the right.
        src_lengths : optional
            Ignored.
        sep_pos : int per row, or one for all, optional
            Index at which positions begin; by default see :meth:`LinearTransformerDecoder.position_offset`.
        features_only : bool
            Return features [B, L, D] instead of logits.
        return_all_hiddens : bool
            Put the states after the embedding and after each layer into the dict.

        Returns
        -------
        logits : Tensor [B, L, V]
            Of the token that follows each.
        extra : dict
            ``"inner_states"``: list of layers + 1 states [B, L, D], or None.
        """
        return self.decoder(src_tokens, src_lengths=src_lengths, sep_pos=sep_pos, **kwargs)


SIZES: dict[str, Size] = {
    # layers, model dimensions, feed-forward dimensions, heads
    "linear_transformer_lm_debug": (2, 32, 32, 8),
    "linear_transformer_lm_std": (6, 512, 2048, 8),
    "linear_transformer_lm_large": (12, 768, 3072, 12),
    "linear_transformer_lm_gpt": (12, 768, 3072, 12),
    "linear_transformer_lm_gpt_base": (12, 896, 3584, 12),
    "linear_transformer_lm_xl": (16, 1024, 4096, 12),
    "linear_transformer_lm_1billion": (24, 2048, 8192, 24),
}

register_sizes("linear_transformer_lm", "decoder", SIZES)
