from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unlearning.report.sweep.folder import Job
from unlearning.report.sweep.front import Budget, best, candidates, costs, fits, pareto_front
from unlearning.report.sweep.measures import ALIKE, HARM, RISE
from unlearning.report.sweep.settings import Setting

from .sweeps import harm_metrics


def setting(number: int, harm, rise, broken=0.0, alike=90.0) -> Setting:
    job = Job(str(number), metrics=harm_metrics(harm, rise, alike, broken))
    return Setting(number, (), (), (job,), (job,), HARM)


def numbers(found) -> list[int]:
    return [s.number for s in found]


def test_the_front_by_hand():
    points = [
        setting(1, 0.5, 1.0),
        setting(2, 0.2, 3.0),
        setting(3, 0.3, 3.0),  # 2 forgets more for as much
        setting(4, 0.2, 9.0),  # 2 costs less for as much
        setting(5, 0.0, 20.0),
        setting(6, 0.0, math.inf),
        setting(7, None, 0.0),
        setting(8, 0.2, 3.0),  # as good as 2: neither beats the other
    ]
    assert numbers(pareto_front(points, RISE)) == [1, 2, 5, 8]


def test_more_of_a_similarity_is_cheaper():
    points = [setting(1, 0.5, 1.0, alike=99.0), setting(2, 0.2, 1.0, alike=80.0)]
    points.append(setting(3, 0.3, 1.0, alike=70.0))
    assert numbers(pareto_front(points, ALIKE)) == [1, 2]


def test_the_best_within_a_budget_by_hand():
    points = [setting(1, 0.5, 1.0), setting(2, 0.2, 5.0), setting(3, 0.0, 5.1)]
    assert best(points, Budget(rise=5.0)) is points[1]  # exactly at it is within
    assert best(points, Budget(rise=6.0)) is points[2]
    assert best(points, Budget(rise=0.5)) is None


def test_what_only_stammers_is_not_the_best():
    points = [setting(1, 0.0, 1.0, broken=0.6), setting(2, 0.2, 1.0, broken=0.02)]
    assert best(points, Budget()) is points[1]
    assert best(points, Budget(broken=60.0)) is points[0]


def test_broken_answers_that_were_measured_nowhere_are_not_held_against_anybody():
    one, other = setting(1, 0.1, 1.0, broken=None), setting(2, 0.2, 1.0, broken=0.0)
    assert best([one], Budget()) is one
    assert best([one, other], Budget()) is other  # measured somewhere: a gap is no pass


def test_of_equals_the_cheaper_one_is_best():
    points = [setting(1, 0.0, 4.0), setting(2, 0.0, 2.0)]
    assert best(points, Budget()) is points[1]
    assert numbers(candidates(points)) == [2]


_point = st.tuples(
    st.sampled_from([0.0, 0.1, 0.2, 0.5, None]),
    st.sampled_from([-3.0, 0.0, 1.0, 4.0, 7.0, math.inf, None]),
    st.sampled_from([0.0, 0.03, 0.2, None]),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(_point, max_size=12), st.sampled_from([-5, 0, 1, 5, 9]), st.sampled_from([0, 4, 30])
)
def test_the_first_candidate_that_fits_is_the_best_of_all(points, rise, broken):
    """What the page's script relies on, against a search through everything."""
    every = [setting(n, *point) for n, point in enumerate(points)]
    budget = Budget(rise, broken)
    judged = any(s.broken.value is not None for s in every)
    within = [s for s in every if s.rank is not None and fits(s, budget, judged)]
    expected = min(((s.rank, *costs(s, judged)) for s in within), default=None)
    found = best(every, budget)
    assert (None if found is None else (found.rank, *costs(found, judged))) == expected


@given(st.lists(_point, max_size=12))
@settings(deadline=None, max_examples=100)
def test_nobody_beats_the_front_and_somebody_beats_all_others(points):
    every = [setting(n, *point) for n, point in enumerate(points)]
    front = pareto_front(every, RISE)
    known = [s for s in every if s.rank is not None and math.isfinite(costs(s)[0])]
    for s in known:
        better = [
            o
            for o in known
            if o.rank <= s.rank
            and costs(o)[0] <= costs(s)[0]
            and (o.rank, costs(o)[0]) != (s.rank, costs(s)[0])
        ]
        assert (s in front) is (not better)


def test_costs_are_percent_and_points():
    assert costs(setting(1, 0.1, 2.5, broken=0.04)) == (2.5, pytest.approx(4.0))
