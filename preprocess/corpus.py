"""Real scores without a download: the corpus of the ``music21`` package, written as MIDI files.

    python -m preprocess.corpus --dest DIR [--collections bach palestrina:100 ryansMammoth:200] [--jobs N]

Writes ``DIR/<collection>/<piece>.mid``: by default the Bach chorales, a hundred mass movements of Palestrina and two
hundred fiddle tunes of Ryan's Mammoth Collection, all in the public domain as music.  ``:N`` after a collection takes N
of its pieces, evenly spread over their names.  Existing files are kept, so a stopped run can be resumed; files of
another version of the format (stated in ``DIR/corpus.json``) are written anew.  A score that music21 cannot write (for
example one with badly nested repeats) is named on stderr and left out; this is expected of a few and no failure.

music21 reads the scores and writes the MIDI; only this command needs it (``bash scripts/setup.sh quickstart``).

Bar lines
---------
A MIDI file has no bar lines: readers count bars from tick 0 by the time signatures.  music21 writes the notes of a
pickup at tick 0 and the time signatures as printed, which shifts every later bar line by the pickup, and again at every
incomplete measure.  This command keeps the bar lines of the score, with its repeats played (:func:`bars_of`):

* a first measure that is shorter than its time signature becomes a whole bar that begins with a rest;
* consecutive short measures that add up to one bar of their time signature, as around a repeat mark, are one bar;
* any other measure whose length is not that of its time signature gets a time signature of its own (3/8 for three
  eighths), and the next measure restores the printed one;
* a time signature inside a measure applies from the next measure on.

A short last measure stays a bar of the printed time signature.  A score with a measure whose length no time signature
can express (for example a third of a quarter note) is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from musicbert_plugin.errors import MusicError, OptionError, ScoreError
from musicbert_plugin.extras import missing
from musicbert_plugin.files import atomic_path, is_disk_full
from musicbert_plugin.parsing import whole_number
from preprocess.engine.cli import run_command, say
from preprocess.engine.executors.local import call_all

DEFAULT_COLLECTIONS = ("bach", "palestrina:100", "ryansMammoth:200")
_FORMATS = {".mxl", ".xml", ".musicxml", ".krn", ".abc"}
_FINEST_DENOMINATOR = 64  # of time signatures
_VERSION = {"format": 2}  # of the files; in format 1 (without corpus.json), pickups shifted the bar lines

Meter = tuple[int, int]
"""Numerator and denominator of a time signature."""


def corpus_pieces(collections: tuple[str, ...] | list[str]) -> list[tuple[str, Path]]:
    """The scores of collections, each given as ``name`` or ``name:count``, as (collection, path), sorted.

    Raises
    ------
    OptionError
        music21 is not installed, a collection is not in its corpus, or a count is not a number above 0.
    """
    try:
        from music21 import corpus
    except ImportError:
        raise missing("music21", "the corpus, which comes with it,") from None
    paths: dict[str, list[Path]] = {}
    for path in sorted(Path(str(p)) for p in corpus.corpora.CoreCorpus().getPaths()):
        if path.suffix in _FORMATS:
            parts = path.parts
            paths.setdefault(parts[len(parts) - 1 - parts[::-1].index("corpus") + 1], []).append(path)
    pieces = []
    for choice in collections:
        name, _, count = choice.partition(":")
        if name not in paths:
            raise OptionError(f"--collections: music21 has no {name!r}; it has {', '.join(sorted(paths))}.")
        wanted = whole_number(count) if count else len(paths[name])
        if not wanted:
            raise OptionError(f"--collections: {choice!r} should end with a number of pieces above 0.")
        found = sorted({path.stem: path for path in paths[name]}.values())  # some pieces exist in two formats
        take = min(wanted, len(found))
        pieces += [(name, found[i * len(found) // take]) for i in range(take)]
    return pieces


# ----------------------------------------------------------------------------------------------------------- bar lines


def bars_of(measures: Sequence[tuple[Fraction, Meter]]) -> tuple[Fraction, list[tuple[Fraction, Meter]]]:
    """The bars that the measures of a score form.

    Parameters
    ----------
    measures : sequence of (Fraction, (int, int))
        Length in quarter notes, above 0, and printed time signature of each measure, in playing order.

    Returns
    -------
    Fraction
        Length in quarter notes of the rest that completes the bar of a pickup, or 0.
    list of (Fraction, (int, int))
        Onset in quarter notes, the rest included, and time signature of each bar.

    Raises
    ------
    ScoreError
        Reason ``"unsupported meter"``: a measure has a length that no time signature can express.
    """
    bars: list[tuple[Fraction, Meter]] = []
    rest = onset = Fraction(0)
    first = 0
    while first < len(measures):
        length, meter = measures[first]
        whole = Fraction(4 * meter[0], meter[1])
        after = first + 1
        if length < whole and first == 0:
            rest = whole - length
            length = whole
        elif length < whole:
            together = length
            while together < whole and after < len(measures) and measures[after][1] == meter:
                if measures[after][0] >= whole:
                    break
                together += measures[after][0]
                after += 1
            if together == whole or after == first + 1 == len(measures):
                length = whole
            else:
                after = first + 1
        bars.append((onset, meter if length == whole else _meter_of(length, meter[1], first)))
        onset += length
        first = after
    return rest, bars


def _meter_of(length: Fraction, denominator: int, measure: int) -> Meter:
    """The time signature of a length in quarter notes, with the smallest possible denominator from this one on."""
    while (length * denominator / 4).denominator > 1 and denominator < _FINEST_DENOMINATOR:
        denominator *= 2
    numerator = length * denominator / 4
    if numerator.denominator > 1:
        raise ScoreError(
            "unsupported meter",
            f"measure {measure + 1} (repeats counted) has a length of {length} quarter notes, which no time signature "
            f"with a denominator up to {_FINEST_DENOMINATOR} can express.",
        )
    return int(numerator), denominator


def measures_of(score: Any) -> list[tuple[Fraction, Meter]]:
    """Length and time signature of each measure of a music21 stream, repeats played; none if it has no measures.

    The measures are those of the first part that has time signatures, since parts share their bar lines.
    """
    parts = list(score.parts) if score.hasPartLikeStreams() else [score]
    part = next((part for part in parts if part["TimeSignature"]), parts[0])
    if not part.hasMeasures():
        return []
    part = part.expandRepeats(copySpanners=False)
    measures = list(part.getElementsByClass("Measure"))
    onsets = [Fraction(measure.offset) for measure in measures]
    ends = [*onsets[1:], onsets[-1] + Fraction(measures[-1].highestTime)]
    changes = [(Fraction(change.offset), change) for change in part.flatten().getElementsByClass("TimeSignature")]
    out, meter, held = [], (4, 4), 0
    for onset, end in zip(onsets, ends, strict=True):
        while held < len(changes) and changes[held][0] <= onset:
            meter = (changes[held][1].numerator, changes[held][1].denominator)
            held += 1
        if end > onset:
            out.append((end - onset, meter))
    return out


def set_bars(file: Any, rest: Fraction, bars: Sequence[tuple[Fraction, Meter]]) -> None:
    """Delay the music of a music21 ``MidiFile`` by a rest, and replace its time signatures by those of bars.

    Names, programs, key signature and tempo at tick 0 stay there.

    Parameters
    ----------
    file : music21.midi.MidiFile
        Changed in place.
    rest : Fraction
        Quarter notes.
    bars : sequence of (Fraction, (int, int))
        The result of :func:`bars_of`.
    """
    from music21.meter import TimeSignature
    from music21.midi import ChannelVoiceMessages, DeltaTime, MetaEvents
    from music21.midi.translate import offsetToMidiTicks, timeSignatureToMidiEvents

    sounding = (ChannelVoiceMessages.NOTE_ON, ChannelVoiceMessages.NOTE_OFF, MetaEvents.LYRIC)
    delay = offsetToMidiTicks(rest)
    for number, track in enumerate(file.tracks):
        events: list[tuple[int, Any]] = []
        tick = 0
        for event in track.events:
            if event.isDeltaTime():
                tick += event.time
            elif event.type != MetaEvents.TIME_SIGNATURE:
                events.append((tick + delay if tick or event.type in sounding else tick, event))
        if number == 0:
            meter = None
            for onset, (numerator, denominator) in bars:
                if meter != (numerator, denominator):
                    (change,) = timeSignatureToMidiEvents(
                        TimeSignature(f"{numerator}/{denominator}"), includeDeltaTime=False
                    )
                    events.append((offsetToMidiTicks(onset), change))
                meter = numerator, denominator
            # The end-of-track event stays last, since readers ignore events after it.
            events.sort(key=lambda event: (event[1].type == MetaEvents.END_OF_TRACK, event[0]))
        track.events, before = [], 0
        for tick, event in events:
            delta = DeltaTime(track, time=max(tick - before, 0))
            event.track = track
            track.events += [delta, event]
            before = max(tick, before)


def write_piece(task: tuple[Path, Path]) -> str:
    """Write a score (source, target) as MIDI; returns the reason if it cannot be written, else an empty string.

    Raises
    ------
    OSError
        The disk is full.
    """
    source, target = task
    if target.exists():
        return ""
    from music21 import converter
    from music21.midi.translate import streamToMidiFile

    try:
        with atomic_path(target) as unfinished, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            score: Any = converter.parse(source, format={".krn": "humdrum", ".abc": "abc"}.get(source.suffix))
            if "Opus" in score.classes:
                raise ScoreError("unreadable", f"a file of {len(score.scores)} pieces; one of one piece is accepted.")
            file = streamToMidiFile(score)
            measures = measures_of(score)
            if measures:
                set_bars(file, *bars_of(measures))
            unfinished.write_bytes(file.writestr())
    except Exception as error:  # music21 raises about a dozen types without a common base
        if is_disk_full(error):
            raise
        return f"{source.name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


def forget_old_files(folder: Path, files: Sequence[Path]) -> int:
    """If ``folder`` has another version, remove ``files`` and state this version; returns the number removed."""
    version = folder / "corpus.json"
    text = json.dumps(_VERSION) + "\n"
    if version.is_file() and version.read_text(encoding="utf-8") == text:
        return 0
    old = [file for file in files if file.exists()]
    for file in old:
        file.unlink()
    with atomic_path(version) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return len(old)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m preprocess.corpus", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dest", type=Path, required=True, help="folder for the MIDI files")
    parser.add_argument("--collections", nargs="+", default=list(DEFAULT_COLLECTIONS), help="name or name:count")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes (default: all cores)")
    options = parser.parse_args(arguments)
    try:
        pieces = corpus_pieces(options.collections)
        tasks = []
        for name, path in pieces:
            folder = options.dest / name
            folder.mkdir(parents=True, exist_ok=True)
            tasks.append((path, folder / f"{path.stem}.mid"))
        old = forget_old_files(options.dest, [target for _, target in tasks])
    except MusicError as error:
        say(f"corpus: {error}")
        return 2
    except OSError as error:
        say(f"corpus: {options.dest}: cannot be written ({error.strerror}).")
        return 2
    if old:
        say(f"corpus: {old} files of an earlier version, which had other bar lines, are written anew")
    outcomes, lost = call_all(write_piece, [(task,) for task in tasks], options.jobs, batch_files=4)
    reasons = [reason for reason in outcomes.values() if reason]
    reasons += [f"{tasks[index][0].name}: its worker process ended" for index in lost]
    for reason in sorted(reasons):
        say(f"left out {reason}")
    say(f"{len(tasks) - len(reasons)} of {len(tasks)} scores written to {options.dest}")
    return 0 if len(reasons) < len(tasks) else 1


if __name__ == "__main__":
    run_command(main, prefix="corpus: ")
