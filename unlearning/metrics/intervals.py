"""Chooses the interval of a metric by the kind of its statistic.

| statistic | value | change |
|---|---|---|
| `Rate` | Wilson | Newcombe, paired |
| `RateRatio` | MOVER-R | bootstrap |
| any other | bootstrap over prompts | the same, paired |

A metric's own `interval` comes before it. Where prompts repeat, all of them count prompts rather
than answers, and their name begins with `cluster_`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearning.metrics.bootstrap import Change, IntervalMethod, Resampling, difference, percentile
from unlearning.metrics.rates import (
    Rate,
    RateRatio,
    rate_change_interval,
    rate_interval,
    ratio_interval,
)
from unlearning.metrics.score_intervals import Bounds
from unlearning.metrics.statistic import Fixed, Statistic

WILSON, MOVER_R = "wilson_cc", "mover_r"


@dataclass(frozen=True)
class Interval:
    """Bounds with the name of their method; NaN and None where there is no interval."""

    low: float
    high: float
    method: str | None


def interval_of(
    statistic: Statistic, how: Resampling, own: IntervalMethod | None = None
) -> Interval:
    """Computes the interval of a value.

    Args:
        own: the metric's own method; None: the statistic's kind decides.
    """
    if own is not None:
        return _interval(own.interval(statistic, how), own.name)
    if isinstance(statistic, Rate):
        return _ours(rate_interval(statistic, how.confidence), WILSON, statistic)
    if isinstance(statistic, RateRatio):
        return _ours(ratio_interval(statistic, how.confidence), MOVER_R, statistic)
    return _ours(percentile.interval(statistic, how), percentile.name, statistic)


def interval_of_change(
    first: Statistic,
    second: Statistic,
    change: Change,
    how: Resampling,
    own: IntervalMethod | None = None,
) -> Interval:
    """Computes the interval of `change(first, second)`; row i of both is the same prompt."""
    if own is not None:
        return _interval(own.interval_of_change(first, second, change, how), own.name)
    if change is difference and isinstance(second, Rate):
        if isinstance(first, Rate):
            bounds, name = rate_change_interval(first, second, how.confidence)
            return _ours(bounds, name, second)
        if isinstance(first, Fixed):  # 1 by definition, as what is right of what was right
            low, high = rate_interval(second, how.confidence)
            return _ours((low - first.value, high - first.value), WILSON, second)
    bounds = percentile.interval_of_change(first, second, change, how)
    return _ours(bounds, percentile.name, second)


def _ours(bounds: Bounds, name: str, statistic: Statistic) -> Interval:
    return _interval(bounds, f"cluster_{name}" if statistic.repeats else name)


def _interval(bounds: Bounds, name: str) -> Interval:
    low, high = bounds
    return Interval(low, high, None if np.isnan(low) and np.isnan(high) else name)
