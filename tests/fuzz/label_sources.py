"""What labels of notes are made of: answers and means of listeners, splits, beats, annotations and tables of pitch ids.

The first byte of an input says which of them it is.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

from preprocess.engine.annotations import harmony_class, parse_spans
from preprocess.engine.beats import parse_beats
from preprocess.label_kinds.expression import read_expression, read_segment_split
from preprocess.label_kinds.pirhdy import Lines, phrases_of, read_ids

CASES = 300
_TABLE = {1: {0, 4}, 2: [7], 3: (1,), 13: "unknown", 14: 5}
_ANSWERS = "user,filename,Question_1,Question_2,message\na,W_8bars_1_1.wav,3,0,hello\nb,W_8bars_1_1.wav,7,8,\n"

KEPT = {
    "a whole number beyond the largest double": b'j{"a": [' + b"9" * 400 + b"]}",
    "a pickle that asks for gigabytes": b"p\x80\x02}r\xff\xff\xff\x7f.",
}
"""Inputs that once ended in a traceback, or took all memory."""


def seeds() -> list[bytes]:
    """One of each kind, and the table in every protocol."""
    line = b",".join([b"1"] * 256 + [b"3"] * 768 + [b"1"])
    plain = {str(key): value if isinstance(value, str) else [3] for key, value in _TABLE.items()}
    found = [
        b"c" + _ANSWERS.encode(),
        b"j" + json.dumps({"a": [0.5, None, 3], "b": [0.25, 0.5, 4]}).encode(),
        b"s" + json.dumps({"a": {"train": ["x"], "valid": ["y"]}}).encode(),
        b"b" + b"0.5 1 1\n1.0 0 0\n1.5 1 0\n",
        b"a" + b"0 1 C:maj\n1\t2\tF#:min7/b3\n",
        b"l" + line + b"\n" + line + b"\n1,2\n",
        b"p" + json.dumps(plain).encode(),
    ]
    return found + [b"p" + pickle.dumps(_TABLE, protocol=protocol) for protocol in range(6)]


def check(data: bytes, folder: Path) -> None:
    """Read it as ``preprocess.labels`` does."""
    kind, content = data[:1], data[1:]
    path = folder / {b"j": "a.json", b"c": "a.csv"}.get(kind, "a")
    if kind in (b"a", b"b"):
        text = content.decode("utf-8", "replace")
        if kind == b"b":
            parse_beats(text, "a.txt")
        else:
            for label in parse_spans(text, "a.txt").labels:
                harmony_class(label)
        return
    path.write_bytes(content)
    if kind in (b"j", b"c"):
        for aggregate in ("kde", "all") if kind == b"c" else ("mean",):
            read_expression(str(path), aggregate)
    elif kind == b"s":
        read_segment_split(str(path), "a")
    elif kind == b"l":
        (folder / "ids").write_bytes(pickle.dumps(_TABLE))
        for _, table, _ in Lines(path).blocks():
            phrases_of(table, read_ids(str(folder / "ids")), "completion")
    else:
        read_ids(str(path))
