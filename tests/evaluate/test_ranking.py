"""Scores of candidates: what is read, metrics against a count by hand, and sentences about unfit tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.evaluate.__main__ import main

TABLE = """query,label,score,group
0,1,0.9,a
0,0,0.5,a
0,1,0.1,a
1,0,0.3,b
1,1,0.3,b
2,0,0.2,b
"""


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict, str]:
    status = main(["ranking", *map(str, words)])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else {}, said.err


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_candidates_is_ranked_with_intervals_and_chance(tmp_path, capsys) -> None:
    """Precisions are 1 and 2/3 of the first query and 1/2 of the second, which has a tie; the third has no true one."""
    status, values, said = run(capsys, write(tmp_path / "mine.csv", TABLE), "--hits", 1, 2)
    assert status == 0 and values["queries"] == 3 and values["without_true_candidate"] == 1 and values["groups"] == 2
    assert values["metrics"]["map"]["mean"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert values["metrics"]["map"]["interval"] == pytest.approx([1 / 2, 5 / 6])
    assert values["metrics"]["hits@1"]["mean"] == pytest.approx(0.25)
    assert values["metrics"]["hits@2"]["chance"] == pytest.approx((2 / 3 + 1) / 2)
    assert "0.667" in said and "by chance" in said


def test_other_scores_are_compared_by_paired_differences(tmp_path, capsys) -> None:
    mine, other = write(tmp_path / "mine.csv", TABLE), write(tmp_path / "other.csv", "score\n" + "1\n" * 6)
    status, values, said = run(capsys, mine, "--against", other, "--hits", 1)
    found = values["against"][str(other)]["map"]
    worst = (1 / 2 + 2 / 3) / 2  # of three candidates at ranks 2 and 3
    assert status == 0 and found["mean"] == pytest.approx((worst + 1 / 2) / 2)
    assert found["difference"]["mean"] == pytest.approx((5 / 6 - worst) / 2)
    assert found["difference"]["interval"] == pytest.approx([0, 5 / 6 - worst])
    assert f"map against {other}" in said


def test_pairs_of_a_folder_have_the_groups_of_their_first_phrase(tmp_path, capsys) -> None:
    write(
        tmp_path / "test.labels.csv",
        "file,item,notes,piece,group,fold\n" + "".join(f"{n}.mid,{n},9,{n},song{n // 2},\n" for n in range(6)),
    )
    pairs = [(0, 1, 1, 0), (0, 3, 0, 0), (2, 5, 0, 1), (2, 3, 1, 1), (3, 4, 0, 2), (3, 2, 1, 2)]
    lines = "".join(",".join(map(str, pair)) + "\n" for pair in pairs)
    write(tmp_path / "test.pairs.csv", "first,second,label,query\n" + lines)
    rows = "".join(f"{first},{second},{label + 0.5}\n" for first, second, label, _ in reversed(pairs))
    scores = write(tmp_path / "scores.csv", "first,second,score\n" + rows)
    status, values, _ = run(capsys, tmp_path, "--scores", scores)
    assert status == 0 and values["groups"] == 2 and values["queries"] == 3 and values["metrics"]["map"]["mean"] == 1
    write(scores, "first,second,score\n0,1,0.5\n")
    status, _, said = run(capsys, tmp_path, "--scores", scores)
    assert status == 2 and "no score of 5 of 6 pairs" in said and "first 0, second 3" in said
    status, _, said = run(capsys, tmp_path)
    assert status == 2 and "--scores CSV" in said
    status, _, said = run(capsys, tmp_path, "--scores", scores, "--gen-subset", "valid")
    assert status == 2 and "valid.pairs.csv is missing" in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("query,label\n0,1\n", "no column 'score'"),
        ("query,label,score\n0,1,nan\n", "line 2: score is 'nan'"),
        ("query,label,score\n0,2,1\n", "line 2: label is 2, but 0 or 1"),
        ("query,label,score\n0,1,1\nx,0,1\n", "line 3: query is 'x'"),
        ("query,label,score\n0,0,1\n", "no query has a true candidate"),
        ("query,label,score\n", "has no rows"),
    ],
)
def test_unfit_tables_are_one_sentence_and_status_2(text, sentence, tmp_path, capsys) -> None:
    status, _, said = run(capsys, write(tmp_path / "scores.csv", text))
    assert status == 2 and sentence in said and len(said.strip().splitlines()) == 1


def test_scores_of_other_candidates_are_refused(tmp_path, capsys) -> None:
    mine = write(tmp_path / "mine.csv", TABLE)
    for text, sentence in (
        ("score\n1\n", "has 1 rows, but"),
        (TABLE.replace("1,0,0.3,b", "2,0,0.3,b"), "line 5: query is not 1"),
    ):
        status, _, said = run(capsys, mine, "--against", write(tmp_path / "other.csv", text))
        assert status == 2 and sentence in said
    assert run(capsys, mine, "--hits", 0)[0] == 2
    assert np.isfinite(run(capsys, mine)[1]["metrics"]["hits@25"]["mean"])
