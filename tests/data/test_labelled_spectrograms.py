"""Windows of labelled spectrograms: each has the labels of its item."""

from types import SimpleNamespace

import numpy as np
import pytest

from musicbert_plugin.data.labels import LabelTask
from musicbert_plugin.errors import DatasetError

pytestmark = pytest.mark.usefixtures("registered")

GENRE = LabelTask("genre", "single", "genre", ("jazz", "rock", "folk"))
MOOD = LabelTask("mood", "multi", "mood", ("calm", "dark"))
AFFECT = LabelTask("affect", "regression", "AV", ("arousal", "valence"))


def test_windows_have_the_labels_of_their_items():
    from musicbert_plugin.data.labelled_spectrograms import LabelledSpectrograms
    from musicbert_plugin.data.spectrogram_windows import SpectrogramWindows

    learnt = [GENRE, AFFECT.learn(["1/2", "", "3/"])]
    clips = SimpleNamespace(
        frames=np.array([90, 20, 50]),
        names=["a", "b", "c"],
        read=lambda i, a=0, b=None: np.ones((b - a, 2)) * i,
        labels={"genre": ["folk", "", "jazz"], "AV": ["1/2", "", "3/"]},
    )
    data = LabelledSpectrograms(SpectrogramWindows(clips, max_frames=40, train=False, seed=1), learnt, "train")
    batch = data.collater([data[index] for index in range(len(data))])
    assert batch["item"].tolist() == [0, 0, 1, 2]
    assert batch["labels"]["genre"][:, 0].tolist() == [2, 2, 0, 0]
    assert batch["present"]["genre"][:, 0].tolist() == [True, True, False, True]
    assert batch["labels"]["affect"].tolist() == [[-1, 0], [-1, 0], [0, 0], [1, 0]]
    assert batch["present"]["affect"][3].tolist() == [True, False]
    with pytest.raises(DatasetError, match="no label column 'mood'"):
        LabelledSpectrograms(data.windows, [MOOD], "train")
