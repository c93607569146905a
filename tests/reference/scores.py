"""Small scores that several tests read."""

from __future__ import annotations

import numpy as np

from musicbert_plugin.codecs.score import Score


def notes(onsets: list[int], pitch: object = 60, program: object = 0, **options: object) -> Score:
    """Eighth notes at positions (twelfths of a quarter)."""
    return Score.of(
        12,
        onsets,
        np.array(onsets) + 6,
        [pitch] * len(onsets) if isinstance(pitch, int) else pitch,
        64,
        program,
        0,
        **options,
    )
