"""Lines of OctupleMIDI words, and what fairseq prints of them, as ``preprocess.octuple decode`` reads them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from preprocess.engine.encode_decode import decode_lines
from preprocess.octuple import score_of

CASES = 200


def seeds() -> list[bytes]:
    """Lines with and without specials, and lines of fairseq-generate."""
    notes = "<0-0> <1-0> <2-0> <3-60> <4-16> <5-16> <6-0> <7-30> <0-1> <1-32> <2-128> <3-164> <4-0> <5-20> <6-3> <7-40>"
    framed = " ".join(["<s>"] * 8 + [notes] + ["</s>"] * 8)
    printed = f"S-0\t{notes}\nT-0\t{notes}\nH-0\t-0.5\t{framed}\nD-0\t-0.5\t{notes}\nH-1\t-1\t{notes}\n"
    return [f"{notes}\n{framed}\n".encode(), printed.encode()]


KEPT = {"a superscript": "H-²\t0\t<0-0>".encode(), "many digits": b"H-" + b"9" * 5000 + b"\t0\t<0-0>"}
"""Files that once ended in a traceback."""


def check(data: bytes, folder: Path) -> None:
    """Decode a file of lines; repairs are printed to stderr."""
    path = folder / "lines.txt"
    path.write_bytes(data)
    with contextlib.redirect_stderr(io.StringIO()):
        decode_lines(str(path), str(folder / "music"), score_of)
