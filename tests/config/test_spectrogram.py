"""The YAMLs for sound, side by side: hydra pre-trains, continues, fine-tunes and probes from what the first made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIG = Path(__file__).resolve().parents[2] / "musicbert_plugin" / "config"
KINDS = ("spectrogram_pretrain", "spectrogram_continue", "audio_multitask", "audio_probe")


@pytest.fixture
def hydra(
    spectrogram_folder: Callable[..., Path],
    fairseq_command: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """``hydra("audio_probe", ...)``: two updates of a tiny recipe on two loud and quiet clips, in an empty folder."""
    data = spectrogram_folder(
        train=[60, 40], valid=[30], labels={"level": lambda clip: "loud" if clip.mean() > -4 else "quiet"}
    )
    (data / "tasks.yaml").write_text("tasks:\n  level: {type: single, classes: [loud, quiet]}\n")

    def run(kind: str, *overrides: str) -> Any:
        monkeypatch.chdir(tmp_path)
        return fairseq_command(
            "hydra-train", "--config-dir", CONFIG, "--config-name", kind, "model=musicoder_tiny",
            f"task.data={data}", f"common.user_dir={CONFIG.parent}", "common.cpu=true", "common.bf16=false",
            "common.log_format=json", "optimization.max_update=2", "dataset.num_workers=0", f"hydra.run.dir={tmp_path}",
            *(["task.pictures=0"] if kind.startswith("spectrogram") else []), *overrides,
        )  # fmt: skip

    return run


def test_each_yaml_goes_on_from_what_the_first_has_made(hydra: Callable[..., Any], tmp_path: Path) -> None:
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    hydra("spectrogram_pretrain", "dataset.validate_interval_updates=2", "checkpoint.save_interval_updates=2")
    first = tmp_path / "checkpoints" / "musicoder_tiny" / "checkpoint_best.pt"
    encoder = load_checkpoint_to_cpu(str(first))["model"]["encoder.layers.0.fc1.weight"]
    for kind, suffix in (
        ("spectrogram_continue", "continued"),
        ("audio_multitask", "finetuned"),
        ("audio_probe", "probed"),
    ):
        outcome = hydra(kind)
        assert "checkpoints/musicoder_tiny/checkpoint_best.pt" in outcome.log
        folder = f"checkpoints/musicoder_tiny_{suffix}"
        made = load_checkpoint_to_cpu(str(tmp_path / folder / "checkpoint_last.pt"))
        assert made["cfg"]["checkpoint"]["save_dir"] == folder, "the name and not the expression"
        assert made["model"]["encoder.layers.0.fc1.weight"].equal(encoder) == (kind == "audio_probe"), "frozen"
        if kind.startswith("audio"):
            assert any("valid_level_accuracy" in line for line in outcome.statistics)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_yaml_without_the_file_to_begin_with_ends_in_a_sentence_and_trains_nothing(
    hydra: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        hydra(kind)
    assert stopped.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "--finetune-from-model checkpoints/musicoder_tiny/checkpoint_best.pt does not exist"
    assert not list(tmp_path.glob("checkpoints/*/*.pt"))


def test_a_yaml_without_data_ends_in_a_sentence(hydra: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        hydra("spectrogram_pretrain", "task.data=???")
    assert stopped.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "data is missing: the configuration leaves it to the user; set it (task.data=...)."
