"""Differences between methods, paired over seeds and prompts, and whether they can be told apart.

All methods are run with the same seeds and asked the same prompts, so that the difference under
each seed, and in each resample of the prompts, is one number, and its mean has the interval of any
mean over seeds and prompts, see `sweep.two_level`. The intervals of one figure hold together: with
K pairs of methods each has the confidence 1 - 0.05 / K (Bonferroni).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from unlearning.report.compare.arms import Arm
from unlearning.report.figures import Figure
from unlearning.report.sweep.measures import Measure
from unlearning.report.sweep.students_t import two_sided
from unlearning.report.sweep.two_level import FEWEST_SEEDS, crossed_resamples, half_width

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALL = 0.95  # of all pairs together
SAME = "the same with every seed"


@dataclass(frozen=True)
class Difference:
    """The first method's mean minus the second's.

    Args:
        differs: whether the interval excludes zero; None where that is not known.
        why: there is no interval.
    """

    measure: Measure
    first: str
    second: str
    figure: Figure
    differs: bool | None
    why: str = ""

    def is_of(self, one: str, other: str) -> bool:
        return {one, other} == {self.first, self.second}


def differences(arms: Sequence[Arm], measures: Sequence[Measure]) -> list[Difference]:
    """Compares every pair of methods in every measure, by the seeds that both have figures of."""
    pairs = list(combinations(arms, 2))
    confidence = 1 - (1 - ALL) / max(1, len(pairs))
    return [
        _difference(one, other, measure, confidence) for measure in measures for one, other in pairs
    ]


def _difference(one: Arm, other: Arm, measure: Measure, confidence: float) -> Difference:
    seeds = [s for s in sorted(one.tests) if s in other.tests]
    both = [(one.tests[s], other.tests[s]) for s in seeds]
    found = [
        (a, b, x - y)
        for a, b in both
        if (x := measure.read(a.metrics).value) is not None
        and (y := measure.read(b.metrics).value) is not None
    ]
    count, resampled = len(found), None
    if count:  # all at once: both methods have to have been asked the same prompts
        together = crossed_resamples([*(a for a, *_ in found), *(b for _, b, _ in found)], measure)
        resampled = None if together is None else together[:count] - together[count:]
    values = [difference for *_, difference in found]
    figure, why = paired_mean(values, resampled, confidence)
    differs = False if why == SAME else None
    if figure.low is not None and figure.high is not None:
        differs = not figure.low <= 0 <= figure.high
    return Difference(measure, one.method, other.method, figure, differs, why)


def paired_mean(
    values: Sequence[float], resampled: NDArray[np.float64] | None, confidence: float
) -> tuple[Figure, str]:
    """Returns the mean of paired differences with its interval, and why there is none.

    Over seeds and prompts where there are resamples of the prompts, else Student's t over the
    seeds.

    Args:
        values: by seed.
        resampled: [seeds, resamples] of the same, or None.
    """
    count = len(values)
    if not values:
        return Figure(), "not measured"
    if not all(map(math.isfinite, values)):
        return Figure(), "not finite"
    mean = math.fsum(values) / count
    if count < FEWEST_SEEDS:
        return Figure(mean, n=count), f"fewer than {FEWEST_SEEDS} seeds"
    if not any(values):
        return Figure(0.0, n=count), SAME
    half = None if resampled is None else half_width(values, resampled, confidence)
    if half is None and len(set(values)) > 1:
        scatter = statistics.stdev(values) / math.sqrt(count)
        half = two_sided(count - 1, confidence) * scatter
    if half is None:
        return Figure(mean, n=count), "nothing scatters"
    return Figure(mean, mean - half, mean + half, count), ""
