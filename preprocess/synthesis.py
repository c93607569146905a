"""A small additive synthesiser in numpy, for machines without fluidsynth.

A tone is a sum of partials, partial k at ``k f0 sqrt(1 + b k^2)`` Hz (b: stiffness of a string, 0 for pipes and bowed
strings) with amplitude ``k ** -slope``, multiplied by ``even`` for even k.  Struck and plucked tones decay, the higher
partials faster (time constant ``decay / sqrt(k)``); blown and bowed tones are sustained.  Vibrato modulates the pitch;
breath and bow add noise.  Every note has an attack, and a release after its end.  Drums are noise, and low drums also a
falling sine.

Each of the sixteen families of General MIDI has its own timbre; the eight programs of a family differ in brightness,
attack and the strength of even partials.  The synthesiser does not imitate instruments: it gives labelled sound in
which programs can be told apart by ear.  A tone is computed once for all notes of its program and pitch.

Equal arguments give equal samples (numpy's sine may differ in the last bit between kinds of processors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

DRUMS = 128
PARTIALS = 16
_NYQUIST_SHARE = 0.45  # partials above this share of the sample rate are left out
_RELEASES = 5.0  # length of a release in time constants


@dataclass(frozen=True)
class Timbre:
    """The parameters of a program's sound; times are seconds.

    Attributes
    ----------
    slope, even : float
        Exponent of the partials' amplitudes, and factor of even partials.
    stiffness : float
        b of the module's formula.
    attack, decay, release : float
        Length of the attack; time constants of the decay (infinite for sustained tones) and of the release.
    vibrato, vibrato_rate : float
        Depth in semitones, and rate in Hz.
    noise : float
        Amplitude of breath or bow noise, relative to the tone.
    """

    slope: float
    even: float = 1.0
    stiffness: float = 0.0
    attack: float = 0.005
    decay: float = math.inf
    release: float = 0.06
    vibrato: float = 0.0
    vibrato_rate: float = 5.5
    noise: float = 0.0


FAMILIES: tuple[Timbre, ...] = (
    Timbre(1.5, stiffness=4e-4, decay=1.2, release=0.12),  # piano
    Timbre(2.2, even=0.3, stiffness=2e-2, attack=0.002, decay=0.5, release=0.3),  # chromatic percussion
    Timbre(0.9, even=1.2, attack=0.02, release=0.05),  # organ
    Timbre(1.2, stiffness=1e-4, attack=0.003, decay=0.6, release=0.08),  # guitar
    Timbre(1.7, stiffness=2e-4, attack=0.006, decay=0.8, release=0.06),  # bass
    Timbre(1.0, attack=0.08, release=0.1, vibrato=0.18, noise=0.02),  # strings
    Timbre(1.3, attack=0.14, release=0.25, vibrato=0.1, vibrato_rate=4.5, noise=0.03),  # ensemble
    Timbre(0.7, attack=0.04, release=0.06, vibrato=0.05),  # brass
    Timbre(0.9, even=0.25, attack=0.03, release=0.05, vibrato=0.08, noise=0.02),  # reed
    Timbre(2.4, even=0.6, attack=0.05, release=0.07, vibrato=0.2, vibrato_rate=5.0, noise=0.08),  # pipe
    Timbre(1.0, even=0.0, attack=0.005, release=0.03),  # synth lead
    Timbre(1.6, attack=0.3, release=0.5, vibrato=0.06, vibrato_rate=3.0),  # synth pad
    Timbre(1.2, stiffness=5e-3, attack=0.1, decay=1.5, release=0.4, vibrato=0.3, vibrato_rate=7.0),  # synth effects
    Timbre(0.8, even=0.7, stiffness=8e-4, attack=0.002, decay=0.35, release=0.05),  # ethnic
    Timbre(1.8, even=0.4, stiffness=5e-2, attack=0.001, decay=0.2, release=0.1),  # percussive
    Timbre(1.0, attack=0.05, decay=0.8, release=0.2, noise=0.2),  # sound effects
)
"""The timbre of every eight programs."""


def timbre_of(program: int) -> Timbre:
    """The timbre of a program, 0..127: its family's, varied by its number in the family."""
    family, offset = FAMILIES[program // 8], program % 8 / 7 - 0.5
    return replace(
        family,
        slope=family.slope * (1 - 0.4 * offset),
        even=family.even * (1 + 0.6 * offset),
        attack=family.attack * 2.0 ** (-2 * offset),
        decay=family.decay * 2.0**offset,
    )


def tone(program: int, pitch: int, samples: int, sample_rate: int) -> NDArray[np.float32]:
    """A tone without attack or release, float32 [samples]; the amplitudes of its partials sum to 1."""
    if program == DRUMS:
        return _drum(pitch, samples, sample_rate)
    timbre = timbre_of(program)
    base = 440.0 * 2.0 ** ((pitch - 69) / 12)
    k = np.arange(1, PARTIALS + 1)
    frequency = k * base * np.sqrt(1 + timbre.stiffness * k**2)
    k = k[(frequency < _NYQUIST_SHARE * sample_rate) | (k == 1)]
    frequency = frequency[: len(k)]
    amplitude = k**-timbre.slope * np.where(k % 2, 1.0, timbre.even)
    amplitude /= amplitude.sum()
    t = np.arange(samples) / sample_rate
    if timbre.vibrato:  # the frequency is multiplied by 1 + depth sin(2 pi rate t); cycles is the integral
        depth = 2.0 ** (timbre.vibrato / 12) - 1
        cycles = t + depth / (2 * math.pi * timbre.vibrato_rate) * (1 - np.cos(2 * math.pi * timbre.vibrato_rate * t))
    else:
        cycles = t
    phase = (np.multiply.outer(frequency, cycles) % 1.0).astype(np.float32)
    waves = np.sin(2 * math.pi * phase)
    if math.isfinite(timbre.decay):
        waves *= np.exp(-np.multiply.outer(np.sqrt(k) / timbre.decay, t)).astype(np.float32)
    sound = amplitude.astype(np.float32) @ waves
    if timbre.noise:
        sound += np.float32(timbre.noise) * np.random.default_rng(pitch).standard_normal(samples, np.float32)
    return sound


def _drum(pitch: int, samples: int, sample_rate: int) -> NDArray[np.float32]:
    """A drum, float32 [samples]: noise with a falling sine for kicks, snares and toms, bright noise for all others."""
    t = np.arange(samples) / sample_rate
    noise = np.random.default_rng(pitch).standard_normal(samples, np.float32)
    if pitch < 42 or pitch in (43, 45, 47, 48, 50):  # kicks, snares and toms
        base = 40.0 + 6 * max(pitch - 35, 0)
        body = np.sin(2 * math.pi * (base * t + base * 0.06 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.15)
        snare = 0.5 if pitch in (37, 38, 39, 40) else 0.08
        return (body + snare * noise * np.exp(-t / 0.09)).astype(np.float32)
    bright = np.diff(noise, prepend=np.float32(0))  # a high-pass filter
    return (0.5 * bright * np.exp(-t / (0.05 + 0.02 * (pitch % 12)))).astype(np.float32)


def synthesise(
    onset: NDArray[np.floating],
    end: NDArray[np.floating],
    pitch: NDArray[np.integer],
    velocity: NDArray[np.integer],
    program: NDArray[np.integer],
    seconds: float,
    sample_rate: int,
) -> NDArray[np.float32]:
    """Synthesise notes.

    Parameters
    ----------
    onset, end : float [N]
        Seconds.
    pitch, velocity : int [N]
        MIDI's, 0..127.
    program : int [N]
        0..127, or 128 for drums.
    seconds : float
        Length of the result; longer notes and releases are cut off.
    sample_rate : int
        Hz.

    Returns
    -------
    float32 [round(seconds * sample_rate)]
        One channel, not limited to -1..1.
    """
    length = round(seconds * sample_rate)
    out = np.zeros(length, np.float32)
    first = np.round(np.asarray(onset) * sample_rate).astype(np.int64)
    held = np.maximum(np.round((np.asarray(end) - onset) * sample_rate).astype(np.int64), 1)
    gain = ((np.asarray(velocity) / 127.0) ** 1.5).astype(np.float32)
    key = np.asarray(program, np.int64) << 8 | np.asarray(pitch)
    order = np.lexsort((first, key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    for notes in np.split(order, starts[1:]) if len(order) else ():
        kind = int(program[notes[0]])
        timbre = Timbre(1.0, attack=0.001, release=0.3) if kind == DRUMS else timbre_of(kind)
        tail = round(_RELEASES * timbre.release * sample_rate)
        fall = np.exp(-np.arange(tail) / (timbre.release * sample_rate)).astype(np.float32)
        rise = np.linspace(0, 1, max(round(timbre.attack * sample_rate), 2), dtype=np.float32)
        longest = int(np.minimum(held[notes] + tail, length - first[notes]).max())
        if longest <= 0:
            continue
        sound = tone(kind, int(pitch[notes[0]]), longest, sample_rate)
        for note in notes.tolist():
            start, duration = int(first[note]), int(held[note])
            size = min(duration + tail, length - start)
            if size <= 0:
                continue
            wave = sound[:size] * gain[note]
            wave[: len(rise)] *= rise[:size]
            wave[duration:] *= fall[: max(size - duration, 0)]
            out[start : start + size] += wave
    return out
