"""Axes of a plot: map values to positions, linearly or folded, with ticks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from unlearning.report.figures import MINUS, NBSP, Unit


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Returns about so many round numbers (1, 2 or 5 times a power of ten) inside low..high."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


@dataclass(frozen=True)
class Axis:
    """Maps low..high to start..end.

    Args:
        fold: where linear turns into logarithmic (asinh); 0 for a linear axis.
    """

    low: float
    high: float
    start: float
    end: float
    fold: float = 0.0

    def __call__(self, value: float) -> float:
        return round(self.start + self.share(value) * (self.end - self.start), 1)

    def share(self, value: float) -> float:
        """Returns 0 at the low end and 1 at the high one; values beyond are clipped."""
        value = min(max(value, self.low), self.high)
        low, high = self._bent(self.low), self._bent(self.high)
        return (self._bent(value) - low) / (high - low)

    def _bent(self, value: float) -> float:
        return math.asinh(value / self.fold) if self.fold else value

    def ticks(self, about: int = 5) -> list[float]:
        """Returns round numbers along the axis, as far apart as their labels need."""
        if not self.fold:
            return nice_ticks(self.low, self.high, about)
        tens = [self.fold * 10.0**power for power in range(16)]
        between = [factor * ten for factor in (0.5, 3.0) for ten in tens[:2]]
        kept: list[float] = []
        for tick in (0.0, *tens, *(-ten for ten in tens), *between):  # what matters most first
            near = (abs(self.share(tick) - self.share(other)) < 0.11 for other in kept)
            if self.low <= tick <= self.high and not any(near):
                kept.append(tick)
        return sorted(kept)


def fit(
    values: Sequence[float],
    start: float,
    end: float,
    pad: float = 0.05,
    fold: float = 0.0,
    within: tuple[float, float] = (-math.inf, math.inf),
    wished: Sequence[float] = (),
) -> Axis:
    """Fits an axis to finite values.

    Args:
        pad: room on both sides, as a share of their range.
        fold: of the axis, if a few values would push the others together.
        within: what it need not reach beyond, however much room there should be.
        wished: what is shown, too, as far as that adds at most a third on each side: over two
            seeds an interval can be a hundred times as wide as everything else.
    """
    bend = fold if fold and is_skewed(values) else 0.0
    there = (lambda v: math.asinh(v / bend)) if bend else float
    back = (lambda v: bend * math.sinh(v)) if bend else float
    low, high = min(map(there, values)), max(map(there, values))
    third = (high - low) / 3
    more = [min(max(there(v), low - third), high + third) for v in wished]
    low, high = min([low, *more]), max([high, *more])
    room = pad * (high - low) if high > low else abs(low) * 0.1 or 1.0
    low, high = max(back(low - room), within[0]), min(back(high + room), within[1])
    return Axis(low, high if high > low else low + 1.0, start, end, bend)


def is_skewed(values: Sequence[float]) -> bool:
    """Whether a quarter of the values would be within a twentieth of the axis."""
    sizes = sorted(abs(value) for value in values)
    quarter = statistics.quantiles(sizes, n=4)[0] if len(sizes) > 1 else sizes[0]
    return sizes[-1] > 20 * max(quarter, 1.0)


def write_tick(value: float, unit: Unit = "plain") -> str:
    """Formats a tick's label; rates are percentages."""
    shown = 100 * value if unit == "rate" else value
    text = f"{shown:,.0f}" if abs(shown) >= 1000 else f"{shown:.4g}"
    return text.replace("-", MINUS) + (f"{NBSP}%" if unit in ("rate", "percent") else "")
