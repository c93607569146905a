"""The YAMLs of MusicBERT: the published number of parameters, and a recipe that hydra can run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

CONFIG = Path(__file__).resolve().parents[2] / "musicbert_plugin" / "config"

PARAMETERS = {
    "tiny": 2_043_605,
    "mini": 7_008_981,
    "small": 22_536_405,
    "medium": 35_145_941,
    "base": 103_286_485,
    "large": 331_074_773,
}


def from_arch(size: str) -> Any:
    """The configuration as fairseq-train makes it of --arch."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    words = ["--task", "octuple_masked_lm", "--criterion", "octuple_masked_lm", "--arch", f"musicbert_{size}"]
    arguments = options.parse_args_and_arch(options.get_training_parser(), input_args=[".", *words])
    return convert_namespace_to_omegaconf(arguments)


@pytest.mark.parametrize("source", ["yaml", "arch"])
@pytest.mark.parametrize("size", PARAMETERS)
def test_each_size_has_the_published_number_of_parameters(
    hydra_configuration: Callable[..., Any], size: str, source: str
) -> None:
    from fairseq import tasks

    config = (
        hydra_configuration("octuple_pretrain", f"model=musicbert_{size}", "task.data=.")
        if source == "yaml"
        else from_arch(size)
    )
    with torch.device("meta"):
        model = tasks.setup_task(config.task).build_model(config.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size]


def test_hydra_trains_a_recipe_on_a_cpu(
    octuple_folder: Callable[..., Path], fairseq_command: Callable[..., Any], tmp_path: Path
) -> None:
    data = octuple_folder(train=[100, 60], valid=[40])
    outcome = fairseq_command(
        "hydra-train",
        *("--config-dir", CONFIG, "--config-name", "octuple_pretrain", "model=musicbert_tiny"),
        *(f"common.user_dir={CONFIG.parent}", "common.cpu=true", "common.bf16=false", "common.log_format=json"),
        *(
            f"task.data={data}",
            "task.tokens_per_sample=512",
            "optimization.max_update=2",
            "optimization.update_freq=[1]",
        ),
        *("dataset.num_workers=0", f"checkpoint.save_dir={tmp_path / 'checkpoints'}", f"hydra.run.dir={tmp_path}"),
    )
    assert (tmp_path / "checkpoints" / "checkpoint_last.pt").is_file()
    assert any("valid_ppl_pitch" in line for line in outcome.statistics)
