"""MuseCoco's REMI: a piece as a sequence of bars, positions, programs and notes (arXiv 2306.00110).

A piece is a ``uint16 [T]`` array of dictionary ids.  A word is a letter and a number:

=======  ============  =========================================================================================
word     encoded       meaning
=======  ============  =========================================================================================
``b-1``  1             the bar ends; the last word of every piece
``s-k``  0..253        time signature of the bar, by the octuple codec's codes (4/4 is 9)
``t-k``  0..48         tempo, by the octuple codec's codes: twelve per octave, 120 is 35
``o-k``  0..95         onset: twelfths of a quarter note since the bar line
``i-k``  0..128        General MIDI program; 128 for any drum track
``p-k``  0..255        MIDI pitch; 128 + key for drums
``d-k``  1..95         duration code: eight octaves of twelve codes each, see :func:`.octuple.duration_values`
``v-k``  0..31         MIDI velocity // 4; decoded as 4 k + 2
=======  ============  =========================================================================================

The dictionary also holds words that are never encoded: ``b-0``, ``o`` and ``d`` up to 127, ``e-0``, ``e-1``.

Layouts
-------
``bar-tempo`` (REMIGEN2)
    Per bar ``s t``, then for each position with an onset ``o``, for each of its programs ``i``, for each of its notes
    ``p d v``; then ``b-1``.  A tempo change inside a bar appears in the next bar.
``position-tempo`` (REMIGEN)
    The same, but the header of a bar is ``s``, and every position is ``o t``.
``notes``
    Without ``s``, ``t`` and ``v``; an empty bar is only ``b-1``.
``notes-by-program``
    The words of ``notes``, ordered by program: in a bar, for each program ``i``, for each position at which it has an
    onset ``o``, for each of its notes ``p d``.

Positions ascend, programs ascend (drums last), notes of a program at a position descend by (pitch, duration, velocity);
duplicates are kept.

Time
    A tick becomes a position by ``round(12 tick / resolution)``, half to even; onsets, ends, tempo and time-signature
    changes are rounded independently.  A note without length, or with an onset from position 2**20 on (24 hours at 60
    quarter notes per minute), is left out and counted.  The grid ends with the last onset: the rest of its bar and
    later changes are dropped.  This affects attributes, not words.

Bars
    A bar keeps the time signature at its first position to its end.  The vocabulary has denominators up to 64 and
    numerators up to twice the denominator.  All others are reduced to these: denominators (with their numerators) are
    halved down to 64, and those that are not a power of two are replaced by the next lower one; a numerator above
    twice the denominator is divided by its smallest prime factor, or, if it is prime, becomes twice the denominator
    (the original makes 17/8 a bar of one eighth); 1/64, which is shorter than a position, becomes 2/64.

Pipeline
    A piece is encoded as in the published data: silence before the bar of the first note and after the last onset is
    removed, durations below one position become one, and the key is normalised (:func:`key_of`).  The layouts of notes
    alone keep the empty bars.  ``plain=True`` disables all three, so that ``d-0`` occurs.

Round trip: ``encode(decode(x), plain=True) == x`` for every output x of the pipeline and every sequence that the
grammar of ``remi_grammar`` admits, except for trailing empty bars (without ``s``, decoding needs the time signature).
For layouts with velocities, the pipeline also maps ``decode(x)`` back to x, since normalisation is idempotent.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.octuple import (
    DEFAULT_METER,
    DEFAULT_TEMPO_CODE,
    LARGEST_DENOMINATOR,
    METER_DENOMINATORS,
    METER_NUMERATORS,
    TICKS_PER_QUARTER,
    bar_runs,
    changes_from_start,
    code_changes,
    duration_values,
    latest,
    positions,
    score_of_positions,
)
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import OptionError, ScoreError

LAYOUTS = ("bar-tempo", "position-tempo", "notes", "notes-by-program")
BAR_TEMPO, POSITION_TEMPO, NOTES, NOTES_BY_PROGRAM = LAYOUTS
NOTES_ALONE = (NOTES, NOTES_BY_PROGRAM)
"""The layouts without words of time signature, tempo and velocity."""
FREE = "free"
"""In the place of a layout: words in no known order, for which there is no grammar."""

BOS, PAD, EOS, UNK = range(4)  # fairseq's specials
# The first id and the number of ids of every letter, in dictionary order.
SIZES = {"b": 2, "o": 128, "i": 129, "p": 256, "d": 128, "v": 32, "s": 254, "t": 49, "e": 2}
OFFSETS = {letter: 4 + sum(list(SIZES.values())[:number]) for number, letter in enumerate(SIZES)}
BAR_END = OFFSETS["b"] + 1
ONSET, INSTRUMENT, PITCH, DURATION, VELOCITY, METER, TEMPO = (OFFSETS[letter] for letter in "oipdvst")
MUSIC_END = OFFSETS["e"] + SIZES["e"]  # ids below are specials and music
SEPARATOR = MUSIC_END  # 984, between a condition and the music
# The attributes in the order of their commands: key, members (0: a single choice) and classes, the last of which is NA.
COMMANDS = (
    ("I1s2", 28, 3), ("I4", 0, 29), ("C1", 0, 5), ("R1", 0, 3), ("R3", 0, 4), ("S2s1", 0, 18), ("S4", 22, 3),
    ("B1s1", 0, 5), ("TS1s1", 0, 8), ("K1", 0, 3), ("T1s1", 0, 4), ("P4", 0, 13), ("ST1", 0, 15), ("EM1", 0, 5),
    ("TM1", 0, 6),
)  # fmt: skip
VOCABULARY_SIZE = SEPARATOR + 1 + sum(max(members, 1) * classes for _, members, classes in COMMANDS)  # 1253
DICTIONARY_SHA256 = "9efbf5cfeb4b0e10d586034277aec0be3e4cebde755d6c28d82bebd41a722445"

POSITIONS_PER_QUARTER = 12
POSITIONS_PER_WHOLE = 48
END_OF_TIME = 2**20  # positions; notes from here on are left out
TICKS_PER_POSITION = TICKS_PER_QUARTER // POSITIONS_PER_QUARTER
ONSETS = 2 * POSITIONS_PER_WHOLE  # positions in the longest bar
DEFAULT_VELOCITY = 96  # of notes without a velocity

BAR_LENGTHS = METER_NUMERATORS * POSITIONS_PER_WHOLE // METER_DENOMINATORS  # positions, by time-signature code
NO_LENGTH = int(np.flatnonzero(BAR_LENGTHS == 0)[0])  # the code of 1/64, which is never encoded
_SHORTEST = NO_LENGTH + 1  # 2/64

DURATION_VALUES = duration_values(POSITIONS_PER_QUARTER)  # positions, by duration code
DURATIONS = len(DURATION_VALUES)  # 96
_LONGEST_DURATION = 12 * 255
_DURATION_CODES = DURATION_VALUES.searchsorted(np.arange(_LONGEST_DURATION + 1), side="right") - 1

# Row k is +1 at the seven pitch classes of the major scale on k, -1 at the others.
_MAJOR_SCALE = np.isin(np.arange(12), (0, 2, 4, 5, 7, 9, 11))
SCALES = np.stack([np.roll(np.where(_MAJOR_SCALE, 1, -1), tonic) for tonic in range(12)])


def duration_code(length: np.ndarray) -> np.ndarray:
    """Codes 0..95 of lengths in positions (>= 0): the largest code whose value is not above the length."""
    return _DURATION_CODES[np.minimum(length, _LONGEST_DURATION)]


def meter_code(numerator: int, denominator: int) -> int:
    """The code 0..253 of a time signature (both numbers >= 1), reduced by the rules of the module."""
    n, d = int(numerator), int(denominator)
    while d > LARGEST_DENOMINATOR:
        n, d = max(n // 2, 1), d // 2
    d = 1 << (d.bit_length() - 1)
    while n > 2 * d:
        factor = next((f for f in range(2, int(n**0.5) + 1) if n % f == 0), n)
        n = 2 * d if factor == n else n // factor
    code = 2 * d - 2 + n - 1
    return _SHORTEST if code == NO_LENGTH else code


def parse_meter(text: str) -> tuple[int, int]:
    """Numerator and denominator, each 1..9999, of an option such as ``6/4``.

    Raises
    ------
    OptionError
        The text is not of that form.
    """
    match = re.fullmatch(r"([1-9]\d{0,3})/([1-9]\d{0,3})", text)
    if not match:
        raise OptionError(f"meter {text!r}: N/D is accepted, such as 3/4 or 12/8.")
    return int(match[1]), int(match[2])


# ------------------------------------------------------------------------------------------------------------- grid


@dataclass(frozen=True, eq=False)
class Grid:
    """A piece on REMI's grid of positions, from which words and attributes are computed.

    Attributes
    ----------
    onset, program, pitch, duration, velocity : int64 [N]
        The notes in the order of their words; onset in positions from the first bar on, pitch 0..127, duration and
        velocity as codes.
    bar_start : int64 [B + 1]
        First position of every bar, and the end of the grid, which is one position after the last onset.
    bar_meter : int64 [B]
        Code of every bar's time signature.
    first_note : int64 [B + 1]
        Index of the first note of every bar, and N.
    tempo_position, tempo : int64 [K]
        Positions of tempo changes (the first is 0) and their codes.
    meter_position, meter : int64 [M]
        Positions of time-signature changes (the first is 0, others may be inside a bar) and their codes.
    shift : int
        Semitones by which normalisation transposed the melodic notes (0 without it).
    major : bool or None
        Mode of the whole piece; None without melodic notes.
    lost : Counter
        Numbers of notes that were left out, by reason.
    """

    onset: np.ndarray
    program: np.ndarray
    pitch: np.ndarray
    duration: np.ndarray
    velocity: np.ndarray
    bar_start: np.ndarray
    bar_meter: np.ndarray
    first_note: np.ndarray
    tempo_position: np.ndarray
    tempo: np.ndarray
    meter_position: np.ndarray
    meter: np.ndarray
    shift: int
    major: bool | None
    lost: Counter[str]

    @property
    def bars(self) -> int:
        """The number of bars."""
        return len(self.bar_meter)


def key_of(pitch: np.ndarray, weight: np.ndarray) -> tuple[int, bool | None]:
    """The number of semitones that transposes the notes to C major or A minor, and the mode.

    The score of a major scale is the weight of the notes on it minus the weight of the others.  The scale with the
    highest score is chosen, of equal ones the one with the lowest tonic from C on.  The mode is minor if the pitch
    class nine semitones above that tonic has more weight than the tonic.  The shift moves a major tonic down to C and a
    minor tonic to the A below or above.  While notes would leave 0..127, the shift is changed by octaves, first up,
    then down; if neither fits, it is 0.

    Parameters
    ----------
    pitch : int [N]
        Pitches of melodic notes.
    weight : int [N]
        Duration in positions times velocity.

    Returns
    -------
    int, bool or None
        The shift, and whether the mode is major (None without notes).
    """
    if len(pitch) == 0:
        return 0, None
    histogram = np.bincount(pitch % 12, weight, 12)  # whole numbers far below 2**53: exact
    tonic = int((SCALES @ histogram).argmax())
    relative = (tonic + 9) % 12
    major = bool(histogram[relative] <= histogram[tonic])
    shift = -tonic if major else 9 - relative
    low, high = int(pitch.min()), int(pitch.max())
    while low + shift < 0:
        shift += 12
    while high + shift > 127:
        shift -= 12
    return (0 if low + shift < 0 else shift), major


def grid_of(score: Score, *, trim: bool = True, normalise: bool = True, shortest: int = 1) -> Grid:
    """Quantise a score to the grid.

    Parameters
    ----------
    score : Score
    trim : bool
        Whether empty bars before the first note are removed.
    normalise : bool
        Whether melodic notes are transposed to C major or A minor.
    shortest : int
        Smallest duration code; lower codes are raised to it.

    Returns
    -------
    Grid

    Raises
    ------
    ScoreError
        Reason ``"no notes"``: no note has a length and begins before position 2**20.
    """
    lost: Counter[str] = Counter()
    per_quarter = POSITIONS_PER_QUARTER
    onset = positions(score.onset, score.resolution, per_quarter)
    length = positions(score.end, score.resolution, per_quarter)
    length -= onset
    # One 64-bit key per note sorts as its words do.
    key = onset << 27
    key |= score.program.astype(np.int64) << 19
    key |= (127 - score.pitch).astype(np.int64) << 12
    key |= (DURATIONS - 1 - np.maximum(duration_code(length), shortest)) << 5
    key |= (31 - (score.velocity >> 2)).astype(np.int64)
    kept = score.end > score.onset
    if not kept.all():
        lost["note without length"] = int(len(key) - kept.sum())
        key = key[kept]
    key.sort()
    if len(key) and key[-1] >= END_OF_TIME << 27:
        in_time = int(np.searchsorted(key, END_OF_TIME << 27))
        lost["note out of reach"] = len(key) - in_time
        key = key[:in_time]
    if len(key) == 0:
        raise ScoreError("no notes", "no note of the score has a length and begins within 2**20 twelfths of a quarter.")
    onset = key >> 27

    (meter_position, meter), (tempo_position, tempo) = code_changes(score, per_quarter, meter_code)
    bar_start = _bar_lines(meter_position, BAR_LENGTHS[meter], int(onset[-1]))
    first = int(np.searchsorted(bar_start, onset[0], side="right")) - 1 if trim else 0
    if first:
        start = int(bar_start[first])
        onset -= start
        bar_start = bar_start[first:] - start
        meter_position, meter = _cut_before(meter_position, meter, start)
        tempo_position, tempo = _cut_before(tempo_position, tempo, start)
    end = int(onset[-1])
    meter_position, meter = _cut_after(meter_position, meter, end)
    tempo_position, tempo = _cut_after(tempo_position, tempo, end)

    grid = Grid(
        onset,
        (key >> 19) & 255,
        127 - ((key >> 12) & 127),
        DURATIONS - 1 - ((key >> 5) & 127),
        31 - (key & 31),
        bar_start,
        at_positions(meter_position, meter, bar_start[:-1]),
        np.searchsorted(onset, bar_start),
        tempo_position,
        tempo,
        meter_position,
        meter,
        0,
        None,
        lost,
    )
    return _normalised(grid) if normalise else grid


def _bar_lines(meter_position: np.ndarray, bar_length: np.ndarray, last: int) -> np.ndarray:
    """First positions of all bars up to position ``last``, and ``last + 1``; int64 [B + 1]."""
    if len(meter_position) == 1:
        return np.append(np.arange(0, last + 1, bar_length[0]), last + 1)
    starts, _, lengths = bar_runs(meter_position, bar_length)
    used = int(np.searchsorted(starts, last, side="right"))
    ends = np.append(starts[1:used], last + 1)
    runs = zip(starts[:used].tolist(), ends.tolist(), lengths[:used].tolist(), strict=True)
    return np.concatenate([*(np.arange(*run) for run in runs), [last + 1]])


def _cut_before(position: np.ndarray, code: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """The changes from ``start`` on, relative to it; the code in effect at ``start`` is at 0."""
    running = int(np.searchsorted(position, start, side="right")) - 1
    return np.maximum(position[running:] - start, 0), code[running:]


def _cut_after(position: np.ndarray, code: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The changes up to and including position ``end``."""
    if position[-1] <= end:
        return position, code
    count = int(np.searchsorted(position, end, side="right"))
    return position[:count], code[:count]


def at_positions(position: np.ndarray, code: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The codes in effect at the positions ``queries``, int64 [Q], given the changes from position 0 on."""
    if len(code) == 1:
        return np.full(len(queries), code[0])
    return code[np.searchsorted(position, queries, side="right") - 1]


def _normalised(grid: Grid) -> Grid:
    drums = int(np.count_nonzero(grid.program == DRUMS))
    melodic = slice(None) if drums == 0 else grid.program != DRUMS
    weight = DURATION_VALUES[grid.duration[melodic]] * (4 * grid.velocity[melodic] + 2)
    shift, major = key_of(grid.pitch[melodic], weight)
    if shift:
        grid.pitch[melodic] += shift
    return replace(grid, shift=shift, major=major)


# ------------------------------------------------------------------------------------------------------------ encode


def check_layout(layout: str) -> str:
    """Return the layout; raises :class:`OptionError` if it does not exist."""
    if layout not in LAYOUTS:
        raise OptionError(f"layout {layout}: accepted is {', '.join(LAYOUTS)}.")
    return layout


def encode_grid(grid: Grid, layout: str = BAR_TEMPO) -> tuple[np.ndarray, np.ndarray]:
    """Encode a piece.

    Parameters
    ----------
    grid : Grid
    layout : str
        One of :data:`LAYOUTS`.

    Returns
    -------
    uint16 [T], int64 [B]
        The ids without specials, and the index after each bar's ``b-1``.
    """
    check_layout(layout)
    bars, n = grid.bars, len(grid.onset)
    header = {BAR_TEMPO: 2, POSITION_TEMPO: 1}.get(layout, 0)
    onset_words = 2 if layout == POSITION_TEMPO else 1
    note_words = 2 if layout in NOTES_ALONE else 3
    bar = np.repeat(np.arange(bars), np.diff(grid.first_note))
    if layout == NOTES_BY_PROGRAM:
        order = np.argsort(bar << 8 | grid.program, kind="stable")
        columns = ("onset", "program", "pitch", "duration", "velocity")
        grid = replace(grid, **{column: getattr(grid, column)[order] for column in columns})

    new_onset = np.empty(n, bool)
    new_onset[0] = True
    np.not_equal(grid.onset[1:], grid.onset[:-1], out=new_onset[1:])
    new_program = np.empty(n, bool)
    new_program[0] = True
    np.not_equal(grid.program[1:], grid.program[:-1], out=new_program[1:])
    if layout == NOTES_BY_PROGRAM:
        new_program[1:] |= bar[1:] != bar[:-1]
        new_onset |= new_program
    else:
        new_program |= new_onset
    onsets, programs = np.flatnonzero(new_onset), np.flatnonzero(new_program)

    # The index after each note's words: first without the words of bar headers and ends, then with them.
    words = np.full(n, note_words)
    words[programs] += 1
    words[onsets] += onset_words
    after = np.cumsum(words)
    words_before_bar = np.concatenate(([0], after))[grid.first_note]
    after += bar * (header + 1) + header
    bar_begin = words_before_bar[:-1] + np.arange(bars) * (header + 1)
    bar_end = words_before_bar[1:] + np.arange(1, bars + 1) * (header + 1)

    out = np.empty(int(bar_end[-1]), np.uint16)
    out[bar_end - 1] = BAR_END
    if header:
        out[bar_begin] = METER + grid.bar_meter
    if layout == BAR_TEMPO:
        out[bar_begin + 1] = TEMPO + at_positions(grid.tempo_position, grid.tempo, grid.bar_start[:-1])
    note = after - note_words
    out[note] = PITCH + grid.pitch + ((grid.program == DRUMS) << 7)
    out[note + 1] = DURATION + grid.duration
    if note_words == 3:
        out[note + 2] = VELOCITY + grid.velocity
    by_program = layout == NOTES_BY_PROGRAM
    out[note[programs] - 1 - by_program] = INSTRUMENT + grid.program[programs]
    onset_word = note[onsets] - (1 if by_program else 1 + onset_words)
    out[onset_word] = ONSET + grid.onset[onsets] - grid.bar_start[bar[onsets]]
    if layout == POSITION_TEMPO:
        out[onset_word + 1] = TEMPO + at_positions(grid.tempo_position, grid.tempo, grid.onset[onsets])
    return out, bar_end


def grid_for(score: Score, layout: str = BAR_TEMPO, *, plain: bool = False) -> Grid:
    """Quantise a score as the data pipeline does for a layout, or, if ``plain``, unchanged; see :func:`encode`."""
    if plain:
        return grid_of(score, trim=False, normalise=False, shortest=0)
    return grid_of(score, trim=layout not in NOTES_ALONE)


def encode(score: Score, layout: str = BAR_TEMPO, *, plain: bool = False) -> np.ndarray:
    """The ids, uint16 [T], of a whole piece, without specials.

    Parameters
    ----------
    score : Score
    layout : str
        One of :data:`LAYOUTS`.
    plain : bool
        Keep silence, key and durations below one position unchanged.

    Raises
    ------
    ScoreError
        Reason ``"no notes"``.
    OptionError
        The layout does not exist.
    """
    check_layout(layout)
    return encode_grid(grid_for(score, layout, plain=plain), layout)[0]


# ------------------------------------------------------------------------------------------------------------ decode

# letter of every id as its index in "boipdvst"; -1 for specials, which are ignored, 8 for words that are not music
_LETTERS = "boipdvst"
_B, _O, _I, _P, _D, _V, _S, _T = range(8)
_STRANGE = 8
_KIND = np.full(MUSIC_END, _STRANGE, np.int8)
_VALUE = np.zeros(MUSIC_END, np.int64)
_KIND[: UNK + 1] = [-1, -1, -1, _STRANGE]
for _kind, _letter in enumerate(_LETTERS):
    _KIND[OFFSETS[_letter] : OFFSETS[_letter] + SIZES[_letter]] = _kind
    _VALUE[OFFSETS[_letter] : OFFSETS[_letter] + SIZES[_letter]] = np.arange(SIZES[_letter])
_KIND[OFFSETS["b"]] = _STRANGE  # b-0 has no meaning


def music_of(ids: np.ndarray) -> np.ndarray:
    """The ids after the first ``<sep>``; all of them if there is none."""
    ids = np.asarray(ids, np.int64).ravel()
    separators = np.flatnonzero(ids == SEPARATOR)
    return ids[separators[0] + 1 :] if len(separators) else ids


def decode_with_repairs(
    ids: np.ndarray, meter: tuple[int, int] = DEFAULT_METER, layout: str | None = None
) -> tuple[Score, Counter[str]]:
    """Decode any sequence of ids, and count the repairs that it needs.

    The words up to the first ``<sep>``, and all ``<s>``, ``</s>`` and ``<pad>``, are ignored.  Repairs:

    * a word that is not music, a pitch without a duration, a duration or velocity without a pitch, and an onset or a
      program that no note follows are ignored;
    * a note without an expected velocity gets 96;
    * a note before any onset of its bar begins at the bar line; a note before any ``i`` gets program 0; a note whose
      ``i`` is missing after its ``o`` keeps the previous program (in ``notes-by-program``, one whose ``o`` is missing
      after its ``i`` keeps the previous position);
    * a pitch of the wrong kind (drum or melodic) moves by 128; a duration above ``d-95`` becomes ``d-95``;
    * an onset beyond the end of its bar sounds inside the next bar;
    * a bar without an expected time signature keeps the previous one; a second time signature in a bar is ignored; 1/64
      becomes 2/64.

    Parameters
    ----------
    ids : int [T]
        Any numbers.
    meter : (int, int)
        Time signature of bars before the first ``s``.
    layout : str, optional
        The expected layout; without it, and for :data:`FREE`, velocities (time signatures) are expected if there are
        any, and words are taken to be ordered by program if more ``i`` are followed by ``o`` than by ``p``.

    Returns
    -------
    Score, Counter
        At 480 ticks per quarter note, one track per program; and the number of repairs by kind.
    """
    ids = music_of(ids)
    layout = None if layout == FREE else layout
    repairs: Counter[str] = Counter()
    known = (ids >= 0) & (ids < MUSIC_END)
    kind = np.where(known, _KIND[np.where(known, ids, 0)], _STRANGE)
    repairs["word that is no music"] = int((kind == _STRANGE).sum())
    keep = (kind >= 0) & (kind < _STRANGE)
    kind, value = kind[keep], _VALUE[ids[keep]]
    count = len(kind)
    bar_end = kind == _B
    bar = np.cumsum(bar_end) - bar_end
    if count and not bar_end[-1]:
        repairs["last bar not closed"] = 1
    bars = int(bar[-1]) + 1 if count else 0
    with_meters = layout not in NOTES_ALONE if layout else bool((kind == _S).any())
    bar_meter = _bar_meters(kind, value, bar, bars, meter, with_meters, repairs)
    bar_start = np.concatenate(([0], np.cumsum(BAR_LENGTHS[bar_meter])))

    last_onset, last_bar_end, last_program = latest(kind == _O), latest(bar_end), latest(kind == _I)
    # An index of -1 reads the last word; these values are replaced below.
    placed = last_onset > last_bar_end
    position = np.where(placed, value[last_onset], 0) if count else value
    time = bar_start[bar] + position

    following = np.append(kind[1:], [-1, -1])[:count]
    after_next = np.append(kind[2:], [-1, -1, -1])[:count]
    note = np.flatnonzero((kind == _P) & (following == _D))
    by_program = layout == NOTES_BY_PROGRAM if layout else _is_by_program(kind)
    if by_program:
        note = note[np.argsort(time[note], kind="stable")]
    velocities = kind == _V
    expected = layout not in NOTES_ALONE if layout else bool(velocities.any())
    has_velocity = after_next[note] == _V
    repairs["pitch without a duration"] = int((kind == _P).sum()) - len(note)
    repairs["duration without a pitch"] = int((kind == _D).sum()) - len(note)
    repairs["velocity without a note"] = int(velocities.sum()) - int(has_velocity.sum())
    velocity = np.where(has_velocity, value[np.minimum(note + 2, count - 1)] * 4 + 2 if count else 0, DEFAULT_VELOCITY)
    if expected:
        repairs["note without a velocity"] = int(len(note) - has_velocity.sum())
    elif layout:
        repairs["velocity in a layout without"] = int(has_velocity.sum())

    onset_due, instrument_due = last_bar_end, last_bar_end
    if by_program:
        onset_due = np.maximum(last_program, last_bar_end)
    else:
        instrument_due = np.maximum(last_onset, last_bar_end)
    repairs["note without an onset"] = int((last_onset[note] <= onset_due[note]).sum())
    repairs["note without an instrument"] = int((last_program[note] < np.maximum(instrument_due[note], 0)).sum())
    repairs["onset that no note follows"] = int((kind == _O).sum()) - len(np.unique(last_onset[note[placed[note]]]))
    played = np.unique(last_program[note])
    repairs["instrument that no note follows"] = int((kind == _I).sum()) - int((played >= 0).sum())
    repairs["onset beyond the bar"] = int(((kind == _O) & (value >= BAR_LENGTHS[bar_meter][bar])).sum() if count else 0)
    program = np.where(last_program[note] >= 0, value[last_program[note]], 0)
    pitch = value[note]
    wrong_kind = (program == DRUMS) != (pitch >= 128)
    repairs["drum pitch"] = int(wrong_kind.sum())
    duration = value[np.minimum(note + 1, count - 1)] if count else note
    repairs["duration out of range"] = int((duration >= DURATIONS).sum())
    onset = time[note]
    in_time = onset < END_OF_TIME
    if not in_time.all():
        repairs["note out of reach"] = int((~in_time).sum())

    if not bars:
        return Score.of(TICKS_PER_QUARTER, (), (), ()), +repairs
    tempo_position, tempo = time[kind == _T], value[kind == _T]
    order = np.argsort(tempo_position, kind="stable")
    tempo_position, tempo = changes_from_start(tempo_position[order], tempo[order], DEFAULT_TEMPO_CODE)
    in_reach, bars_in_reach = tempo_position < END_OF_TIME, bar_start[:-1] < END_OF_TIME
    length = np.maximum(DURATION_VALUES[np.minimum(duration, DURATIONS - 1)], 1)
    score = score_of_positions(
        [column[in_time] for column in (onset, length, program, pitch, velocity)],
        (tempo_position[in_reach], tempo[in_reach]),
        (bar_start[:-1][bars_in_reach], bar_meter[bars_in_reach]),
        TICKS_PER_POSITION,
    )
    return score, +repairs


def _is_by_program(kind: np.ndarray) -> bool:
    """Whether kinds of words look like the layout ``notes-by-program``: more ``i o`` than ``i p``."""
    following = kind[1:][kind[:-1] == _I]
    return bool((following == _O).sum() > (following == _P).sum())


def is_by_program(ids: np.ndarray) -> bool:
    """Whether music (int [T], ids of words) looks ordered by program; see :func:`decode_with_repairs`."""
    ids = np.asarray(ids, np.int64)
    return _is_by_program(_KIND[ids[(ids > UNK) & (ids < MUSIC_END)]])


def _bar_meters(
    kind: np.ndarray,
    value: np.ndarray,
    bar: np.ndarray,
    bars: int,
    meter: tuple[int, int],
    expected: bool,
    repairs: Counter[str],
) -> np.ndarray:
    """The time-signature code of every bar: its first ``s``, else the previous bar's; ``meter`` before the first."""
    given = np.flatnonzero(kind == _S)
    first_of_bar = np.unique(bar[given], return_index=True)[1]
    repairs["second meter in a bar"] = len(given) - len(first_of_bar)
    if expected:
        repairs["bar without a meter"] = bars - len(first_of_bar)
    given = given[first_of_bar]
    repairs["meter without length"] = int((value[given] == NO_LENGTH).sum())
    codes = np.full(bars, -1)
    codes[bar[given]] = np.where(value[given] == NO_LENGTH, _SHORTEST, value[given])
    known = latest(codes >= 0)
    return np.where(known >= 0, codes[known], meter_code(*meter)) if bars else codes


def decode(ids: np.ndarray, meter: tuple[int, int] = DEFAULT_METER) -> Score:
    """Decode any sequence of ids (int [T]); see :func:`decode_with_repairs`."""
    return decode_with_repairs(ids, meter)[0]


def bar_notes(ids: np.ndarray) -> list[np.ndarray]:
    """The notes of each bar of ids (int [T]): int64 [N, 4] of position, program, pitch and duration in positions.

    Drums have pitches from 128 on.  The notes are those of :func:`decode_with_repairs`, for any time signature.
    """
    ids = music_of(ids)
    ends = np.flatnonzero(ids == BAR_END) + 1
    bars = []
    for bar in np.split(ids, ends):
        if len(bar) == 0:
            continue
        score = decode(bar)
        table = np.stack([score.onset, score.program, score.pitch, score.end - score.onset], axis=1).astype(np.int64)
        table[:, [0, 3]] //= TICKS_PER_POSITION
        table[:, 2] += (table[:, 1] == DRUMS) << 7
        bars.append(table)
    return bars


# ------------------------------------------------------------------------------------------------------------- words


def command_words() -> list[str]:
    """The 268 command words: ``KEY_member_class`` of attributes with members, ``KEY_class`` of others."""
    words = []
    for key, members, classes in COMMANDS:
        stems = [f"{key}_{member}" for member in range(members)] if members else [key]
        words += [f"{stem}_{number}" for stem in stems for number in range(classes)]
    return words


def dictionary_words() -> list[str]:
    """The words of ``dict.txt``, in order."""
    music = [f"{letter}-{value}" for letter, size in SIZES.items() for value in range(size)]
    return [*music, "<sep>", *command_words()]


WORDS = ("<s>", "<pad>", "</s>", "<unk>", *dictionary_words())  # by id
_IDS = {word: number for number, word in enumerate(WORDS)}


def to_words(ids: np.ndarray) -> str:
    """The ids (int [T], 0..1252) as one line of words."""
    return " ".join([WORDS[number] for number in ids.tolist()])


def from_words(line: str) -> np.ndarray:
    """The ids, int64 [T], of a line of words; unknown words become ``<unk>``."""
    return np.array([_IDS.get(word, UNK) for word in line.split()], np.int64)


def dictionary_text() -> str:
    """The content of ``dict.txt``: 1,249 rows of a word and the count 1; its sha256 is :data:`DICTIONARY_SHA256`."""
    return "".join(f"{word} 1\n" for word in dictionary_words())


def is_dictionary(data: bytes) -> bool:
    """Whether the bytes of a ``dict.txt`` are this codec's dictionary; see :func:`.octuple.is_dictionary`."""
    return octuple.is_dictionary(data, DICTIONARY_SHA256)
