"""Annotations of music files, in text files beside them: where they are, and labels from one time to another.

The annotation of a file is found by a template, such as ``annotations/{}/beat_midi.txt``: a path inside a folder or
``.zip``, in which ``{}`` stands for what a regular expression finds in the name of the music file (its first group, or
the whole match).  Without an expression it stands for the name without folders and suffix.

Labels are lines ``start end label``, in seconds of the MIDI file, separated by spaces or tabs; a time from ``start`` to
before ``end`` has the label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import OptionError, ScoreError
from preprocess.engine.archives import Tar
from preprocess.engine.sources import Source, open_source

LARGEST = 1 << 22  # bytes of an annotation
MISSING, BAD = "no annotation", "bad annotation"
NO_CHORD = "N"
_TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
KEYS = tuple(f"{tonic}:{mode}" for mode in ("maj", "min") for tonic in _TONICS)
"""The 24 keys, and the 24 chords; class k is the tonic or root k % 12, minor from 12 on."""
CHORDS = (*KEYS, NO_CHORD)
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_HARMONY = re.compile(r"([A-G])([b#]*)(?::([^/]*))?(?:/.*)?")
_TRIADS = (
    {"", "maj", "major", "7", "maj7", "maj6", "6", "9", "maj9", "11", "13", "maj13", "add9"},
    {"min", "minor", "m", "min7", "min6", "min9", "min11", "min13", "minmaj7"},
)
"""Qualities whose triad is major, and those whose triad is minor."""


@dataclass(frozen=True)
class AnnotationFiles:
    """The annotations of a kind; sent to the workers.

    Attributes
    ----------
    option : str
        The option that gives them, for messages.
    template, pattern : str
        See the module.
    source : Source
        The folder or archive that holds them.
    places : mapping of str to bytes
        From the name of each file in it that the template can mean to its place.
    """

    option: str
    template: str
    pattern: str
    source: Source
    places: Mapping[str, bytes]

    @classmethod
    def of(cls, option: str, template: str, pattern: str, container: str) -> AnnotationFiles:
        """List the annotations in a folder or archive.

        Raises
        ------
        OptionError
            The template has no ``{}``, the pattern is no regular expression, or the container cannot be listed.
        """
        if template.count("{}") != 1:
            raise OptionError(
                f"{option} {template}: a path with one {{}} is needed, such as annotations/{{}}/beat_midi.txt."
            )
        try:
            re.compile(pattern)
        except re.error as error:
            raise OptionError(f"--piece-pattern {pattern}: it is no regular expression ({error}).") from None
        suffix = re.search(r"\.[^./{}]+$", template)
        source = open_source(container, (suffix[0].lower() if suffix else "",))
        if isinstance(source, Tar):
            raise OptionError(f"{container}: annotations are read from a folder or a .zip; give --annotations-in.")
        meant = re.compile(".*".join(map(re.escape, template.split("{}"))))
        places = {
            entry.name: entry.place
            for entry in source.entries()
            if entry.failure is None and meant.fullmatch(entry.name)
        }
        if not places:
            raise OptionError(f"{option} {template}: {container} holds no such files.")
        return cls(option, template, pattern, source, places)

    def digest(self) -> str:
        """A hash of all annotations, for the description of a dataset."""
        content = hashlib.sha256()
        for name, place in sorted(self.places.items()):
            try:
                data = self.source.read(name, place, LARGEST)
            except ScoreError as error:  # the file that it belongs to fails with this reason
                data = error.reason.encode()
            content.update(name.encode("utf-8", "surrogateescape") + b"\0" + hashlib.sha256(data).digest())
        return content.hexdigest()[:32]

    def name_for(self, file: str) -> str:
        """The name of the annotation of a music file.

        Raises
        ------
        ScoreError
            Reason ``"no annotation"``.
        """
        key: str | None = re.sub(r"(\.[A-Za-z0-9]+)(\.gz)?$", "", file.rpartition("/")[2])
        if self.pattern:
            found = re.search(self.pattern, file)
            key = (found[1] if found.re.groups else found[0]) if found else None
            if key is None:
                raise ScoreError(MISSING, f"{file}: its name does not match --piece-pattern {self.pattern}.")
        name = self.template.replace("{}", key or "")
        if name not in self.places:
            raise ScoreError(MISSING, f"{file}: its annotation {name} ({self.option}) is not there.")
        return name

    def read(self, file: str) -> tuple[str, str]:
        """The name and the text of the annotation of a music file.

        Raises
        ------
        ScoreError
            It is missing, too large or no UTF-8.
        """
        name = self.name_for(file)
        data = self.source.read(name, self.places[name], LARGEST)
        try:
            return name, data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ScoreError(BAD, f"{file}: its annotation {name} is no UTF-8 text.") from None


class Spans(NamedTuple):
    """Labels over time.

    Attributes
    ----------
    start, end : float64 [S]
        Seconds; sorted by start.
    labels : list of str [S]
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    labels: list[str]

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """The span that holds each time (of several the last that begins), int64 [N]; -1 for none."""
        index = np.searchsorted(self.start, seconds, side="right") - 1
        if not len(self.start):
            return index
        return np.where((index >= 0) & (seconds < self.end[index]), index, -1)


def parse_spans(text: str, name: str) -> Spans:
    """The labels of an annotation.

    Raises
    ------
    ScoreError
        Reason ``"bad annotation"``: a line has another form.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split(None, 2)
        if not cells:
            continue
        try:
            start, end, label = float(cells[0]), float(cells[1]), cells[2].strip()
            if not -np.inf < start < end < np.inf:
                raise ValueError
        except (ValueError, IndexError):
            raise ScoreError(
                BAD, f"{name}, line {number}: {line.strip()[:60]!r}; accepted is 'start end label', in seconds."
            ) from None
        rows.append((start, end, label))
    rows.sort(key=lambda row: row[0])
    times = np.array([row[:2] for row in rows], np.float64).reshape(-1, 2)
    return Spans(times[:, 0], times[:, 1], [row[2] for row in rows])


def harmony_class(label: str) -> int | None:
    """The class of a chord in :data:`CHORDS`, or of a key in :data:`KEYS`.

    Chords are written as in Harte et al. (2005), ``F#:min7/b3``.  They are reduced to their triad: chords whose triad
    is neither major nor minor (diminished, augmented, suspended) have no class.

    Returns
    -------
    int or None
        None for other chords, and for texts that are none.
    """
    if label in ("N", "NC"):
        return len(KEYS)
    found = _HARMONY.fullmatch(label)
    if found is None:
        return None
    root = (_STEPS[found[1]] + found[2].count("#") - found[2].count("b")) % 12
    quality = re.sub(r"\(.*\)", "", found[3] or "")
    for mode, qualities in enumerate(_TRIADS):
        if quality in qualities:
            return root + 12 * mode
    return None
