"""Redraw bars of a piece with a model, and compare the new notes with the original ones.

    python -m musicbert_plugin.evaluate infill --path CKPT PIECE.mid --bars 4:6 --dest DIR

Writes ``original.mid``, ``masked.mid`` (without the notes of those bars), ``filled.mid`` and ``infill.png`` with their
piano rolls.  Files of these names that an earlier run wrote are replaced; others are refused.  Bars are counted from 1,
and the second number is not included.  Time signatures and tempi, and the times of all other notes, do not change
without ``--redraw``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from musicbert_plugin.arguments import check_not_input
from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.reading_options import add_reading_options, reading_options_of
from musicbert_plugin.codecs.score import bar_line_from, midi_bytes
from musicbert_plugin.data.answer_folder import AnswerFolder
from musicbert_plugin.errors import MusicError, OptionError
from musicbert_plugin.evaluate import Report
from musicbert_plugin.extras import require
from musicbert_plugin.files import escaped, given_path
from musicbert_plugin.parsing import whole_number

FILES = ("original.mid", "masked.mid", "filled.mid", "infill.png")
CONTEXT_BARS = 4  # bars in the picture on either side of the filled bars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("piece", type=given_path, help="MIDI file")
    parser.add_argument("--path", required=True, help="checkpoint (.pt)")
    parser.add_argument(
        "--bars", metavar="BEGIN:END", help="bars to fill, from 1, END not included (default: two in the middle)"
    )
    parser.add_argument("--programs", type=int, nargs="*", help="fill only these programs' notes (128: drums)")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, default=0, help="draw from the k most probable values (0: from all)")
    parser.add_argument(
        "--redraw",
        default="",
        metavar="meter,tempo",
        help="redraw the time signature, the tempo, or both, in bars without other notes (default: keep both)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dest", type=Path, required=True, help="folder for the MIDI files and the picture")
    add_reading_options(parser)


def _parse_bars(text: str) -> tuple[int, int]:
    begin, end = (whole_number(part) for part in text.partition(":")[::2])
    if begin is None or end is None or not 1 <= begin < end:
        raise OptionError(f"--bars is '{text}'; BEGIN:END is needed, with 1 <= BEGIN < END (5:7 fills bars 5 and 6).")
    return begin - 1, end - 1


def evaluate(options: argparse.Namespace) -> Report:
    require("matplotlib", "the picture")
    for name in FILES:
        check_not_input(options.dest / name, options.piece, options.path)
    score = reading_options_of(options).read(options.piece)
    rows = octuple.encode(score)
    bars = int(rows[-1, octuple.BAR]) + 1
    middle = max(bars // 2 - 1, 0)
    begin, end = _parse_bars(options.bars) if options.bars else (middle, min(middle + 2, bars))
    if end > bars:
        raise OptionError(f"--bars {begin + 1}:{end + 1}: {options.piece} has bars 1 to {bars}.")
    inside = (rows[:, octuple.BAR] >= begin) & (rows[:, octuple.BAR] < end)
    if options.programs:
        inside &= np.isin(rows[:, octuple.PROGRAM], options.programs)
    if not inside.any():
        raise OptionError(f"{options.piece} has no such notes from bar {begin + 1} to {end}; it has {bars} bars.")

    from musicbert_plugin.hub import MusicBERTHub

    hub = MusicBERTHub.from_pretrained(options.path)
    description = {name: str(value) for name, value in vars(options).items() if name not in ("dest", "evaluate")}
    folder = AnswerFolder(options.dest, "infill", description, [str(options.piece)], names=FILES, keep=False)
    filled = hub.infill(
        score,
        bars=range(begin, end),
        instruments=options.programs or None,
        temperature=options.temperature,
        top_k=options.top_k,
        seed=options.seed,
        redraw=options.redraw,
    )
    filled_rows = octuple.encode(filled)
    kept = np.ones(len(score), bool)
    kept[octuple.encoding_order(score)[: len(rows)][inside]] = False
    masked = replace(score.select(kept), end_tick=bar_line_from(score, int(score.end.max())))
    new = _written(filled_rows, rows[~inside])
    values = _compare(rows[inside], filled_rows[new])
    values = {"piece": escaped(options.piece), "bars": [begin + 1, end + 1], "notes": int(inside.sum()), **values}
    title = f"{escaped(Path(options.piece).name)}, bars {begin + 1} to {end}"
    with TemporaryDirectory() as temporary:
        picture = Path(temporary) / FILES[-1]
        _draw(rows, inside, filled_rows, new, (begin, end), picture, title)
        contents = [*map(midi_bytes, (score, masked, filled)), picture.read_bytes()]
    folder.add(0, dict(zip(FILES, contents, strict=True)))
    values["picture"] = str(options.dest / FILES[-1])
    pairs = [
        [name.removeprefix("same_").replace("_", " "), f"{share:.0%}"]
        for name, share in values.items()
        if name.startswith("same_")
    ]
    return Report(values, [(f"{values['notes']} notes filled in", ["as in the original", "notes"], pairs)])


def _written(rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The rows that the model wrote, bool [N]: those that are not among ``kept`` (as multisets)."""
    remaining = Counter(map(tuple, kept.tolist()))
    new = np.ones(len(rows), bool)
    for i, row in enumerate(map(tuple, rows.tolist())):
        if remaining[row]:
            remaining[row] -= 1
            new[i] = False
    if remaining.total():
        raise MusicError("notes outside the filled bars have changed, which infilling must not do.")
    return new


def _compare(truth: np.ndarray, written: np.ndarray) -> dict[str, float]:
    """Share of the original notes with a matching new note in the same bar, for several criteria (each note once)."""
    columns = {
        "onset": (truth[:, octuple.POSITION], written[:, octuple.POSITION]),
        "pitch_class": (truth[:, octuple.PITCH] % 12, written[:, octuple.PITCH] % 12),
        "pitch": (truth[:, octuple.PITCH], written[:, octuple.PITCH]),
        "onset_and_pitch": (
            truth[:, octuple.POSITION] * 256 + truth[:, octuple.PITCH],
            written[:, octuple.POSITION] * 256 + written[:, octuple.PITCH],
        ),
        "duration": (truth[:, octuple.DURATION], written[:, octuple.DURATION]),
    }
    shares = {}
    for name, (ours, theirs) in columns.items():
        wanted = Counter(zip(truth[:, octuple.BAR].tolist(), ours.tolist(), strict=True))
        found = Counter(zip(written[:, octuple.BAR].tolist(), theirs.tolist(), strict=True))
        shares[f"same_{name}"] = (wanted & found).total() / len(truth)
    return shares


def _draw(
    rows: np.ndarray,
    inside: np.ndarray,
    filled: np.ndarray,
    new: np.ndarray,
    bars: tuple[int, int],
    path: Path,
    title: str,
) -> None:
    """Draw three panels of the filled bars and their context, with the removed and the new notes emphasised."""
    from musicbert_plugin.plots.piano_roll import Panel, draw_piano_rolls

    starts = octuple.bar_starts(rows) * octuple.TICKS_PER_POSITION
    first, last = max(bars[0] - CONTEXT_BARS, 0), min(bars[1] + CONTEXT_BARS, len(starts) - 1)

    def panel(name: str, table: np.ndarray, shown: np.ndarray, emphasis: np.ndarray) -> Panel:
        near = shown & (table[:, octuple.BAR] >= first) & (table[:, octuple.BAR] < last)
        return Panel(name, octuple.decode(table).select(near), emphasis[near])

    everything = np.ones(len(rows), bool)
    panels = [
        panel("original", rows, everything, inside),
        panel("masked", rows, ~inside, inside),
        panel("filled in by the model", filled, np.ones(len(filled), bool), new),
    ]
    draw_piano_rolls(
        panels,
        path,
        bar_lines=starts[first : last + 1],
        first_bar=first + 1,
        shaded=(float(starts[bars[0]]), float(starts[min(bars[1], len(starts) - 1)])),
        title=title,
    )
