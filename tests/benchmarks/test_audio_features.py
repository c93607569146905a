"""The benchmark of audio features counts the music of a folder and compares with librosa where it can."""

from __future__ import annotations

import json
import sys

import numpy as np
import soundfile

from benchmarks import audio_features


def test_it_reports_seconds_of_music_per_processor_second(tmp_path, monkeypatch, capsys):
    for name, seconds in (("a.wav", 1.0), ("b.flac", 2.0)):
        noise = 0.1 * np.random.default_rng(1).standard_normal(round(22050 * seconds))
        soundfile.write(tmp_path / name, noise, 22050)
    (tmp_path / "README.md").write_text("no music")
    monkeypatch.setattr(sys, "argv", ["audio_features", str(tmp_path), "--repeat", "1"])
    audio_features.main()
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == 2 and result["seconds_of_music"] == 3.0
    assert result["files_to_features"] > 0 and result["decoding_alone"] > 0
    assert result["front_end"] == "logmel96" and result["features_alone"] > 0
