"""Continuing prefixes with a recurrent decoder: greedy, sampling (top-k, top-p, temperature) and beam search.

Each prefix is read once for all of its candidates; finished rows are removed from the batch; states are copied only if
the order of rows changes.  A grammar, if there is one, determines the tokens that may follow at every step: the scores
of all others become minus infinity, which renormalises the distribution.

Sampling: of the k most probable tokens of a row (all without ``top_k``), and of these the fewest whose total
probability reaches ``top_p``, one is drawn with probability proportional to exp(score / temperature).  The random
numbers come from a counter-based generator (Salmon et al. 2011, Philox) keyed by (seed, line, candidate), so that a row
does not depend on the rest of its batch.

Beam search: each step keeps the best continuations of all beams of a line; those that end become hypotheses, ranked by
the sum of scores divided by the number of tokens to the power of ``length_penalty``.  Hypotheses of probability 0 are
not returned.

Scores are natural logarithms of probabilities under the grammar, at temperature 1.

Shapes: B rows, V vocabulary, N lines, C candidates or beams of a line (in consecutive rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from musicbert_plugin.arguments import checked_seed
from musicbert_plugin.generation.recurrent_decoder import RecurrentDecoder


class Grammar(Protocol):
    """The interface of a grammar; ``state`` is the grammar's own record of a batch of rows."""

    def allowed(self, state: Any) -> np.ndarray:
        """bool [B, V]: the tokens that may follow in each row, at least one."""

    def advance(self, state: Any, tokens: np.ndarray) -> Any:
        """The state after one more token in each row, ``tokens`` [B]."""

    def select(self, state: Any, index: np.ndarray) -> Any:
        """The state of the rows ``index``, in this order."""

    def shortened(self, state: Any) -> np.ndarray:
        """bool [B]: whether the length limit has excluded tokens that could otherwise have followed."""


TEMPERATURE = 0.8
"""Default temperature of sampling; at 1, two notes a semitone apart sound about a quarter more of the time."""


@dataclass(frozen=True)
class Search:
    """How tokens are chosen.

    ``beam`` > 1 is beam search; otherwise tokens are drawn (``sampling``), or the most probable ones are taken.
    ``top_k`` 0, and ``top_p`` outside (0, 1), impose no restriction.  Lengths count tokens after the prefix without the
    end token; no row ends before ``min_length``, unless the grammar allows nothing else.
    """

    beam: int = 1
    sampling: bool = False
    top_k: int = 0
    top_p: float = -1.0
    temperature: float = TEMPERATURE
    length_penalty: float = 1.0
    min_length: int = 0
    max_length: int = 2560
    seed: int = 1

    def __post_init__(self) -> None:
        checked_seed(self.seed)


@dataclass(frozen=True, eq=False)
class Continuation:
    """``tokens`` int64 and their ``scores`` float32, the end token included.

    ``cut``: whether the length limit ended the piece, or excluded tokens of it.
    """

    tokens: np.ndarray
    scores: np.ndarray
    cut: bool


class _Draws:
    """Random numbers in [0, 1), one per row and step, from a generator per row."""

    BLOCK = 256

    def __init__(self, seed: int, lines: Sequence[int], candidates: int) -> None:
        self.generators = [
            np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, line, candidate])))
            for line in lines
            for candidate in range(candidates)
        ]
        self.numbers = np.empty((len(self.generators), 0))

    def take(self, step: int, rows: np.ndarray) -> np.ndarray:
        if step % self.BLOCK == 0:
            self.numbers = np.stack([generator.random(self.BLOCK) for generator in self.generators])
        return self.numbers[rows, step % self.BLOCK]


def draw(scores_BV: Tensor, numbers_B: Tensor, top_k: int, top_p: float, temperature: float) -> Tensor:
    """Draw tokens from scores.

    Parameters
    ----------
    scores_BV : Tensor
        Logits; minus infinity for tokens that are not allowed.
    numbers_B : Tensor
        Random numbers in [0, 1); the lowest ones draw the most probable token.
    top_k, top_p, temperature
        See :class:`Search`.

    Returns
    -------
    int64 [B]
    """
    count = min(top_k, scores_BV.shape[1]) if top_k > 0 else scores_BV.shape[1]
    best, index = scores_BV.topk(count)
    if temperature != 1.0:
        best = best / temperature
    chances = best.softmax(1)
    reached = chances.cumsum(1)
    if 0.0 < top_p < 1.0:
        chances = chances * (reached - chances < top_p)
        reached = chances.cumsum(1)
    rank = (reached <= numbers_B.unsqueeze(1) * reached[:, -1:]).sum(1)
    # rounding must not go past the last possible token
    rank = torch.minimum(rank, (chances > 0).sum(1) - 1)
    return index.gather(1, rank.unsqueeze(1)).squeeze(1)


class MusicGenerator:
    """Continue prefixes; see the module.

    Parameters
    ----------
    decoder : RecurrentDecoder
    end : int
        Id of the token that ends a piece.
    never : sequence of int
        Ids that are never chosen (padding).
    """

    def __init__(self, decoder: RecurrentDecoder, *, end: int, never: Sequence[int] = ()) -> None:
        self.decoder = decoder
        self.end = end
        self.never = list(never)

    @torch.inference_mode()
    def generate(
        self,
        prefixes: Sequence[Tensor],
        begins: Sequence[int],
        search: Search,
        *,
        lines: Sequence[int] | None = None,
        candidates: int = 1,
        grammar: Grammar | None = None,
        grammar_state: Any = None,
    ) -> list[list[Continuation]]:
        """Continue each prefix.

        Parameters
        ----------
        prefixes : sequence of int64 Tensor [L]
        begins : sequence of int
            The index in each prefix at which positions begin.
        search : Search
        lines : sequence of int, optional
            The seed of each prefix besides that of the search; by default its index.
        candidates : int
            Continuations of each prefix; with beam search the best ones, at most ``beam``.
        grammar, grammar_state
            A :class:`Grammar` and its state, with one row per prefix.

        Returns
        -------
        list of list of Continuation
            For each prefix: sampled continuations in their order, beams from the best down.
        """
        lines = list(range(len(prefixes))) if lines is None else list(lines)
        width = search.beam if search.beam > 1 else candidates
        logits = self.decoder.start(prefixes, begins, search.max_length + 1, copies=width)
        if grammar is not None and width > 1:
            grammar_state = grammar.select(grammar_state, np.repeat(np.arange(len(prefixes)), width))
        run = self._beams if search.beam > 1 else self._single
        found = run(logits, search, lines, width, grammar, grammar_state)
        return [pieces[:candidates] for pieces in found]

    def _scores(
        self, logits_BV: Tensor, search: Search, step: int, grammar: Grammar | None, state: Any
    ) -> tuple[Tensor, np.ndarray]:
        """Scores, minus infinity for tokens that are not allowed, and whether the length limit affects a row, [B]."""
        scores = logits_BV.float()
        rows = len(scores)
        cut = np.zeros(rows, bool)
        if grammar is not None:
            allowed = grammar.allowed(state)
            cut = grammar.shortened(state)
            if step < search.min_length:
                others = allowed.sum(1) > allowed[:, self.end]
                if others.any():
                    allowed = allowed.copy()
                    allowed[others, self.end] = False
            scores = scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), -torch.inf)
        else:
            scores = scores.nan_to_num(nan=-torch.inf)
            scores[:, self.never] = -torch.inf
            if step < search.min_length:
                scores[:, self.end] = -torch.inf
        if step >= search.max_length:
            cut[:] = True
            end = scores[:, self.end].clone()
            scores.fill_(-torch.inf)
            scores[:, self.end] = end
        return scores, cut

    def _single(
        self, logits: Tensor, search: Search, lines: Sequence[int], width: int, grammar: Grammar | None, state: Any
    ) -> list[list[Continuation]]:
        """Greedy search or sampling, with independent rows."""
        count = len(lines) * width
        alive = np.arange(count)
        lengths = np.zeros(count, np.int64)
        cut = np.zeros(count, bool)
        steps: list[tuple[np.ndarray, np.ndarray, Tensor]] = []
        draws = _Draws(search.seed, lines, width) if search.sampling else None
        for step in range(search.max_length + 1):
            scores, cut[alive] = self._scores(logits, search, step, grammar, state)
            if draws is None:
                chosen = scores.argmax(1)
            else:
                numbers = torch.from_numpy(draws.take(step, alive)).to(scores)
                chosen = draw(scores, numbers, search.top_k, search.top_p, search.temperature)
            gained = scores.log_softmax(1).gather(1, chosen.unsqueeze(1)).squeeze(1)
            tokens = chosen.cpu().numpy()
            steps.append((alive, tokens, gained))
            lengths[alive] += 1
            ended = tokens == self.end
            if ended.any():
                kept = np.flatnonzero(~ended)
                if not len(kept):
                    break
                alive, tokens = alive[kept], tokens[kept]
                index = torch.from_numpy(kept).to(chosen.device)
                chosen = chosen[index]
                self.decoder.select(index)
                if grammar is not None:
                    state = grammar.select(state, kept)
            if grammar is not None:
                state = grammar.advance(state, tokens)
            logits = self.decoder.step(chosen)
        written = np.zeros((count, len(steps)), np.int64)
        scored = np.zeros((count, len(steps)), np.float32)
        for step, (rows, tokens, gained) in enumerate(steps):
            written[rows, step] = tokens
            scored[rows, step] = gained.cpu().numpy()
        pieces = [
            Continuation(written[row, : lengths[row]], scored[row, : lengths[row]], bool(cut[row]))
            for row in range(count)
        ]
        return [pieces[i : i + width] for i in range(0, count, width)]

    def _beams(
        self, logits: Tensor, search: Search, lines: Sequence[int], width: int, grammar: Grammar | None, state: Any
    ) -> list[list[Continuation]]:
        """Beam search; a line is removed from the batch when it has ``width`` hypotheses or no beam to continue."""
        device = logits.device
        found: list[list[tuple[float, Continuation]]] = [[] for _ in lines]
        alive = np.arange(len(lines))
        # at first all beams of a line are equal: only the first has a score
        sums_NC = torch.full((len(lines), width), -torch.inf, device=device)
        sums_NC[:, 0] = 0
        history = np.zeros((len(lines), width, 0), np.int64)
        gains = np.zeros((len(lines), width, 0), np.float32)
        for step in range(search.max_length + 1):
            scores, cut = self._scores(logits, search, step, grammar, state)
            gained = scores.log_softmax(1)
            # a discarded beam (-inf) may have no continuation, which gives NaN
            gained = gained.nan_to_num_(nan=-torch.inf, neginf=-torch.inf)
            size = gained.shape[1]
            totals = sums_NC.unsqueeze(2) + gained.view(len(alive), width, size)
            best, index = totals.view(len(alive), -1).topk(min(2 * width, width * size))
            best_sums = best.cpu().numpy()
            beams, tokens = np.divmod(index.cpu().numpy(), size)
            steps = gained.view(len(alive), -1).gather(1, index).cpu().numpy()
            possible = np.isfinite(best_sums)
            ends = possible & (tokens == self.end)
            for line, rank in zip(*np.nonzero(ends[:, :width]), strict=True):
                beam = beams[line, rank]
                piece = Continuation(
                    np.append(history[line, beam], self.end),
                    np.append(gains[line, beam], steps[line, rank]).astype(np.float32),
                    bool(cut[line * width + beam]),
                )
                value = float(best_sums[line, rank]) / (step + 1) ** search.length_penalty
                found[alive[line]].append((value, piece))
            going = possible & (tokens != self.end)
            order = np.argsort(~going, axis=1, kind="stable")[:, :width]
            full = np.array([len(found[line]) >= width for line in alive])
            kept = np.flatnonzero(going.any(1) & ~full)
            if not len(kept):
                break
            order = order[kept]
            # a superfluous beam repeats the line's best one with probability 0
            real = np.take_along_axis(going[kept], order, 1)
            order = np.where(real, order, order[:, :1])
            beams = np.take_along_axis(beams[kept], order, 1)
            tokens = np.take_along_axis(tokens[kept], order, 1)
            steps = np.take_along_axis(steps[kept], order, 1)
            sums = np.where(real, np.take_along_axis(best_sums[kept], order, 1), -np.inf)
            sums_NC = torch.from_numpy(sums).to(device)
            history = np.concatenate([history[kept[:, None], beams], tokens[..., None]], 2)
            gains = np.concatenate([gains[kept[:, None], beams], steps[..., None]], 2).astype(np.float32)
            rows = (kept[:, None] * width + beams).ravel()
            if len(rows) != len(alive) * width or (rows != np.arange(len(rows))).any():
                self.decoder.select(torch.from_numpy(rows).to(device))
                if grammar is not None:
                    state = grammar.select(state, rows)
            alive = alive[kept]
            if grammar is not None:
                state = grammar.advance(state, tokens.ravel())
            logits = self.decoder.step(torch.from_numpy(tokens.ravel()).to(device))
        return [
            [piece for _, piece in sorted(pieces, key=lambda hypothesis: -hypothesis[0])][:width] for pieces in found
        ]
