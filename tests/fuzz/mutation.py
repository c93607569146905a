"""Ways to damage an input: of bytes, of lines of words, and of trees of plain values (JSON, YAML).

Every function takes a ``random.Random``, so that a seed and a case number give the same input again.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    15,
    16,
    127,
    128,
    255,
    256,
    1000,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
NUMBERS += (2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 10**30, -1, -2, -128, -(2**31), -(2**63))
"""Numbers at which formats and number types end."""

WORDS = tuple(
    text.encode()
    for text in (
        *(
            "",
            "-",
            "-1",
            "+1",
            "0",
            "00",
            "1e999",
            "-1e999",
            "nan",
            "inf",
            "1.5",
            "0x10",
            "1_000",
            "²",
            "٣",
            "½",
            "9" * 400,
        ),
        *(
            "\0",
            "\t",
            "\r\n",
            "\u2028",
            "\x85",
            "\ufeff",
            "é",
            "e\u0301",
            "\U0001f3b5",
            "..",
            "/",
            "\\",
            "'",
            '"',
            "%s",
            "{}",
        ),
        *("null", "true", "[]", "{}", "[[", "NaN", "<s>", "</s>", "<sep>", "<unk>", "<pad>"),
    )
) + (b"\xff", b"\xed\xa0\x80", b"\xc3\x28")
"""Pieces of text that readers of numbers, names and lines get wrong; the last are no UTF-8."""


def mutate_bytes(
    data: bytes, rng: random.Random, words: Sequence[bytes] = WORDS, others: Sequence[bytes] = ()
) -> bytes:
    """Damage bytes in one to four places; ``others`` are inputs that a part may be taken from."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        data = rng.choice(_OF_BYTES)(data, rng, words, others)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """An index into the data, at the beginning half of the time, where headers are."""
    limit = len(data) if rng.random() < 0.5 else min(len(data), 64)
    return rng.randrange(limit + 1)


def _flip(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    out = bytearray(data)
    if out:
        out[min(_place(data, rng), len(out) - 1)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _replace_byte(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    out = bytearray(data)
    if out:
        out[min(_place(data, rng), len(out) - 1)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(out)


def _cut(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + rng.choice((1, 2, 4, 8, rng.randrange(1 + len(data)))) :]


def _truncate(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    return data[: _place(data, rng)]


def _insert(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    place = _place(data, rng)
    inserted = rng.choice(
        (rng.randbytes(rng.randrange(1, 9)), rng.choice(words or WORDS), bytes(rng.randrange(1, 600)))
    )
    return data[:place] + inserted + data[place:]


def _repeat(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    start = _place(data, rng)
    part = data[start : start + rng.randrange(1, 40)]
    return data[:start] + part * rng.choice((2, 2, 3, 50)) + data[start:]


def _integer(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    size, place = rng.choice((1, 2, 4, 8)), _place(data, rng)
    number = rng.choice(NUMBERS) % 256**size
    return data[:place] + number.to_bytes(size, rng.choice(("little", "big"))) + data[place + size :]


def _text_number(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[: 1 << 16]))
    if not found:
        return _integer(data, rng, words, others)
    number = rng.choice(found)
    instead = rng.choice((str(rng.choice(NUMBERS)).encode(), rng.choice(WORDS)))
    return data[: number.start()] + instead + data[number.end() :]


def _splice(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else data
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _shuffle_words(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    by = rng.choice((b"\n", b" "))
    parts = data.split(by)
    if len(parts) < 2:
        return _insert(data, rng, words, others)
    start = rng.randrange(len(parts))
    some = parts[start : start + rng.randrange(2, 9)]
    rng.shuffle(some)
    return by.join(parts[:start] + some + parts[start + len(some) :])


_OF_BYTES = (
    *(_flip, _flip, _replace_byte, _replace_byte, _cut, _truncate, _insert, _insert, _repeat, _integer, _integer),
    *(_text_number, _text_number, _splice, _shuffle_words),
)


def odd_value(rng: random.Random) -> Any:
    """A plain value that a reader may not expect."""
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice((None, True, False, "", [], {}, 0.5, float("nan"), float("inf"), -0.0))
    if kind == 2:
        return rng.choice(WORDS).decode("utf-8", "replace")
    if kind == 3:
        return [odd_value(rng) for _ in range(rng.randrange(4))]
    if kind == 4:
        return {rng.choice(("a", "", "0", "type", "name")): odd_value(rng) for _ in range(rng.randrange(3))}
    if kind == 5:
        value: Any = []
        for _ in range(rng.choice((3, 60))):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value
    return "x" * rng.choice((1, 300, 5000))


def mutate_tree(value: Any, rng: random.Random) -> Any:
    """Damage a tree of dicts, lists and plain values in one place, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        out = dict(value)
        key = rng.choice(list(out))
        action = rng.random()
        if action < 0.1:
            del out[key]
        elif action < 0.2:
            out[rng.choice((key, "", "0", "a" * 300, "é", "__metadata__"))] = odd_value(rng)
        elif action < 0.3:
            other = rng.choice(list(out))
            out[key], out[other] = out[other], out[key]
        elif action < 0.35:
            items = list(out.items())
            rng.shuffle(items)
            out = dict(items)
        else:
            out[key] = mutate_tree(out[key], rng)
        return out
    if isinstance(value, list) and value and rng.random() < 0.8:
        items = list(value)
        index = rng.randrange(len(items))
        action = rng.random()
        if action < 0.15:
            del items[index]
        elif action < 0.3:
            items.insert(index, rng.choice((items[index], odd_value(rng))))
        elif action < 0.4:
            rng.shuffle(items)
        else:
            items[index] = mutate_tree(items[index], rng)
        return items
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice((value + 1, value - 1, -value, value * 2, value / 3 if abs(value) < 1e300 else 0.5, *NUMBERS))
    return odd_value(rng)


def mutate_json(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Damage JSON in its tree, or, a quarter of the time and where it is none, in its bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng, others=others)
    if rng.random() < 0.25:
        return mutate_bytes(data, rng, others=others)
    if rng.random() < 0.02:
        depth = rng.choice((500, 5000, 100_000))
        return rng.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = mutate_tree(value, rng)
    return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
