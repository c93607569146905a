"""Number of notes outside the filled bars that infilling moves in time, which should be 0.

``python -m benchmarks.infill_timing FOLDER DATA [--path CHECKPOINT] [--redraw meter,tempo]``

``DATA`` is a dataset of ``preprocess.octuple build FOLDER``; its valid and test pieces are filled as in the quickstart:
two bars in the middle, all programs.  Without ``--path`` the model is ``musicbert_tiny`` with random weights, which
draws extreme time signatures and tempi.  A note counts as moved if no note of its program, pitch and velocity has the
same onset and end, to the microsecond.  Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.environment import environment
from musicbert_plugin.codecs import octuple
from musicbert_plugin.codecs.score import Score, read_midi, seconds_of


def timed_notes(score: Score, keep: np.ndarray) -> Counter[tuple[int, ...]]:
    """The notes that ``keep`` (bool [N]) selects, with onset and end in microseconds."""
    times = [np.rint(1e6 * seconds_of(score, ticks)) for ticks in (score.onset, score.end)]
    columns = [score.program, score.pitch, score.velocity, *times]
    return Counter(map(tuple, np.stack(columns, 1)[keep].astype(np.int64).tolist()))


def random_hub() -> Any:
    """A hub of ``musicbert_tiny`` with random weights."""
    import torch
    from fairseq.models import ARCH_CONFIG_REGISTRY

    from musicbert_plugin.hub import MusicBERTHub  # registers the architectures
    from musicbert_plugin.models.musicbert import MusicBERTModel
    from musicbert_plugin.tasks.octuple_task import octuple_dictionary

    options = argparse.Namespace(max_positions=8192)
    ARCH_CONFIG_REGISTRY["musicbert_tiny"](options)
    torch.manual_seed(0)
    task = SimpleNamespace(source_dictionary=octuple_dictionary(), cfg=options)
    return MusicBERTHub(MusicBERTModel.build_model(options, task))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="MIDI files")
    parser.add_argument("data", type=Path, help="dataset folder built from them")
    parser.add_argument("--path", help="checkpoint (default: random weights)")
    parser.add_argument("--redraw", default="", metavar="meter,tempo")
    options = parser.parse_args()
    if options.path:
        from musicbert_plugin.hub import MusicBERTHub

        hub = MusicBERTHub.from_pretrained(options.path)
    else:
        hub = random_hub()
    lines = [json.loads(line) for line in (options.data / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = {"redraw": options.redraw} if options.redraw else {}
    result = {"pieces": 0, "notes outside": 0, "moved notes": 0, "pieces with moved notes": 0, "largest shift (s)": 0.0}
    for file in (line["file"] for line in lines if line.get("split") in ("valid", "test")):
        score = read_midi(options.folder / file)
        rows = octuple.encode(score)
        middle = max((int(rows[-1, octuple.BAR]) + 1) // 2 - 1, 0)
        bars = range(middle, min(middle + 2, int(rows[-1, octuple.BAR]) + 1))
        inside = np.isin(rows[:, octuple.BAR], bars)
        if not inside.any():
            continue
        filled = hub.infill(score, bars, seed=1, passes=2, **chosen)
        outside = np.ones(len(score), bool)
        outside[octuple.encoding_order(score)[: len(rows)][inside]] = False
        moved = timed_notes(score, outside) - timed_notes(filled, np.ones(len(filled), bool))
        result["pieces"] += 1
        result["notes outside"] += int(outside.sum())
        result["moved notes"] += moved.total()
        result["pieces with moved notes"] += moved.total() > 0
        unchanged = int(outside.sum())  # these notes come first, in their order
        before = seconds_of(score, score.onset[outside])
        shift = seconds_of(filled, filled.onset[:unchanged]) - before
        result["largest shift (s)"] = round(max(result["largest shift (s)"], float(np.abs(shift).max(initial=0))), 6)
    print(json.dumps({**result, **environment("torch", "numpy")}, indent=2))


if __name__ == "__main__":
    main()
