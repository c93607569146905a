"""The constant-Q profile in blocks is librosa's of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from musicbert_plugin.audio.constant_q import BINS, ConstantQProfile, Tuning
from musicbert_plugin.audio.decoding import decode

librosa = pytest.importorskip("librosa")


@pytest.mark.parametrize(("rate", "hop", "tuning"), [(44100, 1024, 0.0), (22050, 192, 2.4)])
def test_a_profile_in_blocks_is_that_of_librosa(music_data, rate, hop, tuning):
    sound = decode(music_data / "audio" / "librosa_trumpet.ogg", rate, 0, 3 * rate)
    theirs = librosa.feature.chroma_cqt(
        y=sound, sr=rate, hop_length=hop, n_chroma=BINS, bins_per_octave=None, tuning=tuning
    ).T
    profile = ConstantQProfile(librosa, rate, hop, tuning)
    rows = [row for first in range(0, len(sound), 7000) for row in profile.add(sound[first : first + 7000])]
    rows += profile.finish()
    np.testing.assert_allclose(np.concatenate(rows)[: len(theirs)], theirs, atol=1e-6)


def test_tuning_from_pieces_is_that_of_librosa(music_data):
    sound = decode(music_data / "audio" / "librosa_trumpet.ogg", 22050, 0, 88200)
    spectrum = np.abs(librosa.stft(sound))
    for bins in (12, BINS):
        tuning = Tuning(librosa, 22050)
        for first in range(0, spectrum.shape[1], 50):
            tuning.add(spectrum[:, first : first + 50])
        assert tuning.estimate(bins) == librosa.estimate_tuning(y=sound, sr=22050, bins_per_octave=bins)
    assert Tuning(librosa, 22050).estimate(12) == 0.0
