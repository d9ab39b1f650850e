"""Groups runs that differ only in their seed into settings, with means over the seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

from unlearning.report.figures import Figure
from unlearning.report.sweep.folder import Job
from unlearning.report.sweep.measures import BROKEN, RISE, Measure, applies, least_useful
from unlearning.report.sweep.students_t import two_sided
from unlearning.report.sweep.swept import Key, Swept
from unlearning.report.sweep.two_level import FEWEST_SEEDS, crossed_resamples, half_width
from unlearning.report.sweep.words import show

Over = Literal["both", "seeds", "prompts", ""]


@dataclass(frozen=True)
class Mean:
    """A figure of a setting, and what its interval is over: seeds and prompts, seeds taken as they
    are, or one run's prompts."""

    figure: Figure
    over: Over = ""
    seeds: int = 0

    @property
    def value(self) -> float | None:
        return self.figure.value

    @property
    def told(self) -> str:
        """What the interval is over, in words."""
        return "seeds and prompts" if self.over == "both" else self.over


@dataclass(frozen=True, eq=False)
class Setting:
    """One combination of swept values.

    Args:
        number: in the order of the jobs, from 1.
        values: by the keys of `Swept.keys`.
        keys: those keys.
        jobs: all that were started with it.
        runs: of these the measured ones, one a seed.
        forget: the measure of forgetting.
    """

    number: int
    values: tuple[str, ...]
    keys: tuple[Key, ...]
    jobs: tuple[Job, ...]
    runs: tuple[Job, ...]
    forget: Measure

    @property
    def label(self) -> str:
        """Names the setting by its keys and values."""
        pairs = zip(self.keys, self.values, strict=True)
        return ", ".join(f"{key.label} = {show(value)}" for key, value in pairs)

    @property
    def names(self) -> str:
        return self.label or "the only setting"

    def of(self, key: Key) -> str:
        """Returns the setting's value of a key."""
        return next(v for k, v in zip(self.keys, self.values, strict=True) if k.path == key.path)

    @cached_property
    def _means(self) -> dict[str, Mean]:
        return {}

    def mean(self, measure: Measure) -> Mean:
        """Returns the mean of a measure over the seeds."""
        if measure.key not in self._means:
            figures = [measure.read(job.metrics) for job in self.runs]
            self._means[measure.key] = mean_over_seeds(
                figures, measure, crossed_resamples(self.runs, measure)
            )
        return self._means[measure.key]

    @cached_property
    def forgetting(self) -> Mean:
        return self.mean(self.forget)

    @cached_property
    def rise(self) -> Mean:
        return self.mean(RISE)

    @cached_property
    def broken(self) -> Mean:
        return self.mean(BROKEN)

    @cached_property
    def rank(self) -> float | None:
        """Returns the value by which settings are compared in forgetting; values below the floor
        count as equal."""
        if self.forgetting.value is None:
            return None
        floors = [least_useful(job.metrics, self.forget) for job in self.runs]
        return max(self.forgetting.value, statistics.fmean(floors))


def mean_over_seeds(figures: Sequence[Figure], measure: Measure, resampled: Any = None) -> Mean:
    """Computes the mean over the seeds that have a figure, and its 95 % interval.

    A single one keeps its own interval, which is over the prompts of that run; two are too few for
    any. From three on the interval is over seeds and prompts, see `two_level`, or, where the runs'
    folders have figures alone or the seeds were asked different prompts, Student's t over the
    seeds. One that is infinite makes the mean so. Where seeds all gave the same number, as zero
    harmful answers of fifty, the interval over prompts of the one that has the widest stands for
    them.

    Args:
        resampled: [seeds, resamples] of the figures, or None.
    """
    found = [figure for figure in figures if figure.value is not None]
    values = [figure.value for figure in found if figure.value is not None]
    if not values:
        return Mean(Figure())
    count = len(values)
    if count == 1:
        return Mean(found[0], "prompts" if found[0].has_interval else "", 1)
    mean = math.fsum(values) / count
    if not math.isfinite(mean) or count < FEWEST_SEEDS:
        return Mean(Figure(mean, n=count), "", count)
    half, over = None, cast(Over, "seeds")
    if resampled is not None and len(resampled) == count:
        half, over = half_width(values, resampled), "both"
    if half is None and len(set(values)) > 1:
        half = two_sided(count - 1) * statistics.stdev(values) / math.sqrt(count)
        over = "seeds"
    if half is None:
        return _widest(mean, found)
    low, high = max(mean - half, measure.low), min(mean + half, measure.high)
    return Mean(Figure(mean, low, high, count), over, count)


def _widest(mean: float, figures: Sequence[Figure]) -> Mean:
    """Returns a mean of equal figures with the widest of their own intervals; one without a width
    says nothing."""
    ends = [(f.low, f.high) for f in figures if f.low is not None and f.high is not None]
    low, high = max(ends, key=lambda pair: pair[1] - pair[0], default=(0.0, 0.0))
    if low == high:
        return Mean(Figure(mean, n=len(figures)), "", len(figures))
    return Mean(Figure(mean, low, high, len(figures)), "prompts", len(figures))


def group(jobs: Sequence[Job], swept: Swept, forget: Measure) -> list[Setting]:
    """Groups all jobs on one kind of forgetting into settings.

    A job without metrics, or one that was reverted, belongs where its values put it, if a measured
    one is there; with the same seed run twice, the first counts, since the second is no further
    sample.
    """
    by_values: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        by_values.setdefault(swept.of(job, swept.keys), []).append(job)
    settings: list[Setting] = []
    for values, members in by_values.items():
        about = [job for job in members if job.metrics and applies(job.metrics, forget)]
        if not about:
            continue
        by_seed: dict[tuple[str, ...], Job] = {}
        for job in about:
            by_seed.setdefault(swept.of(job, swept.seeds), job)
        number, runs = len(settings) + 1, tuple(by_seed.values())
        settings.append(Setting(number, values, swept.keys, tuple(members), runs, forget))
    return settings


def repeated(settings: Iterable[Setting]) -> list[Job]:
    """Returns measured jobs that were left out because another has the same values and seed."""
    return [job for s in settings for job in s.jobs if job.metrics and job not in s.runs]
