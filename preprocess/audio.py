"""``python -m preprocess.audio build``: recordings, or features of recordings, into a folder of spectrograms.

SRC is a folder or archive (``.zip``, ``.tar``, ``.tar.gz``, ``.tar.bz2``, ``.tar.xz``) of audio files, single files, a
``.txt`` list of paths, or a manifest:

``.tsv``   wav2vec's: a first line with a folder, then a line ``path<TAB>samples`` per file (the number is ignored)
``.csv``   M3BERT's: a column ``file_path``, relative to the CSV's folder; ``length`` is not used, and each other column
           holds labels

Manifests named ``train``, ``valid`` (or ``dev``) and ``test`` fix the splits of the files that they list.  With
``--num-features F`` the files are ``.npy`` features instead of recordings: (T, F), (F, T), or (N, T, F), N excerpts.
Object arrays are refused, since reading them would run pickled code.

Each file becomes one item (or N) of its full length; training draws windows from it.  A file is left out, with its
reason in ``manifest.jsonl`` and on stderr, if it is ``undecodable``, ``too short``, ``too long``, ``silent`` (never
above -80 dB), holds ``NaN``, or is ``not features``.  The same applies to features: ``--frame-rate`` gives the length
of T frames, and features whose frames are all equal are silent.  If one of N excerpts fails, the whole file is left
out.  The length of a recording is that of its decoded samples, whatever its header says; decoding stops at
``--max-seconds``.  A recording that is damaged, or cut off, is kept up to there: ``manifest.jsonl`` has ``repaired``,
the reason for it, and how many frames are ``lost``, if its header tells.

Recordings are decoded and transformed in blocks, so that a worker takes no more memory for a longer one (a file of an
archive is in memory as it is, up to ``--max-bytes``).  Other files of a folder or archive are passed over, and counted
by their suffix in the summary and in ``config.json`` (``passed_over``).

``musicbert_plugin.data.spectrogram_folder`` describes the dataset folder, and ``musicbert_plugin.audio.front_end`` the
features.  Copies are recordings with equal samples, and near copies (another file format, loudness or sample rate)
those with similar fingerprints, see ``preprocess.engine.audio_fingerprints``.  All copies go to one split, and only one
is stored, unless ``--duplicates keep`` is given.  Splits are drawn by the samples at the front-end's rate; to compare
front-ends of different rates on the same splits, use ``--splits CSV``.

Labels come from ``--labels CSV`` (a column ``file``, then one per task) or from M3BERT's CSV.  Cells are stored
unchanged: ``/`` separates several labels, ``arousal/valence`` is two numbers, and an empty cell or ``nan`` is a missing
label.  ``--group-column`` names a column (album, performer); files with equal cells in it go to one split.  A column
``split`` fixes the split of files as ``--splits CSV`` does, which is used instead if it is given.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.data.spectrogram_folder import FIXED_COLUMNS, RECORDING_COLUMNS
from musicbert_plugin.errors import OptionError, RecordingError
from musicbert_plugin.extras import require
from musicbert_plugin.files import escaped
from musicbert_plugin.parsing import read_npy
from preprocess.engine.audio_fingerprints import SHARE, Fingerprinter, fingerprint_of_features
from preprocess.engine.cli import add_options, option, options_of, run_command, say
from preprocess.engine.dataset_spec import Item, Piece
from preprocess.engine.label_tables import LabelsWriter, LabelTable, joined_tables
from preprocess.engine.pipeline import BuildOptions, build
from preprocess.engine.sources import Collection, Files, Folder, Tar, Zip, open_source, suffix_counts
from preprocess.engine.splits import SPLIT_NAMES

MANIFESTS = (".tsv", ".csv")
DEFAULT_FRONT_END = "logmel96"
FEATURES = "npy"  # the name of the front-end if the features are from an unknown one
LARGEST_HALF = 65504.0
_ROWS = 4096  # that are hashed at a time
Rows = NDArray[np.float32]
"""Features [T, F], or samples [S]."""


@dataclass
class AudioBuildOptions(BuildOptions):
    """The options of every builder, with limits that suffice for an hour of music, and for terabytes of it."""

    max_unpacked_bytes: int = option(2**42, "read no more of each archive, unpacked")
    time_limit: float = option(600.0, "seconds after which a worker that is stuck at a file is ended", metavar="S")


@dataclass
class AudioOptions:
    """The options of the audio builder alone."""

    front_end: str = option(
        "",
        "logmel96 (the default; any number of bands), musicoder324 or m3bert324 (both need librosa); "
        "with --num-features: the front-end that made the features, if it is one of these",
        metavar="NAME",
    )
    sample_rate: int = option(0, "Hz, instead of the front-end's", metavar="HZ")
    n_fft: int = option(0, "samples of a window, instead of the front-end's", metavar="N")
    hop: int = option(0, "samples from frame to frame, instead of the front-end's", metavar="N")
    n_mels: int = option(0, "mel bands, instead of the front-end's", metavar="N")
    normalise: str = option(
        "", "none, clip (each feature over each clip) or frame (as MusiCoder's extraction), instead of the front-end's"
    )
    tuning: str = option(
        "", "of chroma and chroma-CQT: semitones above 440 Hz, or estimate (the default: librosa's for each recording)"
    )
    num_features: int = option(0, "number of features per frame; the files are .npy features", metavar="F")
    frame_rate: float = option(0.0, "frames per second of .npy features, instead of the front-end's", metavar="R")
    max_frames: int = option(0, "of longer files, store only the T frames in the middle (0: store all)", metavar="T")
    min_seconds: float = option(0.5, "leave out shorter files", metavar="S")
    max_seconds: float = option(3600.0, "leave out longer files", metavar="S")
    max_bytes: int = option(2**30, "leave out larger files")
    on_the_fly: bool = option(False, "store no features: training decodes the recordings, which must stay in place")
    labels: str = option(
        "", "CSV with a column file, a column of labels per task, and perhaps a column split", metavar="CSV"
    )
    group_column: str = option("", "column of that CSV, or of SRC's: files of a group stay in one split")


@dataclass(frozen=True)
class AudioSpec:
    """How a recording, or an array of features, becomes items; see ``dataset_spec.DatasetSpec``.

    ``settings_of_front_end`` are those of a :class:`musicbert_plugin.audio.front_end.FrontEnd`, so that unpickling a
    spec needs no torch.
    """

    settings_of_front_end: dict[str, Any]
    num_features: int = 0
    max_frames: int = 0
    min_seconds: float = 0.5
    max_seconds: float = 3600.0
    max_bytes: int = 2**30
    on_the_fly: bool = False
    frame_rate: float = 0.0  # of features, frames per second

    name = "spectrogram"
    dtype = "uint16"
    unit = "frames"
    batch_files = 4
    share_of_copies = SHARE

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of audio files, or of arrays."""
        from musicbert_plugin.audio.decoding import SUFFIXES

        return (".npy",) if self.num_features else SUFFIXES

    @property
    def reads_paths(self) -> bool:
        """Whether files are decoded where they are."""
        return not self.num_features

    @property
    def largest_file(self) -> int:
        """Size in bytes above which a file is left out."""
        return self.max_bytes

    def read_piece(self, data: bytes | str, name: str) -> Piece:
        """Read the items of a file, given its bytes or its path.

        Raises
        ------
        RecordingError
            It cannot be used.
        """
        if not self.num_features:
            return self._read_recording(data, name)
        assert isinstance(data, bytes)
        clips = read_features(data, self.num_features, name)
        how = " (--frame-rate, --min-seconds)"
        require_music(clips, name, self.frame_rate, self.min_seconds, self.max_seconds, how)
        fingerprint = fingerprint_of_features(clips)
        clips = [self._crop(clip) for clip in clips]
        _require_halves(max(float(np.abs(clip).max()) for clip in clips), name)
        halves = [clip.astype(np.float16) for clip in clips]
        content = hashlib.sha256(b"".join(half.tobytes() for half in halves)).digest()[:16]
        sidecars = {"about": {}, "frames": list(map(len, clips)), "moments": moments(np.concatenate(halves))}
        items: list[Item] = [half.reshape(-1).view(np.uint16) for half in halves]
        return Piece(sum(map(len, clips)), items, content, fingerprint, sidecars)

    def _read_recording(self, source: bytes | str, name: str) -> Piece:
        """The piece of a recording, which is decoded once, or, for some front-ends, twice."""
        from musicbert_plugin.audio.decoding import Sound
        from musicbert_plugin.audio.row_store import RowStore, drop_pages

        front = self._front_end()
        longest = int(min(self.max_seconds * front.sample_rate, 2**62))
        sound = Sound(source, front.sample_rate, 0, longest + 1, name)  # the length in the header may be wrong
        fingerprinter = Fingerprinter(front.sample_rate)
        passes, samples = 0, 0

        def blocks() -> Iterator[NDArray[np.float32]]:
            nonlocal passes, samples
            passes += 1
            if passes > 1:
                yield from sound
                return
            for block in sound.checked(self.min_seconds, self.max_seconds):
                samples += len(block)
                fingerprinter.add(block)
                yield block

        stored, largest = RowStore(front.num_features, np.float32 if self.on_the_fly else np.float16), 0.0
        with np.errstate(over="ignore"):
            for block in front.feature_blocks(blocks):
                largest = max(largest, float(np.abs(block).max()))
                stored.append(block)
        _require_halves(largest, name)
        rows = self._crop(stored.array())
        content = hashlib.sha256()
        for first in range(0, len(rows), _ROWS):
            content.update(rows[first : first + _ROWS].astype(np.float16).tobytes())
            drop_pages(rows)
        about = {
            "seconds": round(samples / front.sample_rate, 3),
            "sample_rate": sound.sample_rate,
            "channels": sound.channels,
        }
        sidecars: dict[str, Any] = {"about": about, "frames": [len(rows)], "moments": moments(rows)}
        if self.on_the_fly:
            sidecars["bytes"] = len(source) if isinstance(source, bytes) else os.path.getsize(source)
        items: list[Item] = [np.empty(0, np.uint16) if self.on_the_fly else rows.reshape(-1).view(np.uint16)]
        damage = sound.damage
        lost = round(damage.lost * front.frame_rate) if damage else 0
        return Piece(
            len(rows),
            items,
            content.digest()[:16],
            fingerprinter.finish(),
            sidecars,
            lost={"damaged": lost} if lost else {},
            repairs={"damaged recording": 1} if damage else {},
            detail=damage.sentence(name) if damage else "",
        )

    def _front_end(self) -> Any:
        from musicbert_plugin.audio.front_end import FrontEnd

        front = self.__dict__.get("_made")
        if front is None:
            import torch

            torch.set_num_threads(1)  # each core has a worker, and the order of sums must not depend on threads
            front = self.__dict__["_made"] = FrontEnd.of(self.settings_of_front_end)
        return front

    def _crop(self, clip: NDArray[Any]) -> NDArray[Any]:
        if not self.max_frames or len(clip) <= self.max_frames:
            return clip
        start = (len(clip) - self.max_frames) // 2
        return clip[start : start + self.max_frames]

    def comparer(self) -> AudioSpec:
        """Of recordings, no features are stored."""
        return replace(self, on_the_fly=not self.num_features)

    def left_out(self, reason: str) -> bool:
        """False: no reason is expected, so each file that is left out is reported."""
        return False

    def line(self, item: Item) -> str:
        """Features have no text."""
        raise NotImplementedError

    def dictionary(self) -> bytes:
        """Features have no dictionary."""
        return b""

    def settings(self) -> dict[str, Any]:
        """The options that determine the items."""
        return {
            "front_end": self.settings_of_front_end,
            "num_features": self.num_features,
            "max_frames": self.max_frames,
            "min_seconds": self.min_seconds,
            "max_seconds": self.max_seconds,
            "max_bytes": self.max_bytes,
            "on_the_fly": self.on_the_fly,
        }

    def versions(self) -> dict[str, str]:
        """Versions of the libraries that decode and compute."""
        if self.num_features:
            return {}
        from importlib.metadata import version

        import soundfile

        names = ["soundfile", "soxr", "torch"] + (["librosa"] if self.settings_of_front_end["stack"] else [])
        return {"libsndfile": soundfile.__libsndfile_version__, **{name: version(name) for name in names}}


def read_features(data: bytes, width: int, name: str) -> list[Rows]:
    """The excerpts in a ``.npy`` file, float32 [T, F] each; pickled arrays are refused.

    Parameters
    ----------
    data : bytes
    width : int
        F.  An array of shape (F, F) is read with time first.
    name : str

    Raises
    ------
    RecordingError
        ``not features``: not an array of real numbers of an accepted shape, or empty; ``NaN``.
    """
    try:
        array = read_npy(data)
    except ValueError as error:
        raise RecordingError(
            "not features", f"{name}: cannot be read ({error}); an .npy array of numbers is needed."
        ) from None
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or not array.size:
        raise RecordingError(
            "not features",
            f"{name}: holds {array.dtype} of shape {array.shape}; numbers of shape (T, {width}), ({width}, T) or "
            f"(N, T, {width}) are needed.",
        )
    clips = array if array.ndim == 3 else array[None]
    if clips.shape[2] != width and clips.shape[1] == width and array.ndim == 2:
        clips = clips.transpose(0, 2, 1)
    if clips.shape[2] != width:
        raise RecordingError("not features", f"{name}: shape {array.shape} holds no {width} features (--num-features).")
    if not np.isfinite(clips).all():
        raise RecordingError("NaN", f"{name}: holds values that are not finite.")
    return [np.ascontiguousarray(clip, np.float32) for clip in clips]


def require_music(
    clips: list[Rows],
    name: str,
    frame_rate: float,
    min_seconds: float,
    max_seconds: float = math.inf,
    options: str = "",
) -> None:
    """Raise :class:`RecordingError` for features, [T, F] each, that are too short, too long or silent.

    Parameters
    ----------
    clips : list of float32 [T, F]
    name : str
    frame_rate : float
        Frames per second.
    min_seconds, max_seconds : float
    options : str
        What decides whether features are too short, for messages.
    """
    for number, clip in enumerate(clips):
        label = f"{name}, excerpt {number}" if len(clips) > 1 else name
        seconds = len(clip) / frame_rate
        if seconds < min_seconds:
            raise RecordingError(
                "too short",
                f"{label}: {len(clip)} frames, which are {seconds:.2f} seconds at {frame_rate:.5g} frames per second; "
                f"at least {min_seconds:g} seconds are needed{options}.",
            )
        if seconds > max_seconds:
            raise RecordingError("too long", f"{label}: {seconds:.0f} seconds; --max-seconds accepts {max_seconds:g}.")
        if len(clip) > 1 and (clip == clip[0]).all():
            raise RecordingError("silent", f"{label}: all {len(clip)} frames are equal.")


def _require_halves(largest: float, name: str) -> None:
    """Raise :class:`RecordingError` for a largest absolute value that half precision does not hold."""
    if not largest <= LARGEST_HALF:
        raise RecordingError(
            "not features", f"{name}: values up to {largest:g}; half precision holds {LARGEST_HALF:g}."
        )


def moments(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Count, and means and sums of squared deviations of the columns of [T, F]; float64 [2 F + 1]."""
    from musicbert_plugin.audio.row_store import column_moments

    return np.concatenate(([float(len(rows))], *column_moments(rows)))


class Moments:
    """Mean and standard deviation over items, merged without cancellation (Chan, Golub and LeVeque 1979)."""

    def __init__(self, width: int) -> None:
        self._count, self._mean, self._squares = 0.0, np.zeros(width), np.zeros(width)

    def add(self, values: NDArray[np.float64]) -> None:
        """Merge the :func:`moments` of an item."""
        width = len(self._mean)
        count, mean, squares = values[0], values[1 : width + 1], values[width + 1 :]
        total = self._count + count
        step = mean - self._mean
        self._squares = self._squares + squares + step**2 * (self._count * count / total)
        self._mean = self._mean + step * (count / total)
        self._count = total

    @property
    def mean(self) -> list[float]:
        """Mean of every column; 0 without items."""
        return self._mean.tolist()

    @property
    def std(self) -> list[float]:
        """Standard deviation of every column; 1 without items."""
        return np.sqrt(self._squares / self._count).tolist() if self._count else [1.0] * len(self._mean)


def tables_of(given: list[str], options: AudioOptions, splits: str = "") -> LabelTable:
    """The merged tables of ``--labels`` and of CSV sources, and the splits that they or names of manifests fix.

    Parameters
    ----------
    given : list of str
        Sources.
    options : AudioOptions
    splits : str
        The CSV of ``--splits``, which is used instead of columns ``split``.
    """
    paths = [path for path in given if path.lower().endswith(".csv")] + ([options.labels] if options.labels else [])
    joined = joined_tables(paths, options.group_column, instead=f"--splits {splits}" if splits else "")
    named = {path: SPLIT_NAMES.get(Path(path).stem, "") for path in given if path.lower().endswith(MANIFESTS)}
    if len(set(named.values()) - {""}) > 1:
        for path, split in named.items():
            for entry in open_source(path).entries() if split else ():
                if joined.splits.setdefault(entry.name, split) != split:
                    raise OptionError(f"{path}: {entry.name} is listed for {joined.splits[entry.name]} too.")
    return joined


class ClipsWriter(LabelsWriter):
    """Writes a table of items per split, and computes the statistics of the features."""

    suffix = ".clips.csv"

    def __init__(self, spec: AudioSpec, layout: dict[str, Any], table: LabelTable) -> None:
        super().__init__(table)
        self._spec, self._layout = spec, layout
        self.fixed = FIXED_COLUMNS + (RECORDING_COLUMNS if spec.on_the_fly else ())
        self._moments = Moments(len(layout["feature_names"]))

    def description(self) -> dict[str, Any]:
        """A hash of all that determines the bytes of the tables."""
        given = ", ".join(f"{name}={value!r}" for name, value in vars(self._table).items())
        text = f"(Table({given}), {self._layout!r})"  # this form is hashed in existing datasets
        return {"labels_sha256": hashlib.sha256(text.encode()).hexdigest()[:32]}

    def check(self, collection: Collection) -> None:
        """Raise :class:`OptionError` if no labelled file is in the source, or for ``--on-the-fly`` on an archive."""
        if self._spec.on_the_fly and any(isinstance(source, Zip | Tar) for source in collection.sources):
            raise OptionError("--on-the-fly decodes recordings while training, which is not possible in an archive.")
        super().check(collection)

    def rows(self, index: int, split: str, sidecars: dict[str, Any]) -> Iterator[list[object]]:
        """Name and length of each item, and where the recording is."""
        name = self._collection.names[index]
        several = len(sidecars["frames"]) > 1
        for number, frames in enumerate(sidecars["frames"]):
            clip = f"{name}#{number}" if several else name
            recording = [self._path(index), sidecars["bytes"]] if self._spec.on_the_fly else []
            yield [clip, frames, *recording]

    def add(self, index: int, split: str, sidecars: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a file's items; returns its entries for the manifest."""
        super().add(index, split, sidecars)
        if split == "train":
            self._moments.add(sidecars["moments"])
        return sidecars["about"]

    def _path(self, index: int) -> str:
        number = self._collection.source_of(index)
        name = self._collection.names[index][len(self._collection.prefixes[number]) :]
        source = self._collection.sources[number]
        assert isinstance(source, Folder | Files)  # checked by check()
        return escaped(os.path.abspath(source.path_of(name)))

    def finish(self) -> dict[str, Any]:
        """Close the tables; returns entries of ``config.json``."""
        super().finish()
        others = self._collection.others
        if self._spec.num_features:
            others = Counter()
        if others:
            say(f"passed over, since their suffixes are not those of recordings: {suffix_counts(others)}.")
        passed_over = {"passed_over": dict(sorted(others.items()))} if others else {}
        return {**self._layout, "mean": self._moments.mean, "std": self._moments.std, **passed_over}


def front_end_of(options: AudioOptions) -> Any:
    """The front-end that the options select.

    Raises
    ------
    OptionError
    """
    from musicbert_plugin.audio.front_end import front_end

    chosen: dict[str, Any] = {
        name: value for name in ("sample_rate", "n_fft", "hop", "n_mels") if (value := getattr(options, name))
    }
    if options.normalise:
        chosen["normalisation"] = options.normalise
    if options.tuning:
        try:
            chosen["tuning"] = None if options.tuning == "estimate" else float(options.tuning)
        except ValueError:
            raise OptionError(f"--tuning {options.tuning}: a number of semitones, or estimate, is accepted.") from None
    front = front_end(options.front_end or DEFAULT_FRONT_END, **chosen)
    if options.tuning and not front.stack:
        raise OptionError(f"--tuning {options.tuning}: {front.name} has no chroma to tune.")
    return front


def layout_of(front: Any, options: AudioOptions) -> dict[str, Any]:
    """The entries of ``config.json`` about columns and frames."""
    width = options.num_features
    if width and (width != front.num_features or not options.front_end):
        return {
            "feature_names": [f"feature {number}" for number in range(width)],
            "blocks": {"feature": [0, width]},
            "frequencies": [None] * width,
            "frame_rate": options.frame_rate or front.frame_rate,
        }
    return {
        "feature_names": front.feature_names,
        "blocks": {name: list(columns) for name, columns in front.blocks.items()},
        "frequencies": [None if math.isnan(hertz) else round(hertz, 3) for hertz in front.frequencies.tolist()],
        "frame_rate": options.frame_rate or front.frame_rate,
    }


def check(options: AudioOptions, front: Any) -> None:
    """Raise :class:`OptionError` for options that are out of range or contradict each other."""
    if options.num_features < 0 or options.max_frames < 0 or options.frame_rate < 0:
        raise OptionError("--num-features, --max-frames and --frame-rate: numbers above 0 are needed.")
    if options.max_bytes < 1:
        raise OptionError(f"--max-bytes {options.max_bytes}: 1 or more is needed.")
    if not 0 <= options.min_seconds < options.max_seconds:
        raise OptionError(
            f"--min-seconds {options.min_seconds:g} --max-seconds {options.max_seconds:g}: the first must be smaller."
        )
    if options.on_the_fly and (options.num_features or front.stack):
        what = ".npy features are stored already" if options.num_features else f"{front.name} takes too long for that"
        raise OptionError(f"--on-the-fly computes log-mels of recordings; {what}.")
    if options.on_the_fly and options.max_frames:
        raise OptionError("--on-the-fly --max-frames: with --on-the-fly no features are stored that could be cropped.")
    if options.frame_rate and not options.num_features:
        raise OptionError("--frame-rate applies to .npy features only; recordings take --sample-rate and --hop.")
    if front.stack and not options.num_features:
        require("librosa", f"the chroma-CQT of {front.name}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m preprocess.audio", description="Recordings into spectrograms.")
    commands = top.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="recordings or features into a dataset folder")
    command.add_argument(
        "source",
        nargs="+",
        metavar="SRC",
        help="folder, archive, audio file, .txt list of paths, wav2vec's .tsv, or a .csv with a column file_path",
    )
    add_options(command, AudioBuildOptions)
    add_options(command, AudioOptions)
    return top


def main(arguments: list[str]) -> int:
    """Run a command; returns its status."""
    namespace = parser().parse_args(arguments)
    general, own = options_of(namespace, AudioBuildOptions), options_of(namespace, AudioOptions)
    if general.format != "bin":
        raise OptionError(f"--format {general.format}: spectrograms have no text; bin is accepted.")
    front = front_end_of(own)
    check(own, front)
    unknown = own.num_features and not own.front_end
    spec = AudioSpec(
        {"name": FEATURES, "num_features": own.num_features} if unknown else front.settings(),
        own.num_features,
        own.max_frames,
        own.min_seconds,
        own.max_seconds,
        own.max_bytes,
        own.on_the_fly,
        own.frame_rate or front.frame_rate,
    )
    clips = ClipsWriter(spec, layout_of(front, own), tables_of(namespace.source, own, general.splits))
    if own.on_the_fly:
        general = replace(general, format="none")
    return build(namespace.source, spec, general, clips)


if __name__ == "__main__":
    run_command(main)
