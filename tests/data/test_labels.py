"""Labels: what tasks.yaml may say, what cells mean, and that absent is not zero."""

import re

import numpy as np
import pytest

from musicbert_plugin.errors import DatasetError, OptionError

pytestmark = pytest.mark.usefixtures("registered")

YAML = """
tasks:
  genre: {type: single, classes: [jazz, rock, folk], weight: 2}
  mood: {type: multi, classes: [calm, dark], pos_weight: 3}
  affect: {type: regression, column: AV, names: [arousal, valence], loss: huber}
"""


@pytest.fixture
def tasks(tmp_path):
    from musicbert_plugin.data.labels import read_tasks

    def read(text=YAML):
        (tmp_path / "tasks.yaml").write_text(text)
        return {task.name: task for task in read_tasks(tmp_path / "tasks.yaml")}

    return read


def test_tasks_are_read_with_their_classes_losses_and_weights(tasks):
    found = tasks()
    assert found["genre"].classes == ("jazz", "rock", "folk") and found["genre"].weight == 2
    assert (found["genre"].loss, found["mood"].loss, found["affect"].loss) == ("cross_entropy", "bce", "huber")
    assert found["affect"].column == "AV" and found["affect"].label_count == 2
    assert found["genre"].label_count == 1 and found["genre"].size == 3


def test_cells_of_each_type(tasks):
    found = tasks()
    assert found["genre"].parse("rock")[0].tolist() == [1]
    assert found["mood"].parse("dark/calm")[0].tolist() == [1, 1]
    assert found["affect"].parse("0.25/-3")[0].tolist() == [0.25, -3]


@pytest.mark.parametrize("cell", ["", "  ", "nan", "NaN"])
def test_defect_24_an_empty_cell_is_unlabelled_and_never_zero(tasks, cell):
    for task in tasks().values():
        assert not task.parse(cell)[1].any()


def test_defect_24_annotated_without_tags_and_a_true_zero_are_labels(tasks):
    found = tasks()
    values, present = found["mood"].parse("/")
    assert present.all() and not values.any()
    values, present = found["affect"].parse("0/0")
    assert present.all() and not values.any()
    assert found["affect"].parse("0.5/")[1].tolist() == [True, False]


@pytest.mark.parametrize(
    "name, cell, words",
    [
        ("genre", "polka", "'polka' is none of the 3 accepted names"),
        ("genre", "jazz/polka", "'jazz/polka' is none"),
        ("genre", "jazz|rock", "'jazz|rock' looks like several names joined by '|'"),
        ("genre", "none", "'none' is none of the 3"),
        ("mood", "calm| dark", "looks like several names joined by '|', which 'separator: '|'' reads"),
        ("mood", "calm, dark", r"joined by ',', which 'separator: ','' reads"),
        ("affect", "0,5/1", "'0,5' is no number; decimals are written with a point"),
        ("affect", "none/0", "'none' is no number"),
        ("affect", "0.5; -1", "its numbers are joined by ';', which 'separator: ';'' reads"),
        ("affect", "0.5,1", "joined by ','"),
        ("affect", "high/0", "'high' is no number"),
        ("affect", "inf/0", "'inf' is no number"),
        ("affect", "1", "2 numbers joined by '/'"),
    ],
)
def test_a_bad_cell_is_told_and_then_unlabelled(tasks, caplog, name, cell, words):
    from musicbert_plugin.data.labels import read_cells

    task = tasks()[name]
    with pytest.raises(ValueError, match=re.escape(words)):
        task.parse(cell)
    _, present = read_cells(task, [cell, ""], "data/train", names=["one.wav", "two.wav"])
    assert not present.any()
    assert "data/train: one.wav" in caplog.text and words in caplog.text and "two.wav" not in caplog.text


def test_foreign_tags_are_ignored_and_counted_and_their_items_stay_labelled(tasks, caplog):
    from musicbert_plugin.data.labels import read_cells

    cells = ["calm/loud", "dark", "loud/odd", "", "/", "calm"]
    values, present = read_cells(tasks()["mood"], cells, "data/train")
    assert present.all(axis=1).tolist() == [True, True, True, False, True, True]
    assert values.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [1, 0]]
    [said] = caplog.messages
    assert (
        "2 of 6 items have tags in column 'mood' that are none of the task's 2" in said and "loud (2), odd (1)" in said
    )


def test_none_and_null_are_classes_and_only_empty_cells_and_nan_are_not(tasks):
    task = tasks("tasks:\n  g: {type: single}\n  m: {type: multi}\n")
    assert task["g"].learn(["none", "null", "nan", "", "a"]).classes == ("a", "none", "null")
    assert task["m"].learn(["none/a", "null", "nan/a"]).classes == ("a", "none", "null")


def test_names_are_the_same_in_both_normal_forms_and_with_space_at_their_ends(tasks):
    found = tasks("tasks:\n  g: {type: single, column: ' Stil\u0065\u0301 ', classes: ['Caf\u0065\u0301 ', b]}\n")["g"]
    assert found.classes == ("Café", "b") and found.column == "Stilé"
    assert found.parse(" Cafe\u0301")[0].tolist() == found.parse("Café")[0].tolist() == [0]
    learnt = tasks("tasks:\n  g: {type: multi}\n")["g"].learn(["Cafe\u0301/b", "Café", "b "])
    assert learnt.classes == ("Café", "b") or learnt.classes == ("b", "Café")


def test_tags_may_be_joined_by_another_separator(tasks):
    found = tasks("tasks:\n  m: {type: multi, separator: '|'}\n  r: {type: regression, separator: ;}\n")
    task = found["m"].learn(["Pop/Rock|calm", "|", "calm"])
    assert task.classes == ("Pop/Rock", "calm") and task.parse("calm | Pop/Rock")[0].tolist() == [1, 1]
    assert task.parse("|")[1].all() and not task.parse("|")[0].any()
    assert found["r"].learn(["1;2", "3;4"]).mean == (2.0, 3.0)


@pytest.mark.parametrize(
    ("kind", "cells", "words"),
    [
        (
            "multi",
            ["calm|dark", "calm", "happy|calm"],
            r"2 names .* joined by '\|', such as 'calm\|dark'.*separator: '\|'",
        ),
        ("multi", ["calm, dark", "dark, wild"], "2 names .* joined by ',', such as 'calm, dark'"),
        ("single", ["Pop/Rock", "Pop", "Rock"], "1 names .* joined by '/', such as 'Pop/Rock'.*type: multi"),
        ("single", ["Bach, J. S.", "Bach, C. P. E.", "Pop/Rock"], ""),
        ("multi", ["Crosby, Stills/rock", "rock"], ""),
    ],
)
def test_names_that_look_joined_are_told(tasks, caplog, kind, cells, words):
    tasks(f"tasks:\n  t: {{type: {kind}}}\n")["t"].learn(cells)
    assert len(caplog.messages) == bool(words) and re.search(words, caplog.text)


def test_a_class_that_no_training_item_has_is_told(tasks, caplog):
    tasks()["genre"].learn(["jazz", "rock", "jazz"])
    assert caplog.messages == ["task genre: no item of the training split has folk, so it cannot be learnt"]


def test_classes_and_scales_are_learnt_from_the_training_split(tasks):
    found = tasks("tasks:\n  g: {type: single}\n  m: {type: multi}\n  r: {type: regression}\n")
    assert found["g"].learn(["b", "", "a", "b"]).classes == ("a", "b")
    assert found["m"].learn(["y/x", "/", "z"]).classes == ("x", "y", "z")
    task = found["r"].learn(["1", "", "3", "nan"])
    assert task.mean == (2.0,) and task.deviation == (1.0,)
    np.testing.assert_allclose(task.restore_units(task.standardise(np.array([[5.0]]))), [[5.0]])
    with pytest.raises(DatasetError, match="no item of the training split"):
        found["g"].learn(["", "nan"])


def test_too_few_classes_are_refused_and_one_odd_cell_decides_no_width(tasks):
    found = tasks("tasks:\n  g: {type: single}\n  m: {type: multi}\n  r: {type: regression}\n")
    with pytest.raises(DatasetError, match="the class 'jazz' alone"):
        found["g"].learn(["jazz", "", "jazz"])
    with pytest.raises(DatasetError, match="no tag at all"):
        found["m"].learn(["/", "/"])
    given = tasks("tasks:\n  g: {type: single, classes: [a, b]}\n  one: {type: single, classes: [a]}\n")
    with pytest.raises(DatasetError, match=r"one of its classes \(a, b\) in column 'g'; its first label is 'jazz'"):
        given["g"].learn(["", "jazz"])
    with pytest.raises(DatasetError, match="two classes or more can be learnt, not 'a' alone"):
        given["one"].learn(["a", "a"])
    with pytest.raises(DatasetError, match="first label in column 'r' is '0,5', but '0,5' is no number; decimals"):
        found["r"].learn(["0,5", "0,25"])
    joined = tasks("tasks:\n  m: {type: multi, classes: [calm, dark]}\n")["m"]
    with pytest.raises(DatasetError, match=r"first label is 'calm\|dark', but .* joined by '\|', which 'separator"):
        joined.learn(["calm|dark", "dark|calm"])
    found = tasks("tasks:\n  m: {type: multi}\n  r: {type: regression}\n")
    assert found["m"].learn(["calm", "/"]).classes == ("calm",)
    assert found["r"].learn(["1/2", "3/4", "5/6/7"]).mean == (2.0, 3.0)


def test_a_task_survives_a_checkpoint(tasks):
    from musicbert_plugin.data.labels import LabelTask

    for task in tasks().values():
        learnt = task.learn(["1/2", "3/5"]) if task.type == "regression" else task
        assert LabelTask.of(learnt.settings()) == learnt


@pytest.mark.parametrize(
    "text, words",
    [
        ("tasks: [a]", "names no tasks"),
        ("{", "cannot be read as YAML"),
        ("tasks:\n  a: {type: maybe}", "type is 'maybe'"),
        ("tasks:\n  a: {type: single, loss: mse}", "loss is 'mse'"),
        ("tasks:\n  a: {type: single, clases: [x]}", "'clases' is unknown"),
        ("tasks:\n  a: {type: single, classes: [x, x]}", "different names"),
        ("tasks:\n  a: {type: single, weight: -1}", "weight is -1"),
        ("tasks:\n  a.b: {type: single}", "task a.b"),
        ("tasks:\n  items: {type: single}", "'items' is a name that PyTorch keeps"),
        (
            "tasks:\n  a: {type: single, classes: [yes, no]}",
            "classes yes, which YAML reads as True, is no string; put quotes",
        ),
        (
            "tasks:\n  a: {type: single, classes: [060, b]}",
            "060, which YAML reads as 48, is no string; put quotes .* '060'",
        ),
        (
            "tasks:\n  a: {type: single, classes: [1, 2]}",
            "the entry of classes 1 is no string; put quotes around it: '1'",
        ),
        ("tasks:\n  a: {type: single, classes: [null, b]}", "null, which YAML reads as None, is no string"),
        ("tasks:\n  a: {type: single, classes: [2020-01-01]}", "classes 2020-01-01 is no string"),
        ("tasks:\n  yes: {type: single}", "the task name yes, which YAML reads as True, is no string"),
        ("tasks:\n  a: {type: single, column: 1}", "the column 1 is no string"),
        ("tasks:\n  a: {type: regression, names: [1.10]}", "names 1.10, which YAML reads as 1.1, is no string"),
        ("tasks:\n  a: {type: single, classes: ['', b]}", "the entry of classes is '', but a string that is not empty"),
        ("tasks:\n  a: {type: single, classes: [[b]]}", r"classes is \['b'\], but a string"),
        ("tasks:\n  a: {type: single, classes: [nan, b]}", "the class 'nan' cannot be told from a missing"),
        ("tasks:\n  a: {type: single, classes: ['a ', a]}", "different names"),
        ("tasks:\n  a: {type: multi, classes: [Pop/Rock]}", "the tag 'Pop/Rock' contains the separator '/'"),
        ("tasks:\n  a: {type: multi, separator: ''}", "the separator is '', but one character or more"),
        (
            "tasks:\n  a: {type: regression, separator: '-'}",
            "the separator is '-', but characters that are not part of a",
        ),
        ("tasks:\n  a: {type: single, separator: '|'}", "'separator' is unknown"),
        ("tasks:\n  a: {type: single}\n  a: {type: multi}", "'a' stands twice in one place"),
        ("tasks:\n  a: {type: [single]}", "the type is \\['single'\\]"),
        ("tasks:\n  a: {type: single, loss: [x]}", "the loss is \\['x'\\]"),
        ("tasks:\n  a: {type: single, weight: yes}", "weight is True"),
        (f"tasks:\n  a: {{type: single, weight: 1{'0' * 400}}}", "a number of at least 0 is accepted"),
        ("tasks:\n  a: {type: !!int x}", "cannot be read as YAML"),
        ("[" * 600, "cannot be read as YAML"),
        ("tasks:\n  type: {type: single}", "'type' is a name that PyTorch keeps"),
        ("tasks:\n  training: {type: single}", "'training' is a name that PyTorch keeps"),
    ],
)
def test_what_a_file_may_not_say_is_told_in_a_sentence(tasks, text, words):
    with pytest.raises(OptionError, match=words):
        tasks(text)


def test_lists_and_mappings_where_a_name_belongs_are_refused(tmp_path):
    from musicbert_plugin.data.labels import read_tasks
    from musicbert_plugin.errors import OptionError

    for entry, sentence in (
        ("{type: [single]}", r"the type is \['single'\], but it is one of single, multi, regression"),
        (
            "{type: single, classes: [[a, b], [c]]}",
            r"the entry of classes is \['a', 'b'\], but a string that is not empty",
        ),
        ("{type: single, classes: {a: b}}", "classes is a list of different names"),
        ("{type: single, column: [a]}", r"the column is \['a'\], but a string that is not empty"),
        ("{type: single, 1: 2, b: 3}", "'1' is unknown"),
        (f"{{type: single, weight: {'9' * 400}}}", "weight is 9999.*, but a number of at least 0 is accepted"),
    ):
        (tmp_path / "tasks.yaml").write_text(f"tasks:\n  mood: {entry}\n")
        with pytest.raises(OptionError, match=sentence):
            read_tasks(tmp_path / "tasks.yaml")


def test_class_weights_smoothing_and_weights_by_item(tasks):
    from musicbert_plugin.data.labels import LabelTask, read_weights

    found = tasks(
        "tasks:\n  a: {type: single, class_weights: balanced, label_smoothing: 0.1, weight_column: w}\n"
        "  b: {type: single, classes: [x, y], class_weights: {y: 3}}\n"
        "  c: {type: regression, names: [p, q], separator: '|', weight_column: w}\n"
    )
    learnt = found["a"].learn(["u", "v", "v", "", "v"])
    assert learnt.class_weights == (2.0, pytest.approx(2 / 3)) and learnt.label_smoothing == 0.1
    assert LabelTask.of(learnt.settings()) == learnt
    assert found["b"].class_weights == (1.0, 3.0) and found["b"].learn(["x", "y"]).class_weights == (1.0, 3.0)
    assert read_weights(learnt, {"w": ["0.5", ""]}, "train").tolist() == [[0.5], [1]]
    assert read_weights(found["c"], {"w": ["0.5|2", "3"]}, "train").tolist() == [[0.5, 2], [3, 3]]
    assert read_weights(found["b"], {}, "train") is None
    for cell, words in (("-1", "at least 0"), ("high", "is no number"), ("1|2|3", "one number, or 2 joined by")):
        with pytest.raises(DatasetError, match=rf"train: song has the weight .* column 'w' for task c, but .*{words}"):
            read_weights(found["c"], {"w": [cell]}, "train", ["song"])
    with pytest.raises(DatasetError, match="no label column 'w'"):
        read_weights(learnt, {"v": []}, "train")


@pytest.mark.parametrize(
    "entry, words",
    [
        ("type: single, class_weights: equal", "but balanced or a number by class are accepted"),
        ("type: single, class_weights: {a: 1}", "need 'classes:'"),
        ("type: single, classes: [a, b], class_weights: {c: 1}", "'c', which is none of its 2 classes"),
        ("type: single, classes: [a, b], class_weights: {a: -1}", "the weight of a is -1"),
        ("type: single, label_smoothing: 1", "a share below 1"),
        ("type: regression, label_smoothing: 0.1", "'label_smoothing' is unknown"),
        ("type: multi, class_weights: balanced", "'class_weights' is unknown"),
        ("type: single, hide: [loudness]", "hide has 'loudness', but of bar, position"),
        ("type: single, weight_column: 3", "weight_column 3 is no string"),
    ],
)
def test_weights_that_a_file_may_not_ask_for(tasks, entry, words):
    with pytest.raises(OptionError, match=words):
        tasks("tasks:\n  t: {" + entry + "}\n")
