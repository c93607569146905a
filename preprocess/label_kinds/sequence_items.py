"""Items of labelled files, for workers, which need no more than this to read them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from musicbert_plugin.codecs.octuple import FIELDS
from preprocess.engine.dataset_spec import Piece
from preprocess.octuple import OctupleSpec

_FRAME = 2  # octuples that frame an item


@dataclass(frozen=True)
class SequenceSpec(OctupleSpec):
    """How a MIDI file becomes items of octuples with the number of notes of each."""

    def read_piece(self, data: bytes, name: str) -> Piece:
        """The piece in a MIDI file, or a :class:`ScoreError`."""
        piece = super().read_piece(data, name)
        return replace(piece, sidecars={"notes": [len(item) // len(FIELDS) - _FRAME for item in piece.items]})
