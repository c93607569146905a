"""The folder that a dataset is written to: no file appears under its final name before the dataset is complete.

The work folder of a build that has ended is first renamed, in one step, and then removed: whenever a build is killed,
its work folder is either whole or no longer there.  The next run removes what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musicbert_plugin.data.dataset_folder import read_config
from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import FolderLock, atomic_path
from musicbert_plugin.parsing import read_json

WORK, ENDED = ".build", ".build.ended"


class Destination:
    """The folder that a dataset is written to, and the state of an earlier build in it.

    Parameters
    ----------
    folder : Path
    description : dict
        All options and versions that determine the bytes of the dataset.
    names : list of str
        The files of the dataset; the two that readers open first are last.
    optional : sequence of str
        Files that it may have besides.

    Attributes
    ----------
    work : Path
        The work folder.
    finished, begun : bool
        Whether the folder holds a dataset, or an unfinished build, with this description.

    Raises
    ------
    OptionError
        The folder cannot be written, or holds other files or a dataset with another description.
    """

    def __init__(
        self, folder: Path, description: dict[str, Any], names: list[str], optional: Sequence[str] = ()
    ) -> None:
        self.folder, self.work, self._names = folder, folder / WORK, names
        self._optional = list(optional)
        self._description = description
        self.made = not folder.exists()
        self._lock: FolderLock | None = None
        try:
            self.finished = self._is_finished()
            self.begun = (self.work / "options.json").is_file()
            if self.begun:
                self._compare(read_json(self.work / "options.json"), "an unfinished build")
            elif not self.finished:
                present = [name for name in [*names, *optional] if (folder / name).exists()]
                if present:
                    raise OptionError(f"{folder}: holds {present[0]} already; an empty or a new folder is needed.")
        except (OSError, ValueError) as error:
            raise OptionError(f"{folder}: cannot be used ({getattr(error, 'strerror', None) or error}).") from None

    def _is_finished(self) -> bool:
        config = self.folder / "config.json"
        if not config.is_file():
            return False
        self._compare(read_config(config).get("build", {}), "a dataset")
        return all((self.folder / name).is_file() for name in self._names)

    def _compare(self, other: dict[str, Any], what: str) -> None:
        if not isinstance(other, dict):
            raise OptionError(
                f"{self.folder}: holds {what} whose options are damaged; choose another --dest or remove it."
            )
        mine = json.loads(json.dumps(self._description))
        different = sorted(key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key))
        if different:
            key = different[0]
            raise OptionError(
                f"{self.folder}: holds {what} made with another {key.replace('_', ' ')} ({other.get(key)!r}, here "
                f"{mine.get(key)!r}); choose another --dest or remove it."
            )

    def begin(self) -> None:
        """Make the folder and lock it against other builds."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._remove_ended()
            self._lock = FolderLock(self.work / "lock")
            if not self.begun:
                with atomic_path(self.work / "options.json") as unfinished:
                    unfinished.write_text(json.dumps(self._description))
        except BlockingIOError:
            raise OptionError(f"{self.folder}: another build is writing there.") from None
        except OSError as error:
            raise OptionError(f"{self.folder}: cannot be written ({error.strerror or error}).") from None

    def give_up(self) -> None:
        """Remove the work folder of a build that cannot succeed, and the folder if this build made it."""
        self.clean()
        if self.made:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def clean(self) -> None:
        """Remove the work folder."""
        if self._lock is not None:
            self._lock.release()
        self._remove_ended()
        with contextlib.suppress(OSError):
            os.rename(self.work, self.folder / ENDED)
        self._remove_ended()

    def _remove_ended(self) -> None:
        shutil.rmtree(self.folder / ENDED, ignore_errors=True)

    def finish_cleaning(self) -> None:
        """Remove what a build that was killed while it cleaned has left beside a finished dataset.

        Older versions removed their work folder file by file, so that a part of it may be left.
        """
        self._remove_ended()
        with contextlib.suppress(OSError):
            self._lock = FolderLock(self.work / "lock")
            self.clean()

    def new_output(self) -> Path:
        """Make an empty folder for the files of the dataset, which :meth:`publish` moves."""
        out = self.work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        return out

    def publish(self) -> None:
        """Move every file to its final name; the two that readers open first are removed first and moved last."""
        for name in self._names[-2:]:
            (self.folder / name).unlink(missing_ok=True)
        for name in [*self._optional, *self._names]:
            if name in self._optional and not (self.work / "out" / name).exists():
                continue
            os.replace(self.work / "out" / name, self.folder / name)
