"""Limits: the attributes of a request that a grammar can guarantee, since they are words and counts of music.

=====  ===========================================  ==================================================================
key    limit                                        condition
=====  ===========================================  ==================================================================
B1s1   least and most bars of the class             without ``exact_bars``
TS1s1  time signatures of the class, one per piece  a layout with words for time signatures
T1s1   tempi of the class, one per piece            a layout with words for tempi
I1s2   no program of a group with class "no"        always, also with ``limited=False``
I1s2   only programs of groups with class "yes"     ``only_instruments``, if there is such a group
=====  ===========================================  ==================================================================

All other attributes, such as the key, only guide the model.  A figure of how well a model follows requests is a figure
of the attributes that are free: :func:`limited_slots` names the others.

Shapes: B requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs.attributes import (
    BARS_PER_CLASS,
    GROUP_OF_PROGRAM,
    INSTRUMENTS,
    METERS,
    NA,
    NO,
    SLOT_OF,
    YES,
    programs_of,
    tempo_class,
)
from musicbert_plugin.codecs.octuple import TEMPO_VALUES
from musicbert_plugin.codecs.remi import FREE, NOTES_ALONE, SIZES, meter_code
from musicbert_plugin.errors import OptionError

Bools = NDArray[np.bool_]
_GROUPS = slice(SLOT_OF["I1s2"], SLOT_OF["I1s2"] + len(INSTRUMENTS))
_BARS, _METER, _TEMPO = (SLOT_OF[key] for key in ("B1s1", "TS1s1", "T1s1"))


def _meter_table() -> Bools:
    """Time signatures of each class and of NA, bool [8, 254]."""
    table = np.zeros((len(METERS) + 2, SIZES["s"]), bool)
    for number, meter in enumerate(METERS):
        table[number, meter_code(*meter)] = True
    table[len(METERS)] = ~table[: len(METERS)].any(axis=0)
    table[len(METERS) + 1] = True
    return table


_METERS_OF_CLASS = _meter_table()
_TEMPI_OF_CLASS = np.concatenate(
    [tempo_class(TEMPO_VALUES) == np.arange(3)[:, None], np.ones((1, len(TEMPO_VALUES)), bool)]
)


@dataclass(frozen=True, eq=False)
class Limits:
    """The limits of a batch of requests, as :meth:`~.remi_grammar.RemiGrammar.start` takes them.

    Attributes
    ----------
    least_bars, most_bars : int64 [B]
        0 and :data:`ANY_BARS` without a limit.
    programs, meters, tempi : bool [B, 129], [B, 254], [B, 49]
        What may occur.
    steady_meter, steady_tempo : bool [B]
        Whether there is one time signature or tempo per piece.
    """

    least_bars: NDArray[np.int64]
    most_bars: NDArray[np.int64]
    programs: Bools
    meters: Bools
    tempi: Bools
    steady_meter: Bools
    steady_tempo: Bools


ANY_BARS = 2**40


def limits_of(
    classes: NDArray[np.uint8],
    *,
    limited: bool = True,
    only_instruments: bool = False,
    exact_bars: int | None = None,
    steady_tempo: bool = False,
) -> Limits:
    """The limits of requests.

    Parameters
    ----------
    classes : uint8 [B, 63]
        Class vectors.
    limited : bool
        Whether bars, time signatures and tempi of the requests are limits; excluded instruments always are.
    only_instruments : bool
        Whether only programs of the requested instrument groups may occur, if there are any.
    exact_bars : int, optional
        Number of bars of all pieces, instead of those of the requests.
    steady_tempo : bool
        Whether each piece has one tempo, also if its request names none.

    Raises
    ------
    OptionError
        A request excludes every instrument.
    """
    read = classes if limited else np.broadcast_to(NA, classes.shape)
    bars = read[:, _BARS].astype(np.int64)
    named = bars != NA[_BARS]
    least = np.where(named, BARS_PER_CLASS * bars + 1, 0)
    most = np.where(named, BARS_PER_CLASS * (bars + 1), ANY_BARS)
    if exact_bars is not None:
        least, most = np.full(len(classes), exact_bars), np.full(len(classes), exact_bars)
    programs = programs_of(classes) if only_instruments else np.ones((len(classes), len(GROUP_OF_PROGRAM)), bool)
    programs = programs & ~(classes[:, _GROUPS] == NO)[:, GROUP_OF_PROGRAM]
    if not programs.any(axis=1).all():
        raise OptionError("a request excludes every instrument; at least one may sound.")
    meter, tempo = read[:, _METER], read[:, _TEMPO]
    return Limits(
        least_bars=least,
        most_bars=most,
        programs=programs,
        meters=_METERS_OF_CLASS[meter],
        tempi=_TEMPI_OF_CLASS[tempo],
        steady_meter=meter != NA[_METER],
        steady_tempo=(tempo != NA[_TEMPO]) | steady_tempo,
    )


def limited_slots(
    classes: NDArray[np.uint8],
    layout: str,
    *,
    limited: bool = True,
    only_instruments: bool = False,
    grammar: bool = True,
) -> Bools:
    """The slots of requests that are limits, and so no achievement of the model, bool [B, 63].

    Parameters
    ----------
    classes : uint8 [B, 63]
        Class vectors.
    layout : str
        The layout of the music, one of ``remi.LAYOUTS``, or ``remi.FREE``, for which there is no grammar.
    limited, only_instruments : bool
        See :func:`limits_of`.
    grammar : bool
        Whether the music was generated with the grammar; without it, only instruments are limited.
    """
    out = np.zeros(classes.shape, bool)
    out[:, _GROUPS] = classes[:, _GROUPS] == NO
    if only_instruments:
        named = classes[:, _GROUPS] == YES
        out[:, _GROUPS] |= named & (named.sum(axis=1) == 1)[:, None]
    if limited and grammar and layout != FREE:
        for slot in (_BARS,) if layout in NOTES_ALONE else (_BARS, _METER, _TEMPO):
            out[:, slot] = classes[:, slot] != NA[slot]
    return out
