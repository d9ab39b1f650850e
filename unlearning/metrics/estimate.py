"""A metric's value with its confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearning.errors import ConfigError
from unlearning.metrics.bootstrap import Change, IntervalMethod, Resampling, difference
from unlearning.metrics.intervals import interval_of, interval_of_change
from unlearning.metrics.rates import Rate, change_p_value
from unlearning.metrics.statistic import Statistic


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. NaN stands for undefined: no prompt, 0 / 0, a missing score.

    Args:
        n: prompts that the value is over; answers, where prompts repeat.
        method: name of the interval's method; None: there is no interval.
        clusters: how many different prompts there are; None where none repeats.
        mcnemar_p: of a rate's change, the p-value of the exact McNemar test; else None.
    """

    value: float
    low: float
    high: float
    n: int
    method: str | None
    clusters: int | None = None
    mcnemar_p: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Converts to plain JSON; what is not finite is None. `clusters` and `mcnemar_p` are there
        only where they apply."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        found: dict[str, Any] = {name: _finite(x) for name, x in numbers.items()}
        found |= {"n": self.n, "method": self.method}
        if self.clusters is not None:
            found["clusters"] = self.clusters
        if self.mcnemar_p is not None:
            found["mcnemar_p"] = _finite(self.mcnemar_p)
        return found


def estimate(
    statistic: Statistic, how: Resampling | None = None, method: IntervalMethod | None = None
) -> Estimate:
    """Estimates the value of one model.

    Args:
        method: of the interval; None: by the kind of statistic, see `intervals`.
    """
    interval = interval_of(statistic, how or Resampling(), method)
    known = statistic.known
    return Estimate(
        statistic.value, interval.low, interval.high, int(known.sum()), interval.method,
        _clusters(statistic, known),
    )  # fmt: skip


def estimate_change(
    first: Statistic,
    second: Statistic,
    change: Change = difference,
    how: Resampling | None = None,
    method: IntervalMethod | None = None,
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
    interval = interval_of_change(first, second, change, how or Resampling(), method)
    both = first.known & second.known
    p_value = None
    if change is difference and isinstance(first, Rate) and isinstance(second, Rate):
        p_value = change_p_value(first, second)
    return Estimate(
        value, interval.low, interval.high, int(both.sum()), interval.method,
        _clusters(second, both), p_value,
    )  # fmt: skip


def _clusters(statistic: Statistic, known: NDArray[np.bool_]) -> int | None:
    clusters = statistic.clusters
    return None if clusters is None else len(np.unique(clusters[known]))


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
