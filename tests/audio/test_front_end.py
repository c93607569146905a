"""Front-ends give the features that their definitions name: librosa's, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from musicbert_plugin.audio.decoding import decode
from musicbert_plugin.audio.front_end import FrontEnd, front_end, slope
from musicbert_plugin.errors import OptionError, RecordingError


def music(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    """Notes that begin and decay, over a little noise, float32 [S]."""
    random = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    sound = 0.001 * random.standard_normal(len(time))
    for onset in np.arange(0, seconds, 0.25):
        hertz = 440 * 2 ** (random.integers(-24, 12) / 12 + 0.2 / 12)
        after = np.maximum(time - onset, 0)
        for partial in range(1, 6):
            sound += (time >= onset) * 0.2 / partial * np.exp(-4 * after) * np.sin(2 * np.pi * partial * hertz * after)
    return (sound / np.abs(sound).max()).astype(np.float32)


def log(power):
    return np.log(10 * power.T + 1e-6)


@pytest.fixture(scope="module")
def librosa():
    return pytest.importorskip("librosa")


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("logmel96", {}),
        ("logmel64", {"sample_rate": 16000, "n_fft": 512, "hop": 160}),
        ("logmel128", {"sample_rate": 44100, "n_fft": 2048, "hop": 1000, "window": "hamming"}),
    ],
)
def test_log_mels_equal_librosa_on_equal_samples(librosa, name, chosen):
    front = front_end(name, **chosen)
    sound = music(front.sample_rate, 3.0)
    theirs = librosa.feature.melspectrogram(
        y=sound,
        sr=front.sample_rate,
        n_fft=front.n_fft,
        hop_length=front.hop,
        window=front.window,
        n_mels=front.n_mels,
    )
    ours = front.extract(sound)
    assert ours.dtype == np.float32 and ours.shape == (front.frames_of(len(sound)), front.n_mels)
    np.testing.assert_allclose(ours, log(theirs), atol=1e-5)


def test_log_mels_of_real_recordings_equal_librosa(librosa, music_data):
    for name in ("librosa_trumpet.ogg", "sonicpi_loop_electric.flac", "spleeter_example.mp3", "essentia_sax_dmin.wav"):
        sound = decode(music_data / "audio" / name, 22050)
        theirs = librosa.feature.melspectrogram(y=sound, sr=22050, n_fft=1024, hop_length=512, n_mels=96)
        np.testing.assert_allclose(front_end("logmel96").extract(sound), log(theirs), atol=1e-4)


@pytest.mark.parametrize("tuning", [None, 0.0, 0.2])
def test_the_324_features_equal_librosa_in_the_order_of_the_originals(librosa, tuning):
    front = front_end("musicoder324", tuning=tuning)
    sound = music(44100, 3.0)
    shape = {"y": sound, "sr": 44100, "hop_length": 1024, "win_length": 2048, "window": "hamming"}
    mfcc = librosa.feature.mfcc(**shape)
    theirs = {
        "chroma": (librosa.feature.chroma_stft(**shape, tuning=tuning).T, 1e-3),
        "mfcc": (mfcc.T, 1e-3),
        "delta": (librosa.feature.delta(mfcc).T, 1e-3),
        "mel": (log(librosa.feature.melspectrogram(**shape)), 1e-4),
        "cqt": (
            log(
                librosa.feature.chroma_cqt(
                    y=sound,
                    sr=44100,
                    hop_length=1024,
                    n_chroma=144,
                    bins_per_octave=None,
                    tuning=None if tuning is None else 12 * tuning,
                )
            ),
            1e-4,
        ),
    }
    ours = front.extract(sound)
    assert front.num_features == ours.shape[1] == 324 and list(front.blocks) == list(theirs)
    assert [begin for begin, _ in front.blocks.values()] == [0, 12, 32, 52, 180]
    for block, (values, tolerance) in theirs.items():
        begin, end = front.blocks[block]
        np.testing.assert_allclose(ours[:, begin:end], values, atol=tolerance, err_msg=block)


def test_loudness_beyond_80_decibels_below_the_loudest_is_cut_off_in_the_cepstrum_only(librosa):
    sound = music(44100, 2.0)
    sound[44100:] *= 1e-6
    front = front_end("musicoder324", tuning=0.0)
    ours = front.extract(sound)
    theirs = librosa.feature.mfcc(y=sound, sr=44100, hop_length=1024, win_length=2048, window="hamming")
    np.testing.assert_allclose(ours[:, 12:32], theirs.T, atol=1e-3)
    assert ours[-5:, 52:180].max() < -10


@pytest.mark.parametrize("frames", [1, 2, 8, 9, 10, 40])
def test_the_slope_is_that_of_the_line_through_nine_frames(frames):
    values = torch.from_numpy(np.random.default_rng(frames).standard_normal((frames, 3)))
    expected = np.zeros((frames, 3))
    width = min(9, frames)
    for frame in range(frames):
        begin = min(max(frame - width // 2, 0), frames - width)
        if frames > 1:
            expected[frame] = np.polyfit(np.arange(width), values[begin : begin + width].numpy(), 1)[0]
    if frames in (2, 8):  # one line through all of them
        expected[:] = np.polyfit(np.arange(frames), values.numpy(), 1)[0]
    np.testing.assert_allclose(slope(values).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
def test_frames_of_a_part_are_those_of_the_whole(tmp_path, suffix, rate):
    front = front_end("logmel96")
    path = tmp_path / f"x.{suffix}"
    sound = music(rate, 9.0) * (np.arange(9 * rate) % (3 * rate) < 2 * rate)  # silence between is what mp3 saves on
    soundfile.write(path, sound, rate)
    whole = front.extract(decode(path, 22050))
    last = len(whole)
    for start, stop in ((0, 5), (0, last), (30, 31), (77, 120), (150, 200), (270, 300), (last - 3, last)):
        part = front.read(path, last, start, stop)
        # Below 32 kHz, rounding in an mp3's synthesis depends on where it began: 6e-8 of full scale.
        np.testing.assert_allclose(part, whole[start:stop], atol=3e-4 if suffix == "mp3" and rate < 32000 else 1e-4)


def test_a_recording_that_has_become_shorter_is_told(tmp_path):
    front = front_end("logmel96")
    soundfile.write(tmp_path / "x.wav", music(22050, 2.0), 22050)
    frames = front.frames_of(44100)
    assert len(front.read(tmp_path / "x.wav", frames, 0, frames)) == frames
    soundfile.write(tmp_path / "x.wav", music(22050, 1.0), 22050)
    assert len(front.read(tmp_path / "x.wav", frames, 0, 20)) == 20  # that part is still there
    for shorter in (front, front_end("logmel96", normalisation="clip")):
        with pytest.raises(RecordingError, match="x.wav: has 44 frames, but had 87"):
            shorter.read(tmp_path / "x.wav", frames, 0, frames)


def test_silence_is_the_floor_and_a_tone_lights_its_band():
    front = front_end("logmel96")
    silence = front.extract(np.zeros(22050, np.float32))
    np.testing.assert_allclose(silence, np.log(1e-6), rtol=1e-6)
    for hertz in (220, 1000, 5000):
        tone = np.sin(2 * np.pi * hertz * np.arange(22050) / 22050).astype(np.float32)
        band = front.extract(tone)[20].argmax()
        near = np.abs(front.frequencies - hertz).argmin()
        assert abs(int(band) - int(near)) <= 1


def test_a_sound_shorter_than_a_window_has_one_frame():
    assert front_end("logmel96").extract(np.ones(1, np.float32)).shape == (1, 96)
    assert front_end("logmel96").extract(np.ones(512, np.float32)).shape == (2, 96)


def test_defect_10_each_feature_has_zero_mean_over_the_clip_and_not_each_frame():
    front = FrontEnd("x", normalisation="clip")
    features = front.extract(music(22050, 3.0))
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(0), 1, atol=1e-4)
    assert np.abs(features.mean(1)).max() > 0.1  # loud frames stay loud
    old = FrontEnd("x", normalisation="frame").extract(music(22050, 3.0))
    np.testing.assert_allclose(old.mean(1), 0, atol=1e-5)  # the original's, for features that exist


def test_defect_10_a_band_that_never_changes_stays_quiet_when_normalised():
    features = np.full((100, 96), -13.8, np.float32)
    features[:, 0] = np.linspace(-5, 5, 100)
    features[3, 50] += 1e-6
    normal = FrontEnd("x", normalisation="clip").normalise(features)
    assert np.abs(normal[:, 1:]).max() < 1e-2
    np.testing.assert_allclose(normal[:, 0].std(), 1, rtol=1e-5)


def test_columns_have_names_blocks_and_frequencies():
    front = front_end("m3bert324")
    names = front.feature_names
    assert len(names) == 324 and len(set(names)) == 324
    assert (names[0], names[12], names[32], names[52], names[323]) == (
        "chroma C",
        "mfcc 0",
        "delta 0",
        "mel 0",
        "cqt 143",
    )
    hertz = front.frequencies
    assert np.isnan(hertz[:52]).all() and np.isnan(hertz[180:]).all() and (np.diff(hertz[52:180]) > 0).all()
    assert front.frame_rate == pytest.approx(43.066, abs=1e-3) and front.normalisation == "clip"
    assert FrontEnd.of(front.settings()) == front


@pytest.mark.parametrize(
    ("name", "chosen", "expected"),
    [
        ("mel", {}, "is unknown"),
        ("logmel96", {"hop": 0}, "hop of 0"),
        ("logmel96", {"hop": 2000}, "hop of 2000"),
        ("logmel96", {"sample_rate": 10}, "sample rate of 10"),
        ("logmel400", {}, "holds no bin"),
        ("logmel96", {"window": "kaiser"}, "hann, hamming"),
        ("logmel96", {"normalisation": "speech"}, "none, clip, frame"),
        ("musicoder324", {"tuning": 3.0}, "-0.5 to 0.5"),
        ("musicoder324", {"hop": 1000}, "multiple of 64"),
    ],
)
def test_settings_that_cannot_work_are_told_in_one_sentence(name, chosen, expected):
    with pytest.raises(OptionError, match=expected):
        front_end(name, **chosen)


def test_without_librosa_the_chroma_cqt_is_told_to_need_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "librosa", None)
    with pytest.raises(OptionError, match="bash scripts/setup.sh audio installs it"):
        front_end("m3bert324").extract(np.ones(44100, np.float32))


def in_blocks(sound: np.ndarray, size: int):
    return lambda: [sound[first : first + size] for first in range(0, len(sound), size)]


@pytest.mark.parametrize("chosen", [{}, {"normalisation": "clip"}, {"normalisation": "frame", "hop": 300}])
def test_log_mels_of_blocks_are_those_of_the_whole_to_the_bit(chosen):
    front, sound = front_end("logmel96", **chosen), music(22050, 9.0)
    whole = front.extract(sound)
    for size in (777, 50_000):
        np.testing.assert_array_equal(np.concatenate(list(front.feature_blocks(in_blocks(sound, size)))), whole)


@pytest.mark.parametrize(
    ("name", "chosen", "seconds"),
    [("m3bert324", {}, 7.0), ("musicoder324", {"tuning": 0.2, "sample_rate": 22050, "hop": 512}, 3.0)],
)
def test_the_324_features_of_a_real_recording_in_blocks_are_those_of_the_whole(
    librosa, music_data, name, chosen, seconds
):
    front = front_end(name, **chosen)
    sound = decode(music_data / "audio" / "spleeter_example.mp3", front.sample_rate)[
        : round(seconds * front.sample_rate)
    ]
    whole = front.extract(sound)
    blocks = np.concatenate(list(front.feature_blocks(in_blocks(sound, 9_999))))
    np.testing.assert_array_equal(blocks, whole)
    assert len(whole) == front.frames_of(len(sound))


@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_the_324_features_of_a_very_short_sound_are_finite(librosa, samples):
    features = front_end("musicoder324", tuning=0.0).extract(music(44100, 0.2)[:samples])
    assert features.shape == (1 + samples // 1024, 324) and np.isfinite(features).all()


def test_a_rate_below_that_of_the_highest_filter_is_refused_before_any_file():
    with pytest.raises(
        OptionError, match=r"a sample rate of 8000; the filters .* 4,\d\d\d Hz, so that 8\d\d\d or more"
    ):
        front_end("musicoder324", sample_rate=8000)
    lowest = front_end("musicoder324", sample_rate=8400)
    assert np.isfinite(lowest.extract(music(8400, 0.5))).all()
    with pytest.raises(OptionError, match="or more is accepted"):  # a higher tuning moves the filters up
        front_end("musicoder324", sample_rate=8400, tuning=0.5)
