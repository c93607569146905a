"""``preprocess.labels phrases``: which phrase follows a melody, or accompanies it, from MIDI files alone.

The two tasks of MusicBERT (arXiv 2106.05630, section 4.2) that it took from PiRhDy's phrases:

``--task completion``
    Melody completion: of two phrases of four bars, does the second follow the first?
``--task accompaniment``
    Accompaniment suggestion: does an accompaniment of four bars belong to the melody of the same bars?

Phrases
    An item is a phrase: the notes that begin in four bars of 4/4, counted from the first bar of a stretch of 4/4 in
    steps of four.  Onsets and ends are rounded to sixteenths, a note has one at least and ends with its phrase; of
    notes that share onset and pitch the longest is kept.  As in the published data, everything else is constant: 4/4,
    tempo code 35 (120), velocity 80, program 80 for melodies and 0 for accompaniments; drums are left out.  A phrase
    has at least :data:`FEWEST` notes.  Ticks that are off the beats must be re-timed first (``--beats``,
    ``engine.beats``).

Melody
    The tracks that ``--melody`` names; the other tracks are the accompaniment.  In a file without such a track the
    melody is the skyline: a note belongs to it if no higher note of any track but drums sounds at its onset, the onset
    included.  ``--no-skyline`` leaves such files out instead.

Pairs
    ``{split}.pairs.csv`` lists pairs of items.  In ``train``, each true pair is followed by a false one, whose second
    phrase is from another song of the split (songs that are copies, or in one group, are one).  In ``valid`` and
    ``test``, a query is a group of the true pair and 49 false ones, for ``evaluate ranking``; chance gives a mean
    average precision of 0.09.  Of the false ones half are in the song's own key, where ``--key`` gives it and there are
    any.  ``config.json`` says, under ``phrases``, at which bar the second phrase begins where a pair is one sequence:
    4 for completion and 0 for accompaniment.

``--pirhdy`` reads the phrases that PiRhDy published instead, see ``label_kinds.pirhdy``.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.channel_programs import USE
from musicbert_plugin.codecs.reading_options import ReadingOptions
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.data.labelled_octuples import PAIR_COLUMNS, pairs_path
from musicbert_plugin.errors import OptionError, ScoreError
from preprocess.engine.annotations import KEYS, MISSING, AnnotationFiles, harmony_class, parse_spans
from preprocess.engine.beats import parse_beats, retimed
from preprocess.engine.cli import option, say
from preprocess.engine.dataset_spec import Piece
from preprocess.engine.label_tables import LabelTable
from preprocess.engine.labelled_notes import (
    LabelBuildOptions,
    LabelOptions,
    NoteLabelsWriter,
    NoteTable,
    check_label_options,
)
from preprocess.engine.pipeline import build
from preprocess.engine.split_plan import SplitPlan
from preprocess.engine.splits import SPLITS
from preprocess.label_kinds.pirhdy import pirhdy
from preprocess.label_kinds.tokens import AnnotationOptions
from preprocess.octuple import OctupleSpec

Ints = NDArray[np.int64]

COMPLETION, ACCOMPANIMENT = "completion", "accompaniment"
PARTS = ("melody", "accompaniment")
MELODY, OTHER = range(2)
PROGRAMS = np.array([80, 0])  # of the parts, as published
VELOCITY = 80
BARS = 4  # of a phrase
BAR = 64  # positions
GRID = 4  # positions of a sixteenth
FEWEST = 4  # notes of a phrase
CANDIDATES = 50  # of a query
NO_PHRASES, NO_MELODY, NO_KEY = "no phrases", "no melody", "no key"
_LONGEST = BARS * BAR // GRID  # sixteenths; longer notes end a skyline no later


@dataclass
class PhraseOptions:
    """What only ``phrases`` takes."""

    task: str = option(
        "", "which second phrase belongs to the first", required=True, choices=(COMPLETION, ACCOMPANIMENT)
    )
    melody: str = option("melody", "names of the tracks that are the melody", metavar="A,B,...")
    no_skyline: bool = option(False, "leave out files without such a track, instead of taking the highest notes")
    key: str = option(
        "", "files of keys, as in annotations/{}/key_audio.txt; used where they have one", metavar="TEMPLATE"
    )
    one_key: bool = option(False, "transpose to C major or A minor; files whose --key is not known are left out")
    pirhdy: bool = option(False, "SRC is a folder of PiRhDy's files of phrases instead of MIDI files")
    ids: str = option("", "with --pirhdy: table of its pitch ids, JSON or a pickle of plain values", metavar="FILE")
    queries: int = option(400, "largest number of queries of valid, and of test (0: all)", metavar="N")


class Phrases:
    """The phrases of a song.

    Attributes
    ----------
    items : list of int64 [n, 8]
        Octuples, with bars 0 to 3.
    part, number : int64 [I]
        :data:`MELODY` or :data:`OTHER`; and the number of the four bars, where consecutive bars have consecutive
        numbers.
    """

    def __init__(self, items: list[NDArray[np.int64]], part: Ints, number: Ints) -> None:
        self.items, self.part, self.number = items, part, number


def skyline(onset: Ints, end: Ints, pitch: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether no higher note sounds at the onset of each note, bool [N].

    Parameters
    ----------
    onset, end : int64 [N]
        Sixteenths; ``end > onset``.
    pitch : int [N]
    """
    length = np.minimum(end - onset, _LONGEST)
    if not len(onset):
        return np.empty(0, bool)
    step = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    top = np.full(int((onset + length).max()), -1)
    np.maximum.at(top, np.repeat(onset, length) + step, np.repeat(pitch, length))
    return pitch == top[onset]


def phrases_of(score: Score, melody: NDArray[np.bool_], parts: tuple[int, ...], transpose: int = 0) -> Phrases:
    """Cut the phrases of a score; see the module.

    Parameters
    ----------
    score : Score
    melody : bool [N]
        Whether each note belongs to the melody; drums are ignored.
    parts : tuple of int
        The parts to cut: four bars count where all of them have enough notes.
    transpose : int
        Semitones that are added to pitches, which move by octaves where they would leave 0 to 127.
    """
    (meter_position, meter), _ = octuple.code_changes(score)
    starts, _, lengths = octuple.bar_runs(meter_position, octuple.BAR_LENGTHS[meter])
    begin, end = (
        octuple.positions(ticks, score.resolution, octuple.POSITIONS_PER_QUARTER // GRID) * GRID
        for ticks in (score.onset, score.end)
    )
    run = np.searchsorted(starts, begin, side="right") - 1
    # A run ends where the next begins; the last one with the bar of the last onset.
    last = (int(begin.max()) - int(starts[-1])) // int(lengths[-1]) + 1
    ends = np.append(starts[1:], int(starts[-1]) + max(last, 0) * int(lengths[-1]))
    size = BARS * BAR
    count = np.maximum(ends - starts, 0) // size
    first_number = np.cumsum(np.append(0, count[:-1] + 1))  # a gap, so that runs do not follow each other
    number = (begin - starts[run]) // size
    kept = (lengths[run] == BAR) & (number < count[run]) & (score.program != DRUMS)
    kept &= begin < octuple.REACH

    pitch = score.pitch.astype(np.int64) + transpose
    pitch += 12 * (pitch < 0) - 12 * (pitch > 127)
    since = begin - starts[run] - number * size
    length = np.clip(end - begin, GRID, size - since)
    part = np.where(melody, MELODY, OTHER)
    columns = np.stack([first_number[run] + number, part, since, pitch, length])[:, kept]
    columns = columns[:, np.lexsort((-columns[4], *columns[3::-1]))]
    same = (columns[:4, 1:] == columns[:4, :-1]).all(axis=0)
    columns = columns[:, np.append(True, ~same)[: columns.shape[1]]]
    phrase, part, since, pitch, length = columns
    rows = np.empty((len(phrase), len(octuple.FIELDS)), np.int64)
    rows[:, octuple.BAR], rows[:, octuple.POSITION] = since // BAR, since % BAR
    rows[:, octuple.PROGRAM], rows[:, octuple.PITCH] = PROGRAMS[part], pitch
    rows[:, octuple.DURATION] = octuple.duration_code(length)
    rows[:, octuple.VELOCITY] = VELOCITY >> 2
    rows[:, octuple.TIME_SIGNATURE] = octuple.DEFAULT_METER_CODE
    rows[:, octuple.TEMPO] = octuple.DEFAULT_TEMPO_CODE

    key, begins, notes = np.unique(phrase * len(PARTS) + part, return_index=True, return_counts=True)
    wanted = np.isin(key % len(PARTS), parts) & (notes >= FEWEST)
    complete = np.bincount(key[wanted] // len(PARTS), minlength=1) == len(parts)
    chosen = np.flatnonzero(wanted & complete[np.where(wanted, key // len(PARTS), 0)])
    items = [rows[start : start + size_] for start, size_ in zip(begins[chosen], notes[chosen], strict=True)]
    return Phrases(items, key[chosen] % len(PARTS), key[chosen] // len(PARTS))


@dataclass(frozen=True)
class PhrasesSpec(OctupleSpec):
    """How a MIDI file becomes phrases."""

    task: str = COMPLETION
    melody: tuple[str, ...] = ("melody",)
    no_skyline: bool = False
    one_key: bool = False
    key: AnnotationFiles | None = None
    beats: AnnotationFiles | None = field(default=None)

    def read_piece(self, data: bytes, name: str) -> Piece:
        """The phrases in a MIDI file, or a :class:`ScoreError`."""
        score = self.read(data, name)
        fingerprint = self.fingerprint(score)
        if self.beats:
            beats_name, text = self.beats.read(name)
            score = retimed(score, parse_beats(text, beats_name), name)
        melody, by_rule = self._melody_of(score, name)
        key = self._key_of(name)
        transpose = 0
        if self.one_key:
            if key < 0:
                raise ScoreError(NO_KEY, f"{name}: its key is not known, so it cannot be transposed (--one-key).")
            minor, tonic = divmod(key, 12)
            transpose = (9 * minor - tonic + 6) % 12 - 6
            key = 12 * minor + 9 * minor
        parts = (MELODY,) if self.task == COMPLETION else (MELODY, OTHER)
        found = phrases_of(score, melody, parts, transpose)
        if not found.items:
            raise ScoreError(
                NO_PHRASES, f"{name}: no {BARS} bars of 4/4 with {FEWEST} notes or more in each part that is needed."
            )
        items = [octuple.frame(rows) for rows in found.items]
        content = hashlib.sha256()
        for item in items:
            content.update(item.data)
        notes = list(map(len, found.items))
        sidecars = {"notes": notes, "part": found.part, "number": found.number, "key": key, "by_rule": by_rule}
        return Piece(
            sum(notes),
            items,
            content.digest()[:16],
            fingerprint,
            sidecars,
            repairs=score.repairs,
            other_program=score.other_program,
        )

    def _melody_of(self, score: Score, name: str) -> tuple[NDArray[np.bool_], bool]:
        """Whether each note belongs to the melody, and whether that is by the rule."""
        named = np.array([track.strip().lower() in self.melody for track in score.track_names], bool)
        pitched = score.program != DRUMS
        if named.any() and (found := named[score.track] & pitched).any():
            return found, False
        if self.no_skyline:
            raise ScoreError(NO_MELODY, f"{name}: no track is called {' or '.join(self.melody)} (--melody).")
        onset, end = (octuple.positions(ticks, score.resolution, 4) for ticks in (score.onset, score.end))
        inside = pitched & (onset < octuple.REACH // GRID)
        melody = np.zeros(len(score), bool)
        melody[inside] = skyline(onset[inside], np.maximum(end, onset + 1)[inside], score.pitch[inside])
        return melody, True

    def _key_of(self, name: str) -> int:
        """The key of a file in :data:`KEYS`; -1 if it is not known, or changes."""
        if self.key is None:
            return -1
        try:
            annotation, text = self.key.read(name)
        except ScoreError as error:
            if error.reason != MISSING:
                raise
            return -1
        keys = {harmony_class(label) for label in parse_spans(text, annotation).labels}
        found = keys.pop() if len(keys) == 1 else None
        return -1 if found is None or found >= len(KEYS) else found

    def left_out(self, reason: str) -> bool:
        """Whether a filter gave this reason."""
        return reason in (NO_PHRASES, NO_MELODY, NO_KEY) or super().left_out(reason)

    def settings(self) -> dict[str, Any]:
        """What decides the content of the items, apart from the seed."""
        listed = {
            name: {"template": found.template, "pattern": found.pattern, "sha256": found.digest()}
            for name, found in {"key": self.key, "beats": self.beats}.items()
            if found
        }
        second = BARS if self.task == COMPLETION else 0
        rules = {"melody": list(self.melody), "no_skyline": self.no_skyline, "one_key": self.one_key}
        chosen = {"task": self.task, "bars": BARS, "second_bar": second, **rules}
        return {**super().settings(), "phrases": chosen, **listed}


# --------------------------------------------------------------------------------------------------------------- pairs


@dataclass
class SplitPhrases:
    """The I phrases of a split; int64 [I] each.

    Attributes
    ----------
    part, number : int64 [I]
        See :class:`Phrases`.
    song, unit, key : int64 [I]
        Numbers of the song and of its unit; and its key, -1 if unknown.
    """

    part: Ints
    number: Ints
    song: Ints
    unit: Ints
    key: Ints

    def true_pairs(self, task: str) -> Ints:
        """Items of true pairs, int64 [T, 2], in the order of the first."""
        melody = np.flatnonzero(self.part == MELODY)
        place = {(song, number): item for song, number, item in self._keys(melody if task == COMPLETION else None)}
        step = 1 if task == COMPLETION else 0
        pairs = [
            (item, place[song, number + step])
            for song, number, item in self._keys(melody)
            if (song, number + step) in place
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def _keys(self, items: Ints | None) -> Iterator[tuple[int, int, int]]:
        chosen = np.flatnonzero(self.part == OTHER) if items is None else items
        return zip(self.song[chosen].tolist(), self.number[chosen].tolist(), chosen.tolist(), strict=True)


class Draw:
    """Draws false second phrases.

    Parameters
    ----------
    phrases : SplitPhrases
    pool : int64 [C]
        The items that may be drawn.
    random : Generator
    """

    def __init__(self, phrases: SplitPhrases, pool: Ints, random: np.random.Generator) -> None:
        self._unit, self._random = phrases.unit, random
        self._pool = pool
        self._by_key = {key: pool[phrases.key[pool] == key] for key in np.unique(phrases.key).tolist() if key >= 0}
        self._key = phrases.key

    def others(self, item: int, count: int) -> list[int]:
        """Up to ``count`` different items of other units than that of ``item``, half of them in its key if possible."""
        same = self._by_key.get(int(self._key[item]), self._pool[:0])
        half = count // 2 + (int(self._random.integers(2)) if count % 2 else 0)
        chosen = self._some(same, item, half, set())
        return chosen + self._some(self._pool, item, count - len(chosen), set(chosen))

    def _some(self, pool: Ints, item: int, count: int, taken: set[int]) -> list[int]:
        found: list[int] = []
        if not len(pool) or not count:
            return found
        unit = self._unit[item]
        for _ in range(4):  # by far most draws are other units and new items
            for drawn in pool[self._random.integers(len(pool), size=2 * count)].tolist():
                if len(found) < count and drawn not in taken and self._unit[drawn] != unit:
                    found.append(drawn)
                    taken.add(drawn)
            if len(found) == count:
                return found
        rest = [other for other in pool[self._unit[pool] != unit].tolist() if other not in taken]
        return found + self._random.permutation(rest).astype(np.int64).tolist()[: count - len(found)]


def training_pairs(phrases: SplitPhrases, task: str, random: np.random.Generator) -> list[tuple[int, int, int, str]]:
    """A row of ``pairs.csv`` for each true pair, and after it one for a false pair."""
    draw = Draw(phrases, _pool(phrases, task), random)
    rows: list[tuple[int, int, int, str]] = []
    for first, second in phrases.true_pairs(task).tolist():
        rows.append((first, second, 1, ""))
        rows += [(first, other, 0, "") for other in draw.others(first, 1)]
    return rows


def query_pairs(
    phrases: SplitPhrases, task: str, random: np.random.Generator, most: int
) -> list[tuple[int, int, int, str]]:
    """Rows of ``pairs.csv`` of at most ``most`` queries (0: of all), drawn evenly, the true pair first."""
    draw = Draw(phrases, _pool(phrases, task), random)
    pairs = phrases.true_pairs(task)
    if most and len(pairs) > most:
        pairs = pairs[np.sort(random.permutation(len(pairs))[:most])]
    rows: list[tuple[int, int, int, str]] = []
    for query, (first, second) in enumerate(pairs.tolist()):
        rows.append((first, second, 1, str(query)))
        rows += [(first, other, 0, str(query)) for other in draw.others(first, CANDIDATES - 1)]
    return rows


def _pool(phrases: SplitPhrases, task: str) -> Ints:
    return np.flatnonzero(phrases.part == (MELODY if task == COMPLETION else OTHER))


class PhrasesWriter(NoteLabelsWriter):
    """Writes ``{split}.pairs.csv`` beside the table of items, whose labels are the part and the key."""

    def __init__(self, spec: PhrasesSpec, queries: int, seed: int) -> None:
        super().__init__(NoteTable(LabelTable(["part", "key"])), 0, "", seed)
        self._task, self._queries = spec.task, queries
        self.files = (*self.files, *(pairs_path("", split).name for split in SPLITS))
        self._columns: dict[str, list[tuple[Ints, Ints, int, int, int]]] = {split: [] for split in SPLITS}
        self._units: dict[int, int] = {}
        self._by_rule = 0

    def description(self) -> dict[str, Any]:
        """What decides the bytes of the files."""
        return {**super().description(), "queries": self._queries}

    def decided(self, plan: SplitPlan) -> None:
        """Refuse splits of one song, in which there are no false pairs."""
        super().decided(plan)
        for number, split in enumerate(SPLITS):
            if (plan.split == number).any() and len(np.unique(plan.unit[plan.split == number])) < 2:
                raise OptionError(
                    f"{split} would have phrases of one song only (counting once what stays together), but false pairs "
                    "need another one; give more music or another --split-ratios."
                )

    def begin(self, out: Path) -> None:
        """Open the tables."""
        super().begin(out)
        self._out = out

    def rows(self, index: int, split: str, sidecars: dict[str, Any]) -> Iterator[list[object]]:
        """All columns of each item."""
        key = "" if sidecars["key"] < 0 else KEYS[sidecars["key"]]
        for row, part in zip(super().rows(index, split, sidecars), sidecars["part"].tolist(), strict=True):
            yield [*row, PARTS[part], key]

    def add(self, index: int, split: str, sidecars: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a file's items, and keep what pairs are made of."""
        self._labels[self._collection.names[index]] = []  # rows() gives the labels too
        unit = self._units.setdefault(int(self._plan.unit[index]), len(self._units))
        self._columns[split].append((sidecars["part"], sidecars["number"], index, unit, sidecars["key"]))
        self._by_rule += sidecars["by_rule"]
        return super().add(index, split, sidecars)

    def finish(self) -> dict[str, Any]:
        """Write the pairs, and say how many there are."""
        if self._by_rule:
            say(f"{self._by_rule:,} files have no track of that name; their melody is the skyline.")
        for number, split in enumerate(SPLITS):
            random = np.random.default_rng([self._seed, number])
            phrases = _joined(self._columns[split])
            if split == SPLITS[0]:
                rows = training_pairs(phrases, self._task, random)
                said = f"{len(rows):,} pairs, {sum(row[2] for row in rows):,} of them true"
            else:
                rows = query_pairs(phrases, self._task, random, self._queries)
                sizes = Counter(row[3] for row in rows).values()
                said = f"{len(sizes):,} queries of {min(sizes, default=0)} to {max(sizes, default=0)} candidates"
            say(f"{split}: {said}.")
            with open(pairs_path(self._out, split), "w", encoding="utf-8", newline="") as table:
                csv.writer(table, lineterminator="\n").writerows([PAIR_COLUMNS, *rows])
        return super().finish()


def _joined(columns: list[tuple[Ints, Ints, int, int, int]]) -> SplitPhrases:
    """The phrases of the songs of a split."""
    counts = [len(part) for part, *_ in columns]
    empty = np.empty(0, np.int64)
    part, number = (np.concatenate([empty, *(song[column] for song in columns)]) for column in (0, 1))
    song, unit, key = (
        np.repeat(np.array([found[column] for found in columns], np.int64), counts) for column in (2, 3, 4)
    )
    return SplitPhrases(part, number, song, unit, key)


def phrases(
    source: list[str],
    general: LabelBuildOptions,
    own: PhraseOptions,
    files: AnnotationOptions,
    reading: ReadingOptions,
) -> int:
    """Build the dataset; returns the status."""
    check_label_options(LabelOptions(), general)
    if own.pirhdy:
        if len(source) != 1 or not Path(source[0]).is_dir() or not own.ids:
            raise OptionError(f"--pirhdy {' '.join(source)}: one folder, and --ids FILE, are needed.")
        if own.key or own.one_key or files.beats or general.splits or general.groups:
            raise OptionError("--pirhdy: --key, --one-key, --beats, --splits and --groups are about MIDI files.")
        return pirhdy(Path(source[0]), general.dest, own.ids, own.task)
    if own.ids:
        raise OptionError(f"--ids {own.ids}: it is the table of --pirhdy, which is not given.")
    names = tuple(name.strip().lower() for name in own.melody.split(",") if name.strip())
    if not names:
        raise OptionError(f"--melody {own.melody!r}: the name of a track, or several joined by commas, is needed.")
    if own.queries < 0:
        raise OptionError(f"--queries {own.queries}: 0 (all) or more is needed.")
    if own.one_key and not own.key:
        raise OptionError("--one-key: the keys of the files must be known, by --key TEMPLATE.")
    if own.no_skyline and reading.channel_programs == USE:
        raise OptionError(f"--no-skyline --channel-programs {USE}: takes tracks apart, so their names are lost.")
    spec = PhrasesSpec(
        **asdict(reading),
        seed=general.seed,
        task=own.task,
        melody=names,
        no_skyline=own.no_skyline,
        one_key=own.one_key,
        key=files.files("--key", own.key, source),
        beats=files.files("--beats", files.beats, source),
    )
    return build(source, spec, general, PhrasesWriter(spec, own.queries, general.seed))
