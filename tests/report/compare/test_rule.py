"""The pick rule by figures made by hand."""

from __future__ import annotations

import math

import pytest

from unlearning.errors import ConfigError
from unlearning.report.compare.rule import Goal, Limit, Trial, pick

LESS, MORE = Goal("minimize", "after.x/harm"), Goal("maximize", "after.x/nll")
RISE, ALIKE = Limit("change.y/rise", "<=", 5.0), Limit("after.y/alike", ">=", 0.8)


def picked(trials, goal=LESS, budget=(RISE,)):
    found = pick([Trial(n, f, tuple(c)) for n, (f, *c) in enumerate(trials)], goal, budget)
    return found and (found.trial.job, found.within)


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([(0.5, 1.0), (0.2, 4.0), (0.1, 6.0)], (1, True)),  # most within, not most of all
        ([(0.5, 1.0), (0.2, 5.0)], (1, True)),  # exactly at the limit
        ([(0.2, 4.0), (0.2, 1.0)], (1, True)),  # as much for less
        ([(0.2, 4.0), (0.2, 4.0)], (0, True)),  # the first
        ([(0.1, 30.0), (0.9, 6.0)], (1, False)),  # the nearest, however little it forgets
        ([(0.4, 6.0), (0.3, 6.0)], (1, False)),  # of equally near ones, what forgets most
        ([(0.1, None), (None, 1.0), (0.9, 9.0)], (2, False)),  # without a figure there is no pick
        ([(0.1, math.inf), (0.8, 2.0)], (1, True)),
        ([(0.1, -40.0)], (0, True)),  # a perplexity that fell
    ],
)
def test_the_one_that_forgets_most_within_the_budget(trials, expected):
    assert picked(trials) == expected


@pytest.mark.parametrize("trials", [[], [(None, 1.0)], [(0.1, math.inf)], [(0.1, None)]])
def test_nothing_to_pick(trials):
    assert picked(trials) is None


def test_more_may_be_better():
    assert picked([(1.0, 1.0), (7.0, 4.0), (9.0, 6.0)], MORE) == (1, True)


def test_every_part_of_the_budget_counts():
    both = (RISE, ALIKE)
    assert picked([(0.1, 1.0, 0.7), (0.5, 1.0, 0.8)], budget=both) == (1, True)
    # 0.1 below 0.8 is an eighth of it, 1 above 5 a fifth.
    assert picked([(0.1, 1.0, 0.7), (0.1, 6.0, 0.9)], budget=both) == (0, False)
    assert picked([(0.3,), (0.2,)], budget=()) == (1, True)


def test_a_limit_of_zero_is_measured_in_its_own_unit():
    zero = Limit("change.y/broken_rate", "<=", 0.0)
    assert zero.excess(0.25) == 0.25 and zero.excess(-0.5) == -0.5


def test_words_of_goal_and_limit():
    assert Goal.parse("minimize after.x/harm") == LESS and str(MORE) == "maximize after.x/nll"
    assert Limit.parse("change.y/rise <= 5") == RISE and Limit.parse("after.y/alike>=.8") == ALIKE
    assert str(RISE) == "change.y/rise <= 5"
    for text in ("after.x/harm", "up after.x", "minimize", "minimize a b"):
        with pytest.raises(ConfigError, match=r"hydra.sweeper.forget=.*'minimize <path>'"):
            Goal.parse(text)
    for text in ("change.y/rise", "change.y/rise < 5", "change.y/rise <= five", "<= 5"):
        with pytest.raises(ConfigError, match=r"hydra.sweeper.budget: .*'<path> <= <number>'"):
            Limit.parse(text)
