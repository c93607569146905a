"""The base of every task: shards, batches, the dictionary, and the plugin's version in checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq import utils
from fairseq.data import Dictionary, FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.tasks import FairseqTask

from musicbert_plugin import __version__
from musicbert_plugin.compat.layer_learning_rates import scaled_steps
from musicbert_plugin.data.loader_processes import end_loader_processes
from musicbert_plugin.errors import OptionError


class MusicTask(FairseqTask):
    """A fairseq task whose ``cfg.data`` names one dataset folder, or several joined by ``:``."""

    dictionary: Dictionary | None = None
    _training_epoch: EpochBatchIterator | None = None

    @classmethod
    def setup_task(cls, cfg: Any, **unused: Any) -> MusicTask:
        """Make the task."""
        return cls(cfg)

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        if cfg.data and not all(path.strip() for path in utils.split_paths(cfg.data)):
            raise OptionError(
                f"{cfg.data!r} joins dataset folders by {os.pathsep!r}, and one of them has no name: is there "
                f"a {os.pathsep!r} too many?"
            )

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Make the model.

        Raises
        ------
        OptionError
            A dropout leaves nothing to learn, or is none.
        """
        options = cfg if isinstance(cfg, Mapping) else vars(cfg)
        for name, value in options.items():
            if "dropout" in str(name) and isinstance(value, (int, float)) and not 0 <= value < 1:
                option = str(name).replace("_", "-")
                raise OptionError(f"--{option} is {value:g}, but a probability of at least 0 and below 1 is accepted.")
        return super().build_model(cfg, from_checkpoint)

    def shard(self, split: str, epoch: int = 1) -> Path:
        """The folder of a split: in training, folder (epoch - 1) mod their number; otherwise the first."""
        paths = utils.split_paths(self.cfg.data)
        return Path(paths[(epoch - 1) % len(paths)] if split.startswith("train") else paths[0])

    def get_batch_iterator(self, dataset: FairseqDataset, *arguments: Any, **options: Any) -> EpochBatchIterator:
        """fairseq's iterator over an epoch's batches; ends the loader processes of the training epoch before it."""
        if self.can_reuse_epoch_itr(dataset):
            return super().get_batch_iterator(dataset, *arguments, **options)
        end_loader_processes(self._training_epoch)
        self._training_epoch = super().get_batch_iterator(dataset, *arguments, **options)
        return self._training_epoch

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """A step of the optimizer, with the learning rates by layer that the model asks for."""
        with scaled_steps(optimizer, getattr(model, "learning_rate_factors", {})):
            super().optimizer_step(optimizer, model, update_num)

    def get_checkpoint_dict(self) -> dict[str, str]:
        """Entries that fairseq adds to the ``extra_state`` of a checkpoint."""
        return {"musicbert_plugin": __version__}

    @property
    def source_dictionary(self) -> Dictionary | None:
        """Dictionary of the model's input; None if it is not made of words."""
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary | None:
        """Dictionary of the targets, which is that of the input."""
        return self.dictionary
