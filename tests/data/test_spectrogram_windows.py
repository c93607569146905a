"""Windows of clips: what is seen in an epoch, in training and elsewhere."""

from types import SimpleNamespace

import numpy as np
import pytest

from musicbert_plugin.data.spectrogram_windows import SpectrogramWindows


def clips_of(*frames):
    clips = [np.arange(count, dtype=np.float32)[:, None] for count in frames]
    return SimpleNamespace(
        frames=np.array(frames), read=lambda clip, start=0, stop=None: clips[clip][start:stop].copy()
    )


def test_outside_training_windows_lie_end_to_end_and_are_the_same_in_every_epoch():
    windows = SpectrogramWindows(clips_of(100, 30, 64), max_frames=32, min_frames=5, train=False, seed=1)
    spans = [windows.span(index) for index in range(len(windows))]
    assert spans == [(0, 0, 32), (0, 32, 64), (0, 64, 96), (1, 0, 30), (2, 0, 32), (2, 32, 64)]
    windows.set_epoch(7)
    assert [windows.span(index) for index in range(len(windows))] == spans


def test_a_short_end_is_kept_from_min_frames_on_and_a_short_clip_always():
    windows = SpectrogramWindows(clips_of(37, 3), max_frames=32, min_frames=5, train=False, seed=1)
    assert [windows.span(index) for index in range(len(windows))] == [(0, 0, 32), (0, 32, 37), (1, 0, 3)]


def test_defect_9_over_the_epochs_training_sees_every_frame_of_a_clip():
    windows = SpectrogramWindows(clips_of(500), max_frames=64, train=True, seed=3)
    assert len(windows) == 8
    seen = np.zeros(500, int)
    starts = set()
    for epoch in range(1, 300):
        windows.set_epoch(epoch)
        for index in range(len(windows)):
            _, start, stop = windows.span(index)
            assert 0 <= start < stop <= 500 and stop - start == 64
            seen[start:stop] += 1
            starts.add(start)
    assert (seen > 0).all() and len(starts) > 200


def test_windows_hold_what_the_reader_gives():
    windows = SpectrogramWindows(clips_of(90, 20), max_frames=32, train=True, seed=2)
    for index in range(len(windows)):
        clip, start, stop = windows.span(index)
        assert windows[index].dtype == np.float16
        assert windows[index][:, 0].tolist() == list(range(start, stop)), clip


@pytest.mark.parametrize("train", [True, False])
def test_whole_clips_with_no_longest_window(train):
    windows = SpectrogramWindows(clips_of(90, 20), max_frames=0, train=train, seed=2)
    assert sorted(windows.sizes.tolist()) == [20, 90]


def test_a_window_depends_on_seed_epoch_and_window_alone():
    one = SpectrogramWindows(clips_of(300, 200), max_frames=32, train=True, seed=5)
    two = SpectrogramWindows(clips_of(300, 200), max_frames=32, train=True, seed=5)
    other = SpectrogramWindows(clips_of(300, 200), max_frames=32, train=True, seed=6)
    for epoch in (1, 2, 3):
        one.set_epoch(epoch)
    two.set_epoch(3)
    other.set_epoch(3)
    assert one.starts.tolist() == two.starts.tolist() != other.starts.tolist()
