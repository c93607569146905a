"""Fine-tuning on notes in fairseq's hands: from a pre-trained file to labels of pieces and of notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from musicbert_plugin.errors import CheckpointError, DatasetError, OptionError
from tests.data.test_labelled_octuple_dataset import batch_of, task_of

LITTLE = (
    "--arch musicbert_tiny --encoder-layers 2 --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 "
    "--tokens-per-sample 160 --optimizer adam --lr 0.01 --log-format json --no-epoch-checkpoints "
    "--max-tokens 320 --seed 3"
).split()
YAML = """
tasks:
  register: {type: single}
  tags: {type: multi, label_smoothing: 0.1}
  mean: {type: regression, weight: 0.5}
"""
TRAIN = [30, 9, 14, 3, 7, 22, 18, 40]


@pytest.fixture
def folder(labelled_folder: Callable[..., Path]) -> Path:
    folder = labelled_folder(train=TRAIN * 2, valid=[12, 25, 5, 31], test=[8, 17])
    (folder / "tasks.yaml").write_text(YAML)
    return folder


@pytest.fixture
def pretrained(fairseq_command: Callable[..., Any], folder: Path, tmp_path: Path) -> Path:
    fairseq_command(
        "train", folder, *LITTLE, "--task", "octuple_masked_lm", "--criterion", "octuple_masked_lm",
        "--max-update", 2, "--save-dir", tmp_path / "pre", "--disable-validation",
    )  # fmt: skip
    return tmp_path / "pre" / "checkpoint_last.pt"


def fine_tune(command: Callable[..., Any], folder: Path, save: Path, *options: Any, task: str = "sequence") -> Any:
    return command(
        "train", folder, *LITTLE, "--task", f"music_{task}_prediction", "--criterion", "labels", "--save-dir", save,
        "--max-epoch", 12, *options,
    )  # fmt: skip


def test_labels_of_pieces_are_learnt_from_a_pretrained_file(
    fairseq_command: Callable[..., Any], folder: Path, pretrained: Path, tmp_path: Path
) -> None:
    save = tmp_path / "fine"
    outcome = fine_tune(
        fairseq_command, folder, save, "--finetune-from-model", pretrained, "--pooling", "mean+max",
        "--trainable-layers", 1, "--weighting", "uncertainty",
    )  # fmt: skip
    assert "heads from the checkpoint: none; heads that start fresh: mean, register, tags" in outcome.log
    last = [line for line in outcome.statistics if "valid_loss" in line][-1]
    assert float(last["valid_register_accuracy"]) == 1 and float(last["valid_tags_roc_auc"]) > 0.7
    before = torch.load(pretrained, weights_only=True)["model"]
    after = torch.load(save / "checkpoint_last.pt", weights_only=True)["model"]
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if ".layers.1." not in name} == same, "all but the last layer stayed as they were"
    (validated,) = fairseq_command(
        "validate", folder, "--task", "music_sequence_prediction", "--path", save / "checkpoint_last.pt",
        "--max-tokens", 320, "--log-format", "json",
    ).statistics  # fmt: skip
    for key in ("register_accuracy", "tags_roc_auc", "mean_r2"):
        assert validated[f"valid_{key}"] == last[f"valid_{key}"]
    again = fine_tune(fairseq_command, folder, tmp_path / "more", "--finetune-from-model", save / "checkpoint_last.pt",
                      "--pooling", "mean+max", "--max-epoch", 1)  # fmt: skip
    assert "heads from the checkpoint: mean, register, tags; heads that start fresh: none" in again.log


def test_labels_of_notes_are_learnt(fairseq_command: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    (folder / "tasks.yaml").unlink()
    outcome = fine_tune(fairseq_command, folder, tmp_path / "fine", "--max-epoch", 25, task="token")
    lines = [line for line in outcome.statistics if "valid_loss" in line]
    assert float(lines[-1]["valid_voice_accuracy"]) > 0.8 > float(lines[0]["valid_voice_accuracy"])
    state = torch.load(tmp_path / "fine" / "checkpoint_last.pt", weights_only=True)
    assert state["task_state"]["per_note"] and state["task_state"]["label_tasks"][0]["classes"] == ["lower", "upper"]


def test_frozen_states_are_computed_once_and_give_the_logits_that_the_encoder_gives(
    fairseq_command: Callable[..., Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musicbert_plugin.hub import MusicBERTHub
    from musicbert_plugin.modules.octuple_encoder import OctupleEncoder

    calls, forward = [], OctupleEncoder.forward
    monkeypatch.setattr(OctupleEncoder, "forward", lambda self, *a, **k: calls.append(1) or forward(self, *a, **k))
    outcome = fine_tune(fairseq_command, folder, tmp_path / "probe", "--frozen", "--max-epoch", 3)
    lines = [line for line in outcome.statistics if "valid_loss" in line]
    assert float(lines[-1]["valid_loss"]) < float(lines[0]["valid_loss"])
    task = task_of("sequence", folder, tokens_per_sample=160, frozen=True)
    batches = 0
    for split in ("train", "valid"):
        task.load_dataset(split)
        dataset = task.dataset(split)
        batches += len(dataset.batch_by_size(dataset.ordered_indices(), max_tokens=320))
    assert len(calls) == batches, "each batch of the first epoch, and none later"
    hub = MusicBERTHub.from_pretrained(tmp_path / "probe" / "checkpoint_last.pt")
    batch = batch_of(task.dataset("valid"))
    first, again = (hub.model(**batch["net_input"])[0] for _ in range(2))
    plain = hub.model(**{key: value for key, value in batch["net_input"].items() if key != "cached"})[0]
    for name, logits in plain.items():
        assert torch.equal(first[name], logits) and torch.equal(again[name], logits)
    with pytest.raises(SystemExit):
        fine_tune(fairseq_command, folder, tmp_path / "no", "--frozen", "--pooling", "attention")


@pytest.mark.parametrize("name", ["sequence", "token"])
def test_any_split_into_batches_and_rows_gives_the_same_gradient(folder: Path, name: str) -> None:
    from argparse import Namespace

    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

    from musicbert_plugin.criterions.labels import LabelsCriterion

    if name == "token":
        (folder / "tasks.yaml").unlink()
    found = []
    for pack, size in ((True, 100), (True, 1), (False, 3)):
        task = task_of(name, folder, pack=str(pack))
        task.load_dataset("valid")
        torch.manual_seed(0)
        args = Namespace(encoder_layers=1, encoder_embed_dim=8, encoder_ffn_embed_dim=8, encoder_attention_heads=2,
                         pooling="attention" if name == "sequence" else "auto", max_positions=12)  # fmt: skip
        ARCH_CONFIG_REGISTRY["musicbert_tiny"](args)
        model = ARCH_MODEL_REGISTRY["musicbert_tiny"].build_model(args, task).double().eval()
        criterion, dataset, total = LabelsCriterion(task, "fixed"), task.dataset("valid"), 0
        for first in range(0, len(dataset), size):
            rows = range(first, min(first + size, len(dataset)))
            loss, sample_size, _ = criterion(model, batch_of(dataset, rows))
            loss.backward()
            total += sample_size
        assert total == (10 if name == "sequence" else sum(n - n // 5 for n in (12, 25, 5, 31)))
        found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for other in found[1:]:
        for key, gradient in found[0].items():
            torch.testing.assert_close(other[key], gradient, rtol=1e-6, atol=1e-8)


def test_a_fold_is_the_test_set_and_splits_no_group(labelled_folder: Callable[..., Path]) -> None:
    folder = labelled_folder(folds=3, train=[9] * 24)
    (folder / "tasks.yaml").write_text(YAML)
    tested = []
    for fold in range(3):
        task = task_of("sequence", folder, fold=fold, dev_share=0.25)
        items = {}
        for split in ("train", "valid", "test"):
            task.load_dataset(split)
            items[split] = set(batch_of(task.dataset(split))["item"].tolist())
        assert [len(found) for found in items.values()] == [12, 4, 8]
        groups = [{item // 2 for item in found} for found in items.values()]
        assert sum(map(len, groups)) == 12
        tested += items["test"]
    assert sorted(tested) == list(range(24))
    with pytest.raises(OptionError, match="has folds; --fold 0 to 2 chooses the test set"):
        task_of("sequence", folder).load_dataset("valid")
    with pytest.raises(OptionError, match="--fold is 3"):
        task_of("sequence", folder, fold=3)


def test_what_cannot_be_learnt_is_told_in_a_sentence(folder: Path, spectrogram_folder: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match="kind 'spectrogram', but this task reads kind 'octuple'"):
        task_of("sequence", spectrogram_folder("sound", train=[30], valid=[20]))
    with pytest.raises(OptionError, match="one labelled folder is accepted"):
        task_of("sequence", Path(f"{folder}:{folder}"))
    with pytest.raises(OptionError, match="--windows-per-piece is -1"):
        task_of("sequence", folder, windows_per_piece=-1)
    for entry, words in (
        ("voice: {type: multi}", "labels of notes are single"),
        ("chord: {type: single}", "no labels of notes named 'chord' for task chord; it has voice"),
        (
            "voice: {type: single, classes: [upper, tenor]}",
            "'tenor' is none of those of the notes, which are lower, upper",
        ),
    ):
        (folder / "tasks.yaml").write_text(f"tasks:\n  {entry}\n")
        with pytest.raises((DatasetError, OptionError), match=words):
            task_of("token", folder)


def test_positions_of_a_longer_table_are_taken_and_a_shorter_one_is_refused(folder: Path) -> None:
    from argparse import Namespace

    from musicbert_plugin.models.musicbert import MusicBERTModel

    task, models = task_of("sequence", folder), {}
    for positions in (20, 12):
        args = Namespace(encoder_layers=1, encoder_embed_dim=8, encoder_ffn_embed_dim=8, encoder_attention_heads=2,
                         max_positions=positions)  # fmt: skip
        models[positions] = MusicBERTModel.build_model(args, task)
    state = models[20].state_dict()
    models[12].load_state_dict(dict(state))
    table = "encoder.sentence_encoder.embed_positions.weight"
    assert torch.equal(models[12].state_dict()[table], state[table][:14])
    with pytest.raises(CheckpointError, match="has 12 positions, but the model 20; --tokens-per-sample 12"):
        models[20].load_state_dict(models[12].state_dict())
