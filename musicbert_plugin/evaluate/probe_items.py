"""What a probe is trained on: recordings of a feature folder, pieces of a labelled folder of notes, or MIDI files.

Whatever they are, :class:`ProbeItems` has their names, labels and units, and their vectors: of the raw features, which
are the baseline, and of the layers of a model.  States are pooled by their mean and standard deviation over time or
notes; a piece of several items (of more than 256 bars) has the mean of their vectors, weighted by their notes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.descriptors import NAMES, PEDAL, descriptors
from musicbert_plugin.data.dataset_folder import check_octuple_folder
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import check_items, labels_path, read_labels
from musicbert_plugin.data.labels import LabelTask, column_of
from musicbert_plugin.errors import DatasetError, OptionError, ScoreError
from musicbert_plugin.evaluate.prediction import given_files
from musicbert_plugin.files import escaped
from musicbert_plugin.tables import check_columns, normal_text, read_table

if TYPE_CHECKING:
    from musicbert_plugin.hub import MusicBERTHub, MusiCoderHub

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
RAW, DESCRIPTORS = "raw features", "descriptors"
"""Names of the baselines of sound and of notes."""

Array = NDArray[np.float64]


@dataclass
class ProbeItems:
    """N items, see the module.

    Attributes
    ----------
    where : str
        The folder, for messages.
    names : list of str [N]
    column : callable
        From the name of a column to its cells, list of str [N], empty where missing; raises DatasetError.
    units : list of str [N]
        Units that are not split unless another column is named; "" for an item of its own.
    folds : int64 [N] or None
        Folds that the dataset was built with.
    raw_name : str
        Name of the baseline.
    raw : callable
        From numbers of items to their raw vectors, float64 [n, V].
    vectors : callable
        From a hub, layers and numbers of items to the pooled states, float64 [len(layers), n, 2 D].
    failed : int
        Number of files that are missing or could not be read.
    """

    where: str
    names: list[str]
    column: Callable[[str], list[str]]
    units: list[str]
    folds: NDArray[np.int64] | None
    raw_name: str
    raw: Callable[[Sequence[int]], Array]
    vectors: Callable[[Any, Sequence[int], Sequence[int]], Array]
    failed: int = 0


def pooled(states: NDArray[np.floating[Any]]) -> Array:
    """Mean and standard deviation over time or notes, [S, D] to [2 D]."""
    x = np.asarray(states, dtype=np.float64)
    return np.concatenate([x.mean(axis=0), x.std(axis=0)])


def items_of_sound(data: str, hub: MusiCoderHub) -> ProbeItems:
    """The recordings of all splits of a feature folder."""
    from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder

    folder = SpectrogramFolder(data)
    hub.check_front_end(folder)
    splits = [folder.split(name) for name in SPLITS if (folder.path / f"{name}.clips.csv").is_file()]
    recordings = [(split, index) for split in splits for index in range(len(split)) if split.frames[index] > 0]

    def column(name: str) -> list[str]:
        cells = {id(split): _cells(name, split.labels, folder.path) if len(split) else [] for split in splits}
        return [cells[id(split)][index] for split, index in recordings]

    def raw(numbers: Sequence[int]) -> Array:
        return np.array([pooled(recordings[number][0].read(recordings[number][1])) for number in numbers])

    def vectors(encoder: MusiCoderHub, layers: Sequence[int], numbers: Sequence[int]) -> Array:
        rows = []
        for split, index in (recordings[number] for number in numbers):
            states = encoder.extract_all_layers(split.read(index))
            rows.append([pooled(states[layer]) for layer in layers])
        return np.swapaxes(np.array(rows), 0, 1)

    names = [split.names[index] for split, index in recordings]
    return ProbeItems(str(folder.path), names, column, [""] * len(names), None, RAW, raw, vectors)


def _cells(name: str, labels: dict[str, list[str]], where: object) -> list[str]:
    return column_of(LabelTask(name, "single", name), labels, str(where))


def _note_vectors(
    pieces: Callable[[int], Iterable[NDArray[Any]]],
) -> Callable[[Any, Sequence[int], Sequence[int]], Array]:
    """The pooled states of notes, where ``pieces`` gives the octuples of the items of a piece."""

    def vectors(hub: MusicBERTHub, layers: Sequence[int], numbers: Sequence[int]) -> Array:
        rows = []
        for number in numbers:
            found, weights = [], []
            for octuples in pieces(number):
                states = hub.extract_features(octuples, layers).float().cpu().numpy()
                found.append([pooled(layer) for layer in states])
                weights.append(len(octuples))
            rows.append(np.average(found, axis=0, weights=weights))
        return np.swapaxes(np.array(rows), 0, 1)

    return vectors


def items_of_notes(data: str) -> ProbeItems:
    """The pieces of all splits of a labelled folder of notes; their units are its groups, and its folds are kept.

    Descriptors are those of the decoded octuples, without the pedal, which octuples do not have.
    """
    folder = Path(data)
    check_octuple_folder(folder)
    splits = [name for name in SPLITS if labels_path(folder, name).is_file()]
    if not splits:
        raise DatasetError(
            f"{folder} has no labels ({labels_path(folder, SPLITS[0]).name}); 'preprocess.labels' makes some."
        )
    tables = {name: read_labels(folder, name) for name in splits}
    containers = {name: IndexedDataset(folder / name) for name in splits}
    of_piece: dict[tuple[str, str], list[int]] = {}
    for name, table in tables.items():
        check_items(table, containers[name].sizes, folder / name)
        for item, (piece, notes) in enumerate(zip(table.pieces, table.notes.tolist(), strict=True)):
            if notes:
                of_piece.setdefault((name, piece), []).append(item)
    pieces = [(tables[name], containers[name], items) for (name, _), items in of_piece.items()]

    def octuples(number: int) -> Iterator[NDArray[Any]]:
        _, container, items = pieces[number]
        for item in items:
            yield octuple.unframe(container.read(item))[0].astype(np.int64)

    def raw(numbers: Sequence[int]) -> Array:
        rows = []
        for number in numbers:
            parts = list(octuples(number))
            found = [descriptors(octuple.decode(part))[: -len(PEDAL)] for part in parts]
            rows.append(np.average(found, axis=0, weights=[len(part) for part in parts]))
        return np.array(rows)

    def column(name: str) -> list[str]:
        cells = {id(table): _cells(name, table.labels, table.path) for table in tables.values() if len(table)}
        return [cells[id(table)][items[0]] for table, _, items in pieces]

    folds = np.array([table.folds[items[0]] for table, _, items in pieces], np.int64)
    return ProbeItems(
        str(folder),
        [table.files[items[0]] for table, _, items in pieces],
        column,
        [table.groups[items[0]] for table, _, items in pieces],
        folds if len(folds) and folds.min() >= 0 else None,
        DESCRIPTORS,
        raw,
        _note_vectors(octuples),
    )


def items_of_midi(data: str, csv: str, hub: MusicBERTHub) -> ProbeItems:
    """The MIDI files in a folder, archive or list that a table names in its column ``file``.

    Descriptors have those of the pedal if any of the files has one.
    """
    header, rows = read_table(csv)
    header = [normal_text(name) for name in header]
    check_columns(csv, header, header)
    if "file" not in header:
        raise OptionError(f"{csv} has no column 'file'; it has {', '.join(header)}.")
    cells = {escaped(row[header.index("file")]): row for _, row in rows if len(row) > header.index("file")}
    names: list[str] = []
    notes: list[NDArray[Any]] = []
    found: list[Array] = []
    failed = 0
    seen: set[str] = set()
    for given in given_files([data], hub.suffixes):
        if given.name not in cells:
            continue
        seen.add(given.name)
        try:
            if isinstance(given.content, Exception):
                raise given.content
            score = hub.reading.read(given.content, given.name, pedal=True)
            notes.append(hub.octuples(score))
            found.append(descriptors(score))
            names.append(given.name)
        except (ScoreError, OptionError) as error:
            logger.warning("%s", error)
            failed += 1
    missing = [name for name in cells if name not in seen]
    if not names:
        raise OptionError(f"{data} has none of the {len(cells)} files of {csv}, such as {next(iter(cells), '')!r}.")
    if missing:
        logger.warning("%s: %d of its files are not in %s, such as %r", csv, len(missing), data, missing[0])

    def column(name: str) -> list[str]:
        of_name = {title: [_cell(cells[file], number) for file in names] for number, title in enumerate(header)}
        return _cells(name, of_name, csv)

    features = np.array(found)
    pedal = NAMES.index("pedal_presses")
    if not features[:, pedal].any():
        features = features[:, : -len(PEDAL)]
    return ProbeItems(
        data,
        names,
        column,
        [""] * len(names),
        None,
        DESCRIPTORS,
        lambda numbers: features[list(numbers)],
        _note_vectors(lambda number: [notes[number]]),
        failed + len(missing),
    )


def _cell(row: list[str], number: int) -> str:
    return row[number] if number < len(row) else ""
