"""Task ``music_sequence_prediction``: learn labels of pieces of music, MusicBERT's fine-tuning.

Zeng et al. 2021, arXiv 2106.05630, section 4.  The data are one labelled dataset folder (``data.labelled_octuples``)
and a ``tasks.yaml`` (``data.labels``), by default the one in the folder.  Pieces may have labels for some of the tasks
only.

Training draws ``--windows-per-piece`` windows from each piece in every epoch, so that pieces weigh alike whatever their
length; validation cuts items into windows end to end and averages their predictions, weighted by their notes.  Windows
share rows as in pre-training.

In a folder built with ``--folds K``, ``--fold k`` takes fold k as ``test``, ``--dev-share`` of the other groups as
``valid`` and the rest as ``train``; they are the same for every seed of training.

A folder with pairs of phrases (``preprocess.labels phrases``) is learnt as one sequence per pair
(``data.octuple_pairs``), whose label is the column ``label``: 1 for phrases that belong together, else 0.  Without a
``tasks.yaml``, this is the one task, ``pair``.

``--frozen`` trains the heads alone: windows are then end to end in training too, and their pooled states are computed
once.

Start from a pre-trained file, own or published, with ``--finetune-from-model`` and its ``--arch``.  Heads that the file
has by the names of the tasks, in the same shape, are taken from it; others start fresh, and both are logged.  A
checkpoint holds the tasks with their class names, so that it can be applied to new music without the data.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
import logging
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import register_task
from numpy.typing import NDArray
from omegaconf import II, MISSING, open_dict

from musicbert_plugin.data.dataset_folder import check_octuple_folder, read_config
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.item_labels import ItemLabels
from musicbert_plugin.data.labelled_octuple_dataset import LabelledOctuples
from musicbert_plugin.data.labelled_octuples import (
    TEST,
    TRAIN,
    VALID,
    LabelledItems,
    PhrasePairs,
    check_items,
    fold_parts,
    labels_path,
    pairs_path,
    read_labels,
    read_pairs,
    second_bar,
)
from musicbert_plugin.data.labels import LabelTask, column_of, hidden_fields, read_cells, read_tasks
from musicbert_plugin.data.octuple_pairs import OctuplePairs
from musicbert_plugin.data.octuple_windows import OctupleWindows
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.tasks.octuple_masked_lm import parse_switch
from musicbert_plugin.tasks.octuple_task import OctupleTask

logger = logging.getLogger(__name__)

NO_FOLD = -1
PAIR = "pair"
"""Name of the task of pairs of phrases, unless a ``tasks.yaml`` names another."""
FOLD_SEED = 1
"""Seed of the dev part of a fold: it must not change with the seed of a training, or runs could not be compared."""


# ruff: noqa: UP045 (fairseq reads Optional)
@dataclass
class MusicSequencePredictionConfig(FairseqDataclass):
    """Options of the task."""

    data: str = field(default=MISSING, metadata={"help": "labelled dataset folder made by preprocess.labels"})
    tasks_file: Optional[str] = field(
        default=None, metadata={"help": "what is learnt (default: tasks.yaml in the data folder)"}
    )
    tokens_per_sample: int = field(
        default=8192, metadata={"help": "longest row in sub-tokens, eight per note (8192: 1,024 octuples)"}
    )
    windows_per_piece: int = field(
        default=1,
        metadata={"help": "windows that training draws from each piece in an epoch (0: as many as its notes fill)"},
    )
    # Not a bool: fairseq would make "--pack" the switch that turns a bool with default True off.
    pack: str = field(
        default="True",
        metadata={
            "help": "whether short windows share a row: --pack True (the default) or --pack False",
            "argparse_const": "True",
        },
    )
    fold: int = field(
        default=NO_FOLD, metadata={"help": "fold that is the test set, of a folder with folds (default: no folds)"}
    )
    dev_share: float = field(
        default=0.1, metadata={"help": "with --fold: share of the other groups that is the validation set"}
    )
    frozen: bool = field(
        default=False,
        metadata={"help": "train the heads alone, on pooled states of windows end to end that are computed once"},
    )
    seed: int = II("common.seed")


class LabelledMusicTask(OctupleTask):
    """Base of the tasks on labelled octuples; see ``music_sequence_prediction``."""

    per_note = False
    """Whether labels are of notes, not of windows."""
    has_pairs = False
    """Whether items are pairs of phrases."""

    def __init__(self, cfg: Any, label_tasks: list[LabelTask] | None = None) -> None:
        """Make the task; ``label_tasks`` are what a checkpoint has learnt (default: learn them from the folder)."""
        super().__init__(cfg)
        if len(utils.split_paths(cfg.data)) > 1:
            raise OptionError(f"{cfg.data!r} names several folders, but one labelled folder is accepted.")
        self.pack = parse_switch("--pack", cfg.pack)
        if cfg.windows_per_piece < 0:
            raise OptionError(
                f"--windows-per-piece is {cfg.windows_per_piece}, but it is at least 0 (as many as the notes fill)."
            )
        self._tables: dict[str, LabelledItems] = {}
        self.folder = self.shard("valid")
        check_octuple_folder(self.folder)
        self.label_tasks = self.learn() if label_tasks is None else label_tasks

    def learn(self) -> list[LabelTask]:
        """The tasks, with what the training split says of their labels.

        Raises
        ------
        DatasetError, OptionError
            They cannot be learnt from the folder.
        """
        table, rows = self.part("train")
        train = table.take(rows)
        where = f"{self.folder / 'train'}" + (f" without fold {self.cfg.fold}" if self.has_folds else "")
        tasks = read_tasks(self.cfg.tasks_file or self.folder / "tasks.yaml")
        return [task.learn(column_of(task, train.labels, where), where) for task in tasks]

    @property
    def has_folds(self) -> bool:
        """Whether the splits are parts of a folder with folds."""
        return self.cfg.fold != NO_FOLD

    def container(self, split: str) -> str:
        """The split of the folder that holds the items of a split: with folds all are in ``train``."""
        return "train" if self.has_folds else split

    def part(self, split: str) -> tuple[LabelledItems, NDArray[np.int64]]:
        """The table of the container of a split, and the rows of it that are the split's.

        Raises
        ------
        DatasetError, OptionError
            The table cannot be read, has no such fold, or has no item of the split.
        """
        if not self.has_folds and split != "train" and labels_path(self.folder, "train").is_file():
            train = self._table("train")
            if len(train) and train.folds[0] >= 0:
                raise OptionError(f"{train.path} has folds; --fold 0 to {train.folds.max()} chooses the test set.")
        table = self._table(self.container(split))
        if self.has_folds:
            parts = fold_parts(table, self.cfg.fold, self.cfg.dev_share, FOLD_SEED)
            if split not in parts:
                raise OptionError(f"the split is {split!r}, but with --fold it is one of {', '.join(parts)}.")
            rows = parts[split]
        else:
            rows = np.arange(len(table))
        if not len(rows):
            hint = "" if split.startswith("train") else "; --disable-validation trains without any"
            raise DatasetError(f"{self.folder}: the split {split!r} has no items{hint}.")
        return table, rows

    def _table(self, name: str) -> LabelledItems:
        if name not in self._tables:
            self._tables[name] = read_labels(self.folder, name)
        return self._tables[name]

    @property
    def head_sizes(self) -> dict[str, int]:
        """Outputs of each task's head."""
        return {task.name: task.size for task in self.label_tasks}

    def state_dict(self) -> dict[str, Any]:
        """The tasks, as plain values, for a checkpoint."""
        return {"label_tasks": [task.settings() for task in self.label_tasks], "per_note": self.per_note}

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Make the model, with a frozen encoder for ``--frozen``.

        Raises
        ------
        OptionError
            The pooling cannot be computed once, because it is learnt or has a vector per note.
        """
        if not self.cfg.frozen:
            return super().build_model(cfg, from_checkpoint)
        if isinstance(cfg, Namespace):
            cfg.trainable_layers = 0
        else:
            with open_dict(cfg):
                cfg.trainable_layers = 0
        model = super().build_model(cfg, from_checkpoint)
        if self.per_note or (model.label_heads is not None and model.label_heads.learns):
            raise OptionError(
                "--frozen keeps one vector per window, which needs labels of pieces, --pooling first, mean or "
                "mean+max, and no --layer-mix learned; --trainable-layers 0 freezes the encoder for the others."
            )
        return model

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the tasks of a checkpoint: its classes and units replace those of the data."""
        if "label_tasks" in state_dict:
            self.label_tasks = [LabelTask.of(settings) for settings in state_dict["label_tasks"]]

    def training_labels(self, task: LabelTask) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Labels of the training split and which are present, [N, K] each, in their own units."""
        table, rows = self.part("train")
        cells = column_of(task, table.labels, str(table.path))
        return read_cells(task, [cells[row] for row in rows.tolist()], "", quiet=True)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **unused: Any) -> None:
        """Open one split.

        Raises
        ------
        DatasetError
            If the folder cannot be used.
        """
        folder, name = self.folder, self.container(split)
        table, rows = self.part(split)
        items = IndexedDataset(folder / name)
        check_items(table, items.sizes, folder / name)
        windows = OctupleWindows(
            items,
            tokens_per_sample=self.cfg.tokens_per_sample,
            windows=check_octuple_folder(folder),
            train=split.startswith("train") and not self.cfg.frozen,
            seed=self.cfg.seed,
            chosen=rows,
            pieces=np.unique([table.pieces[row] for row in rows.tolist()], return_inverse=True)[1],
            windows_per_piece=self.cfg.windows_per_piece,
        )
        dataset = self.labelled(split, windows, table)
        logger.info(
            "%s: %s: %d items, %d windows of %d notes in %d rows, %.1f%% of each row in use",
            folder,
            split,
            len(rows),
            len(windows),
            dataset.note_count,
            len(dataset),
            100 * dataset.fill,
        )
        self.datasets[split] = dataset

    def labelled(self, split: str, windows: OctupleWindows, table: LabelledItems) -> LabelledOctuples:
        """The windows of a split of the folder, with their labels."""
        labels = ItemLabels(self.label_tasks, table.labels, str(table.path), table.files)
        return self.rows_of(split, windows, labels)

    def rows_of(self, split: str, windows: OctupleWindows | OctuplePairs, labels: ItemLabels) -> LabelledOctuples:
        """Rows of labelled windows (or pairs)."""
        return LabelledOctuples(
            windows,
            labels,
            tokens_per_sample=self.cfg.tokens_per_sample,
            pack=self.pack,
            cached=split if self.cfg.frozen else "",
            hidden=hidden_fields(self.label_tasks),
        )


@register_task("music_sequence_prediction", dataclass=MusicSequencePredictionConfig)
class MusicSequencePredictionTask(LabelledMusicTask):
    """Labels of pieces; see the module."""

    cfg: MusicSequencePredictionConfig

    @property
    def has_pairs(self) -> bool:  # type: ignore[override]
        """Whether the folder has pairs of phrases."""
        return any(pairs_path(self.folder, split).is_file() for split in (TRAIN, VALID, TEST))

    def learn(self) -> list[LabelTask]:
        if not self.has_pairs:
            return super().learn()
        where, cells = str(pairs_path(self.folder, TRAIN)), self._pair_cells(TRAIN)
        path = Path(self.cfg.tasks_file or self.folder / "tasks.yaml")
        tasks = [LabelTask(PAIR, "single", "label", ("0", "1"), "cross_entropy")]
        if self.cfg.tasks_file or path.is_file():
            tasks = read_tasks(path)
        return [task.learn(column_of(task, cells, where), where) for task in tasks]

    def read_pairs(self, split: str) -> PhrasePairs:
        """The pairs of a split.

        Raises
        ------
        DatasetError, OptionError
            They cannot be read, there are none, or they are to be split by folds.
        """
        if self.has_folds:
            raise OptionError(f"--fold is {self.cfg.fold}, but the pairs of {self.folder} have no folds.")
        pairs = read_pairs(self.folder, split, len(IndexedDataset(self.folder / split)))
        if not len(pairs):
            raise DatasetError(f"{self.folder}: the split {split!r} has no pairs.")
        return pairs

    def _pair_cells(self, split: str) -> dict[str, list[str]]:
        return {"label": [str(label) for label in self.read_pairs(split).label.tolist()]}

    def training_labels(self, task: LabelTask) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if not self.has_pairs:
            return super().training_labels(task)
        return read_cells(task, column_of(task, self._pair_cells(TRAIN), str(self.folder)), "", quiet=True)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **unused: Any) -> None:
        """Open one split, see :class:`LabelledMusicTask`."""
        if not self.has_pairs:
            super().load_dataset(split, epoch, combine, **unused)
            return
        pairs = OctuplePairs(
            IndexedDataset(self.folder / split),
            self.read_pairs(split),
            second_bar=second_bar(read_config(self.folder / "config.json")),
            tokens_per_sample=self.cfg.tokens_per_sample,
            train=split.startswith("train") and not self.cfg.frozen,
            seed=self.cfg.seed,
        )
        names = [f"pair {number}" for number in range(len(pairs))]
        table = ItemLabels(self.label_tasks, self._pair_cells(split), str(pairs_path(self.folder, split)), names)
        self.datasets[split] = self.rows_of(split, pairs, table)
        logger.info("%s: %s: %d pairs in %d rows", self.folder, split, len(pairs), len(self.datasets[split]))
