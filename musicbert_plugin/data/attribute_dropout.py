"""Attribute dropout: which attributes of a piece are visible to the model, drawn anew for each piece and epoch.

Lu et al. 2023, "MuseCoco" (arXiv 2306.00110), section 3.3; the numbers are those of its code.  A class vector
(``codecs.attributes``) has one class for each of the 63 command words, the last of which is NA.

``steps``
    A number of attributes is drawn, 1 to 14 but never 5, with weight 5 for 1 to 4, 3 for 6 to 8 and 2 for 9 to 14.  So
    many of the fifteen attributes, drawn without replacement, are visible, the others are NA.  Of an attribute with a
    class for each member (instruments, genres) only some members are visible: of the T that are present, a number from
    min(1, T) to T, as yes; of the F that are absent, a number from min(1, F) to F, as no.
``probability``
    Each command word is NA with probability p, independently; absent members are always NA.
``none``
    Everything that is known is visible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.attributes import KEYS, NA, NO, SLOT_KEY, YES, command_ids
from musicbert_plugin.codecs.remi import COMMANDS, VOCABULARY_SIZE, WORDS

DROPOUTS = ("steps", "probability", "none")
STEP_COUNTS = np.array([*[1, 2, 3, 4] * 5, *[6, 7, 8] * 3, *[9, 10, 11, 12, 13, 14] * 2])
"""The number of visible attributes is a uniform choice from these."""

_MULTIPLE = np.array([members > 0 for _, members, _ in COMMANDS])
_PROBABILITY_KEEPS = np.array([COMMANDS[key][1] == 0 for key in SLOT_KEY])


def steps_dropout(classes: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A class vector [63] of which some attributes are visible; see the module."""
    out = NA.copy()
    visible = generator.choice(len(KEYS), generator.choice(STEP_COUNTS), replace=False)
    for key in visible:
        slots = np.flatnonzero(SLOT_KEY == key)
        if not _MULTIPLE[key]:
            out[slots] = classes[slots]
            continue
        for answer in (YES, NO):
            members = slots[classes[slots] == answer]
            if len(members):
                out[generator.permutation(members)[: generator.integers(1, len(members) + 1)]] = answer
    return out


def probability_dropout(classes: NDArray[np.uint8], generator: np.random.Generator, p: float) -> NDArray[np.uint8]:
    """A class vector [63] in which each word is NA with probability ``p``, and absent members are NA."""
    absent = (classes == NO) & ~_PROBABILITY_KEEPS
    return np.where((generator.random(len(classes)) < p) | absent, NA, classes).astype(np.uint8)


def visible_words(classes: NDArray[np.uint8], dropout: str) -> list[str]:
    """The command words, without those for NA, that a model can see in training on samples.

    Parameters
    ----------
    classes : uint8 [N, 63]
        The class vectors of all samples.
    dropout : str
        One of :data:`DROPOUTS`.
    """
    counts = np.zeros(VOCABULARY_SIZE, np.int64)
    for start in range(0, len(classes), 65536):
        counts += np.bincount(command_ids(classes[start : start + 65536]).ravel(), minlength=VOCABULARY_SIZE)
    counts[command_ids(NA)] = 0
    if dropout == "probability":
        counts[command_ids(np.full(len(NA), NO))[~_PROBABILITY_KEEPS]] = 0
    return [WORDS[row] for row in np.flatnonzero(counts).tolist()]


def drop_attributes(
    classes: NDArray[np.uint8], generator: np.random.Generator, dropout: str, p: float
) -> NDArray[np.uint8]:
    """The class vector after the dropout of this name, one of :data:`DROPOUTS`."""
    if dropout == "steps":
        return steps_dropout(classes, generator)
    return probability_dropout(classes, generator, p) if dropout == "probability" else classes
