"""A metric of one prompt set as rows of statistics per prompt, ready for the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from unlearning.metrics.bootstrap import Array, Change, Value, ratio
from unlearning.types import Generation

Stage = Literal["original", "before", "after"]
Stages = tuple[list[Generation], ...]
"""One prompt set's generations by stage, paired by position: before and after unlearning, or three
with those of the model before fine-tuning in front. The first are those of the original model."""


@dataclass(frozen=True)
class Measure:
    """One metric of one prompt set.

    Args:
        before: [n, k] statistics per prompt, or the metric's value where that is a definition
            (the original model's answers are like themselves).
        after: [n, k].
        value: from summed statistics to the metric.
        original: as `before`, of the model before fine-tuning; None where there is no such stage,
            or the metric has no meaning for it.
        in_before: False where the metric has no meaning before unlearning.
        n: prompts that the metric is over; None: all rows without a missing score.
        changes: further ways to state a change, by name.
    """

    name: str
    before: Array | float
    after: Array
    value: Value = ratio
    original: Array | float | None = None
    in_before: bool = True
    n: int | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)

    def side(self, stage: Stage) -> Array | float:
        """Its statistics at a stage that it has."""
        found = {"original": self.original, "before": self.before, "after": self.after}[stage]
        assert found is not None
        return found

    def count(self, *stages: Stage) -> int:
        """Over how many prompts the metric is, in all of these stages."""
        if self.n is not None:
            return self.n
        rows = [self.after if isinstance(self.side(s), float) else self.side(s) for s in stages]
        return int(np.all([np.isfinite(side).all(axis=1) for side in rows], axis=0).sum())


def measure(
    name: str,
    sides: Sequence[Array | float],
    value: Value = ratio,
    changes: Mapping[str, Change] | None = None,
) -> Measure:
    """A Measure of statistics by stage, in the order of `Stages`."""
    *original, before, after = sides
    assert not isinstance(after, float)
    first = original[0] if original else None
    return Measure(name, before, after, value, original=first, changes=changes or {})


def mean_measure(name: str, sides: Iterable[ArrayLike]) -> Measure:
    """The mean over prompts of a score each: rows `[x, 1]`, of whose sums the ratio is taken."""
    columns = [np.asarray(side, dtype=np.float64) for side in sides]
    return measure(name, [np.stack([one, np.ones_like(one)], axis=1) for one in columns])


def scores(values: Iterable[float | None]) -> Array:
    """Missing and non-finite values as NaN."""
    known = (math.nan if value is None or not math.isfinite(value) else value for value in values)
    return np.array(list(known), dtype=np.float64)
