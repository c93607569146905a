"""``python -m preprocess.render SRC --dest DIR``: labelled recordings rendered from MIDI, for audio models.

    python -m preprocess.render MIDI_FOLDER --dest DIR [--programs own violin 73 ...] [--tempi own 60-180 ...]
                                [--clips 4] [--seconds 10] [--labels CSV]

SRC is as for the other builders: folders, archives, MIDI files, lists.  From every piece, ``--clips`` excerpts of
``--seconds`` (0: the whole piece) are rendered, each with one of the programs and one of the tempi given:

``--programs``  numbers 0..127 or General MIDI names, used for all melodic notes of the excerpt; ``own``: as in the
                file.  Excerpts take them in turn, in an order drawn for each piece, so all are about equally frequent.
``--tempi``     quarter notes per minute; ``60-180`` draws from a log-uniform distribution; ``own``: as in the file.
                Excerpts take them in turn, too.

An excerpt begins at a random onset and holds the notes that begin in it.  It is scaled to a root mean square of
``--level`` decibels relative to full scale, so that loudness reveals no label.

All random numbers depend on the seed and the piece's name: the same files, options and synthesiser give the same bytes
with any number of workers.  A stopped run can be resumed; excerpts of a file that has changed since the last finished
run are rendered anew.

Written to DIR:

``<piece>_<k>.wav``  one channel, 16 bits
``labels.csv``       ``file``; ``piece``, equal for copies of a piece, and therefore a group column for the split;
                     ``composer``, the top folder of the MIDI file, if it is in one; ``instrument``, the name of the
                     program (with ``own``: the one that sounds longest); ``tempo``, mean quarter notes per minute; then
                     the columns of ``--labels``, a CSV with a column ``file`` about the MIDI files, whose ``composer``
                     takes precedence and whose ``split`` ``preprocess.audio`` uses
``manifest.jsonl``   a line per MIDI file: its content hash and clips, or why there are none; ``repaired`` and
                     ``other_program`` as in the manifests of datasets (``engine.repairs``)
``render.json``      options, versions and, for fluidsynth, the sound font's hash

``python -m preprocess.audio build DIR/labels.csv --dest DATA --group-column piece --duplicates keep`` makes a dataset
of them.

By default fluidsynth renders if it is installed with a sound font, else the synthesiser of ``synthesis``; see
``--synthesiser``.  fluidsynth is called as a program, since the synthesiser of symusic 0.6.0 returns no samples in
Python.  Files are written one by one, each complete, so that their presence shows what a stopped run has done: the
journal and the destination of ``engine`` are for datasets, whose files appear together.

Limits: controllers, pedals and bends are not rendered, see ``codecs.score``.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import hashlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musicbert_plugin.codecs.channel_programs import USE
from musicbert_plugin.codecs.general_midi import PROGRAM_NAMES
from musicbert_plugin.codecs.reading_options import (
    DEFAULT_READING,
    ReadingOptions,
    add_reading_options,
    reading_options_of,
)
from musicbert_plugin.codecs.score import Score, repair_sentence, seconds_of, write_midi
from musicbert_plugin.errors import OptionError, ScoreError
from musicbert_plugin.files import UNFINISHED, FolderLock, atomic_path, is_disk_full
from musicbert_plugin.parsing import parse_json, whole_number
from preprocess.engine.archives import ArchiveOptions
from preprocess.engine.cli import CANNOT_START, DONE, SOME_FAILED, add_options, option, options_of, run_command, say
from preprocess.engine.executors.local import call_all
from preprocess.engine.label_tables import LabelTable, read_labels
from preprocess.engine.near_duplicates import copy_groups, fingerprint_of
from preprocess.engine.repairs import entries_of, repairs_in, summary_of
from preprocess.engine.sources import Collection, Source
from preprocess.synthesis import DRUMS, synthesise

SOUND_FONTS = tuple(
    f"{folder}/{name}"
    for folder in (
        "/usr/share/sounds/sf2",
        "/usr/share/soundfonts",
        "/usr/local/share/soundfonts",
        "/opt/homebrew/share",
    )
    for name in ("TimGM6mb.sf2", "FluidR3_GM.sf2", "default-GM.sf2", "default.sf2")
)
OWN = "own"
TICKS_PER_SECOND = 960  # of the MIDI files for fluidsynth: 480 per quarter note at 120 quarter notes per minute
SLOWEST, FASTEST = 10.0, 400.0
LOUDEST = 0.99  # of full scale
UNFINISHED_SUFFIXES = (UNFINISHED, ".partial")  # .partial was used before version 0.2.0
LOCK = ".lock"


@dataclass
class RenderOptions(ArchiveOptions):
    """The options of the command."""

    programs: list[str] | None = option(
        None, "programs 0..127, their names, or own, used in turn (default: own)", nargs="+", metavar="P"
    )
    tempi: list[str] | None = option(
        None, "quarter notes per minute, LOW-HIGH, or own, used in turn (default: own)", nargs="+", metavar="T"
    )
    clips: int = option(1, "excerpts of each piece", metavar="N")
    seconds: float = option(30.0, "length of an excerpt (0: whole pieces)", metavar="S")
    sample_rate: int = option(22050, "Hz", metavar="HZ")
    level: float = option(-20.0, "root mean square of every excerpt, in decibels relative to full scale", metavar="DB")
    labels: str = option("", "CSV about the MIDI files: a column file, and columns for labels.csv", metavar="CSV")
    group_column: str = option("", "column of that CSV: files with equal cells get the same piece", metavar="COLUMN")
    synthesiser: str = option("auto", "auto, fluidsynth or numpy", metavar="NAME")
    sound_font: str = option("", ".sf2 or .sf3 for fluidsynth (default: one of the system's)", metavar="FILE")
    seed: int = option(1, "seed of the random numbers")
    jobs: int = option(os.cpu_count() or 1, "worker processes", metavar="N")


@dataclass(frozen=True)
class Tempo:
    """A range of quarter notes per minute to draw a tempo from; NaN for the piece's own."""

    low: float
    high: float

    @classmethod
    def of(cls, word: str) -> Tempo:
        """The tempo of a word of ``--tempi``.

        Raises
        ------
        OptionError
        """
        if word == OWN:
            return cls(math.nan, math.nan)
        low, dash, high = word.partition("-")
        try:
            tempo = cls(float(low), float(high if dash else low))
        except ValueError:
            tempo = cls(0.0, 0.0)
        if not SLOWEST <= tempo.low <= tempo.high <= FASTEST:
            raise OptionError(
                f"--tempi {word}: {SLOWEST:g} to {FASTEST:g} quarter notes per minute, a range LOW-HIGH within, or own "
                "is accepted."
            )
        return tempo


def program_of(word: str) -> int:
    """The program, 0..127, of a word of ``--programs``, or -1 for the piece's own.

    Raises
    ------
    OptionError
    """
    if word == OWN:
        return -1
    number = whole_number(word)
    if number is not None and number < DRUMS:
        return number
    name = word.lower().replace(" ", "_")
    if name not in PROGRAM_NAMES:
        raise OptionError(
            f"--programs {word}: 0 to 127, a General MIDI name (violin, string_ensemble_1) or own is accepted."
        )
    return PROGRAM_NAMES.index(name)


@dataclass(frozen=True)
class Synthesiser:
    """Renders notes with fluidsynth or with ``synthesis``.

    Attributes
    ----------
    program : str
        Path of fluidsynth; empty for ``synthesis``.
    sound_font : str
    """

    program: str = ""
    sound_font: str = ""

    @classmethod
    def choose(cls, name: str, sound_font: str) -> Synthesiser:
        """The synthesiser that ``--synthesiser`` and ``--sound-font`` select on this machine.

        Raises
        ------
        OptionError
        """
        if name not in ("auto", "fluidsynth", "numpy"):
            raise OptionError(f"--synthesiser {name}: auto, fluidsynth or numpy is accepted.")
        if sound_font and not Path(sound_font).is_file():
            raise OptionError(f"--sound-font {sound_font}: no such file.")
        if name == "numpy":
            return cls()
        program = shutil.which("fluidsynth") or ""
        font = sound_font or next((path for path in SOUND_FONTS if Path(path).is_file()), "")
        if program and font:
            return cls(program, os.path.abspath(font))
        if name == "fluidsynth":
            what = "a sound font (--sound-font; Debian: timgm6mb-soundfont)" if program else "the program fluidsynth"
            raise OptionError(f"--synthesiser fluidsynth needs {what}, which was not found; numpy needs neither.")
        return cls()

    def description(self) -> dict[str, str]:
        """Name and versions, which determine the sound."""
        if not self.program:
            return {"name": "numpy", "version": np.__version__}
        with open(self.sound_font, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        lines = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.splitlines()
        return {"name": "fluidsynth", "version": lines[0] if lines else "", "sound_font_sha256": digest}

    def render(self, excerpt: Excerpt, sample_rate: int) -> np.ndarray:
        """One channel of samples, float32 [round(excerpt.seconds * sample_rate)]."""
        if not self.program:
            return synthesise(
                excerpt.onset,
                excerpt.end,
                excerpt.pitch,
                excerpt.velocity,
                excerpt.program,
                excerpt.seconds,
                sample_rate,
            )
        import soundfile

        with tempfile.TemporaryDirectory() as folder:
            midi, sound = f"{folder}/excerpt.mid", f"{folder}/excerpt.wav"
            excerpt.write_midi(midi)
            command = [self.program, "-niq", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(sample_rate), "-O", "s16"]
            command += ["-T", "wav", "-F", sound, self.sound_font, midi]
            try:
                done = subprocess.run(command, capture_output=True, timeout=60 + excerpt.seconds)
            except subprocess.TimeoutExpired:
                raise ScoreError("not rendered", "fluidsynth exceeded its time limit.") from None
            if done.returncode or not Path(sound).is_file():
                reason = " ".join(done.stderr.decode(errors="replace").split())[-200:]
                raise ScoreError("not rendered", f"fluidsynth ended with status {done.returncode} ({reason}).")
            samples = soundfile.read(sound, dtype="float32", always_2d=True)[0].mean(axis=1)
        length = round(excerpt.seconds * sample_rate)
        return np.pad(samples[:length], (0, max(length - len(samples), 0)))


@dataclass(frozen=True, eq=False)
class Excerpt:
    """The notes of a part of a piece, ready to be rendered.

    Attributes
    ----------
    onset, end : float64 [N]
        Seconds from the beginning of the excerpt.
    pitch, velocity, program : int [N]
    seconds : float
        Length of the excerpt.
    tempo : float
        Mean quarter notes per minute.
    """

    onset: np.ndarray
    end: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    program: np.ndarray
    seconds: float
    tempo: float

    @property
    def instrument(self) -> str:
        """Name of the melodic program that sounds longest; empty if there are only drums."""
        melodic = self.program != DRUMS
        sounding = np.bincount(self.program[melodic], (self.end - self.onset)[melodic], minlength=DRUMS)
        return PROGRAM_NAMES[int(sounding.argmax())] if melodic.any() else ""

    def write_midi(self, path: str) -> None:
        """Write the excerpt as a MIDI file, with times rounded to about a millisecond."""
        onset, end = (np.round(times * TICKS_PER_SECOND).astype(np.int64) for times in (self.onset, self.end))
        score = Score.of(TICKS_PER_SECOND // 2, onset, end, self.pitch, self.velocity, self.program)
        write_midi(score, path)


def times_of(ticks: np.ndarray, score: Score, tempo: float) -> np.ndarray:
    """Ticks in seconds, float64 [N], at a constant tempo (quarter notes per minute) or, if NaN, the score's tempi."""
    if not math.isnan(tempo):
        return ticks * (60.0 / tempo / score.resolution)
    return seconds_of(score, ticks)


def excerpt_of(score: Score, program: int, tempo: float, seconds: float, start_share: float) -> Excerpt:
    """An excerpt of a piece with one program and tempo.

    Parameters
    ----------
    score : Score
    program : int
        Program of all melodic notes; -1: their own.
    tempo : float
        Quarter notes per minute; NaN: the score's own.
    seconds : float
        Largest length; 0: the whole piece.
    start_share : float
        0..1, which of the possible starts is used: the onsets with at least ``seconds`` of music after them.
    """
    onset, end = times_of(score.onset, score, tempo), times_of(score.end, score, tempo)
    last = float(end.max())
    starts = np.unique(onset)
    if seconds:
        starts = starts[: max(int(np.searchsorted(starts, last - seconds, side="right")), 1)]
    start = float(starts[min(int(start_share * len(starts)), len(starts) - 1)]) if seconds else float(starts[0])
    stop = min(start + seconds, last) if seconds else last
    inside = (onset >= start) & (onset < stop)
    first_tick, last_tick = score.onset[inside].min(), score.end[inside].max()
    first, final = times_of(np.array([first_tick, last_tick]), score, tempo)
    mean = 60.0 * (last_tick - first_tick) / score.resolution / (final - first) if final > first else tempo
    programs = score.program[inside].astype(np.int64)
    if program >= 0:
        programs = np.where(programs == DRUMS, DRUMS, program)
    return Excerpt(
        onset[inside] - start,
        np.minimum(end[inside], stop) - start,
        score.pitch[inside].astype(np.int64),
        score.velocity[inside].astype(np.int64),
        programs,
        stop - start,
        float(mean),
    )


def to_level(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Scale samples to a root mean square in decibels relative to full scale, or to less if they would clip."""
    loudness = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))) if len(samples) else 0.0
    if loudness == 0:
        return samples
    gain = min(10 ** (decibels / 20) / loudness, LOUDEST / float(np.abs(samples).max()))
    return (samples * np.float32(gain)).astype(np.float32)


@dataclass(frozen=True)
class Plan:
    """The settings that the workers need."""

    dest: str
    sources: tuple[Source, ...]
    synthesiser: Synthesiser
    programs: tuple[int, ...]
    tempi: tuple[Tempo, ...]
    clips: int
    seconds: float
    sample_rate: int
    level: float
    seed: int
    reading: ReadingOptions = DEFAULT_READING

    def choices(self, name: str) -> list[tuple[int, float, float]]:
        """Program, tempo and start share of every excerpt of a piece."""
        words = np.frombuffer(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest(), np.uint32)
        random = np.random.default_rng([self.seed, *words.tolist()])
        programs, tempi = random.permutation(len(self.programs)), random.permutation(len(self.tempi))
        chosen = []
        for clip in range(self.clips):
            tempo = self.tempi[int(tempi[clip % len(tempi)])]
            bpm = tempo.low * (tempo.high / tempo.low) ** random.random()
            chosen.append((self.programs[int(programs[clip % len(programs)])], bpm, random.random()))
        return chosen


def render_piece(
    plan: Plan, number: int, inner: str, place: bytes, name: str, stem: str, known: str = ""
) -> dict[str, Any]:
    """Render the excerpts of a piece, except existing ones of the same file.

    Parameters
    ----------
    plan : Plan
    number, inner, place
        The source of the file, and its name and place in it.
    name, stem : str
        The name of the file in the collection, and the path of its excerpts without ``_<k>.wav``.
    known : str
        The hash of the file that existing excerpts were made of, if known.

    Returns
    -------
    dict
        ``hash``, ``clips`` (file, instrument, tempo), ``fingerprint``, and the entries of ``engine.repairs``; or
        ``reason`` and ``detail``.

    Raises
    ------
    OSError
        The disk is full.
    """
    try:
        data = plan.sources[number].read(inner, place, plan.reading.max_bytes)
        about: dict[str, Any] = {"hash": hashlib.sha256(data).hexdigest()[:32], "clips": []}
        score = plan.reading.read(data, name)
        about.update(entries_of(score.repairs, score.other_program))
        about["fingerprint"] = fingerprint_of(score.onset, score.pitch, score.program == DRUMS, score.resolution)
        for clip, (program, tempo, start) in enumerate(plan.choices(name)):
            excerpt = excerpt_of(score, program, tempo, plan.seconds, start)
            file = f"{stem}_{clip}.wav"
            _write_clip(plan, excerpt, Path(plan.dest) / file, known in ("", about["hash"]))
            about["clips"].append((file, excerpt.instrument, round(excerpt.tempo, 2)))
    except ScoreError as error:
        return {"reason": error.reason, "detail": error.sentence}
    except Exception as error:  # a defect in this program fails one file, not the run
        if is_disk_full(error):
            raise
        return {"reason": "error", "detail": f"{name}: {type(error).__name__}: {error}"}
    return about


def _write_clip(plan: Plan, excerpt: Excerpt, path: Path, keep: bool) -> None:
    if keep and path.exists():
        return
    import soundfile

    samples = to_level(plan.synthesiser.render(excerpt, plan.sample_rate), plan.level)
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = io.BytesIO()  # soundfile refuses names that are not UTF-8, and hides why a file cannot be written
    soundfile.write(wave, samples, plan.sample_rate, subtype="PCM_16", format="WAV")
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(wave.getbuffer())


def stems_of(names: list[str]) -> list[str]:
    """The stem of the excerpts of each file: its path, without the suffix if that is unique."""
    plain = [re.sub(r"\\x([0-9a-f]{2})", r"%\1", name) for name in names]  # some systems refuse such bytes in names
    parts = [[part.replace(":", "_") for part in name.replace("\\", "/").split("/")] for name in plain]
    clean = ["/".join(part for part in path if part not in ("", ".", "..")) for path in parts]
    short = [name.rpartition(".")[0] or name for name in clean]
    counts = Counter(short)
    return [stem if counts[stem] == 1 else whole for stem, whole in zip(short, clean, strict=True)]


def pieces_of(names: list[str], found: list[dict[str, Any]], groups: dict[str, str]) -> list[str]:
    """For each file, the name of the first file of its piece: copies, and files in one group of ``groups``."""
    members = [index for index, about in enumerate(found) if "fingerprint" in about]
    fingerprints = [found[index]["fingerprint"] for index in members]

    def column(name: str) -> np.ndarray:
        return np.array([getattr(fingerprint, name) for fingerprint in fingerprints])

    copies = copy_groups(
        column("sequence"),
        column("contour"),
        column("span"),
        column("timing"),
        column("sketch"),
        np.array([len(fingerprint.shingles) for fingerprint in fingerprints]),
        lambda index: fingerprints[index].shingles,
    )
    first: dict[str, int] = {}
    for position, index in enumerate(members):
        if names[index] in groups:
            copies.unite(first.setdefault(groups[names[index]], position), position)
    pieces = [""] * len(names)
    for position, root in enumerate(copies.roots().tolist()):
        pieces[members[position]] = names[members[root]]
    return pieces


def write_tables(dest: Path, names: list[str], found: list[dict[str, Any]], table: LabelTable) -> None:
    """Write ``labels.csv`` and ``manifest.jsonl``."""
    pieces = pieces_of(names, found, table.groups)
    own = ["file", "piece", "instrument", "tempo"] + (["split"] if table.splits else [])
    folders = ["" if "/" not in name.strip("/") else name.strip("/").split("/")[0] for name in names]
    if "composer" not in table.columns and any(folders):
        own.insert(2, "composer")
    with atomic_path(dest / "labels.csv") as path, open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(own + table.columns)
        for name, about, piece, folder in zip(names, found, pieces, folders, strict=True):
            for clip, instrument, tempo in about.get("clips", ()):
                cells = {"file": clip, "piece": piece, "composer": folder, "instrument": instrument, "tempo": tempo}
                cells["split"] = table.splits.get(name, "")
                writer.writerow([cells[column] for column in own] + table.labels.get(name, [""] * len(table.columns)))
    with atomic_path(dest / "manifest.jsonl") as path, open(path, "w", encoding="utf-8") as manifest:
        for name, about, piece in zip(names, found, pieces, strict=True):
            line = {"file": name} | {key: value for key, value in about.items() if key not in ("fingerprint", "clips")}
            if "clips" in about:
                line |= {"piece": piece, "clips": [clip[0] for clip in about["clips"]]}
            manifest.write(json.dumps(line) + "\n")


def hashes_in(dest: Path) -> dict[str, str]:
    """The content hash of each file in the manifest of a finished run."""
    try:
        with open(dest / "manifest.jsonl", encoding="utf-8") as manifest:
            lines = [parse_json(line) for line in manifest]
        return {line["file"]: line["hash"] for line in lines if "hash" in line}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def begin(dest: Path, plan: Plan) -> FolderLock:
    """Make and lock the folder, or check that it was made with the same settings.

    Raises
    ------
    OptionError
    """
    own = asdict(plan)
    settings = {key: own[key] for key in ("programs", "tempi", "clips", "seconds", "sample_rate", "level", "seed")}
    if plan.reading.channel_programs == USE:
        settings["channel_programs"] = USE
    text = json.dumps({"format": 1, **settings, "synthesiser": plan.synthesiser.description()}, indent=1) + "\n"
    file = dest / "render.json"
    try:
        dest.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(FolderLock(dest / LOCK))
            if not file.exists():
                if any(path.suffix not in UNFINISHED_SUFFIXES and path.name != LOCK for path in dest.iterdir()):
                    raise OptionError(f"--dest {dest}: holds other files; an empty or new folder is needed.")
                with atomic_path(file) as unfinished:
                    unfinished.write_text(text, encoding="utf-8")
            elif file.read_text(encoding="utf-8") != text:
                raise OptionError(
                    f"--dest {dest}: its recordings were made with other options or another synthesiser (see "
                    "render.json); an empty or new folder is needed."
                )
            stack.pop_all()
    except BlockingIOError:
        raise OptionError(
            f"--dest {dest}: another run writes there; wait for its end or name another folder."
        ) from None
    except OSError as error:
        raise OptionError(f"--dest {dest}: cannot be written ({error.strerror or error}).") from None
    return lock


def check(options: RenderOptions) -> None:
    """Raise :class:`OptionError` if an option is out of its range."""
    if options.clips < 1 or options.jobs < 1:
        raise OptionError("--clips and --jobs: at least 1 is needed.")
    if not 0 <= options.seconds < math.inf:
        raise OptionError(f"--seconds {options.seconds:g}: 0 (whole pieces) or more is accepted.")
    if not 4000 <= options.sample_rate <= 192_000:
        raise OptionError(f"--sample-rate {options.sample_rate}: 4000 to 192000 Hz is accepted.")
    if not -80 <= options.level <= 0:
        raise OptionError(f"--level {options.level:g}: -80 to 0 decibels is accepted.")
    if options.group_column and not options.labels:
        raise OptionError(
            f"--group-column {options.group_column}: it names a column of --labels CSV, which is missing."
        )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m preprocess.render", description="MIDI files into labelled sound.")
    top.add_argument("source", nargs="+", metavar="SRC", help="folder, archive, MIDI file or list of paths")
    top.add_argument("--dest", type=Path, required=True, help="folder for the recordings and their labels")
    add_options(top, RenderOptions)
    add_reading_options(top)
    return top


def main(arguments: list[str]) -> int:
    """Run the command; returns its status."""
    namespace = parser().parse_args(arguments)
    options = options_of(namespace, RenderOptions)
    check(options)
    table = read_labels(options.labels, options.group_column) if options.labels else LabelTable()
    clash = {"piece", "instrument", "tempo"} & set(table.columns)
    if clash:
        raise OptionError(f"{options.labels}: the column name {min(clash)} is reserved; rename the column.")
    collection = Collection(namespace.source, limits=options.archive_limits())
    names = list(collection.names)
    if not names:
        raise OptionError(f"{namespace.source[0]}: holds no MIDI files.")
    labels, absent = collection.values_by_file(table.labels)
    if absent:
        say(
            f"--labels: {len(absent):,} of {len(table.labels):,} files are not in the source, the first is {absent[0]}."
        )
    if absent and not labels:
        raise OptionError(f"--labels {options.labels}: none of its files is in the source.")
    groups, splits = (collection.values_by_file(values)[0] for values in (table.groups, table.splits))
    table = LabelTable(table.columns, labels, groups, splits)
    plan = Plan(
        str(namespace.dest),
        tuple(collection.sources),
        Synthesiser.choose(options.synthesiser, options.sound_font),
        tuple(program_of(word) for word in options.programs or [OWN]),
        tuple(Tempo.of(word) for word in options.tempi or [OWN]),
        options.clips,
        options.seconds,
        options.sample_rate,
        options.level,
        options.seed,
        reading_options_of(namespace),
    )
    with begin(namespace.dest, plan):
        return render_all(plan, collection, options.jobs, table)


def render_all(plan: Plan, collection: Collection, jobs: int, table: LabelTable) -> int:
    """Render all files of a collection; returns the status of the command."""
    dest, names = Path(plan.dest), list(collection.names)
    stems = stems_of(names)
    found: list[dict[str, Any]] = [{"reason": "unreadable", "detail": f"{name}: not in the archive."} for name in names]
    known = hashes_in(dest)
    present: list[int] = []  # the file of each call

    def calls() -> Iterator[tuple[Any, ...]]:
        for index, number, inner, place in collection.tasks([True] * len(names), plan.reading.max_bytes):
            present.append(index)
            yield number, inner, place, names[index], stems[index], known.get(names[index], "")

    rendered, lost = call_all(functools.partial(render_piece, plan), calls(), jobs, total=len(names))
    for call, index in enumerate(present):
        found[index] = rendered.get(call) or {
            "reason": lost[call],
            "detail": f"{names[index]}: its worker process ended; the same command tries it again.",
        }
    failed = [about for about in found if "reason" in about]
    for about in failed:
        say(f"left out {about['detail']}")
    if len(failed) == len(found):
        say(f"none of the {len(found)} files could be rendered.")
        return CANNOT_START
    write_tables(dest, names, found, table)
    for name, about in zip(names, found, strict=True):
        if repairs := repairs_in(about):
            say(repair_sentence(name, repairs))
    for sentence in summary_of(found):
        say(sentence)
    clips = sum(len(about.get("clips", ())) for about in found)
    how = "fluidsynth" if plan.synthesiser.program else "the synthesiser in numpy"
    say(f"{clips:,} excerpts of {len(found) - len(failed):,} pieces in {dest}, rendered by {how}")
    return SOME_FAILED if failed else DONE


if __name__ == "__main__":
    run_command(main)
