"""How fairseq's commands end when something is wrong: one sentence on stderr, status 2, and no traceback."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from musicbert_plugin.errors import DatasetError, OptionError, ScoreError

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert_tiny --tokens-per-sample 256
    --optimizer adam --lr 0.001 --batch-size 2 --max-update 1 --no-progress-bar --log-format json""".split()
SMALL = "--encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 2".split()


@pytest.fixture
def ends_with(
    fairseq_command: Callable[..., Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run a command that must end with status 2 and one line on stderr; returns that line."""
    monkeypatch.delenv("LOGLEVEL", raising=False)

    def run(*command: object) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ending:
            fairseq_command(*command)
        assert ending.value.code == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return run


@pytest.fixture
def data(octuple_folder: Callable[..., Path]) -> Path:
    return octuple_folder(train=[40, 30], valid=[30])


@pytest.fixture
def trained(data: Path, tmp_path: Path, fairseq_command: Callable[..., Any]) -> Path:
    """A checkpoint of one update."""
    fairseq_command("train", data, *RECIPE, *SMALL, "--save-dir", tmp_path / "trained")
    return tmp_path / "trained" / "checkpoint_last.pt"


def test_a_folder_that_is_not_there_is_named(ends_with: Callable[..., str], tmp_path: Path) -> None:
    assert str(tmp_path / "nothing") in ends_with("train", tmp_path / "nothing", *RECIPE, "--save-dir", tmp_path / "c")


def test_an_empty_folder_is_named(ends_with: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in ends_with("train", tmp_path / "empty", *RECIPE, "--save-dir", tmp_path / "c")


def test_a_dictionary_that_does_not_match_the_data_is_named(
    ends_with: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    (data / "dict.txt").write_text("<0-0> 0\n")
    assert "dict.txt" in ends_with("train", data, *RECIPE, "--save-dir", tmp_path / "c")


def test_a_validation_set_that_is_not_there_is_named(ends_with: Callable[..., str], data: Path, tmp_path: Path) -> None:
    sentence = ends_with("train", data, *RECIPE, *SMALL, "--valid-subset", "rehearsal", "--save-dir", tmp_path / "c")
    assert "rehearsal" in sentence


def test_a_number_that_is_no_seed_is_named(ends_with: Callable[..., str], data: Path, tmp_path: Path) -> None:
    sentence = ends_with("train", data, *RECIPE, *SMALL, "--seed", -1, "--save-dir", tmp_path / "c")
    assert sentence == "--seed is -1, but a whole number from 0 to 4294967295 is accepted."


def test_fp16_without_a_gpu_suggests_bf16(ends_with: Callable[..., str], data: Path, tmp_path: Path) -> None:
    sentence = ends_with("train", data, *RECIPE, *SMALL, "--fp16", "--save-dir", tmp_path / "c")
    assert sentence.startswith("--fp16 needs a CUDA GPU") and "--bf16" in sentence
    assert not (tmp_path / "c").exists(), "it is said before anything is written"


def test_memory_efficient_fp16_is_fp16(ends_with: Callable[..., str], data: Path, tmp_path: Path) -> None:
    sentence = ends_with("train", data, *RECIPE, *SMALL, "--memory-efficient-fp16", "--save-dir", tmp_path / "c")
    assert sentence.startswith("--fp16 needs a CUDA GPU")


def test_bf16_works_where_fp16_does_not(fairseq_command: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    run = fairseq_command("train", data, *RECIPE, *SMALL, "--bf16", "--save-dir", tmp_path / "c")
    assert any("valid_loss" in line for line in run.statistics)


def test_without_a_batch_size_the_options_to_give_are_named(
    ends_with: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    recipe = [word for word in RECIPE if word not in ("--batch-size", "2")]
    assert "--max-tokens or --batch-size" in ends_with("train", data, *recipe, "--save-dir", tmp_path / "c")


def test_more_processes_than_gpus_suggests_torchrun(ends_with: Callable[..., str], data: Path, tmp_path: Path) -> None:
    sentence = ends_with("train", data, *RECIPE, "--distributed-world-size", 3, "--save-dir", tmp_path / "c")
    assert "torchrun --nproc_per_node 3" in sentence


def test_a_folder_that_cannot_be_written_is_named(ends_with: Callable[..., str], data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sentence = ends_with("train", data, *RECIPE, *SMALL, "--save-dir", tmp_path / "file" / "checkpoints")
    assert str(tmp_path / "file" / "checkpoints") in sentence


def test_a_checkpoint_of_another_width_tells_where_it_differs(
    ends_with: Callable[..., str], data: Path, trained: Path, tmp_path: Path
) -> None:
    wider = [*SMALL, "--encoder-embed-dim", 16]
    sentence = ends_with("train", data, *RECIPE, *wider, "--restore-file", trained, "--save-dir", tmp_path / "c")
    assert sentence.startswith(f"{trained} holds another architecture than this model: ")
    assert " is 1237 x 8 in the file and 1237 x 16 here (and " in sentence


def test_a_checkpoint_of_another_depth_tells_what_is_missing(
    ends_with: Callable[..., str], data: Path, trained: Path, tmp_path: Path
) -> None:
    deeper = [*SMALL, "--encoder-layers", 2]
    sentence = ends_with("train", data, *RECIPE, *deeper, "--restore-file", trained, "--save-dir", tmp_path / "c")
    assert "layers.1." in sentence and "is not in the file (and " in sentence


def test_a_checkpoint_of_another_criterion_suggests_a_fresh_optimizer(
    ends_with: Callable[..., str], data: Path, trained: Path, tmp_path: Path
) -> None:
    state = torch.load(trained, weights_only=True)
    state["optimizer_history"][-1]["criterion_name"] = "MaskedLmLoss"
    torch.save(state, trained)
    sentence = ends_with("train", data, *RECIPE, *SMALL, "--restore-file", trained, "--save-dir", tmp_path / "c")
    assert "--reset-optimizer" in sentence and "MaskedLmLoss" in sentence


def test_validation_of_a_checkpoint_that_is_not_there(ends_with: Callable[..., str], data: Path) -> None:
    sentence = ends_with("validate", data, "--task", "octuple_masked_lm", "--path", "no.pt", "--batch-size", 2)
    assert "no.pt" in sentence


def test_validation_of_a_checkpoint_whose_weights_are_of_another_size(
    ends_with: Callable[..., str], data: Path, trained: Path
) -> None:
    state = torch.load(trained, weights_only=True)
    name = next(name for name in state["model"] if name.endswith("embed_tokens.weight"))
    state["model"][name] = torch.zeros(5, 8)
    torch.save(state, trained)
    sentence = ends_with("validate", data, "--task", "octuple_masked_lm", "--path", trained, "--batch-size", 2)
    assert sentence.startswith(f"{trained} holds another architecture than this model: {name} is 5 x 8 in the file")


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code from a checkpoint",)


@pytest.mark.parametrize("command", ["train", "validate", "generate", "interactive", "eval-lm"])
def test_a_checkpoint_with_code_inside_is_refused_by_every_command(
    ends_with: Callable[..., str], data: Path, trained: Path, tmp_path: Path, command: str
) -> None:
    state = torch.load(trained, weights_only=True)
    torch.save({**state, "surprise": RunsCode()}, trained)
    if command == "train":
        options = [*RECIPE, *SMALL, "--restore-file", trained, "--save-dir", tmp_path / "c"]
    else:
        options = ["--task", "octuple_masked_lm", "--path", trained, "--batch-size", 1]
    sentence = ends_with(command, data, *options)
    assert sentence.startswith(f"{trained} contains print, which")


def test_with_debug_logging_the_traceback_is_shown_before_the_sentence(
    fairseq_command: Callable[..., Any],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    with pytest.raises(SystemExit):
        fairseq_command("train", data, *RECIPE, "--fp16", "--save-dir", tmp_path / "c")
    error = capfd.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.splitlines()[-1].startswith("--fp16 needs a CUDA GPU")


def test_a_defect_keeps_its_traceback(
    fairseq_command: Callable[..., Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairseq.trainer import Trainer

    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Trainer, "train_step", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        fairseq_command("train", data, *RECIPE, *SMALL, "--save-dir", tmp_path / "c")


def test_hydra_training_ends_with_the_same_sentence(tmp_path: Path) -> None:
    """A process of its own: hydra imports the plugin while the command is already running."""
    (tmp_path / "c.yaml").write_text(
        f"""common: {{user_dir: {ROOT / "musicbert_plugin"}, cpu: true, fp16: true}}
task: {{_name: octuple_masked_lm, data: {tmp_path / "nothing"}}}
model: {{_name: musicbert}}
criterion: {{_name: octuple_masked_lm}}
optimizer: {{_name: adam}}
dataset: {{batch_size: 1}}
optimization: {{lr: [0.1]}}
"""
    )
    run = subprocess.run(
        [sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", tmp_path, "--config-name", "c"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert str(tmp_path / "nothing") in run.stderr.splitlines()[-1]


def test_hydra_training_of_a_recipe_with_the_model_of_another_task_ends_with_a_sentence(tmp_path: Path) -> None:
    """A process of its own: hydra composes the configuration before the plugin is imported."""
    plugin = ROOT / "musicbert_plugin"
    run = subprocess.run(
        [sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", plugin / "config", "--config-name",
         "octuple_pretrain", "model=musicoder_base", "task.data=DATA", f"common.user_dir={plugin}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.splitlines()[-1] == (
        "The task octuple_masked_lm cannot train the model musicoder; accepted are: musicbert_tiny, musicbert_mini, "
        "musicbert_small, musicbert_medium, musicbert_base, musicbert_large."
    )


FAMILIES = {
    "octuple_masked_lm": "musicbert_tiny",
    "spectrogram_reconstruction": "musicoder_tiny",
    "audio_multitask": "musicoder_tiny",
    "attribute_to_music": "linear_transformer_lm_std",
}
STRANGERS = [(task, model) for task, own in FAMILIES.items() for model in {*FAMILIES.values()} - {own}]


@pytest.mark.parametrize(("task", "model"), sorted(STRANGERS))
def test_training_the_model_of_another_task_ends_with_a_sentence(
    ends_with: Callable[..., str], tmp_path: Path, task: str, model: str
) -> None:
    told = ends_with("train", tmp_path, "--task", task, "--arch", model, "--criterion", "cross_entropy")
    assert told.startswith(f"The task {task} cannot train the model {model}; accepted are: ")
    assert FAMILIES[task] in told and model not in told.partition("; ")[2]


RECIPES = {
    "octuple_pretrain": "octuple_masked_lm",
    "spectrogram_pretrain": "spectrogram_reconstruction",
    "spectrogram_continue": "spectrogram_reconstruction",
    "audio_multitask": "audio_multitask",
    "audio_probe": "audio_multitask",
    "attribute_to_music": "attribute_to_music",
    "pairs_finetune": "attribute_to_music",
}


def refusal(hydra_configuration: Callable[..., Any], *words: str) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(SystemExit) as ending:
        hydra_configuration(*words)
    assert ending.value.code == 2 and isinstance(ending.value.__cause__, OptionError)
    return str(ending.value.__cause__)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_with_the_model_of_another_task_ends_with_a_sentence(
    hydra_configuration: Callable[..., Any], recipe: str
) -> None:
    task = RECIPES[recipe]
    for model in sorted({*FAMILIES.values()} - {FAMILIES[task]}):
        told = refusal(hydra_configuration, recipe, f"model={model}", "task.data=DATA")
        assert told.startswith(f"The task {task} cannot train the model {model.rpartition('_')[0]}; accepted are: ")


def test_an_option_that_a_model_does_not_have_ends_with_a_sentence(hydra_configuration: Callable[..., Any]) -> None:
    told = refusal(hydra_configuration, "octuple_pretrain", "+model.poolings=mean", "task.data=DATA")
    assert told.startswith("poolings is no option of MusicBERTConfig; accepted are: activation_dropout, ")
    assert "_name" not in told


def test_a_value_of_another_type_ends_with_a_sentence(hydra_configuration: Callable[..., Any]) -> None:
    told = refusal(hydra_configuration, "octuple_pretrain", "model.encoder_layers=two", "task.data=DATA")
    assert told == "encoder_layers of MusicBERTConfig: Value 'two' of type 'str' could not be converted to Integer."


# ---------------------------------------------------------------------------------------------------------------------
# What arrives from other processes is text


def reraised_by_data_loader(error: Exception) -> BaseException:
    """What a data loader raises where a worker of it raised ``error``."""
    try:
        raise error
    except Exception:
        from_worker = torch._utils.ExceptionWrapper(sys.exc_info(), where="in DataLoader worker process 0")
    with pytest.raises(Exception) as raised:
        from_worker.reraise()
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        DatasetError("data/train.idx is not an index: a file of 12 bytes or more is expected."),
        ScoreError("unreadable", "a.mid is no MIDI file."),
        OptionError("--mask-prob is 2, but a probability is between 0 and 1."),
        FileNotFoundError(2, "No such file or directory", "data/train.bin"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_in_a_data_loader_worker_is_told_like_any_other(registered: None, error: Exception) -> None:
    from musicbert_plugin.compat.error_messages import sentence_for

    assert sentence_for(reraised_by_data_loader(error)) == sentence_for(error) != None  # noqa: E711


def test_a_command_whose_data_loader_worker_fails_ends_with_its_sentence(
    ends_with: Callable[..., str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musicbert_plugin.data.octuple_dataset import MaskedOctuples

    def fails(self: object, index: int) -> None:
        raise ScoreError("unreadable", f"item {index} is no music.")

    monkeypatch.setattr(MaskedOctuples, "__getitem__", fails)
    options = ["--num-workers", 1, "--disable-validation", "--save-dir", tmp_path / "c"]
    assert " is no music." in ends_with("train", data, *RECIPE, *SMALL, *options)


def test_an_error_in_a_spawned_training_process_is_told_like_any_other(registered: None) -> None:
    from musicbert_plugin.compat.error_messages import sentence_for

    try:
        try:
            raise KeyError("field")
        except KeyError as cause:
            raise DatasetError("data holds another dictionary.") from cause
    except DatasetError:
        text = traceback.format_exc()
    error = torch.multiprocessing.ProcessRaisedException(
        "\n\n-- Process 1 terminated with the following error:\n" + text, 1, 1234
    )
    assert sentence_for(error) == "data holds another dictionary."


def test_a_mismatch_in_a_spawned_training_process_is_told_like_any_other(registered: None) -> None:
    from musicbert_plugin.compat.error_messages import sentence_for

    def fail() -> None:
        try:
            torch.nn.Linear(2, 3).load_state_dict({"weight": torch.zeros(4, 2), "scale": torch.zeros(1)})
        except Exception:
            raise Exception(  # noqa: B904  (as fairseq's trainer raises it)
                "Cannot load model parameters from checkpoint c.pt; please ensure that the architectures match."
            )

    try:
        fail()
    except Exception as error:
        text, here = traceback.format_exc(), sentence_for(error)
    elsewhere = torch.multiprocessing.ProcessRaisedException(
        "\n\n-- Process 0 terminated with the following error:\n" + text, 0, 1234
    )
    assert here == sentence_for(elsewhere)
    assert here == (
        "c.pt holds another architecture than this model: weight is 4 x 2 in the file and 3 x 2 here; "
        "bias is not in the file; scale is in the file only."
    )


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyError("valid"), RuntimeError("shape"), OSError("odd")])
def test_what_nobody_knows_is_a_defect(registered: None, error: Exception) -> None:
    from musicbert_plugin.compat.error_messages import sentence_for

    assert sentence_for(error) is None
    assert sentence_for(reraised_by_data_loader(error)) is None


def test_a_file_missing_while_a_defect_is_handled_stays_a_defect(registered: None) -> None:
    from musicbert_plugin.compat.error_messages import sentence_for

    try:
        try:
            open("nowhere")
        except FileNotFoundError:
            {}["key"]
    except KeyError as error:
        assert sentence_for(error) is None
