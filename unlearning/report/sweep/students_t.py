"""Quantiles of Student's t distribution, for means over a handful of seeds."""

from __future__ import annotations

import math
from functools import lru_cache


@lru_cache
def two_sided(freedom: int, confidence: float = 0.95) -> float:
    """Returns the t with P(-t < T < t) = confidence, for a whole number of degrees of freedom.

    Args:
        freedom: at least 1.
        confidence: below 1.

    Examples:
        >>> round(two_sided(4), 3)  # five runs
        2.776
    """
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if _within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def _within(t: float, freedom: int) -> float:
    """Computes P(-t < T < t) as a finite sum, Abramowitz & Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if not odd:
        return math.sin(angle) * total
    inside = math.sin(angle) * total if freedom > 1 else 0.0
    return 2 / math.pi * (angle + inside)
