"""Statistics of a metric: rows per prompt, and a value of them that can be resampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearning.errors import ConfigError
from unlearning.metrics.resample import Array, Clusters, Draw, drawn_rows, resampled_sums, taken


def ratio(sums: Array) -> Array:
    """Divides the first column by the second: the mean of rows `[x, 1]`, or any share. NaN for 0
    / 0."""
    values = np.full(len(sums), np.nan)
    np.divide(sums[:, 0], sums[:, 1], out=values, where=sums[:, 1] != 0)
    return values


@dataclass(frozen=True, eq=False)
class Statistic:
    """Base of the statistics. `resampled` values are cached, since several intervals need them.

    Args:
        clusters: [n] which prompt each row is of, where prompts repeat; None where none does.
    """

    clusters: Clusters = field(default=None, kw_only=True, repr=False)
    _kept: dict[tuple[int, int], Array] = field(default_factory=dict, init=False, repr=False)

    @property
    def value(self) -> float:
        """The metric's value; NaN where it is undefined."""
        raise NotImplementedError

    @property
    def known(self) -> NDArray[np.bool_]:
        """[n] which prompts have a score and count."""
        raise NotImplementedError

    @property
    def repeats(self) -> bool:
        """Whether prompts repeat, so that rows are not independent of each other."""
        return self.clusters is not None

    @property
    def missing(self) -> bool:
        """Whether no prompt has a score, though some should have one."""
        return not len(self.known)

    def _resample(self, n_resamples: int, seed: int) -> Iterator[float] | Array:
        raise NotImplementedError

    def resampled(self, n_resamples: int, seed: int) -> Array:
        """Computes [1 + n_resamples] values: of all prompts, then of each resample of them.

        Statistics of equally many prompts are resampled alike, which pairs them.
        """
        key = (n_resamples, seed)
        if key not in self._kept:
            drawn = self._resample(n_resamples, seed)
            found = drawn if isinstance(drawn, np.ndarray) else np.array([self.value, *drawn])
            self._kept[key] = found
        return self._kept[key]


@dataclass(frozen=True, eq=False)
class Sums(Statistic):
    """Statistic whose rows add up over prompts (a mean, BLEU, a perplexity).

    Args:
        rows: [n, k] statistics per prompt. One that is not finite makes the metric undefined:
            leaving the prompt out would flatter a model that broke on it.
        of_sums: [m, k] summed statistics to [m] values.
        counts: [n] which prompts count; those that do not have rows of zeros. None: all. A row for
            every prompt, counting or not, keeps the statistics of a set paired by prompt.
    """

    rows: Array = field(default_factory=lambda: np.zeros((0, 1)))
    of_sums: Callable[[Array], Array] = ratio
    counts: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        rows = np.asarray(self.rows, dtype=np.float64)
        if rows.ndim != 2:
            raise ConfigError(
                f"statistics have shape {rows.shape}; expected [prompts, statistics]."
            )
        # 0 * inf would warn, 0 * NaN does not
        object.__setattr__(self, "rows", np.where(np.isfinite(rows), rows, np.nan))

    @property
    def value(self) -> float:
        return float(self.of_sums(self.rows.sum(axis=0, keepdims=True))[0]) if self.n else np.nan

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def known(self) -> NDArray[np.bool_]:
        finite = np.asarray(np.isfinite(self.rows).all(axis=1))
        return finite if self.counts is None else finite & self.counts

    @property
    def missing(self) -> bool:
        counted = self.rows if self.counts is None else self.rows[self.counts]
        nobody_has_one = len(counted) > 0 and bool(np.isnan(counted).any(axis=1).all())
        return nobody_has_one or not self.n

    @property
    def scores(self) -> Array:
        """[n] the metric of each prompt alone."""
        return self.of_sums(self.rows)

    def take(self, drawn: Draw) -> Sums:
        """Returns the statistic of a resample."""
        counts = None if self.counts is None else self.counts[drawn]
        return Sums(self.rows[drawn], self.of_sums, counts)

    def _resample(self, n_resamples: int, seed: int) -> Array:
        return self.of_sums(resampled_sums(self.rows, n_resamples, seed, clusters=self.clusters))


@dataclass(frozen=True, eq=False)
class Sample(Statistic):
    """Statistic that is any function of all prompts' rows and need not add up (AUC, a median, a
    p-value).

    Args:
        rows: [n, ...] array or sequence, a row per prompt.
        of_rows: rows, all or a resample of them, to the metric.
    """

    rows: Sequence[Any] | NDArray[Any] = ()
    of_rows: Callable[[Any], float] = len

    @property
    def value(self) -> float:
        return float(self.of_rows(self.rows)) if len(self.rows) else np.nan

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.ones(len(self.rows), dtype=bool)

    @property
    def scores(self) -> Array:
        """[n] the rows themselves, where they are one number each."""
        return np.asarray(self.rows, dtype=np.float64)

    def take(self, drawn: Draw) -> Sample:
        """Returns the statistic of a resample."""
        return Sample(taken(self.rows, drawn), self.of_rows)

    @property
    def missing(self) -> bool:
        rows = self.rows
        if not isinstance(rows, np.ndarray) or rows.dtype.kind != "f" or not len(rows):
            return not len(rows)
        return bool(np.isnan(rows).reshape(len(rows), -1).any(axis=1).all())

    def _resample(self, n_resamples: int, seed: int) -> Iterator[float]:
        for drawn in drawn_rows(len(self.rows), self.clusters, n_resamples, seed):
            yield float(self.of_rows(taken(self.rows, drawn)))


def mean(values: ArrayLike, where: ArrayLike | None = None) -> Sums:
    """Makes the statistic of a mean over prompts of a score each; a NaN leaves it undefined.

    Args:
        where: [n] the prompts that it is over; the values of others are ignored. None: all.
    """
    return Sums(*counted_rows(values, where))


def share(part: ArrayLike, whole: ArrayLike) -> Sums:
    """Makes the statistic of a sum over a sum. A prompt whose `whole` is 0 does not count."""
    rows = np.stack([np.asarray(side, dtype=np.float64) for side in (part, whole)], axis=1)
    return Sums(rows, counts=rows[:, 1] != 0)


def scores(values: Iterable[float | None]) -> Array:
    """Converts scores to an array, with missing and non-finite values as NaN."""
    return np.array(
        [np.nan if value is None or not np.isfinite(value) else value for value in values],
        dtype=np.float64,
    )


def counted_rows(values: ArrayLike, where: ArrayLike | None) -> tuple[Any, ...]:
    """Returns rows [value, 1], of zeros where a prompt does not count; ratio; which ones count."""
    column = np.asarray(values, dtype=np.float64)
    if where is None:
        return np.stack([column, np.ones_like(column)], axis=1), ratio, None
    counts = np.asarray(where, dtype=bool)
    rows = np.stack([np.where(counts, column, 0.0), counts.astype(np.float64)], axis=1)
    return rows, ratio, counts


@dataclass(frozen=True, eq=False)
class Fixed(Statistic):
    """Statistic with a value by definition, such as the similarity of a model's answers to
    themselves.

    Args:
        of: the statistic that it is compared with; undefined where that one is.
        number: the value.
    """

    of: Statistic = field(default_factory=Sums)
    number: float = 0.0

    @property
    def value(self) -> float:
        return np.nan if np.isnan(self.of.value) else self.number

    @property
    def known(self) -> NDArray[np.bool_]:
        return self.of.known

    @property
    def repeats(self) -> bool:
        return self.of.repeats

    def _resample(self, n_resamples: int, seed: int) -> Array:
        return np.full(1 + n_resamples, self.value)
