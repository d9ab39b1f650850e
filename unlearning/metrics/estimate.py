"""A metric's value with its confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearning.errors import ConfigError
from unlearning.metrics.bootstrap import (
    Change,
    IntervalMethod,
    Resampling,
    difference,
    percentile,
)
from unlearning.metrics.statistic import Statistic


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. NaN stands for undefined: no prompt, 0 / 0, a missing score.

    Args:
        n: prompts that the value is over.
        method: name of the interval's method.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def to_json(self) -> dict[str, Any]:
        """Converts to plain JSON; what is not finite is None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        plain = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        return {**plain, "n": self.n, "method": self.method}


def estimate(
    statistic: Statistic, how: Resampling | None = None, method: IntervalMethod = percentile
) -> Estimate:
    """Estimates the value of one model."""
    low, high = method.interval(statistic, how or Resampling())
    return Estimate(statistic.value, low, high, int(statistic.known.sum()), method.name)


def estimate_change(
    first: Statistic,
    second: Statistic,
    change: Change = difference,
    how: Resampling | None = None,
    method: IntervalMethod = percentile,
) -> Estimate:
    """Estimates the change from one model to another, on the same prompts in the same order.

    Raises:
        ConfigError: they are of different numbers of prompts.
    """
    if len(first.known) != len(second.known):
        raise ConfigError(
            f"statistics are of {len(first.known)} and {len(second.known)} prompts; expected the "
            "same prompts: pair them by prompt."
        )
    value = float(change(np.array([first.value]), np.array([second.value]))[0])
    low, high = method.interval_of_change(first, second, change, how or Resampling())
    both = first.known & second.known
    return Estimate(value, low, high, int(both.sum()), method.name)
