"""Masking: which tokens of a sample a masked language model must guess, and what it sees in their place.

One primitive for every masked task.  Each token belongs to a *unit*; every unit draws one of four states,
independently:

==========  ===========================================  =======================  ===========
state       probability                                  the model sees           is a target
==========  ===========================================  =======================  ===========
KEPT        1 - p                                        the token                no
MASKED      p (1 - random - unchanged)                   ``<mask>``               yes
UNCHANGED   p unchanged                                  the token                yes
RANDOM      p random                                     a word drawn at random   yes
==========  ===========================================  =======================  ===========

with p = ``mask_prob`` (0.15), random = ``random_token_prob`` (0.1) and unchanged = ``leave_unmasked_prob`` (0.1).
This is an independent Bernoulli draw per unit, as in the original MusicBERT (microsoft/muzic), and not the fixed
number of masks per sample that fairseq's ``MaskTokensDataset`` draws.  The tokens of one unit share its state, but in
state RANDOM each token draws its own word.  Words are uniform over the dictionary without its specials, whatever
field they stand in, as in stock fairseq; the original drew specials too, and a random ``<pad>`` in a bar slot made
the octuple vanish.

Units of an octuple sample (Zeng et al. 2021, arXiv 2106.05630, section 3.3):

* ``element``: each token alone.
* ``compound``: the eight tokens of an octuple together.
* ``bar``: all tokens of one field in one bar together, so that a value cannot be copied from a neighbour.  The
  published checkpoints masked per bar *and instrument* (``mask_unit="bar-instrument"``, the default here); the paper
  says per bar (``mask_unit="bar"``).

The two frame octuples, eight ``<s>`` and eight ``</s>``, are one unit each under every strategy.  Pieces that share a
row are masked one by one before they are packed, so no unit reaches from one piece into another.

Source and target come out of one draw.  Only as many random numbers are drawn as there are units: for 1,000 notes in 30
bars of four instruments about 1,000, where the original drew 534,184 twice.
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
        Shares of the targets that show a random word, or themselves, instead of ``<mask>``.

    Raises
    ------
    OptionError
        If a probability lies outside its range.
    """

    mask_prob: float = 0.15
    random_token_prob: float = 0.1
    leave_unmasked_prob: float = 0.1

    def __post_init__(self) -> None:
        for name in ("mask_prob", "random_token_prob", "leave_unmasked_prob"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise OptionError(f"--{name.replace('_', '-')} is {value}, but a probability lies between 0 and 1.")
        shares = self.random_token_prob + self.leave_unmasked_prob
        if shares > 1.0:
            raise OptionError(
                f"--random-token-prob and --leave-unmasked-prob are {shares:g} together; shares add up to at most 1."
            )

    @property
    def thresholds(self) -> tuple[float, float, float]:
        """Upper ends of RANDOM, of UNCHANGED and of MASKED on the unit interval."""
        random = self.mask_prob * self.random_token_prob
        return random, random + self.mask_prob * self.leave_unmasked_prob, self.mask_prob


def draw_states(units: int, probabilities: MaskingProbabilities, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the state of each of ``units`` units, independently: uint8 [units] of KEPT, MASKED, UNCHANGED, RANDOM."""
    uniform = rng.random(units, dtype=np.float32)
    random, unchanged, masked = probabilities.thresholds
    # A number below k thresholds has state k: RANDOM lies below all three, KEPT below none.
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
        Id of ``<mask>``, and the id that marks "not a target".
    words : (low, high)
        Replacements are uniform over ``low <= id < high``.

    Returns
    -------
    source, target : int64, shape of ``tokens``
        What the model sees, and the true id at targets with ``pad`` elsewhere.  ``tokens`` is not changed.
    """
    source = np.where(states == MASKED, mask, tokens)
    random = np.flatnonzero(states == RANDOM)
    source.ravel()[random] = rng.integers(words[0], words[1], size=len(random))
    target = np.where(states == KEPT, pad, tokens)
    return source, target


def _number_groups(keys: NDArray[np.uint16]) -> tuple[NDArray[np.int64], int]:
    """Number equal keys alike, from 0 in ascending order of key; also how many different keys there are."""
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
        What a unit of the strategy ``bar`` spans.

    Returns
    -------
    units : int64 [n + 2, 8]
        Unit of each token, 0 to count - 1, each of them in use.
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
        For an unknown strategy or unit.
    """

    probabilities: MaskingProbabilities = MaskingProbabilities()
    strategies: tuple[str, ...] = ("bar",)
    mask_unit: str = "bar-instrument"

    def __post_init__(self) -> None:
        unknown = [name for name in self.strategies if name not in STRATEGIES]
        if unknown or not self.strategies:
            raise OptionError(
                f"--mask-strategy is {'+'.join(self.strategies) or 'empty'}, but it is one of {', '.join(STRATEGIES)}, "
                "or several joined by '+'."
            )
        if self.mask_unit not in MASK_UNITS:
            raise OptionError(f"--mask-unit is {self.mask_unit}, but it is one of {', '.join(MASK_UNITS)}.")

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
    """Split the option's value, such as ``"bar"`` or ``"bar+element"``."""
    return tuple(name.strip() for name in text.replace(",", "+").split("+") if name.strip())
