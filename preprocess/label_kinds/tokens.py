"""``preprocess.labels tokens``: MIDI files and a label for each note, into a dataset of labelled notes.

``--label`` names what a note is labelled with:

``track``
    The name of its track, whatever the case of its letters; ``--classes`` lists the names that are classes (default:
    melody, bridge, piano).  Octuples do not tell tracks apart.  So where notes of several classes share onset position
    and pitch, all of them have the class that is listed first; the summary and ``config.json`` count the notes whose
    class that changes.
``chord``, ``key``
    The triad or key (24 of them, and N for no chord) that ``--annotations`` gives at its onset; see
    ``engine.annotations``.  Diminished, augmented and suspended chords are no class.
``velocity``, ``duration``, ``pitch``, ``program``, ``time_signature``, ``tempo``
    The code of that field of the note itself, which is then hidden from the input.
any other name
    What ``--annotations`` gives at its onset; ``--classes`` lists the classes.

Notes that have none of the classes are unlabelled.  A file in which no note has one is left out (``no label``), and so
are files without annotation, and files whose beats (``--beats``, see ``engine.beats``) are those of other music.  With
``--whole-piece`` an annotation counts only if it has one label, which then holds for the whole piece: POP909's keys are
timed in recordings that do not come with it.

``config.json`` has the classes under ``note_labels``, and under ``hide`` the fields that a task must mask, so that the
label cannot be read off the input: the labelled field, and those that ``--hide`` names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.channel_programs import USE
from musicbert_plugin.codecs.octuple import BAR, FIELD_OFFSETS, FIELD_SIZES, FIELDS, PITCH, POSITION, encoding_order
from musicbert_plugin.codecs.reading_options import ReadingOptions
from musicbert_plugin.codecs.score import Score, seconds_of
from musicbert_plugin.data.indexed_dataset import IndexedDatasetWriter
from musicbert_plugin.data.labelled_octuples import NOTE_LABELS, NOTE_TYPE, note_labels_prefix
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.parsing import shortened
from preprocess.engine.annotations import CHORDS, KEYS, AnnotationFiles, harmony_class, parse_spans
from preprocess.engine.beats import parse_beats, retimed
from preprocess.engine.cli import option, say
from preprocess.engine.dataset_spec import Item, Piece
from preprocess.engine.label_tables import LabelTable
from preprocess.engine.labelled_notes import (
    IN_TRAIN,
    LabelBuildOptions,
    LabelOptions,
    NoteLabelsWriter,
    NoteTable,
    check_label_options,
)
from preprocess.engine.pipeline import build
from preprocess.engine.splits import SPLITS
from preprocess.octuple import OctupleSpec

TRACK, CHORD, KEY = "track", "chord", "key"
ROLES = "melody,bridge,piano"
FIELD_LABELS = FIELDS[2:]  # position and bar say where a note is
NO_LABEL, SEVERAL = "no label", "several labels"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_OFFSETS = np.array(FIELD_OFFSETS)


@dataclass
class AnnotationOptions:
    """Where annotations of the files are; shared by the commands that read some."""

    beats: str = option(
        "", "re-time notes onto the beats in these files, as in annotations/{}/beat_midi.txt", metavar="TEMPLATE"
    )
    piece_pattern: str = option(
        "", "regular expression whose group fills the {} of templates (default: the file's name)", metavar="REGEX"
    )
    annotations_in: str = option("", "folder or .zip of these files (default: SRC)", metavar="PATH")

    def files(self, name: str, template: str, source: Sequence[str]) -> AnnotationFiles | None:
        """The annotations of an option; None if it is not given."""
        if not template:
            return None
        container = self.annotations_in or source[0]
        return AnnotationFiles.of(name, template, self.piece_pattern, container)


@dataclass
class TokenOptions:
    """What only ``tokens`` takes."""

    label: str = option(
        "", f"track, chord, key, {', '.join(FIELD_LABELS)}, or another name", required=True, metavar="LABEL"
    )
    classes: str = option("", f"names of the classes, joined by commas (track: {ROLES})", metavar="A,B,...")
    annotations: str = option("", "files of labels with times, as in annotations/{}/chord_midi.txt", metavar="TEMPLATE")
    whole_piece: bool = option(False, "annotations of one label hold for the whole piece; others are not used")
    hide: list[str] | None = option(
        None, "fields that the model must not see (default: the labelled field)", nargs="+", choices=FIELDS, type=str
    )
    folds: int = option(0, "make K folds instead of train, valid and test (0: none)", metavar="K")


@dataclass(frozen=True)
class TokensSpec(OctupleSpec):
    """How a MIDI file becomes items of octuples and a label for each note."""

    label: str = TRACK
    classes: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    whole_piece: bool = False
    annotations: AnnotationFiles | None = None
    beats: AnnotationFiles | None = None

    def read_piece(self, data: bytes, name: str) -> Piece:
        """The piece in a MIDI file, or a :class:`ScoreError`."""
        score = self.read(data, name)
        seconds = seconds_of(score, score.onset)
        if self.beats:
            beats_name, text = self.beats.read(name)
            score = retimed(score, parse_beats(text, beats_name), name)
        piece = self.piece_of(score, name)
        rows = [octuples_of(item) for item in piece.items]
        notes = list(map(len, rows))
        order = encoding_order(score)[: sum(notes)]
        changed = 0
        if self.label in FIELDS:
            labels = np.concatenate(rows)[:, FIELDS.index(self.label)] + 1
        elif self.label == TRACK:
            labels = self._by_track(score, name)[order]
            labels, changed = first_of_shared(labels, rows)
        else:
            labels = self._by_time(seconds, name)[order]
        sidecars = {"notes": notes, "note_labels": labels.astype(NOTE_TYPE), "changed": changed}
        return replace(piece, sidecars=sidecars)

    def _by_track(self, score: Score, name: str) -> NDArray[np.int64]:
        """The label of each note by its track: 0, or 1 and its class."""
        number = {known.lower(): index for index, known in enumerate(self.classes, 1)}
        classes = np.array([number.get(track.strip().lower(), 0) for track in score.track_names], np.int64)
        labels = classes[score.track]
        if not labels.any():
            raise ScoreError(
                NO_LABEL,
                f"{name}: no note has a label: its tracks are called {shortened(', '.join(score.track_names))}, but "
                f"{', '.join(self.classes)} are accepted.",
            )
        return labels

    def _by_time(self, seconds: NDArray[np.float64], name: str) -> NDArray[np.int64]:
        """The label of each note by its onset in seconds: 0, or 1 and its class."""
        assert self.annotations is not None
        annotation, text = self.annotations.read(name)
        spans = parse_spans(text, annotation)
        number = {known: index for index, known in enumerate(self.classes)}
        harmony = self.label in (CHORD, KEY)
        found = [harmony_class(label) if harmony else number.get(label) for label in spans.labels]
        classes = np.array([*(0 if index is None else index + 1 for index in found), 0], np.int64)
        if self.whole_piece and len(set(spans.labels)) > 1:
            raise ScoreError(SEVERAL, f"{name}: {annotation} has {len(spans.labels)} labels; --whole-piece needs one.")
        labels = np.full(len(seconds), classes[0]) if self.whole_piece else classes[spans.at(seconds)]
        if not labels.any():
            held = ", ".join(dict.fromkeys(spans.labels)) or "nothing"
            raise ScoreError(
                NO_LABEL,
                f"{name}: no note has a label: {annotation} has {shortened(held)}, and {self.classes[0]} to "
                f"{self.classes[-1]} are accepted.",
            )
        return labels

    def left_out(self, reason: str) -> bool:
        """Whether a filter gave this reason."""
        return reason == SEVERAL or super().left_out(reason)

    def settings(self) -> dict[str, Any]:
        """What decides the content of the items, apart from the seed."""
        files = {"annotations": self.annotations, "beats": self.beats}
        listed = {
            name: {"template": found.template, "pattern": found.pattern, "sha256": found.digest()}
            for name, found in files.items()
            if found
        }
        chosen = {"label": self.label, "whole_piece": self.whole_piece, "hide": list(self.hide), **listed}
        if self.label not in FIELDS:
            chosen["classes"] = list(self.classes)
        return {**super().settings(), **chosen}


def octuples_of(item: Item) -> NDArray[np.int64]:
    """The octuples of a framed item, int64 [N, 8]."""
    return item[len(FIELDS) : -len(FIELDS)].reshape(-1, len(FIELDS)).astype(np.int64) - _OFFSETS


def first_of_shared(labels: NDArray[np.int64], rows: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], int]:
    """Give labelled notes that share onset position and pitch the lowest of their labels.

    Parameters
    ----------
    labels : int64 [N]
        0 for unlabelled notes, which stay so.
    rows : list of int64 [n, 8]
        The octuples of the items, N rows in all.

    Returns
    -------
    int64 [N], int
        The labels, and the number of those that have changed.
    """
    part = np.repeat(np.arange(len(rows)), [len(octuples) for octuples in rows])
    fields = np.concatenate(rows)
    place = (part * FIELD_SIZES[BAR] + fields[:, BAR]) * FIELD_SIZES[POSITION] + fields[:, POSITION]
    key = place * FIELD_SIZES[PITCH] + fields[:, PITCH]
    known = np.flatnonzero(labels)
    _, group = np.unique(key[known], return_inverse=True)
    lowest = np.full(group.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, group, labels[known])
    merged = labels.copy()
    merged[known] = lowest[group]
    return merged, int(np.count_nonzero(merged != labels))


class TokensWriter(NoteLabelsWriter):
    """Writes ``{split}.notes.NAME`` beside the table of items."""

    def __init__(self, spec: TokensSpec, folds: int, seed: int) -> None:
        super().__init__(NoteTable(LabelTable()), folds, "", seed)
        self._name, self._classes, self._hide = spec.label, spec.classes, spec.hide
        stems = [note_labels_prefix("", split, self._name).name for split in SPLITS]
        self.files = (*self.files, *(f"{stem}{suffix}" for stem in stems for suffix in IndexedDatasetWriter.suffixes))
        self._containers: dict[str, IndexedDatasetWriter] = {}
        self._counts = np.zeros(len(self._classes) + 1, np.int64)
        self._changed = 0

    def begin(self, out: Path) -> None:
        """Open the files."""
        super().begin(out)
        self._containers = {
            split: IndexedDatasetWriter(note_labels_prefix(out, split, self._name), NOTE_TYPE) for split in SPLITS
        }

    def add(self, index: int, split: str, sidecars: dict[str, Any]) -> dict[str, Any]:
        """Write the labels of a file's notes."""
        labels, ends = sidecars["note_labels"], np.cumsum(sidecars["notes"])
        for part in np.split(labels, ends[:-1]):
            self._containers[split].add(part)
        self._counts += np.bincount(labels, minlength=len(self._counts))
        self._changed += sidecars["changed"]
        return super().add(index, split, sidecars)

    def finish(self) -> dict[str, Any]:
        """Complete the files, and say how many notes each class has."""
        for container in self._containers.values():
            container.close()
        total = max(int(self._counts.sum()), 1)
        order = np.argsort(-self._counts[1:], kind="stable")[:12].tolist()
        shares = [f"{self._classes[number]} {100 * self._counts[number + 1] / total:.3g} %" for number in order]
        say(f"{self._name}: {', '.join(shares)}; unlabelled {100 * self._counts[0] / total:.3g} % of {total:,} notes.")
        if self._changed:
            say(
                f"{self._changed:,} notes share onset and pitch with a note of a class that is listed before theirs, "
                "and have its label."
            )
        changed = {"notes_relabelled": self._changed} if self._name == TRACK else {}
        return {
            **super().finish(),
            NOTE_LABELS: {self._name: list(self._classes)},
            "hide": list(self._hide),
            **changed,
        }


def classes_of(own: TokenOptions) -> tuple[str, ...]:
    """The names of the classes of a label.

    Raises
    ------
    OptionError
        The options contradict each other.
    """
    given = [name.strip() for name in own.classes.split(",") if name.strip()]
    if len({name.lower() for name in given}) < len(given):
        raise OptionError(f"--classes {own.classes}: a name stands there twice.")
    timed = own.label not in (TRACK, *FIELDS)
    if timed and not own.annotations:
        known = ", ".join((TRACK, CHORD, KEY, *FIELD_LABELS))
        raise OptionError(f"--label {own.label}: needs --annotations TEMPLATE; without it, {known} are accepted.")
    if not timed and own.annotations:
        raise OptionError(f"--annotations {own.annotations}: --label {own.label} needs none.")
    if own.whole_piece and not timed:
        raise OptionError(f"--whole-piece: it is about --annotations, and --label {own.label} has none.")
    fixed = {CHORD: CHORDS, KEY: KEYS} | {
        field: tuple(map(str, range(size))) for field, size in zip(FIELDS, FIELD_SIZES, strict=True)
    }
    if own.label in fixed:
        if given:
            raise OptionError(f"--classes {own.classes}: --label {own.label} has its own classes.")
        if own.label not in (CHORD, KEY, *FIELD_LABELS):
            raise OptionError(f"--label {own.label}: of the fields, {', '.join(FIELD_LABELS)} are accepted.")
        return fixed[own.label]
    if own.label == TRACK:
        return tuple(given) or tuple(ROLES.split(","))
    if not given:
        raise OptionError(f"--label {own.label}: needs --classes, the names that --annotations gives.")
    return tuple(given)


def tokens(
    source: list[str],
    general: LabelBuildOptions,
    own: TokenOptions,
    files: AnnotationOptions,
    reading: ReadingOptions,
) -> int:
    """Build the dataset; returns the status."""
    check_label_options(LabelOptions(folds=own.folds), general)
    if not _NAME.fullmatch(own.label):
        raise OptionError(f"--label {own.label}: letters, digits, _ and - are accepted, since files are called so.")
    classes = classes_of(own)
    if own.label == TRACK and reading.channel_programs == USE:
        raise OptionError(f"--label {TRACK} --channel-programs {USE}: takes tracks apart, so their names are lost.")
    hide = own.hide if own.hide is not None else [own.label] if own.label in FIELDS else []
    if own.label in FIELDS and own.label not in hide:
        raise OptionError(f"--hide {' '.join(hide)}: {own.label} is the label, so it must be hidden too.")
    spec = TokensSpec(
        **asdict(reading),
        seed=general.seed,
        label=own.label,
        classes=classes,
        hide=tuple(field for field in FIELDS if field in hide),
        whole_piece=own.whole_piece,
        annotations=files.files("--annotations", own.annotations, source),
        beats=files.files("--beats", files.beats, source),
    )
    if own.folds:
        general = replace(general, split_ratios=IN_TRAIN)
    return build(source, spec, general, TokensWriter(spec, own.folds, general.seed))
