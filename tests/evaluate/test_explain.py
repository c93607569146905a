"""Explanations add up, agree with float64 differences, and are written as JSON, tables and a picture."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.octuple import BAR, FIELDS, MASK
from musicbert_plugin.codecs.score import Score, write_midi
from musicbert_plugin.evaluate.__main__ import main

SIZES = {
    "encoder_layers": 1,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "max_positions": 160,  # 18 notes per window
}


@pytest.fixture
def checkpoint(registered: None, tmp_path: Path) -> Path:
    import torch

    from musicbert_plugin.models.musicbert import MusicBERTModel
    from musicbert_plugin.tasks.octuple_task import octuple_dictionary

    torch.manual_seed(0)
    model = MusicBERTModel.build_model(Namespace(**SIZES), SimpleNamespace(source_dictionary=octuple_dictionary()))
    model.register_classification_head("mood", 3)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    cfg = {"model": {"_name": "musicbert", **SIZES}, "task": {"_name": "octuple_masked_lm"}}
    torch.save({"args": None, "cfg": cfg, "model": model.state_dict()}, tmp_path / "model.pt")
    (tmp_path / "labels.txt").write_text("happy\nsad\ncalm\n")
    return tmp_path / "model.pt"


@pytest.fixture
def piece(tmp_path: Path) -> Path:
    """Six bars of eight notes, the third of them empty: three windows."""
    random = np.random.default_rng(1)
    onset = np.concatenate([bar * 1920 + np.arange(8) * 240 for bar in (0, 1, 3, 4, 5)])
    write_midi(Score.of(480, onset, onset + 200, random.integers(40, 90, 40), 64), tmp_path / "piece.mid")
    return tmp_path / "piece.mid"


def test_contributions_add_up_over_fields_bars_and_windows(checkpoint, piece) -> None:
    from musicbert_plugin.hub import MusicBERTHub
    from musicbert_plugin.hub.attribution import Explainer

    hub = MusicBERTHub.from_pretrained(checkpoint)
    explainer = Explainer(hub, target="sad")
    notes = hub.octuples(piece)
    assert len(list(explainer._windows(notes))) == 3
    found = explainer.attribute(notes, 1)
    assert found.contributions.shape == (40, 8) and explainer.number_of(notes) == 1
    assert found.score == pytest.approx(explainer.outputs(notes)[1], abs=1e-5)
    assert abs(found.error) <= 0.03 * abs(found.score - found.baseline) + 1e-3
    by_bar = found.by_bar()
    assert by_bar.shape == (6, 8) and (by_bar[2] == 0).all()
    np.testing.assert_allclose(by_bar.sum(), found.contributions.sum())


def test_a_linear_path_is_integrated_as_small_steps_of_every_embedding(checkpoint, piece) -> None:
    """Of one window: the contribution of a field is the sum of changes of the output along its own embedding."""
    import torch

    from musicbert_plugin.hub import MusicBERTHub
    from musicbert_plugin.hub.attribution import Explainer

    hub = MusicBERTHub.from_pretrained(checkpoint)
    hub.model.double()
    explainer, notes = Explainer(hub), hub.octuples(piece)[:6]
    found = explainer.attribute(notes, 0)
    ids = torch.from_numpy(octuple.frame(notes).astype(np.int64)).view(-1, 8)
    masked = ids.clone()
    masked[1:-1] = MASK
    encoder = hub.model.encoder.sentence_encoder
    full, empty = (encoder.embed_tokens(tokens).detach() for tokens in (ids, masked))
    expected = torch.zeros(8, 8, dtype=torch.float64)
    steps = 60
    for step in range(steps):
        x = (empty + (step + 0.5) / steps * (full - empty)).requires_grad_()
        y = encoder.downsampling(x.flatten(1)) + encoder.embed_positions(torch.arange(len(ids)) + 2)
        state = encoder.emb_layer_norm(y)
        metadata = encoder._metadata((len(ids),), (len(ids),), state)
        for layer in encoder.layers:
            state = layer(state, metadata)
        features = encoder.upsampling(state[:1])[:, : state.shape[1]].unsqueeze(1)
        hub.model.classification_heads["mood"](features)[0, 0].backward()
        expected += ((full - empty) * x.grad).sum(-1) / steps
    np.testing.assert_allclose(found.contributions, expected[1:-1].numpy(), atol=2e-3 * expected.abs().max().item())


def test_occlusion_is_the_fall_of_the_output_where_a_bar_is_masked(checkpoint, piece) -> None:
    import torch

    from musicbert_plugin.hub import MusicBERTHub
    from musicbert_plugin.hub.attribution import Explainer

    hub = MusicBERTHub.from_pretrained(checkpoint)
    explainer, notes = Explainer(hub), hub.octuples(piece)[:16]
    found = explainer.occlude(notes, 2)
    for bar in range(2):
        rows = octuple.frame(notes).astype(np.int64).reshape(-1, 8)
        rows[1:-1][notes[:, BAR] == bar] = MASK
        with torch.inference_mode():
            output = hub.model(torch.from_numpy(rows.reshape(1, -1)), classification_head_name="mood")[0][0, 2]
        assert found[bar] == pytest.approx(explainer.outputs(notes)[2] - float(output), abs=1e-5)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    status = main(["explain", *map(str, words)])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else None, said.err


def test_the_command_reports_bars_fields_and_deletions_and_draws_them(checkpoint, piece, tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    status, values, said = run(capsys, "--path", checkpoint, piece, "--dest", tmp_path / "out", "--draws", 3)
    assert status == 0 and values["target"] in ("happy", "sad", "calm") and set(values["fields"]) == set(FIELDS)
    assert [row["bar"] for row in values["bars"]] == [1, 2, 4, 5, 6] and values["bars"][0]["notes"] == 8
    explained = values["score"] - values["baseline"]
    assert sum(values["fields"].values()) == pytest.approx(explained + values["error"])
    assert sum(row["contribution"] for row in values["bars"]) == pytest.approx(explained + values["error"])
    assert values["deletion"]["bars"] == 1 and "drawn at random" in said
    assert (tmp_path / "out" / "explanation.png").stat().st_size > 5000
    for words, sentence in ((("--target", "angry"), "has happy, sad, calm"), (("--head", "key"), "the model has mood")):
        status, _, said = run(capsys, "--path", checkpoint, piece, *words)
        assert status == 2 and sentence in said


def test_pooled_heads_of_labelled_tasks_are_explained_too(registered, piece) -> None:
    import torch

    from musicbert_plugin.data.labels import LabelTask
    from musicbert_plugin.errors import CheckpointError
    from musicbert_plugin.hub import MusicBERTHub
    from musicbert_plugin.hub.attribution import Explainer
    from musicbert_plugin.models.musicbert import MusicBERTModel
    from musicbert_plugin.tasks.octuple_task import octuple_dictionary

    torch.manual_seed(1)
    task = SimpleNamespace(source_dictionary=octuple_dictionary(), head_sizes={"mood": 2})
    model = MusicBERTModel.build_model(Namespace(**SIZES, pooling="mean"), task)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    hub = MusicBERTHub(model)
    with pytest.raises(CheckpointError, match="no heads for labels"):
        Explainer(hub.untrained(1))
    hub.label_tasks = [LabelTask("mood", "single", "mood", ("dark", "bright"))]
    explainer, notes = Explainer(hub, target="bright"), hub.octuples(piece)[:8]
    found = explainer.attribute(notes, explainer.number_of(notes))
    assert abs(found.error) <= 0.01 * abs(found.score - found.baseline) + 1e-4
    logits = next(iter(hub._label_logits(notes)))[0]["mood"][0]
    np.testing.assert_allclose(explainer.outputs(notes), logits.numpy(), atol=1e-5)
