"""Each recipe is also one YAML per size for fairseq-hydra-train, with the values that its script gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from conftest import Machine

CONFIG = Path(__file__).resolve().parents[2] / "musicbert_plugin" / "config"
OCTUPLE = {size: f"musicbert_{size}" for size in ("tiny", "mini", "small", "medium", "base", "large")}
SOUND = {
    "tiny": "musicoder_tiny", "base": "musicoder_base", "large": "musicoder_large", "m3bert_base": "m3bert_base",
}  # fmt: skip
MUSIC = {size: f"linear_transformer_lm_{size}" for size in ("std", "large", "gpt", "gpt_base", "xl", "1billion")}

RECIPES = {
    # the YAML without its size: sizes, script, words after DATA, ARCH standing for the architecture
    "octuple_pretrain": (OCTUPLE, "pretrain_octuple.sh", "ARCH --gpus 8"),
    "spectrogram_pretrain": (SOUND, "pretrain_audio.sh", "ARCH --gpus 4"),
    "spectrogram_continue": (SOUND, "pretrain_audio.sh", "ARCH --from PRETRAINED --gpus 4"),
    "audio_multitask": (SOUND, "finetune_audio.sh", "ARCH PRETRAINED --gpus 1"),
    "audio_probe": (SOUND, "finetune_audio.sh", "ARCH PRETRAINED --frozen --gpus 1"),
    "attribute_to_music": (MUSIC, "train_attribute_to_music.sh", "ARCH --gpus 1"),
    "pairs_finetune": (MUSIC, "finetune_pairs.sh", "PRETRAINED ARCH --gpus 1"),
}
FILES = [(name, size) for name, (sizes, _, _) in RECIPES.items() for size in sizes]


def from_yaml(name: str) -> Any:
    """The configuration as fairseq-hydra-train completes it."""
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq.dataclass.initialize import add_defaults

    told = OmegaConf.load(CONFIG / f"{name}.yaml")
    assert told.hydra.job.chdir is False, "save_dir is meant from where the command is given"
    del told["hydra"]
    config = OmegaConf.merge(OmegaConf.structured(FairseqConfig), told, {"task": {"data": "DATA"}})
    add_defaults(config)
    return config


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
    for group in ("common", "task", "model", "criterion", "dataset", "optimization", "optimizer", "lr_scheduler",
                  "checkpoint", "distributed_training"):  # fmt: skip
        fields = OmegaConf.to_container(config[group], resolve=True)
        found.update({f"{group}.{name}": value for name, value in fields.items()})
    del found["common.user_dir"]  # the script's is an absolute path
    del found["model._name"]  # the name of the architecture, or of the model
    del found["optimizer.tpu"]  # fairseq-train says so with --bf16; without apex, Adam is the same
    del found["distributed_training.distributed_world_size"]  # hydra counts the GPUs itself
    return found


def test_every_yaml_is_one_of_a_recipe() -> None:
    assert {path.stem for path in CONFIG.glob("*.yaml")} == {f"{name}_{size}" for name, size in FILES}


@pytest.mark.parametrize(("name", "size"), FILES)
def test_a_yaml_gives_the_configuration_of_its_script(registered: None, recipe: Machine, name: str, size: str) -> None:
    sizes, script, words = RECIPES[name]
    pretrained = f"checkpoints/{sizes[size]}/checkpoint_best.pt"
    (recipe.folder / pretrained).parent.mkdir(parents=True)
    (recipe.folder / pretrained).touch()
    found = recipe(script, "DATA", *words.replace("ARCH", sizes[size]).replace("PRETRAINED", pretrained).split())
    assert values(from_yaml(f"{name}_{size}")) == values(from_script(found.words))
