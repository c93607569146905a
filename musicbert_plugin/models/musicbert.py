"""MusicBERT for fairseq: model ``musicbert``, ``--arch musicbert_{tiny,mini,small,medium,base,large}``.

Zeng et al. 2021, "MusicBERT: Symbolic Music Understanding with Large-Scale Pre-Training" (Findings of ACL), section 3
and 4.1.

The model is called as fairseq users call ``RobertaModel``, reads the published checkpoints and writes files that the
original reads: names and shapes of all parameters are the original's.  Its language-model head is *not* tied to the
embedding, since the published weights are not.

Shapes: B rows, T = 8 L sub-tokens, L octuples per row, F = 8 fields, D model dimensions, V vocabulary, C classes,
S segments per row, N octuples that are not padding, M masked fields.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
import torch.nn.functional as F
from fairseq.dataclass import ChoiceEnum
from fairseq.models import FairseqEncoder, FairseqEncoderModel, register_model
from omegaconf import II
from torch import Tensor, nn

from musicbert_plugin.codecs.octuple import FIELD_OFFSETS, FIELD_SIZES, VOCABULARY_SIZE
from musicbert_plugin.errors import CheckpointError, OptionError
from musicbert_plugin.models.presets import (
    LabelledEncoderConfig,
    Size,
    check_adapters,
    check_trainable_layers,
    learning_rate_factors,
    register_sizes,
)
from musicbert_plugin.modules.heads import LanguageModelHead, group_fields, project_fields
from musicbert_plugin.modules.low_rank import add_adapters, fit_adapters
from musicbert_plugin.modules.octuple_encoder import FIELDS, FIRST_POSITION, OctupleEncoder
from musicbert_plugin.modules.packed_batch import PackedBatch
from musicbert_plugin.modules.pooled_heads import FIRST, NONE, POOLINGS, ClassificationHead, PooledHeads
from musicbert_plugin.modules.state_cache import StateCache

logger = logging.getLogger(__name__)

AUTO = "auto"
FRAME = 2
"""Octuples of a segment that are no notes: ``<s>`` and ``</s>``."""
POOLING_CHOICES = ChoiceEnum((AUTO, FIRST, *POOLINGS, NONE))


@dataclass
class MusicBERTConfig(LabelledEncoderConfig):
    """Sizes and regularisation; the defaults are the base size."""

    pooler_dropout: float = field(default=0.0, metadata={"help": "dropout of classification heads"})
    encoder_layers_to_keep: Optional[str] = field(  # noqa: UP045 (fairseq reads the annotation)
        default=None,
        metadata={"help": "comma-separated layers to keep of a checkpoint trained with --encoder-layerdrop"},
    )
    max_positions: int = field(
        default=II("task.tokens_per_sample"),
        metadata={
            "help": "size of the position table less two (the published models have 8192); default: tokens per sample"
        },
    )
    compile_layers: bool = field(
        default=False, metadata={"help": "run each layer through torch.compile (meant for a GPU)"}
    )
    freeze_encoder_layers: int = field(
        default=0,
        metadata={
            "help": "freeze the embeddings (tokens, down-projection, positions, their LayerNorm) and the first N "
            "layers, which then also run without dropout; 0 trains everything; the same by --trainable-layers, which "
            "counts from the end"
        },
    )
    pooling: POOLING_CHOICES = field(
        default=AUTO,
        metadata={
            "help": "how the notes of a window become one vector (fine-tuning): first, the published head on <s>; "
            "mean, attention or mean+max of the notes; none, a head per note; auto: first, or none for labels of notes"
        },
    )
    load_checkpoint_heads: bool = field(
        default=False, metadata={"help": "make and load the classification heads that a checkpoint has"}
    )


class MusicBERTEncoder(FairseqEncoder):
    """The octuple encoder and its language-model head, called as ``RobertaEncoder`` is."""

    def __init__(self, cfg: MusicBERTConfig, dictionary: Any) -> None:
        super().__init__(dictionary)
        vocabulary_size = len(dictionary)
        # The codec's ids, and <mask> behind them; with another dictionary everything works but the folded embedding.
        octuples = vocabulary_size == VOCABULARY_SIZE + 1
        self.sentence_encoder = OctupleEncoder(
            vocabulary_size,
            cfg.encoder_embed_dim,
            cfg.encoder_layers,
            cfg.encoder_ffn_embed_dim,
            cfg.encoder_attention_heads,
            cfg.max_positions,
            pad=dictionary.pad(),
            dropout=cfg.dropout,
            attention_dropout=cfg.attention_dropout,
            activation_dropout=cfg.activation_dropout,
            layerdrop=cfg.encoder_layerdrop,
            checkpoint_activations=cfg.checkpoint_activations,
            trainable_layers=trainable_layers(cfg),
            field_offsets=FIELD_OFFSETS if octuples else (),
            field_sizes=FIELD_SIZES if octuples else (),
        )
        if cfg.compile_layers:
            for layer in self.sentence_encoder.layers:
                layer.compile()
        self.lm_head = LanguageModelHead(cfg.encoder_embed_dim, vocabulary_size)

    def forward(
        self,
        src_tokens: Tensor,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        masked_tokens: Tensor | None = None,
        segment_lengths: Tensor | None = None,
        first_only: bool = False,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """See :meth:`MusicBERTModel.forward`; ``first_only``: features [B, 1, D] of each row's first sub-token."""
        encoder = self.sentence_encoder
        project = encoder.upsampling[0]
        rows, subtokens = src_tokens.shape
        if features_only and first_only and not return_all_hiddens:
            x = self._first_states(src_tokens, segment_lengths)
            return F.linear(x, *_first_block(project)).unsqueeze(1), {"inner_states": None, "octuple_states": None}
        if masked_tokens is not None and not features_only and not return_all_hiddens:
            x = self._masked_features(src_tokens, masked_tokens, segment_lengths)
            return self.lm_head(x), {"inner_states": None, "octuple_states": None}
        x, packed, states = encoder(src_tokens, segment_lengths, keep_all=return_all_hiddens)
        x_BLD = packed.restore(x)
        extra = {
            "inner_states": [packed.restore(state) for state in states] if return_all_hiddens else None,
            "octuple_states": x_BLD,
        }
        features = project(x_BLD).view(rows, subtokens, -1)
        if features_only:
            return (features[:, :1] if first_only else features), extra
        return self.lm_head(features if masked_tokens is None else features[masked_tokens]), extra

    def _masked_features(self, src_tokens: Tensor, masked_BT: Tensor, segment_lengths: Tensor | None) -> Tensor:
        """[M, D] features of the masked sub-tokens, in row-major order of the mask."""
        masked_BLF = masked_BT.reshape(len(src_tokens), -1, FIELDS)
        needed_BL = masked_BLF.any(2)
        index_M = masked_BLF.flatten().nonzero().flatten()
        groups = group_fields(index_M % FIELDS)
        x, packed, _ = self.sentence_encoder(src_tokens, segment_lengths, needed_BL=needed_BL)
        if packed.kept_N is None:
            kept = needed_BL.flatten()
        else:
            # A masked field of an octuple that counts as padding gets the features of a zero state.
            kept = torch.zeros_like(needed_BL.flatten()).index_copy(0, packed.kept_N, packed.flatten(needed_BL))
            x = torch.cat([x, x.new_zeros(1, x.shape[1])])
        row = torch.where(kept, kept.cumsum(0) - 1, len(x) - 1)
        return project_fields(x, row[index_M // FIELDS], groups, self.sentence_encoder.upsampling[0])

    def _first_states(self, src_tokens: Tensor, segment_lengths: Tensor | None) -> Tensor:
        """[B, D] final states of each row's first octuple."""
        needed_BL = torch.zeros(
            len(src_tokens), src_tokens.shape[1] // FIELDS, dtype=torch.bool, device=src_tokens.device
        )
        needed_BL[:, 0] = True
        x, packed, _ = self.sentence_encoder(src_tokens, segment_lengths, needed_BL=needed_BL)
        if len(x) < len(src_tokens):
            kept_B = src_tokens[:, 0] != self.sentence_encoder.pad
            x = x.new_zeros(len(src_tokens), x.shape[1]).index_copy(0, kept_B.nonzero().flatten(), x)
        return x

    def segment_features(self, src_tokens: Tensor, segment_lengths: Tensor | None) -> Tensor:
        """Features [P, D] of the first sub-token of each of P segments, in order; rows of padding have none."""
        needed_BL = torch.zeros(
            len(src_tokens), src_tokens.shape[1] // FIELDS, dtype=torch.bool, device=src_tokens.device
        )
        if segment_lengths is None:
            needed_BL[:, 0] = src_tokens[:, 0] != self.sentence_encoder.pad
        else:
            row, segment = segment_lengths.nonzero(as_tuple=True)
            needed_BL[row, (segment_lengths.cumsum(1) - segment_lengths)[row, segment]] = True
        x, _, _ = self.sentence_encoder(src_tokens, segment_lengths, needed_BL=needed_BL)
        return F.linear(x, *_first_block(self.sentence_encoder.upsampling[0]))

    def max_positions(self) -> int:
        """Sub-tokens per row that the position table is named for (as RoBERTa's)."""
        return self.sentence_encoder.max_positions


def _first_block(projection: nn.Linear) -> tuple[Tensor, Tensor]:
    return projection.weight.chunk(FIELDS)[0], projection.bias.chunk(FIELDS)[0]


def trainable_layers(cfg: MusicBERTConfig) -> int:
    """Layers that are trained, -1 for everything, of both options that say so.

    Raises
    ------
    OptionError
        They contradict each other, or name layers that do not exist.
    """
    frozen, layers = cfg.freeze_encoder_layers, cfg.encoder_layers
    if not 0 <= frozen <= layers:
        raise OptionError(
            f"--freeze-encoder-layers {frozen}: the model has {layers} layers, so 0 to {layers} is accepted."
        )
    check_trainable_layers(cfg.trainable_layers, layers)
    if frozen and cfg.trainable_layers not in (-1, layers - frozen):
        raise OptionError(
            f"--freeze-encoder-layers {frozen} of {layers} layers leaves {layers - frozen}, but --trainable-layers is "
            f"{cfg.trainable_layers}; one of the two is enough."
        )
    return layers - frozen if frozen else cfg.trainable_layers


def pooling_of(cfg: MusicBERTConfig, per_note: bool) -> str:
    """The pooling of a model with heads for labels of windows, or of notes.

    Raises
    ------
    OptionError
        The pooling is not for such labels, or ``first`` should read another layer than the last.
    """
    pooling = str(cfg.pooling)
    if pooling == AUTO:
        pooling = NONE if per_note else FIRST
    if (pooling == NONE) != per_note:
        accepted = NONE if per_note else ", ".join((FIRST, *POOLINGS))
        raise OptionError(
            f"--pooling is {pooling}, but for labels of {'notes' if per_note else 'windows'}: {accepted}."
        )
    if pooling == FIRST and cfg.layer_mix != "last":
        raise OptionError(
            f"--layer-mix is {cfg.layer_mix}, but --pooling {FIRST} reads the last layer; use it with "
            f"{', '.join(POOLINGS)}."
        )
    return pooling


@register_model("musicbert", dataclass=MusicBERTConfig)
class MusicBERTModel(FairseqEncoderModel):
    """MusicBERT with any number of classification heads, or of heads for labelled tasks.

    ``model.args`` is the configuration (the name is the one that fairseq's own criterions look for).

    Heads of labelled tasks are ``classification_heads`` with the pooling ``first``, whose file is as a published one,
    else :class:`PooledHeads`.  What their loss does not use is frozen: the language-model head and, unless the pooling
    is ``first``, the up-projection.

    Parameters
    ----------
    args : MusicBERTConfig
    encoder : MusicBERTEncoder
    heads : dict of str to int, optional
        Outputs of each labelled task, by name; None for masked language modelling.
    per_note : bool
        Whether labels are of notes, not of windows.
    """

    def __init__(
        self,
        args: MusicBERTConfig,
        encoder: MusicBERTEncoder,
        heads: dict[str, int] | None = None,
        per_note: bool = False,
    ) -> None:
        super().__init__(encoder)
        self.args = args
        self.head_sizes = dict(heads or {})
        self._pooled: dict[str, StateCache] = {}
        pooling = pooling_of(args, per_note) if heads else FIRST
        self.label_heads = None
        if pooling != FIRST:
            self.label_heads = PooledHeads(
                args.encoder_embed_dim,
                len(encoder.sentence_encoder.layers),
                self.head_sizes,
                pooling=pooling,
                layer_mix=args.layer_mix,
                dropout=args.pooler_dropout,
                hidden=args.head_dim,
            )
        self.apply(initialize)
        self.classification_heads = nn.ModuleDict()
        encoder.sentence_encoder.freeze()
        if heads:
            encoder.lm_head.requires_grad_(False)
            if pooling != FIRST or trainable_layers(args) == 0:
                encoder.sentence_encoder.upsampling.requires_grad_(False)
        if heads and args.adapter_rank:
            check_adapters(args, trainable_layers(args))
            encoder.sentence_encoder.requires_grad_(False)
            add_adapters(encoder.sentence_encoder.layers, args.adapter_rank, args.adapter_alpha)
        self.learning_rate_factors = learning_rate_factors(
            encoder.sentence_encoder.layers,
            encoder.sentence_encoder.embeddings,
            args.layer_lr_decay if heads else 1.0,
        )
        if heads and pooling == FIRST:
            for name, size in heads.items():
                self.register_classification_head(name, size, args.head_dim or None)

    @classmethod
    def build_model(cls, args: Any, task: Any) -> "MusicBERTModel":
        """Make a model for a task's dictionary.

        Parameters
        ----------
        args : MusicBERTConfig, or any object with its fields
            A Namespace comes from older files and named presets.
        task : FairseqTask
            With ``source_dictionary`` and, for labelled tasks, ``head_sizes``, outputs by name, and ``per_note``.

        Raises
        ------
        OptionError
            If layers to freeze do not exist, the pooling is not for such labels, or the file of an older model asks
            for another activation function.
        """
        for name, only in (("activation_fn", "gelu"), ("pooler_activation_fn", "tanh")):
            if getattr(args, name, only) != only:
                raise OptionError(f"{name} is {getattr(args, name)!r}, but MusicBERT's is {only!r} alone.")
        # Also from a DictConfig: files of an older version of this plugin lack the newer fields.
        args = MusicBERTConfig.from_namespace(args)
        if not isinstance(args.max_positions, int):
            # Very old Namespaces lack the field; RoBERTa then takes the task's.
            args.max_positions = int(getattr(task.cfg, "tokens_per_sample", None) or task.max_positions())
        if args.encoder_layers_to_keep:
            args.encoder_layers = len(args.encoder_layers_to_keep.split(","))
        encoder = MusicBERTEncoder(args, task.source_dictionary)
        return cls(args, encoder, getattr(task, "head_sizes", None), getattr(task, "per_note", False))

    def forward(
        self,
        src_tokens: Tensor,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        classification_head_name: str | None = None,
        masked_tokens: Tensor | None = None,
        segment_lengths: Tensor | None = None,
        labels: bool = False,
        cached: tuple[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Run the model.

        Parameters
        ----------
        src_tokens : Tensor
            Ids [B, T]; an octuple whose bar slot is padding is padding.
        features_only : bool
            Return features instead of logits.
        return_all_hiddens : bool
            Put the states after the embedding and after each layer into the dict.
        classification_head_name : str, optional
            Return the logits of this head.
        masked_tokens : bool Tensor [B, T], optional
            Return logits for these sub-tokens only.
        segment_lengths : int Tensor [B, S], optional
            Octuples of each segment packed into a row, zeros on the right; by default a row is one segment.
        labels : bool
            Return the logits of the labelled tasks.
        cached : optional
            See :meth:`label_logits`.

        Returns
        -------
        output : Tensor
            With ``labels``, by task: logits [P, C] of each segment, in order, or of each of the notes of all segments.
            Otherwise logits [B, T, V]; with ``masked_tokens`` logits [M, V] in row-major order of the mask; with
            ``features_only`` features [B, T, D]; with a head its logits [B, C].
        extra : dict
            ``"inner_states"`` (list of layers + 1 states [B, L, D], or None) and ``"octuple_states"`` (the last state
            [B, L, D], or None where only a part was computed).  States are zero at padding.
        """
        if labels:
            return self.label_logits(src_tokens, segment_lengths, cached), {}
        head = None if classification_head_name is None else self.classification_heads[classification_head_name]
        x, extra = self.encoder(
            src_tokens,
            features_only=features_only or head is not None,
            return_all_hiddens=return_all_hiddens,
            masked_tokens=masked_tokens,
            segment_lengths=segment_lengths,
            first_only=head is not None,
            **kwargs,
        )
        return (x if head is None else head(x)), extra

    def label_logits(
        self,
        src_tokens: Tensor,
        segment_lengths: Tensor | None = None,
        cached: tuple[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Logits of the labelled tasks, by name; see :meth:`forward`.

        Parameters
        ----------
        src_tokens, segment_lengths
            As in :meth:`forward`.
        cached : (str, int64 Tensor [P]), optional
            A split, and the number of each window in it, where the encoder is frozen and a window is the same in every
            epoch: pooled states are then computed once.

        Raises
        ------
        ValueError
            A segment has no note between its frame octuples.
        """
        pooled = None
        if cached is not None:
            split, number_P = cached[0], cached[1].cpu()
            cache = self._pooled.setdefault(split, StateCache())
            pooled = cache.get(number_P)
        if pooled is None:
            pooled = self._pooled_states(src_tokens, segment_lengths)
            if cached is not None:
                cache.put(number_P, pooled)
        if self.label_heads is None:
            return {name: self.classification_heads[name](pooled.unsqueeze(1)) for name in self.head_sizes}
        return self.label_heads.logits(pooled)

    def _pooled_states(self, src_tokens: Tensor, segment_lengths: Tensor | None) -> Tensor:
        """The input of the heads, a row per segment (or per note)."""
        if self.label_heads is None:
            return self.encoder.segment_features(src_tokens, segment_lengths)
        encoder, heads = self.encoder.sentence_encoder, self.label_heads
        x, packed, states = encoder(src_tokens, segment_lengths, keep_all=heads.needs_states)
        index_M = notes_of(packed)
        states = [state.index_select(0, index_M) for state in states]
        return heads.pooled(x.index_select(0, index_M), states, [length - FRAME for length in packed.lengths])

    def get_normalized_probs(self, net_output: Any, log_probs: bool, sample: Any = None) -> Tensor:
        """Softmax (or its logarithm) of the logits, in float32."""
        logits = net_output[0].float()
        return F.log_softmax(logits, dim=-1) if log_probs else F.softmax(logits, dim=-1)

    @property
    def supported_targets(self) -> set[str]:
        """Kind of targets, by fairseq's name: the input itself."""
        return {"self"}

    def max_positions(self) -> int:
        """Longest row in sub-tokens."""
        return self.encoder.max_positions()

    def register_classification_head(
        self, name: str, num_classes: int | None = None, inner_dim: int | None = None, **unused: Any
    ) -> None:
        """Add (or replace) a classification head of ``num_classes`` classes."""
        if num_classes is None:
            raise ValueError(f"classification head {name!r} needs a number of classes")
        if name in self.classification_heads:
            logger.warning("replacing the classification head %r", name)
        dim = self.args.encoder_embed_dim
        self.classification_heads[name] = ClassificationHead(
            dim, inner_dim or dim, num_classes, self.args.pooler_dropout
        )

    def forward_flops(self, shape: Sequence[int] | Tensor, n_masked: int) -> float:
        """Floating-point operations of a forward pass in the original arrangement: matrix products and attention.

        Everything is counted that the published model computes: the down-projection, all layers for all octuples, the
        whole up-projection, the language-model head for the masked fields.  A training step counts three times as much.

        Parameters
        ----------
        shape : (B, L), or integer Tensor of any shape
            Octuples of each segment; zeros are ignored.
        n_masked : int
            Number of masked fields.

        Returns
        -------
        float
            Operations; a multiplication and an addition count as two.
        """
        lengths = (
            shape.double().flatten() if isinstance(shape, Tensor) else torch.tensor([float(shape[1])] * int(shape[0]))
        )
        octuples, pairs = float(lengths.sum()), float((lengths.double() ** 2).sum())
        dim, ffn, vocabulary = (
            self.args.encoder_embed_dim,
            self.args.encoder_ffn_embed_dim,
            self.encoder.lm_head.weight.shape[0],
        )
        projections = 2 * 2 * FIELDS * dim * dim
        layers = len(self.encoder.sentence_encoder.layers)
        return (
            octuples * (projections + layers * (4 * 2 * dim * dim + 2 * 2 * dim * ffn))
            + pairs * layers * 2 * 2 * dim
            + n_masked * (2 * dim * dim + 2 * dim * vocabulary)
        )

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Accept the names that other versions of fairseq give, and fit the classification heads; in place.

        ``decoder`` becomes ``encoder``, ``layernorm_embedding`` becomes ``emb_layer_norm``, the ``version`` buffer
        goes. Heads of the file that the model lacks (or has in another shape) are made with ``load_checkpoint_heads``,
        else left out with a warning; heads that only the model has keep their present weights.
        """
        prefix = f"{name}." if name else ""
        for key in list(state_dict):
            new = key
            if new.startswith(f"{prefix}decoder."):
                new = f"{prefix}encoder.{new[len(prefix) + len('decoder.') :]}"
            new = new.replace(".layernorm_embedding.", ".emb_layer_norm.")
            if new == f"{prefix}encoder.sentence_encoder.version":
                del state_dict[key]
            elif new != key:
                state_dict[new] = state_dict.pop(key)
        super().upgrade_state_dict_named(state_dict, name)
        self._pooled.clear()
        fit_adapters(state_dict, prefix, self.state_dict())
        if self.head_sizes:
            self._fit_positions(state_dict, f"{prefix}encoder.sentence_encoder.embed_positions.weight")
        self._fit_classification_heads(state_dict, f"{prefix}classification_heads.")
        own = {
            name: value
            for name, value in self.state_dict().items()
            if name.startswith(("classification_heads.", "label_heads."))
        }
        for key in [key for key in state_dict if key.startswith(f"{prefix}label_heads.")]:
            name = key[len(prefix) :]
            if name not in own or own[name].shape != state_dict[key].shape:
                del state_dict[key]
        fresh = [name for name in own if prefix + name not in state_dict]
        for name in fresh:
            state_dict[prefix + name] = own[name]
        if self.head_sizes:
            part = "classification_heads" if self.label_heads is None else "label_heads.heads"
            new = {head for head in self.head_sizes if any(name.startswith(f"{part}.{head}.") for name in fresh)}
            logger.info(
                "heads from the checkpoint: %s; heads that start fresh: %s",
                ", ".join(sorted(set(self.head_sizes) - new)) or "none",
                ", ".join(sorted(new)) or "none",
            )

    def _fit_positions(self, state_dict: dict[str, Tensor], key: str) -> None:
        """Keep as many positions of a file as the model has; in place.

        Raises
        ------
        CheckpointError
            The file has fewer.
        """
        table, own = state_dict.get(key), self.encoder.sentence_encoder.embed_positions.weight
        if table is None or table.shape[1:] != own.shape[1:]:
            return
        theirs, wanted = len(table) - FIRST_POSITION, len(own) - FIRST_POSITION
        if theirs < wanted:
            raise CheckpointError(
                f"the checkpoint has {theirs} positions, but the model {wanted}; --tokens-per-sample {theirs} is "
                "accepted"
            )
        state_dict[key] = table[: len(own)]

    def _fit_classification_heads(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        for head in sorted({key[len(prefix) :].split(".")[0] for key in state_dict if key.startswith(prefix)}):
            dense, out = (
                state_dict.get(f"{prefix}{head}.dense.weight"),
                state_dict.get(f"{prefix}{head}.out_proj.weight"),
            )
            present = self.classification_heads[head] if head in self.classification_heads else None
            if present is not None and dense is not None and out is not None:
                fits = present.dense.weight.shape == dense.shape and present.out_proj.weight.shape == out.shape
            else:
                fits = False
            if fits:
                continue
            if self.args.load_checkpoint_heads and dense is not None and out is not None:
                self.register_classification_head(head, num_classes=out.shape[0], inner_dim=dense.shape[0])
                continue
            why = "has another shape than the model's" if present is not None else "is not in the model"
            logger.warning("leaving out the checkpoint's classification head %r: it %s", head, why)
            for key in [key for key in state_dict if key.startswith(f"{prefix}{head}.")]:
                del state_dict[key]


def notes_of(packed: PackedBatch) -> Tensor:
    """Index of each note in the positions of a batch, int64 [M]: all but the first and the last of each segment."""
    if min(packed.lengths, default=FRAME + 1) <= FRAME:
        raise ValueError("a segment has no note between its frame octuples, so that it has no labels")
    device = packed.position_N.device
    end_P = torch.tensor(packed.lengths, device=device).cumsum(0)
    inner_N = packed.position_N > 0
    inner_N[end_P - 1] = False
    return inner_N.nonzero().flatten()


def initialize(module: nn.Module) -> None:
    """BERT's start: matrices and tables N(0, 0.02), biases 0, padding rows 0, LayerNorms 1 and 0."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
    elif isinstance(module, LanguageModelHead):
        # The original's matrix began as an embedding, so its row for padding is zero too.
        nn.init.normal_(module.weight, std=0.02)
        with torch.no_grad():
            module.weight[1].zero_()


SIZES: dict[str, Size] = {
    # layers, model dimensions, feed-forward dimensions, heads
    "musicbert_tiny": (2, 128, 512, 2),
    "musicbert_mini": (4, 256, 1024, 4),
    "musicbert_small": (4, 512, 2048, 8),
    "musicbert_medium": (8, 512, 2048, 8),
    "musicbert_base": (12, 768, 3072, 12),
    "musicbert_large": (24, 1024, 4096, 16),
}

register_sizes("musicbert", "encoder", SIZES)
