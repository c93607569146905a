"""The benchmark of spectrogram reconstruction runs and prints JSON; its times are nobody's business here."""

import json
import sys

import torch


def test_the_loader_is_timed_over_some_steps(spectrogram_folder, tmp_path, monkeypatch, capsys):
    from benchmarks import spectrogram_reconstruction

    spectrogram_folder(train=[60] * 30, valid=[30])  # its name is that of the benchmark's own folder of features
    words = ["loader", tmp_path, "--work", tmp_path, "--updates", 2]
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, words)])
    spectrogram_reconstruction.main()
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 2 and 0 <= result["share"] <= 1 and result["versions"]["torch"] == torch.__version__
