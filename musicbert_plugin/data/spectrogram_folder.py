"""Spectrograms: reading items, or slices of them, from a folder that ``python -m preprocess.audio build`` wrote.

A folder holds, besides ``manifest.jsonl``:

``config.json``
    ``"format": 1``, ``"kind": "spectrogram"``, the front-end, the names of the F features, frames per second, and the
    mean and standard deviation of each feature over all frames of the training split.
``{train,valid,test}.{bin,idx}``
    fairseq's container.  An item is a recording, or an excerpt of one: T rows of F half-precision numbers, row by row.
    The container does not support float16, so the numbers are stored as 16-bit words.
``{train,valid,test}.clips.csv``
    one line per item: ``clip`` (its name), ``frames`` (T), and a column per task with the labels of the source; an
    empty cell is a missing label, not a negative one.

A folder made with ``--on-the-fly`` has no container, but two more columns: ``recording``, the path of each item's file
(escaped, see ``files``), and ``bytes``, its size.  Items are decoded and converted to log-mel spectrograms when they
are read, and only as much of the recording as a slice needs (of ogg files, and of those that ffmpeg decodes, also all
that is before it).  When a split is first opened, recordings that are missing or have another size are left out with a
warning, from this reader and from all loader processes that it is sent to.  A recording that cannot be read later
raises a :class:`RecordingError`; the same command then resumes from its last checkpoint without it.

Values are those of the front-end (log-mels in ln units); subtract ``mean`` and divide by ``std`` before a model.  Half
precision keeps 11 bits: the error is at most 0.004 for log-mels, whose values are within -14 and 14, and 0.25 for a
first MFCC of -1,000, whose standard deviation is about 100.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.dataset_folder import KINDS, check_folder
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.files import shown, unescaped
from musicbert_plugin.parsing import shortened, whole_number
from musicbert_plugin.tables import read_table

logger = logging.getLogger(__name__)

KIND = "spectrogram"
FIXED_COLUMNS = ("clip", "frames")
RECORDING_COLUMNS = ("recording", "bytes")
_MAX_NAMES = 3  # largest number of recordings that a warning names
SMALLEST_DEVIATION = 1e-3  # limits the scale of constant features, such as bands above a low-pass filter


class Spectrograms:
    """The items of one split.

    Attributes
    ----------
    names : list of str [N]
    frames : int64 [N]
        Length T of each item.
    labels : dict of str to list of str [N]
        From column to its cells; "" for missing labels.  Names of columns are in normal form (``tables.normal_text``).
    mean, std : float32 [F]
        Statistics of the training split, also for other splits; ``std`` is at least 0.001.
    feature_names : list of str [F]
    frame_rate : float
        Frames per second.
    recordings : list of str
        Paths, if the folder was made with ``--on-the-fly``.
    kept : int64 [N]
        Line of the table of each item, without those of recordings that are missing or have changed.
    folder : SpectrogramFolder

    Parameters
    ----------
    folder : SpectrogramFolder
    name : str
    kept : int64 [N], optional
        By default found by checking every recording.

    Raises
    ------
    DatasetError
        The split is missing or damaged, or none of its recordings is left.
    """

    def __init__(self, folder: SpectrogramFolder, name: str, kept: NDArray[np.int64] | None = None) -> None:
        self.folder, self.name = folder, name
        self.mean, self.std = folder.mean, folder.std
        self.feature_names, self.frame_rate = folder.feature_names, folder.frame_rate
        path = folder.path / f"{name}.clips.csv"
        try:
            header, numbered = read_table(path, strip=False)
            fixed = FIXED_COLUMNS + (RECORDING_COLUMNS if folder.on_the_fly else ())
            bad = next((line for line, row in numbered if len(row) != len(header)), 1)
            if tuple(header[: len(fixed)]) != fixed or bad > 1:
                raise ValueError(f"line {bad} has no {', '.join(fixed)} and labels")
            rows = [row for _, row in numbered]
            if kept is None:
                kept = _unchanged(path, rows) if folder.on_the_fly else np.arange(len(rows))
            self.kept = kept
            rows = [rows[line] for line in kept.tolist()]
            self.names = [row[0] for row in rows]
            frames = [whole_number(row[1]) for row in rows]
            if None in frames:
                raise ValueError(f"line {2 + frames.index(None)} has {shortened(rows[frames.index(None)][1])} frames")
            self.frames: NDArray[np.int64] = np.array(frames, np.int64)
        except OptionError as error:
            raise DatasetError(f"{str(error).rstrip('.')}; build the dataset again.") from None
        except ValueError as error:
            raise DatasetError(f"{path} cannot be read ({error}); build the dataset again.") from None
        self.recordings = [unescaped(row[2]) for row in rows] if folder.on_the_fly else []
        columns = header[len(fixed) :]
        self.labels = {
            column: [row[field] for row in rows]
            for field, column in enumerate(columns, len(fixed))
            if columns.count(column) == 1
        }
        if twice := sorted(set(columns) - set(self.labels)):
            logger.warning(
                "%s has two columns named %s, which are not read; rename one in the table of labels and build the "
                "dataset again",
                path,
                " and ".join(twice),
            )
        self._front_end: Any = None
        self._parts: IndexedDataset | None = None
        if not folder.on_the_fly:
            self._parts = IndexedDataset(folder.path / name)
            if not np.array_equal(self._parts.sizes, self.frames * folder.num_features):
                raise DatasetError(
                    f"{folder.path / name}.bin and {path.name} list different items; build the dataset again."
                )

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Frames ``start`` to ``stop`` (exclusive; None for the end) of an item: a fresh float32 [T, F].

        Raises
        ------
        DatasetError
            The frames are not within the item.
        RecordingError
            The recording of an ``--on-the-fly`` folder is gone, or damaged.
        """
        count = int(self.frames[index])
        stop = count if stop is None else stop
        if not 0 <= start <= stop <= count:
            raise DatasetError(f"{self.names[index]}: frames {start} to {stop} of an item of {count} frames.")
        width = self.folder.num_features
        if start == stop:
            return np.zeros((0, width), np.float32)
        if self._parts is None:
            return self._compute(index, start, stop)
        words = self._parts.raw(index, start * width, stop * width)
        return words.view(np.float16).astype(np.float32).reshape(-1, width)

    def _compute(self, index: int, start: int, stop: int) -> NDArray[np.float32]:
        if self._front_end is None:
            from musicbert_plugin.audio.front_end import FrontEnd

            self._front_end = FrontEnd.of(self.folder.front_end)
        path, frames = self.recordings[index], int(self.frames[index])
        return self._front_end.read(path, frames, start, stop, self.names[index])

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        return self.read(index)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self.read(index) for index in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A loader process maps the files again; pickling a memory map would copy all data.
        return Spectrograms, (self.folder, self.name, self.kept)


def _unchanged(path: Path, rows: list[list[str]]) -> NDArray[np.int64]:
    """Lines of the table ``path`` whose recording exists and has its recorded size; logs a warning about the others.

    Raises
    ------
    DatasetError
        No recording is left.
    """
    lost = [line for line, row in enumerate(rows) if not _is_unchanged(unescaped(row[2]), row[3])]
    if not lost:
        return np.arange(len(rows))
    named = ", ".join(rows[line][2] for line in lost[:_MAX_NAMES]) + (", ..." if len(lost) > _MAX_NAMES else "")
    if len(lost) == len(rows):
        raise DatasetError(
            f"{path}: all of its {len(rows):,} recordings are gone or have changed ({named}); put them back, or build "
            "the dataset again."
        )
    logger.warning(
        "%s: %d of %d recordings are gone or have changed since the dataset was built, and are left out: %s",
        shown(str(path)),
        len(lost),
        len(rows),
        named,
    )
    return np.delete(np.arange(len(rows)), lost)


def _is_unchanged(recording: str, size: str) -> bool:
    try:
        return os.path.isfile(recording) and os.path.getsize(recording) == whole_number(size)
    except (OSError, ValueError):  # ValueError: a name with a null character
        return False


class SpectrogramFolder:
    """A feature folder: its front-end, its features, and its splits.

    Parameters
    ----------
    path : path of the folder

    Attributes
    ----------
    front_end : dict
        The name and all settings of the front-end (``sample_rate`` in Hz, ``hop`` in samples, ...).
    num_features : int
        F.
    feature_names : list of str [F]
        ``"mel 0"``, ``"chroma C"``, ...
    blocks : dict of str to (int, int)
        From kind of feature to its columns [begin, end): ``{"mel": (0, 96)}``.
    frequencies : float32 [F]
        Centre of each mel band in Hz; nan for other features.
    frame_rate : float
        Frames per second.
    mean, std : float32 [F]
        Over all frames of the training split.
    on_the_fly : bool

    Raises
    ------
    DatasetError
        The folder does not exist, is not finished, or has a newer format or another kind of data.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._kept: dict[str, NDArray[np.int64]] = {}
        file = self.path / "config.json"
        config = check_folder(self.path, KIND)
        if config is None:
            raise DatasetError(
                f"{file} is missing, so {path} is not a finished feature folder; '{KINDS[KIND]} SRC --dest {path}' "
                "makes one."
            )
        try:
            self.config = config
            self.front_end: dict[str, Any] = config["front_end"]
            self.feature_names: list[str] = config["feature_names"]
            self.num_features = len(self.feature_names)
            self.blocks: dict[str, tuple[int, int]] = {
                name: (int(begin), int(end)) for name, (begin, end) in config["blocks"].items()
            }
            self.frequencies = self._column("frequencies")
            self.frame_rate = float(config["frame_rate"])
            self.on_the_fly = bool(config.get("on_the_fly", False))
            self.mean = self._column("mean")
            self.std = np.maximum(self._column("std"), np.float32(SMALLEST_DEVIATION))
            if not 0 < self.frame_rate < math.inf:
                raise ValueError(f"frame_rate is {self.frame_rate}")
            if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all()):
                raise ValueError("mean and std are not all finite")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise DatasetError(f"{file} cannot be read ({reason}); build the dataset again.") from None

    def _column(self, name: str) -> NDArray[np.float32]:
        values = np.array(self.config[name], np.float32)  # null becomes nan
        if values.shape != (self.num_features,):
            raise ValueError(f"{name} has shape {values.shape} for {self.num_features} features")
        return values

    def split(self, name: str) -> Spectrograms:
        """The items of ``train``, ``valid`` or ``test``; recordings are checked the first time only.

        Raises
        ------
        DatasetError
            The split is missing or damaged, or none of its recordings is left.
        """
        split = Spectrograms(self, name, self._kept.get(name))
        self._kept[name] = split.kept
        return split
