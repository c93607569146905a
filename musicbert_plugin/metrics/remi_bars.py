"""Similarity of a generated bar to the true one: instruments, pitches, rhythm, melody, bass and drums.

Aim
---
A model that rearranges or continues music generates bars; each metric compares a generated bar, ``output``, with the
true one, ``target``, in one respect.  Metrics are averaged over bars.

Conventions
-----------
A bar is an integer array [N, 4]: position, instrument (0..128, 128 for drums), pitch (0..127; drums 128 + key) and
duration, in the order of its words (positions ascending, instruments ascending, pitches descending).  N may be 0.
Pitch sequences hold, for each position, the distinct pitches from high to low.  Melodic means not drums; melody is the
highest melodic pitch of each position; bass is instruments 32, 33, 43 and 70.  Metrics of shared instruments are means
over the instruments of both bars and NaN if there are none, and so are those of bass and drums if neither bar has any:
leave NaN out of averages.

Metrics
-------
With W(a, b) the word error rate of a against b, and S(a, b) the sequence overlap rate:

=======================  ===========================================================================================
bar_inst_iou             instruments in common / instruments of either
bar_pitch_wer, _sor      W, S of pitch sequences
bar_voice_wer            W of the instruments, melodic ones from the highest mean pitch down, then drums
bar_groove_wer, _sor     W, S of positions
bar_melody_wer, _sor     W, S of melodies
bass_wer, drum_wer       W of the pitch sequences of bass and drums; NaN if neither bar has any
track_sor                S of the pitch sequences of each shared instrument
track_groove_wer         W of the positions of each shared instrument
track_texture_acc        share of shared instruments with as many notes per position (mean, rounded half to even)
track_range_diff         mean of abs(difference of lowest pitch), abs(difference of highest), / 100, per instrument
note_duration_diff       abs(difference of mean duration), in hundreds of quarter notes (duration / 12 / 100)
=======================  ===========================================================================================

The original scores texture on its last shared instrument only; here all count.

* :func:`word_error_rate`: edit distance over the target's length [1]_.
* :func:`sequence_overlap_rate`: (length of output - D) / the shorter length, where D is the edit distance with free
  deletions in the target.  Then D is the output's length less the longest common subsequence.
* :func:`compare`: all of the table.

References
----------
.. [1] V. I. Levenshtein. "Binary codes capable of correcting deletions, insertions and reversals." Soviet Physics
   Doklady 10, 1966.
.. [2] L. Ou, J. Zhao, Z. Wang, G. Xia, Y. Wang. "Unifying symbolic music arrangement: track-aware reconstruction and
   structured tokenization" (the descendants of MuseCoco that these measures come from), 2024.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicbert_plugin.metrics.means import mean_of_defined

POSITION, INSTRUMENT, PITCH, DURATION = range(4)
DRUMS = 128
BASS = (32, 33, 43, 70)
POSITIONS_PER_QUARTER = 12

Bar = NDArray[np.int64]


def validate(output: ArrayLike, target: ArrayLike) -> None:
    """Check two bars.

    Raises
    ------
    ValueError
        Not [N, 4], or an instrument outside 0..128.
    """
    for name, bar in (("output", np.asarray(output)), ("target", np.asarray(target))):
        if bar.ndim != 2 or bar.shape[1] != 4:
            raise ValueError(f"{name} has shape {bar.shape}; [N, 4] is expected.")
        if len(bar) and not (0 <= bar[:, INSTRUMENT].min() and bar[:, INSTRUMENT].max() <= DRUMS):
            raise ValueError(f"{name} has an instrument outside 0 to {DRUMS}.")


def edit_distance(first: ArrayLike, second: ArrayLike) -> int:
    """Fewest insertions, deletions and substitutions that turn one sequence [N] into another [M].

    Examples
    --------
    >>> edit_distance([1, 2, 3], [1, 3, 3, 4])
    2
    """
    a, b = np.asarray(first), np.asarray(second)
    column = np.arange(len(b) + 1)
    row = column.copy()
    for element in a:
        new = np.concatenate(([row[0] + 1], np.minimum(row[1:] + 1, row[:-1] + (b != element))))
        row = np.minimum.accumulate(new - column) + column  # insertions, one after the other
    return int(row[-1])


def common_subsequence(first: ArrayLike, second: ArrayLike) -> int:
    """Length of the longest common subsequence of two sequences [N], [M].

    Examples
    --------
    >>> common_subsequence([1, 2, 3], [3, 1, 3])
    2
    """
    a, b = np.asarray(first), np.asarray(second)
    row = np.zeros(len(b) + 1, np.int64)
    for element in a:
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], row[:-1] + (b == element)))
    return int(row[-1])


def word_error_rate(output: ArrayLike, target: ArrayLike) -> float:
    """Edit distance over the target's length; 0 or 1 against an empty target.

    Examples
    --------
    >>> word_error_rate([1, 2], [1, 2, 3, 4])
    0.5
    """
    true = np.asarray(target)
    if len(true) == 0:
        return float(len(np.asarray(output)) > 0)
    return edit_distance(output, true) / len(true)


def sequence_overlap_rate(output: ArrayLike, target: ArrayLike) -> float:
    """Longest common subsequence over the shorter length; 1 for an empty output, 0 for one against an empty target.

    Examples
    --------
    >>> sequence_overlap_rate([1, 9, 3], [1, 2, 3, 4])
    0.6666666666666666
    """
    generated, true = np.asarray(output), np.asarray(target)
    if len(generated) == 0:
        return 1.0
    if len(true) == 0:
        return 0.0
    return common_subsequence(generated, true) / min(len(generated), len(true))


def pitch_sequence(bar: Bar) -> NDArray[np.int64]:
    """For each position of a bar [N, 4] its distinct pitches from high to low, one after the other."""
    pairs = np.unique(np.stack([bar[:, POSITION], -bar[:, PITCH]], axis=1), axis=0)
    return -pairs[:, 1]


def melody(bar: Bar) -> NDArray[np.int64]:
    """The highest melodic pitch of each position of a bar [N, 4] that has one."""
    notes = bar[bar[:, INSTRUMENT] != DRUMS]
    order = np.lexsort((-notes[:, PITCH], notes[:, POSITION]))
    first = np.unique(notes[order, POSITION], return_index=True)[1]
    return notes[order[first], PITCH]


def groove(bar: Bar) -> NDArray[np.int64]:
    """The positions of a bar [N, 4] that have an onset, ascending."""
    return np.unique(bar[:, POSITION])


def voices(bar: Bar) -> NDArray[np.int64]:
    """Instruments of a bar [N, 4]: melodic ones from the highest mean pitch down (equal ones by number), then drums."""
    instruments = np.unique(bar[:, INSTRUMENT])
    height = [
        -1.0 if instrument == DRUMS else bar[bar[:, INSTRUMENT] == instrument, PITCH].mean()
        for instrument in instruments
    ]
    return instruments[np.argsort(-np.array(height), kind="stable")] if len(instruments) else instruments


def instrument_overlap(output: Bar, target: Bar) -> float:
    """Instruments in common over instruments of either; 1 if neither has any."""
    first, second = set(output[:, INSTRUMENT].tolist()), set(target[:, INSTRUMENT].tolist())
    return len(first & second) / len(first | second) if first | second else 1.0


def _track(bar: Bar, instruments: tuple[int, ...]) -> Bar:
    return bar[np.isin(bar[:, INSTRUMENT], instruments)]


def _track_word_error_rate(output: Bar, target: Bar, instruments: tuple[int, ...]) -> float:
    """Word error rate of the pitch sequences of some instruments; NaN if neither bar has any of them."""
    generated, true = _track(output, instruments), _track(target, instruments)
    if len(generated) == len(true) == 0:
        return float("nan")
    return word_error_rate(pitch_sequence(generated), pitch_sequence(true))


def _of_shared_instruments(output: Bar, target: Bar) -> dict[str, float]:
    shared = np.intersect1d(output[:, INSTRUMENT], target[:, INSTRUMENT])
    rows = []
    for instrument in shared.tolist():
        a, b = _track(output, (instrument,)), _track(target, (instrument,))
        low = abs(int(a[:, PITCH].min()) - int(b[:, PITCH].min()))
        high = abs(int(a[:, PITCH].max()) - int(b[:, PITCH].max()))
        density = [np.rint(len(bar) / len(groove(bar))) for bar in (a, b)]
        rows.append(
            (
                sequence_overlap_rate(pitch_sequence(a), pitch_sequence(b)),
                word_error_rate(groove(a), groove(b)),
                float(density[0] == density[1]),
                (low + high) / 2 / 100,
                abs(float(a[:, DURATION].mean()) - float(b[:, DURATION].mean())) / POSITIONS_PER_QUARTER / 100,
            )
        )
    means = np.mean(rows, axis=0) if rows else np.full(5, np.nan)
    names = ("track_sor", "track_groove_wer", "track_texture_acc", "track_range_diff", "note_duration_diff")
    return dict(zip(names, means.tolist(), strict=True))


def compare(output: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """All metrics of one bar.

    Parameters
    ----------
    output, target : int [N, 4], int [M, 4]
        Generated and true bar.

    Returns
    -------
    dict
        From the names of the module's table to float; NaN where the bars share no instrument, or neither has the track.
    """
    validate(output, target)
    generated, true = np.asarray(output, np.int64), np.asarray(target, np.int64)
    return {
        "bar_inst_iou": instrument_overlap(generated, true),
        "bar_pitch_wer": word_error_rate(pitch_sequence(generated), pitch_sequence(true)),
        "bar_pitch_sor": sequence_overlap_rate(pitch_sequence(generated), pitch_sequence(true)),
        "bar_voice_wer": word_error_rate(voices(generated), voices(true)),
        "bar_groove_wer": word_error_rate(groove(generated), groove(true)),
        "bar_groove_sor": sequence_overlap_rate(groove(generated), groove(true)),
        "bar_melody_wer": word_error_rate(melody(generated), melody(true)),
        "bar_melody_sor": sequence_overlap_rate(melody(generated), melody(true)),
        "bass_wer": _track_word_error_rate(generated, true, BASS),
        "drum_wer": _track_word_error_rate(generated, true, (DRUMS,)),
        **_of_shared_instruments(generated, true),
    }


def average(bars: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over bars in which it is not NaN; NaN where there is none."""
    return {name: mean_of_defined([bar[name] for bar in bars]) for name in (bars[0] if bars else ())}
