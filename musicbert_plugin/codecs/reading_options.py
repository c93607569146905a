"""How MIDI files are read: the one place of the limits and options that every command and hub takes.

Commands add them with :func:`add_reading_options` (builders, whose own options derive from :class:`ReadingOptions`,
with ``preprocess.engine.cli.add_options``), and hubs take a :class:`ReadingOptions`.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field, fields
from typing import Any

from musicbert_plugin.codecs.channel_programs import CHOICES, COUNT, IGNORE
from musicbert_plugin.codecs.score import Budget, Score, read_midi
from musicbert_plugin.errors import OptionError

CHANNEL_PROGRAMS = (
    "programs that a synthesiser plays notes with, since another track of their channel sets them: use gives them to "
    "the notes, count tells how many notes have another one in their own track, ignore does neither"
)


def _help(text: str, **settings: Any) -> dict[str, Any]:
    """The metadata of a field that ``preprocess.engine.cli.add_options`` takes."""
    return {"help": text, "argparse": settings}


@dataclass(frozen=True)
class ReadingOptions:
    """The limits of MIDI files, and whose programs their notes have.

    Raises
    ------
    OptionError
        A limit is below 1.
    """

    max_bytes: int = field(default=Budget.bytes, metadata=_help("leave out larger files"))
    max_notes: int = field(default=Budget.notes, metadata=_help("leave out files with more notes"))
    max_events: int = field(default=Budget.events, metadata=_help("leave out files with more MIDI events"))
    channel_programs: str = field(default=COUNT, kw_only=True, metadata=_help(CHANNEL_PROGRAMS, choices=CHOICES))

    def __post_init__(self) -> None:
        for limit in ("max_bytes", "max_notes", "max_events"):
            if getattr(self, limit) < 1:
                raise OptionError(f"--{limit.replace('_', '-')} {getattr(self, limit)}: 1 or more is needed.")
        if self.channel_programs not in CHOICES:
            raise OptionError(f"--channel-programs {self.channel_programs}: {', '.join(CHOICES)} is accepted.")

    @classmethod
    def metadata(cls, name: str) -> dict[str, Any]:
        """The metadata of a field, for subclasses with another default."""
        return {declared.name: dict(declared.metadata) for declared in fields(cls)}[name]

    def read(self, source: str | os.PathLike[str] | bytes, name: str = "", *, pedal: bool = False) -> Score:
        """The score in a MIDI file; see :func:`~musicbert_plugin.codecs.score.read_midi`."""
        budget = Budget(self.max_bytes, self.max_notes, self.max_events)
        return read_midi(source, name=name, budget=budget, channel_programs=self.channel_programs, pedal=pedal)

    def reading_settings(self) -> dict[str, Any]:
        """The limits, and ``channel_programs`` if it is not ``ignore``, for descriptions of datasets."""
        values = {limit: getattr(self, limit) for limit in ("max_bytes", "max_notes", "max_events")}
        return values | ({} if self.channel_programs == IGNORE else {"channel_programs": self.channel_programs})


DEFAULT_READING = ReadingOptions()


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser of a command that reads MIDI files."""
    group = parser.add_argument_group("reading of MIDI files")
    for declared in fields(ReadingOptions):
        name, text = "--" + declared.name.replace("_", "-"), declared.metadata["help"]
        text = f"{text.replace('leave out', 'refuse')} (default: {declared.default})"
        kind, settings = type(declared.default), declared.metadata["argparse"]
        group.add_argument(name, type=kind, default=declared.default, help=text, **settings)


def reading_options_of(namespace: argparse.Namespace) -> ReadingOptions:
    """The options in parsed arguments."""
    return ReadingOptions(**{declared.name: getattr(namespace, declared.name) for declared in fields(ReadingOptions)})
