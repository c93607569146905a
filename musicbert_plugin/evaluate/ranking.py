"""How early scores rank the true candidates of each query: phrases that continue or accompany another one.

    python -m musicbert_plugin.evaluate ranking DATA --scores model.csv [--against other.csv ...]
    python -m musicbert_plugin.evaluate ranking candidates.csv [--against other.csv ...]

``DATA`` is a folder with ``{split}.pairs.csv`` (``data.labelled_octuples``); a table of scores then has a column
``score``, and ``first`` and ``second`` that name the pair, in any order of the rows.  Without a folder, the first table
has the columns ``query``, ``label`` (1 for true candidates, else 0), ``score``, and, if queries depend on each other,
``group``; tables of ``--against`` have the column ``score`` and the same rows in the same order (``query`` and
``label``, where they have them, must be equal).

Metrics are MAP and HITS@k (``metrics.ranking``: ties are pessimistic), means over queries, with 95 % intervals from a
bootstrap over groups: of ``DATA``, the group of the query's first phrase; of a table, its ``group`` or else the query.
They stand beside their expectations in a random order.  With ``--against``, differences (the scores minus the others)
have paired intervals; a difference whose interval contains 0 is not shown.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.labelled_octuples import labels_path, pairs_path, read_labels, read_pairs
from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.evaluate import Report
from musicbert_plugin.metrics.bootstrap import bootstrap_interval
from musicbert_plugin.metrics.means import mean_of_defined
from musicbert_plugin.metrics.ranking import average_precision, chance_average_precision, chance_hits_at, hits_at
from musicbert_plugin.parsing import shortened, whole_number
from musicbert_plugin.tables import check_columns, normal_text, read_table

HITS = (1, 5, 10, 15, 20, 25)
"""The k of HITS@k, which the published evaluation reports."""
MAP = "map"

Metric = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Candidates:
    """N candidates of Q queries.

    Attributes
    ----------
    query : int64 [N]
    relevant : bool [N]
    groups : list of str [Q]
        Of the queries, in ascending order of their numbers.
    pairs : int64 [N, 2] or None
        Items of the pair, of a folder.
    """

    query: NDArray[np.int64]
    relevant: NDArray[np.bool_]
    groups: list[str]
    pairs: NDArray[np.int64] | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="folder with pairs of phrases, or a table of candidates with their scores")
    parser.add_argument("--scores", metavar="CSV", help="table of scores of the folder's pairs")
    parser.add_argument("--against", nargs="+", default=[], metavar="CSV", help="tables of scores to compare with")
    parser.add_argument("--gen-subset", default="test", help="split of the folder (default: test)")
    parser.add_argument("--hits", nargs="+", type=int, default=list(HITS), metavar="K", help="the k of HITS@k")
    parser.add_argument("--seed", type=int, default=1)


def evaluate(options: argparse.Namespace) -> Report:
    if low := [k for k in options.hits if k < 1]:
        raise OptionError(f"--hits has {low[0]}, but at least 1 is accepted.")
    if Path(options.data).is_dir():
        if options.scores is None:
            raise OptionError(f"{options.data} is a folder of pairs: --scores CSV names the table of their scores.")
        candidates, name = _of_folder(Path(options.data), options.gen_subset), options.scores
    elif options.scores is not None:
        raise OptionError(f"{options.data}: --scores CSV is for a folder of pairs, and this is none.")
    else:
        candidates, name = _of_table(Path(options.data)), options.data
    scores = {str(path): _scores(Path(path), candidates, options) for path in (name, *options.against)}

    truth = (candidates.query, candidates.relevant)
    metrics: dict[str, Metric] = {MAP: lambda score: average_precision(*truth, score)}
    chance = {MAP: chance_average_precision(*truth)}
    for k in dict.fromkeys(options.hits):
        metrics[f"hits@{k}"] = lambda score, k=k: hits_at(*truth, score, k)  # type: ignore[misc]
        chance[f"hits@{k}"] = chance_hits_at(*truth, k)
    sizes = np.unique(candidates.query, return_counts=True)[1]
    if np.isnan(chance[MAP]).all():
        raise DatasetError(f"{options.data}: no query has a true candidate.")

    def measured(values: NDArray[np.float64]) -> dict[str, Any]:
        interval = bootstrap_interval(values, groups=candidates.groups, seed=options.seed)
        return {"mean": mean_of_defined(values), "interval": list(interval)}

    values: dict[str, Any] = {
        "data": options.data,
        "scores": str(name),
        "queries": len(sizes),
        "without_true_candidate": int(np.isnan(chance[MAP]).sum()),
        "candidates": len(candidates.query),
        "groups": len(set(candidates.groups)),
        "metrics": {},
        "against": {path: {} for path in scores if path != str(name)},
    }
    rows, differences = [], []
    for key, metric in metrics.items():
        of_queries = {path: metric(score) for path, score in scores.items()}
        own = of_queries[str(name)]
        values["metrics"][key] = {**measured(own), "chance": mean_of_defined(chance[key])}
        rows.append([key, *_cells(values["metrics"][key]), f"{values['metrics'][key]['chance']:.3f}"])
        for path, entries in values["against"].items():
            entries[key] = {**measured(of_queries[path]), "difference": measured(own - of_queries[path])}
            shown = [f"{entries[key]['mean']:.3f}", *_cells(entries[key]["difference"], sign="+")]
            differences.append([f"{key} against {path}", *shown])
    title = f"{len(sizes)} queries with {sizes.min()} to {sizes.max()} candidates, {values['groups']} groups"
    tables = [(f"{title}; 95 % intervals", ["metric", "mean", "interval", "by chance"], rows)]
    if differences:
        header = ["metric", "its mean", "difference", "interval"]
        tables.append(("differences from other scores; not shown where the interval contains 0", header, differences))
    return Report(values, tables)


def _cells(found: dict[str, Any], sign: str = "") -> list[str]:
    low, high = found["interval"]
    return [f"{found['mean']:{sign}.3f}", f"[{low:{sign}.3f}, {high:{sign}.3f}]"]


def _of_folder(folder: Path, split: str) -> Candidates:
    """The pairs of a split that belong to a query."""
    if not pairs_path(folder, split).is_file():
        raise DatasetError(f"{pairs_path(folder, split)} is missing; 'preprocess.labels phrases' makes it.")
    items = read_labels(folder, split) if labels_path(folder, split).is_file() else None
    pairs = read_pairs(folder, split, len(items) if items else np.iinfo(np.int64).max)
    if not len(pairs) or (pairs.query < 0).any():
        raise DatasetError(
            f"{pairs_path(folder, split)} has no groups of candidates (column query); a test split has them."
        )
    first = np.unique(pairs.query, return_index=True)[1]
    numbers = pairs.first[first].tolist()
    groups = [items.groups[number] for number in numbers] if items else [str(query) for query in pairs.query[first]]
    return Candidates(pairs.query, pairs.label > 0, groups, np.stack([pairs.first, pairs.second], axis=1))


class _Table:
    """Columns of a table of scores."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header, self.rows = read_table(path)
        self.header = [normal_text(name) for name in header]
        check_columns(path, self.header, ("query", "label", "score", "group", "first", "second"))
        if not self.rows:
            raise OptionError(f"{path} has no rows.")

    def column(self, name: str) -> list[str]:
        """The cells of a column; raises :class:`OptionError` if it is missing."""
        if name not in self.header:
            raise OptionError(f"{self.path} has no column {name!r}; it has {', '.join(self.header)}.")
        number = self.header.index(name)
        return [row[number] if number < len(row) else "" for _, row in self.rows]

    def numbers(self, name: str) -> NDArray[np.int64]:
        """A column of whole numbers."""
        cells = self.column(name)
        numbers = [whole_number(cell) for cell in cells]
        if None in numbers:
            row = numbers.index(None)
            raise OptionError(
                f"{self.path}, line {self.rows[row][0]}: {name} is {shortened(cells[row])}, but a whole number is "
                "accepted."
            )
        return np.array(numbers, np.int64)

    def scores(self) -> NDArray[np.float64]:
        """The column ``score``, of finite numbers."""
        found = []
        for (line, _), cell in zip(self.rows, self.column("score"), strict=True):
            try:
                found.append(float(cell))
            except ValueError:
                found.append(math.nan)
            if not math.isfinite(found[-1]):
                raise OptionError(
                    f"{self.path}, line {line}: score is {shortened(cell)}, but a finite number is accepted."
                )
        return np.array(found)


def _of_table(path: Path) -> Candidates:
    table = _Table(path)
    query, label = table.numbers("query"), table.numbers("label")
    if len(odd := np.flatnonzero(label > 1)):
        row = int(odd[0])
        raise OptionError(f"{path}, line {table.rows[row][0]}: label is {label[row]}, but 0 or 1 is accepted.")
    first = np.unique(query, return_index=True)[1].tolist()
    names = table.column("group") if "group" in table.header else [str(number) for number in query]
    return Candidates(query, label > 0, [names[row] for row in first])


def _scores(path: Path, candidates: Candidates, options: argparse.Namespace) -> NDArray[np.float64]:
    """The score of each candidate, float64 [N], from a table."""
    table = _Table(path)
    scores = table.scores()
    if candidates.pairs is not None:
        rows = zip(table.numbers("first").tolist(), table.numbers("second").tolist(), scores.tolist(), strict=True)
        of_pair = {(first, second): score for first, second, score in rows}
        pairs = [(first, second) for first, second in candidates.pairs.tolist()]
        if missing := [pair for pair in pairs if pair not in of_pair]:
            raise OptionError(
                f"{path} has no score of {len(missing)} of {len(pairs)} pairs of {options.data}, such as first "
                f"{missing[0][0]}, second {missing[0][1]}."
            )
        return np.array([of_pair[pair] for pair in pairs])
    if len(scores) != len(candidates.query):
        raise OptionError(
            f"{path} has {len(scores)} rows, but {options.data} has {len(candidates.query)}; the same candidates in "
            "the same order are accepted."
        )
    for name, expected in (("query", candidates.query), ("label", candidates.relevant.astype(np.int64))):
        if name in table.header and len(other := np.flatnonzero(table.numbers(name) != expected)):
            row = int(other[0])
            raise OptionError(
                f"{path}, line {table.rows[row][0]}: {name} is not {expected[row]}, that of {options.data}; the same "
                "candidates in the same order are accepted."
            )
    return scores
