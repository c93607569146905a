"""MusiCoder and M3BERT for fairseq: model ``musicoder``, ``--arch musicoder_{tiny,base,large}`` or ``m3bert_base``.

Wu et al. 2020, "MusiCoder: A universal music-acoustic encoder based on Transformer" (arXiv 2008.00781); M3BERT:
Scientific Reports 13, 2023 (s41598-023-36714-z).

One encoder of frames serves two tasks.  In ``spectrogram_reconstruction`` a head restores masked cells (its last layer
is linear, so that it can output any level), and a second one may predict discrete codes of masked frames (``--codes``).
In ``audio_multitask`` there is one head per labelled task on the pooled states instead; start from a pre-trained file
with ``--finetune-from-model``: its reconstruction heads are left out, and the new heads are initialised.

Features come in their own units.  The mean and deviation of the training data are part of the model, so that a file can
be applied to any recording, and fine-tuning standardises as pre-training did.

``--frame-stack r`` puts r consecutive frames side by side into one position of the encoder; the last ones of a window
are filled up with the mean, and the output has every frame.  ``--compat musicoder`` is the original's arrangement:
post-LN, sinusoids.

Shapes: B windows, T frames per row, F features, r frames per position, S = ceil(T / r) positions, D model dimensions,
G codebooks, K codes, C classes.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.dataclass import ChoiceEnum
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from musicbert_plugin.errors import CheckpointError, OptionError
from musicbert_plugin.models.presets import (
    LabelledEncoderConfig,
    Size,
    check_adapters,
    check_trainable_layers,
    learning_rate_factors,
    register_sizes,
)
from musicbert_plugin.modules.frame_encoder import FrameEncoder
from musicbert_plugin.modules.interpolation import interpolate_gaps
from musicbert_plugin.modules.low_rank import add_adapters, fit_adapters
from musicbert_plugin.modules.packed_batch import padding_mask
from musicbert_plugin.modules.pooled_heads import POOLINGS, PooledHeads
from musicbert_plugin.modules.random_codes import RandomCodes

logger = logging.getLogger(__name__)

SMALLEST_DEVIATION = 1e-3
SMALLEST_SIZES = {
    "encoder_layers": 1,
    "encoder_embed_dim": 1,
    "encoder_ffn_embed_dim": 1,
    "encoder_attention_heads": 1,
    "codes": 0,
    "codebooks": 1,
    "code_dim": 1,
    "head_dim": 0,
}
SHARES = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "head_dropout")
COMPAT_CHOICES = ChoiceEnum(("none", "musicoder"))
POSITIONS_CHOICES = ChoiceEnum(("conv", "sinusoids", "both"))
PREDICT_CHOICES = ChoiceEnum(("values", "correction"))
POOLING_CHOICES = ChoiceEnum(POOLINGS)


@dataclass
class MusiCoderConfig(LabelledEncoderConfig):
    """Sizes, regularisation and heads; the defaults are the base size."""

    encoder_layers: int = field(default=4, metadata={"help": "number of Transformer layers"})
    frame_stack: int = field(default=1, metadata={"help": "consecutive frames that are one position of the encoder"})
    positions: POSITIONS_CHOICES = field(
        default="conv", metadata={"help": "convolution over neighbouring frames, sinusoids, or both"}
    )
    conv_kernel: int = field(default=31, metadata={"help": "frames that the convolution of positions sees, odd"})
    compat: COMPAT_CHOICES = field(
        default="none", metadata={"help": "musicoder: the original's post-LN layers and sinusoids, LayerNorm eps 1e-12"}
    )
    predict: PREDICT_CHOICES = field(
        default="values",
        metadata={"help": "values, or a correction of the linear interpolation across the zeros (it starts at 0)"},
    )
    codes: int = field(
        default=0, metadata={"help": "codes of a random-projection quantiser that a second head predicts (0: none)"}
    )
    codebooks: int = field(default=1, metadata={"help": "random projections, each with its own codes"})
    code_dim: int = field(default=16, metadata={"help": "dimensions of a random projection"})
    # Fine-tuning (task audio_multitask) only:
    pooling: POOLING_CHOICES = field(
        default="mean", metadata={"help": "how the frames of a window become one vector (fine-tuning)"}
    )
    head_dropout: float = field(default=0.1, metadata={"help": "dropout before the heads (fine-tuning)"})


class ReconstructionHead(nn.Module):
    """Dense, GELU, LayerNorm and, last, a linear map to the frames of a position."""

    def __init__(self, dim: int, features: int, from_zero: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.layer_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, features)
        self.from_zero = from_zero

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., r F]."""
        return self.out(self.layer_norm(F.gelu(self.dense(x))))


@register_model("musicoder", dataclass=MusiCoderConfig)
class MusiCoderModel(BaseFairseqModel):
    """Encoder of spectrograms with heads for reconstruction, or for labelled tasks.

    Parameters
    ----------
    cfg : MusiCoderConfig
    mean, std : Tensor [F]
        Of the training data, for standardisation.
    heads : dict of str to int, optional
        Outputs of each labelled task, by name; None for reconstruction.
    front_end_hash : int
        Hash of the front-end's settings, 0 for unknown ones.
    """

    def __init__(
        self,
        cfg: MusiCoderConfig,
        mean: Tensor,
        std: Tensor,
        heads: dict[str, int] | None = None,
        front_end_hash: int = 0,
    ) -> None:
        super().__init__()
        self.cfg = cfg
        compat = str(cfg.compat) == "musicoder"
        positions = "sinusoids" if compat else str(cfg.positions)
        self.feature_count, self.frame_stack = len(mean), cfg.frame_stack
        self.num_updates = 0
        dim, stacked = cfg.encoder_embed_dim, len(mean) * cfg.frame_stack
        self.register_buffer("feature_mean", mean.float().clone())
        self.register_buffer("feature_std", std.float().clamp(min=SMALLEST_DEVIATION))
        self.register_buffer("front_end_hash", torch.tensor(front_end_hash))
        self.encoder = FrameEncoder(
            stacked,
            dim,
            cfg.encoder_layers,
            cfg.encoder_ffn_embed_dim,
            cfg.encoder_attention_heads,
            kernel=0 if positions == "sinusoids" else cfg.conv_kernel,
            use_sinusoids=positions != "conv",
            norm_first=not compat,
            eps=1e-12 if compat else 1e-5,
            dropout=cfg.dropout,
            attention_dropout=cfg.attention_dropout,
            activation_dropout=cfg.activation_dropout,
            layerdrop=cfg.encoder_layerdrop,
            checkpoint_activations=cfg.checkpoint_activations,
        )
        self.correction = str(cfg.predict) == "correction"
        self.reconstruction_head = self.code_head = self.quantizer = self.clip_heads = None
        if heads is None:
            self.reconstruction_head = ReconstructionHead(dim, stacked, self.correction)
            if cfg.codes:
                self.quantizer = RandomCodes(stacked, cfg.codes, cfg.code_dim, cfg.codebooks)
                self.code_head = nn.Linear(dim, cfg.codebooks * cfg.codes)
        else:
            self.clip_heads = PooledHeads(
                dim,
                cfg.encoder_layers,
                heads,
                pooling=str(cfg.pooling),
                layer_mix=cfg.layer_mix,
                dropout=cfg.head_dropout,
                hidden=cfg.head_dim,
            )
        self.apply(initialize)
        if heads is not None:
            self._freeze()
        if heads is not None and cfg.adapter_rank:
            check_adapters(cfg, cfg.trainable_layers)
            self.encoder.requires_grad_(False)
            add_adapters(self.encoder.layers, cfg.adapter_rank, cfg.adapter_alpha)
        self.learning_rate_factors = learning_rate_factors(
            self.encoder.layers, self.encoder.embeddings, cfg.layer_lr_decay if heads is not None else 1.0
        )

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> "MusiCoderModel":
        """Make a model for a task's features.

        Parameters
        ----------
        cfg : MusiCoderConfig, or any object with its fields
        task : FairseqTask
            With ``feature_mean`` and ``feature_std``, arrays [F], and, where known, ``front_end_hash`` and, for
            fine-tuning, ``head_sizes``, outputs by name.

        Raises
        ------
        OptionError
            If a size or a share is outside its range.
        """
        cfg = MusiCoderConfig.from_namespace(cfg)
        if cfg.frame_stack < 1:
            raise OptionError(f"--frame-stack {cfg.frame_stack}: a position is at least one frame")
        for name, smallest in SMALLEST_SIZES.items():
            if getattr(cfg, name) < smallest:
                option = name.replace("_", "-")
                raise OptionError(f"--{option} {getattr(cfg, name)}: a whole number from {smallest} on is accepted")
        for name in SHARES:
            if not 0 <= getattr(cfg, name) < 1:
                option = name.replace("_", "-")
                raise OptionError(f"--{option} {getattr(cfg, name)}: a probability from 0 up to, not including, 1")
        if cfg.conv_kernel < 1 or cfg.conv_kernel % 2 == 0:
            raise OptionError(f"--conv-kernel {cfg.conv_kernel}: an odd number of frames is accepted")
        if cfg.encoder_embed_dim % cfg.encoder_attention_heads:
            raise OptionError(
                f"--encoder-embed-dim {cfg.encoder_embed_dim} is not a multiple of {cfg.encoder_attention_heads} heads"
            )
        check_trainable_layers(cfg.trainable_layers, cfg.encoder_layers)
        mean, std = (torch.as_tensor(values, dtype=torch.float32) for values in (task.feature_mean, task.feature_std))
        return cls(cfg, mean, std, getattr(task, "head_sizes", None), getattr(task, "front_end_hash", 0))

    def _apply(self, fn: Any, recurse: bool = True) -> "MusiCoderModel":
        """Move or convert everything but mean and deviation, which stay in float32: bf16 would shift zero by 0.1 dB."""
        exact = self.feature_mean, self.feature_std
        super()._apply(fn, recurse)
        self.feature_mean, self.feature_std = (values.to(self.feature_mean.device) for values in exact)
        return self

    def standardise(self, features: Tensor) -> Tensor:
        """Features in their own units, [..., F], to float32 of mean 0 and deviation 1 over the training data."""
        return (features.float() - self.feature_mean.float()) / self.feature_std.float()

    def restore_units(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`standardise`, in float32."""
        return x.float() * self.feature_std.float() + self.feature_mean.float()

    def forward(
        self,
        source: Tensor,
        lengths: Sequence[int] | None = None,
        input_mask: Tensor | None = None,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        **unused: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Run the model.

        Parameters
        ----------
        source : Tensor
            Features [B, T, F] in their own units, any float type.
        lengths : sequence of int, optional
            Frames of each row, 1 .. T; by default all rows are full.
        input_mask : bool Tensor [B, T, F], optional
            Cells that are set to zero after standardisation.
        features_only : bool
            Return the encoder's states instead of the head's output.
        return_all_hiddens : bool
            Put the states after the input and after each layer into the dict.

        Returns
        -------
        output
            The restored spectrogram [B, T, F], standardised; with labelled tasks the logits [B, C] of each, by name;
            with ``features_only`` the states [B, S, D].
        extra : dict
            ``"code_logits"`` [B, S, G, K] or None, ``"lengths"`` (positions of each row), and ``"inner_states"``
            (layers + 1 of [B, S, D], or None).
        """
        rows, frames, _ = source.shape
        lengths = (frames,) * rows if lengths is None else tuple(int(n) for n in lengths)
        x = self.standardise(source)
        if input_mask is not None:
            x = x.masked_fill(input_mask, 0.0)
        dtype = self.encoder.input.weight.dtype
        stacked, positions = self.stack(x, lengths)
        x_BSD, states = self.encoder(stacked.to(dtype), positions)
        extra: dict[str, Any] = {
            "lengths": positions,
            "inner_states": states if return_all_hiddens else None,
            "code_logits": None,
        }
        if features_only:
            return x_BSD, extra
        if self.clip_heads is not None:
            return self.clip_heads.of_rows(x_BSD, states, positions), extra
        out = self.reconstruction_head(x_BSD)
        if self.correction:
            shown = torch.ones_like(x, dtype=torch.bool) if input_mask is None else ~input_mask
            visible = shown & ~padding_mask(lengths, frames, x.device)[..., None]
            out = self.unstack(out, frames).float() + interpolate_gaps(x, visible)
        else:
            out = self.unstack(out, frames)
        if self.code_head is not None:
            extra["code_logits"] = self.code_head(x_BSD).unflatten(-1, (self.cfg.codebooks, self.cfg.codes))
        return out, extra

    def stack(self, x_BTF: Tensor, lengths: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
        """Put r frames side by side: [B, S, r F], and the positions of each row; missing frames are zeros."""
        r = self.frame_stack
        if r == 1:
            return x_BTF, tuple(lengths)
        if min(lengths) < x_BTF.shape[1]:
            x_BTF = x_BTF.masked_fill(padding_mask(lengths, x_BTF.shape[1], x_BTF.device)[..., None], 0.0)
        x_BTF = F.pad(x_BTF, (0, 0, 0, -x_BTF.shape[1] % r))
        return x_BTF.unflatten(1, (-1, r)).flatten(2), tuple(-(-n // r) for n in lengths)

    def unstack(self, x: Tensor, frames: int) -> Tensor:
        """[B, S, r F] to the first ``frames`` frames, [B, T, F]."""
        return x.unflatten(2, (self.frame_stack, -1)).flatten(1, 2)[:, :frames]

    def code_targets(self, target: Tensor, lengths: Sequence[int]) -> Tensor:
        """Codes of each position, int64 [B, S, G], of features in their own units."""
        return self.quantizer(self.stack(self.standardise(target), lengths)[0])

    def get_targets(self, sample: dict[str, Any], net_output: Any) -> Tensor:
        """The standardised features that a batch's output is compared with."""
        return self.standardise(sample["target"])

    def set_num_updates(self, num_updates: int) -> None:
        """Keep the number of updates, which fairseq passes in training and on loading."""
        super().set_num_updates(num_updates)
        self.num_updates = num_updates

    def max_positions(self) -> None:
        """None: rows may have any length."""
        return None

    def train(self, mode: bool = True) -> "MusiCoderModel":
        """Set the mode; frozen layers always run without dropout."""
        super().train(mode)
        if self.clip_heads is not None and mode and self.cfg.trainable_layers >= 0:
            self.encoder.eval()
            for layer in self._trainable():
                layer.train()
        return self

    def _trainable(self) -> list[nn.Module]:
        """The layers of a partly frozen encoder that are trained."""
        k = self.cfg.trainable_layers
        return list(self.encoder.layers[len(self.encoder.layers) - k :]) if k else []

    def _freeze(self) -> None:
        if self.cfg.trainable_layers < 0:
            return
        self.encoder.requires_grad_(False)
        for layer in self._trainable():
            layer.requires_grad_(True)
        if self.cfg.trainable_layers and self.encoder.norm_first:
            self.encoder.layer_norm.requires_grad_(True)

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Fit a file of the other task, in place: drop heads that this model lacks, keep those that the file lacks.

        Raises
        ------
        CheckpointError
            If the file's features or sizes are not this model's.
        """
        super().upgrade_state_dict_named(state_dict, name)
        prefix = f"{name}." if name else ""
        mean = state_dict.get(f"{prefix}feature_mean")
        if mean is not None and len(mean) != self.feature_count:
            raise CheckpointError(
                f"the checkpoint was trained on {len(mean)} features per frame, but the data have "
                f"{self.feature_count}; build the data with the front-end of the checkpoint"
            )
        theirs = int(state_dict.setdefault(f"{prefix}front_end_hash", self.front_end_hash.clone()))
        if theirs and int(self.front_end_hash) and theirs != int(self.front_end_hash):
            raise CheckpointError(
                "the checkpoint was trained with another front-end than that of the data; build the data with the "
                "settings in its task_state, so that the numbers mean the same"
            )
        heads = ("reconstruction_head", "code_head", "quantizer", "clip_heads")
        own = self.state_dict()
        fit_adapters(state_dict, prefix, own)
        unused = [
            key
            for key, value in state_dict.items()
            if key[len(prefix) :].partition(".")[0] in heads
            and (key[len(prefix) :] not in own or own[key[len(prefix) :]].shape != value.shape)
        ]
        for key in unused:
            del state_dict[key]
        fresh = [key for key in own if key.partition(".")[0] in heads and prefix + key not in state_dict]
        for key in fresh:
            state_dict[prefix + key] = own[key]
        if unused:
            logger.info("not taken from the checkpoint: %s", ", ".join(unused))
        if fresh:
            logger.info("not in the checkpoint, so they start fresh: %s", ", ".join(fresh))


def initialize(module: nn.Module) -> None:
    """Initialise as BERT: matrices N(0, 0.02), biases 0; a correction starts at 0, that is, at the interpolation."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, ReconstructionHead) and module.from_zero:
        nn.init.zeros_(module.out.weight)


SIZES: dict[str, Size] = {
    # layers, model dimensions, feed-forward dimensions, heads
    "musicoder_tiny": (2, 128, 512, 2),
    "musicoder_base": (4, 768, 3072, 12),
    "musicoder_large": (8, 1024, 4096, 16),
    "m3bert_base": (12, 768, 3072, 12),
}

register_sizes("musicoder", "encoder", SIZES)
