"""Labels: what tasks.yaml may say, what cells mean, and that absent is not zero."""

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


@pytest.mark.parametrize("cell", ["", "  ", "nan", "NaN", "None"])
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
        ("genre", "jazz/rock", "'jazz/rock' is none"),
        ("mood", "calm/loud", "'loud' is none"),
        ("affect", "high/0", "'high' is no number"),
        ("affect", "inf/0", "'inf' is no number"),
        ("affect", "1", "2 numbers joined by '/'"),
    ],
)
def test_a_bad_cell_is_told_and_then_unlabelled(tasks, caplog, name, cell, words):
    from musicbert_plugin.data.labels import read_cells

    task = tasks()[name]
    with pytest.raises(ValueError, match=words):
        task.parse(cell)
    _, present = read_cells(task, [cell, ""], "data/train", names=["one.wav", "two.wav"])
    assert not present.any()
    assert "data/train: one.wav" in caplog.text and words in caplog.text and "two.wav" not in caplog.text


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
            r"classes is \[\['a', 'b'\], \['c'\]\], but a list of",
        ),
        ("{type: single, classes: {a: b}}", "classes is {'a': 'b'}, but a list of different names"),
        ("{type: single, column: [a]}", r"the column is \['a'\], but the name of one is accepted"),
        ("{type: single, 1: 2, b: 3}", "'b' is unknown"),
        (f"{{type: single, weight: {'9' * 400}}}", "weight is 9999.*, but a number of at least 0 is accepted"),
    ):
        (tmp_path / "tasks.yaml").write_text(f"tasks:\n  mood: {entry}\n")
        with pytest.raises(OptionError, match=sentence):
            read_tasks(tmp_path / "tasks.yaml")
