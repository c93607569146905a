"""The benchmarks of training run, compare models that agree, and print JSON; their times are nobody's business here."""

import json

import pytest
import torch


def test_the_training_step_compares_equal_models(run):
    from benchmarks import training_step

    sizes = "--size tiny --rows 1 --octuples 64 --dropout 0 --steps 1".split()
    result = run(training_step, *sizes)
    plugin, original = result["loss per step"].values()
    assert plugin == pytest.approx(original, abs=1e-3)
    assert result["ratio (median)"] > 0 and result["versions"]["torch"] == torch.__version__


def test_the_gpu_benchmark_can_be_tried_on_a_cpu(run):
    from benchmarks import gpu_training

    variants = ["bf16", "float32, padded, full heads"]
    result = run(gpu_training, "--dry-run", "--variants", *variants)["musicbert_tiny"]
    packed, padded = (result[variant]["loss, first and last"][0] for variant in variants)
    assert packed == pytest.approx(padded, abs=0.05), "both see the same pieces"
    assert set(result["times the reference"]) == set(variants)


def test_infilling_moves_no_note_of_the_held_out_pieces_unless_a_meter_and_a_tempo_are_asked_for(run, tmp_path):
    import numpy as np

    from benchmarks import infill_timing
    from musicbert_plugin.codecs.score import Score, write_midi
    from preprocess.octuple import main

    (tmp_path / "midi").mkdir()
    for number in range(4):
        onset = np.arange(60) * 240
        pitch = 50 + np.random.default_rng(number).integers(0, 30, 60)
        write_midi(Score.of(480, onset, onset + 200, pitch, meters=[(0, 2, 4)]), tmp_path / "midi" / f"{number}.mid")
    midi, data = str(tmp_path / "midi"), str(tmp_path / "data")
    assert main(["build", midi, "--dest", data, "--split-ratios", "50,25,25"]) == 0
    held_out = sum(json.loads(line)["split"] != "train" for line in open(f"{data}/manifest.jsonl"))
    kept = run(infill_timing, midi, data)
    assert (kept["pieces"], kept["moved notes"], kept["largest shift (s)"]) == (held_out, 0, 0)
    assert run(infill_timing, midi, data, "--redraw", "meter,tempo")["moved notes"] > 0
