"""Checkpoints that try to run a command when they are read or built from, made by code.

Every file creates :data:`MARK` in its folder if it succeeds.  ``python -m tests.attacks.files FOLDER`` writes them all.
"""

from __future__ import annotations

import argparse
import collections
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

MARK = "executed"

Options = dict[str, Any]


def code(folder: Path, result: str = "[(8, 2, 2)]") -> str:
    """A Python expression that leaves the mark and has the value ``result``."""
    return f"open({str(folder / MARK)!r}, 'w').close() or {result}"


class Payload:
    """An object whose unpickling calls ``open(MARK, "w")``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return open, (str(self.folder / MARK), "w")


def sections(
    model: Any = None, task: Any = None, criterion: Any = None, optimizer: Any = None, **more: Any
) -> dict[str, Any]:
    """The configuration of an intact file of this plugin, with some of its sections exchanged."""
    return {
        "common": {"seed": 1, "user_dir": None},
        "model": model or {"_name": "musicbert_tiny", "max_positions": 256},
        "task": task or {"_name": "octuple_masked_lm", "data": ".", "tokens_per_sample": 256},
        "criterion": criterion or {"_name": "octuple_masked_lm"},
        "optimizer": optimizer or {"_name": "adam", "adam_betas": "(0.9, 0.98)", "lr": [0.001]},
        "lr_scheduler": {"_name": "fixed"},
        **more,
    }


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


CFG: dict[str, Callable[[Path], dict[str, Any]]] = {
    "wav2vec2": lambda f: sections(model={"_name": "wav2vec2", "conv_feature_layers": code(f)}),
    "wav2vec2_of_its_task": lambda f: sections(
        model={"_name": "wav2vec2", "conv_feature_layers": code(f)}, task={"_name": "audio_pretraining", "data": "."}
    ),
    "hubert": lambda f: sections(model={"_name": "hubert", "conv_feature_layers": code(f), "label_rate": 50}),
    "namespace_of_fconv_lm": lambda f: sections(
        model=argparse.Namespace(_name="fconv_lm", arch="fconv_lm", decoder_layers=code(f), decoder_attention="False"),
        task=argparse.Namespace(_name="language_modeling", task="language_modeling", data="."),
    ),
    "namespace_with_two_names": lambda f: sections(
        model=argparse.Namespace(_name="musicbert_tiny", arch="fconv_lm", decoder_layers=code(f))
    ),
    "character_filters": lambda f: sections(
        model={"_name": "transformer_lm", "character_embeddings": True, "character_filters": code(f)}
    ),
    "ctc_beside_an_intact_model": lambda f: sections(criterion={"_name": "ctc", "wer_args": code(f, "('', '', 0, 0)")}),
    "namespace_of_ctc": lambda f: sections(
        criterion=argparse.Namespace(_name="ctc", criterion="ctc", wer_args=code(f, "('', '', 0, 0)"))
    ),
    "adam_betas": lambda f: sections(optimizer={"_name": "adam", "adam_betas": code(f, "(0.9, 0.98)"), "lr": [0.001]}),
    "composite_optimizer": lambda f: sections(
        optimizer={"_name": "composite", "groups": {"a": {"optimizer": {"_name": "adam", "adam_betas": code(f)}}}}
    ),
    "byte_pair_encoding": lambda f: sections(bpe={"_name": "gpt2"}),
    "tokenizer": lambda f: sections(tokenizer={"_name": "moses"}),
    "model_inside_a_model": lambda f: sections(
        model={"_name": "musicbert_tiny", "w2v_args": {"model": {"_name": "wav2vec2", "conv_feature_layers": code(f)}}}
    ),
    "model_as_the_one_key": lambda f: sections(model={"wav2vec2": {"conv_feature_layers": code(f)}}),
    "model_as_the_one_key_of_an_old_task": lambda f: sections(
        model={"hubert": {"conv_feature_layers": code(f), "label_rate": 50}}, task={"_name": "masked_lm", "data": "."}
    ),
    "model_as_the_one_key_of_a_namespace": lambda f: sections(
        model=argparse.Namespace(wav2vec2={"conv_feature_layers": code(f)})
    ),
    "model_behind_an_interpolation": lambda f: sections(
        model={"wav2vec2": "${zz}"}, zz={"conv_feature_layers": code(f)}
    ),
    "no_name": lambda f: sections(model={"_name": None, "wav2vec2": {"conv_feature_layers": code(f)}}),
    "criterion_as_the_one_key": lambda f: sections(criterion={"ctc": {"wer_args": code(f)}}),
    "task_under_another_key": lambda f: sections(task={"task": "audio_pretraining", "data": "."}),
    "task_beside_an_old_name": lambda f: sections(task={"_name": "xai", "task": "translation", "data": "."}),
    "ordered_sections": lambda f: collections.OrderedDict(
        sections(model=collections.OrderedDict(wav2vec2={"conv_feature_layers": code(f)}))
    ),
    "name_alone_as_model": lambda f: sections(model="musicbert_tiny"),
    "resolver": lambda f: sections(task={"_name": "octuple_masked_lm", "data": "${oc.env:HOME}"}),
    "deeply_nested": lambda f: sections(common=nested(60)),
    "list_as_configuration": lambda f: [1, 2],  # type: ignore[dict-item,return-value]
    "list_as_name": lambda f: sections(model={"_name": ["wav2vec2"], "conv_feature_layers": code(f)}),
    "mapping_as_architecture": lambda f: sections(model=argparse.Namespace(arch={"wav2vec2": 1})),
    "number_as_model": lambda f: sections(model=5),
}
"""Files with a ``cfg``: attack by name, as a function of the folder."""

ARGS: dict[str, Callable[[Path], Any]] = {
    "old_wav2vec2": lambda f: argparse.Namespace(
        arch="wav2vec2", task="audio_pretraining", criterion="wav2vec", data=".", conv_feature_layers=code(f)
    ),
    "old_fconv_lm": lambda f: argparse.Namespace(
        arch="fconv_lm", task="language_modeling", criterion="cross_entropy", data=".", decoder_layers=code(f)
    ),
    "old_ctc": lambda f: argparse.Namespace(
        arch="musicbert_tiny", task="masked_lm", criterion="ctc", data=".", wer_args=code(f)
    ),
    "old_without_a_name": lambda f: argparse.Namespace(task="audio_pretraining", data=".", conv_feature_layers=code(f)),
    "old_without_an_architecture": lambda f: argparse.Namespace(
        task="octuple_masked_lm", criterion="octuple_masked_lm", model="wav2vec2", conv_feature_layers=code(f)
    ),
    "mapping_as_args": lambda f: {"arch": "wav2vec2", "conv_feature_layers": code(f)},
}
"""Older files, with ``args``."""


def write_attacks(folder: Path, weights: dict[str, torch.Tensor] | None = None) -> dict[str, Path]:
    """Write every attack file.

    Parameters
    ----------
    folder : Path
        An existing folder; the files and, where one succeeds, :data:`MARK` lie in it.
    weights : dict, optional
        Parameters of an intact model to put into the files.

    Returns
    -------
    dict of str to Path
        The files by the name of the attack.
    """
    weights = weights or {"encoder.weight": torch.zeros(1)}
    found = {}
    for name, make in {**CFG, **ARGS}.items():
        state = {
            "args": make(folder) if name in ARGS else None,
            "cfg": make(folder) if name in CFG else None,
            "model": weights,
            "optimizer_history": [
                {
                    "criterion_name": "OctupleMaskedLmLoss",
                    "optimizer_name": "FairseqAdam",
                    "lr_scheduler_state": {},
                    "num_updates": 1,
                }
            ],
            "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "version": 2}},
            "last_optimizer_state": {"state": {}, "param_groups": []},
        }
        found[name] = folder / f"{name}.pt"
        torch.save(state, found[name])
    state = {"args": None, "cfg": sections(), "model": weights, "extra_state": Payload(folder)}
    for name, zipped in (("pickle", True), ("pickle_not_zipped", False)):
        found[name] = folder / f"{name}.pt"
        torch.save(state, found[name], _use_new_zipfile_serialization=zipped)
    found["configuration_of_omegaconf"] = folder / "configuration_of_omegaconf.pt"
    cfg = OmegaConf.create(CFG["ctc_beside_an_intact_model"](folder), flags={"allow_objects": True})
    torch.save({"args": None, "cfg": cfg, "model": weights}, found["configuration_of_omegaconf"])
    # a name that lies beside the content of a configuration, where getattr finds it
    found["name_beside_the_content"] = folder / "name_beside_the_content.pt"
    cfg = OmegaConf.create(sections(), flags={"allow_objects": True})
    cfg.model = OmegaConf.create({"conv_feature_layers": code(folder)})
    cfg.model.__dict__["_name"] = "wav2vec2"
    torch.save({"args": None, "cfg": cfg, "model": weights}, found["name_beside_the_content"])
    found["bare_pickle"] = folder / "bare_pickle.pt"
    found["bare_pickle"].write_bytes(pickle.dumps({"model": Payload(folder)}, protocol=2))
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    for path in write_attacks(Path(sys.argv[1])).values():
        print(path)
