"""OctupleMIDI: one token of eight fields per note (MusicBERT, arXiv 2106.05630, section 3.2).

A piece is an ``int32 [N, 8]`` array, a row per note, sorted lexicographically; duplicates are kept.  The fields, in the
order of the published code and checkpoints (which is not that of the paper's figure):

=====  ==============  ======  ======================================================================================
field  name            values  meaning
=====  ==============  ======  ======================================================================================
0      bar             256     bar of the onset, from 0.  :func:`encode` does not limit it; :func:`split_bars` does
1      position        128     sixteenths of a quarter note since the bar line
2      program         129     General MIDI program; 128 for any drum track
3      pitch           256     MIDI pitch; 128 + key for drums
4      duration        128     duration code, see :func:`duration_code`
5      velocity        32      MIDI velocity // 4; decoded as 4 v + 2
6      time_signature  254     time signature at the onset, see :func:`meter_code`
7      tempo           49      round(12 log2(bpm / 16)) with bpm clamped to 16..256, at the onset
=====  ==============  ======  ======================================================================================

Time
    A tick becomes a position by ``round(16 tick / resolution)``, half to even.  Onsets, ends, tempo and time-signature
    changes are rounded independently, and a duration is the difference of two rounded positions.

    The published encoding leaves out notes from position 65,536 on (:data:`PUBLISHED_END`, 1,024 bars of 4/4).  Only
    its printed form and its stored windows depend on that limit, so that of :func:`encode` is :data:`REACH`, 36 hours
    at 120 quarter notes per minute.  Commands report notes that are left out.

Bars
    A bar keeps the length given by the time signature at its first position.  A change inside a bar does not cut it:
    later notes of the bar have the code of the new time signature, whose bar length applies from the next bar on.

Time signatures
    Denominators 1, 2, 4, ... 64, numerators up to twice the denominator (two whole notes): 254 codes.  Others are
    reduced: numerator and denominator are halved while the denominator exceeds 64 and both are even; then the
    numerator is divided by its smallest prime factor while it exceeds twice the denominator (9/4 becomes 3/4, 11/4
    becomes 1/4).  If the result is still outside the vocabulary (3/128), the piece is refused.

Tokens
    The word of value v of field f is ``<f-v>``; the dictionary lists them field by field, 1,232 in all, after fairseq's
    four specials, and the task appends ``<mask>``.  A sequence is framed by eight ``<s>`` and eight ``</s>``.

Round trip: ``encode(decode(encode(s)))`` equals ``encode(s)`` for pieces whose notes of one program and pitch do not
overlap and whose time signatures change only at bar lines.  In other pieces differences occur, since tracks of one
program are merged, a bar is written with one time signature, and tempi at one position are averaged.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import ScoreError

FIELDS = ("bar", "position", "program", "pitch", "duration", "velocity", "time_signature", "tempo")
FIELD_SIZES = (256, 128, 129, 256, 128, 32, 254, 49)
BAR, POSITION, PROGRAM, PITCH, DURATION, VELOCITY, TIME_SIGNATURE, TEMPO = range(8)
BARS = 256  # bars in the vocabulary

BOS, PAD, EOS, UNK = range(4)  # fairseq's specials
FIELD_OFFSETS = tuple(int(offset) for offset in 4 + np.concatenate(([0], np.cumsum(FIELD_SIZES)[:-1])))
VOCABULARY_SIZE = 4 + sum(FIELD_SIZES)  # 1236: specials and words, without <mask>
MASK = VOCABULARY_SIZE
DICTIONARY_SHA256 = "a8506122e3fac48bc3564f899aa1e150073feb666ac51ac6b6332725a99b83df"

POSITIONS_PER_QUARTER = 16
POSITIONS_PER_WHOLE = 64
PUBLISHED_END = 65536  # positions; the published encoding leaves out notes from here on
REACH = 2**22  # positions; notes from here on are left out, so that a tiny MIDI file cannot need gigabytes of bars
TICKS_PER_QUARTER = 480  # of decoded scores
TICKS_PER_POSITION = TICKS_PER_QUARTER // POSITIONS_PER_QUARTER
DEFAULT_METER = (4, 4)
LARGEST_DENOMINATOR = 64


def duration_values(per_octave: int) -> np.ndarray:
    """Lower edges, int64, of duration codes: eight octaves of codes, whose width doubles with every octave."""
    steps = range(per_octave)
    return np.array([per_octave * (2**octave - 1) + step * 2**octave for octave in range(8) for step in steps])


DURATION_VALUES = duration_values(POSITIONS_PER_QUARTER)
_LONGEST_DURATION = 4080  # from here on every length has the last code
_DURATION_CODES = (DURATION_VALUES.searchsorted(np.arange(_LONGEST_DURATION + 1), side="right") - 1).astype(np.int64)

METER_DENOMINATORS = np.concatenate([np.full(2 * 2**exponent, 2**exponent) for exponent in range(7)])
METER_NUMERATORS = np.concatenate([np.arange(1, 2 * 2**exponent + 1) for exponent in range(7)])
BAR_LENGTHS = np.maximum(METER_NUMERATORS * POSITIONS_PER_WHOLE // METER_DENOMINATORS, 1)  # by time-signature code

TEMPO_VALUES = 16.0 * 2.0 ** (np.arange(49) / 12.0)  # quarter notes per minute, by tempo code


def duration_code(positions: np.ndarray) -> np.ndarray:
    """Codes 0..127 of lengths in positions (>= 0): the largest code whose value is not above the length."""
    return _DURATION_CODES[np.minimum(positions, _LONGEST_DURATION)]


def tempo_code(bpm: np.ndarray) -> np.ndarray:
    """Codes 0..48 of tempi in quarter notes per minute, clamped to 16..256."""
    return np.rint(12.0 * np.log2(np.clip(bpm, 16.0, 256.0) / 16.0)).astype(np.int64)


DEFAULT_TEMPO_CODE = int(tempo_code(np.array(120.0)))  # 35


def reduce_meter(numerator: int, denominator: int) -> tuple[int, int]:
    """Reduce a time signature by the rules of the module; the result may still be outside the vocabulary."""
    while denominator > LARGEST_DENOMINATOR and denominator % 2 == 0 and numerator % 2 == 0:
        numerator, denominator = numerator // 2, denominator // 2
    while numerator > 2 * denominator:
        factor = next((f for f in range(2, int(numerator**0.5) + 1) if numerator % f == 0), numerator)
        numerator //= factor
    return numerator, denominator


def meter_code(numerator: int, denominator: int) -> int:
    """The code 0..253 of a time signature after reduction (4/4 is 9).

    Raises
    ------
    ScoreError
        Reason ``"unsupported meter"``: the reduced time signature is not in the vocabulary.
    """
    n, d = reduce_meter(int(numerator), int(denominator))
    if d < 1 or n < 1 or d > LARGEST_DENOMINATOR or d & (d - 1):
        raise ScoreError(
            "unsupported meter",
            f"the time signature {numerator}/{denominator} is outside the vocabulary (denominators 1, 2, 4, ... 64).",
        )
    return 2 * d - 2 + n - 1


DEFAULT_METER_CODE = meter_code(*DEFAULT_METER)  # 9


def positions(ticks: np.ndarray, resolution: int, per_quarter: int = POSITIONS_PER_QUARTER) -> np.ndarray:
    """Positions, int64, ``per_quarter`` per quarter note: ``round(per_quarter tick / resolution)``, half to even."""
    return np.rint(ticks * float(per_quarter) / resolution).astype(np.int64)


def bar_runs(meter_position: np.ndarray, bar_length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of bars of equal length: their first positions, first bars and bar lengths, from position 0 on.

    Bars that begin at or after ``meter_position[i]`` have ``bar_length[i]`` positions; the first length applies from 0.
    A run begins with the first bar line at or after its change, since a change inside a bar does not alter that bar.
    """
    starts, bars, lengths = [0], [0], [int(bar_length[0])]
    for position, new_length in zip(meter_position[1:].tolist(), bar_length[1:].tolist(), strict=True):
        length = lengths[-1]
        whole = max(-((starts[-1] - position) // length), 0)  # bars of the running length that begin before the change
        starts.append(starts[-1] + whole * length)
        bars.append(bars[-1] + whole)
        lengths.append(new_length)
    return np.array(starts), np.array(bars), np.array(lengths)


def changes_from_start(position: np.ndarray, code: np.ndarray, default: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and codes of changes from 0 on, with the last of those at equal positions, and ``default`` before."""
    if len(position) == 0:
        return np.zeros(1, np.int64), np.array([default])
    last = np.append(position[1:] > position[:-1], True)
    position, code = position[last], code[last]
    if position[0] > 0:
        position, code = np.insert(position, 0, 0), np.insert(code, 0, default)
    return position, code


def latest(holds: np.ndarray) -> np.ndarray:
    """For every index, the last index up to it at which ``holds`` (bool [T]) is true; -1 if there is none."""
    return np.maximum.accumulate(np.where(holds, np.arange(len(holds)), -1))


Changes = tuple[np.ndarray, np.ndarray]
"""Ascending positions from 0 on, and the code in effect from each."""


def code_changes(
    score: Score, per_quarter: int = POSITIONS_PER_QUARTER, code_of_meter: Callable[[int, int], int] = meter_code
) -> tuple[Changes, Changes]:
    """The changes of time signature and of tempo of a score, on a grid of ``per_quarter`` positions.

    Parameters
    ----------
    score : Score
    per_quarter : int
        Positions of a quarter note.
    code_of_meter : callable
        From numerator and denominator to a code; may raise ScoreError.  Time signatures without effect (replaced at
        their own position, or after the last onset) may be outside the vocabulary: they are left out.
    """
    position = positions(score.meter_tick, score.resolution, per_quarter)
    meters = list(zip(score.meter_numerator.tolist(), score.meter_denominator.tolist(), strict=True))
    try:
        codes = [code_of_meter(numerator, denominator) for numerator, denominator in meters]
    except ScoreError:
        kept = _effective(position, score, per_quarter)
        position, codes = position[kept], [code_of_meter(*meters[index]) for index in kept.tolist()]
    return (
        changes_from_start(position, np.array(codes, np.int64), DEFAULT_METER_CODE),
        changes_from_start(
            positions(score.tempo_tick, score.resolution, per_quarter), tempo_code(score.tempo_bpm), DEFAULT_TEMPO_CODE
        ),
    )


def _effective(position: np.ndarray, score: Score, per_quarter: int) -> np.ndarray:
    """The indices of the changes at ``position`` that none at the same position replaces, up to the last onset."""
    last = positions(score.onset.max(initial=-1), score.resolution, per_quarter)
    replaced = np.append(position[1:] == position[:-1], False)
    return np.flatnonzero(~replaced & (position <= last))


def _held(begins: np.ndarray, values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The value [N] in effect at each of ``queries`` (sorted), if ``values[i]`` applies from ``begins[i]`` (sorted)."""
    first = np.searchsorted(queries, begins)
    return np.repeat(values, np.diff(first, append=len(queries)))


def encode(score: Score, end: int = REACH) -> np.ndarray:
    """Encode a whole piece.

    Parameters
    ----------
    score : Score
    end : int
        Notes from this position on are left out; at most :data:`REACH`.  :data:`PUBLISHED_END` gives the published
        encoding.

    Returns
    -------
    int32 [N, 8]
        A row per note with an onset before position ``end``, sorted lexicographically.  Bars count from 0 at the
        score's first tick and may exceed 255.

    Raises
    ------
    ScoreError
        Reason ``"unsupported meter"`` or ``"no notes"`` (none before position ``end``).
    """
    (meter_position, meter), (tempo_position, tempo) = code_changes(score)
    onset = positions(score.onset, score.resolution)
    length = positions(score.end, score.resolution)
    length -= onset
    drums = score.program == DRUMS
    # One 64-bit key per note sorts as the eight fields do, since the onset determines bar, position, time signature and
    # tempo.
    key = onset << 28
    key |= score.program.astype(np.int64) << 20
    key |= (score.pitch + drums * np.int16(128)).astype(np.int64) << 12
    key |= duration_code(length) << 5
    key |= (score.velocity >> 2).astype(np.int64)
    key.sort()
    key = key[: np.searchsorted(key, end << 28)]
    if len(key) == 0:
        raise ScoreError(
            "no notes", f"no note begins before position {end} ({end // POSITIONS_PER_WHOLE:,} bars of 4/4)."
        )
    onset = key >> 28

    out = np.empty((len(key), 8), np.int32)
    out[:, PROGRAM] = (key >> 20) & 255
    out[:, PITCH] = (key >> 12) & 255
    out[:, DURATION] = (key >> 5) & 127
    out[:, VELOCITY] = key & 31

    if len(tempo) == 1:
        out[:, TEMPO] = tempo[0]
    else:
        out[:, TEMPO] = _held(tempo_position, tempo, onset)
    if len(meter) == 1:
        out[:, TIME_SIGNATURE] = meter[0]
        length = BAR_LENGTHS[meter[0]]
        bar = onset // length
        out[:, BAR] = bar
        out[:, POSITION] = onset - bar * length
    else:
        out[:, TIME_SIGNATURE] = _held(meter_position, meter, onset)
        starts, bars, lengths = bar_runs(meter_position, BAR_LENGTHS[meter])
        length = _held(starts, lengths, onset)
        since = onset - _held(starts, starts, onset)
        bar = since // length
        out[:, BAR] = _held(starts, bars, onset) + bar
        out[:, POSITION] = since - bar * length
    return out


def encoding_order(score: Score) -> np.ndarray:
    """The note of each row of ``encode(score)``.

    Returns
    -------
    int64 [number of notes]
        The index in ``score`` of the note of each row, in the order of the rows; notes of equal rows are in the order
        of the score.  Notes that :func:`encode` leaves out come last.
    """
    onset = positions(score.onset, score.resolution)
    length = positions(score.end, score.resolution) - onset
    pitch = score.pitch + 128 * (score.program == DRUMS)
    return np.lexsort((score.velocity >> 2, duration_code(length), pitch, score.program, onset))


def split_bars(octuples: np.ndarray) -> list[np.ndarray]:
    """Split a piece into its non-empty parts: bars 256 k to 256 k + 255, which are counted from 0 in each part."""
    if octuples[-1, BAR] < BARS:
        return [octuples]
    part = octuples[:, BAR] // BARS
    parts = np.split(octuples, np.flatnonzero(np.diff(part)) + 1)
    return [rows - np.array([rows[0, BAR] // BARS * BARS, 0, 0, 0, 0, 0, 0, 0], rows.dtype) for rows in parts]


# ------------------------------------------------------------------------------------------------------------ repair


def repair(octuples: np.ndarray) -> tuple[np.ndarray, Counter[str]]:
    """Turn any rows of eight integers into valid octuples (but for bars above 255), and count the repairs.

    Rules, in this order:

    * a row whose bar is :data:`REACH` or above is removed, since no note can begin there;
    * every field is clamped to its range (bars only to 0 from below);
    * a pitch below 128 of a drum note moves up by 128, and a pitch from 128 on of another note moves down by 128;
    * a row whose onset, with the bar lengths of :func:`decode_with_repairs`, is at or beyond position :data:`REACH` is
      removed.

    Parameters
    ----------
    octuples : int [N, 8]

    Returns
    -------
    int64 [M, 8], Counter
        The remaining rows, sorted; and the number of rows that each rule changed, under ``"bar out of reach"``
        (removed), ``"<field> out of range"`` and ``"drum pitch"``.
    """
    rows = np.asarray(octuples)
    if rows.size and (rows.ndim != 2 or rows.shape[1] != 8):
        raise ValueError(f"octuples have shape {rows.shape}; (N, 8) is needed")
    rows = rows.reshape(-1, 8).astype(np.int64)
    repairs: Counter[str] = Counter()
    reachable = rows[:, BAR] < REACH
    if not reachable.all():
        repairs["bar out of reach"] = int((~reachable).sum())
        rows = rows[reachable]
    highest = np.array([REACH, *FIELD_SIZES[1:]]) - 1
    clamped = np.clip(rows, 0, highest)
    for field in np.flatnonzero((clamped != rows).any(axis=0)):
        repairs[f"{FIELDS[field]} out of range"] = int((clamped[:, field] != rows[:, field]).sum())
    wrong_kind = (clamped[:, PROGRAM] == DRUMS) != (clamped[:, PITCH] >= 128)
    if wrong_kind.any():
        repairs["drum pitch"] = int(wrong_kind.sum())
        clamped[wrong_kind, PITCH] ^= 128
    rows = clamped[np.lexsort(clamped.T[::-1])]
    if len(rows) and (int(rows[-1, BAR]) + 1) * int(BAR_LENGTHS.max()) > REACH:
        reachable = bar_starts(rows)[rows[:, BAR]] + rows[:, POSITION] < REACH
        if not reachable.all():
            repairs["bar out of reach"] += int((~reachable).sum())
            rows = rows[reachable]
    return rows, repairs


def _bar_meters(octuples: np.ndarray) -> np.ndarray:
    """The time-signature code of every bar: the most frequent one of its notes (of equally frequent ones the lowest).

    An empty bar has the code of the previous bar; before the first note it is 4/4.
    """
    pairs, counts = np.unique(octuples[:, BAR] * 256 + octuples[:, TIME_SIGNATURE], return_counts=True)
    bar, code = pairs >> 8, pairs & 255
    order = np.lexsort((code, -counts, bar))
    first = np.unique(bar[order], return_index=True)
    known = np.full(int(bar[-1]) + 1, -1)
    known[first[0]] = code[order][first[1]]
    last_known = latest(known >= 0)
    return np.where(last_known >= 0, known[last_known], DEFAULT_METER_CODE)


def bar_starts(octuples: np.ndarray) -> np.ndarray:
    """First positions of the bars of a decoded piece, and the end of the last bar; int64 [bars + 1]."""
    return np.concatenate(([0], np.cumsum(BAR_LENGTHS[_bar_meters(octuples)])))


def decode_with_repairs(octuples: np.ndarray) -> tuple[Score, Counter[str]]:
    """Decode any sequence of octuples, and count the repairs that it needs.

    The time signature of a bar is the most frequent one of its notes; the tempo at a position is the rounded mean of
    the codes of its notes; both are written where they change.  Besides the rules of :func:`repair`, ``"position beyond
    the bar"`` counts notes whose position is beyond the end of their bar; they sound inside the next bar.

    Parameters
    ----------
    octuples : int [N, 8]
        Any values in any order; N may be 0.

    Returns
    -------
    Score, Counter
        At 480 ticks per quarter note, one track per program; and the number of notes by kind of repair.
    """
    rows, repairs = repair(octuples)
    if len(rows) == 0:
        return Score.of(TICKS_PER_QUARTER, (), (), ()), repairs
    meters = _bar_meters(rows)
    lengths = BAR_LENGTHS[meters]
    bar_start = bar_starts(rows)[:-1]
    beyond = int((rows[:, POSITION] >= lengths[rows[:, BAR]]).sum())
    if beyond:
        repairs["position beyond the bar"] = beyond
    onset = bar_start[rows[:, BAR]] + rows[:, POSITION]

    position, inverse = np.unique(onset, return_inverse=True)
    tempo = np.rint(np.bincount(inverse, rows[:, TEMPO]) / np.bincount(inverse)).astype(np.int64)
    tempi = changes_from_start(position, tempo, DEFAULT_TEMPO_CODE)
    columns = rows[:, [PROGRAM, PITCH]].T
    notes = (onset, DURATION_VALUES[rows[:, DURATION]], *columns, rows[:, VELOCITY] * 4 + 2)
    return score_of_positions(notes, tempi, (bar_start, meters), TICKS_PER_POSITION), repairs


def score_of_positions(notes: Sequence[np.ndarray], tempi: Changes, bars: Changes, ticks_per_position: int) -> Score:
    """The score of notes on a grid, with a track per program; tempi and time signatures are written where they change.

    Parameters
    ----------
    notes : int [5, N]
        Onset and duration in positions, program, pitch (for drums also 128 + key) and velocity.  A note without
        duration gets one tick.
    tempi, bars : Changes
        The tempo changes; and the first position and time-signature code of every bar.
    ticks_per_position : int
        At 480 ticks per quarter note.
    """
    onset, length, program, pitch, velocity = notes
    onset = onset * ticks_per_position
    tempo_tick, tempo = _where_changed(tempi, ticks_per_position)
    meter_tick, meter = _where_changed(bars, ticks_per_position)
    return Score(
        resolution=TICKS_PER_QUARTER,
        onset=onset,
        end=onset + np.maximum(length * ticks_per_position, 1),
        program=program.astype(np.int16),
        pitch=(pitch & 127).astype(np.int16),
        velocity=velocity.astype(np.int16),
        track=program.astype(np.int32),
        tempo_tick=tempo_tick,
        tempo_bpm=TEMPO_VALUES[tempo],
        meter_tick=meter_tick,
        meter_numerator=METER_NUMERATORS[meter],
        meter_denominator=METER_DENOMINATORS[meter],
    )


def _where_changed(changes: Changes, ticks_per_position: int) -> Changes:
    position, code = changes
    changed = np.insert(code[1:] != code[:-1], 0, True)
    return position[changed] * ticks_per_position, code[changed]


def decode(octuples: np.ndarray) -> Score:
    """Decode any sequence of octuples (int [N, 8]); see :func:`decode_with_repairs`."""
    return decode_with_repairs(octuples)[0]


# ------------------------------------------------------------------------------------------------------------ tokens

_OFFSETS = np.array(FIELD_OFFSETS)
_TILED_OFFSETS = np.tile(np.array(FIELD_OFFSETS, np.uint16), 2048)
_TILED_SIZES = np.tile(np.array(FIELD_SIZES, np.int32), 2048)
_FRAME = 8


def frame(octuples: np.ndarray) -> np.ndarray:
    """Token ids, uint16 [8 (N + 2)]: eight ``<s>``, the octuples (bars 0..255), eight ``</s>``.

    Raises
    ------
    ValueError
        A value is outside the vocabulary of its field.
    """
    n = len(octuples)
    out = np.empty(8 * n + 2 * _FRAME, np.uint16)
    out[:_FRAME] = BOS
    out[_FRAME + 8 * n :] = EOS
    if n:
        values, ids = octuples.ravel(), out[_FRAME : _FRAME + 8 * n]
        # Blocks of 2,048 rows are six times as fast as single rows.
        for start in range(0, 8 * n, len(_TILED_SIZES)):
            block = values[start : start + len(_TILED_SIZES)]
            if block.min() < 0 or (block >= _TILED_SIZES[: len(block)]).any():
                raise ValueError("an octuple is outside the vocabulary (use repair and split_bars first)")
            ids[start : start + len(block)] = block
            ids[start : start + len(block)] += _TILED_OFFSETS[: len(block)]
    return out


def unframe(ids: np.ndarray) -> tuple[np.ndarray, int]:
    """The octuples of a sequence of token ids, and the number of ids that were dropped.

    Eight consecutive ids, one of each field in order, are an octuple.  ``<s>``, ``</s>`` and ``<pad>`` are ignored;
    every other id outside an octuple (including ``<mask>`` and ``<unk>``) is dropped and counted.

    Returns
    -------
    int64 [N, 8], int
    """
    ids = np.asarray(ids, np.int64).ravel()
    ids = ids[(ids != BOS) & (ids != EOS) & (ids != PAD)]
    field = np.searchsorted(_OFFSETS, ids, side="right") - 1
    field[(ids >= VOCABULARY_SIZE) | (field < 0)] = -1
    return _group(field, ids - _OFFSETS[field])


def _group(field: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows of eight consecutive values of fields 0 to 7, and the number of values outside such rows."""
    if len(field) < 8:
        return np.empty((0, 8), np.int64), len(field)
    runs = np.lib.stride_tricks.sliding_window_view(field, 8)
    starts = np.flatnonzero((runs == np.arange(8)).all(axis=1))
    return value[starts[:, None] + np.arange(8)], len(field) - 8 * len(starts)


def to_words(octuples: np.ndarray) -> str:
    """The octuples as one line of words, ``<0-bar> <1-position> ... <7-tempo>`` per note, without specials."""
    note = "<0-%d> <1-%d> <2-%d> <3-%d> <4-%d> <5-%d> <6-%d> <7-%d> "
    return (note * len(octuples) % tuple(octuples.ravel().tolist()))[:-1]


def from_words(line: str) -> tuple[np.ndarray, int]:
    """The octuples of a line of words, and the number of words that were dropped.

    ``<s>``, ``</s>`` and ``<pad>`` are ignored; any other word that is not part of eight consecutive words of
    fields 0 to 7 is dropped and counted.  Values are not limited to the vocabulary; see :func:`repair`.

    Returns
    -------
    int64 [N, 8], int
    """
    words = [word for word in line.split() if word not in ("<s>", "</s>", "<pad>")]
    pairs = [_parse_word(word) for word in words]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return _group(table[:, 0], table[:, 1])


def _parse_word(word: str) -> tuple[int, int]:
    field, dash, value = word[1:-1].partition("-")
    if word[:1] == "<" and word[-1:] == ">" and dash and field in "01234567" and len(field) == 1:
        if value.isascii() and value.isdigit() and len(value) < 16:
            return int(field), int(value)
    return -1, 0


def dictionary_lines() -> list[str]:
    """The 1,232 lines of ``dict.txt``, each a word and the count 0."""
    return [f"<{field}-{value}> 0" for field, size in enumerate(FIELD_SIZES) for value in range(size)]


def dictionary_text() -> str:
    """The content of ``dict.txt``; its sha256 is :data:`DICTIONARY_SHA256`."""
    return "\n".join(dictionary_lines()) + "\n"


def is_dictionary(data: bytes, digest: str = DICTIONARY_SHA256) -> bool:
    """Whether the bytes of a ``dict.txt`` have this sha256, regardless of line ends and a missing last newline."""
    normalised = b"\n".join(data.split(b"\r\n")).rstrip(b"\n") + b"\n"
    return hashlib.sha256(normalised).hexdigest() == digest
