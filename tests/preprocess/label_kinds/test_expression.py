"""Expression labels: means, medians and density peaks of raters' answers, and the units of music."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.codecs.score import Score, read_midi
from musicbert_plugin.errors import OptionError
from preprocess.label_kinds import expression
from preprocess.label_kinds.expression import cell_of, music_units, pitch_trigrams, read_expression

NAN = float("nan")


def old_table(folder: Path, rows: list[tuple[str, list[str]]]) -> Path:
    """A table of the older form, of 33 columns, from file names and 28 cells."""
    numbers = "1_1_1,1_2_1,1_2_2,1_3_1,2_1_1,2_2_1,3_1_1,3_2_1,3_3_1,4_1_1,4_2_1,4_3_1,5_1_1,5_2_1,5_3_1,5_4_1,5_5_1"
    numbers += ",6_1_1,6_2_1,6_3_1,6_4_1,6_5_1,7_1_1,7_2_1,7_3_1,8_1_1,8_2_1,9_1_1"
    header = ["user", "dataID", "filename", *(f"Question_{number}" for number in numbers.split(","))]
    with (folder / "total.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "work_length", "message"])
        for number, (name, cells) in enumerate(rows):
            writer.writerow([f"rater {number}", number, name, *cells, 12, "a private message"])
    return folder / "total.csv"


def test_missing_answers_are_masked_and_the_others_averaged(tmp_path: Path) -> None:
    name = "Schubert_D960_mv2_8bars_1_06"
    path = old_table(
        tmp_path,
        [(f"{name}.wav", ["7", "0", "", *["4"] * 25]), (f"{name}.wav", ["3", "2", "0", *["4"] * 25])],
    )
    labels = read_expression(str(path))
    assert labels.names == expression.TOTAL and len(labels.names) == 28
    assert labels.values[name].shape == (1, 28)
    np.testing.assert_allclose(labels.values[name][0, :4], [5 / 7, 2 / 7, NAN, 4 / 7])
    assert cell_of(labels.values[name][0, :4]) == "0.714286/0.285714//0.571429"
    assert cell_of(np.array([NAN, NAN])) == ""


def test_each_rater_can_be_an_item_of_its_own(tmp_path: Path) -> None:
    rows = [("a_8bars_1_1.wav", ["1"] * 28), ("b_8bars_1_1.wav", ["5"] * 28), ("a_8bars_1_1.wav", ["7"] * 28)]
    labels = read_expression(str(old_table(tmp_path, rows)), "all")
    np.testing.assert_allclose(labels.values["a_8bars_1_1"][:, 0], [1 / 7, 1])
    assert labels.weights["a_8bars_1_1"].shape == (2, 28)


def test_answers_outside_the_scale_are_missing_and_counted(tmp_path: Path) -> None:
    labels = read_expression(str(old_table(tmp_path, [("a_8bars_1_1.wav", ["8", "x", "-1", "0.5", *["3"] * 24])])))
    assert labels.odd == 4 and np.isnan(labels.values["a_8bars_1_1"][0, :4]).all()


@pytest.mark.parametrize(
    ("answers", "peak"),
    [
        ([4, 4, 4], 4.0),
        ([3, 5], 4.0),  # one symmetric hill, whose highest two points are averaged
        ([1, 1, 7, 7], 4.0),  # two equal hills
        ([2], 2.0),
    ],
)
def test_equal_peaks_of_the_density_are_averaged(answers: list[float], peak: float) -> None:
    rows = np.array(answers, np.float64)[:, None]
    assert expression.kde_peak(rows)[0] == pytest.approx(peak, abs=1e-12)
    assert expression.kde_peak(8 - rows)[0] == pytest.approx(8 - peak, abs=1e-12)


def test_the_density_is_scotts() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for count in (3, 8, 14):
        answers = random.integers(1, 8, count).astype(np.float64)
        points = np.linspace(answers.min(), answers.max(), 50)
        density = stats.gaussian_kde(answers)(points)
        expected = points[density >= density.max() * (1 - 1e-9)].mean()
        assert expression.kde_peak(answers[:, None])[0] == pytest.approx(expected, abs=1e-12)


def test_labels_on_which_raters_agree_weigh_more() -> None:
    rows = {"a": [0.0, 0.2], "b": [0.2, NAN], "c": [0.2, 0.2]}
    weights = expression.weights_of({name: np.array([row]) for name, row in rows.items()})
    np.testing.assert_allclose(weights["a"][0], [1, 0.5])
    np.testing.assert_allclose(weights["b"][0, 0], 1 / (1 + 0.04 * 3 / 0.08))
    assert weights["b"][0, 1] == 0.5, "nothing is known of a label with one answer"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "accepted is {segment: [number, ...]}"),
        ('{"a": [0.5, 1], "b": [0.5]}', "b has [0.5]"),
        ('{"a": ["x"]}', "a has ['x']"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_json_of_another_form_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mean.json"
    path.write_text(text)
    with pytest.raises(OptionError) as error:
        read_expression(str(path))
    assert said in str(error.value) and str(path) in str(error.value)


def test_a_table_without_questions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("filename,score\na.wav,3\n")
    with pytest.raises(OptionError, match="begin with Question"):
        read_expression(str(tmp_path / "a.csv"))


def test_the_answers_of_a_density_need_a_table(tmp_path: Path) -> None:
    (tmp_path / "mean.json").write_text('{"a": [0.5]}')
    with pytest.raises(OptionError, match="--aggregate kde"):
        read_expression(str(tmp_path / "mean.json"), "kde")


# --------------------------------------------------------------------------------------------------------------- units


def melody(pitches: list[int], step: int = 480) -> np.ndarray:
    onset = np.arange(len(pitches)) * step
    return pitch_trigrams(Score.of(480, onset, onset + step, pitches))


def test_passages_of_the_same_music_are_one_unit() -> None:
    random = np.random.default_rng(0)
    first, second, third = (random.integers(40, 90, 20).tolist() for _ in range(3))
    units = music_units(
        {
            "W_16bars_Score_1": melody(first + second),
            "W_8bars_Score_2": melody(second, step=100),
            "W_8bars_Score_3": melody(third),
            # two of three performers play third where the fifth passage is
            **{f"W_8bars_{performer}_3": melody(third) for performer in "789"},
            **{f"W_8bars_{performer}_5": melody(third if performer in "78" else first[:7]) for performer in "789"},
        }
    )
    assert units == {
        "W_16bars_1": "W_16bars_1",
        "W_8bars_2": "W_16bars_1",
        "W_8bars_3": "W_8bars_3",
        "W_8bars_5": "W_8bars_3",
    }


def test_the_two_deadpan_renderings_are_one_performer() -> None:
    found = [expression.parse_name(f"A_b_no.3_4bars_{performer}_2") for performer in ("Score", "Score2", "7")]
    assert [segment and segment.player for segment in found] == ["Score", "Score", "7"]
    assert found[0] is not None and found[0].work == "A_b_no.3" and found[0].passage == "A_b_no.3_4bars_2"
    assert expression.parse_name("prelude") is None


@pytest.fixture(scope="module")
def performances(music_data: Path) -> dict[str, Score]:
    with zipfile.ZipFile(music_data / "expression" / "midi.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".mid")]
        return {expression.stem(name): read_midi(archive.read(name), channel_programs="ignore") for name in names}


def test_percepianos_passages_are_46_units_of_music(performances: dict[str, Score], music_data: Path) -> None:
    units = music_units({name: pitch_trigrams(score) for name, score in performances.items()})
    assert len(units) == 99 and len(set(units.values())) == 46
    assert units == json.loads((music_data / "expression" / "music_units.json").read_text())
    players = {segment.player for name in performances if (segment := expression.parse_name(name))}
    assert len(players) == 21


def test_the_passage_split_leaks_and_units_of_music_do_not(performances: dict[str, Score], music_data: Path) -> None:
    """47 of the 156 test segments are, in whole or in part, a performance that is in train."""
    split = expression.read_segment_split(str(music_data / "expression" / "splits.json"), "passage_heldout")
    held_out, train = ({name for name, part in split.items() if part == number} for number in (0, 1))
    trigrams = {name: expression.performance_trigrams(score) for name, score in performances.items()}
    assert len(held_out) == 156 and len(expression.leaking(trigrams, train, held_out)) == 47
    units = music_units({name: pitch_trigrams(score) for name, score in performances.items()})
    unit_of = {name: units[segment.passage] for name in split if (segment := expression.parse_name(name))}
    some = set(sorted(set(unit_of.values()))[::4])
    parts = [{name for name, unit in unit_of.items() if (unit in some) == inside} for inside in (True, False)]
    assert min(map(len, parts)) > 100 and expression.leaking(trigrams, *parts) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "cannot be read as JSON"),
        ("{}", "there is no such split"),
        ('{"a": {"train": ["x"]}}', "a list of segments for train and one for valid or test"),
        ('{"a": {"train": ["x", "y"], "test": ["y"]}}', "y is in both parts"),
    ],
)
def test_a_split_of_another_form_is_refused_in_a_sentence(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(OptionError) as error:
        expression.read_segment_split(str(tmp_path / "splits.json"), "a")
    assert said in str(error.value)


def test_percepianos_means_and_deviations_are_those_of_the_answers(music_data: Path) -> None:
    folder = music_data / "expression" / "labels"
    published = read_expression(str(folder / "mean.json"), "mean", str(folder / "std.json"))
    answers = read_expression(str(folder / "ratings.csv"))
    assert published.names == answers.names == expression.PERCEPIANO
    assert len(published.values) == 1189 and set(published.values) < set(answers.values)
    assert answers.odd == 348, "345 eights and 3 nines"
    both = [np.concatenate([labels.values[name] for name in published.values]) for labels in (published, answers)]
    same = np.isclose(*both)
    assert same.mean() > 0.86, "upstream left some raters out"
    assert np.nanmax(np.abs(both[0] - both[1])) < 0.5
    assert len(published.weights) == 1189 and 0 < min(row.min() for row in published.weights.values())
