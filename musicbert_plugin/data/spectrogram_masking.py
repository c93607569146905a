"""Masking of spectrograms: which cells of a window a model must restore, and what it sees in their place.

A spectrogram is T frames of F features (channels).  A *cell* is one channel of one frame.  Cells are masked in three
ways, alone or together.  Every masked cell is a target, even where the model sees something other than zero.

* **Frames** (contiguous frame masking; Wu et al. 2020, "MusiCoder", arXiv 2008.00781): spans of whole frames, with
  lengths from a :class:`SpanDistribution`, until a share of the window's frames (0.15) is covered.  The budget counts
  distinct frames: spans never overlap, lie a frame apart where there is room, and the last one is cut to what is left
  (or left out if less than the shortest span is left).  Every arrangement of the spans is equally likely.  Each span is
  set to zero (70 %), replaced with another stretch of the same window (20 %), or kept (10 %), independently.  Because
  the last span is cut, spans are shorter than their distribution: for ``geometric``, p 0.1, 2 to 43 (mean 10.49),
  windows of 200, 512 and 1,292 frames have spans of about 8.5, 9.6 and 10.1 frames on average.
* **Channels** (contiguous channel masking): one block of neighbouring channels is zero in all frames.  Its width is
  drawn first, uniform on 0 .. share * H, and then its start, uniform on what fits.  H is the number of channels between
  ``first_channel`` and ``last_channel``.
* **Patches**: squares of c x c cells anywhere, until a share of the cells (0.15) is covered, each set to zero, replaced
  with the same channels at another time, or kept.

Zero is the mean of the training data: values are standardised before they are set to zero (see ``models.musicoder``).

=============  ==========================================================  ====================================
preset         frames                                                      also
=============  ==========================================================  ====================================
``frames``     in every window; geometric, p 0.1, 2 to 43 frames           nothing
``mixed``      in 80 % of the windows; geometric, p 0.1, 2 to 43 frames    channels in 40 % of these (half of all
                                                                           channels at most); patches of 8 x 8
                                                                           in the other 20 % of the windows
``musicoder``  in every window; geometric, p 0.2, 2 to 7 frames            channels in every window
``m3bert``     in every window; geometric, p 0.2, 2 to 7 frames, 80/10/10  channels in every window (of a 324-vector
                                                                           mel and chroma-CQT alone: 52 on)
=============  ==========================================================  ====================================

The presets of the two originals keep their distributions and shares, but not the defects of their programs: the budget
counts distinct frames of every span, widths are drawn before starts, each span is corrupted on its own, a replacement
is one contiguous stretch, and nothing is masked on padding, because a window is masked before it is padded.

Random numbers come from the given generator alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import OptionError

FRAMES, CHANNELS, PATCHES = 1, 2, 4
"""Bits of a target mask: the ways in which a cell is masked."""

ZERO, OTHER, KEEP = 0, 1, 2
SPAN_DISTRIBUTIONS = ("geometric", "clamped", "uniform", "fixed")
_BLIND_ROUNDS = 30  # in which patches are drawn anywhere; a share of one half needs fewer
PRESETS = ("mixed", "frames", "musicoder", "m3bert")


@dataclass(frozen=True)
class SpanDistribution:
    """Lengths of masked spans, in frames, between ``shortest`` and ``longest``.

    Parameters
    ----------
    kind : {"geometric", "clamped", "uniform", "fixed"}
        ``geometric``: P(l) proportional to p (1 - p)^(l - 1) on the range, that is, truncated (as in MusiCoder's
        paper).  ``clamped``: drawn from 1 on and moved to the ends of the range (as in the published programs).
        ``uniform``: each length equally likely.  ``fixed``: always ``longest``.
    p : float, 0 < p <= 1
    shortest, longest : int, 1 <= shortest <= longest

    Raises
    ------
    OptionError
        For values outside these ranges.
    """

    kind: str = "geometric"
    p: float = 0.1
    shortest: int = 2
    longest: int = 43

    def __post_init__(self) -> None:
        if self.kind not in SPAN_DISTRIBUTIONS:
            raise OptionError(
                f"kind is {self.kind}, but a span distribution is one of {', '.join(SPAN_DISTRIBUTIONS)}."
            )
        if not 0.0 < self.p <= 1.0:
            raise OptionError(f"p of the span distribution is {self.p}, but it lies above 0 and is at most 1.")
        if not 1 <= self.shortest <= self.longest:
            raise OptionError(
                f"shortest span {self.shortest} and longest span {self.longest}: 1 <= shortest <= longest is needed."
            )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The lengths that occur."""
        return np.arange(self.longest if self.kind == "fixed" else self.shortest, self.longest + 1)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probability of each of :attr:`lengths`."""
        lengths = self.lengths
        if self.kind in ("uniform", "fixed"):
            weights = np.ones(len(lengths))
        else:
            weights = self.p * (1.0 - self.p) ** (lengths - 1.0)
            if self.kind == "clamped":
                weights[0] = 1.0 - (1.0 - self.p) ** float(lengths[0])  # P(l <= shortest)
                if len(lengths) > 1:
                    weights[-1] = (1.0 - self.p) ** (lengths[-1] - 1.0)  # P(l >= longest)
        return weights / weights.sum()

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw ``count`` lengths, independently."""
        return rng.choice(self.lengths, size=count, p=self.probabilities)


@dataclass(frozen=True)
class Corruption:
    """What the model sees in a masked span or patch: shares of zeros, of another part of the window, of itself.

    Raises
    ------
    OptionError
        If a share is negative or the three are not 1 together.
    """

    zero: float = 0.7
    other: float = 0.2
    keep: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.zero, self.other, self.keep)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise OptionError(
                f"corruption is {self.zero:g},{self.other:g},{self.keep:g} (zero, other, keep), but three shares that "
                "are not negative and add up to 1 are needed."
            )

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """ZERO, OTHER or KEEP for each of ``count`` spans or patches."""
        return rng.choice(3, size=count, p=(self.zero, self.other, self.keep))


class MaskedWindow(NamedTuple):
    """A masked window of T frames and F channels."""

    source: NDArray
    """[T, F], the type of the window: what the model sees, but for the zeros."""
    input_mask: NDArray[np.bool_]
    """[T, F]: cells that the model sees as zero once values are standardised."""
    target_mask: NDArray[np.uint8]
    """[T, F]: 0 where nothing is to be restored, else the bits FRAMES, CHANNELS and PATCHES."""


def place_spans(frames: int, lengths: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Starts, ascending, of spans of these lengths in this order: no overlap, every arrangement equally likely.

    A visible frame stays between two spans if the window has room for it.
    """
    count = len(lengths)
    free = frames - int(lengths.sum())
    apart = 1 if free >= count - 1 else 0
    free -= apart * (count - 1)
    # Which of free + count slots hold a span: the classic bijection between arrangements and subsets.
    slots = np.sort(rng.choice(free + count, size=count, replace=False))
    before = np.concatenate([[0], np.cumsum(lengths[:-1] + apart)]) if count else np.zeros(0, np.int64)
    return slots - np.arange(count) + before


@dataclass(frozen=True)
class SpectrogramMasking:
    """How windows are masked; ``preset`` makes the ones that have names.

    Parameters
    ----------
    frames, channels, patches : float in [0, 1]
        Share of the windows in which each is used.  A window with patches has neither frames nor channels masked.
    frame_share, patch_share : float in [0, 1]
        Share of the frames, and of the cells, that spans and patches cover.
    spans : SpanDistribution
    corruption : Corruption
        Of spans and patches; channels are always zero.
    channel_share : float in [0, 1]
        Widest block, as a share of the channels that may be masked.
    first_channel, last_channel : int
        Channels ``first_channel <= c < last_channel`` may be masked in blocks (``last_channel`` 0: up to the last).
    patch_size : int
        Side of a patch, in frames and in channels.

    Raises
    ------
    OptionError
        For values outside these ranges.
    """

    frames: float = 1.0
    channels: float = 0.4
    patches: float = 0.2
    frame_share: float = 0.15
    spans: SpanDistribution = field(default_factory=SpanDistribution)
    corruption: Corruption = field(default_factory=Corruption)
    channel_share: float = 0.5
    first_channel: int = 0
    last_channel: int = 0
    patch_share: float = 0.15
    patch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("frames", "channels", "patches", "frame_share", "channel_share", "patch_share"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise OptionError(f"{name} is {value}, but it lies between 0 and 1.")
        if self.patch_size < 1:
            raise OptionError(f"patch_size is {self.patch_size}, but a patch has at least one cell.")
        if self.first_channel < 0 or (self.last_channel and self.last_channel <= self.first_channel):
            raise OptionError(
                f"first_channel {self.first_channel} and last_channel {self.last_channel}: "
                "0 <= first < last is needed (last 0: up to the last channel)."
            )

    @classmethod
    def preset(cls, name: str, feature_count: int = 96) -> SpectrogramMasking:
        """One of :data:`PRESETS` for windows of ``feature_count`` channels."""
        short = SpanDistribution("geometric", 0.2, 2, 7)
        # In the originals' 324-vector, chroma, MFCC and delta come first; a block of channels is of mel and CQT.
        first = 52 if feature_count == 324 else 0
        presets = {
            "mixed": cls(first_channel=first),
            "frames": cls(frames=1.0, channels=0.0, patches=0.0),
            "musicoder": cls(1.0, 1.0, 0.0, spans=short, channel_share=1.0, first_channel=first),
            "m3bert": cls(
                1.0, 1.0, 0.0, spans=short, corruption=Corruption(0.8, 0.1, 0.1), channel_share=1.0, first_channel=first
            ),
        }
        if name not in presets:
            raise OptionError(f"the preset is {name}, but it is one of {', '.join(PRESETS)}.")
        return presets[name]

    @property
    def hidden(self) -> SpectrogramMasking:
        """The same masks with zeros everywhere, for measurements in which no target is visible."""
        return replace(self, corruption=Corruption(1.0, 0.0, 0.0))

    def __call__(self, window: NDArray, rng: np.random.Generator) -> MaskedWindow:
        """Mask a window of real frames, [T, F]; the window itself is not changed.

        At least one frame is chosen where frames are masked and the window has two frames or more: no window is too
        short.
        """
        frames, channels = window.shape
        masked = MaskedWindow(window.copy(), np.zeros(window.shape, bool), np.zeros(window.shape, np.uint8))
        # Always three draws, so that changing one share does not change the masks of the others.
        with_frames, with_channels, with_patches = rng.random(3) < (self.frames, self.channels, self.patches)
        if with_patches:
            self._mask_patches(window, masked, rng)
        elif frames > 1:
            if with_frames:
                self._mask_frames(window, masked, rng)
            if with_channels:
                last = min(self.last_channel or channels, channels)
                high = last - self.first_channel
                width = int(rng.integers(int(self.channel_share * high) + 1)) if high > 0 else 0
                start = self.first_channel + (int(rng.integers(high - width + 1)) if high > 0 else 0)
                masked.input_mask[:, start : start + width] = True
                masked.target_mask[:, start : start + width] |= CHANNELS
        return masked

    def span_lengths(self, frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Lengths of the spans in a window: ``frame_share`` of its frames, less a rest that is shorter than a span."""
        shortest = int(self.spans.lengths[0])
        budget = min(max(int(self.frame_share * frames), min(shortest, frames - 1)), frames)
        if self.frame_share == 0:
            budget = 0
        lengths = self.spans.draw(budget // shortest + 1, rng)
        ends = np.cumsum(lengths)
        whole = int(np.searchsorted(ends, budget, side="right"))
        rest = budget - (int(ends[whole - 1]) if whole else 0)
        lengths = lengths[:whole]
        if rest >= min(shortest, budget) and rest > 0:
            # The cut span goes anywhere among the others, not always to the end.
            lengths = np.insert(lengths, int(rng.integers(whole + 1)), rest)
        return lengths

    def _mask_frames(self, window: NDArray, masked: MaskedWindow, rng: np.random.Generator) -> None:
        source, input_mask, target_mask = masked
        frames = len(window)
        lengths = self.span_lengths(frames, rng)
        starts = place_spans(frames, lengths, rng)
        corruptions = self.corruption.draw(len(lengths), rng)
        elsewhere = rng.random(len(lengths))
        for start, length, corruption, share in zip(
            starts.tolist(), lengths.tolist(), corruptions.tolist(), elsewhere.tolist(), strict=True
        ):
            span = slice(start, start + length)
            target_mask[span] |= FRAMES
            starts_elsewhere = frames - length  # all starts but the span's own
            if corruption == OTHER and starts_elsewhere > 0:
                other = int(share * starts_elsewhere)
                other += other >= start
                source[span] = window[other : other + length]
            elif corruption != KEEP:
                input_mask[span] = True

    def _mask_patches(self, window: NDArray, masked: MaskedWindow, rng: np.random.Generator) -> None:
        source, input_mask, target_mask = masked
        frames, channels = window.shape
        high, wide = min(self.patch_size, max(frames // 2, 1)), min(self.patch_size, channels)
        budget = int(self.patch_share * window.size)
        rows, columns = np.arange(high)[:, None], np.arange(wide)
        covered = rounds = 0
        while covered < budget:
            # Patches overlap a little, so what they leave uncovered is drawn again: the budget is of distinct cells.
            count = -(-(budget - covered) // (high * wide))
            top = rng.integers(frames - high + 1, size=count)
            left = rng.integers(channels - wide + 1, size=count)
            rounds += 1
            if rounds > _BLIND_ROUNDS:  # nearly all is covered: aim at what is not, or it is never found
                free = rng.choice(np.flatnonzero(target_mask == 0), size=count)
                top = np.clip(free // channels - top % high, 0, frames - high)
                left = np.clip(free % channels - left % wide, 0, channels - wide)
            corruptions = self.corruption.draw(count, rng)
            other = rng.integers(max(frames - high, 1), size=count)
            other += (other >= top) & (frames > high)
            t, c = top[:, None, None] + rows, left[:, None, None] + columns
            new = target_mask[t, c] == 0  # an earlier patch keeps its cells
            target_mask[t, c] |= PATCHES
            input_mask[t, c] = np.where(new, (corruptions == ZERO)[:, None, None], input_mask[t, c])
            seen = np.where(
                (new & (corruptions == OTHER)[:, None, None]), window[other[:, None, None] + rows, c], source[t, c]
            )
            source[t, c] = seen
            covered = int(np.count_nonzero(target_mask))


def parse_corruption(text: str) -> Corruption:
    """The option's value, such as ``"0.7,0.2,0.1"``.

    Raises
    ------
    OptionError
        If it is not three numbers that make a :class:`Corruption`.
    """
    try:
        zero, other, keep = (float(share) for share in text.split(","))
    except ValueError:
        raise OptionError(
            f"corruption is {text!r}, but three shares are needed: 0.7,0.2,0.1 for zero,other,keep."
        ) from None
    return Corruption(zero, other, keep)
