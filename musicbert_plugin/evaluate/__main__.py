"""The entry point of all evaluation commands: arguments, JSON on stdout, tables on stderr, errors as one sentence."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import sys
from typing import Any

from musicbert_plugin.commands import (
    CANNOT_START,
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    run_command,
    say,
    sentence_of,
    write_line,
)
from musicbert_plugin.evaluate import check_common
from musicbert_plugin.files import shown

TASKS = {
    "octuple_masked_lm": "loss, and accuracy and perplexity per field of masked tokens, with the majority baseline",
    "audio": "errors of restored spectrograms with baselines, labels of a dataset, or labels of new recordings",
    "labels": "labels of notes or sound: metrics on a dataset with baselines, or predictions for other files",
    "correlate": "correlation of hidden units with features of the sound, as a table and a heat map",
    "probe": "a linear probe on frozen layers, with raw features and a random encoder as baselines",
    "attributes": "accuracy of requested attributes, with the accuracy by chance, validity and intervals",
    "pairs": "similarity of generated bars to the true ones: programs, pitches, rhythm, melody, bass, drums",
    "ranking": "MAP and HITS@k of scores of candidate phrases, against chance and against other scores",
    "explain": "contributions of bars and fields to the prediction for a piece, checked by deleting bars",
    "infill": "redraw bars of a piece, compare them with the original, write MIDI files and a picture",
}


def to_json(value: Any) -> Any:
    """Convert a value for JSON: numbers that are not finite become null, and file names become valid text."""
    if isinstance(value, dict):
        return {shown(str(key)): to_json(item) for key, item in value.items()}
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table_text(title: str, header: list[str], rows: list[list[str]]) -> str:
    """A table in plain text, with the first column aligned left and the others right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in [header, *rows]
    ]
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m musicbert_plugin.evaluate", description="Measure a trained model.")
    parser.add_argument(
        "--log-level", default="WARNING", choices=["DEBUG", "INFO", "WARNING"], help="level of messages"
    )
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, purpose in TASKS.items():
        module = importlib.import_module(f"musicbert_plugin.evaluate.{name}")
        task = tasks.add_parser(name, help=purpose, description=module.__doc__.split("\n\n")[0])
        module.add_arguments(task)
        task.set_defaults(evaluate=module.evaluate)
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s | %(name)s | %(message)s")
    logging.getLogger().setLevel(options.log_level)
    try:
        check_common(options)
        report = options.evaluate(options)
        for table in report.tables:
            say(table_text(*table) + "\n")
        write_line(json.dumps(to_json(report.values)))
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        say(f"evaluate {options.task}: interrupted.")
        return INTERRUPTED
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or options.log_level == "DEBUG":
            raise
        say(f"evaluate {options.task}: {sentence}")
        return CANNOT_START
    return SOME_FAILED if report.failed else DONE


if __name__ == "__main__":
    run_command(main)
