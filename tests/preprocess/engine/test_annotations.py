"""Annotations are found by templates, and their labels are read with everything odd in them named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.errors import OptionError, ScoreError
from preprocess.engine.annotations import CHORDS, AnnotationFiles, harmony_class, parse_spans


def files_of(folder: Path, template: str = "notes/{}/chords.txt", pattern: str = r"_(\d+)_") -> AnnotationFiles:
    return AnnotationFiles.of("--annotations", template, pattern, str(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two annotations."""
    for number in (1, 2):
        (tmp_path / f"notes/{number}").mkdir(parents=True)
        (tmp_path / f"notes/{number}/chords.txt").write_text(f"0 1 {number}\n", encoding="utf-8-sig")
    return tmp_path


def test_annotations_are_found_by_a_part_of_the_name(folder: Path) -> None:
    assert files_of(folder).read("midi/song_2_x.mid") == ("notes/2/chords.txt", "0 1 2\n")
    assert files_of(folder, pattern="").read("midi/1.mid.gz")[1] == "0 1 1\n"
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.write(folder / "notes/1/chords.txt", "notes/1/chords.txt")
    assert files_of(folder / "all.zip").read("song_1_x.mid")[1] == "0 1 1\n"
    digest = files_of(folder).digest()
    assert digest != files_of(folder / "all.zip").digest()
    (folder / "notes/2/chords.txt").write_text("0 1 C\n")
    assert files_of(folder).digest() != digest


@pytest.mark.parametrize(("name", "said"), [("song_3_x.mid", "notes/3/chords.txt"), ("song.mid", "--piece-pattern")])
def test_a_file_without_an_annotation_fails(folder: Path, name: str, said: str) -> None:
    with pytest.raises(ScoreError) as error:
        files_of(folder).read(name)
    assert error.value.reason == "no annotation" and name in str(error.value) and said in str(error.value)


@pytest.mark.parametrize(
    ("template", "pattern", "said"),
    [
        ("chords.txt", "", "one {} is needed"),
        ("{}/a.lab", "", "holds no such files"),
        ("{}.txt", "(", "regular expression"),
    ],
)
def test_options_that_cannot_work_are_refused(folder: Path, template: str, pattern: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        files_of(folder, template, pattern)


def test_labels_hold_from_their_start_to_before_their_end() -> None:
    spans = parse_spans("2.0\t3.0\tG:min\n\n0 1.5 C:maj and more\n", "a.txt")
    assert spans.labels == ["C:maj and more", "G:min"]
    assert spans.at(np.array([-1, 0, 1.4, 1.5, 2, 2.9, 3])).tolist() == [-1, 0, 0, -1, 1, 1, -1]
    assert parse_spans("", "a.txt").at(np.zeros(2)).tolist() == [-1, -1]


@pytest.mark.parametrize("line", ["0 1", "1 0 C", "x 1 C", "0 inf C"])
def test_a_line_of_another_form_fails_the_file(line: str) -> None:
    with pytest.raises(ScoreError, match=r"a.txt, line 2: .*'start end label'"):
        parse_spans(f"0 1 C\n{line}\n", "a.txt")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("C:maj", "C:maj"), ("F#:min7/b3", "Gb:min"), ("Bb:7/b7", "Bb:maj"), ("Cb", "B:maj"), ("E#:minmaj7", "F:min"),
        ("N", "N"), ("A:sus4(b7)", None), ("A:dim", None), ("A:aug", None), ("H:maj", None), ("", None),
    ],
)  # fmt: skip
def test_chords_become_their_triads(label: str, expected: str | None) -> None:
    found = harmony_class(label)
    assert (None if found is None else CHORDS[found]) == expected
