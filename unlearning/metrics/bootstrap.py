"""Bootstrap confidence intervals over prompts, paired between two models.

Prompts are drawn with replacement, the *same* ones for both models, so that a difference is not
blurred by some prompts being harder than others. Statistics that add up are resampled in one matrix
product; any other function is called once a resample. A prompt that repeats is drawn with all of
its answers.

The interval is the percentile one (Efron and Tibshirani 1993). It says nothing at an edge, where
all resamples give the same value: there is none then. Rates have other intervals, see `intervals`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from unlearning.errors import ConfigError
from unlearning.metrics.resample import Array
from unlearning.metrics.statistic import Statistic

Change = Callable[[Array, Array], Array]
"""Values of two models, [m] each, to the change between them."""

CONFIDENCE = 0.95
ROUNDING = 1e-12
"""Relative: sums of the same numbers in another order differ by less."""
N_RESAMPLES = 2000
"""Efron and Tibshirani (1993) ask for 1000 or more for an interval."""


@dataclass(frozen=True)
class Resampling:
    """Settings of the bootstrap.

    Args:
        n_resamples: of the bootstrap.
        confidence: share of the distribution between the bounds.
        seed: of the draws.
    """

    n_resamples: int = N_RESAMPLES
    confidence: float = CONFIDENCE
    seed: int = 0

    def __post_init__(self) -> None:
        check_resampling(self.n_resamples, self.confidence)


class IntervalMethod(Protocol):
    """Interface of intervals: one for a statistic, and one for its change between two models.

    An import path in a metric's `interval` chooses it; `name` is written beside each value.
    """

    name: str

    def interval(self, statistic: Statistic, how: Resampling) -> tuple[float, float]:
        """Returns lower and upper bound of the value; NaN where there is none. Where prompts
        repeat, `statistic.clusters` says which rows are of one."""
        ...

    def interval_of_change(
        self, first: Statistic, second: Statistic, change: Change, how: Resampling
    ) -> tuple[float, float]:
        """Returns the bounds of `change(first, second)`; row i of both is the same prompt."""
        ...


class PercentileBootstrap:
    """Percentile bootstrap: quantiles of the resampled values. Resamples in which the value is
    undefined (0 / 0) are left out. Where the quantiles coincide, there is no interval: a number
    without any width would claim to be certain."""

    name = "bootstrap"

    def interval(self, statistic: Statistic, how: Resampling) -> tuple[float, float]:
        values = statistic.resampled(how.n_resamples, how.seed)
        return _quantiles(values, how.confidence, _size(values))

    def interval_of_change(
        self, first: Statistic, second: Statistic, change: Change, how: Resampling
    ) -> tuple[float, float]:
        old, new = (side.resampled(how.n_resamples, how.seed) for side in (first, second))
        changes = change(old, new)
        return _quantiles(changes, how.confidence, max(map(_size, (old, new, changes))))


percentile = PercentileBootstrap()


def difference(first: Array, second: Array) -> Array:
    """Computes second - first; NaN for inf - inf."""
    with np.errstate(invalid="ignore"):
        return second - first


def _size(values: Array) -> float:
    return float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))


def _quantiles(values: Array, confidence: float, size: float) -> tuple[float, float]:
    """Returns quantiles of all but the first of the values, which is that of the whole sample; NaN
    where they differ by the rounding of numbers of that size at most."""
    resampled = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(resampled):
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):  # interpolating between infinities
        low, high = np.quantile(resampled, [tail, 1 - tail])
    if low == high or high - low <= ROUNDING * size:
        return np.nan, np.nan
    return float(low), float(high)


def check_resampling(n_resamples: int, confidence: float) -> None:
    """Raises a ConfigError for settings that give no interval."""
    if n_resamples < 1:
        raise ConfigError(f"n_resamples is {n_resamples}; expected at least 1, better 1000.")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence is {confidence}; expected a share such as 0.95.")
