"""Finds the Pareto front of the settings, and the best of them within a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import le

from unlearning.report.checks import ROUNDING
from unlearning.report.sweep.measures import Measure
from unlearning.report.sweep.settings import Setting


@dataclass(frozen=True)
class Budget:
    """The cost that forgetting may have.

    Args:
        rise: of the perplexity on held-out retain answers, in percent.
        broken: rise of the rate of broken answers on the worst prompt set, in points; a harmful
            rate is low, too, where a model says nothing that is language.
    """

    rise: float = 5.0
    broken: float = 5.0


def pareto_front(settings: Sequence[Setting], cost: Measure) -> list[Setting]:
    """Returns the settings that no other one beats in forgetting without costing more, by their
    means."""
    placed = [(s.rank, _cost(s, cost), s) for s in settings]
    known = [(rank, c, s) for rank, c, s in placed if rank is not None and math.isfinite(c)]
    return [s for rank, c, s in known if not any(_beats((r, d), (rank, c)) for r, d, _ in known)]


def _cost(setting: Setting, cost: Measure) -> float:
    value = setting.mean(cost).value
    return math.inf if value is None else cost.worse(value)


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether a setting is at least as good in everything, and better in something."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def candidates(settings: Sequence[Setting]) -> list[Setting]:
    """Returns all settings that are best within some budget, best first.

    Within a budget the first one that fits it is the best: what comes later forgets less, or as
    much for more. One that costs no less than an earlier one can never be the answer.
    """
    judged = broken_was_measured(settings)
    known = [
        s for s in settings if s.rank is not None and all(map(math.isfinite, costs(s, judged)))
    ]
    known.sort(key=lambda s: (s.rank, *costs(s, judged), s.number))
    chosen: list[Setting] = []
    for setting in known:
        mine = costs(setting, judged)
        if not any(all(map(le, costs(s, judged), mine)) for s in chosen):
            chosen.append(setting)
    return chosen


def broken_was_measured(settings: Sequence[Setting]) -> bool:
    """Whether any setting has a rate of broken answers; if only some have, the others do not fit
    a budget."""
    return any(s.broken.value is not None for s in settings)


def costs(setting: Setting, judged: bool = True) -> tuple[float, float]:
    """Returns the rise of perplexity in percent, and of broken answers in points; infinite where
    unknown.

    Args:
        judged: whether broken answers count.
    """
    rise, broken = setting.rise.value, setting.broken.value
    points = 0.0 if not judged else math.inf if broken is None else 100 * broken
    return (math.inf if rise is None else rise), points


def fits(setting: Setting, budget: Budget, judged: bool = True) -> bool:
    """Whether a setting's means lie within the budget; one exactly at it does."""
    rise, broken = costs(setting, judged)
    return rise <= budget.rise + ROUNDING and broken <= budget.broken + ROUNDING


def best(settings: Sequence[Setting], budget: Budget) -> Setting | None:
    """Returns the setting that forgets most within the budget."""
    judged = broken_was_measured(settings)
    return next((s for s in candidates(settings) if fits(s, budget, judged)), None)
