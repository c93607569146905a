"""Names of any bytes become text that every file can hold, and come back; files are whole, and folders locked."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicbert_plugin.errors import MusicError, RecordingError
from musicbert_plugin.files import (
    FolderLock,
    as_listed,
    atomic_path,
    escaped,
    given_path,
    match_names,
    shown,
    unescaped,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="names are text there")
NAMES = st.binary(max_size=12).map(os.fsdecode) | st.text(alphabet=[*r"\xe9a5c/.", "\udce9", "\n", "é"], max_size=12)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        (b"Caf\xe9.mid", r"Caf\xe9.mid"),
        ("Café.mid".encode(), "Café.mid"),
        (rb"Caf\xe9.mid", r"Caf\x5cxe9.mid"),
        (rb"C:\music\song.mid", r"C:\music\song.mid"),
        (b"two\nlines\x1b.mid", r"two\x0alines\x1b.mid"),
    ],
)
def test_only_bytes_that_are_no_text_are_escaped(name: bytes, form: str) -> None:
    assert escaped(os.fsdecode(name)) == form
    assert os.fsencode(unescaped(form)) == name


@given(NAMES)
def test_an_escaped_name_is_one_line_of_utf_8_and_comes_back(name: str) -> None:
    form = escaped(name)
    assert json.loads(json.dumps(form, ensure_ascii=False).encode("utf-8")) == form
    assert form.isprintable() or not any(ord(character) < 32 for character in form)
    assert os.fsencode(unescaped(form)) == os.fsencode(name)
    assert as_listed(form) == form


@given(NAMES, NAMES)
def test_different_names_have_different_forms(one: str, other: str) -> None:
    assert (escaped(one) == escaped(other)) == (one == other)


def test_a_name_may_be_listed_with_capital_digits_or_as_the_bytes_of_utf_8() -> None:
    assert as_listed(r"Caf\xE9.mid") == r"Caf\xe9.mid"
    assert as_listed(r"Caf\xc3\xa9.mid") == "Café.mid"
    assert as_listed("Caf\udce9.mid") == r"Caf\xe9.mid"


def test_a_table_names_a_file_in_either_normal_form() -> None:
    composed, decomposed, file = "Café.mid", "Cafe\u0301.mid", "a.mid"
    assert composed != decomposed
    assert match_names([composed, file, "b.mid"], [file, decomposed]) == {composed: decomposed, file: file}
    assert match_names([decomposed], iter([composed])) == {decomposed: composed}
    both = [composed, decomposed]
    assert match_names(both, both) == {name: name for name in both}
    assert match_names(both, [decomposed]) == {decomposed: decomposed}
    assert match_names(both, ["CAFÉ.mid"]) == {}
    dots = ["a\u0323\u0307", "a\u0307\u0323"]  # two files that are equal but for the order of the marks
    assert match_names(["\u1ea1\u0307"], dots) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"Caf\xe9.mid", [r"Caf\xe9.mid", r"Caf\xE9.mid", "Caf\udce9.mid"]),
        ("Cafe\u0301.mid".encode(), ["Café.mid", "Cafe\u0301.mid", r"Caf\xc3\xa9.mid"]),
        (rb"Caf\xe9.mid", [r"Caf\xe9.mid", r"Caf\x5cxe9.mid"]),
    ],
)
def test_a_word_of_the_command_line_names_a_file_in_any_of_its_forms(name: bytes, words: list[str], tmp_path) -> None:
    try:
        (tmp_path / os.fsdecode(name)).touch()
    except OSError:
        pytest.skip("this file system takes no such names")
    for word in words:
        assert os.fsencode(given_path(f"{tmp_path}/{word}")) == os.fsencode(tmp_path) + b"/" + name
    assert given_path(f"{tmp_path}/none.mid") == f"{tmp_path}/none.mid" and given_path("-") == "-"


@pytest.mark.parametrize("error", [MusicError("caf\udce9.wav: x."), RecordingError("silent", "caf\udce9.wav: x.")])
def test_sentences_about_files_can_be_written_anywhere(error: MusicError) -> None:
    assert str(error) == r"caf\xe9.wav: x." == shown("caf\udce9.wav: x.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_a_file_has_the_permissions_of_new_files_whatever_made_it(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "a") as unfinished:
            unfinished.touch(0o600)
        with atomic_path(tmp_path / "b") as unfinished:
            unfinished.write_text("b")
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {"a": mode, "b": mode}


def test_a_folder_is_locked_by_one_run_at_a_time(tmp_path: Path) -> None:
    with FolderLock(tmp_path / ".lock") as lock:
        with pytest.raises(BlockingIOError):
            FolderLock(tmp_path / ".lock")
        os.rename(tmp_path / ".lock", tmp_path / "moved")
        other = FolderLock(tmp_path / ".lock")
        lock.release()
        del other
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]


def test_a_killed_process_leaves_no_folder_locked(tmp_path: Path) -> None:
    code = "import os, sys; from musicbert_plugin.files import FolderLock; lock = FolderLock(sys.argv[1]); "
    done = subprocess.run([sys.executable, "-c", code + "os.kill(os.getpid(), 9)", tmp_path / ".lock"])
    assert done.returncode == -signal.SIGKILL and (tmp_path / ".lock").exists()
    with FolderLock(tmp_path / ".lock"):
        pass
    assert not (tmp_path / ".lock").exists()
