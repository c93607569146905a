"""PiRhDy's lines become the octuples that MusicBERT's own conversion makes of them; its pickle runs no code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicbert_plugin.codecs import octuple
from musicbert_plugin.data.indexed_dataset import IndexedDataset
from musicbert_plugin.data.labelled_octuples import LabelledItems, read_pairs
from musicbert_plugin.errors import OptionError
from preprocess.label_kinds.pirhdy import VELOCITIES, phrases_of, read_ids
from preprocess.label_kinds.tokens import octuples_of

Build = Callable[..., tuple[int, str]]
Items = Callable[[Path, str], LabelledItems]
TABLE = {1: {0}, 2: [7], 13: "unknown", 20: (0, 4, 7)}


def line_of(first: dict[int, tuple[int, int, int, int]], second: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    """A line without its label, from the steps of two phrases to (pitch id, octave, velocity, state)."""
    numbers = np.zeros((2, 4, 128), np.int64)
    for part, steps in enumerate((first, second)):
        for step, features in steps.items():
            numbers[part, :, step] = features
    return numbers.ravel()


def reference(line: np.ndarray, table: dict[int, Any], task: str) -> list[list[tuple[int, ...]]]:
    """The conversion of the specification, note by note."""
    numbers = line.reshape(2, 4, 128).tolist()
    phrases = []
    for part, (pitch, octave, velocity, state) in enumerate(numbers):
        shift = sum(value > 0 for value in numbers[0][0]) if part and task == "completion" else 0
        rows = []
        for step in range(128):
            if not (state[step] == 3 or (step == 0 and state[step] == 2)) or pitch[step] not in table:
                continue
            end = step + 1
            while end < 128 and state[end] in (1, 2):
                end += 1
            classes = range(12) if isinstance(table[pitch[step]], str) else table[pitch[step]]
            onset = 2 * (step + shift)
            for name in classes:
                rows.append(
                    (
                        *(onset // 64, onset % 64, 0 if part and task == "accompaniment" else 80),
                        *(name + 12 * (octave[step] - 1), int(octuple.duration_code(np.array(2 * (end - step))))),
                        *(int(VELOCITIES[velocity[step] - 1]) // 4, 9, 35),
                    )
                )
        phrases.append(sorted(rows))
    return phrases


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The table of ids as PiRhDy has it."""
    path = tmp_path / "chord_mapping.pkl"
    path.write_bytes(pickle.dumps(TABLE, protocol=2))
    return path


@pytest.mark.parametrize("task", ["completion", "accompaniment"])
def test_lines_become_the_octuples_of_the_specification(task: str, table: Path) -> None:
    random = np.random.default_rng(1)
    shape = (30, 2, 128)
    columns = [
        random.choice([0, 1, 2, 13, 20, 99], shape),
        random.integers(1, 11, shape),
        random.integers(1, 11, shape),
    ]
    columns.append(random.integers(0, 4, shape))
    lines = np.stack(columns, axis=2).reshape(30, -1)
    for line, phrases in zip(lines, phrases_of(lines, read_ids(str(table)), task), strict=True):
        assert [list(map(tuple, rows.tolist())) for rows in phrases] == reference(line, TABLE, task)


def test_json_and_every_protocol_of_pickle_are_the_same_table(tmp_path: Path, table: Path) -> None:
    expected = read_ids(str(table))
    assert expected.shape == (21, 12) and expected[13].all() and np.flatnonzero(expected[20]).tolist() == [0, 4, 7]
    path = tmp_path / "table"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(TABLE, protocol=protocol))
        np.testing.assert_array_equal(read_ids(str(path)), expected)
    plain = {str(key): value if isinstance(value, str) else sorted(value) for key, value in TABLE.items()}
    path.write_text(json.dumps(plain))
    np.testing.assert_array_equal(read_ids(str(path)), expected)


class Payload:
    """A pickle of it writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_asks_for_more_is_refused_before_it_runs(tmp_path: Path, protocol: int) -> None:
    path, trace = tmp_path / "table.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps({1: {0}, 2: Payload(trace)}, protocol=protocol))
    with pytest.raises(OptionError) as error:
        read_ids(str(path))
    assert not trace.exists()
    assert f"--ids {path}: it asks for " in str(error.value)
    path.write_bytes(b"ceval\nexec\n(S'1'\ntR.")
    with pytest.raises(OptionError, match="it asks for eval.exec"):
        read_ids(str(path))


def test_a_pickle_cannot_take_all_memory(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")  # an empty dict, to be kept in place 2,147,483,647
    with pytest.raises(OptionError, match="it asks for 2147483647 places"):
        read_ids(str(tmp_path / "table"))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\x80", b'{"1": [12]}', b'{"x": [1]}', b'{"1": []}', b'{"1": [0.5]}', b'{"0": [1]}', b"[1]",
        pickle.dumps({1: {True}}), pickle.dumps({1: 0.5}), pickle.dumps([1]), pickle.dumps({10**5000: {1}}),
        pickle.dumps({1: [10**5000]}), pickle.dumps({1: frozenset({0})}), pickle.dumps({}),
    ],
)  # fmt: skip
def test_what_is_no_table_of_pitch_classes_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table").write_bytes(content)
    with pytest.raises(OptionError) as error:
        read_ids(str(tmp_path / "table"))
    assert "accepted is {id: [pitch class, ...] or text}" in str(error.value) and "\n" not in str(error.value)


def test_bad_lines_are_named_and_the_rest_becomes_pairs(
    label_build: Build, labelled_items: Items, table: Path, tmp_path: Path
) -> None:
    source, dest = tmp_path / "context_next", tmp_path / "dest"
    source.mkdir()
    good = line_of({0: (1, 5, 8, 2), 1: (1, 5, 8, 1), 64: (20, 5, 8, 3)}, {0: (2, 6, 3, 3)})
    silent = line_of({0: (1, 5, 8, 3)}, {})
    high = line_of({0: (1, 11, 8, 3)}, {0: (2, 6, 3, 3)})
    text = {True: ",".join(map(str, good)) + ",1\n", False: ",".join(map(str, good)) + ",0\n"}
    lines = [text[True], "1,2,3\n", "\n", text[False], ",".join(map(str, silent)) + ",1\n"]
    lines += [",".join(map(str, high)) + ",1\n", text[True].replace("1\n", "2\n"), text[True].replace("1,", "x,", 1)]
    (source / "train").write_text("".join(lines))
    (source / "test.txt").write_text(text[True] + "\n" + 49 * text[False] + text[False] + 48 * text[False] + text[True])
    options = ("--task", "completion", "--pirhdy", "--ids", table)
    status, said = label_build("phrases", source, dest, *options)
    assert status == 1
    for sentence in (
        f"{source / 'train'}, line 2: 3 numbers, but 1,025 are needed; it is left out.",
        "line 6: octave 11, but 1 to 10 is accepted",
        "line 7: label 2, but 0 and 1 are accepted",
        "line 8: it holds something else than whole numbers",
        "left out: no notes",
    ):
        assert sentence in said
    items = labelled_items(dest, "train")
    pairs = read_pairs(dest, "train", len(items))
    assert pairs.label.tolist() == [1, 0] and pairs.first.tolist() == [0, 2] and pairs.second.tolist() == [1, 3]
    first, second = (octuples_of(IndexedDataset(dest / "train").raw(item)) for item in (0, 1))
    assert first[:, octuple.PITCH].tolist() == [48, 48, 52, 55]
    assert octuple.DURATION_VALUES[first[0, octuple.DURATION]] == 4
    assert second.tolist() == [[0, 6, 80, 67, 2, 31 // 4, 9, 35]], "three steps later, since the first has three ids"
    tested = read_pairs(dest, "test", len(labelled_items(dest, "test")))
    assert len(tested) == 100 and np.bincount(tested.query).tolist() == [50, 50]
    assert len(labelled_items(dest, "valid")) == 0
    again, said = label_build("phrases", source, dest, *options)
    assert again == 1 and "finished already" in said


def test_what_cannot_start_is_told_in_a_sentence(label_build: Build, table: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for options, said in (
        (["--pirhdy"], "one folder, and --ids FILE, are needed"),
        (["--ids", table], "which is not given"),
        (["--pirhdy", "--ids", table], "no file train"),
        (["--pirhdy", "--ids", table, "--one-key"], "are about MIDI files"),
        (["--pirhdy", "--ids", tmp_path / "none"], "no file train"),
    ):
        status, text = label_build("phrases", empty, tmp_path / "dest", "--task", "completion", *options)
        assert status == 2 and said in text
    (empty / "train").write_text("1,2\n")
    status, text = label_build("phrases", empty, tmp_path / "dest", "--task", "completion", "--pirhdy", "--ids", table)
    assert status == 2 and "no pair of it could be used, of 1 lines" in text and not (tmp_path / "dest").exists()
