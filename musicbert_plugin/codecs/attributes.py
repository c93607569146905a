"""MuseCoco's attributes: properties of a piece, extracted or requested, as values and as 63 command words.

The fifteen attributes (arXiv 2306.00110, section 3; the number of classes includes NA, the last class):

=====  ========  =====================================================================================================
key    classes   value and classes
=====  ========  =====================================================================================================
I1s2   28 x 3    instrument groups that sound (:data:`INSTRUMENTS`); per group 0 yes, 1 no, 2 NA
I4     29        (instrument group of the melody or None, whether there is only one melodic program)
C1     5         0 bright, 1 dark, 2 bright then dark, 3 dark then bright (see ``chords``)
R1     3         danceable: 0 yes, 1 no
R3     4         0 calm, 1 moderate, 2 intense: beats with at most 1, fewer than 2, or more onset positions
S2s1   18        artist (:data:`ARTISTS`)
S4     22 x 3    genres (:data:`GENRES`); per genre 0 yes, 1 no, 2 NA
B1s1   5         (bars, class): 1-4, 5-8, 9-12, 13-16; more is NA
TS1s1  8         time signature, of :data:`METERS` or 6 "other"; NA if it changes
K1     3         "major" or "minor", of the whole piece
T1s1   4         (quarter notes per minute, class): 0 slow up to 76, 1 moderate, 2 fast from 120; NA if it changes
P4     13        range of melodic pitches in octaves, rounded down, 0..11
ST1    15        form (:data:`FORMS`); always NA in data, since it is not extracted
EM1    5         quadrant of emotion, Q1 happy, Q2 tense, Q3 sad, Q4 calm
TM1    6         (seconds, class): up to 15, 30, 45, 60, longer
=====  ========  =====================================================================================================

Attributes are extracted from a window of bars of a :class:`~.remi.Grid`, which is quantised and trimmed, and whose last
bar ends with the last onset.  Tempi are quantised, so fast begins at 117.4 and slow ends at 73.9.  A value of None is
NA.  Artist, genre and emotion are given by the caller.

Two attributes differ from the original unless ``legacy=True``.  R1 compares drum hits on strong beats (1 and 3 in 4/4,
1 in 3/4 and 2/4; a beat is twelve positions) with those on all other beats; the original counts positions instead of
hits.  I4 is, of the melodic programs with more than 20 notes, the one with the highest mean pitch (of equal ones the
lowest program); the original takes the highest program number.

A **class vector** is ``uint8 [63]``: the class of every command word, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from musicbert_plugin.codecs.chords import chord_progression
from musicbert_plugin.codecs.octuple import METER_DENOMINATORS, METER_NUMERATORS, TEMPO_VALUES
from musicbert_plugin.codecs.remi import COMMANDS, POSITIONS_PER_QUARTER, SEPARATOR, WORDS, Grid, meter_code
from musicbert_plugin.codecs.score import DRUMS
from musicbert_plugin.errors import OptionError, suggestion
from musicbert_plugin.files import as_listed
from musicbert_plugin.tables import check_columns, read_table

KEYS = tuple(key for key, _, _ in COMMANDS)
SLOT_KEY = np.repeat(np.arange(len(COMMANDS)), [max(members, 1) for _, members, _ in COMMANDS])  # [63]
SLOTS = len(SLOT_KEY)  # 63
SLOT_CLASSES = np.array([classes for _, _, classes in COMMANDS])[SLOT_KEY]
NA = (SLOT_CLASSES - 1).astype(np.uint8)  # the class vector in which every attribute is NA
SLOT_ID = SEPARATOR + 1 + np.concatenate(([0], np.cumsum(SLOT_CLASSES)[:-1]))  # id of every slot's class 0
SLOT_OF = {
    key: int(np.flatnonzero(SLOT_KEY == number)[0]) for number, key in enumerate(KEYS)
}  # first slot of every attribute
YES, NO = 0, 1
MULTI_LABEL = np.array([members > 0 for _, members, _ in COMMANDS])[SLOT_KEY]  # slots that are yes, no or NA
NOT_EXTRACTED = np.isin(SLOT_KEY, [KEYS.index(key) for key in ("S2s1", "S4", "ST1", "EM1")])

INSTRUMENTS = (
    "piano", "keyboard", "percussion", "organ", "guitar", "bass", "violin", "viola", "cello", "harp", "strings",
    "voice", "trumpet", "trombone", "tuba", "horn", "brass", "sax", "oboe", "bassoon", "clarinet", "piccolo", "flute",
    "pipe", "synthesizer", "ethnic", "sound effect", "drum",
)  # fmt: skip
_PROGRAMS = (
    range(0, 6), range(6, 10), (*range(11, 16), 47, 55, 112, 113, 115, 117, 119), range(16, 24), range(24, 32),
    (*range(32, 40), 43), (40,), (41,), (42,), (46,), (44, 45, *range(48, 52)), range(52, 55), (56, 59), (57,), (58,),
    (60, 69), range(61, 64), range(64, 68), (68,), (70,), (71,), (72,), (73, 75), (74, *range(76, 80)), range(80, 96),
    range(104, 112), (10, *range(96, 104), *range(120, 128)), (114, 116, 118, 128),
)  # fmt: skip
GROUP_OF_PROGRAM = np.empty(129, np.int64)
for _group, _members in enumerate(_PROGRAMS):
    GROUP_OF_PROGRAM[list(_members)] = _group

ARTISTS = (
    "beethoven", "mozart", "chopin", "schubert", "schumann", "bach-js", "haydn", "brahms", "Handel", "tchaikovsky",
    "mendelssohn", "dvorak", "liszt", "stravinsky", "mahler", "prokofiev", "shostakovich",
)  # fmt: skip
GENRES = (
    "New Age", "Electronic", "Rap", "Religious", "International", "Easy_Listening", "Avant_Garde", "RnB", "Latin",
    "Children", "Jazz", "Classical", "Comedy_Spoken", "Pop_Rock", "Reggae", "Stage", "Folk", "Blues", "Vocal",
    "Holiday", "Country", "Symphony",
)  # fmt: skip
FORMS = (
    "A", "AB", "AA", "ABA", "AAB", "ABB", "AAAA", "AAAB", "AABB", "AABA", "ABAA", "ABAB", "ABBA", "ABBB",
)  # fmt: skip
EMOTIONS = ("Q1", "Q2", "Q3", "Q4")
EMOTION_WORDS = ("happy", "tense", "sad", "calm")
METERS = ((4, 4), (2, 4), (3, 4), (1, 4), (6, 8), (3, 8))
OTHER_METER = "other"
MODES = ("major", "minor")

MELODY_NOTES = 20  # the melody has more notes
LONGEST_PIECE = 16  # bars
BARS_PER_CLASS = 4
_METER_CLASS = {meter_code(*meter): number for number, meter in enumerate(METERS)}
SECONDS = np.array([15.0, 30.0, 45.0, 60.0])
# Number of beats, and the strong beats, for each time signature that R1 supports.
_STRONG_BEATS = {meter_code(4, 4): (4, (0, 2)), meter_code(3, 4): (3, (0,)), meter_code(2, 4): (2, (0,))}


# ------------------------------------------------------------------------------------------------------- extraction


def extract(
    grid: Grid,
    begin: int = 0,
    end: int | None = None,
    *,
    legacy: bool = False,
    chords: list[int | None] | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The values of all attributes of a window of bars.

    Parameters
    ----------
    grid : Grid
        A whole piece, trimmed and normalised.
    begin, end : int
        Bars ``[begin, end)``, from 0; by default all.
    legacy : bool
        R1 and I4 with the original's defects.
    chords : list, optional
        From :func:`~.chords.brightness` of the whole piece, two per bar; without it C1 is None.
    given : mapping, optional
        Values of S2s1, S4 and EM1.

    Returns
    -------
    dict
        From attribute key, in command order, to its value as in the table above (tuples as lists), or None.

    Raises
    ------
    OptionError
        The piece has no such bars, or a given value is not a label of its attribute.
    """
    end = grid.bars if end is None else end
    if not 0 <= begin < end <= grid.bars:
        raise OptionError(f"bars {begin}:{end} of a piece with {grid.bars} bars; it has 0:{grid.bars}.")
    notes = slice(int(grid.first_note[begin]), int(grid.first_note[end]))
    start, stop = int(grid.bar_start[begin]), int(grid.bar_start[end])
    program, pitch, onset = grid.program[notes], grid.pitch[notes], grid.onset[notes]
    counts = np.bincount(program, minlength=DRUMS + 1)
    melodic = slice(None) if not counts[DRUMS] else program != DRUMS

    values: dict[str, Any] = dict.fromkeys(KEYS)
    values["I1s2"] = np.unique(GROUP_OF_PROGRAM[counts > 0]).tolist()
    values["I4"] = _melody(program, pitch, counts, legacy)
    if chords is not None:
        values["C1"] = chord_progression(chords[2 * begin : 2 * end])
    if counts[DRUMS]:
        values["R1"] = _danceable(grid, begin, end, onset[program == DRUMS], legacy)
    onsets = int(np.count_nonzero(onset[1:] != onset[:-1])) + 1 if len(onset) else 0
    density = onsets * POSITIONS_PER_QUARTER / (stop - start)
    values["R3"] = 0 if density <= 1 else 1 if density < 2 else 2
    bars = end - begin
    values["B1s1"] = [bars, (bars - 1) // BARS_PER_CLASS if bars <= LONGEST_PIECE else -1]
    meters = _in_force(grid.meter_position, grid.meter, start, stop)[1]
    if (meters == meters[0]).all():
        code = int(meters[0])
        known = code in _METER_CLASS
        values["TS1s1"] = [int(METER_NUMERATORS[code]), int(METER_DENOMINATORS[code])] if known else OTHER_METER
    if grid.major is not None:
        values["K1"] = MODES[0] if grid.major else MODES[1]
    lengths, tempi = _in_force(grid.tempo_position, grid.tempo, start, stop)
    speed = TEMPO_VALUES[tempi]
    if (tempi == tempi[0]).all():
        values["T1s1"] = [float(speed[0]), int(tempo_class(speed[0]))]
    if len(notes_pitch := pitch[melodic]):
        values["P4"] = int(notes_pitch.max() - notes_pitch.min()) // 12
    seconds = float((lengths * (60 / POSITIONS_PER_QUARTER) / speed).sum())
    values["TM1"] = [seconds, int(np.searchsorted(SECONDS, seconds))]
    for key, value in (given or {}).items():
        values[key] = checked(key, value)
    return values


def tempo_class(beats_per_minute: np.ndarray | float) -> np.ndarray:
    """The class of T1s1 of tempi, of any shape: 0 slow up to 76, 1 moderate, 2 fast from 120."""
    speed = np.asarray(beats_per_minute)
    return np.where(speed >= 120, 2, np.where(speed <= 76, 0, 1))


def _in_force(position: np.ndarray, code: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """For each code in effect within [start, stop), at least one, its number of positions, and the code."""
    first = int(np.searchsorted(position, start, side="right")) - 1
    last = int(np.searchsorted(position, stop, side="left"))
    edges = np.append(np.maximum(position[first:last], start), stop)
    return np.diff(edges), code[first:last]


def _melody(program: np.ndarray, pitch: np.ndarray, counts: np.ndarray, legacy: bool) -> list[Any] | None:
    present = np.flatnonzero(counts[:DRUMS])
    if len(present) == 0:
        return None
    if legacy:
        best = int(present[-1])
        found = counts[best] > MELODY_NOTES
    else:
        candidates = present[counts[present] > MELODY_NOTES]
        found = len(candidates) > 0
        if found:
            means = np.bincount(program, pitch, DRUMS + 1)[candidates] / counts[candidates]
            best = int(candidates[means.argmax()])
    return [int(GROUP_OF_PROGRAM[best]) if found else None, len(present) == 1]


def _danceable(grid: Grid, begin: int, end: int, onset: np.ndarray, legacy: bool) -> bool | None:
    bar = np.searchsorted(grid.bar_start, onset, side="right") - 1
    meter = grid.bar_meter[bar]
    if legacy:
        # The original counts positions: in 4/4 and 2/4, strong beats have as many as others, in 3/4 half as many.  It
        # takes the length of a bar from the first one of its time signature, even if the piece ends in that bar, and
        # fails if three does not divide this length.
        three = meter_code(3, 4)
        if not (meter == three).any():
            return None
        first = begin + int(np.flatnonzero(grid.bar_meter[begin:end] == three)[0])
        return None if (grid.bar_start[first + 1] - grid.bar_start[first]) % 3 else False
    balance = 0
    for code, (beats, strong) in _STRONG_BEATS.items():
        mask = meter == code
        beat = (onset[mask] - grid.bar_start[bar[mask]]) // POSITIONS_PER_QUARTER
        hits = np.bincount(beat, minlength=beats)
        balance += 2 * int(hits[list(strong)].sum()) - int(hits.sum())
    return None if balance == 0 else balance > 0


# -------------------------------------------------------------------------------------------------------- subjective


def _canonical(name: str) -> str:
    return name.strip().replace(" ", "_").lower()


_LABELS = {
    "S2s1": {_canonical(name): name for name in ARTISTS},
    "S4": {_canonical(name): name for name in GENRES},
    "EM1": {_canonical(name): name for name in EMOTIONS} | dict(zip(EMOTION_WORDS, EMOTIONS, strict=True)),
}
_CLASS_OF_LABEL = {"S2s1": ARTISTS, "S4": GENRES, "EM1": EMOTIONS}
GIVEN_COLUMNS = {"artist": "S2s1", "genre": "S4", "emotion": "EM1"}


def checked(key: str, value: Any) -> Any:
    """The label of S2s1 or EM1, or list of labels of S4, in its canonical spelling; None stays None.

    Raises
    ------
    OptionError
        A value is not a label of the attribute, or there are several for an attribute other than S4.
    """
    if key not in _LABELS:
        raise OptionError(f"{key} is extracted from the music; only {', '.join(_LABELS)} can be given.")
    if value is None:
        return None
    labels = [value] if isinstance(value, str) else list(value)
    if key != "S4" and len(labels) != 1:
        raise OptionError(f"{'|'.join(labels)!r}: {len(labels)} labels for {key}; only S4 may have more than one.")
    found = []
    for label in labels:
        if _canonical(label) not in _LABELS[key]:
            accepted = (*_CLASS_OF_LABEL[key], *(EMOTION_WORDS if key == "EM1" else ()))
            meant = suggestion(_canonical(label), {_canonical(name): name for name in accepted})
            raise OptionError(f"{label!r} is not a label of {key}{meant}; accepted: {', '.join(accepted)}.")
        found.append(_LABELS[key][_canonical(label)])
    return found if key == "S4" else found[0]


def read_given(path: str) -> dict[str, dict[str, Any]]:
    """Read attributes that cannot be extracted from a CSV with columns file and any of artist, genre and emotion.

    Several genres are joined with ``|``; an empty cell is a missing label.

    Returns
    -------
    dict
        From file name to the argument ``given`` of :func:`extract`.

    Raises
    ------
    OptionError
        The CSV is unreadable, lacks a column or has it twice, has a row of more cells than columns or an unknown label.
    """
    names, rows = read_table(path)
    columns = [column for column in GIVEN_COLUMNS if column in names]
    if not rows or "file" not in names or not columns:
        raise OptionError(f"{path}: a column file, one of {', '.join(GIVEN_COLUMNS)}, and a row are needed.")
    check_columns(path, names, ("file", *columns))
    found: dict[str, dict[str, Any]] = {}
    for number, cells in rows:
        if len(cells) > len(names):
            raise OptionError(
                f"{path}, line {number}: {len(cells)} cells for {len(names)} columns; several genres are joined with |."
            )
        row = dict(zip(names, cells, strict=False))
        values = {}
        for column in columns:
            text = row.get(column, "").strip()
            if text:
                try:
                    values[GIVEN_COLUMNS[column]] = checked(GIVEN_COLUMNS[column], text.split("|"))
                except OptionError as error:
                    raise OptionError(f"{path}, line {number}: {error}") from None
        if found.setdefault(as_listed(row.get("file", "")), values) != values:
            raise OptionError(f"{path}, line {number}: {row['file']} has two rows that differ.")
    return found


# ----------------------------------------------------------------------------------------------------------- classes


_CLASS_OF_VALUE: dict[str, Callable[[Any], int | None]] = {
    **dict.fromkeys(("B1s1", "T1s1", "TM1"), itemgetter(1)),
    **dict.fromkeys(("C1", "R3"), int),
    "I4": itemgetter(0),
    "R1": lambda danceable: YES if danceable else NO,
    "TS1s1": lambda meter: len(METERS) if meter == OTHER_METER else METERS.index(tuple(meter)),
    "P4": lambda octaves: min(octaves, 11),
    "K1": MODES.index,
    "S2s1": ARTISTS.index,
    "EM1": EMOTIONS.index,
}
"""For each attribute with one class, the function from value to class; below 0 or None for NA."""


def class_vector(values: Mapping[str, Any]) -> np.ndarray:
    """The class vector, uint8 [63], of the values that :func:`extract` returns."""
    out = NA.copy()
    for key, labels in (("I1s2", range(len(INSTRUMENTS))), ("S4", GENRES)):
        if (present := values.get(key)) is not None:
            first = SLOT_OF[key]
            out[first : first + len(labels)] = NO
            out[[first + labels.index(label) for label in present]] = YES
    for key, class_of in _CLASS_OF_VALUE.items():
        if (value := values.get(key)) is not None:
            number = class_of(value)
            if number is not None and number >= 0:
                out[SLOT_OF[key]] = number
    return out


def with_given(classes: np.ndarray, given: Mapping[str, Any]) -> np.ndarray:
    """Class vectors (uint8 [..., 63]) with the classes of the given attributes replaced."""
    known = class_vector(given)
    out = np.array(classes, np.uint8)
    slots = np.isin(SLOT_KEY, [KEYS.index(key) for key in given])
    out[..., slots] = known[slots]
    return out


def command_ids(classes: np.ndarray) -> np.ndarray:
    """The dictionary ids, int64 [..., 63], of class vectors (uint8 [..., 63])."""
    return SLOT_ID + classes


def command_words_of(classes: np.ndarray) -> list[str]:
    """The 63 command words of a class vector."""
    return [WORDS[word_id] for word_id in command_ids(classes).tolist()]


def classes_of_ids(ids: np.ndarray) -> np.ndarray:
    """The class vector of command ids (int [63], in order).

    Raises
    ------
    ValueError
        The ids are not one of each command.
    """
    classes = np.asarray(ids, np.int64) - SLOT_ID
    if classes.shape != (SLOTS,) or (classes < 0).any() or (classes >= SLOT_CLASSES).any():
        raise ValueError("the ids are not one of each of the 63 commands, in order")
    return classes.astype(np.uint8)


def programs_of(classes: np.ndarray) -> np.ndarray:
    """The programs of the instrument groups that class vectors request.

    Parameters
    ----------
    classes : uint8 [..., 63]

    Returns
    -------
    bool [..., 129]
        Programs of the groups with class "yes"; all programs if there is none.
    """
    first = SLOT_OF["I1s2"]
    groups = np.asarray(classes)[..., first : first + len(INSTRUMENTS)] == YES
    programs = groups[..., GROUP_OF_PROGRAM]
    return programs | ~programs.any(axis=-1, keepdims=True)


def __getattr__(name: str) -> Any:
    """Former names of constants, and names that have moved to :mod:`musicbert_plugin.codecs.requests`."""
    if name in ("NOT_GIVEN", "OF_MEMBERS"):
        return {"NOT_GIVEN": NA, "OF_MEMBERS": MULTI_LABEL}[name]
    if name in ("INSTRUMENT_WORDS", "accepted_words", "parse_request", "request_words"):
        from musicbert_plugin.codecs import requests

        return getattr(requests, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
