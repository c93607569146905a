"""``--held-out OTHER...``: a dataset without copies of the pieces that other sources or datasets hold.

OTHER is a source as SRC is, or a dataset folder of octuples with drawn windows.  What a copy is, is said in
``near_duplicates``; files that ``--groups`` (or a group column) connects with a copy are left out too.

The files of a source are read as those of SRC are.  A dataset folder holds quantised notes alone, so it is compared
with the octuples of SRC, in which onsets are as exact; this takes the parent process about 2 ms per file.  Held-out
files that cannot be read are named, since copies of them cannot be found, and the command ends with status 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.score import DRUMS
from musicbert_plugin.data.dataset_folder import KINDS, check_octuple_folder, read_config
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.files import escaped, given_path
from musicbert_plugin.parsing import parse_json
from preprocess.engine.archives import ArchiveLimits
from preprocess.engine.cli import ProgressBar, say
from preprocess.engine.dataset_spec import DatasetSpec
from preprocess.engine.executors.local import Executor
from preprocess.engine.journal import FileTask, Journal, WorkerConfig
from preprocess.engine.near_duplicates import Fingerprint, fingerprint_of
from preprocess.engine.sources import Collection
from preprocess.engine.split_plan import Fingerprints, Ints, copies_of
from preprocess.engine.splits import SPLITS

NO_NOTES = "no notes"  # the reason of files of which there are no copies


def is_dataset(path: str) -> bool:
    """Whether a path is a dataset folder rather than a source."""
    folder = Path(path)
    if (folder / "train.idx").is_file():
        return True
    try:
        return (folder / "config.json").is_file() and read_config(folder / "config.json").get("kind") in KINDS
    except DatasetError:
        return False


def fingerprint_of_items(items: list[NDArray[Any]]) -> Fingerprint:
    """The fingerprint of a piece, given its items of octuples (ids, [n] each)."""
    parts = [octuple.unframe(item)[0] for item in items]
    for number, part in enumerate(parts):
        part[:, octuple.BAR] += number * octuple.BARS
    score = octuple.decode(np.concatenate(parts))
    return fingerprint_of(score.onset, score.pitch, score.program == DRUMS, score.resolution)


class DatasetPieces:
    """The pieces of a dataset folder of octuples.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    names : list of str
        Names of their files.

    Raises
    ------
    OptionError
        The folder holds no whole pieces.
    DatasetError
        It is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if check_octuple_folder(folder) != "drawn":
            raise OptionError(f"--held-out {folder}: holds windows, not whole pieces; give what it was made of.")
        self.folder = folder
        self._items = {split: IndexedDataset(folder / split) for split in SPLITS if (folder / f"{split}.idx").is_file()}
        self.names: list[str] = []
        self._places: list[tuple[str, int, int]] = []
        manifest = folder / "manifest.jsonl"
        try:
            with open(manifest, encoding="utf-8") as lines:
                for line in map(parse_json, lines):
                    if "split" in line:
                        first, stop = line["items"]
                        if not 0 <= first < stop <= len(self._items[line["split"]]):
                            raise ValueError(f"items {first} to {stop} are not there")
                        self.names.append(f"{escaped(folder)}/{line['file']}")
                        self._places.append((line["split"], first, stop))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(f"{manifest}: cannot be read ({reason}); --held-out needs the list of pieces.") from None

    def fingerprint(self, piece: int) -> Fingerprint:
        """The fingerprint of a piece."""
        split, first, stop = self._places[piece]
        return fingerprint_of_items([self._items[split].read(item) for item in range(first, stop)])


class HeldOut:
    """What a build must not hold copies of.

    Parameters
    ----------
    given : list of str
        Sources and dataset folders.
    spec : DatasetSpec
        Of the build.
    limits : ArchiveLimits
    format : str
        Of the build.

    Attributes
    ----------
    names : list of str
        The files that are held out; known after :meth:`read`.
    unread : int
        Number of files that could not be read; known after :meth:`read`.

    Raises
    ------
    OptionError, DatasetError
        Something cannot be compared.
    """

    def __init__(self, given: list[str], spec: DatasetSpec, limits: ArchiveLimits, format: str) -> None:
        given = [given_path(path) for path in given]
        self._given, self._spec, self.unread = given, spec.comparer(), 0
        folders = [Path(path) for path in given if is_dataset(path)]
        others = [path for path in given if not is_dataset(path)]
        if folders and not (spec.name == "octuple" and spec.settings().get("windows") == "drawn" and format == "bin"):
            raise OptionError(
                f"--held-out {folders[0]}: a dataset folder is compared by a build of octuples with --windows drawn "
                "and --format bin; others take the files that it was made of."
            )
        self._collection = Collection(others, spec.suffixes, limits) if others else None
        if self._collection is not None and not len(self._collection):
            raise OptionError(
                f"--held-out {' '.join(others)}: no files in it that end with {', '.join(spec.suffixes)}."
            )
        self._folders = [DatasetPieces(folder) for folder in folders]
        self.names: list[str] = []

    def description(self) -> dict[str, Any]:
        """What decides what is left out."""
        digest = hashlib.sha256()
        for name in self._collection.names if self._collection else ():
            digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
        for pieces in self._folders:
            digest.update((pieces.folder / "manifest.jsonl").read_bytes())
        return {"held_out": list(map(escaped, self._given)), "held_out_listing": digest.hexdigest()}

    def _tasks(self, wanted: NDArray[np.bool_]) -> Iterator[FileTask]:
        assert self._collection is not None
        names, stamps = self._collection.names, self._collection.stamps
        for index, source, inner, place in self._collection.tasks(wanted, self._spec.largest_file):
            yield FileTask(index, source, inner, names[index], place, stamps[index])

    def read(self, executor: Executor, work: Path) -> None:
        """Read the files of the sources; what a killed build has read is not read again.

        Parameters
        ----------
        executor : Executor
        work : Path
            A folder for the results.
        """
        self._groups: list[tuple[Fingerprints, list[str]]] = []
        if self._collection is not None:
            work.mkdir(exist_ok=True)
            names = self._collection.names
            journal = Journal(work, self._collection.find, self._collection.stamps)
            journal.update()
            missing = journal.run < 0
            with ProgressBar(len(missing), int(len(missing) - missing.sum())) as bar:
                config = WorkerConfig(self._spec, tuple(self._collection.sources), False)
                for progress in executor.run(self._tasks(missing), config, work):
                    bar.advance(progress.files)
            journal.update()
            for index in np.flatnonzero(journal.notes < 0).tolist():
                record = journal[index] if journal.run[index] >= 0 else {}
                if record.get("reason") != NO_NOTES:
                    self.unread += 1
                    detail = record.get("detail") or f"{names[index]}: its worker was lost."
                    say(f"held out, but not read: {detail}")
            pieces = np.flatnonzero(journal.notes >= 0)
            self._groups.append((Fingerprints.of_journal(journal, pieces), [names[index] for index in pieces.tolist()]))
        for folder in self._folders:
            self._groups.append((Fingerprints.of(len(folder.names), folder.fingerprint), folder.names))
        self.names = [name for _, found in self._groups for name in found]

    def copies(self, pieces: Fingerprints, items_of: Callable[[int], list[NDArray[Any]]], least_share: float) -> Ints:
        """The index in :attr:`names` of a held-out file that each of P pieces is a copy of, or -1; int64 [P].

        Parameters
        ----------
        pieces : Fingerprints
        items_of : callable
            Returns the items of piece p.
        least_share : float
            Smallest share of equal shingles of near-duplicates.
        """
        found = np.full(len(pieces), -1, np.int64)
        quantised: Fingerprints | None = None
        first = 0
        for number, (others, names) in enumerate(self._groups):
            own = pieces
            if number >= len(self._groups) - len(self._folders):
                if quantised is None:
                    quantised = Fingerprints.of(len(pieces), lambda piece: fingerprint_of_items(items_of(piece)))
                own = quantised
            copies = copies_of(own, others, least_share)
            found = np.where((found < 0) & (copies >= 0), copies + first, found)
            first += len(names)
        return found
