"""Labels of expressive performances: PercePiano's means, raters' answers, and the units that may not be divided.

Segments are named ``<work>_<N>bars_<performer>_<segment>``, as in ``Schubert_D960_mv2_8bars_3_06``; a *passage* is the
same without the performer.  Labels are found by the name of the MIDI file without folder and suffix.

Sources of labels
-----------------
JSON (``mean.json``)
    From segment to its K numbers in (0, 1], and perhaps the number of its performer, which is not used: the name tells
    the performer.  ``--deviations`` takes the raters' standard deviations in the same form.
CSV
    A row per rater and segment: a column ``filename`` and columns that begin with ``Question``; all other columns
    (raters, users, messages) are left unread.  PercePiano's 19 questions and the 28 of the older ``total.csv`` have the
    names :data:`PERCEPIANO` and :data:`TOTAL`; others are called as their columns.  Answers are 1 to 7; 0 and an empty
    cell are "don't know", and other values are counted and treated alike (PercePiano's raters gave 345 eights).

Answers become numbers in (0, 1] by division by 7, for each segment and question by

``mean``, ``median``
    of those who answered;
``kde``
    the peak of a Gaussian kernel density estimate (Scott's bandwidth) at 50 points from the lowest to the highest
    answer, as in Music XAI; of several points within 1e-9 of the highest density, relative to it, the mean.  Without
    this tolerance 12 % of the cells depend on rounding;
``all``
    none of these: each rater's answers are an item of their own with the notes of the segment.

A question that nobody could answer is an empty number.  The weight of a label is ``1 / (1 + (d / m)^2)`` with d its
raters' standard deviation and m the root mean square of d over all segments; 1/2 where fewer than two answered.

Units
-----
``performer``
    The two deadpan renderings, Score and Score2, are one performer.
``piece``
    The work.
``music``
    Passages are joined if over 60 % of the distinct pitch trigrams of the shorter one (the one with fewer), notes by
    onset and then pitch, are in the other: in their deadpan renditions (Score), or in the median over the performers
    that have played both.  So a section that repeats, and the 8-bar halves of a 16-bar passage, are one unit.
``random``
    Nothing but copies.

Fixed splits
------------
``--segment-splits JSON NAME`` takes a published split instead: the dataset has two folds, 0 with its held-out part and
1 with ``train``.  It is told how many held-out segments are, in whole or in part, a performance that is in ``train``:
those that share over half of the (pitch, velocity) trigrams of the shorter one with a segment by the same performer.
Of PercePiano's ``passage_heldout`` 47 of 156 are.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.score import Score
from musicbert_plugin.errors import OptionError
from musicbert_plugin.parsing import read_json, shortened
from musicbert_plugin.tables import read_table
from preprocess.engine.near_duplicates import UnionFind

Floats = NDArray[np.float64]

PERCEPIANO = (
    "unstable timing",
    "long articulation",
    "hard articulation",
    "saturated pedal",
    "blurred pedal",
    "colourful timbre",
    "rich timbre",
    "dark timbre",
    "loud timbre",
    "raw dynamics",
    "large dynamic range",
    "slow pace",
    "spacious",
    "balanced",
    "dramatic",
    "dark mood",
    "high energy",
    "imaginative",
    "convincing",
)
"""PercePiano's labels, by their high ends."""
TOTAL = (
    "stable beat",
    "mechanical tempo",
    "intensional",
    "regular beat change",
    "long",
    "cushioned",
    "saturated",
    "clean",
    "subtle change",
    "even",
    "rich",
    "bright",
    "pure",
    "soft",
    "sophisticated",
    "balanced",
    "large range of dynamic",
    "fast paced",
    "flowing",
    "swing",
    "flat",
    "harmonious",
    "optimistic",
    "high energy",
    "dominant",
    "imaginative",
    "ethereal",
    "convincing",
)
"""The labels of the older table of Music XAI."""
_NAMES = {len(names): names for names in (PERCEPIANO, TOTAL)}
QUESTION, FILE_COLUMN = "question", "filename"
HIGHEST = 7  # answer
AGGREGATES = ("mean", "median", "kde", "all")
UNITS = ("music", "performer", "piece", "random")
DEADPAN = "Score"
_SAME_PERFORMER = {"Score2": DEADPAN}
_NAME = re.compile(r"(?P<work>.+)_(?P<bars>\d+bars)_(?P<performer>[^_]+)_(?P<segment>[^_]+)")
_POINTS, _TIE = 50, 1e-9  # of the density estimate
SHARED = 0.6  # share of trigrams above which passages are one unit
LEAK = 0.5  # share of trigrams above which two segments hold one performance
_BLOCK = 4096  # trigrams that are compared at a time


class Segment(NamedTuple):
    """What the name of a segment says."""

    work: str
    bars: str
    performer: str
    segment: str

    @property
    def passage(self) -> str:
        """The passage that the segment performs."""
        return f"{self.work}_{self.bars}_{self.segment}"

    @property
    def player(self) -> str:
        """The performer; the deadpan renderings are one."""
        return _SAME_PERFORMER.get(self.performer, self.performer)


def stem(name: str) -> str:
    """The name of a file without folders and suffix."""
    return re.sub(r"\.(wav|midi?)$", "", name.rpartition("/")[2], flags=re.IGNORECASE)


def parse_name(name: str) -> Segment | None:
    """What a segment's name (:func:`stem`) says; None if it has another form."""
    found = _NAME.fullmatch(name)
    return Segment(**found.groupdict()) if found else None


# ------------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class ExpressionLabels:
    """The labels of all segments.

    Attributes
    ----------
    names : tuple of str
        Names of the K labels.
    values : dict of str to float64 [R, K]
        From segment to its rows of labels in (0, 1]: one row, or one per rater; NaN for missing ones.
    weights : dict of str to float64 [R, K]
        Weights in (0, 1]; empty if no deviations are known.
    odd : int
        Number of answers that were none of 0 to 7.
    """

    names: tuple[str, ...]
    values: dict[str, Floats]
    weights: dict[str, Floats]
    odd: int = 0


def _names_for(count: int) -> tuple[str, ...]:
    return _NAMES.get(count) or tuple(f"label {number}" for number in range(1, count + 1))


def read_expression(path: str, aggregate: str = "mean", deviations: str = "") -> ExpressionLabels:
    """Read labels from JSON, or raters' answers from a CSV; see the module.

    Parameters
    ----------
    path : str
    aggregate : str
        One of :data:`AGGREGATES`, for answers.
    deviations : str
        JSON of deviations, for labels in JSON.

    Raises
    ------
    OptionError
        A file has another form, or the options do not fit it.
    """
    if Path(path).suffix.lower() == ".json":
        if aggregate != "mean":
            raise OptionError(
                f"--aggregate {aggregate}: {path} holds one number per label, so there is nothing to aggregate; a CSV "
                "of answers is needed."
            )
        values = _read_numbers(path)
        found = _read_numbers(deviations) if deviations else {}
        _check_same(path, values, deviations, found)
        count = len(next(iter(values.values()))[0])
        return ExpressionLabels(_names_for(count), values, weights_of(found) if found else {})
    if deviations:
        raise OptionError(f"--deviations {deviations}: the deviations of answers ({path}) are computed from them.")
    names, answers, odd = read_answers(path)
    deviation = {segment: _deviation(rows)[None] for segment, rows in answers.items()}
    weights = weights_of(deviation)
    if aggregate == "all":
        weights = {segment: np.repeat(weights[segment], len(rows), axis=0) for segment, rows in answers.items()}
        return ExpressionLabels(names, {segment: rows / HIGHEST for segment, rows in answers.items()}, weights, odd)
    function = {"mean": mean, "median": median, "kde": kde_peak}[aggregate]
    values = {segment: function(rows)[None] / HIGHEST for segment, rows in answers.items()}
    return ExpressionLabels(names, values, weights, odd)


def _read_numbers(path: str) -> dict[str, Floats]:
    """The rows of a JSON ``{segment: [number, ..., performer]}``, float64 [1, K] each, without the performer."""
    try:
        found = read_json(path)
    except ValueError as error:
        raise OptionError(f"{path}: cannot be read as JSON ({error}).") from None
    expected = "accepted is {segment: [number, ...]} with equally many numbers for each, as in PercePiano"
    if not isinstance(found, dict) or not found:
        raise OptionError(f"{path}: {expected}.")
    rows: dict[str, Floats] = {}
    whole = all(isinstance(cells, list) and cells and type(cells[-1]) is int for cells in found.values())
    for segment, cells in found.items():
        numbers = _numbers_of(cells)
        numbers = numbers[:-1] if whole and len(numbers) > 1 else numbers
        if not len(numbers) or np.isinf(numbers).any() or (rows and len(numbers) != len(next(iter(rows.values()))[0])):
            raise OptionError(f"{path}: {segment} has {shortened(cells)}; {expected}.")
        rows[stem(segment)] = numbers[None]
    return rows


def read_segment_split(path: str, name: str) -> dict[str, int]:
    """A fixed split of segments, from JSON ``{name: {"train": [segment, ...], "valid": [...]}}``.

    Returns
    -------
    dict of str to int
        From segment to 0 for its held-out part (``valid``, or ``test``) and 1 for ``train``.

    Raises
    ------
    OptionError
        The file has another form, or no such split, or a segment is in both parts.
    """
    try:
        found = read_json(path)
    except ValueError as error:
        raise OptionError(f"--segment-splits {path}: cannot be read as JSON ({error}).") from None
    split = found.get(name) if isinstance(found, dict) else None
    if split is None:
        known = ", ".join(found) if isinstance(found, dict) else shortened(found)
        raise OptionError(f"--segment-splits {path} {name}: there is no such split; it has {known}.")
    parts: dict[str, int] = {}
    for number, keys in enumerate((("valid", "test"), ("train",))):
        held = next((split[key] for key in keys if isinstance(split, dict) and key in split), None)
        if not isinstance(held, list) or not held or not all(isinstance(segment, str) for segment in held):
            raise OptionError(
                f"--segment-splits {path} {name}: {shortened(split)}; accepted is a list of segments for train and one "
                "for valid or test."
            )
        for segment in map(stem, held):
            if parts.setdefault(segment, number) != number:
                raise OptionError(f"--segment-splits {path} {name}: {segment} is in both parts.")
    return parts


def _numbers_of(cells: Any) -> Floats:
    """A list of numbers, NaN for null; empty for anything else."""
    if not isinstance(cells, list):
        return np.empty(0)
    if not all(value is None or type(value) in (int, float) for value in cells):
        return np.empty(0)
    try:
        return np.array([math.nan if value is None else value for value in cells], np.float64)
    except OverflowError:  # a whole number beyond the largest double
        return np.empty(0)


def _check_same(path: str, values: Mapping[str, Floats], other: str, deviations: Mapping[str, Floats]) -> None:
    if not deviations:
        return
    count, others = (len(next(iter(rows.values()))[0]) for rows in (values, deviations))
    if count != others:
        raise OptionError(f"--deviations {other}: {others} numbers per segment, but {path} has {count}.")
    if missing := next((segment for segment in values if segment not in deviations), None):
        raise OptionError(f"--deviations {other}: {missing} is not in it, but in {path}.")


def read_answers(path: str) -> tuple[tuple[str, ...], dict[str, Floats], int]:
    """The answers of a CSV; see the module.

    Returns
    -------
    tuple of str [K]
        Names of the labels.
    dict of str to float64 [R, K]
        From segment to its raters' answers, 1 to 7 or NaN, in the order of the rows.
    int
        Number of answers that were none of 0 to 7.
    """
    header, rows = read_table(path)
    files = [number for number, name in enumerate(header) if name.lower() == FILE_COLUMN]
    questions = [number for number, name in enumerate(header) if name.lower().startswith(QUESTION)]
    if len(files) != 1 or not questions:
        raise OptionError(
            f"{path}: one column {FILE_COLUMN}, and columns whose names begin with Question, are needed; its columns "
            f"are {shortened(', '.join(header))}."
        )
    found: dict[str, list[list[float]]] = defaultdict(list)
    odd = 0
    for number, row in rows:
        if len(row) != len(header):
            raise OptionError(f"{path}: line {number} has {len(row)} cells, but the header has {len(header)}.")
        segment = stem(row[files[0]])
        if not segment:
            raise OptionError(f"{path}: line {number} names no file in its column {header[files[0]]}.")
        answers = [_answer(row[question]) for question in questions]
        odd += sum(answer is None for answer in answers)
        found[segment].append([math.nan if answer is None else answer for answer in answers])
    if not found:
        raise OptionError(f"{path}: it has no rows.")
    names = _NAMES.get(len(questions)) or tuple(header[question] for question in questions)
    return names, {segment: np.array(lines) for segment, lines in found.items()}, odd


def _answer(cell: str) -> float | None:
    """An answer, NaN for "don't know", or None for anything else."""
    if cell.lower() in ("", "nan"):
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        return None
    return math.nan if value == 0 else value if 1 <= value <= HIGHEST else None


def _masked(function: Callable[[Floats], Any], rows: Floats) -> Floats:
    """A function of the answers [n] to each question; NaN where nobody answered."""
    columns = (column[~np.isnan(column)] for column in rows.T)
    return np.array([function(column) if len(column) else math.nan for column in columns])


def mean(rows: Floats) -> Floats:
    """Mean of each column of [R, K], without missing answers."""
    return _masked(np.mean, rows)


def median(rows: Floats) -> Floats:
    """Median of each column of [R, K], without missing answers."""
    return _masked(np.median, rows)


def _deviation(rows: Floats) -> Floats:
    """Standard deviation of each column of [R, K], in units of (0, 1]; NaN where fewer than two answered."""
    return _masked(lambda column: np.std(column) if len(column) > 1 else math.nan, rows) / HIGHEST


def kde_peak(rows: Floats) -> Floats:
    """Peak of the density of each column of [R, K], without missing answers; see the module."""
    return _masked(_peak, rows)


def _peak(answers: Floats) -> float:
    low, high = answers.min(), answers.max()
    if low == high:
        return float(low)
    points = np.linspace(low, high, _POINTS)
    bandwidth = np.std(answers, ddof=1) * len(answers) ** -0.2
    density = np.exp(-0.5 * ((points[:, None] - answers) / bandwidth) ** 2).sum(axis=1)
    return float(points[density >= density.max() * (1 - _TIE)].mean())


def weights_of(deviations: Mapping[str, Floats]) -> dict[str, Floats]:
    """Weights of labels from the deviations of raters, [1, K] each, NaN for unknown ones; see the module."""
    table = np.concatenate(list(deviations.values()))
    known = ~np.isnan(table)
    squares = np.where(known, table, 0.0) ** 2
    typical = squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    ratio = np.divide(squares, typical, out=np.zeros_like(squares), where=typical > 0)
    weights = np.where(known, 1 / (1 + ratio), 0.5)
    return {segment: row[None] for segment, row in zip(deviations, weights, strict=True)}


def cell_of(values: Floats) -> str:
    """Numbers as a cell: joined by ``/``, missing ones empty; empty if all are missing."""
    if np.isnan(values).all():
        return ""
    return "/".join("" if math.isnan(value) else f"{value:.6g}" for value in values.tolist())


# --------------------------------------------------------------------------------------------------------------- units


def pitch_trigrams(score: Score) -> NDArray[np.int32]:
    """The distinct pitch trigrams of a score, notes by onset and then pitch; int32 [T], ascending."""
    pitch = score.pitch[np.lexsort((score.pitch, score.onset))].astype(np.int32)
    return np.unique(pitch[:-2] << 14 | pitch[1:-1] << 7 | pitch[2:])


def performance_trigrams(score: Score) -> NDArray[np.int64]:
    """The distinct trigrams of (pitch, velocity), notes as in :func:`pitch_trigrams`; int64 [T], ascending.

    Another performance of the same notes has few of them.
    """
    order = np.lexsort((score.pitch, score.onset))
    note = score.pitch[order].astype(np.int64) << 7 | score.velocity[order]
    return np.unique(note[:-2] << 28 | note[1:-1] << 14 | note[2:])


def leaking(trigrams: Mapping[str, NDArray[np.int64]], train: Collection[str], test: Collection[str]) -> list[str]:
    """The segments of test that are, in whole or in part, a performance that is in train.

    These share more than half of the :func:`performance_trigrams` of the shorter one with a segment of train by the
    same performer.

    Parameters
    ----------
    trigrams : mapping of str to int64 [T]
        By the names of segments; names of another form are passed over.
    train, test : collection of str
        Names of segments.
    """
    by_performer: dict[str, list[str]] = defaultdict(list)
    for name in trigrams:
        if (segment := parse_name(name)) is not None and (name in train or name in test):
            by_performer[segment.performer].append(name)
    found = set()
    for own in by_performer.values():
        first, second = np.nonzero(shared_trigrams([trigrams[name] for name in own]) > LEAK)
        found |= {own[a] for a, b in zip(first.tolist(), second.tolist(), strict=True) if own[b] in train}
    return sorted(found & set(test))


def shared_trigrams(sets: Sequence[NDArray[np.integer]]) -> Floats:
    """The share of the smaller set's trigrams that are in the other, for all pairs of P sets; float64 [P, P]."""
    sizes = np.array([len(trigrams) for trigrams in sets])
    distinct, column = np.unique(np.concatenate(sets), return_inverse=True)
    row = np.repeat(np.arange(len(sets)), sizes)
    common = np.zeros((len(sets), len(sets)))
    for first in range(0, len(distinct), _BLOCK):
        inside = (column >= first) & (column < first + _BLOCK)
        holds = np.zeros((len(sets), min(_BLOCK, len(distinct) - first)), np.float32)
        holds[row[inside], column[inside] - first] = 1
        common += holds @ holds.T
    return common / np.maximum(np.minimum(sizes[:, None], sizes), 1)


def music_units(trigrams: Mapping[str, NDArray[np.int32]]) -> dict[str, str]:
    """Join the passages of segments that hold the same music; see the module.

    Parameters
    ----------
    trigrams : mapping of str to int32 [T]
        From the names of segments to their :func:`pitch_trigrams`.

    Returns
    -------
    dict of str to str
        From each passage to its unit, which is called as the first of its passages.
    """
    by_performer: dict[str, dict[str, NDArray[np.int32]]] = defaultdict(dict)
    for name, found in trigrams.items():
        segment = parse_name(name)
        if segment is not None:
            by_performer[segment.performer][segment.passage] = found
    passages = sorted({passage for played in by_performer.values() for passage in played})
    number = {passage: index for index, passage in enumerate(passages)}
    units = UnionFind(len(passages))
    pairs: list[tuple[NDArray[np.int64], Floats]] = []  # of each performer: the keys of pairs, and their shares
    for performer, played in sorted(by_performer.items()):
        indices = np.array([number[passage] for passage in sorted(played)])
        shares = shared_trigrams([played[passages[index]] for index in indices.tolist()])
        first, second = np.triu_indices(len(indices), 1)
        keys, values = indices[first] * len(passages) + indices[second], shares[first, second]
        if performer == DEADPAN:
            _unite(units, keys[values > SHARED], len(passages))
        pairs.append((keys, values))
    if pairs:
        keys, values = (np.concatenate(column) for column in zip(*pairs, strict=True))
        order = np.lexsort((values, keys))
        distinct, begin, count = np.unique(keys[order], return_index=True, return_counts=True)
        ordered = values[order]
        middle = (ordered[begin + (count - 1) // 2] + ordered[begin + count // 2]) / 2
        _unite(units, distinct[middle > SHARED], len(passages))
    roots = units.roots().tolist()
    return {passage: passages[root] for passage, root in zip(passages, roots, strict=True)}


def _unite(units: UnionFind, keys: NDArray[np.int64], count: int) -> None:
    for key in keys.tolist():
        units.unite(*divmod(key, count))


def unit_of(segment: Segment, unit: str, units: Mapping[str, str]) -> str:
    """The unit of a segment, which stays in one split; empty for ``random``.

    Parameters
    ----------
    segment : Segment
    unit : str
        One of :data:`UNITS`.
    units : mapping of str to str
        What :func:`music_units` returns.
    """
    if unit == "random":
        return ""
    return {"performer": segment.player, "piece": segment.work, "music": units.get(segment.passage, segment.passage)}[
        unit
    ]
