"""Requests: a line that can be read gives classes, whose words give the same classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from musicbert_plugin.codecs.requests import parse_request, request_words

CASES = 600


def seeds() -> list[bytes]:
    """Requests in words and in command words."""
    return [
        b"piano violin no-drum key=minor tempo=slow bars=16",
        b"meter=3/4 octaves=4 seconds=30 danceable=yes intensity=calm genre=pop,rock artist=bach emotion=q1",
        b"I1s2_0_0 K1_1 B1s1_3 TM1_2 <sep>",
    ]


def check(data: bytes, folder: Path) -> None:
    """Read every line and write it again."""
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        classes = parse_request(line)
        assert np.array_equal(parse_request(request_words(classes)), classes), line
