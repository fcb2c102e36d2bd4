"""The geometry of plots: one scale for all rows, and where each interval lies on it in percent.

Percentages, because SVG accepts them as coordinates: the plot then takes any width without distorting its
markers, on a phone as on paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Share of the width left free on either side of the outermost interval, for markers and arrows.
_MARGIN = 0.04
# An interval is steady up to so many times the width of a narrow one, and a plot is at most so many times as
# wide as most of the steady intervals are together.
_STEADY, _WIDEST = 3.0, 3.0


@dataclass(frozen=True)
class Scale:
    """A linear scale."""

    low: float  # value at 0 %
    high: float  # value at 100 %
    ticks: tuple[float, ...]  # round values between the two, ascending
    origin: float = 0.0  # the value that means nothing was found, between the two; a tick if it is 0

    def percent(self, value: float) -> float:
        """Return where a value lies, in percent of the width, cut off at 0 and 100."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)


@dataclass(frozen=True)
class Interval:
    """One effect on the scale: places in percent, and whether an end, or itself, lies beyond the edge."""

    low: float
    at: float
    high: float
    cut_low: bool
    cut_high: bool
    cut_at: bool = False


@dataclass(frozen=True)
class Lane:
    """One of several effects that a row of a plot shows one above the other."""

    name: str
    y: float  # its middle, in percent of the height
    interval: Interval | None  # None: no estimate


def scale(
    effect: np.ndarray, low: np.ndarray, high: np.ndarray, origin: float = 0.0, *, cut: bool = True
) -> Scale:
    """Choose a scale that holds the origin, each effect (H,) and its interval, NaN where there is none.

    Most of the steady intervals take a third of the width or more: what lies further out is cut off, so that
    one shaky estimate does not flatten all others. With `cut` false, that is ends of intervals only.
    """
    finite = np.isfinite(effect) & np.isfinite(low) & np.isfinite(high)
    at, below, above = (values[finite] - origin for values in (effect, low, high))
    if not finite.any():
        return _between(-1.0, 1.0, origin)
    left, right = _fitted(
        max(0.0, -float(below.min())), max(0.0, float(above.max())), _most(at, below, above)
    )
    if not cut:
        left, right = max(left, -float(at.min())), max(right, float(at.max()))
    room = _MARGIN * (left + right or 1.0)
    return _between(-left - room, right + room, origin)


def _most(at: np.ndarray, below: np.ndarray, above: np.ndarray) -> float:
    """Return how much the scale may span, without its margins, for intervals around effects (H,).

    Steady are the intervals that are not much wider than a narrow one, so that wide ones do not decide even
    where they are many; of these, a tenth may lie further out on either side.
    """
    width = np.maximum(at - below, above - at)
    narrow = np.quantile(width[width > 0], 0.25) if (width > 0).any() else 0.0
    steady = width <= _STEADY * narrow
    start, end = np.quantile(below[steady], 0.1), np.quantile(above[steady], 0.9)
    span = max(0.0, float(end)) - min(0.0, float(start))
    return span * _WIDEST / (1 + 2 * _MARGIN) if span else np.inf


def _fitted(left: float, right: float, most: float) -> tuple[float, float]:
    """Return how far a scale reaches on either side, together no more than `most`: the longer gives way.

    >>> _fitted(1, 2, 4), _fitted(1, 9, 4), _fitted(8, 9, 4)
    ((1, 2), (1, 3), (2.0, 2.0))
    """
    shorter = min(left, right, most / 2)
    return min(left, most - shorter), min(right, most - shorter)


def _between(left: float, right: float, origin: float) -> Scale:
    low, high = origin + left, origin + right
    return Scale(low, high, _ticks(low, high), origin)


def interval(scale: Scale, effect: float, low: float, high: float) -> Interval | None:
    """Place one effect on the scale; None unless all three numbers are finite."""
    if not np.isfinite([effect, low, high]).all():
        return None
    return Interval(
        low=scale.percent(low),
        at=scale.percent(effect),
        high=scale.percent(high),
        cut_low=low < scale.low,
        cut_high=high > scale.high,
        cut_at=not scale.low <= effect <= scale.high,
    )


def lanes(scale: Scale, effects: Mapping[str, tuple[float, float, float]]) -> list[Lane]:
    """Place effects, each with the ends of its interval, in lanes of one height, the first on top.

    >>> [(lane.name, lane.y) for lane in lanes(_between(-1, 1, 0), {"a": (0, 0, 0), "b": (0, 0, 0)})]
    [('a', 25.0), ('b', 75.0)]
    """
    height = 100 / max(len(effects), 1)
    return [
        Lane(name, round(height * (i + 0.5), 2), interval(scale, *ends))
        for i, (name, ends) in enumerate(effects.items())
    ]


def _ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten within the bounds, at most `most` of them."""
    power = 10 ** np.floor(np.log10((high - low) / most))
    steps: Sequence[float] = [float(power * factor) for factor in (1, 2, 5, 10, 20)]
    for step in steps:
        first, last = int(np.ceil(low / step)), int(np.floor(high / step))
        if last - first < most:
            return tuple(round(i * step, 12) for i in range(first, last + 1))
    raise AssertionError("a step of twice the range over `most` always fits")
