"""Picks a trial of a method: the one that forgets most within a budget, or the nearest to it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from unlearning.errors import ConfigError
from unlearning.report.checks import ROUNDING

DIRECTIONS = ("minimize", "maximize")
_LIMIT = re.compile(r"(\S+)\s*(<=|>=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")


@dataclass(frozen=True)
class Goal:
    """What says how much was forgotten: a path into `metrics.json`, and which way is better."""

    direction: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Reads `minimize <path>` or `maximize <path>`.

        Raises:
            ConfigError: it is neither.
        """
        words = text.split()
        if len(words) != 2 or words[0] not in DIRECTIONS:
            raise ConfigError(
                f"hydra.sweeper.forget={text!r} must be 'minimize <path>' or 'maximize <path>', "
                "the path leading into metrics.json: minimize "
                "after.harmful_validation/harmful_rate."
            )
        return cls(*words)

    def worse(self, value: float) -> float:
        """Returns a number that grows as less is forgotten."""
        return -value if self.direction == "maximize" else value

    def __str__(self) -> str:
        return f"{self.direction} {self.path}"


@dataclass(frozen=True)
class Limit:
    """One part of the budget: a path into `metrics.json`, and how far its figure may go."""

    path: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Reads `<path> <= <number>` or `<path> >= <number>`.

        Raises:
            ConfigError: it is neither.
        """
        found = _LIMIT.fullmatch(text.strip())
        if found is None:
            raise ConfigError(
                f"hydra.sweeper.budget: {text!r} must be '<path> <= <number>' or '<path> >= "
                "<number>', the path leading into metrics.json: "
                "change.retain_validation/perplexity_relative <= 5."
            )
        return cls(found[1], found[2], float(found[3]))

    def excess(self, value: float | None) -> float:
        """Returns how far a figure is past the bound, as a share of it (of 1 where it is 0);
        negative within it, infinite where the figure is not known."""
        if value is None or not math.isfinite(value):
            return math.inf
        past = value - self.bound if self.sign == "<=" else self.bound - value
        return past / (abs(self.bound) or 1.0)

    def __str__(self) -> str:
        return f"{self.path} {self.sign} {self.bound:g}"


@dataclass(frozen=True)
class Trial:
    """The figures of a trial that a pick goes by; None where it has none.

    Args:
        job: its number.
        forget: the figure of the goal.
        costs: those of the budget's parts.
    """

    job: int
    forget: float | None
    costs: tuple[float | None, ...]


@dataclass(frozen=True)
class Pick:
    """The trial whose setting is tested.

    Args:
        excess: how far the worst part is past the budget, see `Limit.excess`; at most 0 within it.
    """

    trial: Trial
    excess: float

    @property
    def within(self) -> bool:
        return self.excess <= ROUNDING


def pick(trials: Sequence[Trial], goal: Goal, budget: Sequence[Limit]) -> Pick | None:
    """Returns the trial that forgets most among those within the budget; where there is none, the
    one whose worst part of the budget is least past it.

    Of trials that forget the same, the one that is farther within; then the first.

    Returns:
        None where no trial has all figures.
    """
    known: list[tuple[float, float, Trial]] = []
    for trial in trials:
        parts = [limit.excess(cost) for limit, cost in zip(budget, trial.costs, strict=True)]
        excess = max(parts, default=0.0)
        if trial.forget is not None and math.isfinite(trial.forget) and math.isfinite(excess):
            known.append((excess, goal.worse(trial.forget), trial))
    fitting = [each for each in known if each[0] <= ROUNDING]
    if fitting:
        excess, _, best = min(fitting, key=lambda each: (each[1], each[0], each[2].job))
    elif known:
        excess, _, best = min(known, key=lambda each: (each[0], each[1], each[2].job))
    else:
        return None
    return Pick(best, excess)
