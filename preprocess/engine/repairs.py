"""Repairs of source files in journals and manifests, and the notes that a synthesiser plays with another program.

A line about a file has ``repaired``, the number of its repairs, and ``repairs``, from kind to number, unless all are
data bytes above 127 (as lines before version 0.2.0, which knew no other kind, say).  ``other_program`` is the number of
its notes that a synthesiser plays with another program (see ``codecs.score.Score``).  Each is absent if it is 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from musicbert_plugin.codecs.midi_bytes import HIGH_BYTE

ENTRIES = ("repaired", "repairs", "other_program")


def entries_of(repairs: Mapping[str, int], other_program: int = 0) -> dict[str, Any]:
    """The entries of a line."""
    entries: dict[str, Any] = {}
    if repairs:
        entries["repaired"] = sum(repairs.values())
        if set(repairs) != {HIGH_BYTE}:
            entries["repairs"] = dict(sorted(repairs.items()))
    if other_program:
        entries["other_program"] = other_program
    return entries


def repairs_in(line: Mapping[str, Any]) -> dict[str, int]:
    """The repairs that a line tells of, from kind to number."""
    if "repaired" not in line:
        return {}
    return line.get("repairs") or {HIGH_BYTE: line["repaired"]}


def summary_of(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the lines of all files tell, a sentence for each kind of repair and one for other programs."""
    counts: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        for kind, count in repairs_in(line).items():
            counts[f"repaired: {kind.partition(',')[0]:<24}"].append(count)
        if "other_program" in line:
            counts[f"{'notes of another program in a synthesiser:':<34}"].append(line["other_program"])
    return [f"{kind}{sum(found):>10,}  in {len(found):,} files" for kind, found in sorted(counts.items())]
