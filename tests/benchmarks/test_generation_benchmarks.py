"""The benchmarks of attention and generation run and print JSON; their times are nobody's business here."""

import numpy as np
import torch


def test_linear_attention_is_compared_with_softmax_and_running_sums(run):
    from benchmarks import linear_attention

    result = run(linear_attention, *"--lengths 70 --heads 2 --head-dim 5 --rounds 1".split())
    assert set(result["lengths"]["70"]["times faster than"]) == {"sdpa", "running sums"}


def test_the_forms_that_are_compared_agree():
    from benchmarks.linear_attention import running_sums
    from musicbert_plugin.modules.linear_attention import linear_attention

    q, k, v = torch.randn(3, 1, 70, 2, 5)
    assert torch.allclose(running_sums(q, k, v), linear_attention(q, k, v), atol=1e-5)


def test_generation_is_measured_at_both_batch_sizes(run, monkeypatch):
    from benchmarks import generation

    monkeypatch.setattr(generation, "POSITIONS", (100, 300))
    monkeypatch.setattr(generation, "LENGTHS", (70,))
    result = run(generation, *"--size debug --tokens 12 --rounds 1".split())
    assert set(result["tokens per CPU-second"]) == {"batch 1", "batch 16"}


def test_varied_requests_ask_for_what_samples_have():
    from benchmarks.varied_requests import draw_requests
    from musicbert_plugin.codecs.attributes import NA, NO, SLOT_OF, YES, parse_request

    lines = ["piano violin meter=4/4 key=major bars=4", "piano no-violin meter=3/4 key=minor bars=8", "piano meter=3/4"]
    samples = np.stack([parse_request(line) for line in lines] * 10)
    requests = draw_requests(samples, 50, seed=3)
    assert np.array_equal(requests, draw_requests(samples, 50, seed=3))
    assert len(np.unique(requests, axis=0)) > 20
    piano, meter = SLOT_OF["I1s2"], SLOT_OF["TS1s1"]
    assert set(requests[:, meter].tolist()) == {0, 2, int(NA[meter])}
    assert {YES, NO} <= set(requests[:, piano].tolist())
    silent = np.flatnonzero((samples != YES).all(0)[piano : piano + 28]) + piano
    assert (requests[:, silent] == NA[silent]).all(), "an instrument that no sample has"
    assert ((requests != NA).sum(1) <= 6).all()


def test_music_is_described_by_tempo_changes_clashes_and_struck_keys():
    from benchmarks.varied_requests import described
    from musicbert_plugin.codecs.score import Score

    onset = np.array([0, 0, 0, 480, 960, 960])
    end = np.array([960, 480, 480, 960, 1920, 1920])
    pitch = np.array([60, 61, 60, 60, 64, 76])
    program = np.array([0, 40, 0, 0, 0, 0])
    score = Score.of(480, onset, end, pitch, program=program, tempi=[(0, 100), (960, 120)], meters=[(0, 4, 4)])
    assert described([score, score]) == {
        "pieces": 2,
        "tempo_changes": {"mean": 1.0, "most": 1, "pieces_with_one": 1.0},
        "semitone_clashes": 0.25,
        "struck_again": round(2 / 6, 4),
        "doubles": round(1 / 6, 4),
        "pieces_with_struck_keys": 2,
    }
