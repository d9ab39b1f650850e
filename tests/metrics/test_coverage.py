"""How often the 95 % intervals hold the truth: sums over all outcomes, without chance, where that
is possible."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

from unlearning.metrics.bootstrap import Resampling, percentile
from unlearning.metrics.rates import rate, rate_interval
from unlearning.metrics.score_intervals import PairedCounts, mover_r, newcombe_paired, wilson
from unlearning.metrics.statistic import mean

NEVER_UNDER = 0.93


def _rates_where_it_is_least(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A fine grid, and both sides of every bound: coverage falls at bounds and nowhere else."""
    edges = np.concatenate([low, high])
    grid = np.concatenate([np.linspace(0.005, 0.995, 991), edges - 1e-9, edges + 1e-9])
    return grid[(grid >= 0.005) & (grid <= 0.995)]


def _coverage(bounds: np.ndarray, n: int, rates: np.ndarray) -> np.ndarray:
    chance = stats.binom.pmf(np.arange(n + 1)[None], n, rates[:, None])
    inside = (bounds[:, 0] <= rates[:, None]) & (rates[:, None] <= bounds[:, 1])
    return (chance * inside).sum(axis=1)


@pytest.mark.parametrize(("n", "least"), [(6, 0.948), (20, 0.952), (84, 0.951), (500, 0.950)])
def test_a_rates_interval_holds_it_as_often_as_it_says(n: int, least: float) -> None:
    bounds = np.array([wilson(k, n) for k in range(n + 1)])
    found = _coverage(bounds, n, _rates_where_it_is_least(*bounds.T))
    assert found.min() >= NEVER_UNDER
    assert found.min() == pytest.approx(least, abs=1e-3)  # as the documentation says


def test_a_percentile_bootstrap_would_not() -> None:
    """At a true rate of .01 and 84 prompts it holds it in .56 of the cases: no width at 0."""
    n, p = 84, 0.01
    quantiles = stats.binom.ppf([[0.025], [0.975]], n, np.arange(n + 1) / n).T / n
    found = _coverage(quantiles, n, np.array([p]))
    assert found[0] == pytest.approx(0.56, abs=0.01)


def _tables(n: int) -> np.ndarray:
    three = itertools.product(range(n + 1), repeat=3)
    return np.array([(a, b, c, n - a - b - c) for a, b, c in three if a + b + c <= n])


SHARES = [0.0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9]
MODELS = [m for m in itertools.product(SHARES, repeat=3) if sum(m) <= 1]
"""Shares of prompts with the property in both, in the first only, in the second only."""


def test_intervals_of_change_and_ratio_hold_them_for_any_pair_of_models() -> None:
    """All 1771 outcomes of 20 prompts, under 124 pairs of models."""
    n = 20
    tables = _tables(n)
    counts = [PairedCounts(*map(float, table)) for table in tables]
    changes = np.array([newcombe_paired(c) for c in counts])
    ratios = np.array([mover_r(c) for c in counts])
    ways = gammaln(n + 1) - gammaln(tables + 1).sum(axis=1)
    of_change, of_ratio, of_fall = [], [], []
    for both, first, second in MODELS:
        shares = np.array([both, first, second, max(0.0, 1 - both - first - second)])
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(tables > 0, tables * np.log(shares), 0.0)
        chance = np.exp(ways + logs.sum(axis=1))
        change = second - first
        inside = (changes[:, 0] <= change + 1e-12) & (change - 1e-12 <= changes[:, 1])
        of_change.append((chance * inside).sum())
        if both + first > 0:
            ratio, defined = (both + second) / (both + first), tables[:, 0] + tables[:, 1] > 0
            inside = (ratios[:, 0] <= ratio + 1e-12) & (ratio - 1e-12 <= ratios[:, 1])
            of_ratio.append((chance * (inside | ~defined)).sum())
            if both + first >= max(0.1, both + second):  # E is defined, and by more than luck
                of_fall.append((chance * inside)[defined].sum() / chance[defined].sum())
    assert min(of_change) >= 0.95 and np.mean(of_change) <= 0.99
    assert min(of_ratio) >= 0.935 and min(of_fall) >= 0.935 and np.mean(of_fall) <= 0.99


@pytest.mark.parametrize(("n", "models"), [(84, 4000), (500, 2000)])
@pytest.mark.parametrize("shares", [(0.02, 0.6, 0.0), (0.3, 0.1, 0.02), (0.0, 0.02, 0.0)])
def test_more_prompts(shares: tuple[float, float, float], n: int, models: int) -> None:
    """Drawn outcomes; three standard errors of such a count are .01 (.015)."""
    both, first, second = shares
    random = np.random.default_rng(n)
    drawn, times = np.unique(
        random.multinomial(n, [*shares, 1 - sum(shares)], size=models), axis=0, return_counts=True
    )
    kept = hits = hits_of_ratio = 0
    for table, count in zip(drawn, times, strict=True):
        counts = PairedCounts(*map(float, table))
        low, high = newcombe_paired(counts)
        hits += count * (low <= second - first <= high)
        if counts.of_first:
            low, high = mover_r(counts)
            kept += count
            hits_of_ratio += count * (low <= (both + second) / (both + first) <= high)
    assert hits / models >= 0.935
    assert hits_of_ratio / kept >= 0.935


def test_prompts_that_repeat_count_once() -> None:
    """Prompts with 1 to 6 equal answers each: by its answers the interval would be too narrow."""
    random = np.random.default_rng(1)
    sizes = np.tile(np.arange(1, 7), 7)  # 42 prompts, 147 answers
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    for p in (0.02, 0.3):
        hits = naive = 0
        for _ in range(1000):
            flags = np.repeat(random.random(len(sizes)) < p, sizes)
            low, high = rate_interval(replace(rate(flags), clusters=clusters), 0.95)
            hits += low <= p <= high
            low, high = wilson(flags.sum(), len(flags))
            naive += low <= p <= high
        assert hits / 1000 >= NEVER_UNDER
        assert naive / 1000 < 0.9


def test_a_bootstrap_of_prompts_that_repeat_holds_the_mean() -> None:
    """Scores of a prompt's 1 to 6 answers have half of their variance in common; three standard
    errors of 400 models are .04."""
    random = np.random.default_rng(3)
    sizes = np.tile(np.arange(1, 7), 7)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    hits = naive = 0
    for seed in range(400):
        scores = np.repeat(random.normal(size=len(sizes)), sizes) + random.normal(size=sizes.sum())
        how = Resampling(300, seed=seed)
        low, high = percentile.interval(replace(mean(scores), clusters=clusters), how)
        hits += low <= 0 <= high
        low, high = percentile.interval(mean(scores), how)
        naive += low <= 0 <= high
    assert hits / 400 >= NEVER_UNDER - 0.04
    assert naive / 400 < 0.85
