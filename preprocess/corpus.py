"""Real scores without a download: the corpus inside the ``music21`` package, written as MIDI files.

    python -m preprocess.corpus --dest DIR [--collections bach palestrina:100 ryansMammoth:200] [--jobs N]

Writes ``DIR/<collection>/<piece>.mid``: by default the Bach chorales, a hundred mass movements of Palestrina and two
hundred fiddle tunes of Ryan's Mammoth Collection, all in the public domain as music.  A number after a collection
takes that many of its pieces, evenly spread over their names.  Files that are there already are kept, so a stopped run
goes on where it was.  A score that music21 cannot write (badly nested repeats, say) is named on stderr and left out,
which is expected of a few and no failure.

music21 reads the scores and makes the MIDI; it is needed for this command alone (``requirements-quickstart.txt``).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import warnings
from pathlib import Path

from musicbert_plugin.errors import MusicError, OptionError

from .command import say

DEFAULT_COLLECTIONS = ("bach", "palestrina:100", "ryansMammoth:200")
_FORMATS = {".mxl", ".xml", ".musicxml", ".krn", ".abc"}


def corpus_pieces(collections: tuple[str, ...] | list[str]) -> list[tuple[str, Path]]:
    """The scores of collections, each written ``name`` or ``name:count``, as (collection, path), sorted.

    Raises
    ------
    OptionError
        music21 is not installed, or a collection is not in its corpus or its count is not a number above 0.
    """
    try:
        from music21 import corpus
    except ImportError:
        raise OptionError("the scores come with the package music21, which is missing: pip install music21.") from None
    paths: dict[str, list[Path]] = {}
    for path in sorted(Path(str(p)) for p in corpus.corpora.CoreCorpus().getPaths()):
        if path.suffix in _FORMATS:
            parts = path.parts
            paths.setdefault(parts[len(parts) - 1 - parts[::-1].index("corpus") + 1], []).append(path)
    pieces = []
    for choice in collections:
        name, _, count = choice.partition(":")
        if name not in paths:
            raise OptionError(f"--collections: music21 has no {name!r}; it has {', '.join(sorted(paths))}.")
        if count and not (count.isdigit() and int(count) > 0):
            raise OptionError(f"--collections: {choice!r} should end with a number of pieces above 0.")
        found = sorted({path.stem: path for path in paths[name]}.values())  # some pieces lie there in two formats
        take = min(int(count), len(found)) if count else len(found)
        pieces += [(name, found[i * len(found) // take]) for i in range(take)]
    return pieces


def write_piece(task: tuple[Path, Path]) -> str:
    """Write one score as MIDI; the reason why it could not be written, or nothing."""
    source, target = task
    if target.exists():
        return ""
    from music21 import converter

    partial = target.with_suffix(".partial")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converter.parse(source, format={".krn": "humdrum", ".abc": "abc"}.get(source.suffix)).write("midi", partial)
        os.replace(partial, target)
    except Exception as error:  # music21 raises its own types, a dozen of them, none with a common base
        partial.unlink(missing_ok=True)
        return f"{source.name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m preprocess.corpus", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dest", type=Path, required=True, help="folder for the MIDI files")
    parser.add_argument("--collections", nargs="+", default=list(DEFAULT_COLLECTIONS), help="name or name:count")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes (default: all cores)")
    options = parser.parse_args(arguments)
    try:
        pieces = corpus_pieces(options.collections)
        tasks = []
        for name, path in pieces:
            folder = options.dest / name
            folder.mkdir(parents=True, exist_ok=True)
            tasks.append((path, folder / f"{path.stem}.mid"))
    except MusicError as error:
        say(f"corpus: {error}")
        return 2
    except OSError as error:
        say(f"corpus: {options.dest}: cannot be written ({error.strerror}).")
        return 2
    from tqdm import tqdm

    with multiprocessing.get_context("spawn").Pool(max(1, options.jobs)) as pool:
        outcomes = pool.imap_unordered(write_piece, tasks, chunksize=4)
        reasons = [reason for reason in tqdm(outcomes, total=len(tasks), desc="scores", unit="piece") if reason]
    for reason in sorted(reasons):
        say(f"left out {reason}")
    say(f"{len(tasks) - len(reasons)} of {len(tasks)} scores written to {options.dest}")
    return 0 if len(reasons) < len(tasks) else 1


if __name__ == "__main__":
    sys.exit(main())
