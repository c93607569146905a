"""Task ``attribute_to_music``: a language model of music behind a prefix of attributes, or behind a condition of one's own.

Lu et al. 2023, "MuseCoco: Generating Symbolic Music from Text" (arXiv 2306.00110), section 3.3.  The data are dataset
folders (see ``data.prompted_folder``) of ``preprocess.remi build`` (music and its attributes) or ``preprocess.remi
pairs`` (condition and music).  What a batch holds is in ``data.prefix``; which attributes it tells, in
``data.attribute_masking``.

A split whose name begins with "train" is masked anew in every epoch; any other is alike in every epoch.

Layout and position mode belong to a model: training takes the layout from the dataset folder, the checkpoint keeps both,
and whatever is done with it later uses them without being told.  Task name ``language_modeling_control`` is the one that
the published checkpoints carry.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
import logging
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from fairseq import utils
from fairseq.data import Dictionary, FairseqDataset
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, open_dict
from torch import Tensor

from musicbert_plugin.codecs.remi import LAYOUTS, dictionary_words
from musicbert_plugin.data.attribute_masking import MASKS
from musicbert_plugin.data.condition_pairs import ConditionPairs
from musicbert_plugin.data.prefix import LOSS_ON, AttributedMusic, PrefixedMusic, Prompts
from musicbert_plugin.data.prompted_folder import check_prompted_folder
from musicbert_plugin.errors import OptionError

logger = logging.getLogger(__name__)

AUTO = "auto"
POSITION_MODES = ("zero-prefix", "zero-prefix-shifted", "all")
LAYOUT_CHOICES = ChoiceEnum((AUTO, *LAYOUTS))
POSITION_CHOICES = ChoiceEnum((AUTO, *POSITION_MODES))
LOSS_CHOICES = ChoiceEnum(LOSS_ON)
MASK_CHOICES = ChoiceEnum(MASKS)


@dataclass
class AttributeToMusicTaskConfig(FairseqDataclass):
    """Options of the task; the defaults are what the published models were trained with."""

    data: Optional[str] = field(  # noqa: UP045 (fairseq reads the annotation)
        default=None,
        metadata={
            "help": "dataset folder made by preprocess.remi; several joined by ':' are one shard per epoch.  For "
            "fairseq-interactive any folder with a dict.txt, and none at all for the published vocabulary",
            "argparse_const": None,
        },
    )
    layout: LAYOUT_CHOICES = field(
        default=AUTO, metadata={"help": "layout of the music; auto: the checkpoint's, or else the dataset's"}
    )
    position_mode: POSITION_CHOICES = field(
        default=AUTO,
        metadata={"help": "where positions begin; auto: as in the checkpoint, or else at <sep> (zero-prefix)"},
    )
    loss_on: LOSS_CHOICES = field(default="target", metadata={"help": "whether the prefix is learned too (all)"})
    attribute_mask: MASK_CHOICES = field(
        default="steps", metadata={"help": "which attributes are told: a drawn number, each by chance, or all"}
    )
    attribute_mask_prob: float = field(
        default=0.4, metadata={"help": "probability that --attribute-mask probability hides a command word"}
    )
    tokens_per_sample: int = field(default=8192, metadata={"help": "longest row, prefix included"})
    persistent_workers: bool = field(
        default=False,
        metadata={"help": "let loader processes outlive their epoch (of no use: each epoch starts new ones)"},
    )
    seed: int = II("common.seed")


def dictionary_of(words: tuple[str, ...]) -> Dictionary:
    """fairseq's form of a dictionary: its four specials, then these words."""
    dictionary = Dictionary()
    for word in words:
        dictionary.add_symbol(word, n=0)
    return dictionary


@register_task("attribute_to_music", dataclass=AttributeToMusicTaskConfig)
class AttributeToMusicTask(FairseqTask):
    """Music behind prefixes; see the module."""

    cfg: AttributeToMusicTaskConfig

    def __init__(self, cfg: AttributeToMusicTaskConfig) -> None:
        super().__init__(cfg)
        self.layout: Optional[str] = None if str(cfg.layout) == AUTO else str(cfg.layout)  # noqa: UP045
        self.position_mode = POSITION_MODES[0] if str(cfg.position_mode) == AUTO else str(cfg.position_mode)
        self.folder_layout: Optional[str] = None  # noqa: UP045
        words = tuple(dictionary_words())
        if cfg.data:
            folder = Path(utils.split_paths(cfg.data)[0])
            if (folder / "dict.txt").is_file() or (folder / "config.json").is_file():
                checked = check_prompted_folder(folder)
                words, self.folder_layout = checked.words, checked.layout
        self.dictionary = dictionary_of(words)
        self.separator = self.dictionary.index("<sep>")

    @classmethod
    def setup_task(cls, cfg: AttributeToMusicTaskConfig, **unused: Any) -> "AttributeToMusicTask":
        """Make the task."""
        return cls(cfg)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Make the model, and settle layout and position mode: as asked for, or the checkpoint's, or the dataset's."""
        for name, choices, otherwise in (
            ("layout", LAYOUTS, self.folder_layout or LAYOUTS[0]),
            ("position_mode", POSITION_MODES, POSITION_MODES[0]),
        ):
            asked, held = str(getattr(self.cfg, name)), _held(cfg, name)
            settled = asked if asked != AUTO else held if held in choices else otherwise
            setattr(self, name, settled)
            if isinstance(cfg, Namespace):
                setattr(cfg, name, settled)
            else:
                with open_dict(cfg):
                    cfg[name] = settled
        return super().build_model(cfg, from_checkpoint)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **options: Any) -> None:
        """Open one split; of several folders, training takes folder (epoch - 1) mod their number, any other split the
        first.

        Raises
        ------
        OptionError
            If there is no dataset folder.
        DatasetError
            If it cannot be read.
        """
        if not self.cfg.data:
            raise OptionError("No dataset folder was given: it is the first argument, as preprocess.remi makes it.")
        paths = utils.split_paths(self.cfg.data)
        train = split.startswith("train")
        folder = check_prompted_folder(paths[(epoch - 1) % len(paths)] if train else paths[0])
        if folder.words != tuple(self.dictionary.symbols[self.dictionary.nspecial :]):
            raise OptionError(f"{folder.path} has another dictionary than {paths[0]}: shards share one.")
        if folder.layout and self.layout and folder.layout != self.layout:
            raise OptionError(
                f"{folder.path} holds music in layout {folder.layout}, but the model's is {self.layout}: the same is "
                "needed."
            )
        samples: Any
        if folder.pairs(split):
            samples = ConditionPairs(folder.path, split)
        else:
            samples = AttributedMusic(
                folder.path / split,
                mask=str(self.cfg.attribute_mask),
                mask_prob=self.cfg.attribute_mask_prob,
                seed=self.cfg.seed,
            )
        self.datasets[split] = PrefixedMusic(
            samples,
            separator=self.separator,
            position_mode=self.position_mode,
            loss_on=str(self.cfg.loss_on),
            train=train,
            seed=self.cfg.seed,
        )
        logger.info("%s: %d samples, %d tokens", folder.path / split, len(samples.sizes), int(samples.sizes.sum()))

    def eval_lm_dataloader(
        self,
        dataset: FairseqDataset,
        max_tokens: Optional[int] = 36000,  # noqa: UP045
        batch_size: Optional[int] = None,  # noqa: UP045
        max_positions: Optional[int] = None,  # noqa: UP045
        num_shards: int = 1,
        shard_id: int = 0,
        num_workers: int = 1,
        data_buffer_size: int = 10,
        context_window: int = 0,
    ) -> Any:
        """The batches that ``fairseq-eval-lm`` scores: whole samples, each with its prefix."""
        if context_window:
            raise OptionError("--context-window is for running text; here a sample is always seen whole: leave it out.")
        return self.get_batch_iterator(
            dataset=dataset,
            max_tokens=max_tokens,
            max_sentences=batch_size,
            max_positions=max_positions,
            ignore_invalid_inputs=True,
            num_shards=num_shards,
            shard_id=shard_id,
            num_workers=num_workers,
            data_buffer_size=data_buffer_size,
        ).next_epoch_itr(shuffle=False)

    def build_dataset_for_inference(
        self, src_tokens: list[Tensor], src_lengths: list[int], **unused: Any
    ) -> FairseqDataset:
        """Batches of prefixes, in their order."""
        return Prompts(src_tokens)

    def max_positions(self) -> int:
        """Longest row, prefix included."""
        return self.cfg.tokens_per_sample

    @property
    def source_dictionary(self) -> Dictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        return self.dictionary


@register_task("language_modeling_control", dataclass=AttributeToMusicTaskConfig)
class LanguageModelingControlTask(AttributeToMusicTask):
    """The name under which the published checkpoints were saved; the same task."""


def _held(cfg: Any, name: str) -> Optional[str]:  # noqa: UP045
    """A model configuration's own value, if it has one."""
    try:
        value = getattr(cfg, name, None)
    except Exception:  # an interpolation that leads nowhere: omegaconf has several errors for it
        return None
    return None if value is None else str(value)
