"""Groups runs that differ only in their seed into settings, with means over the seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from unlearning.report.figures import Figure
from unlearning.report.sweep.folder import Job
from unlearning.report.sweep.measures import BROKEN, RISE, Measure, applies, least_useful
from unlearning.report.sweep.students_t import two_sided
from unlearning.report.sweep.swept import Key, Swept
from unlearning.report.sweep.words import show

Over = Literal["seeds", "prompts", ""]


@dataclass(frozen=True)
class Mean:
    """A figure of a setting, and what its interval is over: seeds, or one run's prompts."""

    figure: Figure
    over: Over = ""
    seeds: int = 0

    @property
    def value(self) -> float | None:
        return self.figure.value


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

    def mean(self, measure: Measure) -> Mean:
        """Returns the mean of a measure over the seeds."""
        return mean_over_seeds([measure.read(job.metrics) for job in self.runs], measure)

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


def mean_over_seeds(figures: Iterable[Figure], measure: Measure) -> Mean:
    """Computes mean and 95 % t interval over the seeds that have a figure.

    A single one keeps its own interval, which is over the prompts of that run. One that is
    infinite makes the mean so. Seeds that all gave the same number, as zero harmful answers of
    fifty, would have an interval of no width, which nobody should believe: there is none.
    """
    found = [figure for figure in figures if figure.value is not None]
    values = [figure.value for figure in found if figure.value is not None]
    if not values:
        return Mean(Figure())
    if len(values) == 1:
        return Mean(found[0], "prompts" if found[0].has_interval else "", 1)
    mean = math.fsum(values) / len(values)
    if not math.isfinite(mean) or len(set(values)) == 1:
        return Mean(Figure(mean, n=len(values)), "", len(values))
    half = two_sided(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    low, high = max(mean - half, measure.low), min(mean + half, measure.high)
    return Mean(Figure(mean, low, high, len(values)), "seeds", len(values))


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
