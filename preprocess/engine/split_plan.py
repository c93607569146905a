"""The decisions of a build: which files are copies, which split each goes to, and which are left out.

1. *Group*: copies are grouped by content (see ``near_duplicates``).  Files that are copies of held-out pieces are left
   out, and so are files that the user's groups connect with them.
2. *Split*: copy groups, merged where the user's groups connect them, are split groups; they are drawn (see ``splits``).
3. *Drop*: files that the user has put into another split than their copies, and duplicates within a split.

The result does not depend on the order in which workers finish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import OptionError
from preprocess.engine.journal import Journal
from preprocess.engine.near_duplicates import SAMPLES, SHARE, SKETCH, Fingerprint, UnionFind, copy_groups
from preprocess.engine.splits import PROTECTED, SPLITS, balance, draw

Ints = NDArray[np.int64]
HELD_GROUP = -2


@dataclass
class SplitPlan:
    """The split of every file; arrays over all N files of the source.

    Attributes
    ----------
    split : int8 [N]
        0, 1, 2; -1 for files that are left out.
    group : uint64 [N]
        Content hash of the copy group.
    unit : uint64 [N]
        Content hash of the split group: copy groups, united where the user's groups connect them.
    original : int64 [N]
        For a duplicate that is left out, the copy that is kept; else -1.
    elsewhere : bool [N]
        Whether the file is left out because its copies are in another split.
    held : int64 [N]
        For a copy of what is held out, the index of such a piece; :data:`HELD_GROUP` for files that are only in a group
        with one; else -1.
    """

    split: NDArray[np.int8]
    group: NDArray[np.uint64]
    unit: NDArray[np.uint64]
    original: Ints
    elsewhere: NDArray[np.bool_]
    held: Ints

    @classmethod
    def of(cls, count: int) -> SplitPlan:
        """A plan of so many files, all left out."""
        return cls(
            np.full(count, -1, np.int8),
            np.zeros(count, np.uint64),
            np.zeros(count, np.uint64),
            np.full(count, -1, np.int64),
            np.zeros(count, bool),
            np.full(count, -1, np.int64),
        )


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """The fingerprints of P pieces; see :class:`near_duplicates.Fingerprint`.

    Attributes
    ----------
    sequence, contour, span, timing, sketch : array [P] or [P, ...]
    sizes : int64 [P]
        Number of shingles.
    exact : uint64 [P]
        Hash of the tokens.
    shingles_of : callable
        Returns the shingles of piece p.
    """

    sequence: NDArray[np.uint64]
    contour: NDArray[np.uint64]
    span: Ints
    timing: NDArray[np.uint16]
    sketch: NDArray[np.uint32]
    sizes: Ints
    exact: NDArray[np.uint64]
    shingles_of: Callable[[int], NDArray[np.uint32]]

    def __len__(self) -> int:
        return len(self.sequence)

    @classmethod
    def of_journal(cls, journal: Journal, pieces: Ints) -> Fingerprints:
        """Those of some files of a journal."""
        return cls(
            journal.sequence[pieces],
            journal.contour[pieces],
            journal.span[pieces],
            journal.timing[pieces],
            journal.sketch[pieces],
            journal.shingles[pieces, 1],
            journal.exact[pieces, 0],
            lambda piece: journal.shingles_of(int(pieces[piece])),
        )

    @classmethod
    def of(cls, count: int, fingerprint: Callable[[int], Fingerprint]) -> Fingerprints:
        """Those that a function gives, without keeping shingles; tokens count as equal where the sequences are."""
        sequence, contour = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
        span, sizes = np.zeros(count, np.int64), np.zeros(count, np.int64)
        timing, sketch = np.zeros((count, SAMPLES), np.uint16), np.zeros((count, SKETCH), np.uint32)
        for piece in range(count):
            found = fingerprint(piece)
            sequence[piece], contour[piece], span[piece] = found.sequence, found.contour, found.span
            timing[piece], sketch[piece], sizes[piece] = found.timing, found.sketch, len(found.shingles)
        return cls(sequence, contour, span, timing, sketch, sizes, sequence, lambda piece: fingerprint(piece).shingles)

    def __add__(self, other: Fingerprints) -> Fingerprints:
        """The pieces of both."""
        count = len(self)

        def both(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(self, name), getattr(other, name)])

        return Fingerprints(
            both("sequence"),
            both("contour"),
            both("span"),
            both("timing"),
            both("sketch"),
            both("sizes"),
            both("exact"),
            lambda piece: self.shingles_of(piece) if piece < count else other.shingles_of(piece - count),
        )


def group_copies(pieces: Fingerprints, least_share: float) -> Ints:
    """The first of its copies for each of P pieces, int64 [P]."""
    groups = copy_groups(
        pieces.sequence,
        pieces.contour,
        pieces.span,
        pieces.timing,
        pieces.sketch,
        pieces.sizes,
        pieces.shingles_of,
        least_share,
    )
    groups.unite_equal(np.arange(len(pieces)), pieces.exact)  # equal tokens; onsets in ticks may differ
    return groups.roots()


def copies_of(pieces: Fingerprints, others: Fingerprints, least_share: float) -> Ints:
    """For each of P pieces, the first of the others that it is a copy of (perhaps by way of further copies), or -1."""
    roots = group_copies(pieces + others, least_share)
    first = np.full(len(roots), -1, np.int64)
    first[roots[len(pieces) :][::-1]] = np.arange(len(others))[::-1]
    return first[roots[: len(pieces)]]


def number_groups(roots: Ints, sequences: NDArray[np.uint64]) -> tuple[Ints, NDArray[np.uint64]]:
    """Number the groups given by ``roots``, int64 [P]; the key of a group is its smallest hash.

    Returns
    -------
    int64 [P], uint64 [G]
        The group of each piece, and the key of each group.
    """
    names, group = np.unique(roots, return_inverse=True)
    keys = np.full(len(names), 2**64 - 1, np.uint64)
    np.minimum.at(keys, group, sequences)
    return group, keys


def tie_groups(copies: Ints, ties: Sequence[str | None], fixed: NDArray[np.int8], names: Sequence[str]) -> Ints:
    """Unite copy groups that have pieces in the same group of the user's.

    Parameters
    ----------
    copies : int64 [P]
        The result of :func:`group_copies`.
    ties : sequence of (str or None) [P]
        The user's group of each piece.
    fixed : int8 [P]
        The split that the user has fixed (0, 1, 2) or -1.
    names : sequence of str [P]

    Returns
    -------
    int64 [P]
        The first piece of the split group of each piece.

    Raises
    ------
    OptionError
        Pieces of one group are fixed to different splits.
    """
    groups = UnionFind(len(copies))
    groups.unite_equal(np.arange(len(copies)), copies)
    first_of: dict[str, int] = {}
    split_of: dict[str, tuple[int, str]] = {}
    for piece, tie in enumerate(ties):
        if tie is None:
            continue
        groups.unite(first_of.setdefault(tie, piece), piece)
        if fixed[piece] >= 0:
            split, other = split_of.setdefault(tie, (int(fixed[piece]), names[piece]))
            if split != fixed[piece]:
                raise OptionError(
                    f"{other} and {names[piece]} stay together (group {tie}), but their splits are fixed to "
                    f"{SPLITS[split]} and {SPLITS[int(fixed[piece])]}; one of the two must yield."
                )
    return groups.roots()


def fixed_groups(group: Ints, fixed: NDArray[np.int8], count: int) -> NDArray[np.int8]:
    """The split that each group is fixed to (the most protected one of its pieces'), or -1, int8 [count]."""
    splits = np.full(count, -1, np.int8)
    for name in reversed(PROTECTED):
        split = SPLITS.index(name)
        splits[group[fixed == split]] = split
    return splits


def first_of_equal(values: NDArray[np.generic], pieces: Ints) -> Ints:
    """For each of ``pieces``, the first of them with an equal row of ``values``; -1 if it is the first itself."""
    _, start, inverse = np.unique(values[pieces], axis=0, return_index=True, return_inverse=True)
    first = pieces[start[inverse.reshape(-1)]]
    return np.where(first == pieces, -1, first)


def decide(
    journal: Journal,
    names: Sequence[str],
    fixed: NDArray[np.int8],
    ties: Mapping[str, str],
    *,
    ratios: tuple[float, float, float],
    seed: int,
    duplicates: str,
    least_share: float = SHARE,
    held_out: Callable[[Ints], Ints] | None = None,
) -> SplitPlan:
    """Group and split the pieces, and drop duplicates.

    Parameters
    ----------
    journal : Journal
    names : sequence of str [N]
        The names of all files, sorted.
    fixed : int8 [N]
        The split that the user has fixed (0, 1, 2) or -1.
    ties : mapping
        From name to the user's group.
    ratios : (float, float, float)
        Shares of train, valid and test.
    seed : int
    duplicates : str
        Which duplicates within a split are dropped: none (``keep``), those with equal tokens (``exact``), or all copies
        (``near``).
    least_share : float
        Smallest share of equal shingles of near-duplicates.
    held_out : callable, optional
        From P files with a piece, int64 [P], to the index of a held-out piece that each is a copy of, or -1.

    Raises
    ------
    OptionError
        There are too few pieces for the splits, or groups and splits contradict each other.
    """
    plan = SplitPlan.of(len(names))
    pieces = np.flatnonzero(journal.notes >= 0)
    copies = group_copies(Fingerprints.of_journal(journal, pieces), least_share)
    copy_group, copy_keys = number_groups(copies, journal.sequence[pieces])
    plan.group[pieces] = copy_keys[copy_group]
    roots = copies
    if ties:
        piece_names = [names[piece] for piece in pieces.tolist()]
        roots = tie_groups(copies, [ties.get(name) for name in piece_names], fixed[pieces], piece_names)
    if held_out is not None:
        held = held_out(pieces)
        out = np.isin(roots, roots[held >= 0])
        plan.held[pieces[out]] = np.where(held[out] >= 0, held[out], HELD_GROUP)
        pieces, copies, roots = pieces[~out], copies[~out], roots[~out]

    pinned, sequences = fixed[pieces], journal.sequence[pieces]
    alike = copies[:, None] if duplicates == "near" else journal.exact[pieces]
    order = np.argsort(journal.repaired[pieces], kind="stable")  # intact files before repaired copies
    group, keys = number_groups(roots, sequences)
    fixed_split = fixed_groups(group, pinned, len(keys))
    split_of_group = draw(keys, fixed_split, ratios, seed)
    if ties:
        sizes = journal.notes[pieces].astype(np.int64)
        if duplicates != "keep":
            sizes[order[first_of_equal(alike, order) >= 0]] = 0
        split_of_group = balance(split_of_group, np.bincount(group, sizes, len(keys)), fixed_split, ratios)
    split = split_of_group[group]

    elsewhere = (pinned >= 0) & (pinned != split)
    split[elsewhere] = -1
    original = np.full(len(pieces), -1, np.int64)
    if duplicates != "keep":
        kept = order[~elsewhere[order]]
        first = first_of_equal(alike, kept)
        original[kept] = np.where(first >= 0, pieces[first], -1)
        split[original >= 0] = -1

    plan.split[pieces], plan.unit[pieces] = split, keys[group]
    plan.original[pieces], plan.elsewhere[pieces] = original, elsewhere
    return plan
