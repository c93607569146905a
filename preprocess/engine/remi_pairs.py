"""Pairs of a condition and a bar, which ``preprocess.remi pairs`` makes from MIDI files or from the user's lines."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.conditions import PAIR_WORDS, RENAMED_WORDS, condition_of
from musicbert_plugin.codecs.octuple import DEFAULT_METER
from musicbert_plugin.codecs.remi import (
    EOS,
    FREE,
    LAYOUTS,
    NOTES_ALONE,
    ONSET,
    ONSETS,
    POSITIONS_PER_QUARTER,
    SEPARATOR,
    UNK,
    VOCABULARY_SIZE,
    WORDS,
    Grid,
)
from musicbert_plugin.codecs.remi_grammar import RemiGrammar
from musicbert_plugin.data.dataset_folder import write_config
from musicbert_plugin.data.indexed_dataset import WRITERS, IndexedDatasetWriter, ItemWriter, TextWriter
from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import read_regular_text
from preprocess.engine.cli import DONE, say
from preprocess.engine.dataset_spec import Item
from preprocess.engine.destination import Destination
from preprocess.engine.remi_windows import BarsSidecarWriter, BarsSpec, check_max_tokens
from preprocess.engine.splits import SPLITS

Ids = NDArray[np.uint16]
Renames = list[tuple[str, str]]
"""(old, new): words of a dictionary, and the words that replace them."""


@dataclass(frozen=True)
class PairSpec(BarsSpec):
    """How a MIDI file becomes pairs of a condition and a bar."""

    layout: str = "notes"

    name = "remi_pairs"
    candidate = "pair"
    empty = "no bar but the first has a note."

    def cut(
        self, grid: Grid, ids: Ids, ends: NDArray[np.int64], exact: bytes
    ) -> tuple[list[Item], dict[str, Any], int]:
        """Bars with ``</s>``, and their conditions."""
        items: list[Item] = []
        conditions, too_long = [np.empty(0, np.uint16)], 0
        begins = np.concatenate(([0], ends[:-1]))
        for bar in np.flatnonzero(np.diff(grid.first_note)[1:]) + 1:
            target = ids[begins[bar] : ends[bar]]
            condition = condition_of(target, ids[begins[bar - 1] : ends[bar - 1]])
            if len(target) + len(condition) > self.max_tokens:
                too_long += 1
                continue
            items.append(np.append(target, np.uint16(EOS)))
            conditions.append(np.append(condition, np.uint16(EOS)))
        lengths = [len(condition) for condition in conditions[1:]]
        return items, {"conditions": np.concatenate(conditions), "lengths": lengths}, too_long

    def line(self, item: Item) -> str:
        """The words; fairseq-preprocess appends ``</s>`` itself."""
        return " ".join(PAIR_WORDS[token] for token in item[:-1].tolist())

    def dictionary(self) -> bytes:
        """``dict.txt``, in which the words of conditions replace words that are never encoded."""
        return "".join(f"{word} 1\n" for word in PAIR_WORDS[4:]).encode()


def _write_item(writer: ItemWriter, ids: Ids, words: tuple[str, ...]) -> None:
    """Write an item that ends with ``</s>``, or, in text format, its words."""
    if isinstance(writer, IndexedDatasetWriter):
        writer.add(ids)
    elif isinstance(writer, TextWriter):
        writer.add_line(" ".join(words[token] for token in ids[:-1].tolist()))


class ConditionsWriter(BarsSidecarWriter):
    """Writes ``{split}_input.bin`` and ``.idx``, or ``.txt``: the conditions, item for item.

    Parameters
    ----------
    format : str
        ``bin`` or ``text``.
    """

    def __init__(self, format: str) -> None:
        super().__init__("pairs")
        self._format = format
        self.files = tuple(f"{split}_input{suffix}" for split in SPLITS for suffix in WRITERS[format].suffixes)
        self._writers: dict[str, ItemWriter] = {}

    def begin(self, out: Path) -> None:
        """Open a file for each split."""
        self._writers = {split: WRITERS[self._format](out / f"{split}_input", "uint16") for split in SPLITS}

    def write(self, index: int, split: str, sidecars: dict[str, Any]) -> None:
        """Write the conditions of a piece."""
        for condition in np.split(sidecars["conditions"], np.cumsum(sidecars["lengths"])[:-1]):
            _write_item(self._writers[split], condition, PAIR_WORDS)

    def close(self) -> None:
        """Complete the files."""
        for writer in self._writers.values():
            writer.close()


# ----------------------------------------------------------------------------------------------------------- own lines


def renamed_dictionary(rows: list[str], renames: Renames, name: str) -> list[str]:
    """The words of a dictionary after renaming.

    Raises
    ------
    OptionError
        An old word is absent or a new word is present already, so that the number of rows would change.
    """
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
    try:
        # A byte order mark and the line ends of other systems are read; splitlines would also end lines at other marks.
        lines = read_regular_text(path, "utf-8-sig").split("\n")
        return [line.split() for line in lines[: None if lines[-1] else -1]]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise OptionError(f"{path}: cannot be read ({reason}).") from None


def is_own(folder: Path) -> bool:
    """Whether a source is a folder of the user's lines: it has the conditions of any split."""
    return any((folder / f"{split}_input.txt").is_file() for split in SPLITS)


PUBLISHED_ROWS = (VOCABULARY_SIZE - 4, 3241)
"""Numbers of rows of the published dictionaries: with the words of attributes, and with English words instead."""


def _check_rows(path: Path, rows: list[str], expected: int | None) -> None:
    """Check the number of rows, and that words of music and ``<sep>`` stand where published models have them."""
    if expected is not None and not SEPARATOR - 3 <= expected <= 65_532:
        raise OptionError(f"--dictionary-rows {expected}: a number from {SEPARATOR - 3} to 65,532 is accepted.")
    accepted = PUBLISHED_ROWS if expected is None else (expected,)
    if len(rows) not in accepted:
        numbers = " or ".join(f"{number:,}" for number in accepted)
        raise OptionError(
            f"{path} has {len(rows):,} rows, but {numbers} are needed, since a checkpoint has an embedding for each: "
            "words of your own take rows that nothing uses (--rename OLD=NEW); for a model with another number, "
            "--dictionary-rows N."
        )
    row_of = {word: row for row, word in enumerate(WORDS[4 : SEPARATOR + 1], start=1)}
    for row, word in enumerate(rows, start=1):
        if row_of.get(word, row) != row:
            raise OptionError(
                f"{path}, row {row}: {word} belongs in row {row_of[word]}, as in the published dictionaries; words of "
                "music keep their rows, even if others are renamed."
            )


def _own_dictionary(path: Path, renames: Renames | None, expected_rows: int | None) -> tuple[list[str], Renames]:
    """The words of a dictionary after renaming, and the renames; see :func:`renamed_dictionary`."""
    rows = [row[0] for row in _read_lines(path) if row]
    present = set(rows)
    if len(present) < len(rows):
        twice = next(word for word, count in Counter(rows).items() if count > 1)
        raise OptionError(f"{path}: the word {twice} has more than one row; every word must be unique.")
    if renames is None:
        renames = [(old, new) for old, new in RENAMED_WORDS.items() if old in present and new not in present]
    words = renamed_dictionary(rows, renames, str(path))
    if "<sep>" not in words:
        raise OptionError(f"{path}: a row <sep> is needed, the word between a condition and its answer.")
    _check_rows(path, rows, expected_rows)
    return words, renames


_Pairs = dict[str, tuple[list[list[int]], list[list[int]]]]  # for each split, conditions and answers


def _own_lines(folder: Path, words: list[str]) -> _Pairs:
    """Conditions and answers of every split that the folder has, as ids."""
    id_of = {word: number for number, word in enumerate(words, start=4)} | {"<unk>": UNK}

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
                "each line needs its counterpart."
            )
        pairs[split] = (conditions, answers)
    return pairs


AUTO = "auto"
_ENOUGH = 0.95  # share of the answers that a layout must admit to be chosen


@dataclass(frozen=True)
class Fit:
    """How the answers of own pairs fit the grammar of a layout.

    Attributes
    ----------
    layout : str
        One of ``remi.LAYOUTS``, or ``remi.FREE``.
    lines, fitting : int
        Numbers of answers, and of those that the grammar of the layout (or, for ``FREE``, of the nearest) admits.
    misfit : str
        A sentence about the first answer that does not fit; empty if all do.
    meter : (int, int)
        A time signature whose bars have room for all onsets.
    """

    layout: str
    lines: int
    fitting: int
    misfit: str
    meter: tuple[int, int]


def fit_layout(folder: Path, pairs: _Pairs, words: list[str], layout: str) -> Fit:
    """Compare answers with the grammars of all layouts, or of the given one; the first of the best counts.

    Parameters
    ----------
    folder : Path
    pairs : dict
    words : list of str
        The dictionary.
    layout : str
        One of ``remi.LAYOUTS``, or :data:`AUTO`: the best, or ``FREE`` if it admits fewer than 95 % of the answers.

    Raises
    ------
    OptionError
        The dictionary lacks words of the given layout.
    """
    places = [(split, number) for split, (_, answers) in pairs.items() for number in range(len(answers))]
    lines = [answer for _, answers in pairs.values() for answer in answers]
    ids = np.concatenate([np.empty(0, np.int64), *(np.asarray(line, np.int64) for line in lines)])
    begins = np.cumsum([0, *map(len, lines)])
    all_words = ["<s>", "<pad>", "</s>", "<unk>", *words]
    onset = ids[(ids >= ONSET) & (ids < ONSET + ONSETS)] - ONSET
    quarters = max(4, int(onset.max(initial=0)) // POSITIONS_PER_QUARTER + 1)
    best: Fit | None = None
    for candidate in LAYOUTS if layout == AUTO else (layout,):
        try:
            grammar = RemiGrammar(candidate, words=all_words, meter=(quarters, 4))
        except OptionError:
            if layout == AUTO:  # the dictionary has other words instead of those of this layout
                continue
            raise
        misfits = grammar.misfits(ids, begins)
        wrong = np.flatnonzero(misfits >= 0)
        sentence = ""
        if len(wrong):
            split, number = places[wrong[0]]
            line, index = lines[wrong[0]], int(misfits[wrong[0]])
            what = (
                f"word {index + 1}, {all_words[line[index]]}, cannot follow"
                if index < len(line)
                else "it ends in a bar"
            )
            sentence = f"{folder / f'{split}.txt'}, line {number + 1}: {what} in layout {candidate}."
        if best is None or len(lines) - len(wrong) > best.fitting:
            best = Fit(candidate, len(lines), len(lines) - len(wrong), sentence, (quarters, 4))
    if best is None or (layout == AUTO and best.fitting < _ENOUGH * best.lines):
        fitting, sentence = (best.fitting, best.misfit) if best else (0, "")
        return Fit(FREE, len(lines), fitting, sentence, (quarters, 4))
    return best


def _tell(fit: Fit) -> None:
    """Say what the layout means for generation."""
    if fit.misfit:
        say(f"{fit.lines - fit.fitting:,} of {fit.lines:,} answers do not fit; the first: {fit.misfit}")
    if fit.layout == FREE:
        say("Answers have no known order (layout free): a model of them generates without a grammar.")
    else:
        say(f"Answers are in layout {fit.layout}, by whose grammar a model of them generates.")
        if fit.layout in NOTES_ALONE and fit.meter != DEFAULT_METER:
            numerator, denominator = fit.meter
            say(f"Some bars are longer than 4/4: generate with --meter {numerator}/{denominator}.")


def _write_own(out: Path, pairs: _Pairs, words: list[str], format: str, max_tokens: int) -> tuple[dict[str, int], int]:
    """Write conditions and answers; returns the number of pairs of each split, and of pairs that were too long."""
    counts, too_long = {}, 0
    all_words = ("<s>", "<pad>", "</s>", "<unk>", *words)
    for split in SPLITS:
        given = list(zip(*pairs.get(split, ([], [])), strict=True))
        kept = [pair for pair in given if len(pair[0]) + len(pair[1]) <= max_tokens]
        counts[split], too_long = len(kept), too_long + len(given) - len(kept)
        for side, stem in enumerate((f"{split}_input", split)):
            writer = WRITERS[format](out / stem, "uint16")
            for pair in kept:
                _write_item(writer, np.array([*pair[side], EOS], np.uint16), all_words)
            writer.close()
    return counts, too_long


def own_pairs(
    folder: Path,
    dest: str,
    *,
    format: str,
    layout: str,
    max_tokens: int,
    renames: Renames | None = None,
    dictionary_rows: int | None = None,
) -> int:
    """Convert the user's lines, ``{split}_input.txt`` and ``{split}.txt`` with ``dict.txt``, into a dataset folder.

    A stopped build, started again, writes the same bytes; a finished dataset is not changed.

    Parameters
    ----------
    folder : Path
    dest : str
        Folder to write.
    format, layout : str
        See :func:`fit_layout` about the layout.
    max_tokens : int
        Pairs of more words are left out and counted.
    renames : list of (str, str), optional
        Old and new words; by default those of :data:`~musicbert_plugin.codecs.conditions.RENAMED_WORDS` whose new word
        the dictionary lacks.
    dictionary_rows : int, optional
        Number of rows that ``dict.txt`` must have; by default one of :data:`PUBLISHED_ROWS`.

    Returns
    -------
    int
        The exit status.

    Raises
    ------
    OptionError
        The files of a split differ in length, a word is not in the dictionary, or the dictionary has another number of
        rows, or words of music in other rows.
    """
    check_max_tokens(max_tokens)
    words, renames = _own_dictionary(folder / "dict.txt", renames, dictionary_rows)
    pairs = _own_lines(folder, words)
    fit = fit_layout(folder, pairs, words, layout)
    dictionary = "".join(f"{word} 1\n" for word in words).encode()
    stems = [stem for split in SPLITS for stem in (f"{split}_input", split)]
    content = hashlib.sha256()
    for stem in stems:
        path = folder / f"{stem}.txt"
        content.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"-")
    settings = {
        "layout": fit.layout,
        "max_tokens": max_tokens,
        "dictionary_sha256": hashlib.sha256(dictionary).hexdigest(),
        "renamed": dict(renames),
    }
    source = {"source": [str(folder)], "source_sha256": content.hexdigest(), "format": format}
    description = {"kind": PairSpec.name, **settings, **source}
    names = [f"{stem}{suffix}" for stem in stems for suffix in WRITERS[format].suffixes] + ["dict.txt", "config.json"]
    destination = Destination(Path(dest), description, names)
    if destination.finished and not destination.begun:
        destination.finish_cleaning()
        say(f"{dest}: finished already with these options and files; nothing to do.")
        return DONE
    destination.begin()
    try:
        out = destination.new_output()
        counts, too_long = _write_own(out, pairs, words, format, max_tokens)
        (out / "dict.txt").write_bytes(dictionary)
        splits = {split: {"items": counts[split]} for split in SPLITS}
        fits = {"answers": fit.lines, "answers_in_layout": fit.fitting}
        entries = {**settings, **fits, "pairs_too_long": too_long, "build": description, "splits": splits}
        write_config(out, PairSpec.name, entries)
        destination.publish()
        destination.clean()
    except OSError as error:
        raise OptionError(f"{dest}: cannot be written ({error.strerror or error}).") from None
    if too_long:
        say(f"{too_long:,} pairs too long are left out.")
    _tell(fit)
    for split in pairs:
        say(f"{split:<8}{counts[split]:>12,} pairs")
    return DONE
