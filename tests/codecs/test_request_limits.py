"""What a request can guarantee: bars, time signature and tempo of its class, and the instruments that it excludes."""

from __future__ import annotations

import numpy as np
import pytest

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.attributes import GROUP_OF_PROGRAM, INSTRUMENTS, SLOT_OF
from musicbert_plugin.codecs.octuple import TEMPO_VALUES
from musicbert_plugin.codecs.request_limits import ANY_BARS, limited_slots, limits_of
from musicbert_plugin.codecs.requests import parse_request
from musicbert_plugin.errors import OptionError


def classes(*requests: str) -> np.ndarray:
    return np.stack([parse_request(request) for request in requests])


def test_each_request_has_its_own_limits() -> None:
    limits = limits_of(classes("bars=6 meter=3/4", "tempo=slow", "meter=other tempo=fast bars=16", "key=minor"))
    assert limits.least_bars.tolist() == [5, 0, 13, 0] and limits.most_bars.tolist() == [8, ANY_BARS, 16, ANY_BARS]
    meters = [np.flatnonzero(row) for row in limits.meters]
    assert meters[0].tolist() == [remi.meter_code(3, 4)] and len(meters[1]) == len(meters[3]) == 254
    assert len(meters[2]) == 254 - 6 and remi.meter_code(4, 4) not in meters[2]
    speeds = [TEMPO_VALUES[row] for row in limits.tempi]
    assert speeds[1].max() <= 76 and speeds[2].min() >= 120 and len(speeds[0]) == len(speeds[3]) == 49
    assert limits.steady_meter.tolist() == [True, False, True, False]
    assert limits.steady_tempo.tolist() == [False, True, True, False]
    assert limits.programs.all()


def test_an_excluded_instrument_never_sounds_named_ones_or_not() -> None:
    requests = classes("no-drum", "piano no-drum", "no-drum no-piano")
    for only in (False, True):
        for limited in (False, True):
            programs = limits_of(requests, limited=limited, only_instruments=only).programs
            groups = [set(GROUP_OF_PROGRAM[row].tolist()) for row in programs]
            everything = set(range(28)) - {INSTRUMENTS.index("drum")}
            assert groups == [everything, {0} if only else everything, everything - {0}]


def test_options_replace_what_requests_say() -> None:
    requests = classes("bars=6 meter=3/4 tempo=slow", "")
    free = limits_of(requests, limited=False)
    assert not free.least_bars.any() and (free.most_bars == ANY_BARS).all()
    assert free.meters.all() and free.tempi.all() and not free.steady_meter.any() and not free.steady_tempo.any()
    assert limits_of(requests, exact_bars=3).most_bars.tolist() == [3, 3]
    assert limits_of(requests, limited=False, steady_tempo=True).steady_tempo.all()


def test_a_request_that_excludes_everything_is_refused() -> None:
    nothing = " ".join(f"no-{name.replace(' ', '_')}" for name in INSTRUMENTS)
    with pytest.raises(OptionError, match="excludes every instrument"):
        parse_request(nothing)
    everything = classes("piano")
    everything[:, SLOT_OF["I1s2"] : SLOT_OF["I1s2"] + 28] = 1
    with pytest.raises(OptionError, match="excludes every instrument"):
        limits_of(everything)


def limited(request: str, layout: str = remi.BAR_TEMPO, **options: bool) -> set[int]:
    return set(np.flatnonzero(limited_slots(classes(request), layout, **options)[0]).tolist())


def test_limited_attributes_are_those_that_a_mask_keeps() -> None:
    request = "piano no-drum bars=4 meter=4/4 tempo=fast key=minor octaves=3"
    bars, meter, tempo = (SLOT_OF[key] for key in ("B1s1", "TS1s1", "T1s1"))
    piano, drum = SLOT_OF["I1s2"], SLOT_OF["I1s2"] + 27
    assert limited(request) == {drum, bars, meter, tempo}
    assert limited(request, remi.NOTES) == {drum, bars}, "no words tell time signature and tempo"
    assert limited(request, limited=False) == limited(request, grammar=False) == {drum}
    assert limited(request, only_instruments=True) == {piano, drum, bars, meter, tempo}
    assert limited("piano violin", only_instruments=True) == set(), "one of the two may be missing"
