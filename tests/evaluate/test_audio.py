"""Evaluation of models of sound, and the hub: numbers, examples, predictions, long recordings, sentences."""

import io
import json
import os
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from musicbert_plugin.errors import CheckpointError, DatasetError
from musicbert_plugin.evaluate.__main__ import main

YAML = "tasks:\n  level: {type: single, classes: [quiet, loud]}\n  mean: {type: regression}\n"
SIZES = {"encoder_layers": 2, "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 16, "encoder_attention_heads": 2}


@pytest.fixture
def folder(spectrogram_folder):
    folder = spectrogram_folder(
        train=[60, 40, 90, 70],
        valid=[50, 33, 20],
        test=[40, 30],
        labels={
            "level": lambda clip: "loud" if clip.mean() > -4 else "quiet",
            "mean": lambda clip: f"{clip.mean():.3f}",
            "group": lambda clip: str(len(clip)),
        },
    )
    (folder / "tasks.yaml").write_text(YAML)
    return folder


@pytest.fixture
def checkpoint(folder, tmp_path):
    """``checkpoint(labels=False)``: a file as fairseq's trainer writes it, of fresh weights."""
    from omegaconf import OmegaConf

    from musicbert_plugin.models.musicoder import MusiCoderConfig, MusiCoderModel
    from musicbert_plugin.tasks.audio_multitask import AudioMultitaskConfig, AudioMultitaskTask
    from musicbert_plugin.tasks.spectrogram_reconstruction import (
        SpectrogramReconstructionTask,
        SpectrogramReconstructionTaskConfig,
    )

    def make(labels=False, **options):
        if labels:
            task = AudioMultitaskTask(AudioMultitaskConfig(data=str(folder), seed=1))
        else:
            task = SpectrogramReconstructionTask(SpectrogramReconstructionTaskConfig(data=str(folder), seed=1))
        torch.manual_seed(0)
        cfg = MusiCoderConfig(**(SIZES | {"conv_kernel": 3} | options))
        model = MusiCoderModel.build_model(cfg, task)
        settings = {key: getattr(cfg, key) for key in cfg.__dataclass_fields__ if key != "_name"}
        settings = {key: str(value) if hasattr(value, "value") else value for key, value in settings.items()}
        path = tmp_path / f"model{len(list(tmp_path.glob('model*.pt')))}.pt"
        torch.save(
            {
                "cfg": OmegaConf.create({"model": {"_name": "musicoder_tiny", **settings}}),
                "model": model.state_dict(),
                "task_state": task.state_dict(),
            },
            path,
        )
        return path, model.eval(), task

    return make


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else None, said.err


def test_errors_are_those_of_the_criterion_and_examples_are_written(checkpoint, folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, model, task = checkpoint(frame_stack=2)
    status, values, table = run(
        capsys, "audio", "--path", path, folder, "--masking", "frames", "--reconstruct", 2, "--dest", tmp_path / "out"
    )
    assert status == 0 and "interpolation" in table
    from musicbert_plugin.criterions.spectrogram_reconstruction import SpectrogramReconstructionCriterion
    from musicbert_plugin.tasks.spectrogram_reconstruction import (
        SpectrogramReconstructionTask,
        SpectrogramReconstructionTaskConfig,
    )

    task = SpectrogramReconstructionTask(
        SpectrogramReconstructionTaskConfig(data=str(folder), masking="frames", seed=1)
    )
    task.load_dataset("valid")
    data = task.dataset("valid")
    criterion = SpectrogramReconstructionCriterion(SimpleNamespace(), "l2", 1.0, 1.0)
    loss, cells, _ = criterion(model, data.collater([data[index] for index in range(len(data))]))
    assert values["all"]["cells"] == cells
    assert values["all"]["mse"] == pytest.approx(2 * loss.item() / cells, rel=1e-5)
    for number in range(2):
        arrays = {
            name: np.load(tmp_path / "out" / f"{number}_{name}.npy")
            for name in ("input", "original", "reconstruction", "mask")
        }
        assert np.isnan(arrays["input"][arrays["mask"]]).all() and arrays["mask"].any()
        np.testing.assert_array_equal(arrays["input"][~arrays["mask"]], arrays["original"][~arrays["mask"]])
        error = np.abs(arrays["reconstruction"] - arrays["original"])[arrays["mask"]].mean()
        assert values["examples"][number]["mean_absolute_error"] == pytest.approx(error, rel=1e-5)
        assert (tmp_path / "out" / f"{number}.png").stat().st_size > 1000


def test_labels_are_measured_beside_majority_and_mean_and_class_by_class(checkpoint, folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, model, _ = checkpoint(labels=True)
    status, values, table = run(capsys, "audio", "--path", path, folder, "--dest", tmp_path / "out")
    assert status == 0 and "majority" in table
    assert values["level"]["labelled"] == 3 and 0 <= values["level"]["model"]["accuracy"] <= 1
    assert values["mean"]["baseline"]["ccc"] == 0
    level = values["level"]
    assert sum(scores["count"] for scores in level["classes"].values()) == 3
    right = sum(level["confusion"][number][number] for number in range(2))
    assert right / 3 == pytest.approx(level["model"]["accuracy"]) and "each class of level" in table
    assert values["mean"]["quantities"]["mean"]["r2"] == pytest.approx(values["mean"]["model"]["r2"])
    assert values["pictures"] == [str(tmp_path / "out" / name) for name in ("confusion_level.png", "scatter_mean.png")]


def test_one_head_is_asked_about_new_recordings_and_bad_ones_are_told(checkpoint, tmp_path, capsys):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    path, *_ = checkpoint(labels=True)
    soundfile.write(tmp_path / "stereo.wav", np.random.default_rng(0).normal(size=(9000, 2)) / 9, 16000)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 8000)
    (tmp_path / "broken.mp3").write_bytes(b"no sound")
    files = [tmp_path / name for name in ("stereo.wav", "nothing.wav", "broken.mp3")]
    status, values, table = run(capsys, "audio", "--path", path, "--predict", *files, "--head", "level")
    assert status == 1 and "broken.mp3" in table and "nothing.wav" in table
    answer = values["predictions"][str(files[0])]
    assert set(answer) == {"level"} and sum(answer["level"].values()) == pytest.approx(1)
    assert set(values["failed"]) == {str(files[1]), str(files[2])}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in files[::2]:
            archive.write(file, file.name)
    status, values, said = run(capsys, "audio", "--path", path, "--predict", tmp_path / "all.zip", "--head", "level")
    assert status == 1 and values["predictions"] == {"stereo.wav": answer}
    assert values["failed"]["broken.mp3"].startswith("broken.mp3: cannot be decoded")
    status, _, said = run(capsys, "audio", "--path", path, "--predict", files[0], "--head", "key")
    assert status == 2 and "head is 'key'" in said


def test_files_of_a_folder_have_one_name_in_messages_and_a_damaged_one_has_a_note(checkpoint, tmp_path, capsys):
    soundfile = pytest.importorskip("soundfile")
    path, *_ = checkpoint(labels=True)
    source, data = tmp_path / "music", io.BytesIO()
    source.mkdir()
    soundfile.write(data, np.random.default_rng(0).normal(size=32000) / 9, 16000, format="WAV")
    (source / "cut.wav").write_bytes(data.getvalue()[:32000])
    (source / "hz1.wav").write_bytes(data.getvalue()[:24] + bytes([1, 0, 0, 0]) + data.getvalue()[28:])
    (source / "bad.npy").write_bytes(b"no array")
    (source / "text.docx").write_bytes(b"no sound")
    if hasattr(os, "mkfifo"):
        os.mkfifo(source / "pipe.wav")
        os.mkfifo(source / "pipe.npy")
    status, values, said = run(capsys, "audio", "--path", path, "--predict", source, "--csv", tmp_path / "out.csv")
    assert status == 1 and list(values["predictions"]) == ["cut.wav"] and values["passed_over"] == {".docx": 1}
    for name, sentence in values["failed"].items():
        assert sentence.startswith(f"{name}: ") and f"evaluate audio: {sentence}" in said
    if hasattr(os, "mkfifo"):
        assert values["failed"]["pipe.wav"] == "pipe.wav: cannot be read (not a regular file)."
        assert values["failed"]["pipe.npy"] == "pipe.npy: cannot be read (not a regular file)."
    assert values["notes"]["cut.wav"].startswith("cut.wav: is cut off")
    assert f",{values['notes']['cut.wav']}" in (tmp_path / "out.csv").read_text().replace('"', "")


def test_features_are_predicted_as_the_arrays_that_they_hold_and_a_csv_has_every_file(checkpoint, tmp_path, capsys):
    from musicbert_plugin.hub import MusiCoderHub

    path, *_ = checkpoint(labels=True)
    hub = MusiCoderHub.from_pretrained(path)
    rng, source = np.random.default_rng(0), tmp_path / "features"
    (source / "inner").mkdir(parents=True)
    song, pair = rng.normal(size=(90, 8)), rng.normal(size=(2, 40, 8)).astype(np.float32)
    np.save(source / "song.npy", song.T)
    np.save(source / "inner" / "pair.npy", pair)
    np.save(source / "narrow.npy", rng.normal(size=(90, 5)))
    np.save(source / "short.npy", song[:5])
    np.save(source / "still.npy", np.ones((90, 8)))
    (source / "no.npy").write_bytes(b"no array")
    status, values, said = run(capsys, "audio", "--path", path, "--predict", source, "--csv", tmp_path / "out.csv")
    assert status == 1 and "predicted  failed" in said
    assert set(values["predictions"]) == {"song.npy", "inner/pair.npy#0", "inner/pair.npy#1"}
    assert values["predictions"]["song.npy"] == hub.predict(song.astype(np.float32))
    assert values["predictions"]["inner/pair.npy#1"] == hub.predict(pair[1]) != hub.predict(pair[0])
    words = {"narrow": "holds no 8 features", "short": "0.08 seconds", "still": "frames are equal", "no": "be read"}
    assert {name: word for name, word in words.items() if word in values["failed"][f"{name}.npy"]} == words
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "file,level,level_probability,mean,note,error" and len(lines) == 1 + 3 + 4
    assert hub.predict(source / "song.npy") == values["predictions"]["song.npy"]
    with pytest.raises(DatasetError, match="holds 2 excerpts"):
        hub.predict(source / "inner" / "pair.npy")
    status, _, said = run(capsys, "audio", "--path", path, source, "--csv", tmp_path / "out.csv")
    assert status == 2 and "--csv is for predictions" in said


@pytest.mark.parametrize("options", [{}, {"layer_mix": "learned", "pooling": "attention", "head_dim": 4}])
def test_an_exported_head_answers_as_the_whole_checkpoint_does(checkpoint, tmp_path, capsys, options):
    from musicbert_plugin.hub import MusiCoderHub
    from musicbert_plugin.hub.__main__ import main as hub

    soundfile = pytest.importorskip("soundfile")
    path, *_ = checkpoint(labels=True, **options)
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(0).normal(size=90000) / 9, 16000)
    whole = MusiCoderHub.from_pretrained(path).predict(tmp_path / "song.wav")
    for name in ("level", "mean"):
        small = tmp_path / f"{name}.pt"
        hub(["export-head", str(path), str(small), "--head", name])
        assert MusiCoderHub.from_pretrained(small).predict(tmp_path / "song.wav") == {name: whole[name]}
        status, values, _ = run(capsys, "audio", "--path", small, "--predict", tmp_path / "song.wav")
        assert status == 0 and values["predictions"][str(tmp_path / "song.wav")] == {name: whole[name]}
        weights = torch.load(small, weights_only=True)["model"]
        assert {key.split(".")[2] for key in weights if key.startswith("clip_heads.heads.")} == {name}
    assert not list(tmp_path.glob("*.unfinished"))


def test_heads_that_cannot_be_exported_are_told_in_a_sentence(checkpoint, tmp_path, capsys):
    from musicbert_plugin.hub.__main__ import main as hub

    labelled, pretrained = checkpoint(labels=True)[0], checkpoint()[0]
    for source, head, target, words in (
        (labelled, "key", "out.pt", "head is 'key', but"),
        (labelled, "key", "out.pt", "has level, mean."),
        (pretrained, "level", "out.pt", "has no heads for labels"),
        (tmp_path / "none.pt", "level", "out.pt", "is not a file"),
        (labelled, "level", "nowhere/out.pt", "cannot be written"),
    ):
        with pytest.raises(SystemExit) as end:
            hub(["export-head", str(source), str(tmp_path / target), "--head", head])
        said = capsys.readouterr().err
        assert end.value.code == 2 and words in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out.pt").exists()


def test_recordings_without_sound_worth_an_answer_fail_and_the_others_go_on(checkpoint, tmp_path, capsys):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    path, *_ = checkpoint(labels=True)
    noise = (np.random.default_rng(0).normal(size=9000) / 9).astype(np.float32)
    sounds = {"good": noise, "silent": 0 * noise, "nan": np.where(np.arange(9000) == 5000, np.nan, noise)}
    sounds["short"] = noise[:800]
    for name, samples in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 8000, subtype="FLOAT")
    files = [tmp_path / f"{name}.wav" for name in ("silent", "nan", "short", "gone", "good")]
    status, values, _ = run(capsys, "audio", "--path", path, "--predict", *files)
    assert status == 1 and list(values["predictions"]) == [str(tmp_path / "good.wav")]
    words = ("never louder", "no finite numbers", "0.10 seconds", "there is no such file")
    for file, said in zip(files[:-1], words, strict=True):
        assert said in values["failed"][str(file)] and str(file) in values["failed"][str(file)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--batch-size", 0), "--batch-size is 0"),
        (("--reconstruct", -1), "--reconstruct is -1"),
        (("--reconstruct", 2), "--reconstruct needs --dest"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_read(tmp_path, capsys, given, words):
    status, values, said = run(capsys, "audio", "--path", tmp_path / "gone.pt", tmp_path, *given)
    assert status == 2 and values is None and words in said and len(said.splitlines()) == 1


def test_a_model_of_npy_features_refuses_recordings_in_a_sentence(checkpoint):
    from musicbert_plugin.hub import MusiCoderHub

    hub = MusiCoderHub.from_pretrained(checkpoint(labels=True)[0])
    hub.front_end = {"name": "npy", "num_features": 8}
    assert set(hub.predict(np.zeros((30, 8), np.float32))) == {"level", "mean"}
    with pytest.raises(CheckpointError, match="trained on .npy features"):
        hub.predict("song.wav")


def test_correlations_of_layers_with_features_are_a_table_and_a_heat_map(checkpoint, folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, *_ = checkpoint()
    status, values, table = run(
        capsys, "correlate", "--path", path, folder, "--gen-subset", "train", "--random", "--dest", tmp_path / "out"
    )
    assert status == 0 and "brightness" in table and "random encoder" in table
    correlation = np.load(tmp_path / "out" / "correlation.npy")
    assert correlation.shape == (3, 8, 8) and np.nanmax(np.abs(correlation)) <= 1
    best = next(row for row in values["closest"] if row["feature"] == "level")
    assert abs(best["correlation"]) == pytest.approx(np.nanmax(np.abs(correlation[:, :, 0])))
    assert (tmp_path / "out" / "correlation.png").is_file()
    assert len((tmp_path / "out" / "correlation.csv").read_text().splitlines()) == 1 + 8 * 3


def test_correlations_against_another_folder_of_the_same_clips(checkpoint, folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, *_ = checkpoint(frame_stack=2)
    status, values, _ = run(
        capsys, "correlate", "--path", path, folder, "--gen-subset", "train", "--against", folder,
        "--dest", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and len(values["closest"]) == 8 * 3


def test_correlations_need_the_front_end_of_the_checkpoint_and_log_mels_or_hand_made_features(
    checkpoint, folder, spectrogram_folder, tmp_path, capsys
):
    path, *_ = checkpoint()
    front = json.loads((folder / "config.json").read_text())["front_end"]
    other = spectrogram_folder("other", train=[30], valid=[30], config={"front_end": front | {"hop": 64}})
    status, _, said = run(capsys, "correlate", "--path", path, other, "--dest", tmp_path / "out")
    assert status == 2 and "another front-end" in said
    config = json.loads((folder / "config.json").read_text())
    config["front_end"]["normalisation"] = "clip"
    (folder / "config.json").write_text(json.dumps(config))
    path, *_ = checkpoint()
    status, _, said = run(capsys, "correlate", "--path", path, folder, "--dest", tmp_path / "out")
    assert status == 2 and "deviations of the clip" in said and "--against" in said


def test_numbers_of_clips_units_and_encoders_that_cannot_be_are_told(checkpoint, folder, tmp_path, capsys):
    path, *_ = checkpoint()
    for option, value in (("--top", 0), ("--max-clips", -1)):
        status, _, said = run(capsys, "correlate", "--path", path, folder, "--dest", tmp_path / "out", option, value)
        assert status == 2 and f"{option} is {value}" in said
    status, _, said = run(capsys, "probe", "--path", path, folder, "--label", "level", "--random-encoders", -2)
    assert status == 2 and "--random-encoders is -2" in said


def test_a_probe_leaves_out_cells_that_are_no_number_and_tells_which(checkpoint, spectrogram_folder, capsys, caplog):
    folder = spectrogram_folder(
        "tempi",
        train=[30, 31, 32, 33],
        valid=[34, 35],
        labels={
            "tempo": lambda clip: "fast" if len(clip) == 32 else str(len(clip)),
            "album": lambda clip: "A" if len(clip) < 32 else "",
        },
    )
    path, *_ = checkpoint()
    status, values, _ = run(
        capsys, "probe", "--path", path, folder, "--label", "tempo", "--group", "album", "--regression", "--folds", 2,
        "--layers", 0,
    )  # fmt: skip
    assert status == 0 and values["clips"] == 5 and "train/2.wav has 'fast' in column 'tempo'" in caplog.text
    assert values["groups"] == 4, "album A, and each clip without an album on its own"
    status, _, said = run(capsys, "probe", "--path", path, folder, "--label", "album", "--regression", "--folds", 2)
    assert status == 2 and "no label in column 'album' is a number" in said


def test_a_probe_reads_a_label_off_features_and_compares_with_raw_and_random_ones(checkpoint, folder, capsys):
    path, *_ = checkpoint()
    status, values, table = run(
        capsys, "probe", "--path", path, folder, "--label", "mean", "--regression", "--folds", 2, "--layers", 0, 2
    )
    assert status == 0 and values["metric"] == "r2" and values["clips"] == 9
    assert set(values["scores"]) == {
        "raw features",
        "layer 0",
        "layer 2",
        "random encoder, layer 0",
        "random encoder, layer 2",
    }
    interval = values["gain_over_random"]["layer 0"]
    assert interval["low"] <= interval["mean"] <= interval["high"]
    status, values, _ = run(
        capsys, "probe", "--path", path, folder, "--label", "level", "--group", "group", "--folds", 2, "--layers", 2
    )
    assert status == 0 and values["majority"] >= 0.3
    assert set(values["recall"]["layer 2"]) == {"loud", "quiet"} and set(values["recall"]) == set(values["scores"])
    status, _, said = run(capsys, "probe", "--path", path, folder, "--label", "key")
    assert status == 2 and "no label column 'key'" in said


def test_tags_and_arousal_with_valence_are_probed_too(checkpoint, spectrogram_folder, capsys):
    path, *_ = checkpoint()
    lengths = {"train": [40 + n for n in range(24)], "valid": [50, 33, 45, 60], "test": [41, 36]}

    def mood(clip):
        return "/".join(["loud"] * int(clip.mean() > -4) + ["rising"] * int(clip[-1].mean() > clip[0].mean())) or "/"

    def arousal_and_valence(clip):
        return f"{clip.mean():.3f}/{100 * clip[:, 0].mean():.3f}" if len(clip) != 36 else "0.5/"

    data = spectrogram_folder("tagged", **lengths, labels={"mood": mood, "AV": arousal_and_valence})
    common = ("probe", "--path", path, data, "--folds", 3, "--layers", 0)
    status, values, table = run(capsys, *common, "--label", "mood", "--multi")
    assert status == 0 and values["metric"] == "roc_auc" and values["classes"] == ["loud", "rising"]
    assert values["clips"] == 30 and values["shares"] == 0.5  # a constant answer tells no two clips of a fold apart
    assert values["scores"]["raw features"] > 0.7 and "log-likelihood" in table
    status, values, table = run(capsys, *common, "--label", "AV", "--regression")
    assert status == 0 and values["classes"] == ["AV 0", "AV 1"] and values["clips"] == 29  # one lacks its valence
    assert 0.8 < values["scores"]["raw features"] <= 1 and values["ccc"]["raw features"] > 0.8
    assert values["mean"] < 0.1 and "variances" in table


def test_rare_classes_and_cells_of_several_labels_need_no_traceback(checkpoint, spectrogram_folder, capsys):
    from musicbert_plugin.evaluate.probe import probe

    path, *_ = checkpoint()
    rare = spectrogram_folder(
        "rare",
        train=[60, 40, 90],
        valid=[50, 33],
        test=[41],
        labels={"each": lambda clip: f"c{len(clip)}", "AV": lambda clip: "0.5/-0.5"},
    )
    for label, words in (("each", "has more than 1 items"), ("AV", "has the class '0.5/-0.5' alone")):
        status, _, said = run(capsys, "probe", "--path", path, rare, "--label", label)
        assert status == 2 and words in said and "Traceback" not in said
    labels, fold = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1])
    answer = probe(
        np.eye(3)[labels], labels, np.arange(6), fold, "single", 1
    )  # one clip of a class is left to learn from
    assert (answer == labels).all()


def test_options_of_evaluating_sound_are_checked(checkpoint, folder, tmp_path, capsys, caplog):
    pytest.importorskip("matplotlib")
    pretrained, labelled = checkpoint()[0], checkpoint(labels=True)[0]
    status, _, said = run(capsys, "audio", "--path", labelled, folder, "--max-frames", -1)
    assert status == 2 and "--max-frames is -1" in said
    assert run(capsys, "audio", "--path", labelled, folder, "--max-frames", 0)[0] == 0
    status, _, said = run(capsys, "audio", "--path", pretrained, "--predict", "song.wav")
    assert status == 2 and "has no heads for labels" in said
    status, values, _ = run(
        capsys, "audio", "--path", pretrained, folder, "--reconstruct", 99, "--dest", tmp_path / "out"
    )
    assert status == 0 and f"so {len(values['examples'])} examples were written" in caplog.text


def test_groups_are_never_on_both_sides_of_a_probe():
    from musicbert_plugin.evaluate.probe import fold_of_groups, probe
    from musicbert_plugin.metrics.bootstrap import bootstrap_interval

    rng = np.random.default_rng(0)
    groups, labels = rng.integers(0, 12, 80), rng.integers(0, 3, 80)
    fold = fold_of_groups(groups, labels, 3, 1)
    assert all(len(set(fold[groups == group])) == 1 for group in range(12)) and len(set(fold)) == 3
    vectors = np.eye(3)[labels] + 0.1 * rng.normal(size=(80, 3))
    assert (probe(vectors, labels, groups, fold, "single", 1) == labels).mean() > 0.95
    gains = np.where(groups < 6, 1.0, 0.0)
    low, high = bootstrap_interval(gains, groups=groups, seed=1)
    assert low < gains.mean() < high
    assert bootstrap_interval(np.full(80, 0.25), groups=groups, seed=1) == (0.25, 0.25)


# ---------------------------------------------------------------------------------------------------------------- hub


def test_a_long_recording_is_joined_from_overlapping_windows(checkpoint):
    from musicbert_plugin.hub import MusiCoderHub

    for stack in (1, 3):
        path, model, _ = checkpoint(frame_stack=stack)
        x = np.random.default_rng(0).normal(size=(217, 8)).astype(np.float32)
        whole = MusiCoderHub.from_pretrained(path).extract_features(x)
        assert whole.shape == (-(-217 // stack), 8)
        with torch.no_grad():
            expected = model(torch.from_numpy(x)[None], features_only=True)[0][0].numpy()
        np.testing.assert_allclose(whole, expected, atol=1e-5)
        hub = MusiCoderHub.from_pretrained(path, window=48)
        joined = hub.extract_features(x)
        assert joined.shape == whole.shape
        # Each position is that of the window in whose middle it lies.
        window, r = hub.window, stack
        start = window // 2
        with torch.no_grad():
            alone = model(torch.from_numpy(x[start : start + window])[None], features_only=True)[0][0].numpy()
        quarter = window // 4 // r
        np.testing.assert_allclose(
            joined[start // r + quarter : start // r + 3 * quarter], alone[quarter : 3 * quarter], atol=1e-5
        )
        layers = hub.extract_all_layers(x)
        np.testing.assert_allclose(layers[2], hub.extract_features(x, layer=2), atol=1e-6)
        assert hub.clip_vector(x, deviation=True).shape == (16,)


def test_windows_of_a_model_with_sinusoids_each_begin_at_position_0(checkpoint):
    from musicbert_plugin.hub import MusiCoderHub

    path, model, _ = checkpoint(compat="musicoder")
    x = np.random.default_rng(0).normal(size=(217, 8)).astype(np.float32)
    joined = MusiCoderHub.from_pretrained(path, window=48).extract_features(x)
    with torch.no_grad():
        alone = model(torch.from_numpy(x[24:72])[None], features_only=True)[0][0].numpy()
    np.testing.assert_allclose(joined[36:60], alone[12:36], atol=1e-5)


def test_a_prediction_is_the_mean_over_the_windows_of_a_validation(checkpoint):
    """Windows lie end to end; a last one below min_frames is left out, and each counts by its frames."""
    from musicbert_plugin.data.spectrogram_windows import SpectrogramWindows
    from musicbert_plugin.hub import MusiCoderHub

    path, model, _ = checkpoint(labels=True, frame_stack=3)
    for frames in (60, 65, 79, 80, 3):
        x = np.random.default_rng(frames).normal(size=(frames, 8)).astype(np.float16).astype(np.float32)
        clip = SimpleNamespace(frames=np.array([frames]), read=lambda clip, start=0, stop=None, x=x: x[start:stop])
        windows = SpectrogramWindows(clip, max_frames=20, min_frames=16, train=False, seed=1)
        with torch.no_grad():
            answers = [
                model(torch.from_numpy(windows[k]).float()[None])[0]["level"][0].softmax(-1)
                for k in range(len(windows))
            ]
        expected = np.average(np.stack([answer.numpy() for answer in answers]), axis=0, weights=windows.sizes)
        found = MusiCoderHub.from_pretrained(path, window=20).predict(x)["level"]
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-6)
    hub = MusiCoderHub.from_pretrained(path, window=36)
    hub.max_frames = 0  # a model of whole clips: a recording of any length is heard in windows all the same
    hours = np.tile(x, (100, 1))
    assert hub.predict(hours) == MusiCoderHub.from_pretrained(path, window=36).predict(hours)


@pytest.mark.parametrize("frames", [1, 5, 47, 48, 49, 96, 97, 100, 333])
@pytest.mark.parametrize("r", [1, 3])
def test_windows_answer_for_every_frame_once(frames, r, registered):
    from musicbert_plugin.hub.musicoder import _windows

    window, end = 48 // (4 * r) * 4 * r, 0
    for seen, kept in _windows(frames, window, r):
        assert kept.start == end and seen.start <= kept.start < kept.stop <= seen.stop <= frames
        assert seen.stop - seen.start <= window and seen.start % r == 0 and kept.start % r == 0
        end = kept.stop
    assert end == frames


def test_the_hub_restores_hidden_cells_and_nothing_else(checkpoint):
    from musicbert_plugin.hub import MusiCoderHub

    hub = MusiCoderHub.from_pretrained(checkpoint()[0], window=32)
    x = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    hidden = np.zeros((100, 8), bool)
    hidden[40:50] = True
    restored = hub.restore(x, hidden)
    np.testing.assert_array_equal(restored[~hidden], x[~hidden])
    other = np.where(hidden, 99.0, x).astype(np.float32)
    np.testing.assert_allclose(hub.restore(other, hidden), restored, atol=1e-6)  # nothing leaks


def test_what_the_hub_cannot_do_is_told(checkpoint, tmp_path):
    from musicbert_plugin.hub.musicoder import MusiCoderHub, Samples

    hub = MusiCoderHub.from_pretrained(checkpoint()[0])
    with pytest.raises(CheckpointError, match="no heads"):
        hub.predict(np.zeros((5, 8), np.float32))
    with pytest.raises(DatasetError, match=r"\[T, 8\]"):
        hub.extract_features(np.zeros((5, 3), np.float32))
    with pytest.raises(DatasetError, match="8000 Hz are expected"):
        hub.extract_features(Samples(np.zeros(500, np.float32), 44100))
    with pytest.raises(CheckpointError, match="is not a file"):
        MusiCoderHub.from_pretrained(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="no head for reconstruction"):
        MusiCoderHub.from_pretrained(checkpoint(labels=True)[0]).restore(np.zeros((5, 8)), np.zeros((5, 8), bool))


def test_a_recording_whose_name_is_no_utf_8_is_answered_under_its_escaped_name(checkpoint, tmp_path, capsys):
    soundfile = pytest.importorskip("soundfile")
    path, *_ = checkpoint(labels=True)
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(0).normal(size=90000) / 9, 16000)
    files = [os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/caf\xe9.wav", b"/caf\xe8.wav")]
    try:
        os.rename(tmp_path / "song.wav", files[0])
    except OSError:
        pytest.skip("this file system takes no such names")
    status, values, said = run(capsys, "audio", "--path", path, "--predict", *files)
    assert status == 1 and "level" in values["predictions"][rf"{tmp_path}/caf\xe9.wav"]
    assert r"caf\xe8.wav: there is no such file" in values["failed"][rf"{tmp_path}/caf\xe8.wav"]
    assert r"caf\xe9.wav" in said and "\udce9" not in json.dumps(values, ensure_ascii=False)
