"""Generating the music to measure with a checkpoint, and reading it from lines of words."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.score import Score, midi_bytes
from musicbert_plugin.data.answer_folder import AnswerFolder, midi_name
from musicbert_plugin.errors import OptionError
from musicbert_plugin.evaluate import add_device, device_of

if TYPE_CHECKING:
    from musicbert_plugin.hub import MuseCocoHub

Ids = NDArray[np.int64]


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of generation, and ``--meter``, which also applies to lines."""
    from musicbert_plugin.generation.sampling import TEMPERATURE

    parser.add_argument(
        "--meter", default="4/4", metavar="N/D", help="time signature of bars without one (default: 4/4)"
    )
    group = parser.add_argument_group("generation, with --path")
    group.add_argument(
        "--beam",
        type=int,
        default=1,
        help="above 1: beam search instead of sampling, which repeats about a quarter of the bars",
    )
    group.add_argument(
        "--top-k",
        type=int,
        default=15,
        help="draw from the k most probable words (1: greedy, which repeats about a quarter of the bars)",
    )
    group.add_argument("--top-p", type=float, default=-1.0, help="of these, from the fewest that reach this share")
    group.add_argument("--temperature", type=float, default=TEMPERATURE, help=f"of sampling (default: {TEMPERATURE})")
    group.add_argument("--max-length", type=int, default=2560, help="words of a piece (default: 2560)")
    group.add_argument(
        "--num-candidates",
        type=int,
        metavar="N",
        help="candidates per piece, of which the one with most of the requested attributes is kept (default: 4, or 1 "
        "for conditions, with --top-k 1 and with --beam)",
    )
    group.add_argument("--no-grammar", action="store_true", help="allow any word after any other")
    group.add_argument("--batch-size", type=int, default=16, help="rows per batch; the music does not depend on it")
    group.add_argument("--seed", type=int, help="default: 1, and for attributes of a split as in training")
    group.add_argument(
        "--dest",
        type=Path,
        metavar="DIR",
        help="folder for the music, n.mid; the same command goes on where it was stopped, and another one replaces the "
        "music of an earlier run",
    )
    add_device(group)


def seed_of(options: argparse.Namespace) -> int:
    """The seed of generation and of bootstraps: that of ``--seed``, or 1."""
    return 1 if options.seed is None else int(options.seed)


def load_hub(options: argparse.Namespace) -> MuseCocoHub:
    """The model of ``--path``, on ``--device``, with the position mode of ``--position-mode``, if that is given."""
    from musicbert_plugin.hub import MuseCocoHub
    from musicbert_plugin.tasks.attribute_to_music import AUTO

    mode = getattr(options, "position_mode", None)
    mode = None if mode == AUTO else mode
    return MuseCocoHub.from_pretrained(options.path, device=device_of(options), position_mode=mode)


def compose(
    hub: MuseCocoHub, prefixes: Sequence[Ids], options: argparse.Namespace, **constraints: Any
) -> list[tuple[Ids, Score]]:
    """The music that a model generates after prefixes (without ``</s>`` and ``<sep>``).

    With ``--dest``, each piece is written as soon as it is there, and pieces of an earlier run are kept if they are
    those of this one (:mod:`~.data.answer_folder`).

    Parameters
    ----------
    hub : MuseCocoHub
    prefixes : sequence of int64 [n]
    options : Namespace
        The options of :func:`add_search_arguments`.
    **constraints
        Fields of :class:`~.generation.generator.Constraints`, besides the grammar.

    Returns
    -------
    list of (int64 [T], Score)
        The words of each piece and the music as it is written to files.
    """
    from musicbert_plugin.generation.generator import Constraints, Piece, candidates_of
    from musicbert_plugin.generation.sampling import Search

    for name in ("beam", "max_length", "batch_size"):
        if getattr(options, name) < 1:
            raise OptionError(f"--{name.replace('_', '-')} {getattr(options, name)}: 1 or more is accepted.")
    search = Search(
        beam=options.beam,
        sampling=options.beam == 1,
        top_k=max(options.top_k, 0),
        top_p=options.top_p,
        temperature=options.temperature,
        min_length=1,
        max_length=options.max_length,
        seed=seed_of(options),
    )
    count = candidates_of(options.num_candidates, hub.prefix, search)
    generator = hub.generator(Constraints(grammar=not options.no_grammar, **constraints), meter=options.meter)
    known: dict[int, Piece] = {}
    answered = None
    if options.dest:
        requests = [" ".join(hub.words[word] for word in prefix) for prefix in prefixes]
        folder = AnswerFolder(options.dest, "music", generator.description(search, count=count, keep=1), requests)
        known = {line: Piece.of(answer["pieces"][0]) for line, answer in folder.answers.items()}

        def answered(line: int, piece: Piece) -> None:
            music = generator.finished(piece, prefixes[line])
            folder.add(line, {midi_name(line): midi_bytes(music)}, [piece.stored()])

    pieces = generator.generate_best(
        prefixes, search, count=count, batch_size=options.batch_size, known=known, answered=answered
    )
    return [(piece.ids, generator.finished(piece, prefix)) for piece, prefix in zip(pieces, prefixes, strict=True)]


# --------------------------------------------------------------------------------------------------------------- lines


def ids_reader(words: Sequence[str] | None = None) -> Callable[[str], Ids]:
    """A function from a line of words to ids in a dictionary (words by id), by default the published one."""
    if words is None:
        return remi.from_words
    number = {word: row for row, word in enumerate(words)}
    return lambda line: np.array([number.get(word, remi.UNK) for word in line.split()], np.int64)
