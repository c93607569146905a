"""Accuracy of requested attributes: sample-wise attribute accuracy, per attribute and overall.

    python -m musicbert_plugin.evaluate attributes --path CKPT DATA               generate for the requests of a split
    python -m musicbert_plugin.evaluate attributes --path CKPT --requests FILE    ... or of a file
    python -m musicbert_plugin.evaluate attributes --midi DIR --requests FILE     line n is the request of DIR/n.mid
    python -m musicbert_plugin.evaluate attributes --hyp FILE [DATA]              output of fairseq-generate

Attributes are extracted from each whole piece (``codecs.attributes``) and compared with its request
(``metrics.attribute_accuracy``); the intervals are bootstraps over pieces.  A request of a split has the attributes
that are visible to the model in ``fairseq-validate``; ``--attribute-mask none`` keeps all.

**Chance** is the accuracy of the same pieces with respect to other requests: for each piece, the mean over all
different requests.  The difference is the effect of the request.

A piece that has no note or cannot be read is not valid and has accuracy 0.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.arguments import check_not_input
from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import (
    KEYS,
    MULTI_LABEL,
    NA,
    NOT_EXTRACTED,
    SLOT_KEY,
    class_vector,
    classes_of_ids,
    command_ids,
    extract,
)
from musicbert_plugin.codecs.chords import brightness
from musicbert_plugin.codecs.requests import parse_request, request_words
from musicbert_plugin.codecs.score import Score, read_midi, write_midi
from musicbert_plugin.data.fairseq_output import read_lines, read_text_lines
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.evaluate import Report, check_not_empty, make_folder
from musicbert_plugin.evaluate.generated_music import add_search_arguments, compose, load_hub
from musicbert_plugin.metrics.attribute_accuracy import (
    accuracy_per_attribute,
    attribute_sample_accuracy,
    sample_accuracy,
    score_slots,
)
from musicbert_plugin.metrics.bootstrap import bootstrap_interval
from musicbert_plugin.parsing import whole_number

Classes = NDArray[np.uint8]
PANELS = 8  # largest number of panels in a picture
TICKS_PER_QUARTER = 480
CHORDS, BARS = (SLOT_KEY == KEYS.index(key) for key in ("C1", "B1s1"))


@dataclass
class Answers:
    """Pieces and their requests.

    ``requests`` uint8 [N, 63]; ``scores``: None for pieces without music; ``groups``: the number of each piece's
    request; ``repaired``: number of pieces whose words were repaired; ``missing``: number of unreadable files.
    """

    requests: Classes
    scores: list[Score | None]
    groups: list[int]
    repaired: int | None = None
    missing: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", help="dataset folder of preprocess.remi build")
    parser.add_argument("--path", help="checkpoint that generates the music")
    parser.add_argument("--midi", type=Path, metavar="DIR", help="folder of music: n.mid is for line n, from 0")
    parser.add_argument("--requests", type=Path, metavar="FILE", help="a request per line, such as 'piano bars=8'")
    parser.add_argument("--hyp", type=Path, metavar="FILE", help="output of fairseq-generate or -interactive")
    parser.add_argument("--gen-subset", default="test", help="split of DATA (default: test)")
    parser.add_argument(
        "--attribute-mask",
        default="steps",
        choices=["steps", "none"],
        help="attributes of requests of a split: as in validation, or all",
    )
    parser.add_argument("--limit", type=int, default=0, help="number of samples from the start of the split (0: all)")
    parser.add_argument("--chords", action="store_true", help="also score C1 (takes seconds per piece)")
    parser.add_argument("--legacy", action="store_true", help="extract and score with the original's defects")
    parser.add_argument("--draws", type=int, default=10_000, help="bootstrap resamples (default: 10,000)")
    parser.add_argument("--dest", type=Path, metavar="DIR", help="folder for generated music, n.mid")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a piece of each of the first requests")
    parser.add_argument("--only-instruments", action="store_true", help="with --path: only requested instruments")
    add_search_arguments(parser)


def evaluate(options: argparse.Namespace) -> Report:
    given = [name for name in ("path", "midi", "hyp") if getattr(options, name)]
    if len(given) != 1:
        raise OptionError("One of --path CKPT, --midi DIR and --hyp FILE is needed.")
    remi.parse_meter(options.meter)
    answers = {"path": _of_model, "midi": _of_folder, "hyp": _of_lines}[given[0]](options)
    found = [_classes_of(score, options) for score in answers.scores]
    values = measure(
        answers.requests,
        np.stack([NA if classes is None else classes for classes in found]),
        np.array([classes is not None for classes in found]),
        chords=options.chords,
        legacy=options.legacy,
        draws=options.draws,
        seed=options.seed,
    )
    if answers.repaired is not None:
        values["without_repairs"] = 1 - answers.repaired / len(found)
    accuracies = values.pop("accuracies")
    values["per_request"] = _per_request(answers, accuracies)
    if options.picture:
        _draw(answers, options.picture)
        values["picture"] = str(options.picture)
    return Report(values, _tables(values), failed=answers.missing > 0)


# ------------------------------------------------------------------------------------------------------- measurement


def measure(
    requested: Classes,
    found: Classes,
    valid: NDArray[np.bool_],
    *,
    chords: bool = False,
    legacy: bool = False,
    draws: int = 10_000,
    seed: int = 1,
) -> dict[str, Any]:
    """Accuracies of pieces with respect to their requests, by chance, and per attribute.

    Parameters
    ----------
    requested, found : uint8 [N, 63]
        Class vectors; ``found`` is NA for pieces that are not ``valid``, bool [N].
    chords : bool
        Whether C1 is scored.
    legacy : bool
        Whether to score as the original.

    Returns
    -------
    dict
        ``accuracies`` float64 [N] (NaN for requests without a scored attribute), and the values of the report.
    """
    ignored = NOT_EXTRACTED if chords else NOT_EXTRACTED | CHORDS

    def slots_by(requests: Classes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        return score_slots(requests, found, NA, MULTI_LABEL, ignored, BARS if legacy else None)

    def accuracy_by(requests: Classes) -> NDArray[np.float64]:
        return sample_accuracy(*slots_by(requests), valid, legacy=legacy)

    accuracies = accuracy_by(requested)
    by_chance = accuracy_by_others(requested, accuracy_by)
    options: dict[str, Any] = {"draws": draws, "seed": seed}
    scored, right = slots_by(requested)
    right &= valid[:, None]
    counts = accuracy_per_attribute(scored, right, SLOT_KEY)
    attributes = {}
    for number in np.flatnonzero(counts[:, 1]).tolist():
        slots = SLOT_KEY == number
        shares = sample_accuracy(scored[:, slots], right[:, slots])
        attributes[KEYS[number]] = {
            "accuracy": attribute_sample_accuracy(shares),
            "interval": bootstrap_interval(shares, **options),
            "right": int(counts[number, 0]),
            "scored": int(counts[number, 1]),
        }
    return {
        "pieces": len(valid),
        "scored_pieces": int((~np.isnan(accuracies)).sum()),
        "valid": float(valid.mean()),
        "asa": attribute_sample_accuracy(accuracies),
        "asa_interval": bootstrap_interval(accuracies, **options),
        "chance": attribute_sample_accuracy(by_chance),
        "above_chance": attribute_sample_accuracy(accuracies - by_chance),
        "above_chance_interval": bootstrap_interval(accuracies - by_chance, **options),
        "attributes": attributes,
        "accuracies": accuracies,
    }


def accuracy_by_others(requested: Classes, accuracy_by: Any) -> NDArray[np.float64]:
    """The mean accuracy of each piece over all requests that differ from its own, float64 [N]; NaN if there are none.

    Parameters
    ----------
    requested : uint8 [N, S]
    accuracy_by : function
        From requests (uint8 [N, S]) to the accuracies (float64 [N]) of the pieces with respect to them.
    """
    distinct, own = np.unique(requested, axis=0, return_inverse=True)
    total, count = np.zeros(len(requested)), np.zeros(len(requested))
    for number, request in enumerate(distinct):
        accuracies = accuracy_by(np.broadcast_to(request, requested.shape))
        other = (own.ravel() != number) & ~np.isnan(accuracies)
        total[other] += accuracies[other]
        count[other] += 1
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _classes_of(score: Score | None, options: argparse.Namespace) -> Classes | None:
    """The class vector of a piece; None if there is no music."""
    if score is None or not len(score):
        return None
    try:
        grid = remi.grid_of(score)
    except ScoreError:
        return None
    return class_vector(extract(grid, legacy=options.legacy, chords=brightness(grid) if options.chords else None))


# ------------------------------------------------------------------------------------------------------------ sources


def _of_model(options: argparse.Namespace) -> Answers:
    """Music that a checkpoint generates."""
    if (options.data is None) == (options.requests is None):
        raise OptionError("--path needs either a dataset folder or --requests FILE.")
    if options.requests is not None:
        requests = read_requests(options.requests)
    else:
        requests = np.stack(list(_of_split(options).values()))
    if options.dest:
        make_folder(options.dest)
        for number in range(len(requests)):
            check_not_input(options.dest / f"{number}.mid", options.requests, options.path)
    hub = load_hub(options)
    if str(hub.model.args.prefix) != "attributes":
        raise OptionError(f"{options.path} is a model of conditions, not attributes: evaluate pairs measures it.")
    prefixes = [command_ids(request) for request in requests]
    music = compose(hub, prefixes, options, only_instruments=options.only_instruments)
    scores, repaired = _decoded(music, options.meter, str(hub.model.args.layout))
    if options.dest:
        for number, score in enumerate(scores):
            if score is not None:
                write_midi(score, options.dest / f"{number}.mid")
    return Answers(requests, scores, list(range(len(requests))), repaired)


def _of_folder(options: argparse.Namespace) -> Answers:
    """MIDI files; line n of the requests is for n.mid (and n.1.mid, n.2.mid, ..., further hypotheses)."""
    if options.requests is None:
        raise OptionError("--midi DIR needs --requests FILE, whose line n (from 0) is the request of DIR/n.mid.")
    if not options.midi.is_dir():
        raise OptionError(f"{options.midi} is not a folder; --midi names one with 0.mid, 1.mid, ...")
    request_lines = read_requests(options.requests)
    requests, scores, groups, missing = [], [], [], 0
    for number, request in enumerate(request_lines):
        hypotheses = ((whole_number(path.name.split(".")[1]), path) for path in options.midi.glob(f"{number}.*.mid"))
        further = sorted((hypothesis, path) for hypothesis, path in hypotheses if hypothesis is not None)
        for path in [options.midi / f"{number}.mid", *(path for _, path in further)]:
            requests.append(request)
            groups.append(number)
            try:
                scores.append(read_midi(path))
            except ScoreError as error:
                scores.append(None)
                if error.reason != "no notes":
                    missing += 1
                    print(f"evaluate attributes: {error}", file=sys.stderr)
    if missing == len(scores):
        raise OptionError(f"{options.midi} has none of 0.mid to {len(request_lines) - 1}.mid, one for each request.")
    return Answers(np.stack(requests), scores, groups, missing=missing)


def _of_lines(options: argparse.Namespace) -> Answers:
    """The output of fairseq-generate; requests are its ``S-`` lines, or else those of the split."""
    lines = read_lines(options.hyp)
    requests: dict[int, Classes]
    if options.requests is not None:
        requests = dict(enumerate(read_requests(options.requests)))
    elif lines.prefixes:
        requests = {}
        for number, words in lines.prefixes.items():
            try:
                requests[number] = parse_request(words)
            except OptionError as error:
                raise OptionError(f"{options.hyp}, line S-{number}: {error}") from None
    elif options.data:
        requests = _of_split(options)
    else:
        raise OptionError(f"{options.hyp} has no S- lines: the dataset folder or --requests FILE is needed.")
    if not lines.music:
        raise OptionError(f"{options.hyp} is empty; a line of music words per piece is needed.")
    unknown = sorted({number for number, _ in lines.music} - set(requests))
    if unknown:
        raise OptionError(f"{options.hyp} has music for request {unknown[0]}, but there are {len(requests)} requests.")
    layout = None
    if options.data:
        from musicbert_plugin.data.dataset_folder import check_remi_folder

        layout = check_remi_folder(options.data).layout
    scores, repaired = _decoded([remi.from_words(words) for _, words in lines.music], options.meter, layout)
    groups = [number for number, _ in lines.music]
    return Answers(np.stack([requests[number] for number in groups]), scores, groups, repaired)


def read_requests(path: Path) -> Classes:
    """The class vectors of a file of requests, uint8 [N, 63].

    Raises
    ------
    OptionError
        The file is empty, or a line has an unknown word or contradicts itself.
    """
    lines = read_text_lines(path, "a request per line, such as 'piano bars=8',")
    if not lines:
        raise OptionError(f"{path} is empty; a request per line, such as 'piano bars=8', is needed.")
    requests = []
    for number, line in enumerate(lines, start=1):
        try:
            requests.append(parse_request(line))
        except OptionError as error:
            raise OptionError(f"{path}, line {number}: {error}") from None
    return np.stack(requests)


def _of_split(options: argparse.Namespace) -> dict[int, Classes]:
    """The request of each sample of a split, by its number, with the attributes visible in validation."""
    from musicbert_plugin.data.dataset_folder import check_remi_folder
    from musicbert_plugin.data.epoch_rng import VALIDATION_EPOCH
    from musicbert_plugin.data.prefix_lm_dataset import AttributedMusic

    folder = check_remi_folder(options.data)
    if folder.pairs(options.gen_subset):
        raise OptionError(f"{options.data} holds pairs, not attributes: evaluate pairs measures them.")
    samples = AttributedMusic(folder.path / options.gen_subset, dropout=options.attribute_mask, seed=options.seed)
    check_not_empty(samples.music, options)
    count = min(len(samples.music), options.limit or len(samples.music))
    return {number: classes_of_ids(samples.sample(number, VALIDATION_EPOCH)[0]) for number in range(count)}


def _decoded(music: list[NDArray[np.int64]], meter: str, layout: str | None) -> tuple[list[Score | None], int]:
    """The scores of ids, None for pieces without notes, and the number of repaired pieces."""
    scores: list[Score | None] = []
    repaired = 0
    for ids in music:
        score, repairs = remi.decode_with_repairs(ids, remi.parse_meter(meter), layout)
        scores.append(score if len(score) else None)
        repaired += bool(repairs)
    return scores, repaired


# -------------------------------------------------------------------------------------------------------------- report


def _per_request(answers: Answers, accuracies: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Accuracy of the pieces of each distinct request, in order of occurrence."""
    rows: dict[bytes, dict[str, Any]] = {}
    for request, number, accuracy in zip(answers.requests, answers.groups, accuracies.tolist(), strict=True):
        row = rows.setdefault(request.tobytes(), {"first": number, "pieces": 0, "values": []})
        row["pieces"] += 1
        row["values"].append(accuracy)
    return [
        {"first": row["first"], "pieces": row["pieces"], "asa": attribute_sample_accuracy(row["values"])}
        for row in rows.values()
    ]


def _draw(answers: Answers, path: Path) -> None:
    """Draw the first piece of each of the first requests, below one another."""
    from musicbert_plugin.plots.piano_roll import Panel, draw_piano_rolls

    panels: dict[bytes, Panel] = {}
    for request, score in zip(answers.requests, answers.scores, strict=True):
        if score is None or request.tobytes() in panels or len(panels) == PANELS:
            continue
        # All panels need the same resolution.
        ticks = np.round(np.stack([score.onset, score.end]) * (TICKS_PER_QUARTER / score.resolution)).astype(np.int64)
        score = replace(score, resolution=TICKS_PER_QUARTER, onset=ticks[0], end=ticks[1])
        panels[request.tobytes()] = Panel(request_words(request) or "empty request", score)
    if not panels:
        raise OptionError(f"{path}: there is no music to draw.")
    make_folder(path.parent)
    draw_piano_rolls(list(panels.values()), path, title="A piece for each request")


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f} %"


def _between(interval: tuple[float, float]) -> str:
    return f"{_share(interval[0])} to {_share(interval[1])}"


def _tables(values: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    rows = [
        ["own request (ASA)", _share(values["asa"]), _between(values["asa_interval"])],
        ["other requests (chance)", _share(values["chance"]), ""],
        ["difference", _share(values["above_chance"]), _between(values["above_chance_interval"])],
        ["valid pieces", _share(values["valid"]), ""],
    ]
    tables = [(f"attributes of {values['pieces']} pieces", ["", "accuracy", "95 % interval"], rows)]
    rows = [
        [key, _share(found["accuracy"]), _between(found["interval"]), f"{found['right']} of {found['scored']}"]
        for key, found in values["attributes"].items()
    ]
    tables.append(("per attribute", ["attribute", "accuracy (mean of pieces)", "95 % interval", "right"], rows))
    counts = Counter(row["pieces"] for row in values["per_request"])
    if 1 < len(values["per_request"]) <= 16 and max(counts) > 1:
        rows = [[str(row["first"]), str(row["pieces"]), _share(row["asa"])] for row in values["per_request"]]
        tables.append(("per request", ["first line", "pieces", "accuracy"], rows))
    return tables
