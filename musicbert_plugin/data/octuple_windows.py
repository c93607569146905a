"""Windows: the excerpts of pieces that an epoch trains on.

A dataset stores a whole piece as one or more items of at most 256 bars, each counted from bar 0.  A window is at most
w = min(1000, tokens_per_sample / 8 - 2) consecutive notes of an item, framed by eight ``<s>`` and eight ``</s>``.

* Training draws ceil(n / w) windows from an item of n notes in every epoch, each of min(n, w) notes.  The start is
  uniform over -w/2 .. n - w/2, clipped to 0 .. n - w.  In a long item, an inner note occurs once per epoch on average,
  the first and the last note half as often, and notes about w from an end up to 1.5 times.  (With starts uniform over
  0 .. n - w, the notes at the ends would hardly ever occur.)  A bar offset, uniform over those that keep all bars of
  the window within 0..255, is added.
* Validation tiles the item in every epoch: window k holds notes k w to (k + 1) w - 1, with unchanged bars.
* Stored windows (the original's overlapping ones, written by ``--windows stored``, or a folder made by
  ``fairseq-preprocess``) are used unchanged.

* With ``windows_per_piece``, training draws so many windows from each piece in every epoch, whatever its length: first
  the item of each, with a probability in proportion to its notes, then the window as above.

The draws depend on (seed, epoch, index of the window) only, so they are the same for any number of workers and in a
resumed training.  The lengths of windows depend only on the sizes in the index (and, with ``windows_per_piece``, on the
epoch), so no data is read to plan an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.octuple import BAR, BARS, BOS, EOS, FIELD_OFFSETS, FIELD_SIZES, FIELDS, MASK
from musicbert_plugin.data.epoch_dataset import EpochDataset
from musicbert_plugin.data.indexed_dataset import ConcatIndexedDataset, IndexedDataset
from musicbert_plugin.errors import DatasetError, OptionError

NOTES_PER_WINDOW = 1000
WIDTH = len(FIELDS)
FRAME = 2  # octuples: <s> and </s>
LOWEST, SIZES = np.array(FIELD_OFFSETS), np.array(FIELD_SIZES)  # ids of each field: LOWEST to LOWEST + SIZES - 1

WINDOW_STREAM, MASK_STREAM, ROW_STREAM, ITEM_STREAM = range(4)


def notes_per_window(tokens_per_sample: int) -> int:
    """Notes of a full window: min(1000, tokens_per_sample / 8 - 2).

    Raises
    ------
    OptionError
        Not even one note fits between the two frame octuples.
    """
    notes = min(NOTES_PER_WINDOW, tokens_per_sample // WIDTH - FRAME)
    if notes < 1:
        raise OptionError(
            f"tokens_per_sample is {tokens_per_sample}, but one framed note takes {WIDTH * (FRAME + 1)} sub-tokens."
        )
    return notes


def hide_fields(window: NDArray[np.int64], fields: Sequence[int]) -> NDArray[np.int64]:
    """Mask some fields of all notes of a framed window, int64 [8 (m + 2)], in place."""
    window.reshape(-1, WIDTH)[1:-1, list(fields)] = MASK
    return window


class OctupleWindows(EpochDataset):
    """The windows of one split, framed: item i is int64 [8 (m + 2)] with m notes.

    Parameters
    ----------
    items : IndexedDataset or ConcatIndexedDataset
    tokens_per_sample : int
        Largest length of a row, in sub-tokens.
    windows : {"drawn", "stored"}
        Whether windows are cut from the items, or are the items.
    train : bool
        Whether windows are drawn in every epoch, or tile the items.
    seed : int
    chosen : int64 [n], optional
        The items that are read; by default all.
    pieces : int64 [n], optional
        Numbers of the pieces that these items belong to, for ``windows_per_piece``.
    windows_per_piece : int
        Windows that training draws from each piece; 0 for as many as its notes fill.

    Attributes
    ----------
    lengths : int32 [len]
        Number of octuples of each window, including the two frame octuples; the same in every epoch, unless
        :attr:`redrawn`.
    redrawn : bool
        Whether the items of windows, and so their lengths, are drawn in every epoch.

    Raises
    ------
    DatasetError
        The split is empty, an item is not framed octuples, or a stored window is longer than ``tokens_per_sample``.
    """

    def __init__(
        self,
        items: IndexedDataset | ConcatIndexedDataset,
        *,
        tokens_per_sample: int,
        windows: str = "drawn",
        train: bool = True,
        seed: int = 1,
        chosen: NDArray[np.int64] | None = None,
        pieces: NDArray[np.int64] | None = None,
        windows_per_piece: int = 0,
    ) -> None:
        super().__init__(train=train, seed=seed)
        self.items = items
        self.chosen, self._pieces = chosen, pieces
        self.windows_per_piece = windows_per_piece
        self.redrawn = bool(train and windows_per_piece and windows == "drawn")
        self.drawn = windows == "drawn"
        self.notes_per_window = notes_per_window(tokens_per_sample)
        self._check_sizes(tokens_per_sample)
        self._plan()
        self.set_epoch(1)
        for item in (0, len(items) - 1):
            self._read(item, 0, int(items.sizes[item]) // WIDTH - FRAME)

    def _check_sizes(self, tokens_per_sample: int) -> None:
        sizes, prefix = self.items.sizes, self.items.prefix
        if not len(sizes):
            raise DatasetError(f"{prefix} holds no pieces (to train without validation, pass --disable-validation).")
        odd = np.flatnonzero((sizes % WIDTH != 0) | (sizes < WIDTH * FRAME))
        if len(odd):
            raise DatasetError(
                f"item {odd[0]} of {prefix}.bin has {sizes[odd[0]]} sub-tokens, but octuples come in eights, "
                "between eight <s> and eight </s>."
            )
        longest = int(sizes.max())
        if not self.drawn and longest > tokens_per_sample:
            raise DatasetError(
                f"{prefix} has stored windows of up to {longest} sub-tokens, but tokens_per_sample is "
                f"{tokens_per_sample}; raise it, or set windows to drawn if the items are whole pieces."
            )

    def _plan(self) -> None:
        """Number the windows: those of the k-th item that is read are first[k] to first[k + 1] - 1."""
        notes = self.items.sizes // WIDTH - FRAME
        notes = notes if self.chosen is None else notes[self.chosen]
        if not self.drawn:
            self._first = None
            self.lengths = notes + np.int32(FRAME)
            return
        full = self.notes_per_window
        counts = -(-notes // full)
        self._first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        self.lengths = np.repeat(np.minimum(notes, full) + np.int32(FRAME), counts)
        if not self.train:
            has_windows = counts > 0
            last = self._first[1:][has_windows] - 1
            self.lengths[last] = (notes - (counts - 1) * full + FRAME)[has_windows]

    def draw_epoch(self) -> None:
        """Draw the item of each window, if every piece has the same number of windows."""
        if not self.redrawn:
            return
        order = np.argsort(self._pieces, kind="stable")
        item = np.arange(len(order))[order] if self.chosen is None else self.chosen[order]
        notes = self.items.sizes[item].astype(np.int64) // WIDTH - FRAME
        ends = np.cumsum(notes)
        first = np.flatnonzero(np.diff(self._pieces[order], prepend=-1))
        total = np.add.reduceat(notes, first)
        begin, total = (ends - notes)[first][total > 0], total[total > 0]
        share = self.rng(0, ITEM_STREAM).random((len(total), self.windows_per_piece))
        # the item of a note that is drawn uniformly from the notes of the piece
        note = begin[:, None] + np.minimum((share * total[:, None]).astype(np.int64), total[:, None] - 1)
        drawn = np.searchsorted(ends, note.ravel(), side="right")
        self._item = item[drawn]
        self.lengths = np.minimum(notes[drawn], self.notes_per_window).astype(np.int32) + np.int32(FRAME)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Sub-tokens of each window, int64 [N]."""
        return self.lengths.astype(np.int64) * WIDTH

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.read(index)[0]

    def read(self, index: int) -> tuple[NDArray[np.int64], int, int]:
        """A window, its item, and the item's note that is its first."""
        index = int(index)
        notes = int(self.lengths[index]) - FRAME
        if self._first is None:
            item = index if self.chosen is None else int(self.chosen[index])
            return self._read(item, 0, notes)[0], item, 0
        if self.redrawn:
            item = int(self._item[index])
        else:
            row = int(np.searchsorted(self._first, index, side="right")) - 1
            item = row if self.chosen is None else int(self.chosen[row])
            if not self.train:
                start = (index - int(self._first[row])) * self.notes_per_window
                return self._read(item, start, notes)[0], item, start
        rng = self.rng(index, WINDOW_STREAM)
        spare = int(self.items.sizes[item]) // WIDTH - FRAME - notes
        start = int(rng.integers(-(notes // 2), spare + notes // 2 + 1)) if spare else 0
        start = min(max(start, 0), spare)
        window, first_bar, last_bar = self._read(item, start, notes)
        window[WIDTH + BAR : -WIDTH : WIDTH] += rng.integers(-first_bar, BARS - last_bar)
        return window, item, start

    def _read(self, item: int, start: int, notes: int) -> tuple[NDArray[np.int64], int, int]:
        """Notes ``start`` to ``start + notes - 1`` of an item, framed, and their lowest and highest bar.

        Raises
        ------
        DatasetError
            An id is outside the vocabulary of its field, or a whole item is not framed.
        """
        whole = notes == int(self.items.sizes[item]) // WIDTH - FRAME
        window = self.items.read(item, WIDTH * start, WIDTH * (start + notes + FRAME))
        framed = not whole or ((window[:WIDTH] == BOS).all() and (window[-WIDTH:] == EOS).all())
        window[:WIDTH], window[-WIDTH:] = BOS, EOS
        values = window[WIDTH:-WIDTH].reshape(-1, WIDTH)
        low = values.min(axis=0, initial=MASK) - LOWEST
        high = values.max(axis=0, initial=0) - LOWEST
        if not framed or (notes and ((low < 0).any() or (high >= SIZES).any())):
            raise DatasetError(
                f"item {item} of {self.items.prefix}.bin is not octuples between eight <s> and eight </s>: "
                "the data was not made with this dictionary, or is damaged."
            )
        return window, int(low[BAR]), int(high[BAR])
