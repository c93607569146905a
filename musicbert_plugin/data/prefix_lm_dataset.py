"""Prefixes and music: the batches of a language model conditioned on attributes or on custom conditions.

A sample is a prefix c_1 .. c_n (63 command words, or a condition of any length) and music t_1 .. t_m.  The input is

    ``</s>`` c_1 .. c_n ``<sep>`` t_1 .. t_m

and the target at each index the next token: t_1 at ``<sep>`` (index n + 1), ``</s>`` at t_m.  Where ``</s>`` is no
target (see below), the input ends with t_(m-1).  The loss covers the music and its end (``target``), or all tokens
(``all``).  The index at which positions begin (``sep_pos``) depends on the
position mode, see ``modules/position_offset.py``.

Ends
----
Windows of music begin and end at any bar of their piece, so most of their ends say nothing of how music ends.  In
folders that mark the windows which are the end of their piece, ``</s>`` is therefore a target only

* of those windows, so that the model learns where pieces end, and
* where the prefix shows the number of bars (attribute B1s1), which the window has: so a request for bars is learnt from
  all windows, and generated pieces have them even without hard limits.

Any other window has the last word of its last bar as its last target, as if more music followed.  Without a request for
bars, generated pieces are then as long as whole pieces are, not as windows; the grammar ends them at a bar line when
``--max-len-b`` words are written.  With ``ends="all"``, and in folders without marks (of older versions, or for the
published recipe), ``</s>`` is a target of every window.  In pairs, it ends each answer.

A batch of B rows, padded on the right to L tokens:

====================  ============  ===================================================================================
key                   type          meaning
====================  ============  ===================================================================================
id                    int64 [B]     index of each sample
net_input.src_tokens  int64 [B, L]  the input
net_input.            int64 [B]     its length
src_lengths
net_input.sep_pos     int64 [B]     index at which positions begin
target                int64 [B, L]  the next token; ``<pad>`` for tokens without loss
start_indices         list of int   first index with a target, from which ``fairseq-eval-lm`` scores
ntokens, nsentences   int           number of targets, and of rows; fairseq reports loss and perplexity per target
====================  ============  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from musicbert_plugin.codecs.attributes import NA, SLOT_CLASSES, SLOT_OF, SLOTS, command_ids
from musicbert_plugin.codecs.remi import EOS, PAD
from musicbert_plugin.data.attribute_dropout import drop_attributes
from musicbert_plugin.data.epoch_dataset import EpochDataset
from musicbert_plugin.data.epoch_rng import epoch_rng
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.errors import DatasetError
from musicbert_plugin.modules.position_offset import position_offset
from musicbert_plugin.parsing import read_npy

LOSS_ON = ("target", "all")
ENDS = ("marked", "all")
BARS_SLOT = SLOT_OF["B1s1"]
MASK_STREAM, ORDER_STREAM = range(2)


class Samples(Protocol):
    """The source of prefixes and music."""

    sizes: NDArray[np.int64]
    """Largest number of tokens of each sample, [N]: prefix, music and its end."""

    def sample(self, index: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Prefix, without ``<sep>``, and music, with ``</s>`` if its end is a target."""


class AttributedMusic:
    """Windows of music with their attributes: a split of a folder that ``preprocess.remi build`` writes.

    Parameters
    ----------
    stem : path of the split, without ``.bin``
        ``STEM.attributes.npy`` has the class vectors, uint8 [N, 63], and is mapped into memory.
    dropout, dropout_prob : str, float
        See ``attribute_dropout``.
    ends : str
        One of :data:`ENDS`: which windows have ``</s>``, where ``STEM.ends.npy``, bool [N], marks the ends of pieces.
    seed : int

    Raises
    ------
    DatasetError
        A file is missing, or the two disagree.
    """

    def __init__(
        self, stem: Path, *, dropout: str = "steps", dropout_prob: float = 0.4, ends: str = ENDS[0], seed: int = 1
    ) -> None:
        self.music = IndexedDataset(stem)
        path = Path(f"{stem}.attributes.npy")
        try:
            self.classes = read_npy(path, memory_map=True)
        except ValueError as error:
            raise DatasetError(
                f"{path} cannot be read ({error}): it holds the attributes of each sample, as 'python -m "
                "preprocess.remi build' writes them."
            ) from None
        if self.classes.shape != (len(self.music), SLOTS) or self.classes.dtype != np.uint8:
            raise DatasetError(
                f"{path} holds {self.classes.dtype} {list(self.classes.shape)}, but {stem}.bin has {len(self.music)} "
                f"samples, so uint8 [{len(self.music)}, {SLOTS}] is expected: build the dataset again."
            )
        self.ends = _read_ends(Path(f"{stem}.ends.npy"), len(self.music)) if ends == ENDS[0] else None
        self.path = path
        self.dropout, self.dropout_prob, self.seed = dropout, dropout_prob, seed
        self.sizes = np.asarray(self.music.sizes, np.int64) + SLOTS

    def sample(self, index: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        random = epoch_rng(self.seed, epoch, index, MASK_STREAM)
        classes = np.asarray(self.classes[index])
        if (classes >= SLOT_CLASSES).any():
            raise DatasetError(
                f"{self.path} is damaged: sample {index} has classes that no attribute has; build the dataset again."
            )
        classes = drop_attributes(classes, random, self.dropout, self.dropout_prob)
        music = self.music.read(index)
        learnt = self.ends is None or self.ends[index] or classes[BARS_SLOT] != NA[BARS_SLOT]
        return command_ids(classes), ended(music) if learnt else music[: len(music) - int((music[-1:] == EOS).sum())]


def _read_ends(path: Path, count: int) -> NDArray[np.bool_] | None:
    """Whether each window is the end of its piece; None if the folder does not say."""
    if not path.is_file():
        return None
    try:
        ends = read_npy(path)
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read ({error}): build the dataset again.") from None
    if ends.shape != (count,) or ends.dtype != np.bool_:
        found = f"{ends.dtype} {list(ends.shape)}"
        raise DatasetError(f"{path} holds {found}, but bool [{count}] is expected: build the dataset again.")
    return ends


def ended(music: NDArray[np.int64]) -> NDArray[np.int64]:
    """Music with exactly one ``</s>``, at its end."""
    return music if len(music) and music[-1] == EOS else np.append(music, EOS)


def read_prefix(condition: NDArray[np.int64], separator: int) -> NDArray[np.int64]:
    """The tokens before the music: ``</s>``, the condition, ``<sep>``."""
    return np.concatenate([[EOS], condition, [separator]])


class PrefixLMDataset(EpochDataset):
    """Batches as in the table of the module.

    Parameters
    ----------
    samples : Samples
    separator : int
        Id of ``<sep>``.
    position_mode, loss_on : str
    train : bool
        Whether epochs differ.
    seed : int
        Seed of the order of samples of equal length.
    """

    ORDER = (0, ORDER_STREAM)

    def __init__(
        self,
        samples: Samples,
        *,
        separator: int,
        position_mode: str = "zero-prefix",
        loss_on: str = "target",
        train: bool = False,
        seed: int = 1,
    ) -> None:
        super().__init__(train=train, seed=seed)
        self.samples = samples
        self.separator = separator
        self.position_mode = position_mode
        self.loss_on = loss_on
        # The input has </s> and <sep> before the music, but not the last </s>.
        self.sizes = samples.sizes + 1
        self.set_epoch(1)

    def __getitem__(self, index: int) -> dict[str, Any]:
        condition, music = self.samples.sample(int(index), self.epoch)
        prefix = read_prefix(condition, self.separator)
        row = torch.from_numpy(np.concatenate([prefix, music]))
        target = row[1:].clone()
        start = 0 if self.loss_on == "all" else len(prefix) - 1
        target[:start] = PAD
        return {
            "id": int(index),
            "source": row[:-1],
            "target": target,
            "sep_pos": position_offset(len(prefix) - 1, self.position_mode),
            "start": start,
        }

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of these items; {} of none."""
        if not samples:
            return {}
        target = _padded([sample["target"] for sample in samples])
        return {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "net_input": {
                "src_tokens": _padded([sample["source"] for sample in samples]),
                "src_lengths": torch.tensor([len(sample["source"]) for sample in samples]),
                "sep_pos": torch.tensor([sample["sep_pos"] for sample in samples]),
            },
            "target": target,
            "start_indices": [sample["start"] for sample in samples],
            "nsentences": len(samples),
            "ntokens": int((target != PAD).sum()),
        }


class Prompts(EpochDataset):
    """Prefixes to continue, in the given order: batches of ``src_tokens`` and ``src_lengths``."""

    def __init__(self, prefixes: Sequence[Tensor]) -> None:
        super().__init__(train=False, seed=0)
        self.prefixes = prefixes
        self.sizes = np.array([len(prefix) for prefix in prefixes], np.int64)

    def ordered_indices(self) -> NDArray[np.int64]:
        """The given order."""
        return np.arange(len(self))

    def __getitem__(self, index: int) -> int:
        return int(index)

    def collater(self, indices: list[int]) -> dict[str, Any]:
        """The batch of these prefixes; {} of none."""
        if not indices:
            return {}
        rows = [self.prefixes[index] for index in indices]
        return {
            "id": torch.tensor(indices),
            "net_input": {"src_tokens": _padded(rows), "src_lengths": torch.tensor([len(row) for row in rows])},
            "nsentences": len(rows),
            "ntokens": sum(map(len, rows)),
        }


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=PAD)
