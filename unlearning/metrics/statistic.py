"""Statistics of a metric: rows per prompt, and a value of them that can be resampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearning.errors import ConfigError

Array = NDArray[np.float64]
Draw = NDArray[np.int64]
MAX_CELLS = 1_000_000
"""Draws held at once (8 MB of them): resamples are made in chunks of that size."""


def ratio(sums: Array) -> Array:
    """Divides the first column by the second: the mean of rows `[x, 1]`, or any share. NaN for 0
    / 0."""
    values = np.full(len(sums), np.nan)
    np.divide(sums[:, 0], sums[:, 1], out=values, where=sums[:, 1] != 0)
    return values


@dataclass(frozen=True, eq=False)
class Statistic:
    """Base of the statistics. `resampled` values are cached, since several intervals need them."""

    _kept: dict[tuple[int, int], Array] = field(default_factory=dict, init=False, repr=False)

    @property
    def value(self) -> float:
        """The metric's value; NaN where it is undefined."""
        raise NotImplementedError

    @property
    def known(self) -> NDArray[np.bool_]:
        """[n] which prompts have a score and count."""
        raise NotImplementedError

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
        counts: [n] which prompts count towards `n`; None: all with finite rows.
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
    def scores(self) -> Array:
        """[n] the metric of each prompt alone."""
        return self.of_sums(self.rows)

    def take(self, drawn: Draw) -> Sums:
        """Returns the statistic of a resample."""
        return Sums(self.rows[drawn], self.of_sums)

    def _resample(self, n_resamples: int, seed: int) -> Array:
        return self.of_sums(resampled_sums(self.rows, n_resamples, seed))


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

    def _resample(self, n_resamples: int, seed: int) -> Iterator[float]:
        for drawn in draws(len(self.rows), n_resamples, seed):
            for one in drawn:
                yield float(self.of_rows(taken(self.rows, one)))


def mean(values: ArrayLike) -> Sums:
    """Makes the statistic of a mean over prompts of a score each; a NaN leaves it undefined."""
    column = np.asarray(values, dtype=np.float64)
    return Sums(np.stack([column, np.ones_like(column)], axis=1))


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


def taken(rows: Sequence[Any] | NDArray[Any], drawn: Draw) -> Any:
    """Selects rows by number."""
    return rows[drawn] if isinstance(rows, np.ndarray) else [rows[i] for i in drawn]


def draws(
    n: int, n_resamples: int, seed: int | Sequence[int], max_cells: int = MAX_CELLS
) -> Iterator[Draw]:
    """Yields [chunk, n] numbers of the prompts in each resample, drawn with replacement."""
    if n == 0:
        return
    generator = np.random.default_rng(seed)
    chunk = max(1, max_cells // n)
    for start in range(0, n_resamples, chunk):
        yield generator.integers(0, n, size=(min(chunk, n_resamples - start), n))


def resampled_sums(rows: Array, n_resamples: int, seed: int, max_cells: int = MAX_CELLS) -> Array:
    """Computes sums [1 + n_resamples, k] of the rows: of all of them, then of every resample.

    A NaN in a column makes that column's sums NaN: a missing score is never averaged away.
    """
    n, width = rows.shape
    sums = np.zeros((1 + n_resamples, width))
    sums[0] = rows.sum(axis=0)
    start = 1
    for drawn in draws(n, n_resamples, seed, max_cells):
        size = len(drawn)
        places = drawn + n * np.arange(size)[:, None]
        times = np.bincount(places.ravel(), minlength=size * n).reshape(size, n)
        sums[start : start + size] = times.astype(np.float64) @ rows
        start += size
    return sums


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

    def _resample(self, n_resamples: int, seed: int) -> Array:
        return np.full(1 + n_resamples, self.value)
