"""``python -m preprocess.remi build|encode|decode|pairs``: MIDI files, MuseCoco's REMI, and data to train on.

``build``   a folder, archive or list of MIDI files into a dataset folder for ``attribute_to_music``
``encode``  MIDI files into lines of words on stdout, one line per file
``decode``  lines of words into MIDI files
``pairs``   conditions and answers: of MIDI files, or of lines of one's own, into a dataset folder to fine-tune on

``build`` stores windows, up to three per piece, drawn from the seed and the piece's content: ``--window-bars`` bars (a
number, or a range from which each window draws) that begin at different bars.  A window without a note is left out, and
so is one of more than ``--max-tokens`` words, which is counted.  The key is that of the whole piece.  An item is the
words and ``</s>``; beside ``{split}.bin`` and ``.idx`` lies ``{split}.attributes.npy``, uint8 [items, 63], the class of
every command word (see ``musicbert_plugin.codecs.attributes``).

``pairs`` of MIDI are two neighbouring bars in the layout ``notes``: the condition is ``PITCH``, then for each onset of
the second bar ``o`` and its distinct pitches from high to low, ``INS`` and its instruments, ``HIST`` and the first bar;
the answer is the second bar, which has a note.  Conditions are in ``{split}_input.bin`` and ``.idx``, answers in
``{split}.bin`` and ``.idx``.  With a SRC that holds ``{split}_input.txt``, ``{split}.txt`` and ``dict.txt``, these
lines are taken as they are.  Words that a dictionary lacks take the place of words that nothing uses: the number of
rows stays, so that a checkpoint's embeddings fit.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from musicbert_plugin.codecs.conditions import CONDITION_WORDS, PAIR_WORDS, RENAMED_WORDS, condition_of
from musicbert_plugin.data.dataset_folder import write_config
from musicbert_plugin.data.indexed_dataset import WRITERS, IndexedDatasetWriter, TextWriter
from musicbert_plugin.files import escaped
from preprocess.engine.cli import DONE, add_options, option, options_of, run_command, say
from preprocess.engine.midi import MidiKind, MidiLimits
from preprocess.engine.pipeline import BuildOptions, Companion, Destination, build
from preprocess.engine.splits import SPLITS

LAYOUTS = ("bar-tempo", "position-tempo", "notes")
WINDOWS = 3  # per piece, at most
TOO_LONG, EMPTY = "windows too long", "no windows"
SLOTS = 63


@dataclass
class RemiOptions(MidiLimits):
    """What only the REMI builder takes."""

    layout: str = option("bar-tempo", "of the words", choices=LAYOUTS)
    window_bars: str = option("16", "bars of a window, a number or MIN-MAX", metavar="N")
    max_tokens: int = option(5120, "leave out windows with more words")
    labels: str = option("", "CSV with a column file, and any of artist, genre and emotion", metavar="CSV")
    chords: bool = option(False, "recognise chords, for the attribute C1 (seconds per file)")
    legacy: bool = option(False, "attributes with the original's defects")


def parse_window_bars(text: str) -> tuple[int, int]:
    """``16`` or ``8-16`` as (least, most).

    Raises
    ------
    OptionError
    """
    from musicbert_plugin.errors import OptionError

    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most <= 256:
        raise OptionError(f"--window-bars {text}: a number of bars from 1 to 256, or two as MIN-MAX, is accepted.")
    return least, most


def check_max_tokens(most: int) -> None:
    """Refuse a limit that nothing can meet.

    Raises
    ------
    OptionError
    """
    from musicbert_plugin.errors import OptionError

    if most < 1:
        raise OptionError(f"--max-tokens {most}: 1 or more is needed.")


@dataclass(frozen=True)
class BarsKind(MidiKind):
    """How a MIDI file becomes items that are whole bars of REMI; see ``workers.Kind``."""

    layout: str = "bar-tempo"
    max_tokens: int = 5120

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_tokens(self.max_tokens)

    def examine(self, data: bytes, name: str) -> Any:
        """The piece in a MIDI file, or a :class:`ScoreError`."""
        from musicbert_plugin.codecs import remi
        from musicbert_plugin.errors import ScoreError
        from preprocess.engine.workers import Piece

        score = self.read(data, name)
        try:
            grid = remi.grid_for(score, self.layout)
        except ScoreError as error:
            raise ScoreError(error.reason, f"{name}: {error.sentence}") from None
        ids, ends = remi.encode_grid(grid, self.layout)
        exact = hashlib.sha256(ids.tobytes()).digest()[:16]
        items, extra = self.cut(grid, ids, ends, exact, name)
        if grid.lost:
            extra["lost"] = dict(grid.lost)
        return Piece(
            len(grid.onset), items, exact, self.identity(score), extra, lost=dict(grid.lost), repaired=score.repaired
        )

    def cut(self, grid: Any, ids: Any, ends: Any, exact: bytes, name: str) -> tuple[list[Any], dict[str, Any]]:
        """The items of a piece, and what its companion must know."""
        raise NotImplementedError

    def left_out(self, reason: str) -> bool:
        """Whether a filter gave this reason."""
        return reason in (TOO_LONG, EMPTY)

    def settings(self) -> dict[str, Any]:
        """What decides the content of the items, apart from the seed."""
        return {"layout": self.layout, "max_tokens": self.max_tokens, **self.limits()}


@dataclass(frozen=True)
class RemiKind(BarsKind):
    """How a MIDI file becomes windows of REMI."""

    least_bars: int = 16
    most_bars: int = 16
    chords: bool = False
    legacy: bool = False

    name = "remi"

    def cut(self, grid: Any, ids: Any, ends: Any, exact: bytes, name: str) -> tuple[list[Any], dict[str, Any]]:
        """Windows with ``</s>``, and their attributes."""
        import numpy as np

        from musicbert_plugin.codecs.attributes import class_vector, extract
        from musicbert_plugin.codecs.chords import brightness
        from musicbert_plugin.codecs.remi import EOS
        from musicbert_plugin.errors import ScoreError

        shades = brightness(grid) if self.chords else None
        items, classes, too_long = [], [], 0
        for begin, end in draw_windows(grid.first_note, self.least_bars, self.most_bars, self.seed, exact):
            window = ids[ends[begin - 1] if begin else 0 : ends[end - 1]]
            if len(window) > self.max_tokens:
                too_long += 1
                continue
            items.append(np.append(window, np.uint16(EOS)))
            classes.append(class_vector(extract(grid, begin, end, legacy=self.legacy, chords=shades)))
        if not items:
            if too_long:
                raise ScoreError(
                    TOO_LONG,
                    f"{name}: every window drawn ({too_long}) has more than {self.max_tokens} words.",
                    {"too_long": too_long},
                )
            raise ScoreError(EMPTY, f"{name}: no window drawn has a note.")
        extra: dict[str, Any] = {"classes": base64.b64encode(np.stack(classes).tobytes()).decode()}
        if too_long:
            extra["too_long"] = too_long
        return items, extra

    def line(self, item: Any) -> str:
        """The words; fairseq-preprocess appends ``</s>`` itself."""
        from musicbert_plugin.codecs.remi import to_words

        return to_words(item[:-1])

    def dictionary(self) -> bytes:
        """``dict.txt``."""
        from musicbert_plugin.codecs.remi import dictionary_text

        return dictionary_text().encode()

    def settings(self) -> dict[str, Any]:
        """What decides the content of the items, apart from the seed."""
        own = ("least_bars", "most_bars", "chords", "legacy")
        return super().settings() | {name: getattr(self, name) for name in own}


def draw_windows(first_note: Any, least: int, most: int, seed: int, content: bytes) -> list[tuple[int, int]]:
    """Up to three windows of bars [begin, end) with at least a note, that begin at different bars, in that order.

    Parameters
    ----------
    first_note : int [B + 1]
        Index of the first note of every bar, and the number of notes.
    least, most : int
        Bars of a window; each draws its number.  A piece of fewer bars has one window, the whole.
    seed : int
    content : bytes
        What the random numbers depend on besides the seed.
    """
    import numpy as np

    random = np.random.default_rng([seed, int.from_bytes(content, "little")])
    bars = len(first_note) - 1
    starts = bars - min(least, bars) + 1
    windows = []
    for begin in sorted(random.choice(starts, min(WINDOWS, starts), replace=False).tolist()):
        end = begin + int(random.integers(min(least, bars), min(most, bars - begin) + 1))
        if first_note[begin] < first_note[end]:
            windows.append((begin, end))
    return windows


class Attributes(Companion):
    """The files ``{split}.attributes.npy``; values that no music tells come from a CSV."""

    files = tuple(f"{split}.attributes.npy" for split in SPLITS)

    def __init__(self, labels: str = "") -> None:
        from musicbert_plugin.codecs.attributes import read_given

        self._given = read_given(labels) if labels else {}
        self._labels = labels
        self._of_index: dict[int, dict[str, Any]] = {}
        self._too_long = 0
        self._lost: Counter[str] = Counter()
        self._rows: dict[str, Any] = {}

    def description(self) -> dict[str, Any]:
        """Name and content of the CSV."""
        digest = hashlib.sha256(Path(self._labels).read_bytes()).hexdigest()[:32] if self._labels else ""
        return {"labels": escaped(self._labels), "labels_sha256": digest}

    def check(self, collection: Any) -> None:
        """Some of the files must have labels, if there are any."""
        from musicbert_plugin.errors import OptionError

        self._of_index = {collection.find(file): values for file, values in self._given.items()}
        missing = len(self._given) - len(set(self._of_index) - {-1})
        self._of_index.pop(-1, None)
        if self._given and not self._of_index:
            raise OptionError(
                f"--labels {self._labels}: none of its files is in the source, {next(iter(self._given))} ..."
            )
        if missing:
            say(f"--labels: {missing:,} of {len(self._given):,} files are not in the source.")

    def begin(self, out: Path) -> None:
        """Open a file of rows for each split."""
        self._out = out
        self._rows = {split: open(out / f"{split}.rows", "w+b") for split in SPLITS}
        self._too_long, self._lost = 0, Counter()

    def add(self, index: int, split: str, extra: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a piece."""
        import numpy as np

        from musicbert_plugin.codecs.attributes import with_given

        rows = base64.b64decode(extra["classes"])
        if index in self._of_index:
            classes = np.frombuffer(rows, np.uint8).reshape(-1, SLOTS)
            rows = with_given(classes, self._of_index[index]).tobytes()
        self._rows[split].write(rows)
        self._too_long += extra.get("too_long", 0)
        self._lost.update(extra.get("lost", {}))
        return {key: extra[key] for key in ("too_long", "lost") if key in extra}

    def leave_out(self, extra: dict[str, Any]) -> None:
        """Count what was too long of a piece that gives nothing else."""
        self._too_long += extra.get("too_long", 0)

    def finish(self) -> dict[str, Any]:
        """Give every file its header."""
        import numpy as np

        for split, rows in self._rows.items():
            count = rows.tell() // SLOTS
            rows.seek(0)
            with open(self._out / f"{split}.attributes.npy", "wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, SLOTS)}
                np.lib.format.write_array_header_1_0(file, header)
                shutil.copyfileobj(rows, file)
            rows.close()
            (self._out / f"{split}.rows").unlink()
        if self._too_long:
            say(f"{self._too_long:,} windows too long are left out.")
        return {"windows_too_long": self._too_long, "lost_notes": dict(self._lost)}


# ------------------------------------------------------------------------------------------------------------- pairs


@dataclass
class PairOptions(MidiLimits):
    """What only ``pairs`` takes."""

    max_tokens: int = option(5120, "leave out pairs with more words")
    layout: str = option("notes", "of the words of one's own lines", choices=LAYOUTS)


# Options of ``pairs`` that lines of one's own have no use for, with their defaults.
_OF_MIDI = {
    one.name: one.default
    for options in (BuildOptions, MidiLimits)
    for one in fields(options)
    if one.name not in ("dest", "jobs", "format", "seed", "time_limit")
}


@dataclass(frozen=True)
class PairKind(BarsKind):
    """How a MIDI file becomes pairs of a condition and a bar."""

    layout: str = "notes"

    name = "remi_pairs"

    def cut(self, grid: Any, ids: Any, ends: Any, exact: bytes, name: str) -> tuple[list[Any], dict[str, Any]]:
        """Bars with ``</s>``, and the conditions that they answer."""
        import numpy as np

        from musicbert_plugin.codecs.remi import EOS
        from musicbert_plugin.errors import ScoreError

        items, conditions, too_long = [], [], 0
        begins = np.concatenate(([0], ends[:-1]))
        for bar in np.flatnonzero(np.diff(grid.first_note)[1:]) + 1:
            target = ids[begins[bar] : ends[bar]]
            condition = condition_of(target, ids[begins[bar - 1] : ends[bar - 1]])
            if len(target) + len(condition) > self.max_tokens:
                too_long += 1
                continue
            items.append(np.append(target, np.uint16(EOS)))
            conditions.append(np.append(condition, np.uint16(EOS)))
        if not items:
            if too_long:
                raise ScoreError(
                    TOO_LONG,
                    f"{name}: every pair ({too_long}) has more than {self.max_tokens} words.",
                    {"too_long": too_long},
                )
            raise ScoreError(EMPTY, f"{name}: no bar but the first has a note.")
        extra: dict[str, Any] = {
            "conditions": base64.b64encode(np.concatenate(conditions).tobytes()).decode(),
            "lengths": [len(condition) for condition in conditions],
        }
        if too_long:
            extra["too_long"] = too_long
        return items, extra

    def line(self, item: Any) -> str:
        """The words; fairseq-preprocess appends ``</s>`` itself."""
        return " ".join(PAIR_WORDS[token] for token in item[:-1].tolist())

    def dictionary(self) -> bytes:
        """``dict.txt``, some unused words of which have new names."""
        return "".join(f"{word} 1\n" for word in PAIR_WORDS[4:]).encode()


class Conditions(Companion):
    """The files ``{split}_input.bin`` and ``.idx``, or ``.txt``: what the items answer."""

    def __init__(self, format: str) -> None:
        self._format = format
        suffixes = IndexedDatasetWriter.suffixes if format == "bin" else TextWriter.suffixes
        self.files = tuple(f"{split}_input{suffix}" for split in SPLITS for suffix in suffixes)
        self._writers: dict[str, Any] = {}
        self._too_long, self._lost = 0, Counter[str]()

    def begin(self, out: Path) -> None:
        """Open a file for each split."""
        make: Any = (lambda stem: IndexedDatasetWriter(stem, "uint16")) if self._format == "bin" else TextWriter
        self._writers = {split: make(out / f"{split}_input") for split in SPLITS}
        self._too_long, self._lost = 0, Counter()

    def add(self, index: int, split: str, extra: dict[str, Any]) -> dict[str, Any]:
        """Write the conditions of a piece."""
        import numpy as np

        whole = np.frombuffer(base64.b64decode(extra["conditions"]), np.uint16)
        for condition in np.split(whole, np.cumsum(extra["lengths"])[:-1]):
            if self._format == "bin":
                self._writers[split].add(condition)
            else:
                self._writers[split].add_line(" ".join(PAIR_WORDS[token] for token in condition[:-1].tolist()))
        self._too_long += extra.get("too_long", 0)
        self._lost.update(extra.get("lost", {}))
        return {key: extra[key] for key in ("too_long", "lost") if key in extra}

    def leave_out(self, extra: dict[str, Any]) -> None:
        """Count what was too long of a piece that gives nothing else."""
        self._too_long += extra.get("too_long", 0)

    def finish(self) -> dict[str, Any]:
        """The files are whole afterwards."""
        for writer in self._writers.values():
            writer.close()
        if self._too_long:
            say(f"{self._too_long:,} pairs too long are left out.")
        return {"pairs_too_long": self._too_long, "lost_notes": dict(self._lost)}


def parse_renames(given: list[str]) -> list[tuple[str, str]]:
    """``OLD=NEW`` as pairs.

    Raises
    ------
    OptionError
    """
    from musicbert_plugin.errors import OptionError

    renames = [tuple(one.split("=", 1)) for one in given]
    for one, parts in zip(given, renames, strict=True):
        if len(parts) != 2 or not all(parts) or any(" " in part for part in parts):
            raise OptionError(f"--rename {one}: OLD=NEW is needed, two words.")
    return [(old, new) for old, new in renames]


def renamed_dictionary(rows: list[str], renames: list[tuple[str, str]], name: str) -> list[str]:
    """The words of a dictionary after renaming; those of the default renames that it has already need none.

    Raises
    ------
    OptionError
        The number of rows would change.
    """
    from musicbert_plugin.errors import OptionError

    words = list(rows)
    kept = f"the number of rows ({len(words):,}) may not change, since a checkpoint's embeddings depend on it"
    for old, new in renames:
        if old not in words:
            raise OptionError(f"--rename {old}={new}: {name} has no word {old}; {kept}.")
        if new in words:
            raise OptionError(f"--rename {old}={new}: {name} has the word {new} already; {kept}.")
        words[words.index(old)] = new
    return words


def _read_lines(path: Path) -> list[list[str]]:
    from musicbert_plugin.errors import OptionError

    try:
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise OptionError(f"{path}: cannot be read ({reason}).") from None


def is_own(folder: Path) -> bool:
    """Whether a source holds lines of one's own: the conditions of any split."""
    return any((folder / f"{split}_input.txt").is_file() for split in SPLITS)


def _own_dictionary(path: Path, renames: list[tuple[str, str]] | None) -> tuple[list[str], list[tuple[str, str]]]:
    """The words of a dictionary after renaming, and what was renamed; see :func:`renamed_dictionary`."""
    from musicbert_plugin.errors import OptionError

    rows = [row[0] for row in _read_lines(path) if row]
    present = set(rows)
    if len(present) < len(rows):
        twice = next(word for word, count in Counter(rows).items() if count > 1)
        raise OptionError(f"{path}: the word {twice} has more than one row; each needs one of its own.")
    if renames is None:
        renames = [(old, new) for old, new in RENAMED_WORDS.items() if old in present and new not in present]
    words = renamed_dictionary(rows, renames, str(path))
    if "<sep>" not in words:
        raise OptionError(f"{path}: a row <sep> is needed, the word between a condition and its answer.")
    return words, renames


_Pairs = dict[str, tuple[list[list[int]], list[list[int]]]]  # of a split: conditions, answers


def _own_lines(folder: Path, words: list[str]) -> _Pairs:
    """Conditions and answers of every split that is there, as ids."""
    from musicbert_plugin.errors import OptionError

    id_of = {word: 4 + at for at, word in enumerate(words)} | {"<unk>": 3}

    def ids_of(path: Path) -> list[list[int]]:
        lines = []
        for number, line in enumerate(_read_lines(path), start=1):
            if unknown := next((word for word in line if word not in id_of), None):
                raise OptionError(
                    f"{path}, line {number}: {unknown!r} is not in dict.txt; --rename OLD={unknown} puts it on a row "
                    "that is not used."
                )
            lines.append([id_of[word] for word in line])
        return lines

    pairs = {}
    for split in SPLITS:
        files = [folder / f"{split}_input.txt", folder / f"{split}.txt"]
        if not any(file.is_file() for file in files):
            continue
        conditions, answers = map(ids_of, files)
        if len(conditions) != len(answers):
            raise OptionError(
                f"{folder}: {files[0].name} has {len(conditions):,} lines, but {files[1].name} has {len(answers):,}; "
                "line by line they are a pair."
            )
        pairs[split] = (conditions, answers)
    return pairs


def _write_own(out: Path, pairs: _Pairs, words: list[str], format: str, max_tokens: int) -> tuple[dict[str, int], int]:
    """Write conditions and answers; returns how many pairs each split has, and how many were too long."""
    import numpy as np

    counts, too_long = {}, 0
    for split in SPLITS:
        whole = list(zip(*pairs.get(split, ([], [])), strict=True))
        kept = [pair for pair in whole if len(pair[0]) + len(pair[1]) <= max_tokens]
        counts[split], too_long = len(kept), too_long + len(whole) - len(kept)
        for side, stem in enumerate((f"{split}_input", split)):
            writer: Any = WRITERS[format](out / stem, "uint16")
            for pair in kept:
                if format == "bin":
                    writer.add(np.array([*pair[side], 2], np.uint16))
                else:
                    writer.add_line(" ".join("<unk>" if one == 3 else words[one - 4] for one in pair[side]))
            writer.close()
    return counts, too_long


def own_pairs(
    folder: Path, general: BuildOptions, options: PairOptions, renames: list[tuple[str, str]] | None = None
) -> int:
    """Lines of one's own, ``{split}_input.txt`` and ``{split}.txt`` with ``dict.txt``, into a dataset folder.

    Pairs of more than ``--max-tokens`` words are left out and counted.  Stopped and started again it ends with the same
    bytes; what is finished already is left alone.

    Raises
    ------
    OptionError
        Files of unequal length, a word that is not in the dictionary, a dictionary whose rows would change, or an
        option that only MIDI files have a use for.
    """
    from musicbert_plugin.errors import OptionError

    check_max_tokens(options.max_tokens)
    for name, value in (asdict(general) | asdict(options)).items():
        if name in _OF_MIDI and value != _OF_MIDI[name]:
            raise OptionError(
                f"--{name.replace('_', '-')} {value}: it is for MIDI files; lines of one's own are taken as they are."
            )
    words, renames = _own_dictionary(folder / "dict.txt", renames)
    pairs = _own_lines(folder, words)
    dictionary = "".join(f"{word} 1\n" for word in words).encode()
    stems = [stem for split in SPLITS for stem in (f"{split}_input", split)]
    content = hashlib.sha256()
    for stem in stems:
        path = folder / f"{stem}.txt"
        content.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"-")
    settings = {
        "layout": options.layout,
        "max_tokens": options.max_tokens,
        "dictionary_sha256": hashlib.sha256(dictionary).hexdigest(),
        "renamed": dict(renames),
    }
    source = {"source": [str(folder)], "source_sha256": content.hexdigest(), "format": general.format}
    description = {"kind": "remi_pairs", **settings, **source}
    suffixes = WRITERS[general.format].suffixes
    names = [f"{stem}{suffix}" for stem in stems for suffix in suffixes] + ["dict.txt", "config.json"]
    destination = Destination(Path(general.dest), description, names)
    if destination.finished and not destination.begun:
        say(f"{general.dest}: finished already with these options and files; nothing to do.")
        return DONE
    destination.begin()
    try:
        out = destination.work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        counts, too_long = _write_own(out, pairs, words, general.format, options.max_tokens)
        (out / "dict.txt").write_bytes(dictionary)
        config = {
            **settings,
            "pairs_too_long": too_long,
            "build": description,
            "splits": {split: {"items": counts[split]} for split in SPLITS},
        }
        write_config(out, "remi_pairs", config)
        destination.publish()
        destination.clean()
    except OSError as error:
        raise OptionError(f"{general.dest}: cannot be written ({error.strerror or error}).") from None
    if too_long:
        say(f"{too_long:,} pairs too long are left out.")
    for split in pairs:
        say(f"{split:<8}{counts[split]:>12,} pairs")
    return DONE


# ---------------------------------------------------------------------------------------------------------- commands


def encode(files: list[str], layout: str, plain: bool) -> int:
    """Print one line per file; name those that fail, and those that lose notes."""
    from musicbert_plugin.codecs import remi
    from preprocess.engine.encode_decode import encode_files

    def line_of(score: Any, file: str) -> str:
        grid = remi.grid_for(score, layout, plain=plain)
        if grid.lost:
            listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(grid.lost.items()))
            say(f"{file}: lost: {listed}")
        return remi.to_words(remi.encode_grid(grid, layout)[0])

    return encode_files(files, line_of)


def decode(path: str, dest: str, layout: str | None, meter: str) -> int:
    """Write every piece of a file of lines as MIDI."""
    from musicbert_plugin.codecs import remi
    from preprocess.engine.encode_decode import decode_lines

    given = remi.parse_meter(meter)
    return decode_lines(path, dest, lambda words: remi.decode_with_repairs(remi.from_words(words), given, layout))


def pairs(source: list[str], general: BuildOptions, options: PairOptions, renames: list[str] | None) -> int:
    """Pairs of MIDI files, or of one folder of lines."""
    from musicbert_plugin.errors import OptionError

    own = [folder for folder in source if is_own(Path(folder))]
    if own and len(source) > 1:
        raise OptionError(f"{own[0]} holds lines of one's own, which are taken alone; {len(source)} sources are given.")
    if own:
        return own_pairs(Path(own[0]), general, options, None if renames is None else parse_renames(renames))
    if renames:
        raise OptionError("--rename belongs to lines of one's own, a folder with train_input.txt.")
    if options.layout != PairKind.layout:
        raise OptionError(
            f"--layout {options.layout} belongs to lines of one's own, a folder with train_input.txt; pairs of MIDI "
            f"files are in the layout {PairKind.layout}."
        )
    kind = PairKind(
        options.max_bytes, options.max_notes, options.max_events, general.seed, max_tokens=options.max_tokens
    )
    return build(source, kind, general, Conditions(general.format))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m preprocess.remi", description="MIDI files and MuseCoco's REMI.")
    commands = top.add_subparsers(dest="command", required=True)
    source_help = "folder, .zip, .tar.gz, MIDI file, or .txt list of paths"
    one = commands.add_parser("build", help="MIDI files into a dataset of windows and attributes")
    one.add_argument("source", nargs="+", metavar="SRC", help=source_help)
    add_options(one, BuildOptions)
    add_options(one, RemiOptions)
    one = commands.add_parser("pairs", help="MIDI files, or lines of one's own, into a dataset of pairs")
    one.add_argument("source", nargs="+", metavar="SRC", help=f"{source_help}; or a folder with train_input.txt")
    one.add_argument(
        "--rename",
        action="append",
        metavar="OLD=NEW",
        help="with one's own lines: a new word for a row of dict.txt (default: d-96 to d-101 become "
        f"{', '.join(CONDITION_WORDS)})",
    )
    add_options(one, BuildOptions)
    add_options(one, PairOptions)
    one = commands.add_parser("encode", help="MIDI files into lines of words on stdout")
    one.add_argument("files", nargs="+", metavar="FILE", help="MIDI file")
    one.add_argument("--layout", default="bar-tempo", choices=LAYOUTS, help="of the words (default: bar-tempo)")
    one.add_argument("--plain", action="store_true", help="leave silence, key and shortest lengths as they stand")
    one = commands.add_parser("decode", help="lines of words into MIDI files")
    one.add_argument("lines", metavar="LINES", help="file of lines, or - for standard input")
    one.add_argument("--dest", required=True, metavar="DIR", help="folder for 0.mid, 1.mid, ...")
    one.add_argument("--layout", choices=LAYOUTS, help="what the lines should be (default: as they look)")
    one.add_argument("--meter", default="4/4", metavar="N/D", help="where no s word tells it (default: 4/4)")
    return top


def main(arguments: list[str]) -> int:
    """Run a command; returns its status."""
    given = parser().parse_args(arguments)
    if given.command == "encode":
        return encode(given.files, given.layout, given.plain)
    if given.command == "decode":
        return decode(given.lines, given.dest, given.layout, given.meter)
    general = options_of(given, BuildOptions)
    if given.command == "build":
        own = options_of(given, RemiOptions)
        least, most = parse_window_bars(own.window_bars)
        kind = RemiKind(
            own.max_bytes, own.max_notes, own.max_events, general.seed, own.layout, own.max_tokens, least, most,
            own.chords, own.legacy,
        )  # fmt: skip
        return build(given.source, kind, general, Attributes(own.labels))
    pair_options = options_of(given, PairOptions)
    return pairs(given.source, general, pair_options, given.rename)


if __name__ == "__main__":
    run_command(main)
