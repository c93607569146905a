"""The task in fairseq's hands: training, validation, pictures, resuming, half precision, options, shards."""

import json

import numpy as np
import pytest
import torch

from musicbert_plugin.errors import DatasetError, OptionError

LITTLE = (
    "--task spectrogram_reconstruction --criterion spectrogram_reconstruction --arch musicoder_tiny "
    "--encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --conv-kernel 7 --optimizer adam --lr 0.01 "
    "--lr-scheduler fixed --log-format json --log-interval 1 --no-epoch-checkpoints --max-frames 40"
).split()


@pytest.fixture
def folder(spectrogram_folder):
    return spectrogram_folder(train=[60, 40, 33, 90, 25], valid=[50, 30])


def train(command, folder, save, *options):
    return command(
        "train", folder, *LITTLE, "--save-dir", save, "--max-tokens", 200, "--max-epoch", 3, "--pictures", 0, *options
    )


def make_task(folder, **options):
    from musicbert_plugin.tasks.spectrogram_reconstruction import (
        SpectrogramReconstructionTask,
        SpectrogramReconstructionTaskConfig,
    )

    return SpectrogramReconstructionTask(SpectrogramReconstructionTaskConfig(data=str(folder), seed=1, **options))


@pytest.mark.parametrize(
    "options",
    [
        ["--masking", "frames"],
        ["--bf16", "--frame-stack", "2", "--codes", "8"],
        ["--compat", "musicoder", "--checkpoint-activations", "--masking", "m3bert", "--update-freq", "2"],
        [
            "--predict",
            "correction",
            "--reconstruction-loss",
            "l1",
            "--masking",
            "musicoder",
            "--encoder-layerdrop",
            "0.3",
        ],
    ],
    ids=lambda options: " ".join(options),
)
def test_training_logs_the_model_beside_both_baselines(fairseq_command, folder, tmp_path, options):
    outcome = train(fairseq_command, folder, tmp_path, *options)
    valid = [line for line in outcome.statistics if "valid_mse" in line]
    assert len(valid) == 3
    for line in valid:
        assert {"valid_loss", "valid_mean", "valid_interp", "valid_mse_frames", "valid_vs_interp_frames"} <= set(line)
        assert float(line["valid_vs_mean"]) == pytest.approx(
            float(line["valid_mse"]) / float(line["valid_mean"]), rel=2e-3
        )
    # masks and windows of a validation never change, so neither do the baselines
    assert len({(line["valid_mean"], line["valid_interp"]) for line in valid}) == 1


def test_training_goes_on_where_it_stopped(fairseq_command, folder, tmp_path):
    train(fairseq_command, folder, tmp_path / "a", "--max-epoch", 2)
    outcome = train(fairseq_command, folder, tmp_path / "a", "--max-epoch", 3)
    whole = train(fairseq_command, folder, tmp_path / "b", "--max-epoch", 3)
    ends = [
        [line for line in run.statistics if line.get("epoch") == 3 and "train_loss" in line][-1]
        for run in (outcome, whole)
    ]
    assert ends[0]["train_num_updates"] == ends[1]["train_num_updates"]


def test_defect_23_a_checkpoint_holds_weights_and_plain_values_and_how_to_treat_a_recording(
    fairseq_command, folder, tmp_path
):
    train(fairseq_command, folder, tmp_path, "--max-epoch", 1)
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert state["args"] is None and state["task_state"]["front_end"]["n_mels"] == 8
    assert torch.allclose(state["model"]["feature_mean"], torch.from_numpy(make_task(folder).feature_mean))


def test_defect_19_an_error_ends_the_training_and_counts_as_no_step(fairseq_command, folder, tmp_path, monkeypatch):
    """The original called every error a lack of memory and went on."""
    from musicbert_plugin.models.musicoder import MusiCoderModel

    def fail(self, *args, **kwargs):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(MusiCoderModel, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(fairseq_command, folder, tmp_path)
    assert not (tmp_path / "checkpoint_last.pt").exists()


def test_a_split_without_clips_is_told_in_a_sentence(spectrogram_folder):
    with pytest.raises(DatasetError, match="'valid' has no items; --disable-validation"):
        make_task(spectrogram_folder("empty", train=[30], valid=[])).load_dataset("valid")


def test_defect_21_continuing_from_a_file_that_is_none_says_so(fairseq_command, folder, tmp_path, capsys):
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    with pytest.raises(SystemExit) as end:
        train(fairseq_command, folder, tmp_path / "c", "--finetune-from-model", tmp_path / "broken.pt")
    assert end.value.code == 2 and "broken.pt" in capsys.readouterr().err


def test_continuing_takes_weights_and_standardisation_of_the_file(
    fairseq_command, folder, spectrogram_folder, tmp_path
):
    train(fairseq_command, folder, tmp_path / "a", "--max-epoch", 1)
    other = spectrogram_folder("other", train=[60, 50], valid=[30], seed=9)
    train(
        fairseq_command, other, tmp_path / "b", "--finetune-from-model", tmp_path / "a" / "checkpoint_last.pt",
        "--max-epoch", 1,
    )  # fmt: skip
    a, b = (torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"] for name in "ab")
    assert torch.equal(a["feature_mean"], b["feature_mean"])


def test_every_validation_draws_pictures_for_png_and_tensorboard(fairseq_command, folder, tmp_path):
    pytest.importorskip("matplotlib")
    fairseq_command(
        "train", folder, *LITTLE, "--save-dir", tmp_path / "s", "--max-tokens", 200, "--max-epoch", 1, "--pictures", 2,
        "--tensorboard-logdir", tmp_path / "board",
    )  # fmt: skip
    pictures = sorted((tmp_path / "s" / "pictures").glob("*.png"))
    assert [picture.name[0] for picture in pictures] == ["0", "1"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    events = b"".join(path.read_bytes() for path in (tmp_path / "board" / "pictures").iterdir())
    assert b"reconstruction/1" in events


def test_each_split_that_training_validates_has_its_own_pictures(fairseq_command, spectrogram_folder, tmp_path):
    pytest.importorskip("matplotlib")
    folder = spectrogram_folder("three", train=[120, 90], valid=[64, 64], test=[40])
    fairseq_command(
        "train", folder, *LITTLE, "--save-dir", tmp_path, "--max-tokens", 200, "--max-update", 1, "--pictures", 2,
        "--valid-subset", "valid,test",
    )  # fmt: skip
    names = [picture.name for picture in sorted((tmp_path / "pictures").glob("*.png"))]
    assert names == ["0_update1.png", "1_update1.png", "test_0_update1.png"]


def test_validating_a_file_draws_pictures_too(fairseq_command, folder, tmp_path):
    pytest.importorskip("matplotlib")
    train(fairseq_command, folder, tmp_path / "s", "--max-update", 2)
    fairseq_command(
        "validate", folder, "--path", tmp_path / "s" / "checkpoint_last.pt", "--max-tokens", 200, "--pictures", 2,
        "--task", "spectrogram_reconstruction", "--picture-dir", tmp_path / "drawn",
        "--tensorboard-logdir", tmp_path / "board",
    )  # fmt: skip
    assert [path.name for path in sorted((tmp_path / "drawn").iterdir())] == ["0_update2.png", "1_update2.png"]
    assert b"reconstruction/1" in b"".join(path.read_bytes() for path in (tmp_path / "board" / "pictures").iterdir())


def test_validation_of_a_file_gives_what_training_said(fairseq_command, folder, tmp_path):
    outcome = train(fairseq_command, folder, tmp_path, "--max-epoch", 1)
    valid = next(line for line in outcome.statistics if "valid_mse" in line)
    again = fairseq_command(
        "validate", folder, "--path", tmp_path / "checkpoint_last.pt", "--max-tokens", 200,
        "--task", "spectrogram_reconstruction",
    )  # fmt: skip
    assert f"mse {valid['valid_mse']} " in again.log


def test_mask_options_change_a_preset(folder):
    task = make_task(
        folder, masking="frames", span_law="uniform", min_span=3, max_span=4, fill="1,0,0", frame_share=0.4
    )
    assert (task.masking.spans.kind, task.masking.spans.shortest, task.masking.spans.longest) == ("uniform", 3, 4)
    assert task.masking.corruption.zero == 1 and task.masking.frame_share == 0.4 and task.masking.channels == 0
    with pytest.raises(OptionError, match="--first-channel is 9"):
        make_task(folder, first_channel=9)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"max_frames": -5}, "--max-frames is -5"),
        ({"min_frames": 0}, "--min-frames is 0"),
        ({"frame_share": 0.0, "channels_prob": 0.0, "patches_prob": 0.0}, "nothing would be masked"),
    ],
)
def test_windows_and_masks_that_cannot_be_are_told(folder, options, words):
    with pytest.raises(OptionError, match=words):
        make_task(folder, **options)


def test_shards_must_have_one_front_end(folder, spectrogram_folder):
    other = spectrogram_folder("other", features=8, train=[70], valid=[20], seed=4)
    task = make_task(f"{folder}:{other}")
    task.load_dataset("train", epoch=2)
    assert task.dataset("train").windows.split.folder.path == other
    config = json.loads((other / "config.json").read_text())
    config["front_end"]["hop"] = 64
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(DatasetError, match="another front-end"):
        make_task(f"{folder}:{other}").load_dataset("train", epoch=2)


def test_a_checkpoint_of_another_front_end_is_refused_in_a_sentence(folder):
    task = make_task(folder)
    task.load_state_dict(task.state_dict())
    with pytest.raises(DatasetError, match="with the front-end"):
        task.load_state_dict({"front_end": {"name": "logmel96"}})


def test_training_beats_zeros(fairseq_command, spectrogram_folder, tmp_path):
    """Sixty updates on walks: the masked error falls well below that of the mean of the data."""
    folder = spectrogram_folder(train=[200] * 8, valid=[200] * 3)
    outcome = fairseq_command(
        "train", folder, *LITTLE, "--save-dir", tmp_path, "--batch-size", 8, "--max-update", 60, "--max-epoch", 60,
        "--masking", "frames", "--max-span", "4", "--validate-interval", 60, "--pictures", 0, "--dropout", 0,
        "--attention-dropout", 0,
    )  # fmt: skip
    losses = [float(line["mse"]) for line in outcome.statistics if "mse" in line]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


def test_loader_processes_end_when_the_next_epoch_begins(folder, loader_processes):
    assert loader_processes(make_task(folder)) == [2, 2, 2, 0]


def test_a_checkpoint_tells_the_version_that_made_it(fairseq_command, folder, tmp_path):
    from musicbert_plugin import __version__

    train(fairseq_command, folder, tmp_path, "--max-update", 1)
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert state["extra_state"]["musicbert_plugin"] == __version__
