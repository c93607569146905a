"""The split of every piece, drawn by content and seed, or fixed by the user.

Pieces that belong together (copies, and files in one group of ``--groups``) form a *split group* and go to one split.
The split of a group is a hash of the seed and of the smallest content hash in it, so it depends neither on names nor on
order.  If a split with a ratio above 0 would stay empty, the group whose hash is nearest to its interval is moved
there, from the split that has most groups.

With ``--groups``, or a group column, there are often few split groups of very different sizes, and a random draw leaves
some splits far from their ratios.  Groups are then moved to another split, or exchanged between two, always by the move
with the largest gain, until no move brings the shares of notes (of recordings: frames) closer to the ratios.

``--splits`` fixes the split of files, and the rest of a split group follows.  If copies are fixed to different splits,
the most protected split is used (test, then valid, then train), and the copies fixed to others are left out.  Files of
one group of ``--groups`` that are not copies cannot be fixed to different splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from musicbert_plugin.errors import OptionError
from musicbert_plugin.files import as_listed
from musicbert_plugin.tables import check_columns, normal_text, read_table

SPLITS = ("train", "valid", "test")
PROTECTED = ("test", "valid", "train")
SPLIT_NAMES = {**dict(zip(SPLITS, SPLITS, strict=True)), "dev": "valid", "validation": "valid"}
"""Names of splits in tables and of manifests, in lower case, and what they mean."""
_EXCHANGES = 1 << 22  # largest number of pairs of split groups that are compared


def parse_ratios(text: str) -> tuple[float, float, float]:
    """Shares of train, valid and test from ``98,1,1``; they are divided by their sum.

    Raises
    ------
    OptionError
        The text is not three numbers, none below 0 and at least one above.
    """
    try:
        ratios = [float(part) for part in text.split(",")]
    except ValueError:
        ratios = []
    if len(ratios) != 3 or not all(0 <= ratio < float("inf") for ratio in ratios) or sum(ratios) <= 0:
        raise OptionError(f"--split-ratios {text}: three numbers for train,valid,test are needed, as in 98,1,1.")
    total = sum(ratios)
    return ratios[0] / total, ratios[1] / total, ratios[2] / total


def _rows(path: str, option: str, columns: tuple[str, str], delimiter: str) -> list[tuple[str, str]]:
    """File name and value of every row of a table with these two columns."""
    try:
        header, rows = read_table(path, delimiter)
    except OptionError as error:
        raise OptionError(f"{option} {error}") from None
    if not rows or any(column not in header for column in columns):
        kind = "CSV" if delimiter == "," else "TSV"
        both = " and ".join(columns)
        raise OptionError(f"{option} {path}: a {kind} file with a header naming the columns {both} is needed.")
    check_columns(f"{option} {path}", header, columns)
    cells = [dict(zip(header, row, strict=False)) for _, row in rows]
    return [(as_listed(row.get(columns[0], "")), row.get(columns[1], "")) for row in cells]


def fix_split(splits: dict[str, str], where: str, name: str, cell: str) -> None:
    """Add the split that a cell gives to a file.

    Raises
    ------
    OptionError
        The cell names a split other than train, valid (or dev, validation) and test, or the file has another split.
    """
    split = SPLIT_NAMES.get(cell.lower())
    if split is None:
        raise OptionError(f"{where}: {name} has the split {cell!r}; accepted is train, valid or test.")
    if splits.setdefault(name, split) != split:
        raise OptionError(f"{where}: {name} is in both {splits[name]} and {split}; a file has one split.")


def read_splits(path: str) -> dict[str, str]:
    """File names and their splits from a CSV with columns ``file`` and ``split`` (others are ignored).

    Raises
    ------
    OptionError
        The file is unreadable, lacks a column, names a split other than train, valid and test, or puts a file in two.
    """
    splits: dict[str, str] = {}
    for name, cell in _rows(path, "--splits", ("file", "split"), ","):
        fix_split(splits, f"--splits {path}", name, cell)
    return splits


def read_groups(path: str) -> dict[str, str]:
    """File names and their groups from a TSV with columns ``file`` and ``group``; rows without a group are ignored.

    Raises
    ------
    OptionError
        The table is unreadable, lacks a column, or puts a file in two groups.
    """
    groups: dict[str, str] = {}
    for name, cell in _rows(path, "--groups", ("file", "group"), "\t"):
        group = normal_text(cell)
        if group and groups.setdefault(name, group) != group:
            raise OptionError(f"--groups {path}: {name} is in both {groups[name]} and {group}; a file has one group.")
    return groups


def chance(seed: int, key: int) -> float:
    """A pseudo-random number in [0, 1), a function of the seed and a 64-bit key."""
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def draw(keys: np.ndarray, fixed: np.ndarray, ratios: tuple[float, float, float], seed: int) -> np.ndarray:
    """The split of every split group.

    Parameters
    ----------
    keys : uint64 [G]
        Content hash of each group, all different.
    fixed : int [G]
        0, 1, 2 for groups that the user has fixed to train, valid or test; else -1.
    ratios : (float, float, float)
        Sum 1.
    seed : int

    Returns
    -------
    int8 [G]

    Raises
    ------
    OptionError
        There are fewer split groups than splits with a ratio above 0, and not all groups are fixed.
    """
    if len(keys) and (fixed >= 0).all():
        return fixed.astype(np.int8)
    wanted = [split for split in range(3) if ratios[split] > 0]
    if len(keys) < len(wanted):
        names = ", ".join(SPLITS[split] for split in wanted)
        need = "needs at least one" if len(wanted) == 1 else "need at least one each"
        raise OptionError(
            f"The source holds {len(keys)} piece{'' if len(keys) == 1 else 's'} (counting once what stays together: "
            f"copies, --groups), but {names} {need}; give more music or another --split-ratios."
        )
    draw = np.array([chance(seed, key) for key in keys.tolist()])
    edges = np.cumsum(ratios)
    split = np.minimum(np.searchsorted(edges[:2], draw, side="right"), max(wanted)).astype(np.int8)
    split[fixed >= 0] = fixed[fixed >= 0]
    order = np.argsort(keys, kind="stable")
    for empty in wanted:
        if (split == empty).any():
            continue
        counts = np.bincount(split[fixed < 0], minlength=3)
        totals = np.bincount(split, minlength=3)
        givers = [s for s in range(3) if counts[s] and totals[s] > 1]
        if not givers:
            continue
        giver = max(givers, key=lambda s: counts[s])
        middle = edges[empty] - ratios[empty] / 2
        movable = order[(split[order] == giver) & (fixed[order] < 0)]
        split[movable[np.argmin(np.abs(draw[movable] - middle))]] = empty
    return split


def balance(split: np.ndarray, sizes: np.ndarray, fixed: np.ndarray, ratios: tuple[float, float, float]) -> np.ndarray:
    """Move and exchange split groups greedily, so that the shares of the splits approach their ratios.

    Each step minimises the sum over splits of (share - ratio)^2 / ratio, which weighs deviations relative to the size
    of a split.  Ties are decided by the order of the split groups.  No split loses its last group.

    Parameters
    ----------
    split : int8 [G]
        The result of :func:`draw`.
    sizes : int [G]
        Notes or frames of each group.
    fixed : int [G]
        0, 1, 2 for groups whose split the user has fixed; else -1.
    ratios : (float, float, float)
        Sum 1.

    Returns
    -------
    int8 [G]
    """
    split, total = split.copy(), float(sizes.sum())
    wanted = [number for number in range(3) if ratios[number] > 0]
    pairs = [(source, target) for source in wanted for target in wanted if source != target]
    if not total:
        return split
    shares = sizes / total
    free = fixed < 0
    while True:
        held = np.bincount(split, weights=shares, minlength=3)
        best, step = -1e-12, None
        for source, target in pairs:
            sources, targets = (np.flatnonzero(free & (split == number)) for number in (source, target))
            moves = shares[sources] if (split == source).sum() > 1 else shares[:0]
            exchanges = np.zeros((0, 0))
            if source < target and len(sources) * len(targets) <= _EXCHANGES:
                exchanges = shares[sources][:, None] - shares[targets]
            for change in (moves, exchanges):
                if not change.size:
                    continue
                gain = sum(
                    ((held[side] + sign * change - ratios[side]) ** 2 - (held[side] - ratios[side]) ** 2) / ratios[side]
                    for side, sign in ((source, -1), (target, 1))
                )
                lowest = int(np.argmin(gain))
                if gain.flat[lowest] < best:
                    best = float(gain.flat[lowest])
                    row, column = np.unravel_index(lowest, gain.shape) if gain.ndim == 2 else (lowest, None)
                    step = [(sources[row], target)] + ([] if column is None else [(targets[column], source)])
        if step is None:
            return split
        for group, side in step:
            split[group] = side


def check_names(path: str, option: str, missing: Sequence[str]) -> None:
    """Raise :class:`OptionError` if names are missing in the source; the message has the first and their number."""
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise OptionError(
            f"{option} {path}: {missing[0]}{more} not in the source; names are paths inside the folder or archive."
        )
