"""Draws prompts with replacement, and sums statistics of the drawn ones.

Where prompts repeat, what is drawn is a prompt with all of its answers (a cluster): answers to one
prompt resemble each other, and so many of them say less than as many prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Draw = NDArray[np.int64]
Clusters = NDArray[np.int64] | None
"""[n] the number of each row's prompt, from 0 without gaps; None: no prompt repeats."""
MAX_CELLS = 1_000_000
"""Draws held at once (8 MB of them): resamples are made in chunks of that size."""


def clusters_of(prompts: Sequence[str]) -> Clusters:
    """Numbers the prompts; None where each stands once."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
    return None if len(numbers) == len(found) else np.array(found, dtype=np.int64)


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


def drawn_rows(
    n: int, clusters: Clusters, n_resamples: int, seed: int | Sequence[int]
) -> Iterator[Draw]:
    """Yields the numbers of the rows in each resample, all rows of a drawn prompt together."""
    if clusters is None:
        for drawn in draws(n, n_resamples, seed):
            yield from drawn
        return
    members = [np.flatnonzero(clusters == number) for number in range(clusters.max() + 1)]
    for drawn in draws(len(members), n_resamples, seed):
        for one in drawn:
            yield np.concatenate([members[number] for number in one])


def resampled_sums(
    rows: Array,
    n_resamples: int,
    seed: int,
    max_cells: int = MAX_CELLS,
    clusters: Clusters = None,
) -> Array:
    """Computes sums [1 + n_resamples, k] of the rows: of all of them, then of every resample.

    A NaN in a column makes that column's sums NaN: a missing score is never averaged away.
    """
    if clusters is not None:
        grouped = np.zeros((clusters.max() + 1, rows.shape[1]))
        np.add.at(grouped, clusters, rows)
        rows = grouped
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
