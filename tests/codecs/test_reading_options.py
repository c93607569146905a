"""The options of reading MIDI files: the same everywhere, each with its effect."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from musicbert_plugin.codecs.reading_options import ReadingOptions, reading_options_of
from musicbert_plugin.codecs.score import DRUMS, Score, write_midi
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.generation.prompts import read_prompt

GIVEN = ["--max-bytes", "11", "--max-notes", "12", "--max-events", "13", "--channel-programs", "use"]
EXPECTED = ReadingOptions(11, 12, 13, channel_programs="use")


def parsers() -> dict[str, tuple[argparse.ArgumentParser, list[str]]]:
    """The parsers of all commands that read MIDI files, and what else they need."""
    from musicbert_plugin.evaluate import attributes as evaluate_attributes
    from musicbert_plugin.evaluate import infill
    from preprocess import attributes, octuple, remi, render

    found = {
        "octuple encode": (octuple.parser(), ["encode", "a.mid"]),
        "octuple build": (octuple.parser(), ["build", "a", "--dest", "b"]),
        "remi encode": (remi.parser(), ["encode", "a.mid"]),
        "remi build": (remi.parser(), ["build", "a", "--dest", "b"]),
        "remi pairs": (remi.parser(), ["pairs", "a", "--dest", "b"]),
        "attributes": (attributes.parser(), ["a.mid"]),
        "render": (render.parser(), ["a", "--dest", "b"]),
    }
    for name, module, words in (
        ("evaluate infill", infill, ["a.mid", "--path", "m.pt", "--dest", "b"]),
        ("evaluate attributes", evaluate_attributes, ["--midi", "a"]),
    ):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        found[name] = (parser, words)
    return found


def test_every_command_that_reads_midi_takes_the_options() -> None:
    for name, (parser, words) in parsers().items():
        assert reading_options_of(parser.parse_args([*words, *GIVEN])) == EXPECTED, name
        assert reading_options_of(parser.parse_args(words)) == ReadingOptions(), name


def test_generation_takes_them_as_options_of_its_task(registered: None) -> None:
    from musicbert_plugin.tasks.attribute_to_music import AttributeToMusicTaskConfig

    default = AttributeToMusicTaskConfig()
    assert (default.max_bytes, default.max_notes, default.max_events, default.channel_programs) == (
        ReadingOptions.max_bytes, ReadingOptions.max_notes, ReadingOptions.max_events, "count",
    )  # fmt: skip


def test_limits_are_raised_by_the_option_that_the_sentence_names(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    write_midi(Score.of(480, range(0, 4800, 480), range(480, 5280, 480), [60] * 10, program=DRUMS), path)
    for option in ("max_bytes", "max_notes", "max_events"):
        with pytest.raises(ScoreError, match=r"can be raised \(--" + option.replace("_", "-")) as error:
            ReadingOptions(**{option: 9}).read(path)
        assert error.value.reason == "too large" and str(error.value).startswith(f"{path}: ")
        with pytest.raises(ScoreError, match=option.replace("_", "-")):
            read_prompt(path, "bar-tempo", reading=ReadingOptions(**{option: 9}))
        assert len(ReadingOptions(**{option: 1000}).read(path)) == 10


def test_values_that_no_file_can_satisfy_are_refused() -> None:
    with pytest.raises(OptionError, match="--max-notes 0: 1 or more is needed"):
        ReadingOptions(max_notes=0)
    with pytest.raises(OptionError, match="--channel-programs some: ignore, count, use is accepted"):
        ReadingOptions(channel_programs="some")
