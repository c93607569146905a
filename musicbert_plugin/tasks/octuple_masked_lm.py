"""Task ``octuple_masked_lm``: predict the masked fields of notes, MusicBERT's pre-training.

Zeng et al. 2021, arXiv 2106.05630, section 3.  The data are dataset folders (see ``data.dataset_folder``), of which
each epoch reads its own windows (``data.octuple_windows``), masked once for input and target
(``data.octuple_masking``) and packed into rows (``data.packing``).  The vocabulary is the octuple codec's 1,232 words
and four specials, and ``<mask>``: 1,237 ids.

A split whose name begins with "train" is drawn anew in every epoch; any other is tiled, and masked alike in every
epoch. Several folders, joined by colons, are one shard per epoch; validation and test data come from the first.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
import logging
from dataclasses import dataclass, field
from typing import Any

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import II, MISSING

from musicbert_plugin.data.dataset_folder import WINDOWS, check_octuple_folder
from musicbert_plugin.data.indexed_dataset import open_indexed_dataset
from musicbert_plugin.data.octuple_dataset import MaskedOctuples
from musicbert_plugin.data.octuple_masking import MASK_UNITS, MaskingProbabilities, OctupleMasking, parse_strategies
from musicbert_plugin.data.octuple_windows import OctupleWindows
from musicbert_plugin.errors import OptionError
from musicbert_plugin.tasks.octuple_task import OctupleTask

logger = logging.getLogger(__name__)

MASK_UNIT_CHOICES = ChoiceEnum(MASK_UNITS)
WINDOWS_CHOICES = ChoiceEnum(("auto", *WINDOWS))


@dataclass
class OctupleMaskedLmTaskConfig(FairseqDataclass):
    """Options of the task; the defaults are what the published models were trained with, but for packing."""

    data: str = field(
        default=MISSING,
        metadata={"help": "dataset folder made by preprocess.octuple; several joined by ':' are one shard per epoch"},
    )
    tokens_per_sample: int = field(
        default=8192, metadata={"help": "longest row in sub-tokens, eight per note (8192: 1,024 octuples)"}
    )
    mask_strategy: str = field(
        default="bar",
        metadata={
            "help": "bar, compound or element; several joined by '+' (bar+element): one is drawn for each sample"
        },
    )
    mask_unit: MASK_UNIT_CHOICES = field(
        default="bar-instrument",
        metadata={
            "help": "what 'bar' masks together: the values of a field in a bar of one instrument, or in the whole bar"
        },
    )
    mask_prob: float = field(default=0.15, metadata={"help": "probability that a unit is masked, that is, a target"})
    random_token_prob: float = field(
        default=0.1, metadata={"help": "share of targets that the model sees as a random word"}
    )
    leave_unmasked_prob: float = field(default=0.1, metadata={"help": "share of targets that the model sees unchanged"})
    # Not a bool: fairseq would make "--pack" the switch that turns a bool with default True off.
    pack: str = field(
        default="True",
        metadata={
            "help": "whether short pieces share a row: --pack True (the default) or --pack False",
            "argparse_const": "True",
        },
    )
    windows: WINDOWS_CHOICES = field(
        default="auto",
        metadata={
            "help": "whether windows are drawn from the items of the dataset, or are the items (stored); "
            "auto: as its config.json says, stored without one"
        },
    )
    seed: int = II("common.seed")


def parse_switch(option: str, value: object) -> bool:
    """Read True or False in the spellings of shells and of YAML."""
    text = str(value).lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise OptionError(f"{option} is '{value}', but it is True or False.")


@register_task("octuple_masked_lm", dataclass=OctupleMaskedLmTaskConfig)
class OctupleMaskedLmTask(OctupleTask):
    """Masked language modelling of octuples; see the module."""

    cfg: OctupleMaskedLmTaskConfig

    def __init__(self, cfg: OctupleMaskedLmTaskConfig) -> None:
        super().__init__(cfg)
        probabilities = MaskingProbabilities(cfg.mask_prob, cfg.random_token_prob, cfg.leave_unmasked_prob)
        if not cfg.mask_prob:
            raise OptionError("--mask-prob is 0, so that there is nothing to learn; above 0 to 1 is accepted.")
        self.masking = OctupleMasking(probabilities, parse_strategies(cfg.mask_strategy), str(cfg.mask_unit))
        self.pack = parse_switch("--pack", cfg.pack)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **unused: Any) -> None:
        """Open one split.

        With ``combine``, which fairseq passes in training, ``train1``, ``train2``, ... belong to the split too.

        Raises
        ------
        DatasetError
            If the folder cannot be trained on.
        """
        folder = self.shard(split, epoch)
        declared = check_octuple_folder(folder)
        windows = OctupleWindows(
            open_indexed_dataset(folder / split, combine),
            tokens_per_sample=self.cfg.tokens_per_sample,
            windows=declared if str(self.cfg.windows) == "auto" else str(self.cfg.windows),
            train=split.startswith("train"),
            seed=self.cfg.seed,
        )
        rows = MaskedOctuples(windows, self.masking, tokens_per_sample=self.cfg.tokens_per_sample, pack=self.pack)
        logger.info(
            "%s: %d items, %d windows of %d notes in %d rows, %.1f%% of each row in use",
            folder / split,
            len(windows.items),
            len(windows),
            rows.note_count,
            len(rows),
            100 * rows.fill,
        )
        self.datasets[split] = rows
