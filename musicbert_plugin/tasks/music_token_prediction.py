"""Task ``music_token_prediction``: learn a label of every note, such as its voice, or its role.

The data are a labelled dataset folder with labels of notes (``data.labelled_octuples``) and a ``tasks.yaml``
(``data.labels``) whose tasks have the type ``single``; their ``column`` is the name of a label of notes (default: the
task's name), and their ``classes`` are all of its classes unless fewer are listed: notes of other classes then count as
unlabelled.  Without a ``tasks.yaml``, every label of the folder is a task.  A ``weight_column`` is a column of items.
Fields that labels were made of (``"hide"`` of ``config.json``) are hidden from the model, besides those of the tasks.

Each note has logits of its own, from the last state of its octuple.  Everything else is as in
``music_sequence_prediction``.
"""

# No "from __future__ import annotations": fairseq reads the types of a dataclass's fields, not their text.
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from fairseq.tasks import register_task
from numpy.typing import NDArray

from musicbert_plugin.data.dataset_folder import read_config
from musicbert_plugin.data.item_labels import weights_of
from musicbert_plugin.data.labelled_octuple_dataset import LabelledNotes
from musicbert_plugin.data.labelled_octuples import LabelledItems, hidden_of, note_classes, open_note_labels
from musicbert_plugin.data.labels import LabelTask, hidden_fields, read_tasks
from musicbert_plugin.data.octuple_windows import OctupleWindows
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.tables import normal_text
from musicbert_plugin.tasks.music_sequence_prediction import LabelledMusicTask, MusicSequencePredictionConfig


@dataclass
class MusicTokenPredictionConfig(MusicSequencePredictionConfig):
    """Options of the task."""

    windows_per_piece: int = field(
        default=0,
        metadata={"help": "windows that training draws from each piece in an epoch (0: as many as its notes fill)"},
    )


@register_task("music_token_prediction", dataclass=MusicTokenPredictionConfig)
class MusicTokenPredictionTask(LabelledMusicTask):
    """Labels of notes; see the module."""

    cfg: MusicTokenPredictionConfig
    per_note = True

    @cached_property
    def note_classes(self) -> dict[str, tuple[str, ...]]:
        """The classes of each label of notes that the folder has.

        Raises
        ------
        DatasetError
            It has none.
        """
        found = note_classes(read_config(self.folder / "config.json"))
        if not found:
            raise DatasetError(
                f"{self.folder} has no labels of notes; 'python -m preprocess.labels tokens' makes such a folder."
            )
        return {normal_text(name): tuple(map(normal_text, classes)) for name, classes in found.items()}

    def learn(self) -> list[LabelTask]:
        path = Path(self.cfg.tasks_file or self.folder / "tasks.yaml")
        if self.cfg.tasks_file or path.is_file():
            tasks = read_tasks(path)
        else:
            tasks = [LabelTask(name, "single", name, loss="cross_entropy") for name in self.note_classes]
        hidden = hidden_of(read_config(self.folder / "config.json"))
        tasks = [replace(task, hide=tuple(sorted({*task.hide, *hidden}))) for task in tasks]
        return [self._learnt(task, str(path)) for task in tasks]

    def _learnt(self, task: LabelTask, where: str) -> LabelTask:
        """A task with its classes, and with class weights if it asks for them."""
        if task.type != "single":
            raise OptionError(f"{where}, task {task.name}: the type is {task.type}, but labels of notes are single.")
        known = self._known_classes(task)
        if foreign := [name for name in task.classes if normal_text(name) not in known]:
            raise OptionError(
                f"{where}, task {task.name}: the class {foreign[0]!r} is none of those of the notes, which are "
                f"{', '.join(known)}."
            )
        task = task if task.classes else replace(task, classes=known)
        counts = self._counts(task)
        return task.check_counts(counts, str(self.folder / "train"), "note").balance(counts)

    def _counts(self, task: LabelTask) -> NDArray[np.int64]:
        """Notes of each class in the training split, int64 [C]."""
        table, rows = self.part("train")
        labels = open_note_labels(self.folder, self.container("train"), task.column, table.notes)
        numbers, counts = self.class_numbers(task), np.zeros(task.size, np.int64)
        for row in rows.tolist():
            found = numbers[labels.read(row)]
            counts += np.bincount(found[found >= 0], minlength=task.size)
        return counts

    def training_labels(self, task: LabelTask) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Labels of the notes of the training split in the order of classes, [N, 1], and that they are present."""
        labels = np.repeat(np.arange(task.size, dtype=np.float64), self._counts(task))[:, None]
        return labels, np.ones(labels.shape, bool)

    def _known_classes(self, task: LabelTask) -> tuple[str, ...]:
        if task.column not in self.note_classes:
            raise DatasetError(
                f"{self.shard('valid')} has no labels of notes named {task.column!r} for task {task.name}; it has "
                f"{', '.join(self.note_classes)}."
            )
        return self.note_classes[task.column]

    def class_numbers(self, task: LabelTask) -> NDArray[np.int64]:
        """The class of a task for each value of its labels, -1 for none: int64, an entry more than classes."""
        names = [normal_text(name) for name in task.classes]
        known = self._known_classes(task)
        return np.array([-1, *(names.index(name) if name in names else -1 for name in known)])

    def labelled(self, split: str, windows: OctupleWindows, table: LabelledItems) -> LabelledNotes:
        container = self.container(split)
        return LabelledNotes(
            windows,
            {
                task.name: open_note_labels(self.folder, container, task.column, table.notes)
                for task in self.label_tasks
            },
            {task.name: self.class_numbers(task) for task in self.label_tasks},
            weights_of(self.label_tasks, table.labels, str(table.path), table.files),
            tokens_per_sample=self.cfg.tokens_per_sample,
            pack=self.pack,
            hidden=hidden_fields(self.label_tasks),
        )
