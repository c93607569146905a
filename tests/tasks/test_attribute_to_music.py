"""The task in fairseq's hands: the loss is the music's, in training, validation and fairseq-eval-lm alike."""

import gc
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from musicbert_plugin.codecs import attributes, remi
from musicbert_plugin.codecs.score import read_midi
from musicbert_plugin.errors import DatasetError, OptionError

BARS = attributes.SLOT_OF["B1s1"]
TASK = ["--task", "attribute_to_music"]
LOSS = [*TASK, "--criterion", "cross_entropy", "--log-format", "json"]
RECIPE = [*LOSS, "--arch", "linear_transformer_lm_debug", "--optimizer", "adam", "--lr", "1e-2", "--max-epoch", "2"]


def write_items(stem, items):
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    builder = MMapIndexedDatasetBuilder(f"{stem}.bin", dtype=np.uint16)
    for item in items:
        builder.add_item(torch.as_tensor(item))
    builder.finalize(f"{stem}.idx")


@pytest.fixture
def attribute_folder(registered, tmp_path):
    """``attribute_folder(valid=[30, 20])``: random words with random attributes, samples of these lengths."""

    def make(name="data", pairs=False, config={}, seed=1, **splits):  # noqa: B006
        rng = np.random.default_rng(seed)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "dict.txt").write_text(remi.dictionary_text())
        entries = {"format": 1, "kind": "remi", "layout": "bar-tempo", "dictionary_sha256": remi.DICTIONARY_SHA256}
        if config is not None:
            (folder / "config.json").write_text(json.dumps(entries | config))
        for split, lengths in splits.items():
            write_items(folder / split, [np.append(rng.integers(4, 900, length), remi.EOS) for length in lengths])
            if pairs:
                conditions = [np.append(rng.integers(4, 900, 3 + length % 7), remi.EOS) for length in lengths]
                write_items(folder / f"{split}_input", conditions)
            else:
                classes = rng.integers(0, attributes.SLOT_CLASSES, (len(lengths), attributes.SLOTS))
                np.save(folder / f"{split}.attributes.npy", classes.astype(np.uint8))
        return folder

    return make


def task_for(folder, **options):
    from fairseq import tasks

    from musicbert_plugin.tasks.attribute_to_music import AttributeToMusicTaskConfig

    cfg = AttributeToMusicTaskConfig(data=str(folder))
    cfg.seed = 1
    for name, value in options.items():
        setattr(cfg, name, value)
    return tasks.TASK_REGISTRY["attribute_to_music"].setup_task(cfg)


def batch_of(task, split="valid"):
    task.load_dataset(split)
    dataset = task.dataset(split)
    return dataset.collater([dataset[index] for index in range(len(dataset))])


@pytest.mark.parametrize(("mode", "begin"), [("zero-prefix", 64), ("zero-prefix-shifted", 63), ("all", 0)])
def test_a_row_is_end_attributes_separator_music(attribute_folder, mode, begin):
    task = task_for(attribute_folder(valid=[12, 5]), position_mode=mode, attribute_mask="none")
    batch = batch_of(task)
    tokens, target = batch["net_input"]["src_tokens"], batch["target"]
    classes = np.load(Path(task.cfg.data) / "valid.attributes.npy")
    music = task.dataset("valid").samples.music
    for row, length in ((0, 12), (1, 5)):
        assert tokens[row, 0] == remi.EOS and tokens[row, 64] == remi.SEPARATOR
        assert np.array_equal(tokens[row, 1:64], attributes.command_ids(classes[row]))
        assert np.array_equal(tokens[row, 65 : 65 + length], music.read(row)[:-1])
        assert (tokens[row, 65 + length :] == remi.PAD).all()
        assert (target[row, :64] == remi.PAD).all(), "no loss on attributes"
        assert np.array_equal(target[row, 64 : 65 + length], music.read(row)), "<sep> predicts the first word"
    assert batch["net_input"]["sep_pos"].tolist() == [begin, begin]
    assert batch["net_input"]["src_lengths"].tolist() == [77, 70]
    assert batch["start_indices"] == [64, 64] and batch["ntokens"] == 13 + 6


def test_loss_on_all_includes_the_prefix(attribute_folder):
    batch = batch_of(task_for(attribute_folder(valid=[12, 5]), loss_on="all"))
    for row, length in ((0, 77), (1, 70)):
        tokens = batch["net_input"]["src_tokens"][row, :length]
        assert torch.equal(batch["target"][row, : length - 1], tokens[1:])
        assert batch["target"][row, length - 1] == remi.EOS
    assert batch["ntokens"] == 77 + 70 and batch["start_indices"] == [0, 0]


@pytest.mark.parametrize("loss_on", ["target", "all"])
def test_the_end_is_learnt_of_pieces_and_where_the_bars_are_visible(attribute_folder, loss_on):
    folder = attribute_folder(train=[5 + n % 7 for n in range(40)])
    marks = np.arange(40) % 4 == 0
    np.save(folder / "train.ends.npy", marks)
    seen = set()
    for ends in ("marked", "all"):
        task = task_for(folder, loss_on=loss_on, ends=ends)
        task.load_dataset("train")
        dataset, music = task.dataset("train"), task.dataset("train").samples.music
        for epoch in (1, 2, 3):
            dataset.set_epoch(epoch)
            batch = dataset.collater([dataset[index] for index in range(40)])
            targets = 0
            for index in range(40):
                condition = batch["net_input"]["src_tokens"][index, 1:64].tolist()
                visible = condition[BARS] != attributes.command_ids(attributes.NA)[BARS]
                learnt = bool(ends == "all" or marks[index] or visible)
                words = music.read(index).tolist()
                row = [remi.EOS, *condition, remi.SEPARATOR, *(words if learnt else words[:-1])]
                length = int(batch["net_input"]["src_lengths"][index])
                assert batch["net_input"]["src_tokens"][index, :length].tolist() == row[:-1]
                expected = [remi.PAD] * 64 + row[65:] if loss_on == "target" else row[1:]
                assert batch["target"][index, :length].tolist() == expected
                assert (batch["target"][index, length:] == remi.PAD).all()
                targets += sum(token != remi.PAD for token in expected)
                assert length <= dataset.sizes[index]
                seen.add((ends, bool(marks[index]), bool(visible), expected[-1] == remi.EOS))
            assert batch["ntokens"] == targets
    assert len(seen) == 8 and ("marked", False, False, False) in seen, "all cases occur"


def test_folders_without_marks_teach_every_end_and_damaged_marks_are_named(attribute_folder):
    folder = attribute_folder(valid=[12, 5])
    before = batch_of(task_for(folder))
    np.save(folder / "valid.ends.npy", np.zeros(2, bool))
    marked = batch_of(task_for(folder, ends="all"))
    assert torch.equal(before["target"], marked["target"]) and before["ntokens"] == 13 + 6
    for damage in (np.zeros(3, bool), np.zeros(2, np.uint8)):
        np.save(folder / "valid.ends.npy", damage)
        with pytest.raises(DatasetError, match=r"valid.ends.npy holds .*, but bool \[2\] is expected"):
            task_for(folder).load_dataset("valid")
    (folder / "valid.ends.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match="valid.ends.npy cannot be read"):
        task_for(folder).load_dataset("valid")


def test_conditions_of_ones_own_stand_before_the_separator(attribute_folder):
    folder = attribute_folder(pairs=True, config={"kind": "remi_pairs", "layout": "notes"}, valid=[12, 5])
    task = task_for(folder)
    batch = batch_of(task)
    samples = task.dataset("valid").samples
    for row in range(2):
        condition, music = samples.sample(row, 0)
        expected = [remi.EOS, *condition, remi.SEPARATOR, *music[:-1]]
        assert batch["net_input"]["src_tokens"][row, : len(expected)].tolist() == expected
        assert batch["start_indices"][row] == len(condition) + 1 == batch["net_input"]["sep_pos"][row]
    assert remi.EOS not in condition and batch["ntokens"] == 13 + 6


def test_masks_are_drawn_anew_in_every_epoch_of_training_and_never_in_validation(attribute_folder):
    task = task_for(attribute_folder(train=[9] * 5, valid=[9] * 5))
    for split, anew in (("train", True), ("valid", False)):
        task.load_dataset(split)
        dataset = task.dataset(split)
        epochs = []
        for epoch in (1, 2, 1):
            dataset.set_epoch(epoch)
            epochs.append(torch.stack([dataset[index]["source"] for index in range(5)]))
        assert torch.equal(epochs[0], epochs[2])
        assert torch.equal(epochs[0], epochs[1]) != anew


def reference_loss(checkpoint, folder, loss_on):
    """Bits per target token of the valid split: float64 logits, one row at a time, by the published formulas."""
    from tests.reference.linear_transformer_lm import expected_logits

    state = torch.load(checkpoint, weights_only=True)
    task = task_for(folder, loss_on=loss_on)
    task.load_dataset("valid")
    bits, count = 0.0, 0
    for index in range(len(task.dataset("valid"))):
        item = task.dataset("valid")[index]
        logs = expected_logits(state["model"], item["source"], item["sep_pos"], heads=8).log_softmax(1)
        for place, target in enumerate(item["target"].tolist()):
            if target != remi.PAD:
                bits -= float(logs[place, target]) / math.log(2)
                count += 1
    return bits / count


@pytest.mark.parametrize("loss_on", ["target", "all"])
def test_validate_and_eval_lm_agree_with_a_float64_sum_over_target_tokens(
    attribute_folder, fairseq_command, tmp_path, loss_on, monkeypatch
):
    from fairseq.logging import metrics

    folder = attribute_folder(train=[9, 20, 31, 14] * 2, valid=[3, 40, 18, 7, 26, 11, 30, 22, 5])
    saved = tmp_path / "saved"
    fairseq_command("train", folder, *RECIPE, "--loss-on", loss_on, "--batch-size", 4, "--save-dir", saved)
    checkpoint = saved / "checkpoint_best.pt"
    expected = reference_loss(checkpoint, folder, loss_on)
    # fairseq rounds what it prints to three places.
    log_scalar = metrics.log_scalar
    monkeypatch.setattr(metrics, "log_scalar", lambda *args, **options: log_scalar(*args, **options | {"round": 7}))
    over = {"target": "over the music alone (--loss-on target)", "all": "over prefix and music (--loss-on all)"}
    for rows, given in ((1, []), (8, ["--loss-on", loss_on])):  # eval-lm takes it from the checkpoint
        common = ["--path", checkpoint, "--batch-size", rows]
        run = fairseq_command("validate", folder, *LOSS, *common, "--valid-subset", "valid")
        (validated,) = [line["valid_loss"] for line in run.statistics if "valid_loss" in line]
        assert float(validated) == pytest.approx(expected, abs=1e-4)
        assert any(over[loss_on] in message for message in run.messages)
        run = fairseq_command("eval-lm", folder, *TASK, *given, *common, "--gen-subset", "valid")
        assert any(over[loss_on] in message for message in run.messages)
        (line,) = [message for message in run.messages if message.startswith("Loss (base 2):")]
        assert float(line.split(":")[1].split(",")[0]) == pytest.approx(expected, abs=1e-4)


def test_the_checkpoint_keeps_layout_and_position_mode(attribute_folder, fairseq_command, tmp_path):
    from fairseq.checkpoint_utils import load_model_ensemble_and_task

    folder = attribute_folder(config={"layout": "position-tempo"}, train=[9, 20], valid=[3])
    saved = tmp_path / "saved"
    recipe = [*RECIPE, "--position-mode", "all", "--batch-size", 2, "--save-dir", saved, "--max-epoch", 1]
    fairseq_command("train", folder, *recipe)
    path = str(saved / "checkpoint_best.pt")
    (model,), _, task = load_model_ensemble_and_task([path])
    assert (model.args.layout, model.decoder.position_mode) == ("position-tempo", "all")
    assert (task.layout, task.position_mode) == ("position-tempo", "all")
    other = task_for(None)
    (model,), _, _ = load_model_ensemble_and_task([path], task=other)
    assert (other.layout, other.position_mode) == ("position-tempo", "all")
    asked = task_for(None, position_mode="zero-prefix")
    (model,), _, _ = load_model_ensemble_and_task([path], task=asked)
    assert model.decoder.position_mode == "zero-prefix"


def test_the_checkpoint_keeps_which_attributes_its_training_had(attribute_folder, fairseq_command, tmp_path, capsys):
    """And a request for another value is warned of, of a file stripped or in the form of Hugging Face too."""
    from musicbert_plugin.hub import MuseCocoHub
    from musicbert_plugin.hub import __main__ as hub

    folder = attribute_folder(train=[9, 20], valid=[3])
    classes = np.stack([attributes.parse_request(line) for line in ("piano key=minor no-drum", "piano genre=Jazz")])
    np.save(folder / "train.attributes.npy", classes)
    saved = tmp_path / "saved"
    fairseq_command("train", folder, *RECIPE, "--batch-size", 2, "--save-dir", saved, "--max-epoch", 1)
    seen = "I1s2_0_0 I1s2_27_1 K1_1 S4_10_0"
    hub.main(["strip", str(saved / "checkpoint_best.pt"), str(tmp_path / "small.pt")])
    hub.main(["hugging-face", str(saved / "checkpoint_best.pt"), str(tmp_path / "folder")])
    for path in (saved / "checkpoint_best.pt", tmp_path / "small.pt", tmp_path / "folder"):
        assert MuseCocoHub.from_pretrained(path).model.args.seen_attributes == seen
    (tmp_path / "requests").write_text(
        "piano key=minor no-drum\npiano artist=chopin\nartist=chopin key=major no-harp\n"
    )
    options = ["--input", tmp_path / "requests", "--buffer-size", 3, "--batch-size", 3]
    run = fairseq_command("interactive", *TASK, "--path", tmp_path / "small.pt", *SAMPLING, *options)
    end = ": the data of the last training never had this value, so it may have no effect"
    warned = [message for message in run.messages if message.endswith(end)]
    assert warned == [f"line 2 (H-1), artist=chopin{end}", f"line 3 (H-2), key=major{end}"], "errors say line, too"


def test_options_free_the_limits_of_requests_or_steady_the_tempo(trained, fairseq_command, tmp_path, capsys):
    _, checkpoint = trained
    (tmp_path / "requests").write_text("bars=8 tempo=slow meter=3/4\nkey=minor\n")
    options = ["--input", tmp_path / "requests", "--buffer-size", 2, "--batch-size", 2]

    def counts(*more):
        capsys.readouterr()
        options_of_search = [*SAMPLING[:-4], "--max-len-b", 120, "--batch-size", 16]
        fairseq_command("interactive", *TASK, "--path", checkpoint, *options_of_search, *options, *more)
        answers = hypotheses(capsys.readouterr().out)
        words = [answers[line].split() for line in (0, 1)]
        return [
            (
                line.count("b-1"),
                len({word for word in line if word[0] == "t"}),
                {word for word in line if word[0] == "s"},
            )
            for line in words
        ]

    (bars, tempi, meters), (_, free, _) = counts()
    assert 5 <= bars <= 8 and tempi == 1 and meters == {"s-8"} and free > 1
    (_, tempi, meters), _ = counts("--no-limits")
    assert tempi > 1 and meters != {"s-8"}
    assert [row[1] for row in counts("--no-limits", "--steady-tempo")] == [1, 1]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "valid.attributes.npy").unlink(), "attributes of each sample"),
        (lambda f: np.save(f / "valid.attributes.npy", np.zeros((3, 63), np.uint8)), "has 2 samples"),
        (lambda f: (f / "valid.idx").unlink(), "is missing"),
    ],
)
def test_a_damaged_folder_is_told_in_one_sentence(attribute_folder, damage, sentence):
    folder = attribute_folder(valid=[12, 5])
    damage(folder)
    with pytest.raises(DatasetError, match=sentence):
        task_for(folder).load_dataset("valid")


def test_pairs_of_unequal_number_are_told_in_one_sentence(attribute_folder):
    folder = attribute_folder(pairs=True, config=None, valid=[12, 5])
    write_items(folder / "valid_input", [[5, 2]])
    with pytest.raises(DatasetError, match="has 1 lines and valid has 2"):
        task_for(folder).load_dataset("valid")


def test_music_of_another_layout_than_the_models_is_refused(attribute_folder):
    with pytest.raises(OptionError, match="layout notes, but the model's is bar-tempo"):
        task_for(attribute_folder(config={"layout": "notes"}, valid=[4]), layout="bar-tempo").load_dataset("valid")


def hypotheses(text, letter="H"):
    """From output of fairseq's commands: the words behind each ``H-n`` (or another letter)."""
    lines = [line.split("\t") for line in text.splitlines() if line.startswith(f"{letter}-")]
    return {int(fields[0][2:]): fields[-1] for fields in lines}


@pytest.fixture
def trained(attribute_folder, fairseq_command, tmp_path):
    """A checkpoint of two epochs, with its folder."""
    folder = attribute_folder(train=[9, 20, 31, 14], valid=[5], test=[8, 12, 30])
    fairseq_command("train", folder, *RECIPE, "--batch-size", 4, "--save-dir", tmp_path / "saved")
    return folder, tmp_path / "saved" / "checkpoint_best.pt"


SAMPLING = ["--beam", 1, "--sampling", "--sampling-topk", 15, "--max-len-b", 40, "--batch-size", 16]


def test_interactive_writes_music_for_requests_whatever_shares_their_buffer(trained, fairseq_command, tmp_path, capsys):
    _, checkpoint = trained
    requests = ["piano violin no-drum key=minor bars=16 meter=3/4 genre=Classical", "K1_1 I1s2_0_0", "", "drum"]
    (tmp_path / "requests").write_text("\n".join(requests) + "\n")
    outputs = []
    for buffer in (16, 3):
        capsys.readouterr()
        sizes = ["--buffer-size", buffer, "--batch-size", min(buffer, 2), "--input", tmp_path / "requests"]
        fairseq_command("interactive", *TASK, "--path", checkpoint, *SAMPLING, *sizes)
        outputs.append(hypotheses(capsys.readouterr().out))
    assert outputs[0] == outputs[1] and sorted(outputs[0]) == [0, 1, 2, 3] and len(set(outputs[0].values())) == 4
    for words in outputs[0].values():
        score, repairs = remi.decode_with_repairs(remi.from_words(words), layout="bar-tempo")
        assert len(score.onset) and not +repairs


def test_the_meter_is_an_option_where_no_word_tells_it(attribute_folder, fairseq_command, tmp_path, capsys):
    folder = attribute_folder(config={"layout": "notes"}, train=[9, 20], valid=[5])
    fairseq_command("train", folder, *RECIPE, "--batch-size", 2, "--save-dir", tmp_path / "saved")
    (tmp_path / "prompt.txt").write_text("o-0 i-0 p-60 d-12 o-60 i-0 p-64 d-12 b-1\n")
    (tmp_path / "requests").write_text("piano\n")
    arguments = ["--path", tmp_path / "saved/checkpoint_best.pt", *SAMPLING, "--input", tmp_path / "requests"]
    arguments += ["--buffer-size", 16, "--prompt", tmp_path / "prompt.txt"]
    for meter, sentence in (("4/4", "o-60, cannot follow there"), ("waltz", "'waltz': N/D is accepted")):
        with pytest.raises(SystemExit) as ended:
            fairseq_command("interactive", *TASK, *arguments, "--meter", meter)
        assert ended.value.code == 2 and sentence in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        fairseq_command("interactive", *TASK, *arguments, "--seed", -1)
    assert ended.value.code == 2 and "--seed is -1" in capsys.readouterr().err
    outcome = fairseq_command("interactive", *TASK, *arguments, "--meter", "12/8")
    (words,) = hypotheses(capsys.readouterr().out).values()
    assert words.startswith("o-0 i-0 p-60 d-12 o-60 i-0 p-64 d-12 b-1")
    assert not remi.decode_with_repairs(remi.from_words(words), (12, 8), "notes")[1]
    assert "preprocess.remi decode --meter 12/8" in outcome.log


def test_a_request_is_answered_by_the_best_of_four_candidates_by_default(trained, fairseq_command, tmp_path, capsys):
    _, checkpoint = trained
    (tmp_path / "requests.txt").write_text("piano\nno-drum key=minor\nviolin meter=3/4\n")
    answers = {}
    for given in ("", "--num-candidates 4 --keep best", "--num-candidates 1", "--keep all", "--beam 2 --nbest 2"):
        options = ["--input", tmp_path / "requests.txt", "--buffer-size", 3, "--batch-size", 3, *given.split()]
        fairseq_command("interactive", *TASK, "--path", checkpoint, *SAMPLING, *options)
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line.startswith("H-")]
        answers[given] = [(line[0], line[-1]) for line in lines]
    numbers = {given: [number for number, _ in answer] for given, answer in answers.items()}
    assert numbers[""] == numbers["--num-candidates 1"] == ["H-0", "H-1", "H-2"]
    assert answers[""] == answers["--num-candidates 4 --keep best"]
    assert numbers["--keep all"] == ["H-0"] * 4 + ["H-1"] * 4 + ["H-2"] * 4
    assert answers["--keep all"][::4] == answers["--num-candidates 1"], "a candidate does not depend on their number"
    assert set(answers[""]) <= set(answers["--keep all"])
    assert numbers["--beam 2 --nbest 2"] == ["H-0"] * 2 + ["H-1"] * 2 + ["H-2"] * 2, "the best two of eight"


@pytest.mark.parametrize(("keep", "pieces"), [("all", 3), ("best", 1)])
def test_of_several_candidates_all_are_printed_or_the_best(trained, fairseq_command, tmp_path, capsys, keep, pieces):
    _, checkpoint = trained
    (tmp_path / "requests.txt").write_text("piano\nno-drum key=minor\n")
    options = ["--input", tmp_path / "requests.txt", "--buffer-size", 2, "--batch-size", 2]
    fairseq_command(
        "interactive", *TASK, "--path", checkpoint, *SAMPLING, *options, "--num-candidates", 3, "--keep", keep
    )
    printed = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("H-")]
    assert printed == ["H-0"] * pieces + ["H-1"] * pieces


@pytest.mark.parametrize(
    ("requests", "sentence"),
    [
        ("piano\nxylophone\n", "line 2: 'xylophone' is not an attribute; accepted:"),
        ("piano no-piano\n", "line 1: piano and no-piano contradict each other"),
    ],
)
def test_a_request_that_means_nothing_ends_with_a_sentence(
    trained, fairseq_command, tmp_path, capsys, requests, sentence
):
    (tmp_path / "requests").write_text(requests)
    with pytest.raises(SystemExit) as ended:
        arguments = ["--path", trained[1], *SAMPLING, "--buffer-size", 16, "--input", tmp_path / "requests"]
        fairseq_command("interactive", *TASK, *arguments)
    assert ended.value.code == 2 and sentence in capsys.readouterr().err


def music_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".mid"}


def test_a_stopped_run_goes_on_and_another_replaces_its_music(
    trained, fairseq_command, tmp_path, capsys, monkeypatch, caplog
):
    from musicbert_plugin.data import answer_folder

    _, checkpoint = trained
    requests, dest = tmp_path / "requests.txt", tmp_path / "music"
    requests.write_text("piano\nno-drum key=minor\nviolin meter=3/4\ndrum\n")
    arguments = [*TASK, "--path", checkpoint, *SAMPLING, "--batch-size", 1, "--num-candidates", 2, "--input", requests]

    def run(folder, *options, lines=4):
        capsys.readouterr()
        fairseq_command("interactive", *arguments, "--buffer-size", lines, "--dest", folder, *options)
        return hypotheses(capsys.readouterr().out)

    whole = run(tmp_path / "whole")
    assert "line 3 (2.mid), meter=3/4: the data of the last training" in caplog.text
    assert sorted(music_of(tmp_path / "whole")) == ["0.mid", "1.mid", "2.mid", "3.mid"]
    for line, words in whole.items():
        score = read_midi(tmp_path / "whole" / f"{line}.mid")
        notes = remi.decode(remi.from_words(words))
        assert set(zip(score.onset, score.pitch, strict=True)) == set(zip(notes.onset, notes.pitch, strict=True))
    write = answer_folder.atomic_path

    def stop_at_the_third(path):
        if Path(path).name == "2.mid":
            raise KeyboardInterrupt
        return write(path)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(answer_folder, "atomic_path", stop_at_the_third)
        run(dest)
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 130 and said[-1] == "Interrupted."
    assert f"{dest}: 1 of 4 requests are answered" in said and f"{dest}: 2 of 4 requests are answered" in said
    assert sorted(music_of(dest)) == ["0.mid", "1.mid"]
    with pytest.raises(SystemExit) as refused:
        run(dest)
    assert refused.value.code == 2 and "another run writes there" in capsys.readouterr().err, "its folder is still open"
    del ended, refused
    gc.collect()
    add, added = answer_folder.AnswerFolder.add, []
    monkeypatch.setattr(answer_folder.AnswerFolder, "add", lambda *answer: (added.append(answer[1]), add(*answer)))
    assert run(dest) == whole and music_of(dest) == music_of(tmp_path / "whole")
    assert run(dest) == whole and added == [2, 3], "what was answered is not generated again"
    requests.write_text("piano\ndrum key=minor\n")
    assert run(dest)[0] == whole[0] and sorted(music_of(dest)) == ["0.mid", "1.mid"]
    assert run(dest, "--seed", 5)[0] != whole[0]
    (dest / "1.mid").write_bytes(b"mine")
    for options, sentence in ((["--seed", 5], "1.mid was changed since"), (["--seed", 6], "1.mid was changed since")):
        with pytest.raises(SystemExit):
            run(dest, *options)
        assert sentence in capsys.readouterr().err and (dest / "1.mid").read_bytes() == b"mine"


def test_all_requests_are_read_before_the_first_is_answered(trained, fairseq_command, tmp_path, capsys):
    _, checkpoint = trained
    (tmp_path / "requests.txt").write_text("piano\n" * 3 + "banjoo\n")
    arguments = [*TASK, "--path", checkpoint, *SAMPLING, "--batch-size", 1, "--input", tmp_path / "requests.txt"]
    for lines, sentence in ((4, "line 4: 'banjoo'"), (2, "more than --buffer-size 2: raise it")):
        with pytest.raises(SystemExit):
            fairseq_command("interactive", *arguments, "--buffer-size", lines, "--dest", tmp_path / "music")
        assert sentence in capsys.readouterr().err
        assert (tmp_path / "music").exists() == (lines == 2)


def test_generate_reads_the_prefix_and_never_the_target(trained, fairseq_command, capsys):
    folder, checkpoint = trained
    outputs = []
    for again in range(2):
        if again:
            write_items(folder / "test", [[50, 60, 2], [70, 2], [80] * 20 + [2]])
        capsys.readouterr()
        fairseq_command("generate", folder, *TASK, "--path", checkpoint, *SAMPLING, "--gen-subset", "test")
        outputs.append(capsys.readouterr().out)
    assert hypotheses(outputs[0]) == hypotheses(outputs[1]) and len(hypotheses(outputs[0])) == 3
    assert hypotheses(outputs[0], "S") == hypotheses(outputs[1], "S")
    references = hypotheses(outputs[1], "T")
    assert references[0] == remi.to_words(np.array([50, 60])) and references[2] == " ".join(["o-74"] * 20)
    for words in hypotheses(outputs[0], "S").values():
        assert words.split()[-1] == "<sep>" and len(words.split()) == 64


def test_generate_writes_for_conditions_of_ones_own(attribute_folder, fairseq_command, tmp_path, capsys):
    folder = attribute_folder(
        pairs=True, config={"kind": "remi_pairs", "layout": "notes"}, train=[9, 20], valid=[4], test=[8, 12, 5]
    )
    saved = tmp_path / "saved"
    recipe = [*RECIPE, "--loss-on", "all", "--position-mode", "all", "--batch-size", 2, "--save-dir", saved]
    fairseq_command("train", folder, *recipe)
    capsys.readouterr()
    fairseq_command(
        "generate", folder, *TASK, "--path", saved / "checkpoint_best.pt", *SAMPLING, "--gen-subset", "test"
    )
    output = capsys.readouterr().out
    assert output.count("\nH-") == len(hypotheses(output)) == 3, "one for each: conditions say of none that it is best"
    for words in hypotheses(output).values():
        assert set(words.replace("-", " ").split()[::2]) <= set("boipd"), "layout notes, without being told"
    sources = hypotheses(output, "S")
    assert [len(sources[n].split()) for n in range(3)] == [3 + n % 7 + 1 for n in (8, 12, 5)]


def test_augmentations_change_pairs_in_training_only(attribute_folder):
    folder = attribute_folder(pairs=True, config={"kind": "remi_pairs", "layout": "notes"}, train=[4], valid=[4])
    text = (folder / "dict.txt").read_text()
    for at, word in enumerate(("PITCH", "INS", "HIST", "X-0", "X-1", "X-2")):
        text = text.replace(f"d-{96 + at} 1\n", f"{word} 1\n")
    (folder / "dict.txt").write_text(text)
    (folder / "config.json").unlink()
    number = {word: at for at, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *text.replace(" 1", "").split()])}
    condition = "PITCH o-0 p-60 p-55 p-52 INS i-0 i-40 HIST b-1".split()
    music = "o-0 i-0 p-55 d-6 p-52 d-6 i-40 p-60 d-6 b-1 </s>".split()
    for split in ("train", "valid"):
        write_items(folder / f"{split}_input", [[number[word] for word in condition]] * 40)
        write_items(folder / split, [[number[word] for word in music]] * 40)
    task = task_for(folder, augment_inst_slight=True, augment_content=True)
    for split, changes in (("train", True), ("valid", False)):
        task.load_dataset(split)
        dataset = task.dataset(split)
        epochs = []
        for epoch in (1, 2, 1):
            dataset.set_epoch(epoch)
            epochs.append([dataset[index]["source"].tolist() for index in range(40)])
        assert (len(set(map(tuple, epochs[0]))) > 1) == (epochs[0] != epochs[1]) == changes
        assert epochs[0] == epochs[2]


@pytest.mark.parametrize("persistent", [False, True])
def test_loader_processes_end_when_the_next_epoch_begins(attribute_folder, loader_processes, persistent):
    task = task_for(attribute_folder(train=[12, 5, 9, 30]), persistent_workers=persistent)
    assert loader_processes(task) == [2, 2, 2, 0]
