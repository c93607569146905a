"""Bar lines of the scores that ``preprocess.corpus`` writes, compared with those of music21.

    python -m preprocess.corpus --dest MIDI
    python -m benchmarks.corpus_bars MIDI

MIDI is the folder that the command wrote.  Two numbers are counted:

``last_chord``
    For the chorales in 4/4 throughout (folder ``bach``), how often the last chord begins on beat 1, 2, 3 and 4 in the
    OctupleMIDI codec.  A chorale usually ends on a strong beat.
``equal``
    Scores whose bar lines, as the REMI codec derives them from the MIDI file, are all measure starts of music21
    (repeats played), and include all measure starts except those inside a bar of the printed length (measures that a
    repeat mark splits).  A pickup may be the end of a whole bar.  ``others`` lists the other scores.

The measures are read from music21 without the code that writes the files; the shift of the file against the score is
that of the first note.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from musicbert_plugin.codecs import octuple, remi
from musicbert_plugin.codecs.score import read_midi
from preprocess.corpus import DEFAULT_COLLECTIONS, corpus_pieces

FORMATS = {".krn": "humdrum", ".abc": "abc"}


def measures(path: Path) -> tuple[list[tuple[Fraction, Fraction]], Fraction, set[str]]:
    """Start and printed length of the measures of a score as played, onset of its first note, and time signatures.

    All times are in quarter notes.
    """
    from music21 import converter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = converter.parse(path, format=FORMATS.get(path.suffix)).expandRepeats()
    starts, whole, signatures = [], Fraction(4), set()
    for measure in score.parts[0].getElementsByClass("Measure"):
        if measure.timeSignature:
            whole = Fraction(measure.timeSignature.barDuration.quarterLength)
            signatures.add(measure.timeSignature.ratioString)
        if measure.highestTime:
            starts.append((Fraction(measure.offset), whole))
    return starts, Fraction(min(note.offset for note in score.flatten().notes)), signatures


def bars_agree(
    starts: list[tuple[Fraction, Fraction]], moved: Fraction, bar_lines: list[Fraction], last: Fraction
) -> bool:
    """Whether the bar lines are the starts of the measures, except those inside a whole bar.

    Parameters
    ----------
    starts : list of (Fraction, Fraction)
        Start and printed length of every measure, in quarter notes.
    moved : Fraction
        Shift of the file against the score, in quarter notes.
    bar_lines : list of Fraction
        Bar lines of the file, up to its last note.
    last : Fraction
        Onset of the last note in the file, in quarter notes; measures that begin later have no bar line.
    """
    lengths = {start + moved: whole for start, whole in starts}
    if moved and len(starts) > 1 and starts[1][0] + moved == starts[0][1]:
        lengths = {Fraction(0): lengths.pop(moved)} | lengths
    if not set(bar_lines) <= set(lengths):
        return False
    for start in {start for start in lengths if start <= last} - set(bar_lines):
        earlier = [line for line in bar_lines if line < start]
        if not earlier or start >= earlier[-1] + lengths[earlier[-1]]:
            return False
        later = [line for line in bar_lines if line > start]
        if later and later[0] != earlier[-1] + lengths[earlier[-1]]:
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus_bars", description=__doc__.split("\n\n")[0])
    parser.add_argument("midi", type=Path, help="folder that preprocess.corpus wrote")
    parser.add_argument("--collections", nargs="+", default=list(DEFAULT_COLLECTIONS), help="name or name:count")
    options = parser.parse_args()
    last: Counter[int] = Counter()
    scores, equal, pickups = 0, 0, 0
    others = []
    for name, path in corpus_pieces(options.collections):
        file = options.midi / name / f"{path.stem}.mid"
        if not file.is_file():
            continue
        score = read_midi(file)
        starts, first_note, signatures = measures(path)
        scores += 1
        pickups += len(starts) > 1 and starts[1][0] < starts[0][1]
        if name == "bach" and signatures == {"4/4"}:
            notes = octuple.encode(score)
            last[int(notes[-1, octuple.POSITION]) // octuple.POSITIONS_PER_QUARTER + 1] += 1
        moved = Fraction(int(score.onset.min()), score.resolution) - first_note
        grid = remi.grid_of(score, trim=False, normalise=False)
        lines = [Fraction(line, remi.POSITIONS_PER_QUARTER) for line in grid.bar_start[:-1].tolist()]
        if bars_agree(starts, moved, lines, Fraction(int(score.onset.max()), score.resolution)):
            equal += 1
        else:
            others.append(path.stem)
    values: dict[str, Any] = {
        "scores": scores,
        "with_pickup": pickups,
        "last_chord": {"chorales": sum(last.values()), **{f"beat_{beat}": last[beat] for beat in sorted(last)}},
        "equal": equal,
        "others": others,
        **environment("music21", "symusic"),
    }
    json.dump(values, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
