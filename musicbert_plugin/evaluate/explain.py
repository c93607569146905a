"""What the prediction for a piece is made of: contributions of bars and fields, checked by deleting bars.

    python -m musicbert_plugin.evaluate explain --path CKPT piece.mid [--head NAME] [--target CLASS] [--dest DIR]

The score of the target (by default the class with the largest output) is the head's logit, or its standardised number:
the mean over windows end to end, weighted by their notes.  Reported are, from ``hub.attribution``,

* integrated gradients: how much each field of each bar contributes to the score, beyond that of the piece with all of
  its notes masked.  Fields and bars add up to the difference, within 1 % (``error``);
* occlusion: how much the score falls where the notes of a bar are masked;
* deletion: how much the score changes where the tenth of bars (at least one) with the largest contributions, positive
  or negative, is deleted, beside the mean absolute change for as many bars drawn at random (``--draws`` times).

``--dest`` writes ``explanation.png``, a piano roll in the colours of the contributions (needs matplotlib).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.octuple import (
    BAR,
    DURATION,
    DURATION_VALUES,
    FIELDS,
    METER_DENOMINATORS,
    METER_NUMERATORS,
    PITCH,
    POSITION,
    POSITIONS_PER_WHOLE,
    TIME_SIGNATURE,
)
from musicbert_plugin.codecs.reading_options import add_reading_options, reading_options_of
from musicbert_plugin.evaluate import Report, add_device, check_at_least, device_of, make_folder
from musicbert_plugin.extras import require
from musicbert_plugin.files import escaped

PICTURE = "explanation.png"
SHARE = 10
"""One bar in so many is deleted."""
LISTED = 10
"""Bars in the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("piece", help="MIDI file")
    parser.add_argument("--path", required=True, help="checkpoint (.pt) with heads for labels of pieces")
    parser.add_argument("--head", help="head to explain (default: the only one)")
    parser.add_argument("--target", help="class, tag or quantity (default: that of the largest output)")
    parser.add_argument("--draws", type=int, default=20, help="random deletions to compare with (default: 20)")
    parser.add_argument("--dest", type=Path, help="folder for the picture")
    parser.add_argument("--seed", type=int, default=1)
    add_device(parser)
    add_reading_options(parser)


def evaluate(options: argparse.Namespace) -> Report:
    check_at_least(options, "draws", 0, "(none)")
    if options.dest is not None:
        require("matplotlib", "the picture")
    from musicbert_plugin.hub import MusicBERTHub
    from musicbert_plugin.hub.attribution import Explainer, deletion

    hub = MusicBERTHub.from_pretrained(options.path, device=device_of(options))
    explainer = Explainer(hub, options.head, options.target)
    octuples = hub.octuples(reading_options_of(options).read(options.piece))
    number = explainer.number_of(octuples)
    found, occlusion = explainer.attribute(octuples, number), explainer.occlude(octuples, number)
    by_bar = found.by_bar()
    total = by_bar.sum(axis=1)
    present, counts = np.unique(octuples[:, BAR], return_counts=True)

    def score(notes: NDArray[np.int64]) -> float:
        return float(explainer.outputs(notes)[number])

    values: dict[str, Any] = {
        "piece": escaped(options.piece),
        "head": explainer.head,
        "target": explainer.names[number],
        "score": found.score,
        "baseline": found.baseline,
        "error": found.error,
        "steps": found.steps,
        "fields": dict(zip(FIELDS, by_bar.sum(axis=0).tolist(), strict=True)),
        "bars": [
            {
                "bar": int(bar) + 1,
                "notes": int(notes),
                "contribution": float(total[bar]),
                "occlusion": float(occlusion[bar]),
                "fields": dict(zip(FIELDS, by_bar[bar].tolist(), strict=True)),
            }
            for bar, notes in zip(present.tolist(), counts.tolist(), strict=True)
        ],
        "deletion": None,
    }
    tables = [
        (
            f"{values['target']}: score {found.score:.3f}, with all notes masked {found.baseline:.3f}",
            ["field", "contribution"],
            [[name.replace("_", " "), f"{value:+.4f}"] for name, value in values["fields"].items()],
        )
    ]
    strongest = present[np.argsort(-np.abs(total[present]), kind="stable")]
    rows = [[str(bar + 1), f"{total[bar]:+.4f}", f"{occlusion[bar]:+.4f}"] for bar in strongest[:LISTED].tolist()]
    tables.append(("bars that contribute most", ["bar", "contribution", "occlusion"], rows))
    deleted = max(len(present) // SHARE, 1)
    if deleted < len(present):
        random = np.random.default_rng(options.seed)
        top = deletion(score, octuples, strongest[:deleted])
        drawn = [
            deletion(score, octuples, random.choice(present, deleted, replace=False)) for _ in range(options.draws)
        ]
        change = float(np.abs(drawn).mean()) if drawn else float("nan")
        values["deletion"] = {"bars": deleted, "change": top, "random": change}
        rows = [["the strongest", f"{top:+.4f}"], ["drawn at random (mean size)", f"{change:.4f}"]]
        tables.append(
            (f"change of the score where {deleted} of {len(present)} bars are deleted", ["bars", "change"], rows)
        )
    if options.dest is not None:
        make_folder(options.dest)
        values["picture"] = str(options.dest / PICTURE)
        title = f"{escaped(Path(options.piece).name)}: {explainer.head}, {explainer.names[number]}"
        _draw(octuples, found.contributions.sum(axis=1), by_bar, occlusion, options.dest / PICTURE, title)
    return Report(values, tables)


def _draw(
    octuples: NDArray[np.int64],
    notes: NDArray[np.float64],
    by_bar: NDArray[np.float64],
    occlusion: NDArray[np.float64],
    path: Path,
    title: str,
) -> None:
    from musicbert_plugin.plots.attribution import draw_attribution

    meter = octuples[:, TIME_SIGNATURE]
    positions = POSITIONS_PER_WHOLE * METER_NUMERATORS[meter] / METER_DENOMINATORS[meter]
    onset = octuples[:, BAR] + octuples[:, POSITION] / positions
    end = onset + DURATION_VALUES[octuples[:, DURATION]] / positions
    draw_attribution(onset, end, octuples[:, PITCH] % 128, notes, by_bar, occlusion, FIELDS, path, title)
