"""Parsing: what is right is read, and whatever is wrong is one line of a ValueError."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


ROOT = Path(__file__).resolve().parents[1]
NO_NUMBERS = ("²", "1²", "٣", "9" * 5000)


def test_no_module_asks_isdigit_which_accepts_what_int_refuses() -> None:
    found = [
        f"{path.name}: {line.strip()}"
        for folder in ("musicbert_plugin", "preprocess")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\.is(digit|numeric|decimal)\(", line) and ".isascii()" not in line
    ]
    assert not found


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_digits_that_are_none_are_refused_wherever_a_number_is_read(
    text: str, registered: None, tmp_path: Path
) -> None:
    from musicbert_plugin.data.dataset_folder import read_dictionary
    from musicbert_plugin.data.fairseq_output import read_lines
    from musicbert_plugin.errors import MusicError
    from musicbert_plugin.evaluate.infill import _parse_bars
    from musicbert_plugin.modules.pooled_heads import layer_number
    from preprocess.attributes import parse_bars
    from preprocess.render import program_of

    (tmp_path / "dict.txt").write_text(f"<sep> 1\na {text}\n", encoding="utf-8")
    (tmp_path / "lines.txt").write_text(f"H-{text}\t0\tb-1\n", encoding="utf-8")
    readers: list[tuple[Callable[[str], Any], str]] = [
        (_parse_bars, f"{text}:4"),
        (_parse_bars, f"1:{text}"),
        (parse_bars, f"{text}:"),
        (parse_bars, f":{text}"),
        (program_of, text),
        (lambda name: layer_number(name, 4), text),
        (lambda name: read_dictionary(tmp_path / "dict.txt"), ""),
        (lambda name: read_lines(tmp_path / "lines.txt"), ""),
    ]
    for read, given in readers:
        with pytest.raises(MusicError, match=r"\A[^\n]*\Z"):
            read(given)
    assert (_parse_bars("2:5"), parse_bars(":5"), parse_bars("2:"), program_of("40")) == ((1, 4), (0, 5), (2, None), 40)


def test_a_collection_of_scores_takes_a_whole_number() -> None:
    pytest.importorskip("music21", reason="the corpus is an extra (requirements-quickstart.txt)")
    from musicbert_plugin.errors import OptionError
    from preprocess.corpus import corpus_pieces

    for count in (*NO_NUMBERS, "0", "-1"):
        with pytest.raises(OptionError, match="should end with a number of pieces above 0"):
            corpus_pieces([f"bach:{count}"])
    assert len(corpus_pieces(["bach:2"])) == 2
