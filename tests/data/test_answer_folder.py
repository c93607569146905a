"""Folders of generated music: what was answered is kept, earlier answers are replaced, foreign files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from musicbert_plugin.data.answer_folder import JOURNAL, LOCK, AnswerFolder, midi_name
from musicbert_plugin.errors import OptionError

REQUESTS = ["piano", "violin", "drum"]


def open_folder(path: Path, requests: list[str] = REQUESTS, seed: int = 1, kind: str = "music") -> AnswerFolder:
    return AnswerFolder(path, kind, {"seed": seed, "model": "abc"}, requests)


def answer(folder: AnswerFolder, *lines: int) -> None:
    for line in lines:
        files = {midi_name(line, piece): f"{folder.requests[line]} {piece}".encode() for piece in range(2)}
        folder.add(line, files, [{"ids": [line, 2]}])


def midi(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir() if file.name not in (JOURNAL, LOCK))


def test_a_second_run_keeps_the_answers_to_the_same_requests(tmp_path: Path) -> None:
    answer(open_folder(tmp_path), 0, 2)
    again = open_folder(tmp_path, ["piano", "violin", "cello"])
    assert list(again.answers) == [0] and again.answers[0]["pieces"] == [{"ids": [0, 2]}]
    assert midi(tmp_path) == ["0.1.mid", "0.mid"], "the music for drums answers nothing now"
    answer(again, 1, 2)
    again.close()
    assert (tmp_path / "2.mid").read_bytes() == b"cello 0"
    assert sorted(open_folder(tmp_path, ["piano"]).answers) == [0] and midi(tmp_path) == ["0.1.mid", "0.mid"]


def test_another_run_replaces_all_answers(tmp_path: Path) -> None:
    answer(open_folder(tmp_path), 0, 1, 2)
    (tmp_path / "notes.txt").write_text("mine")
    assert not open_folder(tmp_path, seed=2).answers and midi(tmp_path) == ["notes.txt"]


def test_a_second_run_at_the_same_time_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    first = open_folder(tmp_path)
    answer(first, 0)
    for seed in (1, 2):
        with pytest.raises(OptionError, match="another run writes there; wait for its end or name another folder"):
            open_folder(tmp_path, seed=seed)
    answer(first, 1)
    first.close()
    assert sorted(open_folder(tmp_path).answers) == [0, 1]
    assert midi(tmp_path) == ["0.1.mid", "0.mid", "1.1.mid", "1.mid"]


def test_what_was_not_generated_is_refused_before_anything_changes(tmp_path: Path) -> None:
    answer(open_folder(tmp_path), 0, 1)
    (tmp_path / "7.mid").write_bytes(b"mine")
    with pytest.raises(OptionError, match=r"7\.mid is not of an earlier run: move it, or name another folder"):
        open_folder(tmp_path, seed=2)
    (tmp_path / "7.mid").unlink()
    (tmp_path / "1.mid").write_bytes(b"edited")
    for seed in (1, 2):
        with pytest.raises(OptionError, match=r"1\.mid was changed since it was generated"):
            open_folder(tmp_path, seed=seed)
    assert midi(tmp_path) == ["0.1.mid", "0.mid", "1.1.mid", "1.mid"]
    with pytest.raises(OptionError, match="holds generated music of kind 'music': name another folder"):
        open_folder(tmp_path, kind="infill")
    header, first, _ = (tmp_path / JOURNAL).read_text().splitlines()
    outside = first.replace('"0.1.mid"', '"../0.1.mid"')
    for text in ("[]", "[[" * 90_000, "{}", header.replace("1", "7", 1), f"{header}\n{outside}", f"{header}\n{{}}"):
        (tmp_path / JOURNAL).write_text(text + "\n")
        with pytest.raises(OptionError, match="is not the journal of generated music"):
            open_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="file: cannot be written"):
        open_folder(tmp_path / "file")


@pytest.mark.parametrize("moment", ["journal", "between", "file"])
def test_a_run_that_was_stopped_anywhere_can_go_on(tmp_path: Path, moment: str) -> None:
    answer(open_folder(tmp_path), 0, 1)
    journal = (tmp_path / JOURNAL).read_bytes()
    if moment == "journal":
        (tmp_path / JOURNAL).write_bytes(journal[:-9])
        for name in ("1.mid", "1.1.mid"):
            (tmp_path / name).unlink()
    elif moment == "between":
        (tmp_path / "1.mid").unlink()
        (tmp_path / "1.1.mid").unlink()
    else:
        (tmp_path / "1.1.mid").rename(tmp_path / "1.1.mid.unfinished")
    again = open_folder(tmp_path)
    assert list(again.answers) == [0]
    assert midi(tmp_path) == ["0.1.mid", "0.mid"]
    answer(again, 1, 2)
    assert (tmp_path / JOURNAL).read_bytes().startswith(journal)
    assert [json.loads(line)["line"] for line in (tmp_path / JOURNAL).read_text().splitlines()[1:]] == [0, 1, 2]


def test_a_run_that_was_stopped_while_it_removed_earlier_answers_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(open_folder(tmp_path), 0, 1, 2)
    removed: list[Path] = []
    unlink = Path.unlink

    def stopped(path: Path, missing_ok: bool = False) -> None:
        if len(removed) == 3:
            raise KeyboardInterrupt
        removed.append(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", stopped)
        open_folder(tmp_path, seed=2)
    assert len(midi(tmp_path)) == 3
    assert not open_folder(tmp_path, seed=2).answers and midi(tmp_path) == []
