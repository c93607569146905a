"""The dataset builder: files in, a dataset folder out; the same bytes for any number of workers and interruptions.

Stages
------
1. *Read*: workers read every file and write what it becomes to run folders in ``DEST/.build`` (see ``journal``).
2. *Decide*: copies are grouped, groups are split, duplicates are left out (see ``split_plan``).
3. *Assemble*: items are copied to ``DEST/.build/out`` in the order of file names, with ``manifest.jsonl`` and
   ``config.json``; then every file gets its final name, ``dict.txt`` and ``config.json`` last.

A build that is stopped in stage 1 continues where it was; stages 2 and 3 are repeated.  ``DEST/.build`` is removed at
the end, unless files timed out or crashed their worker: then it stays, and the same command tries those files again.

``manifest.jsonl``, a line per file of the source, sorted by name:

=================  ==================================================================================================
``file``           its name in the source; bytes that are no UTF-8 are escaped (``musicbert_plugin.files``)
``hash``           first 32 hex digits of the sha256 of its bytes (absent if it could not be read)
``notes``          their number (absent if it did not become a piece); ``frames`` of recordings
``parts``          number of items
``group``          copy group: 16 hex digits, the same for copies and for nothing else
``split``          ``train``, ``valid`` or ``test``
``items``          [begin, end): its items in that split
``lost``           from reason to the number of notes that could not be kept (absent if all could)
``repaired``       number of repairs that the file needed (absent if none)
``repairs``        from kind to their number, unless all are data bytes above 127 (see ``repairs``)
``other_program``  number of notes that a synthesiser plays with another program (absent if none)
``reason``         why it was left out, instead of ``split`` and ``items``
``detail``         that reason, or what was repaired, in a sentence; or ``of``: the file that it is a copy of
=================  ==================================================================================================

Reasons are those of the reader and the codec (``unreadable``, ``no notes``, ``too large``, ...), of the filters,
``duplicate``, ``copy in another split``, ``timeout`` and ``crashed``; ``held out`` of copies of what ``--held-out``
names (``of``: such a file), and ``group held out`` of files in one group with them; and ``no labels`` and ``no split``
of files that are not read at all, since nothing was asked for them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin import __version__
from musicbert_plugin.codecs.score import repair_sentence
from musicbert_plugin.data.dataset_folder import read_config, write_config
from musicbert_plugin.data.indexed_dataset import WRITERS
from musicbert_plugin.errors import DatasetError, OptionError, ScoreError
from musicbert_plugin.files import escaped, read_regular
from musicbert_plugin.parsing import parse_json
from preprocess.engine.archives import ArchiveOptions
from preprocess.engine.cli import DONE, SOME_FAILED, ProgressBar, option, say
from preprocess.engine.dataset_spec import DatasetSpec
from preprocess.engine.destination import Destination
from preprocess.engine.entries import Failure
from preprocess.engine.executors.local import Executor, LocalExecutor
from preprocess.engine.held_out import HeldOut
from preprocess.engine.journal import FileTask, Journal, WorkerConfig
from preprocess.engine.repairs import ENTRIES, repairs_in, summary_of
from preprocess.engine.sidecars import SidecarWriter
from preprocess.engine.sources import Collection, content_hash, suffix_counts
from preprocess.engine.split_plan import HELD_GROUP, Fingerprints, SplitPlan, decide
from preprocess.engine.splits import SPLITS, check_names, parse_ratios, read_groups, read_splits

_NO_PART = ("dest", "jobs", "time_limit", *(limit.name for limit in fields(ArchiveOptions)))
"""Options that decide no bytes by themselves: what the limits of archives leave out is missing in the list of files."""
DUPLICATES = ("keep", "exact", "near")
RETRIED = ("timeout", "crashed")
DUPLICATE, ELSEWHERE = "duplicate", "copy in another split"
NO_LABELS, NO_SPLIT = "no labels", "no split"
HELD_OUT, GROUP_HELD_OUT = "held out", "group held out"
_WANTED = (DUPLICATE, ELSEWHERE, NO_LABELS, NO_SPLIT, HELD_OUT, GROUP_HELD_OUT)


@dataclass
class BuildOptions(ArchiveOptions):
    """What every ``build`` command takes, whatever it builds."""

    dest: str = option("", "folder to write; it is made, and must hold no other dataset", required=True, metavar="DIR")
    jobs: int = option(1, "worker processes; they change nothing but the time", metavar="N")
    format: str = option("bin", "bin: for fairseq-train; text: lines for fairseq-preprocess", choices=("bin", "text"))
    seed: int = option(1, "seed of all random numbers")
    duplicates: str = option(
        "near",
        "copies that a split drops: none (keep), those with equal tokens (exact), or near copies too (near)",
        choices=DUPLICATES,
    )
    split_ratios: str = option("98,1,1", "shares of train, valid and test", metavar="T,V,T")
    splits: str = option("", "CSV with columns file and split that fixes the split of files", metavar="CSV")
    groups: str = option("", "TSV with columns file and group: files of a group stay in one split", metavar="TSV")
    held_out: list[str] | None = option(
        None,
        "leave out copies of what these sources or dataset folders hold, and --groups of them",
        nargs="+",
        metavar="OTHER",
    )
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
    parse_ratios(options.split_ratios)


def _digest_of_file(path: str) -> str:
    return hashlib.sha256(read_regular(path)).hexdigest()[:32] if path else ""


class Assembly:
    """Copies items from run folders to the files of the dataset, in long stretches."""

    def __init__(self, out: Path, journal: Journal, spec: DatasetSpec, format: str) -> None:
        self.writers = [WRITERS[format](out / name, spec.dtype) for name in SPLITS]
        self._journal = journal
        self._stretches: list[tuple[int, int, int] | None] = [None] * len(SPLITS)  # run folder, begin and end in bytes

    def add(self, split: int, run: int, place: tuple[int, int], lengths: list[int]) -> tuple[int, int]:
        """Append a piece's items; returns [begin, end) of them in the split.  ``place``: where, and how many bytes."""
        start, size = place
        writer, stretch = self.writers[split], self._stretches[split]
        if stretch and stretch[0] == run and stretch[2] == start:
            self._stretches[split] = (run, stretch[1], start + size)
        else:
            self._copy(split)
            self._stretches[split] = (run, start, start + size)
        begin = writer.count
        writer.add_sizes(lengths)
        return begin, writer.count

    def _copy(self, split: int) -> None:
        stretch = self._stretches[split]
        if stretch:
            run, start, end = stretch
            self.writers[split].append(self._journal.file(run, "items.bin"), start, end - start)

    def close(self) -> None:
        """Complete all files."""
        for split, writer in enumerate(self.writers):
            self._copy(split)
            writer.close()


@dataclass
class Summary:
    """Counts over the lines of a manifest.

    Attributes
    ----------
    unit : str
        What the length of a piece is counted in.
    files, items, notes : Counter of str
        Of each split.
    reasons : Counter of str
        Files that are left out.
    lost : dict of str to list of int
        From reason to the notes that each file has lost.
    noted : list of dict
        Lines about files that were repaired, or whose notes a synthesiser plays with other programs.
    """

    unit: str
    files: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    lost: dict[str, list[int]] = field(default_factory=dict)
    noted: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """Count a line of the manifest."""
        if "repaired" in line or "other_program" in line:
            self.noted.append({name: line[name] for name in ENTRIES if name in line})
        if "reason" in line:
            self.reasons[line["reason"]] += 1
            return
        self.files[line["split"]] += 1
        self.items[line["split"]] += line["parts"]
        self.notes[line["split"]] += line[self.unit]
        for reason, count in line.get("lost", {}).items():
            self.lost.setdefault(reason, []).append(count)

    def say(self, spec: DatasetSpec) -> None:
        """Print it to stderr."""
        say(f"{'split':<8}{'files':>12}{'items':>12}{self.unit:>16}")
        for name in SPLITS:
            say(f"{name:<8}{self.files[name]:>12,}{self.items[name]:>12,}{self.notes[name]:>16,}")
        for reason, files in sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])):
            say(f"left out: {reason:<24}{files:>10,}{'' if _is_wanted(spec, reason) else '  (failed)'}")
        for reason, counts in sorted(self.lost.items()):
            say(f"lost: {reason:<28}{sum(counts):>10,}  in {len(counts):,} files")
        for sentence in summary_of(self.noted):
            say(sentence)


def _is_wanted(spec: DatasetSpec, reason: str) -> bool:
    """Whether the user has asked to leave files out for this reason, so that it is no failure."""
    return reason in _WANTED or spec.left_out(reason)


class Build:
    """One build of a dataset: what it is made of, and its stages.

    Parameters
    ----------
    given : list of str
        Sources.
    spec : DatasetSpec
    options : BuildOptions
    sidecars : SidecarWriter

    Raises
    ------
    OptionError
        It cannot start.
    """

    def __init__(self, given: list[str], spec: DatasetSpec, options: BuildOptions, sidecars: SidecarWriter) -> None:
        check(options)
        splits = read_splits(options.splits) if options.splits else {}
        ties = read_groups(options.groups) if options.groups else {}
        self.spec, self.options, self.sidecars = spec, options, sidecars
        self.ratios = parse_ratios(options.split_ratios)
        self.collection = Collection(given, spec.suffixes, options.archive_limits())
        if not len(self.collection):
            others = f" It holds {suffix_counts(self.collection.others)}." if self.collection.others else ""
            raise OptionError(f"{' '.join(given)}: no files in it that end with {', '.join(spec.suffixes)}.{others}")
        own_splits, own_ties = (self.collection.values_by_file(own)[0] for own in (sidecars.splits, sidecars.groups))
        self.splits = own_splits | self._known(splits, options.splits, "--splits")
        self.ties = own_ties | self._known(ties, options.groups, "--groups")
        sidecars.check(self.collection)
        self.held_out = (
            HeldOut(options.held_out, spec, options.archive_limits(), options.format) if options.held_out else None
        )
        self.left_out = dict(sidecars.left_out)
        if sidecars.only_listed and self.splits:
            self._leave_out_unlisted()
        names = [f"{split}{suffix}" for split in SPLITS for suffix in WRITERS[options.format].suffixes]
        names += [*sidecars.files, "manifest.jsonl", *(["dict.txt"] if spec.dictionary() else []), "config.json"]
        description = self._description(given)
        self.destination = Destination(Path(options.dest), description, names, sidecars.optional_files)
        self.lost: dict[int, str] = {}  # files without a record, and the reason

    def _known(self, values: dict[str, str], path: str, option: str) -> dict[str, str]:
        """What a table says of files of the source; others are refused, or named where the sidecars are lenient."""
        known, missing = self.collection.values_by_file(values)
        if not self.sidecars.lenient or not known:
            check_names(path, option, missing)
        elif missing:
            say(f"{option} {path}: {len(missing):,} files are not in the source, the first is {missing[0]}.")
        return known

    def _leave_out_unlisted(self) -> None:
        names = self.collection.names
        unlisted = [index for index, name in enumerate(names) if name not in self.splits and index not in self.left_out]
        if unlisted:
            self.left_out |= dict.fromkeys(unlisted, Failure(NO_SPLIT, ""))
            say(
                f"{len(unlisted):,} files have no split in {self._whose}, the first is {names[unlisted[0]]}; they are "
                "left out."
            )

    def _status(self, reasons: dict[str, int], unread: int) -> int:
        failed = unread or self.sidecars.failures or not all(_is_wanted(self.spec, reason) for reason in reasons)
        return SOME_FAILED if failed else DONE

    def _description(self, given: list[str]) -> dict[str, Any]:
        """What decides the bytes of a dataset: not where it lies, the number of workers or their time limit."""
        listing = hashlib.sha256()
        for name in self.collection.names:
            listing.update(name.encode("utf-8", "surrogateescape") + b"\n")
        values = asdict(self.options)
        chosen = {name: value for name, value in values.items() if name not in _NO_PART}
        for name in ("splits", "groups"):
            chosen[f"{name}_sha256"] = _digest_of_file(chosen[name])
            chosen[name] = escaped(chosen[name])
        del chosen["held_out"]
        if self.held_out is not None:
            chosen |= self.held_out.description()
        return {
            "kind": self.spec.name,
            "source": list(map(escaped, given)),
            "source_files": len(self.collection),
            "source_listing": listing.hexdigest(),
            **chosen,
            **self.spec.settings(),
            **self.sidecars.description(),
        }

    # ---------------------------------------------------------------------------------------------------------- stages

    def run(self, executor: Executor) -> int:
        """Build, or find that it is built already; returns the exit status."""
        destination, dest = self.destination, self.options.dest
        if destination.finished and not destination.begun:
            destination.finish_cleaning()
            self._check_unchanged()
            say(f"{dest}: finished already with these options and files; nothing to do.")
            config = read_config(destination.folder / "config.json")
            left_out, held_out = config.get("left_out"), config.get("held_out", {})
            if not isinstance(left_out, dict) or not isinstance(held_out, dict):
                raise DatasetError(f"{dest}: config.json is damaged; remove the folder and build the dataset again.")
            return self._status(left_out, held_out.get("unread", 0))
        destination.begin()
        try:
            journal = self._read(executor)
            if self.held_out is not None:
                self.held_out.read(executor, destination.work / "held_out")
            plan = self._plan(journal)
            summary = self._assemble(journal, plan)
            journal.close()
            destination.publish()
            if not self.lost:
                destination.clean()
        except OSError as error:
            raise DatasetError(f"{dest}: cannot go on ({error.strerror or error}).") from None
        summary.say(self.spec)
        if self.ties and max(self.ratios) < 1:
            total = sum(summary.notes.values()) or 1
            reached = [f"{name} {100 * summary.notes[name] / total:.3g} %" for name in SPLITS]
            wanted = [f"{name} {100 * ratio:.3g} %" for name, ratio in zip(SPLITS, self.ratios, strict=True)]
            unit = self.spec.unit
            say(f"groups stay together: {', '.join(reached)} of the {unit} (asked for: {', '.join(wanted)}).")
        return self._status(summary.reasons, self.held_out.unread if self.held_out is not None else 0)

    def _check_unchanged(self) -> None:
        """Refuse a finished dataset whose source files have other bytes by now."""
        folder, collection, limit = self.destination.folder, self.collection, self.spec.largest_file
        with open(folder / "manifest.jsonl", encoding="utf-8") as file:
            try:
                hashes = [parse_json(line).get("hash") for line in file]
                if len(hashes) != len(collection.names):
                    raise ValueError("lines are missing")
            except (ValueError, AttributeError):
                raise DatasetError(
                    f"{folder / 'manifest.jsonl'} is damaged; remove the folder and build the dataset again."
                ) from None
        changed = []
        for task in self._tasks(np.array([value is not None for value in hashes])):
            source = collection.sources[task.source]
            try:
                found = content_hash(source, task.inner, task.place, limit)
            except ScoreError:
                found = ""
            if found != hashes[task.number]:
                changed.append(task.name)
        if changed:
            more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
            raise OptionError(
                f"{folder} was built from other contents of {min(changed)}{more}; take another --dest, or remove that "
                "one."
            )

    def _tasks(self, wanted: NDArray[np.bool_]) -> Iterator[FileTask]:
        names, stamps = self.collection.names, self.collection.stamps
        for index, source, inner, place in self.collection.tasks(wanted, self.spec.largest_file):
            yield FileTask(index, source, inner, names[index], place, stamps[index])

    def _read(self, executor: Executor) -> Journal:
        """Have every file read that has no record yet."""
        collection, work = self.collection, self.destination.work
        journal = Journal(work, collection.find, collection.stamps)
        journal.update()
        wanted = np.ones(len(collection), bool)
        wanted[list(self.left_out)] = False
        missing = (journal.run < 0) & wanted
        done = int(wanted.sum() - missing.sum())
        if done:
            say(f"{self.options.dest}: going on with an unfinished build; {done:,} of {wanted.sum():,} files are done.")
        config = WorkerConfig(self.spec, tuple(collection.sources), self.options.format == "text")
        with ProgressBar(int(wanted.sum()), done) as bar:
            for progress in executor.run(self._tasks(missing), config, work):
                bar.advance(progress.files)
                if progress.lost:
                    self.lost[progress.lost[0]] = progress.lost[1]
        journal.update()
        for index in np.flatnonzero((journal.run < 0) & wanted).tolist():
            self.lost.setdefault(index, "crashed")
        return journal

    def _plan(self, journal: Journal) -> SplitPlan:
        """Decide where every file goes, and say what the user's splits have led to."""
        names, options = self.collection.names, self.options
        fixed = np.full(len(names), -1, np.int8)
        for name, split in self.splits.items():
            fixed[self.collection.find(name)] = SPLITS.index(split)
        try:
            plan = decide(
                journal,
                names,
                fixed,
                self.ties,
                ratios=self.ratios,
                seed=options.seed,
                duplicates=options.duplicates,
                least_share=self.spec.share_of_copies,
                held_out=functools.partial(self._copies_of_held_out, journal) if self.held_out is not None else None,
            )
            self.sidecars.decided(plan)
        except OptionError as error:
            self._name_failures(journal)
            if not self.lost:
                self.destination.give_up()
                raise
            reasons = ", ".join(sorted(set(self.lost.values())))
            raise OptionError(f"{len(self.lost):,} files were lost ({reasons}): {error}") from None
        fixed[list(self.left_out)] = 0  # they are not split
        if self.splits and (unlisted := int((fixed < 0).sum())):
            say(f"{self._whose} names {len(self.splits):,} files; the other {unlisted:,} are split by content.")
        if moved := int(plan.elsewhere.sum()):
            say(f"{self._whose} puts {moved:,} files beside copies of theirs in another split; they are left out.")
        return plan

    def _copies_of_held_out(self, journal: Journal, pieces: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each of P files with a piece, the index of a held-out file that it is a copy of, or -1."""
        assert self.held_out is not None
        return self.held_out.copies(
            Fingerprints.of_journal(journal, pieces),
            lambda piece: journal.items_of(int(pieces[piece]), self.spec.dtype),
            self.spec.share_of_copies,
        )

    @property
    def _whose(self) -> str:
        """What has fixed the split of files."""
        return "--splits" if self.options.splits else self.sidecars.splits_of

    def _name_failures(self, journal: Journal) -> None:
        for index in np.flatnonzero((journal.run >= 0) & (journal.notes < 0)).tolist():
            record = journal[index]
            say(f"{record['reason']}: {record['detail']}")
        for index, reason in sorted(self.lost.items()):
            say(self._retry_sentence(self.collection.names[index], reason))

    def _assemble(self, journal: Journal, plan: SplitPlan) -> Summary:
        """Write all files of the dataset to the output folder."""
        spec, out = self.spec, self.destination.new_output()
        assembly = Assembly(out, journal, spec, self.options.format)
        self.sidecars.begin(out)
        summary = Summary(spec.unit)
        with open(out / "manifest.jsonl", "w", encoding="ascii", buffering=1 << 18) as manifest:
            for index in range(len(self.collection)):
                line = self._manifest_line(index, journal, plan, assembly)
                self._report(line)
                summary.add(line)
                manifest.write(json.dumps(line, separators=(",", ":")) + "\n")
        assembly.close()
        for name, ratio in zip(SPLITS, self.ratios, strict=True):
            if ratio > 0 and not summary.files[name]:  # only where the splits were given from outside
                say(f"{name} is empty, since {self._whose} gives it no file and leaves none to give.")
        dictionary = spec.dictionary()
        if dictionary:
            (out / "dict.txt").write_bytes(dictionary)
        counts = {"files": summary.files, "items": summary.items, spec.unit: summary.notes}
        config = {
            **spec.settings(),
            **({"dictionary_sha256": hashlib.sha256(dictionary).hexdigest()} if dictionary else {}),
            **self.sidecars.finish(),
            "build": json.loads((self.destination.work / "options.json").read_text()),
            "splits": {name: {what: count[name] for what, count in counts.items()} for name in SPLITS},
            "left_out": dict(sorted(summary.reasons.items())),
            **self._held_out_counts(),
            "versions": {
                "musicbert_plugin": __version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
                **(journal.versions or {}),
            },
        }
        write_config(out, spec.name, config)
        return summary

    def _held_out_counts(self) -> dict[str, Any]:
        if self.held_out is None:
            return {}
        return {"held_out": {"files": len(self.held_out.names), "unread": self.held_out.unread}}

    def _manifest_line(self, index: int, journal: Journal, plan: SplitPlan, assembly: Assembly) -> dict[str, Any]:
        """What becomes of a file; its items are added to the dataset."""
        line: dict[str, Any] = {"file": self.collection.names[index]}
        if index in self.left_out:
            reason, sentence = self.left_out[index]
            return line | {"reason": reason} | ({"detail": sentence} if sentence else {})
        run = int(journal.run[index])
        if run < 0:
            return line | {"reason": self.lost[index]}
        record = journal[index]
        if "hash" in record:
            line["hash"] = record["hash"]
        if "reason" in record:
            self.sidecars.leave_out(record.get("extra", {}))
            return line | {"reason": record["reason"], "detail": record["detail"]}
        line[self.spec.unit] = record["notes"]
        line["parts"] = len(record["lengths"])
        line["group"] = f"{int(plan.group[index]):016x}"
        line.update({name: record[name] for name in ENTRIES if name in record})
        if "repaired" in record and "detail" in record:
            line["detail"] = record["detail"]
        split = int(plan.split[index])
        if (held := int(plan.held[index])) >= 0:
            assert self.held_out is not None
            return line | {"reason": HELD_OUT, "of": self.held_out.names[held]}
        if held == HELD_GROUP:
            return line | {"reason": GROUP_HELD_OUT}
        if split < 0:
            if plan.elsewhere[index]:
                return line | {"reason": ELSEWHERE}
            return line | {"reason": DUPLICATE, "of": self.collection.names[int(plan.original[index])]}
        line["split"] = SPLITS[split]
        line["items"] = assembly.add(split, run, record["items"], record["lengths"])
        line.update(self.sidecars.add(index, SPLITS[split], journal.sidecars_of(index, record)))
        if "lost" in record:
            line["lost"] = record["lost"]
        return line

    def _retry_sentence(self, name: str, reason: str) -> str:
        """About a file that was lost for one of the reasons ``RETRIED``."""
        if reason == "timeout":
            return (
                f"{name}: timeout; the same command tries it again, and --time-limit gives it more than "
                f"{self.options.time_limit:g} seconds."
            )
        return f"{name}: {reason}; the same command tries it again."

    def _report(self, line: dict[str, Any]) -> None:
        """Say what is wrong with a file."""
        if "repaired" in line:
            if "detail" in line:
                say(f"repaired: {line['detail']}")
            else:
                say(repair_sentence(line["file"], repairs_in(line)))
        reason = line.get("reason", "")
        if reason in RETRIED:
            say(self._retry_sentence(line["file"], reason))
        elif "detail" in line and "repaired" not in line and not self.spec.left_out(reason):
            say(f"{reason}: {line['detail']}")


def build(given: list[str], spec: DatasetSpec, options: BuildOptions, sidecars: SidecarWriter | None = None) -> int:
    """Build a dataset with worker processes of this machine.

    Parameters
    ----------
    given : list of str
        Sources.
    spec : DatasetSpec
    options : BuildOptions
    sidecars : SidecarWriter, optional
        By default none are written.

    Returns
    -------
    int
        0, or 1 if some files failed (the rest is done).

    Raises
    ------
    OptionError, DatasetError
        It cannot start, or cannot go on.
    """
    executor = LocalExecutor(options.jobs, options.time_limit, spec.batch_files)
    return Build(given, spec, options, sidecars or SidecarWriter()).run(executor)
