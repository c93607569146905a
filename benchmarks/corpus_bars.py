"""Bar lines of the scores that ``preprocess.corpus`` writes, beside those of music21.

    python -m preprocess.corpus --dest MIDI
    python -m benchmarks.corpus_bars MIDI

MIDI is the folder that the command wrote.  Two things are counted:

``last_chord``
    Of the chorales in 4/4 (folder ``bach``, no other time signature is printed), how often the last chord begins on
    beat 1, 2, 3, 4 by the OctupleMIDI codec.  A chorale usually ends on a strong beat.
``equal``
    Scores whose bar lines, as the REMI codec derives them from the MIDI file, are all measure starts of music21
    (repeats played), and of which no measure start is missing but those inside a bar of the printed length (measures
    that a repeat mark splits).  A pickup may stand at the end of a whole bar.  ``others`` names the other scores.

The measures are read from music21 alone, not with the code that writes the files; the first note of both tells how far
the file is moved against the score.
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
    """Start and printed length of the measures of a score as played, onset of its first note; and time signatures.

    All times are quarter notes.
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
    """Whether bar lines are the measures' starts, those inside a whole bar aside.

    Parameters
    ----------
    starts : list of (Fraction, Fraction)
        Start and printed length of every measure, in quarter notes.
    moved : Fraction
        How much later everything is in the file, in quarter notes.
    bar_lines : list of Fraction
        Those of the file, up to its last note.
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
