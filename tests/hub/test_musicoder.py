"""The hub of models of sound decodes recordings of any kind, as far as a limit, and says what is wrong with them."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from musicbert_plugin.audio.decoding import decode
from musicbert_plugin.audio.front_end import front_end
from musicbert_plugin.errors import RecordingError

FRONT = front_end("logmel8", sample_rate=8000, n_fft=256, hop=128)
SOUND = (0.1 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)


@pytest.fixture
def hub(registered):
    from musicbert_plugin.hub import MusiCoderHub
    from musicbert_plugin.models.musicoder import MusiCoderConfig, MusiCoderModel

    sizes = {"encoder_layers": 1, "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 8, "encoder_attention_heads": 2}
    task = SimpleNamespace(feature_mean=np.zeros(8, np.float32), feature_std=np.ones(8, np.float32))
    model = MusiCoderModel.build_model(MusiCoderConfig(**sizes, conv_kernel=5), task)
    return MusiCoderHub(model, {"front_end": FRONT.settings(), "frame_rate": FRONT.frame_rate})


def wav(samples: np.ndarray = SOUND) -> bytearray:
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format="WAV")
    return bytearray(file.getvalue())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.wav"


def test_a_recording_becomes_what_the_front_end_makes_of_its_samples(hub, path):
    path.write_bytes(wav())
    np.testing.assert_array_equal(hub.spectrogram(path), FRONT.extract(decode(path, 8000)))
    np.testing.assert_array_equal(hub.spectrogram(str(path)), hub.spectrogram(path))


def test_a_header_that_states_1_hertz_is_refused_before_anything_is_decoded(hub, path, monkeypatch):
    data = wav()
    data[24:28] = struct.pack("<I", 1)
    path.write_bytes(data)
    monkeypatch.setattr("musicbert_plugin.audio.decoding._read", None)
    with pytest.raises(RecordingError, match="states a sample rate of 1 Hz; 1,000 to 768,000 is accepted"):
        hub.spectrogram(path)


def test_a_recording_above_the_limit_is_refused_and_the_limit_can_be_raised(hub, path):
    path.write_bytes(wav())
    hub.max_seconds = 1.5
    with pytest.raises(RecordingError, match=r"x.wav: 2.0 seconds, more than 1.5 seconds; --max-seconds accepts"):
        hub.spectrogram(path)
    soundfile.write(path.with_suffix(".ogg"), SOUND, 8000)
    with pytest.raises(RecordingError, match="more than 1.5 seconds"):
        hub.spectrogram(path.with_suffix(".ogg"))
    hub.max_seconds = 2.5
    assert len(hub.spectrogram(path)) == FRONT.frames_of(16000)


def test_a_damaged_recording_is_used_up_to_there_with_a_warning(hub, path, caplog):
    data = wav()
    path.write_bytes(data[: len(data) // 2])
    assert len(hub.spectrogram(path)) == pytest.approx(FRONT.frames_of(8000), abs=1)
    assert "is cut off, or parts of it are damaged; 1.00 seconds are kept, about 1.00 seconds are lost" in caplog.text
