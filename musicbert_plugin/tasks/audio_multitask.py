"""Task ``audio_multitask``: learn several labels of recordings at once, M3BERT's fine-tuning.

The data are a feature folder with labels (``data.spectrogram_folder``) and a ``tasks.yaml`` (``data.labels``), by
default the one in the folder.  Recordings may have labels for some of the tasks only.

Start from a pre-trained file with ``--finetune-from-model`` and the same ``--arch``.  A checkpoint holds the tasks with
their class names, so that it can be applied to new recordings without the data.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import II, MISSING

from musicbert_plugin.data.labelled_spectrograms import LabelledSpectrograms
from musicbert_plugin.data.labels import LabelTask, column_of, read_tasks
from musicbert_plugin.data.spectrogram_windows import MIN_FRAMES
from musicbert_plugin.errors import OptionError
from musicbert_plugin.tasks.spectrogram_reconstruction import SpectrogramTask


# ruff: noqa: UP045 (fairseq reads Optional)
@dataclass
class AudioMultitaskConfig(FairseqDataclass):
    """Options of the task."""

    data: str = field(
        default=MISSING,
        metadata={"help": "labelled feature folder; several joined by ':' are one shard per epoch"},
    )
    tasks_file: Optional[str] = field(
        default=None, metadata={"help": "what is learnt (default: tasks.yaml in the data folder)"}
    )
    max_frames: int = field(default=1292, metadata={"help": "longest window, in frames (0: whole recordings)"})
    min_frames: int = field(
        default=MIN_FRAMES, metadata={"help": "shortest window at the end of a longer recording, in validation"}
    )
    seed: int = II("common.seed")


@register_task("audio_multitask", dataclass=AudioMultitaskConfig)
class AudioMultitaskTask(SpectrogramTask):
    """Multi-task learning on labelled recordings; see the module."""

    cfg: AudioMultitaskConfig

    def __init__(self, cfg: AudioMultitaskConfig) -> None:
        super().__init__(cfg)
        path = cfg.tasks_file or self.folder.path / "tasks.yaml"
        train = self.folder.split("train")
        where = str(self.folder.path / "train")
        tasks = read_tasks(path)
        if hiding := [task.name for task in tasks if task.hide]:
            raise OptionError(f"{path}, task {hiding[0]}: 'hide' is for fields of notes, which recordings have not.")
        self.label_tasks = [task.learn(column_of(task, train.labels, where)) for task in tasks]

    @property
    def head_sizes(self) -> dict[str, int]:
        """Outputs of each task's head."""
        return {task.name: task.size for task in self.label_tasks}

    @property
    def description(self) -> dict[str, Any]:
        """Front-end of the features, and the tasks, as plain values."""
        return super().description | {"label_tasks": [task.settings() for task in self.label_tasks]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the tasks of a checkpoint: its classes and units replace those of the data."""
        super().load_state_dict(state_dict)
        if "label_tasks" in state_dict:
            self.label_tasks = [LabelTask.of(settings) for settings in state_dict["label_tasks"]]

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **unused: Any) -> None:
        """Open one split."""
        windows = self.open_windows(split, epoch)
        self.datasets[split] = LabelledSpectrograms(windows, self.label_tasks, str(Path(self.folder.path) / split))
