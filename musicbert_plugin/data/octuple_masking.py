"""Masking for masked language models: the targets of a sample, and the tokens that replace them in the input.

Each token belongs to a *unit*; every unit draws one of four states, independently:

==========  ===========================================  =======================  ===========
state       probability                                  input                    is a target
==========  ===========================================  =======================  ===========
KEPT        1 - p                                        the token                no
MASKED      p (1 - random - unchanged)                   ``<mask>``               yes
UNCHANGED   p unchanged                                  the token                yes
RANDOM      p random                                     a random word            yes
==========  ===========================================  =======================  ===========

with p = ``mask_prob`` (0.15), random = ``random_token_prob`` (0.1) and unchanged = ``leave_unmasked_prob`` (0.1).
Units are independent Bernoulli draws, as in the original MusicBERT (microsoft/muzic); fairseq's ``MaskTokensDataset``
draws a fixed number of masks per sample.  The tokens of a unit share its state, but in state RANDOM each token draws
its own word, uniformly from the dictionary without its specials, of any field, as in fairseq.  The original draws
specials too, and a random ``<pad>`` as bar pads the octuple.

Units of an octuple sample (Zeng et al. 2021, arXiv 2106.05630, section 3.3):

* ``element``: each token alone.
* ``compound``: the eight tokens of an octuple together.
* ``bar``: all tokens of one field in one bar together, so that a value cannot be copied from a neighbour.  The
  published checkpoints were trained with units per bar *and program* (``mask_unit="bar-instrument"``, the default);
  the paper states units per bar (``mask_unit="bar"``).

The two frame octuples, eight ``<s>`` and eight ``</s>``, are one unit each under every strategy.  Segments are masked
before they are packed into a row, so no unit spans two of them.

One random number is drawn per unit: about 1,000 for 1,000 notes in 30 bars of four programs, for which the original
draws 534,184, separately for source and target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.octuple import FIELD_OFFSETS, FIELDS, MASK, PAD
from musicbert_plugin.errors import OptionError

KEPT, MASKED, UNCHANGED, RANDOM = 0, 1, 2, 3

STRATEGIES = ("bar", "compound", "element")
MASK_UNITS = ("bar-instrument", "bar")

BAR, PROGRAM, WIDTH = FIELDS.index("bar"), FIELDS.index("program"), len(FIELDS)


@dataclass(frozen=True)
class MaskingProbabilities:
    """Probabilities of the four states of a unit.

    Parameters
    ----------
    mask_prob : float in [0, 1]
        Probability that a unit is a target.
    random_token_prob, leave_unmasked_prob : float in [0, 1], together at most 1
        Shares of the targets that are replaced by a random word, or left unchanged, instead of masked.

    Raises
    ------
    OptionError
        A probability is outside its range.
    """

    mask_prob: float = 0.15
    random_token_prob: float = 0.1
    leave_unmasked_prob: float = 0.1

    def __post_init__(self) -> None:
        for name in ("mask_prob", "random_token_prob", "leave_unmasked_prob"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise OptionError(f"{name} is {value}, but a probability from 0 to 1 is accepted.")
        shares = self.random_token_prob + self.leave_unmasked_prob
        if shares > 1.0:
            raise OptionError(
                f"random_token_prob and leave_unmasked_prob are {shares:g} together; a sum of at most 1 is accepted."
            )

    @property
    def thresholds(self) -> tuple[float, float, float]:
        """Upper ends of the intervals of RANDOM, UNCHANGED and MASKED in [0, 1]; KEPT is the rest."""
        random = self.mask_prob * self.random_token_prob
        return random, random + self.mask_prob * self.leave_unmasked_prob, self.mask_prob


def draw_states(units: int, probabilities: MaskingProbabilities, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the state of each of ``units`` units, independently: uint8 [units] of KEPT, MASKED, UNCHANGED, RANDOM."""
    uniform = rng.random(units, dtype=np.float32)
    random, unchanged, masked = probabilities.thresholds
    # The state is the number of thresholds above the random number.
    states = (uniform < masked).view(np.uint8)
    states += uniform < unchanged
    states += uniform < random
    return states


def apply_states(
    tokens: NDArray[np.int64],
    states: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    mask: int,
    pad: int,
    words: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source and target of a masked sample.

    Parameters
    ----------
    tokens : int64 [...]
        Dictionary ids.
    states : uint8, same shape
        State of each token.
    mask, pad : int
        Id of ``<mask>``, and the target id of tokens that are not targets.
    words : (low, high)
        Replacements are uniform over ``low <= id < high``.

    Returns
    -------
    source, target : int64, shape of ``tokens``
        The input of the model; and the true id at targets, ``pad`` elsewhere.
    """
    source = np.where(states == MASKED, mask, tokens)
    random = np.flatnonzero(states == RANDOM)
    source.ravel()[random] = rng.integers(words[0], words[1], size=len(random))
    target = np.where(states == KEPT, pad, tokens)
    return source, target


def _number_groups(keys: NDArray[np.uint16]) -> tuple[NDArray[np.int64], int]:
    """Number the distinct keys from 0 in ascending order; returns the number of each key, and how many there are."""
    order = np.argsort(keys, kind="stable")  # a radix sort, for 16-bit keys
    ascending = keys[order]
    is_new = np.empty(len(keys), dtype=bool)
    is_new[:1] = False
    np.not_equal(ascending[1:], ascending[:-1], out=is_new[1:])
    groups = np.empty(len(keys), dtype=np.int64)
    groups[order] = np.cumsum(is_new)
    return groups, int(np.count_nonzero(is_new)) + 1 if len(keys) else 0


def octuple_units(
    tokens: NDArray[np.int64], strategy: str = "bar", mask_unit: str = "bar-instrument"
) -> tuple[NDArray[np.int64], int]:
    """Number the masking units of one framed sample.

    Parameters
    ----------
    tokens : int64 [8 (n + 2)]
        Eight ``<s>``, n octuples of ids, eight ``</s>``.
    strategy : {"bar", "compound", "element"}
    mask_unit : {"bar-instrument", "bar"}
        The unit of the strategy ``bar``.

    Returns
    -------
    units : int64 [n + 2, 8]
        Unit of each token, 0 to count - 1.
    count : int
    """
    rows = tokens.reshape(-1, WIDTH)
    notes = rows[1:-1]
    units = np.empty(rows.shape, dtype=np.int64)
    if strategy == "element":
        count = notes.size
        units[1:-1] = np.arange(count).reshape(notes.shape)
    elif strategy == "compound":
        count = len(notes)
        units[1:-1] = np.arange(count)[:, None]
    else:
        # 256 bars x 129 programs fit into 16 bits.
        keys = notes[:, BAR] - FIELD_OFFSETS[BAR]
        if mask_unit == "bar-instrument":
            keys = (
                keys * (FIELD_OFFSETS[PROGRAM + 1] - FIELD_OFFSETS[PROGRAM])
                + notes[:, PROGRAM]
                - FIELD_OFFSETS[PROGRAM]
            )
        groups, group_count = _number_groups(keys.astype(np.uint16))
        count = group_count * WIDTH
        np.add(groups[:, None] * WIDTH, np.arange(WIDTH), out=units[1:-1])
    units[0], units[-1] = count, count + 1
    return units, count + 2


@dataclass(frozen=True)
class OctupleMasking:
    """Masking of one framed octuple sample: one of ``strategies`` is drawn per sample, each equally likely.

    Raises
    ------
    OptionError
        A strategy or the unit is unknown.
    """

    probabilities: MaskingProbabilities = MaskingProbabilities()
    strategies: tuple[str, ...] = ("bar",)
    mask_unit: str = "bar-instrument"

    def __post_init__(self) -> None:
        unknown = [name for name in self.strategies if name not in STRATEGIES]
        if unknown or not self.strategies:
            raise OptionError(
                f"mask_strategy is {'+'.join(self.strategies) or 'empty'}, but {', '.join(STRATEGIES)}, or several "
                "joined by '+', are accepted."
            )
        if self.mask_unit not in MASK_UNITS:
            raise OptionError(f"mask_unit is {self.mask_unit}, but {' or '.join(MASK_UNITS)} is accepted.")

    def __call__(
        self, tokens: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask one framed sample, int64 [8 (n + 2)]; returns source and target, int64 of the same shape."""
        several = len(self.strategies) > 1
        strategy = self.strategies[rng.integers(len(self.strategies)) if several else 0]
        units, count = octuple_units(tokens, strategy, self.mask_unit)
        states = draw_states(count, self.probabilities, rng)[units].reshape(tokens.shape)
        return apply_states(tokens, states, rng, mask=MASK, pad=PAD, words=(FIELD_OFFSETS[0], MASK))


def parse_strategies(text: str) -> tuple[str, ...]:
    """Split a list of strategies, such as ``"bar"`` or ``"bar+element"``."""
    return tuple(name.strip() for name in text.replace(",", "+").split("+") if name.strip())
