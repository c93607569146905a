"""Tasks of published files that are registered for loading only.

A fine-tuned checkpoint names the task that it was trained with, and fairseq makes that task before it makes the model.
``sentence_prediction_multilabel`` is the task of MusicBERT's genre and style heads (``topmagd_head``, 13 classes;
``masd_head``, 25), ``xai`` and ``xai_pretrain_task`` are those of Music XAI.  fairseq's own ``masked_lm`` and
``sentence_prediction`` need no counterpart here.

The tasks have the octuple dictionary, need no data, and make every classification head that the file has.  They train
and measure nothing.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any, NoReturn, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import open_dict

from musicbert_plugin.errors import OptionError
from musicbert_plugin.tasks.octuple_task import OctupleTask

MULTI_LABEL = "sentence_prediction_multilabel"
"""The task whose classes are independent of each other: a piece has any number of them."""


# ruff: noqa: UP045 (fairseq reads Optional)
@dataclass
class PublishedTaskConfig(FairseqDataclass):
    """The options of published files that say what the model is."""

    data: Optional[str] = field(default=None, metadata={"help": "unused", "argparse_const": ""})
    max_positions: int = field(default=8192, metadata={"help": "longest row in sub-tokens"})
    label_names: Optional[Any] = field(
        default=None, metadata={"help": "names of the classes, or lists of them by head"}
    )


@register_task(MULTI_LABEL, dataclass=PublishedTaskConfig)
class PublishedTask(OctupleTask):
    """A task that only loads models; see the module."""

    cfg: PublishedTaskConfig

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Make the model; it takes the classification heads of the file."""
        if isinstance(cfg, Namespace):
            cfg.load_checkpoint_heads = True
        else:
            with open_dict(cfg):
                cfg.load_checkpoint_heads = True
        return super().build_model(cfg, from_checkpoint)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **unused: Any) -> NoReturn:
        """Raise :class:`OptionError`: the task has no data."""
        self._refuse()

    def build_criterion(self, cfg: Any, from_checkpoint: bool = False) -> NoReturn:
        """Raise :class:`OptionError`: the task has no loss."""
        self._refuse()

    def max_positions(self) -> int:
        """Longest row, in sub-tokens."""
        return self.cfg.max_positions

    def _refuse(self) -> NoReturn:
        name = getattr(self.cfg, "_name", None) or MULTI_LABEL
        raise OptionError(
            f"The task {name} only loads published files: musicbert_plugin.hub.MusicBERTHub applies their heads, and "
            "the task octuple_masked_lm trains and measures masked octuples."
        )


@register_task("xai", dataclass=PublishedTaskConfig)
class XaiTask(PublishedTask):
    """The task of Music XAI's fine-tuned files."""


@register_task("xai_pretrain_task", dataclass=PublishedTaskConfig)
class XaiPretrainTask(PublishedTask):
    """The task of Music XAI's files after contrastive training."""
