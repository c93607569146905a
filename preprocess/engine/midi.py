"""What all kinds of datasets that are made of MIDI files have in common: limits, reading, and fingerprints."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import symusic

from musicbert_plugin.codecs.reading_options import ReadingOptions
from musicbert_plugin.codecs.score import DRUMS, Score
from preprocess.engine.dataset_spec import DatasetSpec, Item, Piece
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

    def comparer(self) -> DatasetSpec:
        """Reads fingerprints alone."""
        return FingerprintSpec(**{declared.name: getattr(self, declared.name) for declared in fields(MidiSpec)})

    def versions(self) -> dict[str, str]:
        """The MIDI reader's."""
        return {"symusic": symusic.__version__}


@dataclass(frozen=True)
class FingerprintSpec(MidiSpec):
    """The fingerprints of MIDI files, of which no dataset is made; see :meth:`dataset_spec.DatasetSpec.comparer`."""

    name = "fingerprints"

    def read_piece(self, data: bytes, name: str) -> Piece:
        """The piece in a MIDI file, without items, or a :class:`ScoreError`."""
        score = self.read(data, name)
        fingerprint = self.fingerprint(score)
        exact = hashlib.sha256(f"fingerprint {fingerprint.sequence}".encode()).digest()[:16]  # no dataset's
        return Piece(len(score), [], exact, fingerprint)

    def left_out(self, reason: str) -> bool:
        """False: there are no filters."""
        return False

    def line(self, item: Item) -> str:
        """There are no items."""
        raise NotImplementedError

    def dictionary(self) -> bytes:
        """There are no words."""
        return b""

    def settings(self) -> dict[str, Any]:
        """How files are read."""
        return self.reading_settings()
