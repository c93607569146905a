"""The errors that a user of this plugin can meet: each names in one sentence the file, the value and what is accepted.

Commands catch :class:`MusicError`, print its sentence to stderr and end with status 2 (cannot start) or go on with the
next input and end with status 1 (a file failed).  Anything else that is raised is a defect of ours and keeps its
traceback.  Pure Python: every layer of the plugin, worker processes included, may import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from musicbert_plugin.files import shown


class MusicError(Exception):
    """Something in the user's input, data or options; ``str(error)`` is the one sentence to show.

    File names in it are text, whatever bytes they hold (see ``files``).
    """

    def __str__(self) -> str:
        return shown(super().__str__())


class ScoreError(MusicError):
    """A music file that cannot become a score.

    ``reason`` is a short fixed word for manifests and summaries (such as ``"unreadable"`` or ``"no notes"``);
    the sentence gives the details; ``sidecars`` holds what the sidecars of a dataset count.
    """

    def __init__(self, reason: str, sentence: str, sidecars: dict[str, object] | None = None) -> None:
        super().__init__(reason, sentence)
        self.reason = reason
        self.sentence = shown(sentence)
        self.sidecars = sidecars or {}

    def __str__(self) -> str:
        return self.sentence


class RecordingError(ScoreError):
    """An audio or feature file that cannot become a clip.

    Reasons: ``"undecodable"``, ``"too short"``, ``"too long"``, ``"silent"``, ``"NaN"`` and ``"not features"``.
    """


class DatasetError(MusicError):
    """A dataset folder that is missing, unfinished, newer than this code, or made with another dictionary."""


class CheckpointError(MusicError):
    """A checkpoint that is missing, refused for what it carries, or of another architecture."""


class OptionError(MusicError):
    """An option, or a combination of options, that cannot work."""


def suggestion(word: str, accepted: Mapping[str, str]) -> str:
    """A question for a message, `` (did you mean 'drum'?)``; empty if no accepted word is similar.

    Similar are words that differ in case, of which one begins with the other (of at least three characters), or that
    ``difflib`` takes for close matches.

    Parameters
    ----------
    word : str
        What the user wrote.
    accepted : mapping
        From words that a user may have meant to what is to be written for them.
    """
    written = word.lower()
    known = {text.lower(): answer for text, answer in reversed(list(accepted.items()))}
    beginnings = [text for text in known if min(len(text), len(written)) >= 3 and _one_begins(text, written)]
    close = difflib.get_close_matches(written, known, n=1, cutoff=0.7)
    if written in known:
        found = written
    elif beginnings:
        found = max(beginnings, key=lambda text: (min(len(text), len(written)), -len(text)))
    elif close:
        found = close[0]
    else:
        return ""
    return f" (did you mean {known[found]!r}?)"


def _one_begins(first: str, second: str) -> bool:
    return first.startswith(second) or second.startswith(first)
