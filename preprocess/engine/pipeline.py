"""The one dataset builder: files in, a dataset folder out, the same bytes whoever helped and whatever interrupted it.

Stages
------
1. *Examine*: workers read every file and write what it becomes to run folders in ``DEST/.build`` (see ``workers``).
2. *Decide*: copies are grouped by content (see ``copies``), groups are split (see ``splits``), duplicates are left out.
3. *Assemble*: items are copied to ``DEST/.build/out`` in the order of file names, with ``manifest.jsonl`` and
   ``config.json``; then every file gets its final name, ``dict.txt`` and ``config.json`` last.

A build that is stopped in stage 1 goes on where it was; stages 2 and 3 are done again.  Nothing in them depends on
the order in which workers finished.  ``DEST/.build`` goes away at the end, unless files timed out or crashed their
worker: then it stays, and the same command tries those files again.

``manifest.jsonl``, a line per file of the source, sorted by name:

=============  ======================================================================================================
``file``       its name in the source; bytes that are no UTF-8 are escaped (``musicbert_plugin.files``)
``hash``       first 32 hex digits of the sha256 of its bytes (absent if it could not be read)
``notes``      how many (absent if it did not become a piece); ``frames`` of recordings
``parts``      how many items it gives
``group``      copy group: 16 hex digits, the same for copies and for nothing else
``split``      ``train``, ``valid`` or ``test``
``items``      [begin, end): its items in that split
``lost``       from reason to how many of its notes could not be kept (absent if all could)
``repaired``   how many data bytes of the file had to be repaired (absent if none)
``reason``     why it was left out, instead of ``split`` and ``items``
``detail``     that reason in a sentence, or ``of``: the file that it is a copy of
=============  ======================================================================================================

Reasons are those of the reader and the codec (``unreadable``, ``no notes``, ``too large``, ...), of the filters,
``duplicate``, ``copy in another split``, ``timeout`` and ``crashed``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musicbert_plugin.data.dataset_folder import read_config, write_config
from musicbert_plugin.data.indexed_dataset import WRITERS
from musicbert_plugin.errors import DatasetError, OptionError, ScoreError
from musicbert_plugin.files import escaped
from preprocess.engine.cli import DONE, SOME_FAILED, option, say
from preprocess.engine.near_duplicates import SHARE, Groups, copy_groups
from preprocess.engine.sources import Collection
from preprocess.engine.splits import (
    PROTECTED,
    SPLITS,
    assign,
    check_names,
    fill,
    parse_ratios,
    read_groups,
    read_splits,
)
from preprocess.engine.workers import Assignment, Kind, Records, examine_all

WORK = ".build"
DUPLICATES = ("keep", "exact", "near")
RETRIED = ("timeout", "crashed")


class Companion:
    """What a kind of dataset keeps beside its items: tables, statistics, labels.  This one keeps nothing.

    Attributes
    ----------
    files : tuple of str
        Names of the files that it writes.
    splits, groups : dict of str to str
        Of files, by name, beside those of ``--splits`` and ``--groups``.
    lenient : bool
        Whether ``--splits`` and ``--groups`` may name files that are not in the source.
    """

    files: tuple[str, ...] = ()
    splits: dict[str, str] = {}
    groups: dict[str, str] = {}
    lenient = False

    def description(self) -> dict[str, Any]:
        """What decides the bytes of those files."""
        return {}

    def check(self, collection: Collection) -> None:
        """The files of the source are known; an :class:`OptionError` ends the build before it begins."""

    def begin(self, out: Path) -> None:
        """All files are read; those of the dataset follow in the order of their names."""

    def add(self, index: int, split: str, extra: dict[str, Any]) -> dict[str, Any]:
        """A file that goes to a split, with its :attr:`Piece.extra`; returns what its manifest line says besides."""
        return {}

    def leave_out(self, extra: dict[str, Any]) -> None:
        """A file that a filter leaves out, with its :attr:`ScoreError.extra`."""

    def finish(self) -> dict[str, Any]:
        """All files are written; returns entries of ``config.json``."""
        return {}


@dataclass
class BuildOptions:
    """What every ``build`` command takes, whatever it builds."""

    dest: str = option("", "folder to write; it is made, and must hold no other dataset", required=True, metavar="DIR")
    jobs: int = option(1, "worker processes; they change nothing but the time", metavar="N")
    format: str = option("bin", "bin: for fairseq-train; text: lines for fairseq-preprocess", choices=("bin", "text"))
    seed: int = option(1, "of everything that is drawn")
    duplicates: str = option(
        "near", "within a split, drop no copy, those with equal tokens, or near copies too", choices=DUPLICATES
    )
    split_ratios: str = option("98,1,1", "shares of train, valid and test", metavar="T,V,T")
    splits: str = option("", "CSV with columns file and split that fixes the split of files", metavar="CSV")
    groups: str = option("", "TSV with columns file and group: files of a group stay in one split", metavar="TSV")
    time_limit: float = option(60.0, "seconds after which a worker that is stuck at a file is ended", metavar="S")


def check(options: BuildOptions) -> None:
    """Refuse values that no build can work with.

    Raises
    ------
    OptionError
    """
    if not 1 <= options.jobs <= 4096:
        raise OptionError(f"--jobs {options.jobs}: a number from 1 to 4096 is needed.")
    if not options.time_limit > 0:
        raise OptionError(f"--time-limit {options.time_limit}: seconds above 0 are needed.")
    if options.seed < 0:
        raise OptionError(f"--seed {options.seed}: a number from 0 on is needed.")
    parse_ratios(options.split_ratios)


def _digest_of_file(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32] if path else ""


class Destination:
    """The folder that a dataset is written to: whether it may be, and how far it is.

    Parameters
    ----------
    folder : Path
    description : dict
        Everything that decides the bytes of the dataset; another one is another dataset.

    Raises
    ------
    OptionError
        It can't be written, or holds something else.
    """

    def __init__(self, folder: Path, description: dict[str, Any], names: list[str]) -> None:
        self.folder, self.work, self._names = folder, folder / WORK, names
        self._description = description
        self.made = not folder.exists()
        self._lock: Any = None
        try:
            self.finished = self._is_finished()
            self.begun = (self.work / "options.json").is_file()
            if self.begun:
                self._compare(json.loads((self.work / "options.json").read_text()), "an unfinished build")
            elif not self.finished:
                there = [name for name in names if (folder / name).exists()]
                if there:
                    raise OptionError(f"{folder}: holds {there[0]} already; an empty or a new folder is needed.")
        except (OSError, ValueError) as error:
            raise OptionError(f"{folder}: cannot be used ({getattr(error, 'strerror', None) or error}).") from None

    def _is_finished(self) -> bool:
        config = self.folder / "config.json"
        if not config.is_file():
            return False
        self._compare(read_config(config).get("build", {}), "a dataset")
        return all((self.folder / name).is_file() for name in self._names)

    def _compare(self, other: dict[str, Any], what: str) -> None:
        mine = json.loads(json.dumps(self._description))
        different = sorted(key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key))
        if different:
            key = different[0]
            raise OptionError(
                f"{self.folder}: holds {what} made with another {key.replace('_', ' ')} ({other.get(key)!r}, here "
                f"{mine.get(key)!r}); choose another --dest or remove it."
            )

    def begin(self) -> None:
        """Make the folder and take hold of it, so that no second build writes there at the same time."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.work / "lock", "w")
            try:
                import fcntl

                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:  # Windows
                import msvcrt

                msvcrt.locking(self._lock.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            if not self.begun:
                partial = self.work / "options.json.partial"
                partial.write_text(json.dumps(self._description))
                os.replace(partial, self.work / "options.json")
        except BlockingIOError:
            raise OptionError(f"{self.folder}: another build is writing there.") from None
        except OSError as error:
            raise OptionError(f"{self.folder}: cannot be written ({error.strerror or error}).") from None

    def give_up(self) -> None:
        """Leave nothing of a build that can't succeed."""
        self.clean()
        if self.made:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def clean(self) -> None:
        """Remove the work folder."""
        self._lock.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def publish(self) -> None:
        """Give every file its final name; the two that readers look for are gone first and come last."""
        for name in self._names[-2:]:
            (self.folder / name).unlink(missing_ok=True)
        for name in self._names:
            os.replace(self.work / "out" / name, self.folder / name)


class Bar:
    """Progress on stderr: a bar on a terminal, else a line every half minute."""

    def __init__(self, total: int, done: int) -> None:
        self._bar: Any = None
        self._done, self._total, self._spoken = done, total, time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="file", file=sys.stderr, smoothing=0.05)

    def advance(self, files: int) -> None:
        """So many more are done."""
        self._done += files
        if self._bar is not None:
            self._bar.update(files)
        elif time.monotonic() - self._spoken > 30:
            self._spoken = time.monotonic()
            say(f"{self._done:,} of {self._total:,} files")

    def close(self) -> None:
        """Leave the line."""
        if self._bar is not None:
            self._bar.close()


@dataclass
class Decision:
    """Where every file goes: arrays over all files of the source."""

    split: np.ndarray  # int8: 0, 1, 2; -1 where it is left out
    group: np.ndarray  # uint64: content hash of the copy group
    original: np.ndarray  # int64: the file that stands for it, if it is a copy; else -1
    elsewhere: np.ndarray  # bool: left out since its copy is in another split


def _first_of_equal(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each index in ``among``, the first of them with an equal row of ``values``, or -1 if it is the first."""
    first = np.full(len(among), -1, np.int64)
    _, start, inverse = np.unique(values[among], axis=0, return_index=True, return_inverse=True)
    found = among[start[inverse.reshape(-1)]]
    first[found != among] = found[found != among]
    return first


def decide(
    records: Records,
    names: Sequence[str],
    options: BuildOptions,
    fixed: np.ndarray,
    ties: dict[str, str],
    least_share: float = SHARE,
) -> Decision:
    """Group, split and thin out the pieces.

    Parameters
    ----------
    records : Records
    names : sequence of str
        Of all files, sorted.
    options : BuildOptions
    fixed : int8 [N]
        Split that the user has fixed (0, 1, 2) or -1.
    ties : dict
        From name to a group that stays together.
    least_share : float
        Of equal shingles, from which on pieces are near copies.

    Raises
    ------
    OptionError
        Too few pieces for the splits, or contradictory wishes.
    """
    count = len(names)
    pieces = np.flatnonzero(records.notes >= 0)
    groups = copy_groups(
        records.sequence[pieces],
        records.contour[pieces],
        records.span[pieces],
        records.timing[pieces],
        records.sketch[pieces],
        records.shingles[pieces, 1],
        lambda piece: records.shingles_of(int(pieces[piece])),
        least_share,
    )
    groups.unite_equal(np.arange(len(pieces)), records.exact[pieces, 0])  # equal tokens, though times may differ
    copies = groups.roots()
    group = np.full(len(pieces), 2**64 - 1, np.uint64)
    np.minimum.at(group, copies, records.sequence[pieces])
    group = group[copies]

    bundles = Groups(len(pieces))
    bundles.unite_equal(np.arange(len(pieces)), copies)
    pinned = fixed[pieces]
    if ties:
        first_of: dict[str, int] = {}
        side_of: dict[str, tuple[int, str]] = {}
        for at, piece in enumerate(pieces.tolist()):
            tie = ties.get(names[piece])
            if tie is None:
                continue
            bundles.unite(first_of.setdefault(tie, at), at)
            if pinned[at] >= 0:
                side, other = side_of.setdefault(tie, (int(pinned[at]), names[piece]))
                if side != pinned[at]:
                    raise OptionError(
                        f"--groups ties {other} and {names[piece]} (group {tie}), but --splits puts them into "
                        f"{SPLITS[side]} and {SPLITS[int(pinned[at])]}; one of the two must yield."
                    )
    roots = bundles.roots()
    distinct, bundle = np.unique(roots, return_inverse=True)
    keys = np.full(len(distinct), 2**64 - 1, np.uint64)
    np.minimum.at(keys, bundle, records.sequence[pieces])
    fixed_side = np.full(len(distinct), -1, np.int8)
    for name in reversed(PROTECTED):
        number = SPLITS.index(name)
        fixed_side[bundle[pinned == number]] = number
    ratios = parse_ratios(options.split_ratios)
    split_of_bundle = assign(keys, fixed_side, ratios, options.seed)
    alike = copies[:, None] if options.duplicates == "near" else records.exact[pieces]
    order = np.argsort(records.repaired[pieces], kind="stable")  # an intact file stands for its repaired copies
    if ties:
        sizes = records.notes[pieces].astype(np.int64)
        if options.duplicates != "keep":
            sizes[order[_first_of_equal(alike, order) >= 0]] = 0
        split_of_bundle = fill(split_of_bundle, np.bincount(bundle, sizes, len(distinct)), fixed_side, ratios)

    split = np.full(count, -1, np.int8)
    original = np.full(count, -1, np.int64)
    elsewhere = np.zeros(count, bool)
    all_groups = np.zeros(count, np.uint64)
    all_groups[pieces] = group
    side_of_piece = split_of_bundle[bundle]
    outside = (pinned >= 0) & (pinned != side_of_piece)
    elsewhere[pieces[outside]] = True
    inside = order[~outside[order]]
    split[pieces[inside]] = side_of_piece[inside]
    if options.duplicates != "keep":
        first = _first_of_equal(alike, inside)
        twice = inside[first >= 0]
        split[pieces[twice]] = -1
        original[pieces[twice]] = pieces[first[first >= 0]]
    return Decision(split, all_groups, original, elsewhere)


class Assembly:
    """Items on their way from run folders to the files of the dataset, in long stretches."""

    def __init__(self, out: Path, records: Records, kind: Kind, format: str) -> None:
        self.writers = [WRITERS[format](out / name, kind.dtype) for name in SPLITS]
        self._records = records
        self._stretch: list[tuple[int, int, int] | None] = [None] * 3

    def add(self, split: int, run: int, start: int, size: int, lengths: list[int]) -> tuple[int, int]:
        """Append a piece's items; returns [begin, end) of them in the split."""
        writer, stretch = self.writers[split], self._stretch[split]
        if stretch and stretch[0] == run and stretch[2] == start:
            self._stretch[split] = (run, stretch[1], start + size)
        else:
            self._pour(split)
            self._stretch[split] = (run, start, start + size)
        begin = writer.count
        writer.add_sizes(lengths)
        return begin, writer.count

    def _pour(self, split: int) -> None:
        stretch = self._stretch[split]
        if stretch:
            run, start, end = stretch
            self.writers[split].append(self._records.file(run, "items.bin"), start, end - start)

    def close(self) -> None:
        """All files are whole afterwards."""
        for split, writer in enumerate(self.writers):
            self._pour(split)
            writer.close()


@dataclass
class Summary:
    """What the closing table tells."""

    unit: str
    kept: Counter[str]
    items: Counter[str]
    notes: Counter[str]
    reasons: Counter[str]
    lost: dict[str, list[int]]  # from reason to the notes of each file
    repaired: list[int]  # data bytes of each file

    def say(self, left_out: Any) -> None:
        """Print it to stderr."""
        say(f"{'split':<8}{'files':>12}{'items':>12}{self.unit:>16}")
        for name in SPLITS:
            say(f"{name:<8}{self.kept[name]:>12,}{self.items[name]:>12,}{self.notes[name]:>16,}")
        for reason, files in sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])):
            say(f"left out: {reason:<24}{files:>10,}{'' if left_out(reason) else '  (failed)'}")
        for reason, counts in sorted(self.lost.items()):
            say(f"lost: {reason:<28}{sum(counts):>10,}  in {len(counts):,} files")
        if self.repaired:
            say(f"repaired: {'data byte above 127':<24}{sum(self.repaired):>10,}  in {len(self.repaired):,} files")


def _assemble(
    destination: Destination,
    collection: Collection,
    records: Records,
    decision: Decision,
    lost: dict[int, str],
    kind: Kind,
    options: BuildOptions,
    companion: Companion,
) -> Summary:
    out = destination.work / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    assembly = Assembly(out, records, kind, options.format)
    companion.begin(out)
    kept: Counter[str] = Counter()
    items: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    lost_notes: dict[str, list[int]] = {}
    repaired: list[int] = []
    names = collection.names
    with open(out / "manifest.jsonl", "w", encoding="ascii", buffering=1 << 18) as manifest:
        for index, name in enumerate(names):
            line: dict[str, Any] = {"file": name}
            run = int(records.run[index])
            if run < 0:
                line["reason"] = lost[index]
            else:
                record = records[index]
                if "hash" in record:
                    line["hash"] = record["hash"]
                if "reason" in record:
                    line["reason"], line["detail"] = record["reason"], record["detail"]
                    companion.leave_out(record.get("extra", {}))
                else:
                    line[kind.unit] = record["notes"]
                    line["parts"] = len(record["lengths"])
                    line["group"] = f"{int(decision.group[index]):016x}"
                    if "repaired" in record:
                        line["repaired"] = record["repaired"]
                        repaired.append(record["repaired"])
                        from musicbert_plugin.codecs.score import repair_sentence

                        say(repair_sentence(name, record["repaired"]))
                    split = int(decision.split[index])
                    if split >= 0:
                        where = SPLITS[split]
                        line["split"] = where
                        start, size = record["items"]
                        line["items"] = assembly.add(split, run, start, size, record["lengths"])
                        line.update(companion.add(index, where, record.get("extra", {})))
                        if "lost" in record:
                            line["lost"] = record["lost"]
                            for reason, count in record["lost"].items():
                                lost_notes.setdefault(reason, []).append(count)
                        kept[where] += 1
                        items[where] += line["parts"]
                        notes[where] += record["notes"]
                    elif decision.elsewhere[index]:
                        line["reason"] = "copy in another split"
                    else:
                        line["reason"], line["of"] = "duplicate", names[int(decision.original[index])]
            if "reason" in line:
                reasons[line["reason"]] += 1
                if line["reason"] in RETRIED:
                    say(f"{name}: {line['reason']}; the same command tries it again.")
                elif "detail" in line and not kind.left_out(line["reason"]):
                    say(f"{line['reason']}: {line['detail']}")
            manifest.write(json.dumps(line, separators=(",", ":")) + "\n")
    assembly.close()
    return Summary(kind.unit, kept, items, notes, reasons, lost_notes, repaired)


def _is_wish(kind: Kind, reason: str) -> bool:
    """Whether leaving a file out for this reason was asked for, rather than a failure."""
    return reason in ("duplicate", "copy in another split") or kind.left_out(reason)


def _description(
    given: list[str], collection: Collection, kind: Kind, options: BuildOptions, companion: Companion
) -> dict[str, Any]:
    """Everything that decides the bytes of a dataset: not where it lies, who helps, or how long a worker may take."""
    listing = hashlib.sha256()
    for name in collection.names:
        listing.update(name.encode("utf-8", "surrogateescape") + b"\n")
    chosen = {name: value for name, value in asdict(options).items() if name not in ("dest", "jobs", "time_limit")}
    for name in ("splits", "groups"):
        chosen[f"{name}_sha256"] = _digest_of_file(chosen[name])
        chosen[name] = escaped(chosen[name])
    return {
        "kind": kind.name,
        "source": list(map(escaped, given)),
        "source_files": len(collection),
        "source_listing": listing.hexdigest(),
        **chosen,
        **kind.settings(),
        **companion.description(),
    }


def _known(wishes: dict[str, str], path: str, name: str, collection: Collection, lenient: bool) -> dict[str, str]:
    """What ``--splits`` or ``--groups`` say of files of the source; others are refused, or named if ``lenient``."""
    known = {file: value for file, value in wishes.items() if collection.find(file) >= 0} if lenient else wishes
    check_names(path, name, list(known or wishes), collection.find)
    if len(known) < len(wishes):
        first = next(file for file in wishes if file not in known)
        say(f"{name} {path}: {len(wishes) - len(known):,} files are not in the source, the first is {first}.")
    return known


def build(given: list[str], kind: Kind, options: BuildOptions, companion: Companion | None = None) -> int:
    """Build a dataset.

    Parameters
    ----------
    given : list of str
        Sources.
    kind : Kind
    options : BuildOptions
    companion : Companion
        Default: one that keeps nothing.

    Returns
    -------
    int
        0, or 1 if some files failed (the rest is done).

    Raises
    ------
    OptionError, DatasetError
        It could not start, or not go on.
    """
    check(options)
    companion = companion or Companion()
    splits = read_splits(options.splits) if options.splits else {}
    ties = read_groups(options.groups) if options.groups else {}
    collection = Collection(given, kind.suffixes)
    if not len(collection):
        raise OptionError(f"{' '.join(given)}: no files in it that end with {', '.join(kind.suffixes)}.")
    splits = companion.splits | _known(splits, options.splits, "--splits", collection, companion.lenient)
    ties = companion.groups | _known(ties, options.groups, "--groups", collection, companion.lenient)
    companion.check(collection)
    description = _description(given, collection, kind, options, companion)
    suffixes = WRITERS[options.format].suffixes
    names = [f"{split}{suffix}" for split in SPLITS for suffix in suffixes]
    names += [*companion.files, "manifest.jsonl", *(["dict.txt"] if kind.dictionary() else []), "config.json"]
    destination = Destination(Path(options.dest), description, names)
    if destination.finished and not destination.begun:
        _check_unchanged(destination.folder, collection, kind)
        say(f"{options.dest}: finished already with these options and files; nothing to do.")
        return _status_of_finished(destination.folder, kind)
    destination.begin()
    try:
        return _build(destination, collection, kind, options, companion, splits, ties)
    except OSError as error:
        raise DatasetError(f"{options.dest}: cannot go on ({error.strerror or error}).") from None


def _check_unchanged(folder: Path, collection: Collection, kind: Kind) -> None:
    """Refuse a finished dataset whose source files have other bytes by now."""
    with open(folder / "manifest.jsonl", encoding="utf-8") as file:
        hashes = [json.loads(line).get("hash") for line in file]
    changed = []
    everything = np.ones(len(collection), bool)
    for index, number, inner, place in collection.tasks(everything, kind.largest_file):
        if hashes[index] is not None:
            source = collection.sources[number]
            try:
                data = place if source.streamed else source.read(inner, place, kind.largest_file)
            except ScoreError:
                data = b""
            if hashlib.sha256(data).hexdigest()[:32] != hashes[index]:
                changed.append(collection.names[index])
    if changed:
        more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        raise OptionError(
            f"{folder} was built from other contents of {min(changed)}{more}; take another --dest, or remove that one."
        )


def _status_of_finished(folder: Path, kind: Kind) -> int:
    with open(folder / "config.json", encoding="utf-8") as file:
        reasons = json.load(file)["left_out"]
    return DONE if all(_is_wish(kind, reason) for reason in reasons) else SOME_FAILED


def _tasks(collection: Collection, wanted: np.ndarray, limit: int) -> Iterator[Any]:
    names, stamps = collection.names, collection.stamps
    for index, source, inner, place in collection.tasks(wanted, limit):
        yield (index, source, inner, names[index], place), stamps[index]


def _build(
    destination: Destination,
    collection: Collection,
    kind: Kind,
    options: BuildOptions,
    companion: Companion,
    splits: dict[str, str],
    ties: dict[str, str],
) -> int:
    records = Records(destination.work, collection.find, collection.stamps)
    records.update()
    todo = records.run < 0
    done = int(len(todo) - todo.sum())
    if done:
        say(f"{options.dest}: going on with an unfinished build; {done:,} of {len(todo):,} files are done.")
    assignment = Assignment(kind, tuple(collection.sources), options.format == "text")
    lost: dict[int, str] = {}
    bar = Bar(len(todo), done)
    try:
        tasks = _tasks(collection, todo, kind.largest_file)
        for progress in examine_all(tasks, assignment, destination.work, options.jobs, options.time_limit):
            bar.advance(progress.files)
            if progress.lost:
                lost[progress.lost[0]] = progress.lost[1]
    finally:
        bar.close()
    records.update()
    missing = np.flatnonzero(records.run < 0)
    for index in missing.tolist():
        lost.setdefault(index, "crashed")

    fixed = np.full(len(collection), -1, np.int8)
    for name, split in splits.items():
        fixed[collection.find(name)] = SPLITS.index(split)
    try:
        decision = decide(records, collection.names, options, fixed, ties, kind.share_of_copies)
    except OptionError as error:
        _name_failures(collection, records, kind)
        for index, reason in sorted(lost.items()):
            say(f"{collection.names[index]}: {reason}; the same command tries it again.")
        if not lost:
            destination.give_up()
            raise
        raise OptionError(f"{len(lost):,} files were lost ({', '.join(sorted(set(lost.values())))}): {error}") from None
    whose = "--splits" if options.splits else "the source"
    if splits and (unlisted := int((fixed < 0).sum())):
        say(f"{whose} names {len(splits):,} files; the other {unlisted:,} are split by content.")
    if moved := int(decision.elsewhere.sum()):
        say(f"{whose} puts {moved:,} files beside copies of theirs in another split; they are left out.")

    summary = _assemble(destination, collection, records, decision, lost, kind, options, companion)
    for name, ratio in zip(SPLITS, parse_ratios(options.split_ratios), strict=True):
        if ratio > 0 and not summary.kept[name]:  # only where the splits were given from outside
            say(f"{name} is empty, since {whose} gives it no file and leaves none to give.")
    out = destination.work / "out"
    dictionary = kind.dictionary()
    if dictionary:
        (out / "dict.txt").write_bytes(dictionary)
    config = {
        **kind.settings(),
        **({"dictionary_sha256": hashlib.sha256(dictionary).hexdigest()} if dictionary else {}),
        **companion.finish(),
        "build": json.loads((destination.work / "options.json").read_text()),
        "splits": {
            name: {"files": summary.kept[name], "items": summary.items[name], kind.unit: summary.notes[name]}
            for name in SPLITS
        },
        "left_out": dict(sorted(summary.reasons.items())),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, **(records.versions or {})},
    }
    write_config(out, kind.name, config)
    records.close()
    destination.publish()
    if not lost:
        destination.clean()
    summary.say(lambda reason: _is_wish(kind, reason))
    if ties:
        wanted = [
            f"{name} {100 * ratio:.3g} %"
            for name, ratio in zip(SPLITS, parse_ratios(options.split_ratios), strict=True)
        ]
        total = sum(summary.notes.values()) or 1
        reached = [f"{name} {100 * summary.notes[name] / total:.3g} %" for name in SPLITS]
        say(f"groups stay together: {', '.join(reached)} of the {kind.unit} (asked for: {', '.join(wanted)}).")
    return DONE if all(_is_wish(kind, reason) for reason in summary.reasons) else SOME_FAILED


def _name_failures(collection: Collection, records: Records, kind: Kind) -> None:
    for index in np.flatnonzero((records.run >= 0) & (records.notes < 0)).tolist():
        record = records[index]
        say(f"{record['reason']}: {record['detail']}")
