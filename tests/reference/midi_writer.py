"""MIDI files as symusic writes them, of which the recorded datasets were built: their manifests hold the files' hashes.

Tempi and time signatures are in the first track of notes, and every track ends one tick after its last note.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import symusic

from musicbert_plugin.codecs.score import DRUMS, Score, _layers


def symusic_bytes(score: Score) -> bytes:
    """The score as MIDI, a track per track and program; notes inside others of their pitch in tracks of their own."""
    out: Any = symusic.Score(score.resolution)
    length = np.maximum(score.end - score.onset, 1)
    key = (_layers(score, score.onset + length) << 40) | (score.track.astype(np.int64) << 8) | score.program
    order = np.lexsort((score.onset + length, score.onset, score.pitch, key))
    groups, starts = np.unique(key[order], return_index=True)
    stops = np.append(starts[1:], len(order))
    for group in np.argsort(groups & 255, kind="stable"):
        rows = order[starts[group] : stops[group]]
        program = int(groups[group] & 255)
        drums = program == DRUMS
        track: Any = symusic.Track(
            name="drums" if drums else str(program), program=0 if drums else program, is_drum=drums
        )
        track.notes = symusic.Note.from_numpy(
            time=score.onset[rows].astype(np.int32),
            duration=length[rows].astype(np.int32),
            pitch=score.pitch[rows].astype(np.int8),
            velocity=score.velocity[rows].astype(np.int8),
            ttype="tick",
        )
        out.tracks.append(track)
    out.tempos = symusic.Tempo.from_numpy(
        time=score.tempo_tick.astype(np.int32),
        mspq=np.clip(np.rint(60e6 / score.tempo_bpm), 1, 2**24 - 1).astype(np.int32),
        ttype="tick",
    )
    out.time_signatures = symusic.TimeSignature.from_numpy(
        time=score.meter_tick.astype(np.int32),
        numerator=score.meter_numerator.astype(np.uint8),
        denominator=score.meter_denominator.astype(np.uint8),
        ttype="tick",
    )
    return out.dumps_midi()
