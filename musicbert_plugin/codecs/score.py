"""Scores, which every codec reads and writes, and MIDI files.

A :class:`Score` is a piece as arrays: notes, tempo changes and time signatures, all with times in ticks.  No other
codec file but ``channel_programs`` uses a MIDI library.

Reading
-------
``symusic`` parses the file.  It pairs note-ons and note-offs first-in-first-out per (track, channel, pitch), as
``miditoolkit`` 1.0.1 does, and gives a note the program of its note-on (miditoolkit: of its note-off; the two differ
only if the program changes while the note sounds).  Refused, each with a reason and a sentence: files that the parser
refuses, zero ticks per quarter note, SMPTE time (which has no beats), impossible time signatures, times outside
31 bits, files without notes, and files that exceed a :class:`Budget`.  A file that gzip has compressed (``.mid.gz``)
is read as what it holds; the budget holds for both.

Before parsing, ``midi_bytes`` finds the header where other bytes precede it and mends what it can.  Data bytes of
channel messages are at most 127: a file that the parser refuses and that has larger ones is parsed again with each of
them replaced by 127, and it is refused if it still cannot be parsed or has no note.  An invalid time signature (0/4,
2/2**33) is ignored if it is replaced at its own tick, or begins after the last onset, and otherwise the file is
refused.  ``Score.repairs`` counts all of these.

Programs are those of the note's own track, as in ``miditoolkit`` and the published octuples.  A synthesiser keeps one
program per channel, whichever track sets it: ``Score.other_program`` counts the notes that it would play with another
program (see ``channel_programs``), and ``channel_programs="use"`` reads these.

Writing
-------
Format 1 at ``score.resolution`` ticks per quarter note.  The first track, ``conductor``, has the tempi, the time
signatures and the key signatures, and no notes; one track per (track, program) of the score follows, with its name in
``Score.track_names``, or else named after the program.  Every track ends at the bar line after the last note (or at
``score.end_tick``, if that is later), so that a file can be looped as it is; tempi and time signatures beyond it are
written, and the conductor track then ends later.

Drums have channel 10.  Each melodic track has a channel of its own while there are no more than fifteen; otherwise
tracks of one program share a channel, and with more than fifteen programs different programs do, each of which then
repeats its program change before every note.  So readers that keep programs per track, readers that keep them per
channel, and synthesizers find the same program for every note.

Limits: lyrics, controllers but the sustain pedal (which is read where it is asked for), pitch bends and markers are not
read, nor are key signatures that no music has.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import symusic

from musicbert_plugin.codecs.channel_programs import COUNT, USE, Columns, channel_notes, may_differ
from musicbert_plugin.codecs.channel_programs import DRUMS as DRUMS  # the program of every drum track
from musicbert_plugin.codecs.general_midi import PROGRAM_NAMES
from musicbert_plugin.codecs.midi_bytes import (
    BAD_TEMPO,
    HIGH_BYTE,
    IDLE_METER,
    LAST_TICK,
    UNREAD_END,
    Mended,
    high_data_bytes,
    is_odd,
    mend,
    unwrap,
)
from musicbert_plugin.compression import GZIP, unpack
from musicbert_plugin.errors import ScoreError
from musicbert_plugin.files import atomic_path, open_regular

logger = logging.getLogger(__name__)
CAN_BE_RAISED = "the budget can be raised"
SUSTAIN = 64  # the controller of the sustain pedal


class Pedal(NamedTuple):
    """The positions of the sustain pedal (controller 64) of all tracks with notes, in the order of time.

    Attributes
    ----------
    tick : int64 [P]
    value : int16 [P]
        From 0 (up) to 127 (down); synthesisers without half-pedalling take 64 and above for down.
    track : int32 [P]
        The track whose pedal it is, as in ``Score.track``; -1 where ``Score.track_names`` are not known.
    """

    tick: np.ndarray
    value: np.ndarray
    track: np.ndarray


@dataclass(frozen=True, eq=False)
class Score:
    """A piece of music as arrays; all times are ticks, ``resolution`` to the quarter note.

    Attributes
    ----------
    resolution : int
        Ticks per quarter note, at least 1.
    onset, end : int64 [N]
        First tick of each note, and the tick at which it ends (``end >= onset``).
    program : int16 [N]
        General MIDI program 0..127, or :data:`DRUMS` (128) for any drum track.
    pitch, velocity : int16 [N]
        MIDI pitch 0..127 (the key of a drum); velocity 1..127.
    track : int32 [N]
        The track of each note in its source; a program may have several.
    tempo_tick, tempo_bpm : int64 [K], float64 [K]
        Tempo changes in quarter notes per minute, sorted by tick.  120 before the first.
    meter_tick, meter_numerator, meter_denominator : int64 [M]
        Time signatures, sorted by tick.  4/4 before the first.
    repairs : mapping of str to int
        What had to be repaired in the MIDI file: from kind (``midi_bytes``) to number.
    other_program : int
        Number of notes that a synthesiser plays with another program (or as drums, or no longer so), since another
        track sets the program of their channel; 0 if they were not counted.  If the file was read with
        ``channel_programs="use"``: that were therefore given another program than their track has.
    end_tick : int
        First tick after the last bar of the piece, where it is known to end later than the bar of its last note.
    track_names : tuple of str
        The name of each track of the source, where ``track`` is an index; empty for a track without a name.  Empty
        where no names are known: in scores that are no MIDI file's, and with ``channel_programs="use"`` in files where
        that changes programs, since their tracks are taken apart by channel.
    pedal : Pedal or None
        The sustain pedal, if it was asked for; functions that change or generate music drop it.
    keys : tuple of (int, int, bool)
        Key signatures, where they are known: tick, number of sharps (negative: of flats) from -7 to 7, and whether the
        key is minor; sorted by tick.
    """

    resolution: int
    onset: np.ndarray
    end: np.ndarray
    program: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    track: np.ndarray
    tempo_tick: np.ndarray
    tempo_bpm: np.ndarray
    meter_tick: np.ndarray
    meter_numerator: np.ndarray
    meter_denominator: np.ndarray
    repairs: Mapping[str, int] = field(default_factory=dict)
    other_program: int = 0
    end_tick: int = 0
    track_names: tuple[str, ...] = ()
    pedal: Pedal | None = None
    keys: tuple[tuple[int, int, bool], ...] = ()

    @property
    def repaired(self) -> int:
        """The number of all repairs."""
        return sum(self.repairs.values())

    def __len__(self) -> int:
        """The number of notes."""
        return len(self.onset)

    @classmethod
    def of(
        cls,
        resolution: int,
        onset: Any,
        end: Any,
        pitch: Any,
        velocity: Any = 64,
        program: Any = 0,
        track: Any = 0,
        tempi: Any = (),
        meters: Any = (),
    ) -> Score:
        """Make a score from sequences, after checking them.

        Parameters
        ----------
        resolution : int
            Ticks per quarter note.
        onset, end, pitch, velocity, program, track : array_like
            As the attributes; the last three may be one number for all notes.
        tempi : sequence of (tick, quarter notes per minute)
        meters : sequence of (tick, numerator, denominator)

        Raises
        ------
        ScoreError
            Reason ``"invalid score"``: lengths differ, or a value is outside the ranges above.
        """
        n = len(onset)

        def column(name: str, values: Any, dtype: Any, low: int, high: int) -> np.ndarray:
            array = np.asarray(values)
            array = np.full(n, array) if array.ndim == 0 else array
            if array.shape != (n,):
                raise ScoreError("invalid score", f"{name} has shape {array.shape}, but there are {n} onsets.")
            if n and not (low <= array.min() and array.max() <= high):
                raise ScoreError(
                    "invalid score", f"{name} goes from {array.min()} to {array.max()}; accepted is {low} to {high}."
                )
            return array.astype(dtype)

        if not 1 <= resolution <= 32767:
            raise ScoreError("invalid score", f"resolution is {resolution}; accepted is 1 to 32767 ticks per quarter.")
        tempi = sorted(tempi, key=lambda tempo: tempo[0])
        meters = sorted(meters, key=lambda meter: meter[0])
        tempo_array = np.asarray(tempi, np.float64).reshape(-1, 2)
        meter_array = np.asarray(meters, np.int64).reshape(-1, 3)
        if (tempo_array[:, 1] <= 0).any() or (meter_array[:, 1:] <= 0).any():
            raise ScoreError("invalid score", "a tempo or a time signature of the score is not above 0.")
        score = cls(
            int(resolution),
            column("onset", onset, np.int64, 0, LAST_TICK),
            column("end", end, np.int64, 0, LAST_TICK),
            column("program", program, np.int16, 0, DRUMS),
            column("pitch", pitch, np.int16, 0, 127),
            column("velocity", velocity, np.int16, 1, 127),
            column("track", track, np.int32, 0, LAST_TICK),
            tempo_array[:, 0].astype(np.int64),
            tempo_array[:, 1],
            meter_array[:, 0],
            meter_array[:, 1],
            meter_array[:, 2],
        )
        if (score.end < score.onset).any():
            raise ScoreError("invalid score", "a note of the score ends before its onset.")
        return score

    def select(self, keep: np.ndarray) -> Score:
        """The score with only the notes that ``keep`` (bool [N] or indices) selects; tempi and time signatures stay."""
        columns = ("onset", "end", "program", "pitch", "velocity", "track")
        return replace(self, **{name: getattr(self, name)[keep] for name in columns})

    def finer(self, factor: int) -> Score:
        """The same music with ``factor`` times as many ticks per quarter note."""
        columns = ("resolution", "onset", "end", "tempo_tick", "meter_tick", "end_tick")
        return replace(
            self,
            pedal=None if self.pedal is None else self.pedal._replace(tick=factor * self.pedal.tick),
            keys=tuple((factor * tick, sharps, minor) for tick, sharps, minor in self.keys),
            **{name: factor * getattr(self, name) for name in columns},
        )


@dataclass(frozen=True)
class Budget:
    """Limits for a single file; larger files are refused.

    The largest of 2,255 real files holds 66,711 notes in 0.5 MB.  The defaults limit the memory of a reader to about
    50 MB.
    """

    bytes: int = 2 * 2**20
    notes: int = 200_000
    events: int = 1_000_000


def _parse(data: bytes, name: str) -> tuple[Any, int]:
    """symusic's score of a MIDI file, and the number of data bytes above 127 that were replaced.

    Raises
    ------
    ScoreError
        The data cannot be parsed.
    """
    try:
        return symusic.Score.from_midi(data), 0
    except Exception as error:  # symusic raises RuntimeError, ValueError, UnicodeDecodeError and MemoryError
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
    high = high_data_bytes(data)
    if high:
        sanitized: Any = None
        with contextlib.suppress(Exception):  # the file may have other damage
            sanitized = symusic.Score.from_midi(data, sanitize_data=True)
        if sanitized is not None and sanitized.note_num():
            return sanitized, high
    raise ScoreError("unreadable", f"{name}: damaged MIDI data ({detail}).")


def _check_division(data: bytes, name: str) -> None:
    """Raise :class:`ScoreError` if the header of a MIDI file has no ticks per quarter note."""
    if len(data) >= 14:
        (division,) = struct.unpack(">H", data[12:14])
        if division == 0:
            raise ScoreError("zero resolution", f"{name}: 0 ticks per quarter note in the header; 1 or more is needed.")
        if division & 0x8000:
            raise ScoreError("SMPTE time", f"{name}: timed in SMPTE frames; ticks per quarter note are needed.")


def _uncompressed(data: bytes, name: str, budget: Budget) -> bytes:
    """The MIDI file in a gzip file, or the data as they are."""
    if not data.startswith(GZIP):
        return data
    try:
        data = unpack(data, "gzip", budget.bytes + 1)
    except OSError as error:
        raise ScoreError("unreadable", f"{name}: a gzip file that cannot be unpacked ({error}).") from None
    if len(data) > budget.bytes:
        raise ScoreError(
            "too large", f"{name}: more than {budget.bytes} bytes unpacked; {CAN_BE_RAISED} (--max-bytes)."
        )
    return data


def repair_sentence(name: str, repairs: Mapping[str, int]) -> str:
    """The warning about a file whose score has ``repairs``."""
    listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(repairs.items()))
    return f"{name}: repaired: {listed}"


def read_midi(
    source: str | os.PathLike[str] | bytes,
    *,
    name: str = "",
    budget: Budget | None = None,
    channel_programs: str = COUNT,
    pedal: bool = False,
) -> Score:
    """Read a MIDI file; if it is given by its path, repairs are logged as a warning.

    Parameters
    ----------
    source : path or bytes
        A file, or a file's content, which may be compressed by gzip.  RMID containers are unwrapped.
    name : str
        The name of the file in error messages; default is the path.
    budget : Budget, optional
        Limits for the file.
    channel_programs : str
        The programs that a synthesiser plays notes with, whichever track of their channel sets them: ``"use"`` gives
        them to the notes; ``"count"`` counts the notes that have another one in their own track
        (``Score.other_program``; in the warning too); ``"ignore"`` saves the time for that, a third of reading.
    pedal : bool
        Whether the sustain pedal is read.

    Returns
    -------
    Score
        With at least one note.

    Raises
    ------
    ScoreError
        ``reason`` is one of ``"unreadable"``, ``"zero resolution"``, ``"SMPTE time"``, ``"bad meter"``,
        ``"bad time"``, ``"no notes"``, ``"too large"``.
    """
    budget = budget or Budget()
    if isinstance(source, bytes):
        data, name = source, name or "MIDI data"
    else:
        path = Path(source)
        name = name or str(path)
        try:
            with open_regular(path) as file:
                data = file.read(budget.bytes + 1)
        except OSError as error:
            raise ScoreError("unreadable", f"{name}: {error.strerror or error}.") from None
    if len(data) > budget.bytes:
        raise ScoreError("too large", f"{name}: more than {budget.bytes} bytes; {CAN_BE_RAISED} (--max-bytes).")
    data, repairs = unwrap(_uncompressed(data, name, budget), name)
    _check_division(data, name)
    mended = mend(data, name) if is_odd(data) else Mended(data)
    repairs += mended.repairs
    if mended.unread:
        repairs[UNREAD_END] += len(mended.unread)
    parsed, high = _parse(mended.data, name)
    if high:
        repairs[HIGH_BYTE] += high
    programs, lists, names = [], [], []
    for track in parsed.tracks:
        notes = track.notes
        if notes:
            programs.append(DRUMS if track.is_drum else track.program)
            lists.append(notes)
            names.append(track.name)
    counts = [len(notes) for notes in lists]
    if not lists:
        raise ScoreError("no notes", f"{name}: there are no notes in it{_unread(data, name)}.")
    _check_budget(parsed, sum(counts), len(data), budget, name)
    together = lists[0].copy()  # one list, since each conversion of a list to arrays has a high constant cost
    for notes in lists[1:]:
        together.extend(notes)
    columns: Columns = together.numpy()
    program = np.repeat(np.array(programs, np.int16), counts)
    part = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    differing = 0
    if channel_programs == USE or (channel_programs == COUNT and (high or may_differ(mended.data, programs.count(0)))):
        found = channel_notes(mended.data, columns, sanitize=high > 0)
        if found is not None:
            differing = int(np.count_nonzero(found.own != found.sounding))
            if channel_programs == USE:
                columns, program, part = found.columns, found.sounding, found.part
                names = []
        elif channel_programs == USE:
            logger.warning("%s: programs are those of each track: its channels cannot be told apart.", name)
    score = _score_of(parsed, columns, program, part, mended, name, repairs, differing, tuple(names))
    if pedal:
        score = replace(score, pedal=_pedal_of(parsed, known_tracks=bool(names)))
    if not isinstance(source, bytes):
        if repairs:
            logger.warning("%s", repair_sentence(name, repairs))
        if differing and channel_programs == COUNT:
            logger.warning(
                "%s: a synthesiser plays %d of %d notes with another program than their track has",
                name,
                differing,
                len(score),
            )
    return score


def _unread(data: bytes, name: str) -> str:
    """What a file without notes has after the End of Track, as the end of a sentence."""
    unread = mend(data, name).unread
    if not unread:
        return ""
    number, size = unread[0]
    return f": the End of Track of track {number} precedes {size:,} bytes, which are no MIDI events"


def _check_budget(parsed: Any, notes: int, size: int, budget: Budget, name: str) -> None:
    """Raise :class:`ScoreError` if a file of ``size`` bytes has more notes or events than its budget."""
    if notes > budget.notes:
        raise ScoreError(
            "too large", f"{name}: {notes} notes; the budget allows {budget.notes}; {CAN_BE_RAISED} (--max-notes)."
        )
    events = notes + len(parsed.tempos) + len(parsed.time_signatures)
    if size > budget.events:  # an event takes at least a byte, so smaller files cannot exceed the limit
        tracks = parsed.tracks
        events += sum(len(t.controls) + len(t.pitch_bends) + len(t.pedals) + len(t.lyrics) for t in tracks)
    if events > budget.events:
        raise ScoreError(
            "too large", f"{name}: {events} events; the budget allows {budget.events}; {CAN_BE_RAISED} (--max-events)."
        )


def _score_of(
    parsed: Any,
    columns: Columns,
    program: np.ndarray,
    part: np.ndarray,
    mended: Mended,
    name: str,
    repairs: Counter[str],
    differing: int,
    names: tuple[str, ...],
) -> Score:
    """The score of a parsed file and the columns of its notes; counts invalid time signatures without effect."""
    onset = columns["time"].astype(np.int64)
    end = columns["duration"].astype(np.int64)
    end += onset
    if onset.min() < 0 or end.max() > LAST_TICK:
        raise ScoreError("bad time", f"{name}: a note is outside the 2**31 ticks that MIDI tools support.")
    if mended.meters:
        last = int(onset.max())
        for tick, text in mended.meters:
            if tick <= last:
                raise ScoreError(
                    "bad meter",
                    f"{name}: a time signature {text} at tick {tick:,}; numerators from 1 to 255 and denominators 1, "
                    "2, 4, ... 128 are accepted.",
                )
        repairs[IDLE_METER] += len(mended.meters)
    meters = parsed.time_signatures.numpy()
    tempi = parsed.tempos.numpy()
    if not tempi["mspq"].all():
        real = tempi["mspq"] > 0
        repairs[BAD_TEMPO] += int(np.count_nonzero(~real))
        tempi = {column: values[real] for column, values in tempi.items()}
    return Score(
        int(parsed.ticks_per_quarter),
        onset,
        end,
        program,
        columns["pitch"].astype(np.int16),
        columns["velocity"].astype(np.int16),
        part,
        tempi["time"].astype(np.int64),
        60e6 / tempi["mspq"],
        meters["time"].astype(np.int64),
        meters["numerator"].astype(np.int64),
        meters["denominator"].astype(np.int64),
        dict(repairs),
        differing,
        track_names=names,
        keys=_keys_of(parsed),
    )


def _pedal_of(parsed: Any, known_tracks: bool) -> Pedal:
    """The sustain pedal of a parsed file; its tracks are -1 unless those of the score are the parser's."""
    ticks, values, tracks = [np.empty(0, np.int64)], [np.empty(0, np.int16)], [np.empty(0, np.int32)]
    for number, track in enumerate(track for track in parsed.tracks if len(track.notes)):
        columns = track.controls.numpy()
        found = columns["number"] == SUSTAIN
        ticks.append(columns["time"][found].astype(np.int64))
        values.append(columns["value"][found].astype(np.int16))
        tracks.append(np.full(len(ticks[-1]), number if known_tracks else -1, np.int32))
    tick, value, owner = (np.concatenate(column) for column in (ticks, values, tracks))
    order = np.argsort(tick, kind="stable")
    return Pedal(tick[order], value[order], owner[order])


def _keys_of(parsed: Any) -> tuple[tuple[int, int, bool], ...]:
    """The key signatures of a parsed file, of several at a tick the last, without repetitions of the one in effect."""
    if not len(parsed.key_signatures):
        return ()
    columns = parsed.key_signatures.numpy()
    rows = zip(*(columns[name].tolist() for name in ("time", "key", "tonality")), strict=True)
    valid = {tick: (sharps, minor == 1) for tick, sharps, minor in rows if abs(sharps) <= 7 and minor in (0, 1)}
    keys: list[tuple[int, int, bool]] = []
    for tick, (sharps, minor) in sorted(valid.items()):
        if tick >= 0 and (not keys or keys[-1][1:] != (sharps, minor)):
            keys.append((tick, sharps, minor))
    return tuple(keys)


def _layers(score: Score, end: np.ndarray) -> np.ndarray:
    """Assign notes to layers, from 0, so that within a layer no note ends before an earlier one of its pitch.

    Notes of equal track, program and pitch are meant.  Within a layer, first-in-first-out pairing gives every note its
    own end.  Notes that begin together with different velocities get different layers, since their order in a file is
    not guaranteed.
    """
    layer = np.zeros(len(score), np.int64)
    group = (score.track.astype(np.int64) << 16) | (score.program.astype(np.int64) << 8) | score.pitch
    left = np.lexsort((end, score.onset, group))
    while len(left):
        rank = np.unique(group[left], return_inverse=True)[1].astype(np.int64) << 32
        inside = np.maximum.accumulate(rank + end[left]) > rank + end[left]
        begins = np.append(True, (np.diff(rank) != 0) | (np.diff(score.onset[left]) != 0))
        together = np.maximum.accumulate(np.where(begins, np.arange(len(left)), 0))
        inside |= score.velocity[left] != score.velocity[left][together]
        left = left[inside]
        layer[left] += 1
    return layer


_SLOWEST, _FASTEST = 1.0, 6e7  # quarter notes per minute


def seconds_of(score: Score, tick: np.ndarray) -> np.ndarray:
    """The times of ticks (int64 [N]) in seconds from tick 0, by the tempo changes of a score; float64 [N].

    Tempi below 1 or above 60 million quarter notes per minute, which no MIDI file has, are taken as these.
    """
    change = np.concatenate(([0], score.tempo_tick))
    tempo = np.concatenate(([120.0], score.tempo_bpm)).clip(_SLOWEST, _FASTEST)
    quarter = 60.0 / score.resolution  # the order of operations decides how renderings round to samples
    start = np.concatenate(([0.0], np.cumsum(np.diff(change) * quarter / tempo[:-1])))
    last = np.searchsorted(change, tick, side="right") - 1
    return start[last] + (tick - change[last]) * quarter / tempo[last]


def bar_line_from(score: Score, tick: int) -> int:
    """The first bar line at or after a tick.

    Bars count from tick 0.  A time signature inside a bar applies from the next bar line on, as in the codecs.  Bar
    lines between two ticks are rounded up.
    """
    start, numerator, denominator, whole = 0, 4, 4, 4 * score.resolution

    def line(from_tick: int) -> int:
        bars = (from_tick - start - 1) * denominator // (whole * numerator) + 1
        return start - (-bars * whole * numerator // denominator)

    meters = (score.meter_tick.tolist(), score.meter_numerator.tolist(), score.meter_denominator.tolist())
    for change, *meter in zip(*meters, strict=True):
        if meter == [numerator, denominator]:
            continue
        if change > start:
            if line(change) >= tick:
                break
            start = line(change)
        numerator, denominator = meter
    return line(tick) if tick > start else start


_LONGEST_DELTA = 2**28 - 1  # ticks between two events
_FILLER = (0xFF, 0x01, 0x00)  # an empty text, between events further apart
_TRACK_END = (0xFF, 0x2F, 0x00)


def _track_chunk(name: str, tick: np.ndarray, message: np.ndarray, size: np.ndarray, end: int) -> bytes:
    """The chunk of a track.

    Parameters
    ----------
    name : str
        At most 127 ASCII characters.
    tick : int64 [E]
        The ticks of the events, ascending.
    message : uint8 [E, L]
        Their bytes without delta times, of which the first ``size`` (int [E]) count.
    end : int
        Tick of the end of the track, which is at least that of the last event.
    """
    last = max(end, int(tick[-1]) if len(tick) else 0)
    gap = np.diff(tick, prepend=0, append=last)
    far = np.flatnonzero(gap > _LONGEST_DELTA).tolist()
    fillers = [(index, (tick[index - 1] if index else 0) + step * _LONGEST_DELTA)
               for index in far for step in range(1, int(gap[index] - 1) // _LONGEST_DELTA + 1)]  # fmt: skip
    rows = np.zeros((len(tick) + 1, max(message.shape[1], 3)), np.uint8)
    rows[:-1, : message.shape[1]] = message
    rows[-1, :3] = _TRACK_END
    tick, size = np.append(tick, last), np.append(size, 3)
    if fillers:
        index, filler_tick = np.array(fillers).T
        filler = np.zeros((len(fillers), rows.shape[1]), np.uint8)
        filler[:, :3] = _FILLER
        rows, tick = np.insert(rows, index, filler, axis=0), np.insert(tick, index, filler_tick)
        size = np.insert(size, index, 3)
    delta = np.diff(tick, prepend=0)
    shift = np.array([21, 14, 7, 0])
    digits = (delta[:, None] >> shift & 127) | np.where(shift, 128, 0)
    used = np.concatenate([(delta[:, None] >> shift > 0) | (shift == 0), np.arange(rows.shape[1]) < size[:, None]], 1)
    body = bytes([0, 0xFF, 0x03, len(name)]) + name.encode("ascii")
    body += np.concatenate([digits.astype(np.uint8), rows], 1)[used].tobytes()
    return b"MTrk" + struct.pack(">I", len(body)) + body


def _conductor_chunk(score: Score, end: int) -> bytes:
    """The track of time signatures, tempi and key signatures."""
    meters, tempi, keys = len(score.meter_tick), len(score.tempo_tick), len(score.keys)
    message = np.zeros((keys + meters + tempi, 7), np.uint8)
    for row, (_, sharps, minor) in zip(message, score.keys, strict=False):
        row[:5] = [0xFF, 0x59, 2, sharps & 255, minor]
    rows = message[keys : keys + meters]
    rows[:, :3], rows[:, 5:] = [0xFF, 0x58, 4], [24, 8]  # 24 MIDI clocks to a beat, 8 thirty-seconds to a quarter
    rows[:, 3] = score.meter_numerator
    rows[:, 4] = np.log2(score.meter_denominator)
    mspq = np.clip(np.rint(60e6 / score.tempo_bpm), 1, 2**24 - 1).astype(np.int64)
    rows = message[keys + meters :]
    rows[:, :3] = [0xFF, 0x51, 3]
    rows[:, 3:6] = mspq[:, None] >> np.array([16, 8, 0]) & 255
    key_tick = np.array([tick for tick, _, _ in score.keys], np.int64)
    tick = np.concatenate([key_tick, score.meter_tick, score.tempo_tick])
    size = np.repeat([5, 7, 6], [keys, meters, tempi])
    order = np.argsort(tick, kind="stable")
    return _track_chunk("conductor", tick[order], message[order], size[order], end)


def _channels(programs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The channel, 0 to 15, of each track of these programs, and whether it shares the channel with other programs."""
    melodic = programs != DRUMS
    present, rank = np.unique(programs[melodic], return_inverse=True)
    number = np.arange(melodic.sum()) if melodic.sum() <= 15 else rank % 15
    channel = np.full(len(programs), 9)
    channel[melodic] = number + (number >= 9)
    shared = np.zeros(len(programs), bool)
    shared[melodic] = len(present) > 15 and np.bincount(np.arange(len(present)) % 15)[number] > 1
    return channel, shared


def _check_writable(score: Score) -> None:
    """Raise :class:`ScoreError` if MIDI has no numbers for a time signature, or for the tick of a change."""
    power = score.meter_denominator & (score.meter_denominator - 1)
    wrong = np.flatnonzero((score.meter_numerator > 255) | (score.meter_denominator > 128) | (power != 0))
    if len(wrong):
        meter = f"{score.meter_numerator[wrong[0]]}/{score.meter_denominator[wrong[0]]}"
        raise ScoreError(
            "unwritable",
            f"the time signature {meter} cannot be written as MIDI: a numerator of 1 to 255 and a denominator of 1, 2, "
            "4, ... 128 are accepted.",
        )
    key_tick = np.array([tick for tick, _, _ in score.keys], np.int64)
    changes = (("tempo", score.tempo_tick), ("time signature", score.meter_tick), ("key signature", key_tick))
    for what, tick in changes:
        if len(tick) and not (0 <= tick.min() and tick.max() <= LAST_TICK):
            beyond = int(tick.min() if tick.min() < 0 else tick.max())
            raise ScoreError("unwritable", f"a {what} is at tick {beyond}; accepted is 0 to {LAST_TICK}.")


def _own_name(score: Score, track: int) -> str:
    """The name of a track of the source, or of no track ``""``, also if a file cannot hold it."""
    name = score.track_names[track] if 0 <= track < len(score.track_names) else ""
    return name if name.isascii() and name.isprintable() and len(name) <= 127 else ""


def midi_bytes(score: Score) -> bytes:
    """The score as the bytes of a MIDI file (see the module), from which :func:`read_midi` reads the same notes.

    A note without length gets one tick, since many readers drop it otherwise.  A note inside another of its pitch is
    written to a separate track, so that its note-off cannot end the other one.  Tempi are rounded to whole microseconds
    per quarter note, within the 24 bits of the format.

    Raises
    ------
    ScoreError
        Reason ``"unwritable"``: a time signature with a numerator above 255 or a denominator other than 1, 2, 4, ...
        128; a tempo, a time or a key signature outside 31 bits of ticks.
    """
    _check_writable(score)
    note_end = score.onset + np.maximum(score.end - score.onset, 1)
    end = bar_line_from(score, max(int(note_end.max()) if len(score) else 0, score.end_tick))
    key = (_layers(score, note_end) << 40) | (score.track.astype(np.int64) << 8) | score.program
    order = np.lexsort((score.pitch, key))
    groups, starts = np.unique(key[order], return_index=True)
    rows_of = np.split(order, starts[1:])
    by_program = np.argsort(groups & 255, kind="stable")  # the lowest program first, drums last
    programs = groups[by_program] & 255
    chunks, names = [_conductor_chunk(score, end)], Counter[int]()
    for group, program, channel, shared in zip(
        by_program.tolist(), programs.tolist(), *_channels(programs), strict=True
    ):
        rows = rows_of[group]
        change = bytes([0xC0 | channel, 0 if program == DRUMS else program])
        lead = [*change, 0] if shared else []  # a program change, and the delta time before the note-on
        message = np.zeros((2 * len(rows), 3 + len(lead)), np.uint8)
        message[: len(rows), :3] = [0x80 | channel, 0, 64]
        message[: len(rows), 1] = score.pitch[rows]
        message[len(rows) :, : len(lead)] = lead
        message[len(rows) :, len(lead)] = 0x90 | channel
        message[len(rows) :, len(lead) + 1] = score.pitch[rows]
        message[len(rows) :, len(lead) + 2] = score.velocity[rows]
        tick = np.concatenate([note_end[rows], score.onset[rows]])
        size = np.repeat([3, 3 + len(lead)], len(rows))
        turn = np.argsort(2 * tick + np.repeat([0, 1], len(rows)), kind="stable")  # note-offs before note-ons
        name = _own_name(score, int(score.track[rows[0]]))
        if not name:
            names[program] += 1
            name = "drums" if program == DRUMS else PROGRAM_NAMES[program].replace("_", " ")
            name += f" {names[program]}" if names[program] > 1 else ""
        tick, size = np.append(0, tick[turn]), np.append(2, size[turn])
        message = np.concatenate([np.zeros((1, message.shape[1]), np.uint8), message[turn]])
        message[0, :2] = list(change)
        chunks.append(_track_chunk(name, tick, message, size, end))
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(chunks), score.resolution) + b"".join(chunks)


def write_midi(score: Score, path: str | os.PathLike[str]) -> None:
    """Write the score to a MIDI file, which appears under its name only when it is complete.

    Raises
    ------
    ScoreError
        Reason ``"unwritable"``: the folder does not exist or is not writable, or as :func:`midi_bytes`.
    """
    try:
        data = midi_bytes(score)
    except ScoreError as error:
        raise ScoreError(error.reason, f"{path}: {error.sentence}") from None
    try:
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(data)
    except OSError as error:
        raise ScoreError("unwritable", f"{path}: cannot be written ({error.strerror or error}).") from None
