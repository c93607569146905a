"""Task ``spectrogram_reconstruction``: restore the masked cells of spectrograms, MusiCoder's pre-training.

Wu et al. 2020, arXiv 2008.00781.  The data are feature folders (``data.spectrogram_folder``), of which each epoch
reads its own windows (``data.spectrogram_windows``) with its own masks (``data.spectrogram_masking``); ``--max-tokens``
counts frames.  The mean and deviation of the training split become part of the model; the settings of the front-end are
saved in every checkpoint, so that it can be applied to recordings.

A split whose name begins with "train" is drawn anew in every epoch; any other is cut into windows end to end and masked
alike in every epoch.  Several folders, joined by colons, are one shard per epoch; validation and test data, mean and
deviation come from the first.

Every validation, in training and by ``fairseq-validate``, draws windows of each split as pictures
(``plots.reconstruction``) to ``--picture-dir`` and, with ``--tensorboard-logdir``, to TensorBoard:
``0_update400.png`` of the split ``valid``, ``test_0_update400.png`` of another.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
import hashlib
import json
import logging
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.distributed import utils as distributed_utils
from fairseq.tasks import register_task
from omegaconf import II, MISSING
from torch import nn

from musicbert_plugin.data.spectrogram_dataset import MaskedSpectrograms
from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
from musicbert_plugin.data.spectrogram_masking import PRESETS, SPAN_DISTRIBUTIONS, SpectrogramMasking, parse_corruption
from musicbert_plugin.data.spectrogram_windows import MIN_FRAMES, SpectrogramWindows
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.extras import is_installed, missing, require
from musicbert_plugin.plots.reconstruction import draw_sample
from musicbert_plugin.tasks.music_task import MusicTask

logger = logging.getLogger(__name__)

MASKING_CHOICES = ChoiceEnum(PRESETS)
SPAN_DISTRIBUTION_CHOICES = ChoiceEnum(SPAN_DISTRIBUTIONS)


# ruff: noqa: UP045 (fairseq reads Optional)
@dataclass
class SpectrogramReconstructionTaskConfig(FairseqDataclass):
    """Options of the task; options of masks without a default are those of the preset."""

    data: str = field(
        default=MISSING,
        metadata={"help": "feature folder made by preprocess.audio; several joined by ':' are one shard per epoch"},
    )
    masking: MASKING_CHOICES = field(
        default="mixed", metadata={"help": "how windows are masked; the options below override it"}
    )
    max_frames: int = field(default=512, metadata={"help": "longest window, in frames (0: whole recordings)"})
    min_frames: int = field(
        default=MIN_FRAMES, metadata={"help": "shortest window at the end of a longer recording, in validation"}
    )
    frames_prob: Optional[float] = field(default=None, metadata={"help": "share of windows with masked frames"})
    channels_prob: Optional[float] = field(default=None, metadata={"help": "share of windows with masked channels"})
    patches_prob: Optional[float] = field(
        default=None, metadata={"help": "share of windows with masked patches, and nothing else"}
    )
    frame_share: Optional[float] = field(default=None, metadata={"help": "share of a window's frames that are masked"})
    span_law: Optional[SPAN_DISTRIBUTION_CHOICES] = field(
        default=None, metadata={"help": "distribution of the spans' lengths"}
    )
    span_p: Optional[float] = field(default=None, metadata={"help": "parameter of the geometric distribution"})
    min_span: Optional[int] = field(default=None, metadata={"help": "shortest span of masked frames"})
    max_span: Optional[int] = field(default=None, metadata={"help": "longest span of masked frames"})
    fill: Optional[str] = field(
        default=None,
        metadata={"help": "shares of masked spans and patches set to zero, replaced, and kept: 0.7,0.2,0.1"},
    )
    channel_share: Optional[float] = field(
        default=None, metadata={"help": "widest block of masked channels, as a share of them"}
    )
    first_channel: Optional[int] = field(default=None, metadata={"help": "first channel that a block may mask"})
    last_channel: Optional[int] = field(
        default=None, metadata={"help": "channel after the last that a block may mask (0: no limit)"}
    )
    patch_share: Optional[float] = field(default=None, metadata={"help": "share of the cells that patches cover"})
    patch_size: Optional[int] = field(default=None, metadata={"help": "side of a patch, in frames and channels"})
    pictures: int = field(default=4, metadata={"help": "windows that every validation draws (0: none)"})
    picture_dir: Optional[str] = field(
        default=None, metadata={"help": "folder of the pictures (default: 'pictures' in --save-dir)"}
    )
    save_dir: str = II("checkpoint.save_dir")
    tensorboard_logdir: Optional[str] = II("common.tensorboard_logdir")
    seed: int = II("common.seed")


def masking_of(cfg: Any, folder: SpectrogramFolder) -> SpectrogramMasking:
    """The masking that the options describe: a preset, and the options that override it.

    Raises
    ------
    OptionError
        For values that no masking has.
    """
    masking = SpectrogramMasking.preset(str(cfg.masking), folder.num_features)

    def given(**options: Any) -> dict[str, Any]:
        return {name: value for name, value in options.items() if value is not None}

    kind = None if cfg.span_law is None else str(cfg.span_law)
    spans = replace(masking.spans, **given(kind=kind, p=cfg.span_p, shortest=cfg.min_span, longest=cfg.max_span))
    changed = given(
        frames=cfg.frames_prob,
        channels=cfg.channels_prob,
        patches=cfg.patches_prob,
        frame_share=cfg.frame_share,
        channel_share=cfg.channel_share,
        first_channel=cfg.first_channel,
        last_channel=cfg.last_channel,
        patch_share=cfg.patch_share,
        patch_size=cfg.patch_size,
        corruption=None if cfg.fill is None else parse_corruption(cfg.fill),
    )
    masking = replace(masking, spans=spans, **changed)
    cells = cfg.max_frames * folder.num_features if cfg.max_frames else math.inf
    width = min(masking.last_channel or folder.num_features, folder.num_features) - masking.first_channel
    others = masking.patches < 1 and cfg.max_frames != 1  # windows in which frames and channels can be masked
    if not (
        (others and masking.frames > 0 and masking.frame_share > 0)
        or (others and masking.channels > 0 and masking.channel_share * width >= 1)
        or (masking.patches > 0 and masking.patch_share * cells >= 1)
    ):
        raise OptionError(
            "nothing would be masked: of frames, channels and patches, one at least needs a share of the windows "
            "(--frames-prob, --channels-prob, --patches-prob; windows with patches have no others) and of their cells "
            "(--frame-share, --channel-share, --patch-share) above 0, and no less than one cell."
        )
    if masking.first_channel >= folder.num_features and masking.channels:
        raise OptionError(
            f"--first-channel is {masking.first_channel}, but the features of {folder.path} are numbered 0 to "
            f"{folder.num_features - 1}."
        )
    return masking


class SpectrogramTask(MusicTask):
    """Base of the tasks on feature folders: the folder, its mean and deviation, and the front-end in checkpoints."""

    accepted_models = ("musicoder",)

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        if cfg.max_frames < 0:
            raise OptionError(f"--max-frames is {cfg.max_frames}, but it is at least 0 (whole recordings).")
        if cfg.min_frames < 1:
            raise OptionError(f"--min-frames is {cfg.min_frames}, but a window has at least 1 frame.")
        self.folder = SpectrogramFolder(self.shard("valid"))
        self.feature_mean, self.feature_std = self.folder.mean, self.folder.std
        settings = json.dumps(self.folder.front_end, sort_keys=True).encode()
        self.front_end_hash = int.from_bytes(hashlib.sha256(settings).digest()[:6], "big")

    @property
    def description(self) -> dict[str, Any]:
        """Front-end and names of the features, as plain values."""
        folder = self.folder
        return {
            "front_end": dict(folder.front_end),
            "feature_names": list(folder.feature_names),
            "frame_rate": float(folder.frame_rate),
        }

    def state_dict(self) -> dict[str, Any]:
        """The task's part of a checkpoint."""
        return self.description

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare a checkpoint's front-end with that of the data.

        Raises
        ------
        DatasetError
            If they differ: the numbers would mean something else.
        """
        theirs = state_dict.get("front_end")
        if theirs is not None and theirs != self.description["front_end"]:
            raise DatasetError(
                f"{self.folder.path} was made with the front-end {self.description['front_end']}, but the checkpoint "
                f"with {theirs}; build the data with the latter."
            )

    def open_windows(self, split: str, epoch: int) -> SpectrogramWindows:
        """The windows of one split.

        Raises
        ------
        DatasetError
            If the folder cannot be read or its features are not those of the first folder.
        """
        train = split.startswith("train")
        path = self.shard(split, epoch)
        folder = self.folder if path == self.folder.path else SpectrogramFolder(path)
        if folder.feature_names != self.folder.feature_names or folder.front_end != self.folder.front_end:
            raise DatasetError(f"{folder.path} was made with another front-end than {self.folder.path}.")
        items = folder.split(split)
        if not len(items):
            hint = "" if train else "; --disable-validation trains without any"
            raise DatasetError(f"{folder.path}: the split {split!r} has no items{hint}.")
        windows = SpectrogramWindows(
            items, max_frames=self.cfg.max_frames, min_frames=self.cfg.min_frames, train=train, seed=self.cfg.seed
        )
        logger.info(
            "%s: %d items, %d windows of %d frames (%.1f minutes)",
            folder.path / split,
            len(items),
            len(windows),
            windows.sizes.sum(),
            windows.sizes.sum() / folder.frame_rate / 60,
        )
        return windows

    def max_positions(self) -> None:
        """Windows of any length."""
        return None


@register_task("spectrogram_reconstruction", dataclass=SpectrogramReconstructionTaskConfig)
class SpectrogramReconstructionTask(SpectrogramTask):
    """Masked spectrogram reconstruction; see the module."""

    cfg: SpectrogramReconstructionTaskConfig

    def __init__(self, cfg: SpectrogramReconstructionTaskConfig) -> None:
        super().__init__(cfg)
        self.masking = masking_of(cfg, self.folder)
        self._draws = cfg.pictures > 0
        if self._draws and cfg.picture_dir:
            require("matplotlib", "--picture-dir")
        elif self._draws and not is_installed("matplotlib"):
            self._draws = False
            logger.warning("no pictures: %s", missing("matplotlib", "each"))
        self._board: Any = None
        self._validated: str | None = None  # the split that is being measured
        self._measured: nn.Module | None = None  # the model that fairseq-validate measures
        self._trains = False

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **unused: Any) -> None:
        """Open one split."""
        self.datasets[split] = MaskedSpectrograms(self.open_windows(split, epoch), self.masking)

    def begin_epoch(self, epoch: int, model: nn.Module) -> None:
        """Note that training runs; it calls :meth:`post_validate`, which ``fairseq-validate`` does not."""
        super().begin_epoch(epoch, model)
        self._trains = True

    def get_batch_iterator(self, dataset: MaskedSpectrograms, *arguments: Any, **options: Any) -> Any:
        """fairseq's batches; notes which split a validation is about to read."""
        if not dataset.windows.train:
            self._validated = next((split for split, each in self.datasets.items() if each is dataset), None)
        return super().get_batch_iterator(dataset, *arguments, **options)

    def valid_step(self, sample: dict[str, Any], model: nn.Module, criterion: Any) -> Any:
        """fairseq's step; notes the model, for the pictures of ``fairseq-validate``."""
        self._measured = model
        return super().valid_step(sample, model, criterion)

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Sum what was logged; ``fairseq-validate`` does so at the end of a split, when pictures are drawn."""
        super().reduce_metrics(logging_outputs, criterion)
        if not self._trains and self._measured is not None:
            self._try_pictures(self._measured, self._measured.num_updates)

    def post_validate(self, model: nn.Module, stats: Any, agg: Any) -> None:
        """Draw windows of the split that training has just measured."""
        self._try_pictures(model, int(stats.get("num_updates") or 0))

    def _try_pictures(self, model: nn.Module, num_updates: int) -> None:
        """Draw on the first worker alone; an error becomes a warning."""
        first = not torch.distributed.is_initialized() or distributed_utils.get_data_parallel_rank() == 0
        if self._draws and self._validated is not None and first:
            try:
                self.draw_pictures(model, num_updates, self._validated)
            except OptionError as error:
                logger.warning("no pictures: %s", error)

    def draw_pictures(self, model: nn.Module, num_updates: int, split: str = "valid") -> list[Path]:
        """Draw windows of a split as the model restores them now; returns the files.

        Raises
        ------
        OptionError
            If matplotlib is missing or the folder cannot be written.
        """
        dataset = self.dataset(split)
        # Spread over the split, so that the pictures show different recordings; the same ones every time.
        chosen = np.unique(np.linspace(0, len(dataset) - 1, min(self.cfg.pictures, len(dataset))).round().astype(int))
        directory = Path(self.cfg.picture_dir or Path(self.cfg.save_dir) / "pictures")
        of_split = "" if split == "valid" else f"{split}_"
        files = []
        for number, window in enumerate(chosen.tolist()):
            item, start, _ = dataset.windows.span(window)
            files.append(directory / f"{of_split}{number}_update{num_updates}.png")
            name = Path(dataset.windows.split.names[item]).name
            picture = draw_sample(
                model,
                dataset.collater([dataset[window]]),
                self.folder,
                files[-1],
                title=f"{name}, update {num_updates}",
                start=start / self.folder.frame_rate,
            )
            if self.cfg.tensorboard_logdir:
                self._add_image(f"reconstruction/{of_split}{number}", picture, num_updates)
        if self._board is not None:
            # tensorboardX writes from a thread of its own, and only closing waits for it
            self._board.close()
            self._board = None
        return files

    def _add_image(self, tag: str, picture: Any, num_updates: int) -> None:
        """Show a picture, uint8 [height, width, 3], in TensorBoard."""
        if self._board is None:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(Path(self.cfg.tensorboard_logdir) / "pictures"))
        self._board.add_image(tag, picture, num_updates, dataformats="HWC")
