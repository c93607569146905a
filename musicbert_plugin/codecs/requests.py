"""Requests: lines of words that specify attributes of music, converted to class vectors and back.

A request is a line such as ``piano violin no-drum key=minor tempo=slow bars=16``, or command words (``K1_1``), in any
order and case.  In its class vector (see :mod:`musicbert_plugin.codecs.attributes`), attributes that it does not
mention are NA.  ``bars`` and ``seconds`` select the class of a range.  Which attributes generation guarantees is the
subject of :mod:`musicbert_plugin.codecs.request_limits`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from musicbert_plugin.codecs.attributes import (
    ARTISTS,
    BARS_PER_CLASS,
    EMOTION_WORDS,
    EMOTIONS,
    GENRES,
    INSTRUMENTS,
    KEYS,
    LONGEST_PIECE,
    METERS,
    MODES,
    NA,
    NO,
    OTHER_METER,
    SECONDS,
    SLOT_CLASSES,
    SLOT_ID,
    SLOT_KEY,
    SLOT_OF,
    YES,
    tempo_class,
)
from musicbert_plugin.codecs.remi import WORDS
from musicbert_plugin.errors import OptionError, suggestion
from musicbert_plugin.parsing import shortened, whole_number

_TEMPO_WORDS = ("slow", "moderate", "fast")
_INTENSITY_WORDS = ("calm", "moderate", "intense")
_METER_WORDS = (*(f"{n}/{d}" for n, d in METERS), OTHER_METER)
# Words before "=", with their attribute and, except for numbers, the accepted words after it.
_CHOICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "key": ("K1", MODES),
    "tempo": ("T1s1", _TEMPO_WORDS),
    "bars": ("B1s1", ()),
    "meter": ("TS1s1", _METER_WORDS),
    "octaves": ("P4", tuple(map(str, range(12)))),
    "seconds": ("TM1", ()),
    "danceable": ("R1", ("yes", "no")),
    "intensity": ("R3", _INTENSITY_WORDS),
    "genre": ("S4", tuple(name.replace(" ", "_") for name in GENRES)),
    "artist": ("S2s1", ARTISTS),
    "emotion": ("EM1", (*EMOTIONS, *EMOTION_WORDS)),
}
INSTRUMENT_WORDS = tuple(name.replace(" ", "_") for name in INSTRUMENTS)
_COMMAND_WORDS = {
    WORDS[first + number].lower(): (slot, number)
    for slot, (first, classes) in enumerate(zip(SLOT_ID.tolist(), SLOT_CLASSES.tolist(), strict=True))
    for number in range(classes)
}
# What a user may have meant, and how it is written.
_WRITTEN = {
    **{word: word for name in INSTRUMENT_WORDS for word in (name, f"no-{name}")},
    **{f"{name}={value}": f"{name}={value}" for name, (_, values) in _CHOICES.items() for value in values},
    **{
        value: f"{name}={value}"
        for name, (_, values) in reversed(_CHOICES.items())
        for value in values
        if whole_number(value) is None and value != OTHER_METER
    },
}


def accepted_words() -> str:
    """The words that a request may hold, listed for a message."""
    choices = ", ".join(
        f"{name}={'|'.join(values) if values else '1..16' if name == 'bars' else 'N'}"
        for name, (_, values) in _CHOICES.items()
    )
    return f"{', '.join(INSTRUMENT_WORDS)}, each of these with no- before it, {choices}, and command words such as K1_1"


def parse_request(line: str) -> np.ndarray:
    """The class vector, uint8 [63], of words such as ``piano no-drum key=minor bars=16`` or ``I1s2_0_0 K1_1``.

    A final ``<sep>`` is ignored.

    Raises
    ------
    OptionError
        A word is unknown, two words contradict each other, or every instrument is excluded.
    """
    words = line.split()
    if words and words[-1] == "<sep>":
        words.pop()
    requested: dict[int, tuple[int, str, str]] = {}  # by slot: class, detail, word
    for word in words:
        for slot, number, detail in _meaning(word):
            before = requested.setdefault(slot, (number, detail, word))
            if before[0] != number or (before[1] and detail and before[1] != detail):
                raise OptionError(f"{before[2]} and {word} contradict each other; give one of them.")
    out = NA.copy()
    for slot, (number, _, _) in requested.items():
        out[slot] = number
    first = SLOT_OF["I1s2"]
    if (out[first : first + len(INSTRUMENTS)] == NO).all():
        raise OptionError("the request excludes every instrument; at least one is needed.")
    return out


def _meaning(word: str) -> list[tuple[int, int, str]]:
    """The (slot, class, exact value if the class is a range) of a word of a request."""
    text = word.lower()
    if text in _COMMAND_WORDS:
        return [(*_COMMAND_WORDS[text], "")]
    negative = text.startswith("no-")
    if text[3 * negative :] in INSTRUMENT_WORDS:
        slot = SLOT_OF["I1s2"] + INSTRUMENT_WORDS.index(text[3 * negative :])
        return [(slot, NO if negative else YES, "")]
    name, equals, value = text.partition("=")
    if not equals or name not in _CHOICES or ("," in value and name != "genre"):
        raise OptionError(f"{word!r} is not an attribute{_meant(text)}; accepted: {accepted_words()}.")
    key, values = _CHOICES[name]
    slot = SLOT_OF[key]
    if name in ("bars", "seconds"):
        number = _number(word, value, whole=name == "bars")
        if name == "bars":
            if not 1 <= number <= LONGEST_PIECE:
                raise OptionError(f"{shortened(word)}: accepted is bars=1 to bars={LONGEST_PIECE}.")
            return [(slot, int(number - 1) // BARS_PER_CLASS, repr(number))]
        if not 0 < number < float("inf"):
            raise OptionError(f"{word!r}: accepted is a finite number of seconds above 0.")
        return [(slot, int(np.searchsorted(SECONDS, number)), repr(number))]
    lower = [choice.lower() for choice in values]
    parts = value.split(",") if name == "genre" else [value]
    for part in parts:
        if part not in lower:
            meant = suggestion(part, {choice: f"{name}={choice}" for choice in values})
            raise OptionError(f"{word!r} is not a value of {name}{meant}; accepted: {name}= and {', '.join(values)}.")
    if name == "genre":
        return [(slot + lower.index(part), YES, "") for part in parts]
    number = lower.index(value)
    return [(slot, number % len(EMOTIONS) if name == "emotion" else number, "")]


def _meant(text: str) -> str:
    """What to write instead of an unknown word in lower case, for a message; empty if nothing is similar."""
    parts = [part for part in re.split(r"[,;+&]", text) if part]
    if parts and parts != [text]:
        return f" (words are separated by spaces, not by other signs: {' '.join(parts)})"
    name, _, value = text.partition("=")
    if name == "bpm" and re.fullmatch(r"\d{1,4}(\.\d+)?", value):
        return f" (did you mean 'tempo={_TEMPO_WORDS[int(tempo_class(float(value)))]}'?)"
    return suggestion(text, _WRITTEN) or suggestion(
        name, {name: f"{name}={value}" for name in _CHOICES} if value else {}
    )


def _number(word: str, text: str, whole: bool) -> float:
    number: float | None = whole_number(text) if whole else None
    with contextlib.suppress(ValueError):
        number = number if whole else float(text)
    if number is None:
        kind = "whole number" if whole else "number"
        raise OptionError(f"{shortened(word)}: a {kind} is needed after the equals sign.")
    return number


def request_words(classes: np.ndarray, values: Mapping[str, Any] | None = None) -> str:
    """The line that :func:`parse_request` reads as a class vector.

    Parameters
    ----------
    classes : uint8 [63]
    values : mapping, optional
        The result of :func:`.attributes.extract`; it gives the exact bars and seconds, which are otherwise the largest
        of their class.
    """
    values = values or {}
    words = []
    for slot in np.flatnonzero(classes != NA).tolist():
        key, number = KEYS[SLOT_KEY[slot]], int(classes[slot])
        member = slot - SLOT_OF[key]
        if key == "I1s2":
            words.append(("no-" if number == NO else "") + INSTRUMENT_WORDS[member])
        elif key == "B1s1":
            words.append(f"bars={values[key][0] if values.get(key) else BARS_PER_CLASS * (number + 1)}")
        elif key == "TM1":
            seconds = int(-(-values[key][0] // 1)) if values.get(key) else 15 * (number + 1)
            words.append(f"seconds={seconds}")
        elif key == "S4" and number == YES:
            words.append(f"genre={GENRES[member].replace(' ', '_')}")
        else:
            name = next((name for name, (other, _) in _CHOICES.items() if other == key and key != "S4"), None)
            words.append(f"{name}={_CHOICES[name][1][number]}" if name else WORDS[SLOT_ID[slot] + number])
    return " ".join(words)
