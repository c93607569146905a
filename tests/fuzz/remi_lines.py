"""Lines of REMI words in every layout, and what fairseq prints of them, as ``preprocess.remi decode`` reads them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from musicbert_plugin.codecs import remi
from preprocess.remi import decode

CASES = 120


def seeds() -> list[bytes]:
    """Lines with and without a prefix, and lines of fairseq-generate."""
    music = "s-9 o-0 t-26 i-0 p-60 d-12 v-20 p-64 d-12 v-20 o-24 t-26 i-128 p-164 d-1 b-1 s-9 o-6 i-25 p-40 d-3 v-9 b-1"
    plain = "o-0 i-0 p-60 d-12 p-64 d-12 o-24 i-128 p-164 d-1 b-1"
    prefix = "I1s2_0_1 K1_0 TS1s1_2"
    printed = f"S-3\t{prefix}\nH-3\t-0.5\t{music}\nP-3\t-0.1 -0.2\nH-12\t-0.7\t{plain}\n"
    return [f"{music}\n{prefix} <sep> {music}\n{plain}\n".encode(), printed.encode()]


def check(data: bytes, folder: Path) -> None:
    """Decode a file of lines, as they look and in a layout that depends on their number."""
    path = folder / "lines.txt"
    path.write_bytes(data)
    layout = (None, *remi.LAYOUTS)[len(data) % (1 + len(remi.LAYOUTS))]
    with contextlib.redirect_stderr(io.StringIO()):
        decode(str(path), str(folder / "music"), layout, "4/4")
