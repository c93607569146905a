"""Lines of words: what ``fairseq-generate`` and ``fairseq-interactive`` print, or one piece of music per line.

fairseq's lines begin with ``S-`` (prefix), ``T-`` (reference) or ``H-`` (music, behind its score), each followed by the
number of the sample or of the line; fields are separated by tabs, and other lines are passed over.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from musicbert_plugin.errors import OptionError
from musicbert_plugin.parsing import whole_number


@dataclass
class Lines:
    """A file of lines by kind: music, and of what fairseq printed also prefixes and references.

    Attributes
    ----------
    music : list of (number, words)
        Several of one number are several hypotheses.
    prefixes, references : dict
        From number to words.
    printed_by_fairseq : bool
    """

    music: list[tuple[int, str]] = field(default_factory=list)
    prefixes: dict[int, str] = field(default_factory=dict)
    references: dict[int, str] = field(default_factory=dict)
    printed_by_fairseq: bool = False


def read_text_lines(path: str | Path, what: str) -> list[str]:
    """The lines of a text file, or of ``-``, standard input.

    Raises
    ------
    OptionError
        Not there, or not text.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise OptionError(f"{path}: cannot be read ({reason}); {what} is needed.") from None
    return text.splitlines()


def read_lines(path: str | Path) -> Lines:
    """Read lines of music, or what ``fairseq-generate`` or ``fairseq-interactive`` printed.

    Raises
    ------
    OptionError
        Not a file of text, or a line that fairseq would not print.
    """
    lines = read_text_lines(path, "a file of lines of music words, or what fairseq-generate printed,")
    if not any(line.startswith("H-") for line in lines):
        return Lines(list(enumerate(lines)))
    out = Lines(printed_by_fairseq=True)
    for line in lines:
        kind, fields = line[:2], line.split("\t")
        if kind not in ("S-", "T-", "H-"):
            continue
        # A prefix or a reference without a word ends before the tab.
        number, words = whole_number(fields[0][2:]), fields[-1] if len(fields) > 1 else ""
        if number is None or (kind == "H-" and len(fields) != 3):
            raise OptionError(f"{path}: the line {fields[0][:80]!r} is not {kind}<id> and words, separated by tabs.")
        if kind == "H-":
            out.music.append((number, words))
        else:
            (out.prefixes if kind == "S-" else out.references)[number] = words
    return out
