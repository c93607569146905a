"""Published files of MuseCoco load, give the original's logits, shrink and change form without changing them.

The files themselves are large, so this builds small ones as the original saved them: ``args`` is one Namespace, ``cfg``
does not exist, the optimizer's moments lie beside the weights.  The expected logits come from the float64 model of
``tests/reference/linear_transformer_lm.py``.
"""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import parse_request
from musicbert_plugin.codecs.score import DRUMS, Score
from musicbert_plugin.errors import CheckpointError, OptionError

pytestmark = pytest.mark.usefixtures("registered")
HEADS = 3
BEGINS = {"zero-prefix": 64, "zero-prefix-shifted": 63, "all": 0}


def weights(vocabulary, seed=1):
    from tests.reference.linear_transformer_lm import dictionary, make, spread

    return spread(make(dictionary(vocabulary), decoder_attention_heads=HEADS)).state_dict()


def published_file(path, state, **more):
    """A checkpoint as the original wrote it."""
    args = Namespace(
        arch="linear_transformer_lm_xl",
        task="language_modeling_control",
        criterion="cross_entropy",
        optimizer="adam",
        lr_scheduler="inverse_sqrt",
        data="data-bin",
        user_dir="linear_mask",
        decoder_layers=2,
        decoder_embed_dim=32,
        decoder_ffn_embed_dim=32,
        decoder_attention_heads=HEADS,
        decoder_output_dim=32,
        decoder_input_dim=32,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        activation_fn="gelu",
        share_decoder_input_output_embed=False,
        max_target_positions=None,
        tokens_per_sample=10_000_000,
        truncated_length=5120,
        command_mask_prob=-1.0,
        seed=1,
        lr=[0.0002],
        adam_betas="(0.9, 0.98)",
        adam_eps=1e-9,
        fp16=False,
        bf16=False,
        **more,
    )
    moments = {n: {"exp_avg": torch.randn(50_000), "exp_avg_sq": torch.randn(50_000)} for n in range(3)}
    torch.save(
        {
            "args": args,
            "model": state,
            "optimizer_history": [
                {
                    "criterion_name": "CrossEntropyCriterion",
                    "optimizer_name": "FairseqAdam",
                    "lr_scheduler_state": {"best": None},
                    "num_updates": 280000,
                }
            ],
            "extra_state": {"train_iterator": {"epoch": 2, "iterations_in_epoch": 5}, "best": np.float64(1.5)},
            "last_optimizer_state": {"state": moments, "param_groups": []},
        },
        path,
    )
    return path


def write_items(stem, items):
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    builder = MMapIndexedDatasetBuilder(f"{stem}.bin", dtype=np.uint16)
    for item in items:
        builder.add_item(torch.as_tensor(item))
    builder.finalize(f"{stem}.idx")


def words_of(vocabulary):
    return [*remi.WORDS[:985], *(f"word{n}" for n in range(985, vocabulary))]


def write_dictionary(path, vocabulary):
    path.write_text("".join(f"{word} 1\n" for word in words_of(vocabulary)[4:]))


def row(vocabulary):
    torch.manual_seed(5)
    tokens = torch.randint(4, 900, (90,))
    tokens[0], tokens[1:64], tokens[64] = 2, torch.randint(985, vocabulary, (63,)), 984
    return tokens


@pytest.mark.parametrize("mode", BEGINS)
@pytest.mark.parametrize("vocabulary", [1253, 3245])
def test_logits_of_a_published_file_in_each_position_mode(tmp_path, mode, vocabulary):
    """By fairseq's own loader, with the dictionary that belongs to the file."""
    from fairseq import tasks
    from fairseq.checkpoint_utils import load_model_ensemble_and_task

    from tests.reference.linear_transformer_lm import expected_logits

    state = weights(vocabulary)
    path = published_file(tmp_path / "checkpoint_2_280000.pt", state)
    (tmp_path / "dict.txt").write_text(remi.dictionary_text())
    if vocabulary != 1253:
        write_dictionary(tmp_path / "dict.txt", vocabulary)
    (model,), _, task = load_model_ensemble_and_task([str(path)], arg_overrides={"data": str(tmp_path)})
    assert type(task) is tasks.TASK_REGISTRY["language_modeling_control"]
    assert (model.args.layout, model.decoder.position_mode) == ("bar-tempo", "zero-prefix")
    tokens = row(vocabulary)
    logits = model.eval()(tokens[None], src_lengths=torch.tensor([90]), sep_pos=[BEGINS[mode]])[0][0]
    assert (logits - expected_logits(state, tokens, BEGINS[mode], HEADS)).abs().max() < 5e-5


NEWER = {
    "without buffers": {"decoder.version": None, "decoder.embed_positions._float_tensor": None},
    "with a table": {
        "decoder.embed_positions._float_tensor": None,
        "decoder.embed_positions.weights": torch.zeros(9, 32),
    },
    "other names": {"decoder.output_projection.weight": "decoder.embed_out"},
    "folder's name": {"decoder.output_projection.weight": "lm_head.weight"},
}
"""What other versions of fairseq leave out (None), add (a tensor) or name otherwise."""


@pytest.mark.parametrize("form", NEWER)
def test_files_of_other_versions_of_fairseq_give_the_same_logits(tmp_path, form, fairseq_command):
    """By fairseq's loader, by the hub, and as the file that a training begins with."""
    from fairseq.checkpoint_utils import load_model_ensemble

    from musicbert_plugin.hub import MuseCocoHub
    from tests.reference.linear_transformer_lm import expected_logits

    state = weights(1253)
    written = dict(state)
    for name, other in NEWER[form].items():
        tensor = written.pop(name, None)
        if other is not None:
            written |= {other: tensor} if isinstance(other, str) else {name: other}
    path = published_file(tmp_path / "newer.pt", written)
    (model,), _ = load_model_ensemble([str(path)], arg_overrides={"data": None})
    tokens = row(1253)
    for found in (model.eval(), MuseCocoHub.from_pretrained(path).model):
        assert (found(tokens[None])[0][0] - expected_logits(state, tokens, 64, HEADS)).abs().max() < 5e-5
        assert set(found.state_dict()) == set(state)


@pytest.mark.parametrize("form", ["file", "stripped", "folder", "bin"])
def test_the_hub_gives_the_same_logits_of_every_form(tmp_path, form, capsys):
    from musicbert_plugin.hub import __main__ as hub
    from tests.reference.linear_transformer_lm import expected_logits

    state = weights(1253)
    path = published_file(tmp_path / "published.pt", state)
    if form == "stripped":
        hub.main(["strip", str(path), str(tmp_path / "small.pt")])
        assert (tmp_path / "small.pt").stat().st_size < path.stat().st_size - 1_000_000
        path = tmp_path / "small.pt"
    elif form != "file":
        hub.main(["hugging-face", str(path), str(tmp_path / "folder")])
        path = tmp_path / "folder"
        if form == "bin":
            (path / "model.safetensors").unlink()
            named = {name.replace("decoder.output_projection", "lm_head"): value for name, value in state.items()}
            named.pop("decoder.version")
            torch.save(named, path / "pytorch_model.bin")
    for mode, begin in BEGINS.items():
        model = hub.MuseCocoHub.from_pretrained(path, position_mode=mode).model
        tokens = row(1253)
        logits = model(tokens[None])[0][0]
        assert (logits - expected_logits(state, tokens, begin, HEADS)).abs().max() < 5e-5


def test_a_stripped_file_loads_in_fairseq_and_may_be_of_half_the_size(tmp_path):
    from fairseq.checkpoint_utils import load_model_ensemble_and_task

    from musicbert_plugin.hub.checkpoints import strip_checkpoint

    state = weights(1253)
    path = published_file(tmp_path / "published.pt", state)
    strip_checkpoint(path, tmp_path / "half.pt", torch.bfloat16)
    kept = torch.load(tmp_path / "half.pt", weights_only=True)
    assert "last_optimizer_state" not in kept and set(kept["model"]) == set(state)
    assert all(value.dtype == torch.bfloat16 for value in kept["model"].values())
    (model,), _, _ = load_model_ensemble_and_task([str(tmp_path / "half.pt")], arg_overrides={"data": None})
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name].bfloat16().float())


@pytest.mark.parametrize(
    ("config", "sentence"),
    [([1], "a JSON object is expected"), ({"n_head": "x"}, "gives 'x' heads"), ({"n_head": -3}, "gives -3 heads")],
)
def test_a_folder_whose_configuration_is_wrong_is_told_in_one_sentence(tmp_path, config, sentence):
    from musicbert_plugin.hub import MuseCocoHub
    from musicbert_plugin.hub.checkpoints import write_safetensors

    write_safetensors(tmp_path / "model.safetensors", weights(1253))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=sentence):
        MuseCocoHub.from_pretrained(tmp_path)


@pytest.fixture
def fork_folder(tmp_path):
    """A folder as the fine-tuning fork writes it: other names in its configuration, and no position mode."""
    from musicbert_plugin.hub.checkpoints import write_safetensors

    folder, state = tmp_path / "fork", weights(1253)
    folder.mkdir()
    named = {name.replace("decoder.output_projection", "lm_head"): value for name, value in state.items()}
    named.pop("decoder.version")
    write_safetensors(folder / "model.safetensors", named)
    config = {"model_type": "musecoco", "n_embd": 32, "ffn_dim": 32, "n_layer": 2, "n_head": HEADS, "vocab_size": 1253}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, state


def test_a_folder_of_the_fork_has_positions_everywhere_unless_another_mode_is_asked_for(fork_folder, caplog):
    from musicbert_plugin.compat.model_folder import CHOICES
    from musicbert_plugin.data.prefix_lm_dataset import LOSS_ON
    from musicbert_plugin.generation.prompts import PREFIXES
    from musicbert_plugin.hub import MuseCocoHub
    from tests.reference.linear_transformer_lm import expected_logits

    folder, state = fork_folder
    tokens = row(1253)
    for mode, begin in ((None, 0), *BEGINS.items()):
        model = MuseCocoHub.from_pretrained(folder, position_mode=mode).model
        assert (model(tokens[None])[0][0] - expected_logits(state, tokens, begin, HEADS)).abs().max() < 5e-5
        said = [message for message in caplog.messages if "does not name its position mode" in message]
        assert len(said) == (mode is None), "who has given a mode knows it"
        caplog.clear()
    hub = MuseCocoHub.from_pretrained(folder, layout="notes", prefix="conditions")
    assert (hub.layout, hub.prefix) == ("notes", "conditions")
    with pytest.raises(OptionError, match="layout is 'staves', but one of bar-tempo, "):
        MuseCocoHub.from_pretrained(folder, layout="staves")
    assert CHOICES["prefix"] == PREFIXES and CHOICES["loss_on"] == LOSS_ON
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"position_mode": "zero-prefix"}))
    assert MuseCocoHub.from_pretrained(folder).position_mode == "zero-prefix"
    (folder / "config.json").write_text(json.dumps(config | {"position_mode": "nowhere"}))
    with pytest.raises(CheckpointError, match="gives the position_mode 'nowhere'; one of zero-prefix, "):
        MuseCocoHub.from_pretrained(folder)


def test_a_written_folder_is_what_the_fork_and_transformers_read(small, tmp_path):
    """transformers asks for the metadata, the fork for ``ffn_dim``."""
    small.save_hugging_face(tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert (config["ffn_dim"], config["n_embd"], config["n_layer"], config["n_head"]) == (32, 32, 2, HEADS)
    assert config["vocab_size"] == 1253 and config["position_mode"] == "zero-prefix"
    raw = (tmp_path / "folder" / "model.safetensors").read_bytes()
    assert json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"] == {"format": "pt"}


def test_a_folder_stands_for_a_checkpoint_in_every_command(fork_folder, fairseq_command, tmp_path, capsys, caplog):
    from fairseq.checkpoint_utils import load_model_ensemble_and_task

    from musicbert_plugin.hub import MuseCocoHub
    from musicbert_plugin.hub import __main__ as hub

    folder, state = fork_folder
    data = tmp_path / "data"
    data.mkdir()
    (data / "dict.txt").write_text(remi.dictionary_text())
    line = remi.from_words("o-0 i-0 p-60 d-12 b-1").tolist()
    for split in ("train", "valid"):
        write_items(data / split, [[*line, remi.EOS]] * 2)
        write_items(data / f"{split}_input", [[*line[:2], remi.EOS]] * 2)

    (model,), _, task = load_model_ensemble_and_task([str(folder)], {"data": str(data)})
    assert model.decoder.position_mode == task.position_mode == "all"
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())

    losses = set()
    common = ["--task", "attribute_to_music", "--criterion", "cross_entropy", "--batch-size", 2, "--log-format", "json"]
    hub.main(["strip", str(folder), str(tmp_path / "small.pt")])
    for path in (folder, tmp_path / "small.pt"):
        run = fairseq_command("validate", data, "--path", path, *common)
        losses |= {line["valid_loss"] for line in run.statistics if "valid_loss" in line}
    assert len(losses) == 1
    score = ["eval-lm", data, *common[:2], "--path", folder, "--gen-subset", "valid", "--batch-size", 2]
    caplog.clear()
    fairseq_command(*score, "--position-mode", "zero-prefix")
    assert "does not name its position mode" not in caplog.text
    run = fairseq_command(*score)
    assert "does not name its position mode" in caplog.text
    caplog.clear()
    assert any(message.startswith("Loss (base 2):") for message in run.messages)

    training = [*common, "--arch", "linear_transformer_lm_debug", "--decoder-attention-heads", HEADS, "--lr", 0]
    training += ["--optimizer", "adam", "--max-update", 1, "--no-epoch-checkpoints", "--disable-validation"]
    for number, option in enumerate(("--finetune-from-model", "--restore-file")):
        reset = ["--reset-optimizer", "--reset-dataloader", "--reset-meters"] * number
        saved = tmp_path / option
        fairseq_command("train", data, *training, option, folder, *reset, "--save-dir", saved)
        trained = MuseCocoHub.from_pretrained(saved / "checkpoint_last.pt").model.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in trained.items())
    assert "does not name its position mode" not in caplog.text, "a training has its own"

    again = tmp_path / "again"
    hub.main(["hugging-face", str(folder), str(again)])
    assert MuseCocoHub.from_pretrained(again).position_mode == "all"
    (tmp_path / "requests.txt").write_text("piano\n")
    search = ["--sampling", "--sampling-topk", 15, "--beam", 1, "--max-len-b", 30, "--batch-size", 1]
    generate = ["interactive", again, *common[:2], "--path", again, "--input", tmp_path / "requests.txt", *search]
    capsys.readouterr()
    fairseq_command(*generate)
    assert "H-0" in capsys.readouterr().out, "the folder is the checkpoint, and has the dictionary"


def test_a_folder_without_a_model_is_told_in_one_sentence(tmp_path, fairseq_command, capfd):
    from musicbert_plugin.hub import MuseCocoHub, MusicBERTHub

    for hub in (MuseCocoHub, MusicBERTHub):
        with pytest.raises(CheckpointError, match="is a folder with neither model.safetensors nor pytorch_model.bin"):
            hub.from_pretrained(tmp_path)
    with pytest.raises(SystemExit) as stop:
        fairseq_command("eval-lm", tmp_path, "--task", "attribute_to_music", "--path", tmp_path, "--batch-size", 1)
    assert stop.value.code == 2 and "is a folder with neither" in capfd.readouterr().err


def test_safetensors_are_written_as_the_format_has_it(tmp_path):
    from musicbert_plugin.compat.model_folder import read_safetensors
    from musicbert_plugin.hub.checkpoints import write_safetensors

    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2], dtype=torch.int64), "c": torch.ones(0)}
    tensors["d"] = torch.randn(3).bfloat16()
    write_safetensors(tmp_path / "x.safetensors", tensors)
    (tmp_path / "other").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode, "safetensors makes 0600"
    raw = (tmp_path / "x.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert header["__metadata__"] == {"format": "pt"} and header["a"]["dtype"] == "F32"
    begin = 8 + length + header["a"]["data_offsets"][0]
    assert np.array_equal(np.frombuffer(raw, np.float32, 6, begin), np.arange(6))
    back = read_safetensors(tmp_path / "x.safetensors")
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in tensors.items())
    (tmp_path / "x.safetensors").write_bytes(raw[:-4])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_safetensors(tmp_path / "x.safetensors")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    import musicbert_plugin

    musicbert_plugin.register()
    from musicbert_plugin.hub import MuseCocoHub

    return MuseCocoHub.from_pretrained(published_file(folder / "published.pt", weights(1253)))


def music(score):
    return remi.to_words(remi.encode(score, plain=True))


def test_a_request_becomes_a_score_that_depends_on_seed_and_place_alone(small):
    requests = ["piano", "drum bass tempo=fast", "violin cello"]
    scores = small.generate(requests, seed=3, max_length=60)
    again = small.generate(requests, seed=3, max_length=60, batch_size=1)
    other = small.generate(requests, seed=4, max_length=60)
    for one, same, another in zip(scores, again, other, strict=True):
        assert len(one.onset) and music(one) == music(same) != music(another)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None])
def test_a_model_of_any_precision_generates(tmp_path, dtype):
    from musicbert_plugin.hub import MuseCocoHub
    from musicbert_plugin.hub.checkpoints import strip_checkpoint

    strip_checkpoint(published_file(tmp_path / "published.pt", weights(1253)), tmp_path / "half.pt", torch.bfloat16)
    hub = MuseCocoHub.from_pretrained(tmp_path / "half.pt", dtype=dtype)
    assert hub.model.decoder.embed_tokens.weight.dtype == (dtype or torch.bfloat16)
    (score,) = hub.generate(["piano"], max_length=60)
    assert len(score.onset)


def test_the_hub_gives_the_best_of_four_by_default_and_the_same_for_a_seed(small):
    from musicbert_plugin.generation.generator import agreement

    requests = ["piano no-drum key=minor", "violin meter=3/4 bars=4"]
    options = {"max_length": 60, "seed": 3}
    best = small.generate(requests, **options)
    for num_candidates, batch_size in ((None, 16), (4, 16), (4, 3)):
        again = small.generate(requests, num_candidates=num_candidates, batch_size=batch_size, **options)
        assert [music(score) for score in again] == [music(score) for score in best]
    first = small.generate(requests, num_candidates=1, **options)
    for request, chosen, one in zip(requests, best, first, strict=True):
        classes = parse_request(request)
        assert agreement(classes, chosen) >= agreement(classes, one)
    with pytest.raises(OptionError, match="number of candidates 0: 1 or more"):
        small.generate(requests, num_candidates=0)


def test_limits_and_prompt_hold_for_a_call_and_not_for_the_next(small):
    (prompt,) = small.generate(["piano"], max_length=40)
    (score,) = small.generate(["piano drum"], prompt=prompt, exact_bars=6, only_instruments=True, max_length=90)
    assert len(score.onset) >= len(prompt.onset)
    (free,) = small.generate(["piano"], max_length=40)
    assert music(free) == music(prompt)
    assert set(score.program[np.isin(score.program, prompt.program, invert=True)]) <= {*range(6), 114, 116, 118, DRUMS}


@pytest.mark.parametrize("meter", [(3, 4), (6, 4)])
def test_a_prompt_keeps_its_bars_where_no_word_tells_the_meter(small, monkeypatch, meter):
    """In the layout of notes, bars are as long as those of the prompt, shorter or longer than 4/4."""
    bar = 480 * 4 * meter[0] // meter[1]
    notes = [(place, place + 480, 60 + step) for step, place in enumerate(range(0, 2 * bar, 480))]
    prompt = Score.of(480, *zip(*notes, strict=True), meters=[(0, *meter)])
    monkeypatch.setattr(small.model.args, "layout", "notes")
    monkeypatch.setattr(small, "_generator", None)
    (score,) = small.generate(["piano"], prompt=prompt, max_length=40)
    assert score.onset[: len(notes)].tolist() == [onset for onset, *_ in notes]


def test_fine_tuning_on_own_pairs_begins_with_the_rows_of_the_published_file(fairseq_command, tmp_path):
    """Three updates as in scripts/finetune_pairs.sh, all augmentations on: only rows of words that came have moved."""
    from musicbert_plugin.data.pair_augmentation import AUGMENTATIONS
    from musicbert_plugin.hub import MuseCocoHub
    from preprocess.remi import main

    own, data = tmp_path / "own", tmp_path / "data"
    own.mkdir()
    (own / "dict.txt").write_text(remi.dictionary_text())
    for split in ("train", "valid", "test"):
        (own / f"{split}_input.txt").write_text("PITCH o-0 p-164 p-72 p-60 INS i-0 i-73 i-128 HIST o-6 i-0 p-50\n" * 24)
        (own / f"{split}.txt").write_text("o-0 i-0 p-60 d-12 i-73 p-72 d-12 i-128 p-164 d-12 b-1\n" * 24)
    assert main(["pairs", str(own), "--dest", str(data)]) == 0
    state = weights(1253)
    fairseq_command(
        *("train", data, "--task", "attribute_to_music", "--position-mode", "all", "--loss-on", "all"),
        *("--arch", "linear_transformer_lm_debug", "--decoder-attention-heads", HEADS, "--criterion", "cross_entropy"),
        *("--finetune-from-model", published_file(tmp_path / "published.pt", state), "--optimizer", "adam"),
        *("--weight-decay", 0.01, "--lr", 1e-3, "--batch-size", 8, "--max-update", 3, "--save-dir", tmp_path / "saved"),
        *(f"--augment-{name.replace('_', '-')}" for name in AUGMENTATIONS),
    )
    (tmp_path / "saved" / "dict.txt").write_bytes((data / "dict.txt").read_bytes())
    hub = MuseCocoHub.from_pretrained(tmp_path / "saved" / "checkpoint_last.pt")
    assert (hub.model.args.layout, hub.model.args.position_mode, hub.model.args.prefix) == (
        "notes",
        "all",
        "conditions",
    )
    moved = (hub.model.decoder.embed_tokens.weight - state["decoder.embed_tokens.weight"]).abs().amax(1) > 1e-4
    moved = {hub.words[row] for row in moved.nonzero().ravel().tolist()}
    assert {"PITCH", "INS", "HIST", "X-1", "X-2", "<sep>", "i-73"} <= moved
    assert not moved & {"X-0", "i-40", "d-13", "K1_0"}
    melodic = {f"p-{pitch}" for pitch in range(73)}
    assert moved - melodic <= set("</s> <sep> PITCH INS HIST X-1 X-2 b-1 o-0 o-6 i-0 i-73 i-128 p-164 d-12".split())
    (score,) = hub.generate(["PITCH o-0 p-60 INS i-0 HIST"], max_length=40)
    assert len(score.onset)


def test_a_prompt_of_words_and_new_bars_are_in_the_meter_that_is_asked_for(small, monkeypatch, tmp_path):
    monkeypatch.setattr(small.model.args, "layout", "notes")
    monkeypatch.setattr(small, "_generator", None)
    (tmp_path / "prompt.txt").write_text("o-0 i-0 p-60 d-12 o-60 i-0 p-64 d-12 b-1 o-66 i-0 p-67 d-6 b-1\n")
    (score,) = small.generate(["piano"], prompt=tmp_path / "prompt.txt", meter="12/8", max_length=40)
    assert score.onset[:3].tolist() == [0, 2400, 2880 + 2640]
    assert (score.meter_numerator[0], score.meter_denominator[0]) == (12, 8)
    (score,) = small.generate(["piano"], meter="3/4", max_length=40)
    assert (score.meter_numerator[0], score.meter_denominator[0]) == (3, 4)
    with pytest.raises(OptionError, match="'waltz': N/D is accepted"):
        small.generate(["piano"], meter="waltz")


def test_what_the_hub_cannot_do_is_told_in_one_sentence(small, tmp_path):
    from musicbert_plugin.hub import MuseCocoHub

    with pytest.raises(OptionError, match="requests is a string"):
        small.generate("piano")
    with pytest.raises(OptionError, match="is not an attribute"):
        small.generate(["xylophone"])
    with pytest.raises(CheckpointError, match="is not a file"):
        MuseCocoHub.from_pretrained(tmp_path / "none.pt")
    path = published_file(tmp_path / "large.pt", weights(3245))
    with pytest.raises(CheckpointError, match="has 3245 words and the published dictionary 1253"):
        MuseCocoHub.from_pretrained(path)
    write_dictionary(tmp_path / "dict.txt", 3245)
    hub = MuseCocoHub.from_pretrained(path)
    with pytest.raises(OptionError, match="none of the 268 words"):
        hub.generate(["piano"])
