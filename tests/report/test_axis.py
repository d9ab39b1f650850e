from __future__ import annotations

import math
from itertools import pairwise

import pytest

from unlearning.report.axis import fit, is_skewed, nice_ticks, write_tick
from unlearning.report.figures import MINUS


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (-8.0, 0.5, [-5.0, 0.0]),
        (0.0, 1000.0, [0.0, 500.0, 1000.0]),
        (0.0, 4e-4, [0.0, 1e-4, 2e-4, 3e-4, 4e-4]),
        (3.0, 3.0, [3.0]),
    ],
)
def test_nice_ticks(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_linear_axis_by_hand():
    axis = fit([0.0, 10.0], 0.0, 120.0, pad=0.1)
    assert (axis.low, axis.high) == (-1.0, 11.0)
    assert axis(0.0) == 10.0 and axis(10.0) == 110.0
    assert axis.ticks() == [0.0, 5.0, 10.0]


def test_without_room_the_ends_are_the_values():
    axis = fit([0.0, 0.5], 0.0, 1.0, pad=0.0)
    assert (axis.share(0.0), axis.share(0.5)) == (0.0, 1.0)


def test_a_few_values_far_off_fold_the_axis():
    values = [-2.0, 1.0, 2.0, 3.0, 5.0, 8000.0]
    assert is_skewed(values) and not is_skewed([5.0, 30.0, 60.0])
    axis = fit(values, 0.0, 100.0, fold=10.0)
    assert axis(5.0) - axis(1.0) > 3  # a linear one would have 0.05
    places = [axis(tick) for tick in axis.ticks()]
    assert {0.0, 100.0, 1000.0} <= set(axis.ticks())
    assert min(b - a for a, b in pairwise(places)) > 10  # room for their labels


def test_what_is_wished_for_may_stretch_the_axis_by_a_third():
    axis = fit([0.0, 3.0], 0.0, 1.0, pad=0.0, wished=[1000.0, -0.5])
    assert (axis.low, axis.high) == (-0.5, 4.0)
    assert axis.share(1000.0) == 1.0  # a bar that goes on beyond the picture ends at its edge


def test_bounds_and_flat_values():
    assert fit([-99.0, 0.0], 0.0, 1.0, within=(-100.0, math.inf)).low == -100.0
    flat = fit([5.0, 5.0], 0.0, 100.0)
    assert flat(5.0) == 50.0
    assert fit([0.0], 0.0, 100.0)(0.0) == 50.0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.2, "rate", "20 %"), (-10.0, "percent", f"{MINUS}10 %"), (10000.0, "percent", "10,000 %")],
)
def test_ticks_carry_their_unit(value, unit, text):
    assert write_tick(value, unit).replace("\u00a0", " ") == text
