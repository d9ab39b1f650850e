"""Statistics that are rates, or a function of two rates' ratio, with their intervals.

What is a rate is declared by what a metric returns: booleans, or `rate(...)`. A mean of scores
that happen to be 0 and 1 is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from unlearning.errors import ConfigError
from unlearning.metrics.resample import Array, Clusters
from unlearning.metrics.score_intervals import (
    NONE,
    Bounds,
    PairedCounts,
    exact_mcnemar,
    mover_r,
    newcombe,
    newcombe_paired,
    wilson,
)
from unlearning.metrics.statistic import Sums, counted_rows


@dataclass(frozen=True, eq=False)
class Rate(Sums):
    """Statistic that is a rate: rows `[has it, counts]` of 0 and 1; see `rate`.

    Raises:
        ConfigError: a row is of another number; NaN stands for a missing one.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_binary(self.rows)


@dataclass(frozen=True, eq=False)
class RateRatio(Sums):
    """Statistic of two models' rates on the same prompts whose value is a monotonic function of
    the second rate / the first, as the effectiveness E is: rows `[first has it, second has it]`.

    Raises:
        ConfigError: a row is of another number than 0 and 1; NaN stands for a missing one.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_binary(self.rows)


def rate(flags: ArrayLike, where: ArrayLike | None = None) -> Rate:
    """Makes the statistic of a rate: the share of prompts that have a property.

    Args:
        flags: [n] of 0 and 1, or of booleans; a NaN leaves the rate undefined.
        where: [n] the prompts that it is over; the flags of others are ignored. None: all.

    Raises:
        ConfigError: a flag is another number.
    """
    return Rate(*counted_rows(flags, where))


def rate_interval(statistic: Rate, confidence: float) -> Bounds:
    """Computes the Wilson interval; NaN where the rate is undefined."""
    if np.isnan(statistic.value):
        return NONE
    return wilson(*_counts(statistic), confidence)


def rate_change_interval(first: Rate, second: Rate, confidence: float) -> tuple[Bounds, str]:
    """Computes the interval of the second rate minus the first, with the method's name: Newcombe's
    for pairs, or, where both are not over the same prompts, that for independent rates."""
    if np.isnan(first.value) or np.isnan(second.value):
        return NONE, ""
    if np.array_equal(first.rows[:, 1], second.rows[:, 1]):
        counts = first.rows[:, 1] > 0
        scale = _effective_share(counts, first.clusters)
        table = _table(first.rows[counts, 0], second.rows[counts, 0], scale)
        return newcombe_paired(table, confidence), "newcombe_paired"
    (old, n_old), (new, n_new) = _counts(first), _counts(second)
    return newcombe(old, n_old, new, n_new, confidence), "newcombe"


def ratio_interval(statistic: RateRatio, confidence: float) -> Bounds:
    """Computes the MOVER-R interval of the ratio, as bounds of the statistic's value."""
    if np.isnan(statistic.value):
        return NONE
    scale = _effective_share(np.ones(statistic.n, dtype=bool), statistic.clusters)
    first, second = statistic.rows.T
    bounds = mover_r(_table(first, second, scale), confidence)
    values = statistic.of_sums(np.array([[1.0, bound] for bound in bounds]))
    return float(values.min()), float(values.max())


def change_p_value(first: Rate, second: Rate) -> float:
    """Computes the p-value of the exact McNemar test on prompts that count in both.

    Of a prompt that repeats, its answers count as one: for the model in which more have the
    property, or for neither.
    """
    if np.isnan(first.value) or np.isnan(second.value):
        return np.nan
    both = (first.rows[:, 1] > 0) & (second.rows[:, 1] > 0)
    change = np.where(both, second.rows[:, 0] - first.rows[:, 0], 0.0)
    if first.clusters is not None:
        change = np.bincount(first.clusters, weights=change)
    return exact_mcnemar(int((change < 0).sum()), int((change > 0).sum()))


def _counts(statistic: Rate) -> tuple[float, float]:
    """Returns how many have the property, and of how many, in effective numbers."""
    scale = _effective_share(statistic.rows[:, 1] > 0, statistic.clusters)
    has_it, counts = statistic.rows.sum(axis=0) * scale
    return float(has_it), float(counts)


def _table(first: Array, second: Array, scale: float) -> PairedCounts:
    both, only = (first * second).sum(), (first * (1 - second)).sum()
    other, neither = ((1 - first) * second).sum(), ((1 - first) * (1 - second)).sum()
    return PairedCounts(*(float(cell * scale) for cell in (both, only, other, neither)))


def _effective_share(counts: np.ndarray, clusters: Clusters) -> float:
    """Returns the effective number of answers as a share of their number.

    Kish's: (sum m)^2 / sum m^2 for prompts with m answers each, as if all answers to a prompt were
    the same, which greedy ones are. It is exact then, and too cautious where they differ.
    """
    if clusters is None or not counts.any():
        return 1.0
    sizes = np.bincount(clusters, weights=counts)
    return float(sizes.sum() / (sizes**2).sum())


def _check_binary(rows: Array) -> None:
    other = rows[~(np.isnan(rows) | (rows == 0) | (rows == 1))]
    if other.size:
        raise ConfigError(
            f"a rate is of 0 and 1, or of booleans, and got {other.flat[0]:g}; use mean(...) for "
            "scores that are no yes or no."
        )
