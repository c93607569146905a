"""What all kinds of datasets that are made of MIDI files have in common: limits, reading, and fingerprints."""

from __future__ import annotations

from dataclasses import dataclass

import symusic

from musicbert_plugin.codecs.score import DRUMS, Budget, Score, read_midi
from musicbert_plugin.errors import OptionError
from preprocess.engine.cli import option
from preprocess.engine.near_duplicates import Fingerprint, fingerprint_of
from preprocess.engine.sources import MIDI_SUFFIXES


@dataclass
class MidiLimits:
    """How large a file may be."""

    max_bytes: int = option(2 * 2**20, "leave out larger files")
    max_notes: int = option(200_000, "leave out files with more notes")
    max_events: int = option(1_000_000, "leave out files with more MIDI events")


@dataclass(frozen=True)
class MidiSpec:
    """The part of a ``dataset_spec.DatasetSpec`` that is the same for all token schemes."""

    max_bytes: int = 2 * 2**20
    max_notes: int = 200_000
    max_events: int = 1_000_000
    seed: int = 1

    dtype = "uint16"
    unit = "notes"
    batch_files = 64
    share_of_copies = 0.9
    repair = "data byte above 127"
    reads_paths = False

    def __post_init__(self) -> None:
        for limit in ("max_bytes", "max_notes", "max_events"):
            if getattr(self, limit) < 1:
                raise OptionError(f"--{limit.replace('_', '-')} {getattr(self, limit)}: 1 or more is needed.")

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of MIDI files."""
        return MIDI_SUFFIXES

    @property
    def largest_file(self) -> int:
        """Bytes."""
        return self.max_bytes

    def read(self, data: bytes, name: str) -> Score:
        """The score in a MIDI file, or a :class:`ScoreError`."""
        return read_midi(data, name=name, budget=Budget(self.max_bytes, self.max_notes, self.max_events))

    def fingerprint(self, score: Score) -> Fingerprint:
        """What its near-duplicates are found by; see ``near_duplicates``."""
        return fingerprint_of(score.onset, score.pitch, score.program == DRUMS, score.resolution)

    def limits(self) -> dict[str, int]:
        """The limits, as settings."""
        return {"max_bytes": self.max_bytes, "max_notes": self.max_notes, "max_events": self.max_events}

    def versions(self) -> dict[str, str]:
        """The MIDI reader's."""
        return {"symusic": symusic.__version__}
