"""Windows of labelled octuples: the batches of fine-tuning on notes.

A row holds one or more windows (see ``packing``).  A window has the labels of its item (``labelled_octuples``), or its
notes have labels of their own.  A batch of P windows in B rows, the longest of T sub-tokens:

====================  ===============  =================================================================================
key                   type             meaning
====================  ===============  =================================================================================
id                    int64 [B]        index of each row
net_input.src_tokens  int64 [B, T]     padded with ``<pad>`` on the right
net_input.            int64 [B, S]     octuples of each segment, frame octuples included, padded with 0 on the right;
segment_lengths                        absent without packing, where a row is one segment
net_input.labels      True             that the model returns logits of the labelled tasks
net_input.cached      (str, int64 [P]) the split, and ``window``, where a window is the same in every epoch and the
                                       encoder is frozen; absent else
window, item          int64 [P]        index of each window and of its item
length                int64 [P]        notes of each window, which weigh its prediction in that of the item
labels                dict of float64  [P, K] per task, see ``item_labels``
present, weights      dicts            [P, K] per task: what is labelled (bool), and weights of the loss (float64)
nsentences, ntokens   int              windows, and sub-tokens that are not padding
====================  ===============  =================================================================================

With labels of notes, ``window``, ``item``, ``labels`` and ``present`` have a row per note of all windows, in order:
``item`` and ``window`` are then the number of the note in its split, K is 1 and ``length`` is 1; ``n_labelled`` is the
number of notes that have a label of any task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.item_labels import ItemLabels
from musicbert_plugin.data.labelled_spectrograms import tensors_of
from musicbert_plugin.data.octuple_dataset import OctupleRows
from musicbert_plugin.data.octuple_windows import FRAME, WIDTH, OctupleWindows, hide_fields


class LabelledOctuples(OctupleRows):
    """Rows of windows with the labels of their items; see the module.

    Parameters
    ----------
    windows : OctupleWindows
    table : ItemLabels
        Of all items of the split.
    tokens_per_sample, pack
        As in :class:`OctupleRows`.
    cached : str
        The split, if the model is to keep pooled states; else empty.
    hidden : sequence of int
        Fields that the model does not see.
    """

    def __init__(
        self,
        windows: OctupleWindows,
        table: ItemLabels | None,
        *,
        tokens_per_sample: int,
        pack: bool = True,
        cached: str = "",
        hidden: Sequence[int] = (),
    ) -> None:
        self.table, self.cached, self.hidden = table, cached, tuple(hidden)
        super().__init__(windows, tokens_per_sample=tokens_per_sample, pack=pack)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(index)
        windows = self.windows_of(row)
        read = [self.windows.read(window) for window in windows]
        return {
            "id": row,
            "source": torch.from_numpy(np.concatenate([hide_fields(ids, self.hidden) for ids, _, _ in read])),
            "piece_lengths": np.array([len(ids) // WIDTH for ids, _, _ in read]),
            **self.labels_of(np.array(windows), read),
        }

    def labels_of(
        self, windows: NDArray[np.int64], read: list[tuple[NDArray[np.int64], int, int]]
    ) -> dict[str, NDArray[np.int64]]:
        """Entries of a sample that say which labels it has, int64 with a row per window (or note)."""
        return {"window": windows, "item": np.array([item for _, item, _ in read])}

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of the module's table; an empty dict for no samples."""
        if not samples:
            return {}
        pieces = [sample["piece_lengths"] for sample in samples]
        piece_lengths = np.concatenate(pieces)
        labels = self.labels_in(samples, piece_lengths - FRAME)
        net_input: dict[str, Any] = self.tokens_of([sample["source"] for sample in samples], pieces)
        if self.cached:
            net_input["cached"] = (self.cached, labels["window"])
        return {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "net_input": net_input | {"labels": True},
            "nsentences": len(piece_lengths),
            "ntokens": int(piece_lengths.sum()) * WIDTH,
            **labels,
        }

    def labels_in(self, samples: list[dict[str, Any]], notes: NDArray[np.int64]) -> dict[str, Any]:
        """The entries of a batch that hold labels; ``notes`` are those of its windows."""
        window, item = (np.concatenate([sample[key] for sample in samples]) for key in ("window", "item"))
        return {
            "window": torch.from_numpy(window),
            "item": torch.from_numpy(item),
            "length": torch.from_numpy(notes),
            **tensors_of(self.table.of(item)),
        }


class LabelledNotes(LabelledOctuples):
    """Rows of windows whose notes have labels; see the module.

    Parameters
    ----------
    windows : OctupleWindows
    note_labels : dict of str to IndexedDataset
        By task: as many values per item as it has notes, 0 for unlabelled ones and k + 1 for class k.
    class_numbers : dict of str to int64 [classes + 1]
        By task: the class of the task for each value, -1 for unlabelled notes.
    weights : dict of str to float64 [N, 1]
        By task: weights of the items of the split, for all of their notes.
    tokens_per_sample, pack, hidden
        As in :class:`LabelledOctuples`.
    """

    def __init__(
        self,
        windows: OctupleWindows,
        note_labels: Mapping[str, IndexedDataset],
        class_numbers: Mapping[str, NDArray[np.int64]],
        weights: Mapping[str, NDArray[np.float64]],
        *,
        tokens_per_sample: int,
        pack: bool = True,
        hidden: Sequence[int] = (),
    ) -> None:
        self.note_labels, self.class_numbers, self.weights = dict(note_labels), dict(class_numbers), dict(weights)
        notes = windows.items.sizes.astype(np.int64) // WIDTH - FRAME
        self._first_note = np.cumsum(notes) - notes
        super().__init__(windows, None, tokens_per_sample=tokens_per_sample, pack=pack, hidden=hidden)

    def labels_of(self, windows: NDArray[np.int64], read: list[tuple[NDArray[np.int64], int, int]]) -> dict[str, Any]:
        spans = [(item, start, len(ids) // WIDTH - FRAME) for ids, item, start in read]
        found = {
            "note": np.concatenate([self._first_note[item] + start + np.arange(notes) for item, start, notes in spans]),
            "item": np.repeat([item for item, _, _ in spans], [notes for _, _, notes in spans]),
        }
        for name, labels in self.note_labels.items():
            values = [labels.read(item, start, start + notes) for item, start, notes in spans]
            found[f"label {name}"] = self.class_numbers[name][np.concatenate(values)]
        return found

    def labels_in(self, samples: list[dict[str, Any]], notes: NDArray[np.int64]) -> dict[str, Any]:
        def column(key: str) -> NDArray[np.int64]:
            return np.concatenate([sample[key] for sample in samples])

        note = torch.from_numpy(column("note"))
        classes = {name: column(f"label {name}")[:, None] for name in self.note_labels}
        present = {name: values >= 0 for name, values in classes.items()}
        item = column("item")
        return {
            "window": note,
            "item": note,
            "length": torch.ones_like(note),
            "n_labelled": int(np.logical_or.reduce(list(present.values())).sum()),
            **tensors_of(
                {
                    "labels": {name: np.maximum(values, 0).astype(np.float64) for name, values in classes.items()},
                    "present": present,
                    "weights": {name: table[item] for name, table in self.weights.items()},
                }
            ),
        }
