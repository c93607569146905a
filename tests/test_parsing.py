"""Parsing: what is right is read, and whatever is wrong is one line of a ValueError."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from musicbert_plugin.parsing import parse_json, parse_yaml, read_json, read_npy, shortened, whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("128", 128), ("9" * 18, 10**18 - 1)])
def test_ascii_digits_are_a_whole_number(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "1_0", "1.0", "²", "٣", "½", "9" * 19, "9" * 5000, "1\n"])
def test_every_other_text_is_no_whole_number(text: str) -> None:
    assert whole_number(text) is None


DEEP = 100_000


@pytest.mark.parametrize(
    "text", ["[" * DEEP + "]" * DEEP, '{"a":' * DEEP, "{", "", "[1,]", '"\\ud8', b"\xff{}", "9" * 5000]
)
def test_json_that_is_wrong_is_one_line(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]{3,200}\Z"):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["[" * 5000, "a: 2001-99-99", "a: b: c", "!!python/object:os.system x", "&a [*a", "\0"]
)
def test_yaml_that_is_wrong_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]{3,400}\Z"):
        parse_yaml(text)


def test_what_is_right_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"é": [1, null]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"é": [1, None]}
    assert parse_yaml("a: [1, b]") == {"a": [1, "b"]}
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    for found in (read_npy(tmp_path / "a.npy"), read_npy(tmp_path / "a.npy", memory_map=True)):
        assert np.array_equal(found, array)
    assert np.array_equal(read_npy((tmp_path / "a.npy").read_bytes()), array)


def test_a_file_that_is_missing_says_so(tmp_path: Path) -> None:
    for read in (read_json, read_npy):
        with pytest.raises(ValueError, match="No such file"):
            read(tmp_path / "none")


def test_a_pickle_is_refused_without_advice_on_how_to_load_it(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}, None]), allow_pickle=True)
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    for source in (file.getvalue(), tmp_path / "a.npy"):
        for mapped in (False, True) if isinstance(source, Path) else (False,):
            with pytest.raises(ValueError) as raised:
                read_npy(source, memory_map=mapped)
            assert str(raised.value) == "it holds Python objects, not numbers"
    with pytest.raises(ValueError, match="does not begin as"):
        read_npy(b"\x80\x04]\x94.")


def test_a_value_is_shown_in_one_short_line() -> None:
    assert shortened("x") == "'x'"
    for value in ("x" * 500, list(range(500)), {"a\nb": ["c" * 100] * 9}):
        assert len(shortened(value)) <= 80 and "\n" not in shortened(value)
