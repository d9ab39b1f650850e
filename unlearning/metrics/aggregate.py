"""Metrics of several prompt sets, or of a model against another one's stored answers.

    aggregates:
      utility:
        metric: unlearning.metrics.harmonic_mean.harmonic_mean
        of: [retain_heldout/rouge_accuracy, facts/choice_accuracy]

The function of such a metric gets the statistics named, each with `value`, and `scores` by prompt.
Prompts are resampled within each set; the same ones for all that is of one set. That takes a row
for every prompt of the set, whether it counts or not, as `rate`, `mean(..., where)` and `share`
give it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearning.errors import ConfigError
from unlearning.metrics.metric import Metric
from unlearning.metrics.resample import Draw, drawn_rows
from unlearning.metrics.statistic import Fixed, Sample, Statistic, Sums
from unlearning.types import Generation


@dataclass(frozen=True)
class Aggregate:
    """A metric of metrics.

    Args:
        metric: its function takes a statistic for each of `of`, then for each of them that of
            the other model's answers.
        of: `<prompt_set>/<metric>`, each.
        others: the other model's answers to the same prompts; empty: there is no other model.
    """

    metric: Metric
    of: tuple[str, ...]
    others: Sequence[Generation] = ()


@dataclass(frozen=True, eq=False)
class Joint(Statistic):
    """The value of several statistics; see `Aggregate`."""

    parts: tuple[Sums | Sample, ...] = ()
    prompt_sets: tuple[str, ...] = ()
    metric: Metric | None = field(default=None)

    @property
    def value(self) -> float:
        assert self.metric is not None
        return float(self.metric(*self.parts))

    @property
    def known(self) -> NDArray[np.bool_]:
        widest: dict[str, NDArray[np.bool_]] = {}  # of each set once
        for part, prompt_set in zip(self.parts, self.prompt_sets, strict=True):
            if part.known.sum() >= widest.get(prompt_set, np.zeros(0)).sum():
                widest[prompt_set] = part.known
        return np.concatenate(list(widest.values()))

    @property
    def repeats(self) -> bool:
        return any(part.repeats for part in self.parts)

    def _resample(self, n_resamples: int, seed: int) -> Iterator[float]:
        assert self.metric is not None
        streams: list[Iterator[Draw]] = [
            drawn_rows(len(part.known), part.clusters, n_resamples, _seed(seed, prompt_set))
            for part, prompt_set in zip(self.parts, self.prompt_sets, strict=True)
        ]
        for drawn in zip(*streams, strict=True):
            taken = (part.take(one) for part, one in zip(self.parts, drawn, strict=True))
            yield float(self.metric(*taken))


def joint(
    name: str,
    aggregate: Aggregate,
    measured: Mapping[str, Any],
    models: Sequence[str],
    context: Mapping[str, Any],
) -> dict[str, Statistic]:
    """Computes the aggregate's statistic for every model that has all of its parts.

    Raises:
        ConfigError: it is of a figure that no model has, or has no parts at all.
    """
    unknown = [key for key in aggregate.of if key not in measured]
    if unknown or not aggregate.of:
        raise ConfigError(
            f"aggregate {name} is of {unknown or 'nothing'}; expected <prompt set>/<metric>, some "
            f"of {sorted(measured)}."
        )
    sets = [key.rpartition("/")[0] for key in aggregate.of]
    others = _of_other(aggregate, sets, measured, context)
    found: dict[str, Statistic] = {}
    for model in models:
        sides = [measured[key].sides.get(model) for key in aggregate.of]
        if any(side is None or isinstance(side, Fixed) for side in sides):
            continue
        parts = (*sides, *others)
        found[model] = Joint(parts, (*sets, *sets[: len(others)]), aggregate.metric)
    return found


def _of_other(
    aggregate: Aggregate, sets: Sequence[str], measured: Mapping[str, Any], context: Any
) -> list[Any]:
    if not aggregate.others:
        return []
    found = []
    for key, prompt_set in zip(aggregate.of, sets, strict=True):
        answers = sorted(
            (g for g in aggregate.others if g.prompt_set == prompt_set), key=lambda g: g.index
        )
        if not answers:
            raise ConfigError(
                f"the other model has no answers to {prompt_set}; expected those of an evaluation "
                "of the same prompt sets."
            )
        found.append(measured[key].metric.statistic(answers, None, context))
    return found


def _seed(seed: int, prompt_set: str) -> list[int]:
    return [seed, zlib.crc32(prompt_set.encode())]
