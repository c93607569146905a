"""Folders of generated music: what was answered is kept when a run is stopped, and earlier answers are replaced.

Beside the music lies a journal, ``answers.jsonl``.  Its first line describes the run: the kind of answers, the model
and all options on which the music depends, the seed among them.  Every other line is one answer:

=========  ===========================================================
``line``   number of the request, from 0
``request``  its words
``pieces``   what the generator wrote: ids, log-probabilities and the like
``files``    name and sha256 of each file
=========  ===========================================================

An answer is written to the journal first and then to its files, so that a run which is stopped at any moment leaves no
file that the journal does not know.  A later run into the folder

* with the same description keeps the answers to the requests that are the same, and gives the others: the same command
  goes on, and the result is that of a run which was never stopped;
* with another description removes all earlier answers;
* is refused if the folder holds answers of another kind, or a file of the same name as an answer that is not in the
  journal or was changed since, or if another run writes there at the time.

Pure Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import UNFINISHED, FolderLock, atomic_path

JOURNAL = "answers.jsonl"
LOCK = ".lock"
"""The file that is locked while a run writes to the folder; see :class:`~.files.FolderLock`."""
FORMAT = 1
_NUMBERED = re.compile(r"\d+(\.\d+)?\.mid")


def midi_name(line: int, piece: int = 0) -> str:
    """The file of a piece of request ``line``: ``3.mid``, then ``3.1.mid``, ``3.2.mid``, ... for further pieces."""
    return f"{line}.{piece}.mid" if piece else f"{line}.mid"


def _is_answer(answer: Any) -> bool:
    """Whether a line of a journal has the form of an answer, whose files are in the folder itself."""
    types = {"line": int, "request": str, "pieces": list, "files": dict}
    return all(isinstance(answer[name], kind) for name, kind in types.items()) and all(
        Path(name).name == name and isinstance(digest, str) for name, digest in answer["files"].items()
    )


class AnswerFolder:
    """A folder with the answers to requests, which is locked until :meth:`close`, or the end of the object.

    Parameters
    ----------
    path : Path
        The folder, which is made if it is missing.
    kind : str
        What the answers are, such as ``"music"``.
    description : mapping
        All that the music depends on besides the requests; values that JSON has.
    requests : sequence of str
        All requests of the run.
    names : sequence of str
        Names of files that answers may have, besides those of :func:`midi_name`.
    keep : bool
        Whether answers of an earlier run with the same description are kept.

    Raises
    ------
    OptionError
        The folder cannot be written, holds something that would be lost, or is that of another run at the time.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: str,
        description: Mapping[str, Any],
        requests: Sequence[str],
        *,
        names: Sequence[str] = (),
        keep: bool = True,
    ) -> None:
        self.path, self.requests = Path(path), list(requests)
        self._journal = self.path / JOURNAL
        header = {"format": FORMAT, "kind": kind, **json.loads(json.dumps(description, default=str))}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path / LOCK)
        except BlockingIOError:
            raise OptionError(
                f"{self.path}: another run writes there; wait for its end or name another folder."
            ) from None
        except OSError as error:
            raise OptionError(f"{self.path}: cannot be written ({error.strerror or error}).") from None
        try:
            before, answers = self._read(kind)
            self._check_own({name: digest for answer in answers for name, digest in answer["files"].items()}, names)
            self.answers: dict[int, dict[str, Any]] = {}
            for answer in answers:
                if keep and before == header and self._stands(answer):
                    self.answers[answer["line"]] = answer
            kept = {name for answer in self.answers.values() for name in answer["files"]}
            with atomic_path(self._journal) as unfinished:
                # Files of answers that are not kept stay in the journal until they are removed.
                unfinished.write_text("".join(json.dumps(line) + "\n" for line in [before or header, *answers]))
            for name in [name for answer in answers for name in answer["files"] if name not in kept]:
                (self.path / name).unlink(missing_ok=True)
            with atomic_path(self._journal) as unfinished:
                unfinished.write_text("".join(json.dumps(line) + "\n" for line in [header, *self.answers.values()]))
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise OptionError(f"{self.path}: cannot be written ({error.strerror or error}).") from None
            raise

    def close(self) -> None:
        """Let other runs write to the folder; nothing may be added after this."""
        self._lock.release()

    def _read(self, kind: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """The first line of the journal and its answers; None and nothing without a journal."""
        if not self._journal.exists():
            return None, []
        sentence = f"{self._journal} is not the journal of generated music; another folder is needed, or an empty one."
        try:
            *lines, last = self._journal.read_text(encoding="utf-8").split("\n")
            header, *answers = map(json.loads, lines)  # the last line is empty, or was being written
            known = header["format"] == FORMAT and all(map(_is_answer, answers))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise OptionError(sentence) from None
        if not known:
            raise OptionError(sentence)
        if header["kind"] != kind:
            raise OptionError(f"{self.path} holds generated music of kind '{header['kind']}': name another folder.")
        return header, answers

    def _check_own(self, own: Mapping[str, str], names: Sequence[str]) -> None:
        """Refuse files that an answer would replace, or that would be taken for one."""
        for path in sorted(self.path.iterdir()):
            name = path.name.removesuffix(UNFINISHED)
            if not (_NUMBERED.fullmatch(name) or name in names or name in own):
                continue
            if path.name != name:
                path.unlink()  # a run was stopped while it wrote this file
            elif own.get(name) != hashlib.sha256(path.read_bytes()).hexdigest():
                state = "was changed since it was generated" if name in own else "is not of an earlier run"
                raise OptionError(f"{path} {state}: move it, or name another folder.")

    def _stands(self, answer: dict[str, Any]) -> bool:
        """Whether an answer is to a request of this run, and its files are there."""
        line = answer["line"]
        return (
            line < len(self.requests)
            and answer["request"] == self.requests[line]
            and all((self.path / name).is_file() for name in answer["files"])
        )

    def add(self, line: int, files: Mapping[str, bytes], pieces: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep an answer.

        Parameters
        ----------
        line : int
        files : mapping of str to bytes
            Name and content of each file.
        pieces : sequence of mapping
            What :attr:`answers` should give back of each piece; values that JSON has.
        """
        answer = {
            "line": line,
            "request": self.requests[line],
            "pieces": list(pieces),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        try:
            with open(self._journal, "a", encoding="utf-8") as journal:
                journal.write(json.dumps(answer) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
            for name, content in files.items():
                with atomic_path(self.path / name) as unfinished:
                    unfinished.write_bytes(content)
        except OSError as error:
            raise OptionError(f"{self.path}: cannot be written ({error.strerror or error}).") from None
        self.answers[line] = answer
