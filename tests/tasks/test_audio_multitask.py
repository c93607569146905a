"""Fine-tuning in fairseq's hands, from a pre-trained file to labels of a new recording."""

import json
from pathlib import Path

import pytest
import torch

LITTLE = (
    "--arch musicoder_tiny --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --conv-kernel 7 "
    "--optimizer adam --lr 0.01 --log-format json --no-epoch-checkpoints --max-tokens 400"
).split()
YAML = """
tasks:
  level: {type: single, classes: [quiet, loud]}
  tags: {type: multi, classes: [first, second]}
  mean: {type: regression, weight: 0.5}
"""


def labels():
    return {
        "level": lambda clip: "loud" if clip.mean() > -4 else "quiet",
        "tags": lambda clip: (
            "/".join(
                name for name, high in (("first", clip[:, 0].mean() > -4), ("second", clip[:, 1].mean() > -4)) if high
            )
            or "/"
        ),
        "mean": lambda clip: f"{clip.mean():.3f}" if len(clip) > 35 else "",
    }


@pytest.fixture
def folder(spectrogram_folder):
    folder = spectrogram_folder(train=[60, 40, 90, 100, 77, 30] * 3, valid=[50, 120, 33, 80, 61], labels=labels())
    (folder / "tasks.yaml").write_text(YAML)
    return folder


@pytest.fixture
def pretrained(fairseq_command, folder, tmp_path):
    fairseq_command(
        "train", folder, *LITTLE, "--task", "spectrogram_reconstruction", "--criterion", "spectrogram_reconstruction",
        "--max-epoch", 1, "--save-dir", tmp_path / "pre", "--pictures", 0, "--codes", 4,
    )  # fmt: skip
    return tmp_path / "pre" / "checkpoint_last.pt"


def fine_tune(command, folder, save, pretrained, *options):
    return command(
        "train", folder, *LITTLE, "--task", "audio_multitask", "--criterion", "audio_multitask", "--save-dir", save,
        "--finetune-from-model", pretrained, "--max-epoch", 8, *options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        ["--weighting", "uncertainty", "--layer-mix", "learned", "--pooling", "attention"],
        ["--trainable-layers", "0", "--pooling", "mean+max", "--head-dim", "8", "--weighting", "equal"],
        ["--trainable-layers", "1", "--layer-mix", "1", "--bf16"],
    ],
    ids=lambda options: " ".join(options),
)
def test_labels_are_learnt_from_a_pretrained_file(fairseq_command, folder, pretrained, tmp_path, options):
    outcome = fine_tune(fairseq_command, folder, tmp_path / "fine", pretrained, *options)
    lines = [line for line in outcome.statistics if "valid_level_accuracy" in line]
    assert len(lines) == 8
    wanted = {"level_accuracy", "level_f1", "tags_roc_auc", "tags_pr_auc", "mean_r2", "mean_ccc", "loss_level"}
    assert {f"valid_{name}" for name in wanted} <= set(lines[-1])
    assert float(lines[-1]["valid_loss_level"]) < float(lines[0]["valid_loss_level"])
    before, after = (
        torch.load(path, weights_only=True)["model"] for path in (pretrained, tmp_path / "fine" / "checkpoint_last.pt")
    )
    same = torch.equal(before["encoder.input.weight"].bfloat16(), after["encoder.input.weight"].bfloat16())
    assert same == ("--trainable-layers" in options)
    assert not any("reconstruction_head" in key for key in after)


def test_defect_12_everything_imports_as_released_and_tables_of_tasks_run_no_code(registered, tmp_path):
    """The original imports modules that it lacks and a debugger, and reads YAML with the loader that runs code."""
    import importlib
    import pkgutil

    import musicbert_plugin
    from musicbert_plugin.data.labels import read_tasks
    from musicbert_plugin.errors import OptionError

    names = [
        module.name
        for module in pkgutil.walk_packages(musicbert_plugin.__path__, "musicbert_plugin.")
        if not module.name.endswith("__main__")
    ]
    sources = [Path(importlib.import_module(name).__file__).read_text(encoding="utf-8") for name in names]
    assert len(sources) > 60 and not any("ipdb" in source or "yaml.load(" in source for source in sources)
    trap = tmp_path / "tasks.yaml"
    trap.write_text(f"tasks: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n")
    with pytest.raises(OptionError, match="cannot be read as YAML"):
        read_tasks(trap)
    assert not (tmp_path / "made").exists()


def test_defect_26_fine_tuning_masks_nothing(folder, registered):
    from musicbert_plugin.tasks.audio_multitask import AudioMultitaskConfig, AudioMultitaskTask

    task = AudioMultitaskTask(AudioMultitaskConfig(data=str(folder), seed=1))
    task.load_dataset("valid")
    data = task.dataset("valid")
    batch = data.collater([data[index] for index in range(len(data))])
    assert set(batch["net_input"]) == {"source", "lengths"}
    for index in range(len(data)):
        clip, start, stop = data.windows.span(index)
        expected = torch.from_numpy(data.windows.split.read(clip, start, stop))
        assert torch.equal(batch["net_input"]["source"][index, : stop - start].float(), expected)


def test_a_fine_tuned_file_knows_its_classes_and_validates_alike(fairseq_command, folder, pretrained, tmp_path):
    outcome = fine_tune(fairseq_command, folder, tmp_path / "fine", pretrained, "--max-epoch", 2)
    checkpoint = tmp_path / "fine" / "checkpoint_last.pt"
    state = torch.load(checkpoint, weights_only=True)
    assert [task["classes"] for task in state["task_state"]["label_tasks"]][0] == ["quiet", "loud"]
    again = fairseq_command("validate", folder, "--path", checkpoint, "--task", "audio_multitask", "--max-tokens", 400)
    last = [line for line in outcome.statistics if "valid_mean_r2" in line][-1]
    assert f"mean_r2 {last['valid_mean_r2']} " in again.log
    assert f"loss {last['valid_loss']} " in again.log


@pytest.mark.parametrize("longest", [26, 0])
def test_evaluation_finds_what_the_validation_of_the_training_found(fairseq_command, folder, tmp_path, capsys, longest):
    from musicbert_plugin.evaluate.__main__ import main as evaluate

    outcome = fairseq_command(
        "train", folder, *LITTLE, "--task", "audio_multitask", "--criterion", "audio_multitask", "--max-epoch", 1,
        "--save-dir", tmp_path / "fine", "--max-frames", longest, "--min-frames", 10, "--frame-stack", 3,
    )  # fmt: skip
    line = [line for line in outcome.statistics if "valid_mean_r2" in line][-1]
    capsys.readouterr()
    assert evaluate(["audio", "--path", str(tmp_path / "fine/checkpoint_last.pt"), str(folder)]) == 0
    values = json.loads(capsys.readouterr().out)
    for task, metric in (("level", "accuracy"), ("tags", "roc_auc"), ("mean", "r2"), ("mean", "ccc")):
        assert float(line[f"valid_{task}_{metric}"]) == pytest.approx(values[task]["model"][metric], abs=2e-3)


def test_an_exported_head_can_be_trained_further_and_measured(fairseq_command, folder, pretrained, tmp_path, capsys):
    from musicbert_plugin.evaluate.__main__ import main as evaluate
    from musicbert_plugin.hub.__main__ import main as hub

    fine_tune(fairseq_command, folder, tmp_path / "fine", pretrained, "--max-epoch", 2, "--weighting", "uncertainty")
    whole, small = tmp_path / "fine" / "checkpoint_last.pt", tmp_path / "tags.pt"
    hub(["export-head", str(whole), str(small), "--head", "tags"])
    assert small.stat().st_size < whole.stat().st_size / 2  # nothing of the optimizer
    capsys.readouterr()
    scores = []
    for path in (whole, small):
        assert evaluate(["audio", "--path", str(path), str(folder), "--head", "tags"]) == 0
        scores.append(json.loads(capsys.readouterr().out)["tags"])
    assert scores[0] == scores[1]
    fine_tune(fairseq_command, folder, tmp_path / "on", small, "--max-epoch", 1, "--lr", "0")
    before, after = (
        torch.load(path, weights_only=True)["model"] for path in (small, tmp_path / "on/checkpoint_last.pt")
    )
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert any(key.startswith("clip_heads.heads.level") for key in after)  # a head that the file lacks starts fresh


def test_a_missing_column_is_told_in_a_sentence(fairseq_command, folder, tmp_path, capsys):
    (folder / "tasks.yaml").write_text("tasks:\n  key: {type: single}\n")
    with pytest.raises(SystemExit) as end:
        fairseq_command(
            "train", folder, *LITTLE, "--task", "audio_multitask", "--criterion", "audio_multitask",
            "--save-dir", tmp_path,
        )  # fmt: skip
    assert end.value.code == 2 and "no label column 'key'" in capsys.readouterr().err


def test_loader_processes_end_when_the_next_epoch_begins(folder, loader_processes):
    from musicbert_plugin.tasks.audio_multitask import AudioMultitaskConfig, AudioMultitaskTask

    assert loader_processes(AudioMultitaskTask(AudioMultitaskConfig(data=str(folder), seed=1))) == [2, 2, 2, 0]
