"""Each recipe is also a YAML for fairseq-hydra-train, which with each model has the values that its script gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from conftest import Machine

CONFIG = Path(__file__).resolve().parents[2] / "musicbert_plugin" / "config"
OCTUPLE = [f"musicbert_{size}" for size in ("tiny", "mini", "small", "medium", "base", "large")]
SOUND = ["musicoder_tiny", "musicoder_base", "musicoder_large", "m3bert_base"]
MUSIC = [f"linear_transformer_lm_{size}" for size in ("std", "large", "gpt", "gpt_base", "xl", "1billion")]

RECIPES = {
    # the YAML: models, script, words after DATA, ARCH standing for the architecture
    "octuple_pretrain": (OCTUPLE, "pretrain_octuple.sh", "ARCH --gpus 8"),
    "spectrogram_pretrain": (SOUND, "pretrain_audio.sh", "ARCH --gpus 4"),
    "spectrogram_continue": (SOUND, "pretrain_audio.sh", "ARCH --from PRETRAINED --gpus 4"),
    "audio_multitask": (SOUND, "finetune_audio.sh", "ARCH PRETRAINED --gpus 1"),
    "audio_probe": (SOUND, "finetune_audio.sh", "ARCH PRETRAINED --frozen --gpus 1"),
    "attribute_to_music": (MUSIC, "train_attribute_to_music.sh", "ARCH --gpus 1"),
    "pairs_finetune": (MUSIC, "finetune_pairs.sh", "PRETRAINED ARCH --gpus 1"),
}
PAIRS = [(name, model) for name, (models, _, _) in RECIPES.items() for model in models]


def from_script(words: list[str]) -> Any:
    """The configuration as fairseq-train makes it of a script's words."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    from musicbert_plugin.compat.fairseq import bf16_without_tpu

    words = words[words.index("DATA") :]
    words[words.index("--user-dir") + 1] = str(CONFIG.parent)
    config = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), words))
    bf16_without_tpu(config)
    return config


def values(config: Any) -> dict[str, Any]:
    """Every value by its full name, such as ``optimization.max_update``; without what only one way of calling has."""
    found = {}
    for group in (
        "common",
        "task",
        "model",
        "criterion",
        "dataset",
        "optimization",
        "optimizer",
        "lr_scheduler",
        "checkpoint",
        "distributed_training",
    ):
        fields = OmegaConf.to_container(config[group], resolve=True)
        found.update({f"{group}.{name}": value for name, value in fields.items()})
    del found["common.user_dir"]  # the script's is an absolute path
    del found["model._name"]  # the name of the architecture, or of the model
    del found["optimizer.tpu"]  # fairseq-train says so with --bf16; without apex, Adam is the same
    del found["distributed_training.distributed_world_size"]  # hydra counts the GPUs itself
    return found


def test_every_yaml_is_a_recipe_or_a_model() -> None:
    assert {path.stem for path in CONFIG.glob("*.yaml")} == set(RECIPES)
    assert {path.stem for path in CONFIG.glob("model/*.yaml")} == {*OCTUPLE, *SOUND, *MUSIC}
    assert len(list(CONFIG.rglob("*.yaml"))) == len(RECIPES) + len(OCTUPLE) + len(SOUND) + len(MUSIC)


@pytest.mark.parametrize(("name", "model"), PAIRS)
def test_a_recipe_with_a_model_gives_the_configuration_of_its_script(
    hydra_configuration: Callable[..., Any], recipe: Machine, name: str, model: str
) -> None:
    _, script, words = RECIPES[name]
    pretrained = f"checkpoints/{model}/checkpoint_best.pt"
    (recipe.folder / pretrained).parent.mkdir(parents=True)
    (recipe.folder / pretrained).touch()
    found = recipe(script, "DATA", *words.replace("ARCH", model).replace("PRETRAINED", pretrained).split())
    assert values(hydra_configuration(name, f"model={model}", "task.data=DATA")) == values(from_script(found.words))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_without_a_model_takes_the_one_that_its_first_lines_name(
    hydra_configuration: Callable[..., Any], name: str
) -> None:
    models, _, _ = RECIPES[name]
    head = " ".join((CONFIG / f"{name}.yaml").read_text().partition("\ndefaults:")[0].replace("\n# ", " ").split())
    (default,) = (model for model in models if f"({model} where none is given)" in head)
    found = hydra_configuration(name, "task.data=DATA")
    assert values(found) == values(hydra_configuration(name, f"model={default}", "task.data=DATA"))


@pytest.mark.parametrize("name", RECIPES)
def test_the_command_in_the_first_lines_names_the_recipe_and_a_model_of_it(name: str) -> None:
    words = (CONFIG / f"{name}.yaml").read_text().partition("\ndefaults:")[0].split()
    assert words[words.index("--config-name") + 1] == name
    assert [word for word in words if word.startswith("model=")][0].partition("=")[2] in RECIPES[name][0]


@pytest.mark.parametrize("name", RECIPES)
def test_what_the_command_gives_outranks_recipe_and_model(hydra_configuration: Callable[..., Any], name: str) -> None:
    stack = "decoder" if RECIPES[name][0] is MUSIC else "encoder"
    given = {
        "task.data": "DATA",
        f"model.{stack}_layers": 1,
        "model.dropout": 0.3,
        "optimization.update_freq": [3],
        "checkpoint.save_dir": "elsewhere/a",
        "checkpoint.finetune_from_model": "some.pt",
    }
    found = hydra_configuration(name, *(f"{key}={value}" for key, value in given.items()))
    assert {key: OmegaConf.select(found, key) for key in given} == given
