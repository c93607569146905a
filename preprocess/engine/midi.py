"""What all kinds of datasets that are made of MIDI files have in common: limits, reading, and fingerprints."""

from __future__ import annotations

from dataclasses import dataclass

import symusic

from musicbert_plugin.codecs.reading_options import ReadingOptions
from musicbert_plugin.codecs.score import DRUMS, Score
from preprocess.engine.near_duplicates import Fingerprint, fingerprint_of
from preprocess.engine.sources import MIDI_SUFFIXES


@dataclass(frozen=True)
class MidiSpec(ReadingOptions):
    """The part of a ``dataset_spec.DatasetSpec`` that is the same for all token schemes."""

    seed: int = 1

    dtype = "uint16"
    unit = "notes"
    batch_files = 64
    share_of_copies = 0.9
    reads_paths = False

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of MIDI files."""
        return MIDI_SUFFIXES

    @property
    def largest_file(self) -> int:
        """Bytes."""
        return self.max_bytes

    def fingerprint(self, score: Score) -> Fingerprint:
        """What its near-duplicates are found by; see ``near_duplicates``."""
        return fingerprint_of(score.onset, score.pitch, score.program == DRUMS, score.resolution)

    def versions(self) -> dict[str, str]:
        """The MIDI reader's."""
        return {"symusic": symusic.__version__}
