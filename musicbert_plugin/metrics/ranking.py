"""Ranking metrics: are the true candidates of a query placed before the others?

Aim
---
A phrase is shown with candidates for what follows or accompanies it, of which one or several are true.  A model scores
every candidate, and the true ones should come first.

Conventions
-----------
All candidates of all queries lie end to end: ``query`` int [N] numbers the query of each, ``relevant`` bool [N] is true
for true ones, and ``score`` float [N] is larger for better ones.  Candidates of a query are in any order, and other
candidates may lie between them.  Results are float64 [Q], one number per query, in ascending order of their numbers
(``numpy.unique(query)``), so that intervals can be drawn over queries; a query without true candidates gets NaN.

Ties are pessimistic, as in the published evaluation of MusicBERT [1]_: among candidates of equal score the true ones
come last, so that a constant score is as bad as the worst order.

Metrics
-------
* :func:`average_precision`: mean over the true candidates of the precision at their ranks [2]_; its mean over queries
  is MAP.
* :func:`hits_at`: share of the true candidates among the first k.
* :func:`chance_average_precision`, :func:`chance_hits_at`: their expectations in a random order.

References
----------
.. [1] M. Zeng, X. Tan, R. Wang, Z. Ju, T. Qin, T.-Y. Liu. "MusicBERT: symbolic music understanding with large-scale
   pre-training." Findings of ACL-IJCNLP, 2021.
.. [2] C. D. Manning, P. Raghavan, H. Schuetze. "Introduction to Information Retrieval", chapter 8. Cambridge, 2008.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class _Ranked(NamedTuple):
    """Candidates sorted by query and rank.

    ``query`` int64 [N] is the index of the query, ``rank`` int64 [N] counts from 1 in each, ``relevant`` is bool [N],
    ``positives`` and ``candidates`` are int64 [Q].
    """

    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    relevant: NDArray[np.bool_]
    positives: NDArray[np.int64]
    candidates: NDArray[np.int64]


def validate(query: ArrayLike, relevant: ArrayLike, score: ArrayLike) -> None:
    """Check the arguments.

    Raises
    ------
    ValueError
        If they are not one-dimensional of one length, queries are not integers, relevance is anything but 0 and 1, or a
        score is NaN.
    """
    arrays = {"query": np.asarray(query), "relevant": np.asarray(relevant), "score": np.asarray(score)}
    for name, values in arrays.items():
        if values.ndim != 1 or len(values) != len(arrays["query"]):
            raise ValueError(f"{name} has shape {values.shape}; {arrays['query'].shape[:1]} is expected.")
    if len(arrays["query"]) and not np.issubdtype(arrays["query"].dtype, np.integer):
        raise ValueError(f"query has type {arrays['query'].dtype}; integers are expected.")
    if not np.isin(arrays["relevant"], (0, 1)).all():
        raise ValueError("relevant holds other values than 0 and 1.")
    if np.isnan(np.asarray(score, dtype=np.float64)).any():
        raise ValueError("score holds NaN, which cannot be ranked.")


def _ranked(query: ArrayLike, relevant: ArrayLike, score: ArrayLike) -> _Ranked:
    validate(query, relevant, score)
    number = np.unique(np.asarray(query), return_inverse=True)[1].astype(np.int64).ravel()
    truth = np.asarray(relevant).astype(bool)
    order = np.lexsort((truth, -np.asarray(score, dtype=np.float64), number))
    number, truth = number[order], truth[order]
    candidates = np.bincount(number)
    first = np.cumsum(candidates) - candidates
    rank = np.arange(len(number)) - first[number] + 1
    return _Ranked(number, rank, truth, np.bincount(number[truth], minlength=len(candidates)), candidates)


def _divided(above: NDArray[np.float64], below: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)


def average_precision(query: ArrayLike, relevant: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Mean over the true candidates of each query of the precision at their ranks.

    Parameters
    ----------
    query : int [N]
    relevant : bool [N]
    score : float [N]

    Returns
    -------
    float64 [Q], above 0 up to 1, NaN for a query without true candidates

    Examples
    --------
    >>> average_precision([0, 0, 0, 1, 1], [1, 0, 1, 0, 1], [0.9, 0.5, 0.1, 0.3, 0.3])
    array([0.83333333, 0.5       ])
    """
    found = _ranked(query, relevant, score)
    at = np.flatnonzero(found.relevant)
    first = np.cumsum(found.positives) - found.positives
    hits = np.arange(len(at)) - first[found.query[at]] + 1
    total = np.bincount(found.query[at], hits / found.rank[at], minlength=len(found.positives))
    return _divided(total.astype(np.float64), found.positives)


def hits_at(query: ArrayLike, relevant: ArrayLike, score: ArrayLike, k: int) -> NDArray[np.float64]:
    """Share of the true candidates of each query that are among its first ``k``.

    Parameters
    ----------
    query : int [N]
    relevant : bool [N]
    score : float [N]
    k : int
        At least 1.

    Returns
    -------
    float64 [Q], 0 to 1, NaN for a query without true candidates

    Examples
    --------
    >>> hits_at([0, 0, 0, 1, 1], [1, 0, 1, 0, 1], [0.9, 0.5, 0.1, 0.3, 0.3], 1)
    array([0.5, 0. ])
    """
    if k < 1:
        raise ValueError(f"k is {k}; at least 1 is expected.")
    found = _ranked(query, relevant, score)
    hits = np.bincount(found.query[found.relevant & (found.rank <= k)], minlength=len(found.positives))
    return _divided(hits.astype(np.float64), found.positives)


def chance_average_precision(query: ArrayLike, relevant: ArrayLike) -> NDArray[np.float64]:
    """Expectation of :func:`average_precision` where candidates are in a random order, float64 [Q].

    A true candidate is at rank r of n with probability 1 / n, and each of the r - 1 before it is one of the other P - 1
    true ones with probability (P - 1) / (n - 1).

    Examples
    --------
    >>> chance_average_precision([0] * 50, [1] + [0] * 49).round(2)
    array([0.09])
    """
    found = _ranked(query, relevant, np.zeros(len(np.asarray(query))))
    n, positives = found.candidates.astype(np.float64), found.positives
    harmonic = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, found.candidates.max(initial=0) + 1))))
    harmonic = harmonic[found.candidates]
    others = (positives - 1) / np.maximum(n - 1, 1)
    return np.where(positives > 0, (harmonic + others * (n - harmonic)) / np.maximum(n, 1), np.nan)


def chance_hits_at(query: ArrayLike, relevant: ArrayLike, k: int) -> NDArray[np.float64]:
    """Expectation of :func:`hits_at` where candidates are in a random order, float64 [Q]."""
    found = _ranked(query, relevant, np.zeros(len(np.asarray(query))))
    return np.where(found.positives > 0, np.minimum(k, found.candidates) / np.maximum(found.candidates, 1), np.nan)
