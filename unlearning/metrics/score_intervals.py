"""Confidence intervals of rates, of their change and of their ratio, and the exact McNemar test.

The percentile bootstrap has no width where no prompt, or every prompt, has a property. These have:
they are closed forms of the counts.

The interval of one rate is Wilson's score interval with continuity correction (Newcombe 1998,
Stat. Med. 17:857, method 4). Without the correction its coverage falls to .84 near 0 and 1; with
it, it is at least .949 at any rate and number of prompts that was tried. The others are made of
its limits.

Counts need not be whole: answers to prompts that repeat are scaled to an effective number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

Bounds = tuple[float, float]
NONE: Bounds = (math.nan, math.nan)


@dataclass(frozen=True)
class PairedCounts:
    """Prompts by what two models' answers to them have: the property in both, in the first only,
    in the second only, in neither."""

    both: float
    first: float
    second: float
    neither: float

    @property
    def n(self) -> float:
        return self.both + self.first + self.second + self.neither

    @property
    def of_first(self) -> float:
        return self.both + self.first

    @property
    def of_second(self) -> float:
        return self.both + self.second


def wilson(successes: float, n: float, confidence: float = 0.95) -> Bounds:
    """Computes Wilson's score interval of a rate, with continuity correction; NaN without prompts.

    The bounds are the rates p at which |successes / n - p| - 1 / (2 n) = z sqrt(p (1 - p) / n).

    Examples:
        >>> low, high = wilson(0, 84)  # none of 84
        >>> f"{low:.3f} to {high:.3f}"
        '0.000 to 0.054'
    """
    if n <= 0:
        return NONE
    return _lower(successes, n, confidence), 1 - _lower(n - successes, n, confidence)


def newcombe_paired(counts: PairedCounts, confidence: float = 0.95) -> Bounds:
    """Computes Newcombe's interval of the second rate minus the first, on the same prompts.

    Newcombe 1998, Stat. Med. 17:2635, method 10: square and add the two rates' distances to their
    limits, less twice their product times `phi`; on the limits of `wilson`.
    """
    return _square_and_add(counts.of_first, counts.n, counts.of_second, counts.n, phi(counts),
                           confidence)  # fmt: skip


def newcombe(first: float, n_first: float, second: float, n_second: float,
             confidence: float = 0.95) -> Bounds:  # fmt: skip
    """Computes Newcombe's interval of the second rate minus the first, on different prompts
    (Newcombe 1998, Stat. Med. 17:873, method 11)."""
    return _square_and_add(first, n_first, second, n_second, 0.0, confidence)


def mover_r(counts: PairedCounts, confidence: float = 0.95) -> Bounds:
    """Computes the interval of the second rate divided by the first, on the same prompts.

    MOVER-R of Donner and Zou 2012 (Stat. Methods Med. Res. 21:347) on the limits of `wilson`, with
    `phi` as the correlation. With a and b the relative distances of numerator and denominator to
    their limits on the sides that make the ratio small (large), the bounds are the ratio times
    (1 - a^2) / (w + s) and (w + s) / (1 - b^2); w = 1 - phi a b, s^2 = w^2 - (1 - a^2)(1 - b^2).

    Returns:
        The bounds; NaN where the first rate is 0.
    """
    n = counts.n
    if counts.of_first <= 0:
        return NONE
    below, above = counts.of_first / n, counts.of_second / n  # denominator, numerator
    low_below, high_below = wilson(counts.of_first, n, confidence)
    low_above, high_above = wilson(counts.of_second, n, confidence)
    correlation = phi(counts)

    def root(up: float, down: float) -> float:
        """The larger root's numerator, w + s, times both rates; `up`, `down`: their limits."""
        middle = above * below - correlation * (above - up) * (down - below)
        product = up * (2 * above - up) * down * (2 * below - down)
        return middle + math.sqrt(max(0.0, middle**2 - product))

    low = low_above * (2 * above - low_above) / root(low_above, high_below) if above else 0.0
    square = low_below * (2 * below - low_below)
    high = root(high_above, low_below) / square if square > 0 else math.inf  # it underflowed
    return low, high


def phi(counts: PairedCounts) -> float:
    """Computes the correlation of both models' properties, with Newcombe's correction: where it is
    positive, n / 2 comes off its numerator, and it is 0 where less was there. 0 where a model has
    the property in all prompts or in none."""
    n, a, b, c, d = counts.n, counts.both, counts.first, counts.second, counts.neither
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins <= 0:
        return 0.0
    numerator = a * d - b * c
    if numerator > 0:
        numerator = max(0.0, numerator - n / 2)
    return max(-1.0, min(1.0, numerator / math.sqrt(margins)))


def exact_mcnemar(first: int, second: int) -> float:
    """Computes the two-sided p-value of the exact McNemar test.

    Args:
        first: prompts whose answer has the property of the first model only.
        second: of the second model only. By chance each is as likely as the other.

    Examples:
        >>> exact_mcnemar(6, 0)  # 2 / 2^6: with fewer than six prompts, never below .05
        0.03125
    """
    n, fewer = first + second, min(first, second)
    ways = tail = 1  # to choose k of n, in whole numbers
    for k in range(fewer):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**n)


def _lower(successes: float, n: float, confidence: float) -> float:
    if successes <= 0:
        return 0.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    inside = z**2 - 2 - 1 / n + 4 * p * (n * (1 - p) + 1)
    low = (2 * n * p + z**2 - 1 - z * math.sqrt(max(0.0, inside))) / (2 * (n + z**2))
    return min(max(0.0, low), p)


def _square_and_add(
    first: float, n_first: float, second: float, n_second: float, correlation: float,
    confidence: float,
) -> Bounds:  # fmt: skip
    if min(n_first, n_second) <= 0:
        return NONE
    old, new = first / n_first, second / n_second
    old_low, old_high = wilson(first, n_first, confidence)
    new_low, new_high = wilson(second, n_second, confidence)

    def distance(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x**2 - 2 * correlation * x * y + y**2))

    change = new - old
    return (
        change - distance(new - new_low, old_high - old),
        change + distance(new_high - new, old - old_low),
    )
