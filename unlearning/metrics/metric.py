"""Declares a function of a model's answers as a metric, with label, unit and direction.

    @metric("Answers that end in a full stop", unit="fraction", direction="higher")
    def full_stops(answers):
        return [g.completion.endswith(".") for g in answers]

and `metrics: [my_code.full_stops]` in a prompt set: no other file need know of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from unlearning.errors import ConfigError
from unlearning.metrics.bootstrap import Change, IntervalMethod
from unlearning.metrics.rates import rate
from unlearning.metrics.resample import clusters_of
from unlearning.metrics.statistic import Sample, Statistic, mean
from unlearning.types import Generation

Direction = Literal["lower", "higher", "near zero"] | None
Need = Literal["completion", "harm", "target", "alternatives"]
Against = Literal["first", "previous"] | None
NEEDS: tuple[Need, ...] = ("completion", "harm", "target", "alternatives")
Answers = Sequence[Generation]


@dataclass(frozen=True)
class StatedChange:
    """A further way to state a metric's change between two models, under a name of its own."""

    function: Change
    label: str
    unit: str = "plain"
    direction: Direction = None


@dataclass(frozen=True)
class Metric:
    """A function of one model's answers to one prompt set, with its declaration; see `metric`."""

    function: Callable[..., Any]
    name: str
    label: str
    unit: str = "plain"
    direction: Direction = None
    interval: IntervalMethod | None = None
    needs: frozenset[str] = frozenset({"completion"})
    against: Against = None
    of_itself: float | None = None
    changes: Mapping[str, StatedChange] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **{**self.options, **options})

    @property
    def path(self) -> str:
        """The function's import path."""
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"{self.function.__module__}.{name}"

    @property
    def parameters(self) -> set[str]:
        """Names of the metric's options."""
        found = list(inspect.signature(self.function).parameters)
        return set(found[2 if self.against else 1 :])

    def with_options(self, options: Mapping[str, Any]) -> Metric:
        """Returns the same metric with some options set.

        Raises:
            ConfigError: it has no such option.
        """
        if unknown := sorted(set(options) - self.parameters):
            raise ConfigError(
                f"metric {self.path} takes no option {unknown[0]!r}; it takes "
                f"{sorted(self.parameters) or 'none'}."
            )
        return replace(self, options={**self.options, **options})

    def statistic(
        self,
        answers: Answers,
        others: Answers | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Statistic | None:
        """Computes the metric's statistic of the answers; None where it does not apply to them.

        Args:
            others: the answers of the model compared with, for a metric with `against`.
            context: values for those of its parameters that have these names and no option.
        """
        given = {k: v for k, v in (context or {}).items() if k in self.parameters}
        options = {**given, **self.options}
        sides = (answers,) if self.against is None else (answers, others)
        found = _statistic(self.function(*sides, **options), sides, self.function, options)
        clusters = clusters_of([answer.prompt for answer in answers])
        if found is None or clusters is None or len(found.known) != len(answers):
            return found
        return replace(found, clusters=clusters)


def metric(
    label: str,
    *,
    unit: str = "plain",
    direction: Direction = None,
    name: str | None = None,
    interval: IntervalMethod | None = None,
    needs: Sequence[Need] = ("completion",),
    against: Against = None,
    of_itself: float | None = None,
    changes: Mapping[str, StatedChange] | None = None,
) -> Callable[[Callable[..., Any]], Metric]:
    """Declares a function as a metric.

    The function gets the answers of one model to one prompt set, and gives

    - a score per prompt, [n]: the metric is their mean; booleans: it is a rate;
    - `rate`, `mean` or `share` of prompts, some of which need not count (`where`);
    - `Sums`: rows that add up over prompts and a value of their sums;
    - `Sample`, or a plain float: a value of all rows, which need not add up;
    - None: the metric does not apply to these answers.

    A parameter called `harm_threshold`, `rouge_threshold` or `known_words` gets what the evaluation
    is set to; others are options, `options:` in the YAML.

    Args:
        label: in tables.
        unit: `fraction` and `percent` are shown with a percent sign; `BLEU` with one digit; any
            other (`nats per token`) is shown beside the label.
        direction: which way is better; None: neither.
        name: in `metrics.json`; the function's own by default.
        interval: how its interval is made; None: by the kind of what it returns, see
            `unlearning.metrics.intervals`.
        needs: what of the model: `completion` (its answer), `harm` (the classifier's probability
            of that), `target` (NLL and tokens of the data's answer), `alternatives` (those of the
            Example's alternatives). A set generates only where a metric needs it.
        against: the function's second argument: the answers of the `first` model or of the
            `previous` to the last (before unlearning), which the metric compares with. It then has
            a value for later models only.
        of_itself: its value of the first model's answers compared with themselves; None: computed.
            With `against="previous"`, what a change is counted from; None: there is none.
        changes: further ways to state its change.
    """
    if unknown := set(needs) - set(NEEDS):
        raise ConfigError(f"metric needs {sorted(unknown)}; expected some of {', '.join(NEEDS)}.")
    if direction not in (*get_args(get_args(Direction)[0]), None):
        raise ConfigError(
            f"direction is {direction!r}; expected 'lower', 'higher', 'near zero' or None."
        )

    def declare(function: Callable[..., Any]) -> Metric:
        given = name or getattr(function, "__name__", "")
        if not given or "/" in given:
            raise ConfigError(f"a metric cannot be called {given!r}; give it a name without '/'.")
        return Metric(
            function, given, label, unit, direction, interval, frozenset(needs), against,
            of_itself, dict(changes or {}),
        )  # fmt: skip

    return declare


def _statistic(
    found: Any,
    sides: tuple[Any, ...],
    function: Callable[..., Any],
    options: Mapping[str, Any],
) -> Statistic | None:
    if found is None or isinstance(found, Statistic):
        return found
    if isinstance(found, (int, float, np.number)) and not isinstance(found, bool):
        # [[row, other's row], ...]: a resample draws both
        rows = list(zip(*sides, strict=True))
        return Sample(rows, lambda drawn: function(*map(list, zip(*drawn, strict=True)), **options))
    given = np.asarray(found)
    values = given.astype(np.float64)
    if values.ndim != 1:
        raise ConfigError(
            f"metric {function.__module__}.{getattr(function, '__name__', function)} gave shape "
            f"{values.shape}; expected a score per prompt, a Sums, a Sample or a float."
        )
    if len(values) != len(sides[0]):
        raise ConfigError(
            f"metric {function.__module__}.{getattr(function, '__name__', function)} gave "
            f"{len(values)} scores for {len(sides[0])} prompts; give one for each, or a Sums, "
            "whose rows may be fewer."
        )
    return rate(values) if given.dtype == np.bool_ else mean(values)
