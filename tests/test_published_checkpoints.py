"""Files in the format of the published checkpoints load through fairseq's own loader, and give the original's logits.

The published files themselves cannot be had any more, so this builds files as the same code saved them: ``args`` is
None and ``cfg`` an omegaconf DictConfig in which model, task and criterion are argparse Namespaces with all arguments;
or, older, ``args`` is one Namespace.  The weights are random, the model's sizes small, and the expected logits come
from a float64 model that was written from the description of the original alone.
"""

import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from benchmarks.original_musicbert import OriginalMusicBERT
from musicbert_plugin.codecs.octuple import FIELD_SIZES, dictionary_text, frame
from musicbert_plugin.errors import CheckpointError

LAYERS, DIM, FFN, HEADS, POSITIONS = 2, 16, 32, 2, 512
FORMS = ("cfg", "cfg, not zipped", "args", "args, not zipped")


def arguments(task: str, data: str = "elsewhere/octuple_data_bin", **more: object) -> dict:
    """What the argument parser of that time left behind; the file holds several hundred, these are the ones that
    matter.
    """
    return {
        "arch": "musicbert_small",
        "task": task,
        "criterion": task,
        "optimizer": "adam",
        "lr_scheduler": "polynomial_decay",
        "user_dir": "musicbert",
        "data": data,
        "seed": 1,
        "tokens_per_sample": POSITIONS,
        "max_positions": POSITIONS,
        "sample_break_mode": "complete",
        "mask_prob": 0.15,
        "leave_unmasked_prob": 0.1,
        "random_token_prob": 0.1,
        "freq_weighted_replacement": False,
        "mask_whole_words": False,
        "encoder_layers": LAYERS,
        "encoder_embed_dim": DIM,
        "encoder_ffn_embed_dim": FFN,
        "encoder_attention_heads": HEADS,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "pooler_dropout": 0.0,
        "activation_fn": "gelu",
        "pooler_activation_fn": "tanh",
        "encoder_layerdrop": 0,
        "encoder_layers_to_keep": None,
        "untie_weights_roberta": False,
        "quant_noise_pq": 0,
        "quant_noise_pq_block_size": 8,
        "quant_noise_scalar": 0,
        "spectral_norm_classification_head": False,
        "lr": [0.0005],
        "total_num_update": 125000,
        "warmup_updates": 25000,
        "adam_betas": "(0.9,0.98)",
        "adam_eps": 1e-6,
        "weight_decay": 0.01,
        "clip_norm": 0.0,
        "pad": 1,
        "eos": 2,
        "unk": 3,
        "no_progress_bar": False,
        "log_interval": 100,
        **more,
    }


def settings_of_the_time() -> dict:
    """The groups beside model, task, criterion and optimizer: plain values, since the original resolved them."""
    from fairseq.dataclass.configs import FairseqConfig

    defaults = OmegaConf.structured(FairseqConfig)
    groups = (
        "common common_eval distributed_training dataset optimization checkpoint bmuf generation eval_lm interactive"
    ).split()
    settings = OmegaConf.to_container(OmegaConf.masked_copy(defaults, groups), resolve=True, enum_to_str=True)
    schedule = {"_name": "polynomial_decay", "warmup_updates": 25000, "power": 1.0}
    return {"_name": None, **settings, "lr_scheduler": schedule, "scoring": None, "bpe": None, "tokenizer": None}


def published_file(path: Path, form: str, state: dict[str, torch.Tensor], task: str = "masked_lm", **more) -> Path:
    """Write a checkpoint as the original saved it."""
    args = Namespace(**arguments(task, **more))
    names = {"model": args.arch, "task": task, "criterion": task, "optimizer": "adam"}
    cfg = None
    if form.startswith("cfg"):
        cfg = OmegaConf.create(settings_of_the_time(), flags={"allow_objects": True})
        for group, name in names.items():
            cfg[group] = Namespace(_name=name, **vars(args))
        if form == "cfg of mappings":  # as newer fairseq saves it again
            for group in ("task", "criterion"):
                cfg[group] = {"_name": names[group], **more}
        OmegaConf.set_struct(cfg, True)
    best = np.float64(1.25)
    torch.save(
        {
            "args": args if cfg is None else None,
            "cfg": cfg,
            "model": state,
            "optimizer_history": [
                {
                    "criterion_name": "MaskedLmLoss",
                    "optimizer_name": "FairseqAdam",
                    "lr_scheduler_state": {"best": best},
                    "num_updates": 125000,
                }
            ],
            "extra_state": {
                "train_iterator": {"version": 2, "epoch": 3, "iterations_in_epoch": 0, "shuffle": True},
                "val_loss": float(best),
                "best": best,
                "metrics": {},
                "previous_training_time": 345600.0,
            },
            "last_optimizer_state": {"state": {}, "param_groups": [{"lr": 0.0, "betas": (0.9, 0.98)}]},
        },
        path,
        _use_new_zipfile_serialization="not zipped" not in form,
    )
    return path


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return OriginalMusicBERT(LAYERS, DIM, FFN, HEADS, max_positions=POSITIONS).randomize(0.1, 0.1)


@pytest.fixture(scope="module")
def state(reference):
    return reference.published_state()


def octuples(length: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, size, length) for size in FIELD_SIZES], 1)


@pytest.fixture(scope="module")
def tokens():
    return torch.from_numpy(np.stack([frame(octuples(30, seed)).astype(np.int64) for seed in (1, 2)]))


@pytest.fixture
def data(tmp_path, registered):
    """A dataset of the time: fairseq-preprocess's files, for pre-training and (input0, label) for fine-tuning."""
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    def write(path, items):
        builder = MMapIndexedDatasetBuilder(f"{path}.bin", dtype=np.uint16)
        for item in items:
            builder.add_item(torch.as_tensor(np.asarray(item, np.int64)))
        builder.finalize(f"{path}.idx")

    folder = tmp_path / "data"
    for part in ("", "input0", "label"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "dict.txt").write_text("0 10\n1 10\n" if part == "label" else dictionary_text())
    for split, count in (("train", 8), ("valid", 4)):
        pieces = [frame(octuples(12, seed)) for seed in range(count)]
        write(folder / split, pieces)
        write(folder / "input0" / split, pieces)
        write(folder / "label" / split, [[4 + n % 2, 2] for n in range(count)])
    return folder


def logits_of(model, tokens):
    model.eval()
    with torch.no_grad():
        return model(tokens)[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_pre_trained_file_gives_the_originals_logits(form, tmp_path, data, reference, state, tokens):
    from fairseq import checkpoint_utils

    path = published_file(tmp_path / "checkpoint_last_musicbert_small.pt", form, state)
    models, _ = checkpoint_utils.load_model_ensemble([str(path)], arg_overrides={"data": str(data)})
    expected = reference(tokens)
    assert (logits_of(models[0], tokens) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert all(torch.equal(tensor, state[name]) for name, tensor in models[0].state_dict().items())


HEADS_OF_FILES = {
    "next_head": ("sentence_prediction", 2),
    "acc_head": ("sentence_prediction", 2),
    "topmagd_head": ("sentence_prediction_multilabel", 13),
    "masd_head": ("sentence_prediction_multilabel", 25),
}
"""Task and number of classes of the published fine-tuning recipes, by the name of their head."""


def fine_tuned_file(path, form, state, name):
    """A file with a head, and the weights of the head."""
    task, classes = HEADS_OF_FILES[name]
    torch.manual_seed(1)
    head = {
        f"classification_heads.{name}.dense.weight": torch.randn(DIM, DIM),
        f"classification_heads.{name}.dense.bias": torch.randn(DIM),
        f"classification_heads.{name}.out_proj.weight": torch.randn(classes, DIM),
        f"classification_heads.{name}.out_proj.bias": torch.randn(classes),
    }
    more = {"num_classes": classes, "init_token": 0, "separator_token": 2, "no_shuffle": False}
    more |= {"shorten_method": "truncate", "shorten_data_split_list": "", "classification_head_name": name}
    if task == "sentence_prediction":
        more |= {"add_prev_output_tokens": False, "regression_target": False}
    return published_file(path, form, {**state, **head}, task=task, **more), list(head.values())


def expected_classes(reference, tokens, head):
    features = reference(tokens, features_only=True)[:, 0]
    w, b, u, c = (tensor.to(features) for tensor in head)
    return torch.tanh(features @ w.t() + b) @ u.t() + c


@pytest.mark.parametrize(
    ("form", "name"),
    [("cfg", name) for name in HEADS_OF_FILES]
    + [("args", "next_head"), ("args", "masd_head"), ("cfg of mappings", "topmagd_head")],
)
def test_a_fine_tuned_file_gives_the_originals_classes(form, name, tmp_path, data, reference, state, tokens):
    from fairseq import checkpoint_utils

    from musicbert_plugin.hub import MusicBERTHub

    path, head = fine_tuned_file(tmp_path / f"{name}.pt", form, state, name)
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], {"data": str(data)})
    expected = expected_classes(reference, tokens, head)
    with torch.no_grad():
        assert torch.allclose(models[0].eval()(tokens, classification_head_name=name)[0], expected.float(), atol=1e-4)
    assert len(task.source_dictionary) == 1237
    # a genre is one of several that a piece may have, and an answer of the others is one of two
    piece = octuples(30)
    piece = piece[np.argsort(piece[:, 0])]
    found = MusicBERTHub.from_pretrained(path).classify(piece)
    (expected,) = expected_classes(reference, torch.from_numpy(frame(piece).astype(np.int64))[None], head)
    many = HEADS_OF_FILES[name][0].endswith("multilabel")
    probabilities = expected.sigmoid() if many else expected.softmax(-1)
    assert [found[str(number)] for number in range(len(found))] == pytest.approx(probabilities.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("form", "task", "criterion"),
    [("cfg", "sentence_prediction_multilabel", "sentence_prediction_multilabel"), ("args", "xai", "M2PFnP_xai")],
)
def test_a_task_of_published_files_says_what_it_is_for(
    form, task, criterion, tmp_path, data, state, fairseq_command, capfd
):
    more = {"num_classes": 13, "classification_head_name": "topmagd_head", "criterion": criterion}
    path = published_file(tmp_path / "published.pt", form, state, task=task, **more)
    with pytest.raises(SystemExit) as stop:
        fairseq_command("validate", data, "--path", path, "--task", task, "--batch-size", 2)
    said = capfd.readouterr().err
    assert stop.value.code == 2 and f"The task {task} only loads published files" in said and "Traceback" not in said


@pytest.mark.parametrize("name", ["xai_pretrain_arch", "xai"])
def test_a_published_model_that_is_not_here_is_named(name, tmp_path, data, state):
    from fairseq import checkpoint_utils

    path = published_file(tmp_path / "xai.pt", "args", state, task="xai_pretrain_task")
    content = torch.load(path, weights_only=False)
    content["args"].arch = name
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"holds a model of the architecture '{name}', but one of"):
        checkpoint_utils.load_model_ensemble([str(path)], arg_overrides={"data": str(data)})


@pytest.mark.parametrize("name", ["decoder.version", "encoder.sentence_encoder.version"])
def test_names_of_other_versions_of_fairseq_are_read(name, tmp_path, data, reference, state, tokens):
    """Newer versions write a buffer that holds 3, and other names of the first LayerNorm."""
    from fairseq import checkpoint_utils

    renamed = {key.replace(".emb_layer_norm.", ".layernorm_embedding."): tensor for key, tensor in state.items()}
    if name.startswith("decoder"):
        renamed = {key.replace("encoder.", "decoder.", 1): tensor for key, tensor in renamed.items()}
        name = "decoder.sentence_encoder.version"
    path = published_file(tmp_path / "newer.pt", "cfg", {**renamed, name: torch.tensor([3.0])})
    (model,), _ = checkpoint_utils.load_model_ensemble([str(path)], arg_overrides={"data": str(data)})
    expected = reference(tokens)
    assert (logits_of(model, tokens) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("form", FORMS)
def test_pre_training_goes_on_from_a_published_file(form, tmp_path, data, state, fairseq_command):
    path = published_file(tmp_path / "checkpoint_last_musicbert_small.pt", form, state)
    options = (
        f"--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert_small --encoder-layers {LAYERS} "
        f"--encoder-embed-dim {DIM} --encoder-ffn-embed-dim {FFN} --encoder-attention-heads {HEADS} --batch-size 4 "
        f"--tokens-per-sample {POSITIONS} --optimizer adam --lr 0 --max-update 1 --reset-optimizer --reset-dataloader "
        "--reset-meters --disable-validation --no-epoch-checkpoints"
    ).split()
    fairseq_command("train", data, *options, "--restore-file", path, "--save-dir", tmp_path / "out")
    saved = torch.load(tmp_path / "out" / "checkpoint_last.pt", weights_only=True)["model"]
    assert saved.keys() == state.keys(), "the original reads the new file"
    assert all(torch.equal(saved[name], tensor) for name, tensor in state.items())


def test_fine_tuning_starts_from_a_published_file(tmp_path, data, state, fairseq_command):
    path = published_file(tmp_path / "checkpoint_last_musicbert_small.pt", "cfg", state)
    options = (
        f"--task sentence_prediction --criterion sentence_prediction --arch musicbert_small --encoder-layers {LAYERS} "
        f"--encoder-embed-dim {DIM} --encoder-ffn-embed-dim {FFN} --encoder-attention-heads {HEADS} --batch-size 4 "
        f"--required-batch-size-multiple 1 --max-positions {POSITIONS} "
        "--classification-head-name next_head --num-classes 2 --optimizer adam --lr 0 "
        "--max-update 1 --reset-optimizer --reset-dataloader --reset-meters --no-epoch-checkpoints "
        "--best-checkpoint-metric accuracy --maximize-best-checkpoint-metric"
    ).split()
    fairseq_command("train", data, *options, "--restore-file", path, "--save-dir", tmp_path / "out")
    saved = torch.load(tmp_path / "out" / "checkpoint_last.pt", weights_only=True)["model"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in state.items())
    assert saved["classification_heads.next_head.out_proj.weight"].shape == (2, DIM)


@pytest.mark.parametrize("force_unsafe", [False, True])
def test_a_file_that_carries_more_than_weights_is_refused_by_name(tmp_path, data, state, force_unsafe, monkeypatch):
    from fairseq import checkpoint_utils

    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(ran),))

    if force_unsafe:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = published_file(tmp_path / "file.pt", "cfg", state, extra=Payload())
    with pytest.raises(CheckpointError, match=r"file\.pt contains (posix|nt)\.mkdir"):
        checkpoint_utils.load_model_ensemble([str(path)], arg_overrides={"data": str(data)})
    assert not ran.exists()


def test_a_file_of_another_size_is_refused(tmp_path, data, state, fairseq_command, capfd):
    path = published_file(tmp_path / "checkpoint_last_musicbert_small.pt", "cfg", state)
    options = (
        "--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert_tiny --optimizer adam --max-update 1 "
        "--reset-optimizer --reset-dataloader --reset-meters --batch-size 2 --tokens-per-sample 512"
    ).split()
    with pytest.raises(SystemExit) as stop:
        fairseq_command("train", data, *options, "--restore-file", path, "--save-dir", tmp_path / "out")
    assert stop.value.code == 2
    assert str(path) in capfd.readouterr().err
