"""Which settings nothing beats, and which of them is best within a budget."""

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
    """What forgetting may cost.

    Args:
        rise: of the perplexity on held-out retain answers, in percent.
        broken: rise of the rate of broken answers on the worst prompt set, in points; a harmful
            rate is low, too, where a model says nothing that is language.
    """

    rise: float = 5.0
    broken: float = 5.0


def pareto_front(settings: Sequence[Setting], cost: Measure) -> list[Setting]:
    """The settings that no other one beats in forgetting without costing more, by their means."""
    placed = [(s.rank, _cost(s, cost), s) for s in settings]
    known = [(rank, c, s) for rank, c, s in placed if rank is not None and math.isfinite(c)]
    return [s for rank, c, s in known if not any(_beats((r, d), (rank, c)) for r, d, _ in known)]


def _cost(setting: Setting, cost: Measure) -> float:
    value = setting.mean(cost).value
    return math.inf if value is None else cost.worse(value)


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """At least as good in everything, and better in something."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def candidates(settings: Sequence[Setting]) -> list[Setting]:
    """All that are best within some budget, best first.

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
    """If nowhere, broken answers cannot be budgeted for; if only in some, the others do not fit."""
    return any(s.broken.value is not None for s in settings)


def costs(setting: Setting, judged: bool = True) -> tuple[float, float]:
    """Rise of perplexity in percent, and of broken answers in points; infinite where unknown.

    Args:
        judged: whether broken answers count.
    """
    rise, broken = setting.rise.value, setting.broken.value
    points = 0.0 if not judged else math.inf if broken is None else 100 * broken
    return (math.inf if rise is None else rise), points


def fits(setting: Setting, budget: Budget, judged: bool = True) -> bool:
    """Whether its means lie within the budget; one exactly at it does."""
    rise, broken = costs(setting, judged)
    return rise <= budget.rise + ROUNDING and broken <= budget.broken + ROUNDING


def best(settings: Sequence[Setting], budget: Budget) -> Setting | None:
    """The one that forgets most within the budget."""
    judged = broken_was_measured(settings)
    return next((s for s in candidates(settings) if fits(s, budget, judged)), None)
