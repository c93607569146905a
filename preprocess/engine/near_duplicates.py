"""Near-duplicates: which pieces of music are copies of one another.

Two pieces are copies if one of these holds:

*equal*
    Their sequences of (onset step, pitch interval) are equal.  The sequence is made of the distinct (onset, pitch) of
    all melodic notes, sorted.  Steps are divided by their greatest common divisor, so resolution and tempo do not
    matter; pitches enter only as intervals, so transposition does not matter.  Tracks, programs, velocities, durations
    and drums are ignored.  Since a change of time scale rounds onsets to ticks, two sequences also count as equal if
    all intervals are equal and sixteen onsets, spread over the piece and divided by its span, differ by no more than
    this rounding explains.  (If the rounding is so coarse that notes one tick apart coincide, it changes their order
    and the copy is missed: five of thirty performances halved in time.)
*near*
    They share at least 90 % of their note shingles.  Onsets are rounded to a sixteenth note (a quarter of a quarter
    note); a shingle is three neighbours of the sorted distinct (onset, pitch), written as two (step, interval).  With
    A and B the multisets of shingles, the share is ``|A & B| / max(|A|, |B|)``.  It is exact except for collisions of
    32-bit hashes.

Copy groups are the connected components of this relation.

A piece of fewer than four melodic notes is compared with its drums included and without transposition, since the pitch
of a drum note names the drum.

Which pairs are compared
    Comparing all pairs would be quadratic. Each piece keeps a *sketch*: the 16 smallest hashes of its shingles of nine
    notes, each paired with the number of its earlier occurrences. Two pieces are compared if their sketches have two
    hashes in common (one, if a sketch has only one). If a share s of the nine-note shingles survives, the Jaccard
    similarity is J = s / (2 - s), and the pair is missed with probability about (1 - J)^16 + 16 J (1 - J)^15. At the
    threshold, with single notes changed all over the piece, s = 0.73, J = 0.58 and the probability is 2e-5; a single
    changed passage leaves s near 0.9, where it is negligible. If more than :data:`MAX_BUCKET` pieces share a hash (of a
    trill, for example), each is compared with the :data:`MAX_BUCKET` pieces nearest in number of shingles.

Memory: about 150 bytes per piece; shingles stay on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SHARE = 0.9  # smallest share of equal note shingles of near-duplicates
SKETCH = 16
MAX_BUCKET = 32
FEWEST_MELODIC = 4
SAMPLES = 16
_SPREAD = np.arange(SAMPLES) * 0.6180339887498949 % 1.0  # sample positions: evenly spread, not periodic
_NOTHING = np.uint32(2**32 - 1)  # fills short sketches


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The features of a piece by which copies are found.

    Attributes
    ----------
    sequence : int
        64-bit hash of the sequence of (onset step, pitch interval).
    contour : int
        64-bit hash of the sequence of intervals alone.
    span : int
        Ticks from the first onset to the last.
    timing : uint16 [SAMPLES]
        Onsets of sampled notes, scaled so that the span is 65,535.
    shingles : uint32 [M]
        Sorted hashes of all note shingles, with repetitions; M is 0 for pieces of fewer than three notes.
    sketch : uint32 [SKETCH]
        Sorted, padded with 2**32 - 1.
    """

    sequence: int
    contour: int
    span: int
    timing: np.ndarray
    shingles: np.ndarray
    sketch: np.ndarray


def _sorted_notes(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys ``time << 8 | pitch`` in order (``key`` is sorted in place), and the step from each to the next."""
    key.sort()
    step = key[1:] - key[:-1]
    if np.count_nonzero(step) < len(step):
        key = key[np.concatenate(([True], step != 0))]
        step = key[1:] - key[:-1]
    return key, step


def _in_units(steps: np.ndarray) -> np.ndarray:
    """Steps >= 0 (int64 [M]) divided by their greatest common divisor."""
    unit = int(np.gcd.reduce(steps[:64])) if len(steps) else 1
    while unit > 1:
        divided = steps // unit
        rest = steps - divided * unit
        if not np.count_nonzero(rest):
            return divided
        unit = int(np.gcd(unit, int(rest[np.flatnonzero(rest)[0]])))
    if unit == 0:  # the first 64 steps lie within one chord
        unit = int(np.gcd.reduce(steps))
        return steps // unit if unit else steps
    return steps


_A, _B, _C, _D = (np.uint32(odd) for odd in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x2C1B3C6D))
_D2, _D4 = (np.uint32(int(_D) ** power % 2**32) for power in (2, 4))


def _mix(words: np.ndarray) -> np.ndarray:
    """Mix the bits of 32-bit words, in place."""
    words ^= words >> np.uint32(15)
    words *= _B
    words ^= words >> np.uint32(13)
    words *= _C
    return words


def _shingles(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of every run of two and of every run of eight words (uint32 [M]), or of all M if M < 8."""
    words *= _A
    _mix(words)
    pairs = words[:-1] * _D
    pairs += words[1:]
    if len(words) < 8:
        whole = hashlib.sha256(words.data).digest()[:4]
        return _mix(pairs), np.frombuffer(whole, np.uint32).copy()
    fours = pairs[:-2] * _D2
    fours += pairs[2:]
    eights = fours[:-4] * _D4
    eights += fours[4:]
    return _mix(pairs), _mix(eights)


def _sketch(hashes: np.ndarray) -> np.ndarray:
    """The smallest hashes of the multiset, with repetitions hashed differently; uint32 [SKETCH]."""
    hashes.sort()
    same = hashes[1:] == hashes[:-1]
    if np.count_nonzero(same):
        repetition = np.arange(len(hashes), dtype=np.uint32)
        first = repetition.copy()
        first[1:][same] = 0
        repetition -= np.maximum.accumulate(first)
        repetition *= _A
        hashes += repetition
    _mix(hashes)
    if len(hashes) > SKETCH:
        hashes.partition(SKETCH)
    out = np.full(SKETCH, _NOTHING, np.uint32)
    smallest = np.sort(hashes[:SKETCH])
    out[: len(smallest)] = smallest
    return out


def fingerprint_of(onset: np.ndarray, pitch: np.ndarray, drums: np.ndarray, resolution: int) -> Fingerprint:
    """The fingerprint of a piece.

    Parameters
    ----------
    onset : int64 [N]
        Ticks.
    pitch : int [N]
        MIDI pitch 0..127.
    drums : bool [N]
    resolution : int
        Ticks per quarter note.

    Returns
    -------
    Fingerprint
    """
    key = onset << 8
    key |= pitch
    percussive = int(np.count_nonzero(drums))
    transposable = len(onset) - percussive >= FEWEST_MELODIC or not percussive
    if transposable:
        if percussive:
            key = key[~drums]
    else:
        key |= drums.astype(np.int64) << 7
    key, change = _sorted_notes(key)
    step = (change + 128) >> 8 if transposable else (key[1:] >> 8) - (key[:-1] >> 8)
    interval = change - (step << 8) if transposable else key[1:] & 255
    words = _in_units(step) << 9
    words += interval
    digest = hashlib.sha256(words.astype(np.uint32).data)
    if not transposable:
        digest.update(b"drums" + int(key[0] & 255).to_bytes(2, "little"))
    sequence = int.from_bytes(digest.digest()[:8], "little")
    contour = int.from_bytes(hashlib.sha256(interval.astype(np.uint8).data).digest()[:8], "little")
    time = key >> 8
    span = int(time[-1] - time[0])
    sample = time[(_SPREAD * len(time)).astype(np.int64)] - time[0]
    fixed = (sequence, contour, span, (sample * 65535 // max(span, 1)).astype(np.uint16))

    time *= 8  # rounded to sixteenth notes
    time += resolution
    time //= 2 * resolution
    time <<= 8
    time |= key & 255
    key, change = _sorted_notes(time.astype(np.int32) if time[-1] < 2**31 else time)
    if len(change) < 2:
        return Fingerprint(*fixed, np.empty(0, np.uint32), np.full(SKETCH, _NOTHING, np.uint32))
    if not transposable:
        change = ((key[1:] >> 8) - (key[:-1] >> 8) << 8) + (key[1:] & 255)
    threes, nines = _shingles(change.astype(np.uint32))
    threes.sort()
    return Fingerprint(*fixed, threes, _sketch(nines))


def share(first: np.ndarray, second: np.ndarray) -> float:
    """``|A & B| / max(|A|, |B|)`` of two sorted multisets of shingles, uint32 [M] and [N]; 0 if one is empty."""
    if not len(first) or not len(second):
        return 0.0
    values, counts = np.unique(first, return_counts=True)
    others, other_counts = np.unique(second, return_counts=True)
    _, index, other_index = np.intersect1d(values, others, assume_unique=True, return_indices=True)
    return int(np.minimum(counts[index], other_counts[other_index]).sum()) / max(len(first), len(second))


class UnionFind:
    """Disjoint sets that can be united; the root of a set is its smallest member.

    scipy's ``connected_components`` would do, but takes 0.4 s to import, a seventh of a build of 2,255 files.
    """

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count, dtype=np.int64)

    def find(self, member: int) -> int:
        """The root of the set that holds a member."""
        root = member
        while (above := int(self._parent[root])) != root:
            root = above
        while (above := int(self._parent[member])) != root:
            self._parent[member] = root
            member = above
        return root

    def unite(self, first: int, second: int) -> None:
        """Unite the sets of two members."""
        first, second = self.find(first), self.find(second)
        if first != second:
            self._parent[max(first, second)] = min(first, second)

    def unite_equal(self, members: np.ndarray, values: np.ndarray) -> None:
        """Unite all members (int [N]) that have equal values ([N])."""
        order = np.argsort(values, kind="stable")
        same = np.flatnonzero(values[order][1:] == values[order][:-1])
        for index in same.tolist():
            self.unite(int(members[order[index]]), int(members[order[index + 1]]))

    def roots(self) -> np.ndarray:
        """The root of every member's set, int64 [count]."""
        parent = self._parent
        while True:
            above = parent[parent]
            if (above == parent).all():
                self._parent = parent.copy()
                return parent
            parent = above


def _candidates(members: np.ndarray, sketches: np.ndarray, sizes: np.ndarray, least_share: float) -> np.ndarray:
    """Pairs to compare, int64 [P, 2], each once: those whose sketches share enough and whose sizes allow it."""
    filled = np.count_nonzero(sketches != _NOTHING, axis=1)
    found = []
    # A sixteenth of the hashes at a time bounds the memory; their lowest four bits are uniform.
    for part in range(16):
        hits = [np.flatnonzero((column & 15 == part) & (column != _NOTHING)) for column in sketches.T]
        row = np.concatenate(hits)
        value = np.concatenate([column[hit] for column, hit in zip(sketches.T, hits, strict=True)])
        del hits
        order = np.argsort(value)
        row, value = row[order], value[order]
        equal = value[1:] == value[:-1]
        several = np.zeros(len(value), bool)
        several[1:] |= equal
        several[:-1] |= equal
        row, value = row[several], value[several]
        if not len(row):
            continue
        order = np.lexsort((row, sizes[row], value))
        row, value = row[order], value[order]
        bounds = np.flatnonzero(np.concatenate(([True], value[1:] != value[:-1], [True])))
        length = np.repeat(np.diff(bounds), np.diff(bounds))
        for distance in range(1, MAX_BUCKET + 1):
            large = length > distance
            row, value, length = row[large], value[large], length[large]
            left = np.flatnonzero(value[distance:] == value[:-distance])
            if not len(left):
                break
            pair = np.stack([row[left], row[left + distance]], axis=1)
            fits = sizes[pair].min(axis=1) >= least_share * sizes[pair].max(axis=1)
            found.append(np.sort(pair[fits], axis=1))
    if not found:
        return np.empty((0, 2), np.int64)
    pairs = np.concatenate(found)
    code, count = np.unique(pairs[:, 0] * len(members) + pairs[:, 1], return_counts=True)
    pairs = np.stack(np.divmod(code, len(members)), axis=1)
    return pairs[count >= np.minimum(2, filled[pairs].min(axis=1))]


def _unite_rescaled(groups: UnionFind, contours: np.ndarray, spans: np.ndarray, timings: np.ndarray) -> None:
    """Unite pieces of equal intervals whose onsets differ by no more than rounding explains (arrays as copy_groups)."""
    order = np.lexsort((spans, contours))
    bounds = np.flatnonzero(np.concatenate(([True], np.diff(contours[order]) != 0, [True])))
    several = np.flatnonzero(np.diff(bounds) > 1)
    for start, stop in zip(bounds[several].tolist(), bounds[several + 1].tolist(), strict=True):
        representatives: list[int] = []  # one piece of each rhythm
        for piece in order[start:stop].tolist():
            for other in representatives:
                tick = 65535 / max(min(spans[piece], spans[other]), 1)
                if np.abs(timings[piece].astype(np.int64) - timings[other]).max() <= 1 + 1.5 * tick:
                    groups.unite(piece, other)
                    break
            else:
                if len(representatives) < MAX_BUCKET:
                    representatives.append(piece)


def copy_groups(
    sequences: np.ndarray,
    contours: np.ndarray,
    spans: np.ndarray,
    timings: np.ndarray,
    sketches: np.ndarray,
    sizes: np.ndarray,
    shingles_of: Callable[[int], np.ndarray],
    least_share: float = SHARE,
) -> UnionFind:
    """Group pieces that are copies.

    Parameters
    ----------
    sequences, contours, spans, timings, sketches : array [N] or [N, ...]
        These attributes of every piece's :class:`Fingerprint`.
    sizes : int [N]
        Number of shingles of every piece.
    shingles_of : callable
        Returns the shingles of piece i; called for candidate pairs only.
    least_share : float
        Smallest share of equal shingles of near-duplicates.

    Returns
    -------
    UnionFind
        Over 0 .. N - 1.
    """
    groups = UnionFind(len(sequences))
    groups.unite_equal(np.arange(len(sequences)), sequences)
    members = np.sort(np.unique(sequences, return_index=True)[1])  # the first piece of each set of equal pieces
    rescaled = UnionFind(len(members))
    _unite_rescaled(rescaled, contours[members], spans[members], timings[members])
    for member, other in enumerate(rescaled.roots().tolist()):
        groups.unite(int(members[member]), int(members[other]))
    members = members[sizes[members] > 0]
    for first, second in _candidates(members, sketches[members], sizes[members].astype(np.int64), least_share).tolist():
        first, second = int(members[first]), int(members[second])
        if groups.find(first) == groups.find(second):
            continue
        if share(shingles_of(first), shingles_of(second)) >= least_share:
            groups.unite(first, second)
    return groups
