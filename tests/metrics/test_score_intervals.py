"""Closed forms against scipy, published figures, and equations that their bounds solve."""

from __future__ import annotations

import math

import pytest
from scipy import stats
from scipy.optimize import brentq

from unlearning.metrics.score_intervals import (
    PairedCounts,
    exact_mcnemar,
    mover_r,
    newcombe,
    newcombe_paired,
    phi,
    wilson,
)

TABLES = [
    PairedCounts(36, 12, 2, 0),
    PairedCounts(20, 21, 3, 40),
    PairedCounts(0, 9, 0, 75),
    PairedCounts(1, 0, 0, 83),
    PairedCounts(40, 2, 2, 40),
    PairedCounts(3, 30, 30, 3),
]


@pytest.mark.parametrize("n", [1, 2, 6, 20, 84, 500])
def test_wilson_equals_scipys(n: int) -> None:
    for k in {0, 1, n // 3, n - 1, n}:
        for confidence in (0.95, 0.9, 0.5):
            theirs = stats.binomtest(k, n).proportion_ci(confidence, method="wilsoncc")
            ours = wilson(k, n, confidence)
            assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12), (k, confidence)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2535, 0.3682),
        (15, 148, 0.0598, 0.1644),
        (0, 20, 0, 0.2005),
        (1, 29, 0.0018, 0.1963),
    ],
)
def test_wilson_equals_newcombes_table(k: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Stat. Med. 17:857, Table I, method 4."""
    assert wilson(k, n) == pytest.approx((low, high), abs=5.1e-5)


def test_bounds_of_wilson_solve_its_equation() -> None:
    z = stats.norm.ppf(0.975)
    for k, n in ((3.7, 41.3), (1, 6), (40, 84)):  # counts need not be whole
        for p in wilson(k, n):
            distance = abs(k / n - p) - 1 / (2 * n)
            assert distance == pytest.approx(z * math.sqrt(p * (1 - p) / n))


def test_bounds_stay_in_order_and_in_range() -> None:
    for n in (0.7, 1, 3, 50):
        for k in (0, 1e-9, n / 2, n):
            for confidence in (0.01, 0.5, 0.999999):
                low, high = wilson(k, n, confidence)
                assert 0 <= low <= k / n <= high <= 1
    assert all(map(math.isnan, wilson(0, 0)))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ((36, 12, 2, 0), (36 * 0 - 12 * 2) / math.sqrt(48 * 2 * 38 * 12)),
        ((20, 21, 3, 40), (20 * 40 - 21 * 3 - 42) / math.sqrt(41 * 43 * 23 * 61)),
        ((0, 9, 0, 75), 0.0),
        ((3, 30, 30, 3), (9 - 900) / 33**2),
    ],
)
def test_phi_by_hand(table: tuple[int, ...], expected: float) -> None:
    assert phi(PairedCounts(*table)) == pytest.approx(expected)


@pytest.mark.parametrize("counts", TABLES)
def test_newcombe_squares_and_adds_the_limits_of_scipy(counts: PairedCounts) -> None:
    n = int(counts.n)
    sides = [stats.binomtest(int(k), n) for k in (counts.of_first, counts.of_second)]
    (l1, u1), (l2, u2) = (side.proportion_ci(method="wilsoncc") for side in sides)
    p1, p2, r = sides[0].statistic, sides[1].statistic, phi(counts)
    below = math.sqrt((p2 - l2) ** 2 + (u1 - p1) ** 2 - 2 * r * (p2 - l2) * (u1 - p1))
    above = math.sqrt((u2 - p2) ** 2 + (p1 - l1) ** 2 - 2 * r * (u2 - p2) * (p1 - l1))
    assert newcombe_paired(counts) == pytest.approx((p2 - p1 - below, p2 - p1 + above))
    unpaired = newcombe(counts.of_first, n, counts.of_second, n)
    assert unpaired == pytest.approx(
        (p2 - p1 - math.hypot(p2 - l2, u1 - p1), p2 - p1 + math.hypot(u2 - p2, p1 - l1))
    )


@pytest.mark.parametrize("counts", TABLES)
def test_bounds_of_the_ratio_are_where_the_difference_may_be_zero(counts: PairedCounts) -> None:
    """R is a bound where 0 is a bound of second - R first, squared and added (Fieller)."""
    n = counts.n
    p1, p2, r = counts.of_first / n, counts.of_second / n, phi(counts)
    (l1, u1), (l2, u2) = wilson(counts.of_first, n), wilson(counts.of_second, n)

    def lower(ratio: float) -> float:
        x, y = p2 - l2, ratio * (u1 - p1)
        return p2 - ratio * p1 - math.sqrt(x * x + y * y - 2 * r * x * y)

    def upper(ratio: float) -> float:
        x, y = u2 - p2, ratio * (p1 - l1)
        return p2 - ratio * p1 + math.sqrt(x * x + y * y - 2 * r * x * y)

    low, high = mover_r(counts)
    assert 0 <= low <= p2 / p1 <= high
    assert high == pytest.approx(brentq(upper, p2 / p1, 1e6, xtol=1e-14), rel=1e-6)
    if p2 > 0:
        assert low == pytest.approx(brentq(lower, 0, p2 / p1, xtol=1e-14), rel=1e-6)
    else:
        assert low == 0


def test_the_ratio_at_its_edges() -> None:
    low, high = mover_r(PairedCounts(0, 84, 0, 0))  # all before, none after
    assert low == 0 and 0.05 < high < 0.06
    assert all(map(math.isnan, mover_r(PairedCounts(0, 0, 3, 81))))


@pytest.mark.parametrize(("first", "second"), [(6, 0), (5, 0), (0, 0), (3, 9), (30, 12), (0, 1)])
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    n = first + second
    expected = stats.binomtest(first, n).pvalue if n else 1.0
    assert exact_mcnemar(first, second) == pytest.approx(expected)
    assert exact_mcnemar(second, first) == exact_mcnemar(first, second)


def test_six_prompts_are_the_fewest_that_can_show_a_change() -> None:
    assert exact_mcnemar(5, 0) == 0.0625
    assert exact_mcnemar(6, 0) == 0.03125
    assert exact_mcnemar(4000, 3000) < 1e-30  # whole numbers of two thousand digits
