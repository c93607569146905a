"""Each size of MuseCoco's model has one complete YAML: the published number of parameters, and the recipe of all."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

CONFIG = Path(__file__).resolve().parents[2] / "musicbert_plugin" / "config"
PARAMETERS = {"std": 20_198_400, "large": 86_980_608, "xl": 203_845_440, "1billion": 1_212_161_472}


def completed(size):
    """The configuration as fairseq-hydra-train completes it."""
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq.dataclass.initialize import add_defaults

    overrides = OmegaConf.load(CONFIG / f"attribute_to_music_{size}.yaml")
    del overrides["hydra"]
    config = OmegaConf.merge(OmegaConf.structured(FairseqConfig), overrides, {"task": {"data": "."}})
    add_defaults(config)
    return config


@pytest.mark.parametrize("size", PARAMETERS)
def test_each_size_has_the_published_number_of_parameters(registered, size):
    from fairseq import tasks

    config = completed(size)
    with torch.device("meta"):
        model = tasks.setup_task(config.task).build_model(config.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size]
    assert (model.args.position_mode, model.args.layout) == ("zero-prefix", "bar-tempo")


def test_the_sizes_differ_in_size_alone():
    recipes = []
    for size in PARAMETERS:
        recipe = OmegaConf.to_container(OmegaConf.load(CONFIG / f"attribute_to_music_{size}.yaml"))
        for name in list(recipe["model"]):
            if name.startswith("decoder_") or name == "checkpoint_activations":
                del recipe["model"][name]
        recipe["checkpoint"].pop("save_dir")
        recipes.append(recipe)
    assert all(recipe == recipes[0] for recipe in recipes)
