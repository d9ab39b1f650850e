"""Sorts the jobs of a comparison: by method, into trials and the tests of the picked setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearning.report.compare.paths import figure_at
from unlearning.report.compare.rule import Pick, Trial, pick
from unlearning.report.compare.study import Study
from unlearning.report.ending import REVERTED
from unlearning.report.figures import number
from unlearning.report.sweep.folder import Job
from unlearning.report.sweep.words import parse

PHASE = ("evaluation", "seed")
"""Keys by which the runs of one setting differ: what it is asked, and the seed."""


@dataclass(frozen=True)
class Arm:
    """One method of a comparison.

    Args:
        trials: its jobs on the validation prompts.
        picked: the trial whose setting was chosen; None where none has figures.
        tests: the runs of that setting on the test prompts, by seed.
        wanted: how many of these there should be.
    """

    method: str
    trials: tuple[Job, ...]
    picked: Pick | None
    tests: Mapping[int, Job]
    wanted: int

    @property
    def runs(self) -> list[Job]:
        """The tests that have figures, in the order of the seeds."""
        return [job for _, job in sorted(self.tests.items()) if job.metrics]

    @property
    def reverted(self) -> list[int]:
        """Seeds with which the guard put back the weights from before the first step."""
        return [seed for seed, job in sorted(self.tests.items()) if job.status == REVERTED]

    @property
    def without_steps(self) -> bool:
        """Whether the method edits weights and takes no unlearning step."""
        steps = [number(job.metrics.get("steps")) for job in self.trials if job.metrics]
        return bool(steps) and all(count == 0 for count in steps)

    @property
    def tested(self) -> bool:
        """Whether every seed has figures."""
        return self.picked is not None and len(self.runs) == self.wanted

    def job(self, name: int) -> Job:
        """Returns a trial by its job's number."""
        return next(job for job in self.trials if job.name == str(name))


def find_arms(study: Study, jobs: Sequence[Job]) -> list[Arm]:
    """Returns the methods in the order of the study, each with its jobs."""
    return [_arm(study, method, jobs) for method in study.methods]


def _arm(study: Study, method: str, jobs: Sequence[Job]) -> Arm:
    own = [job for job in jobs if values(job).get("method") == method]
    trials = [job for job in own if values(job).get("evaluation") == study.validation]
    picked = pick([_trial(study, job) for job in trials], study.goal, study.budget)
    tests: dict[int, Job] = {}
    if picked is not None:
        chosen = next(job for job in trials if job.name == str(picked.trial.job))
        for job in own:
            seed = values(job).get("seed", "")
            same = setting(job) == setting(chosen)
            if job not in trials and same and seed in map(str, study.seeds):
                tests[int(seed)] = job
    return Arm(method, tuple(trials), picked, tests, len(study.seeds))


def _trial(study: Study, job: Job) -> Trial:
    """Returns the figures of a trial; a reverted one has none of its own."""
    costs = (figure_at(job.metrics, limit.path).value for limit in study.budget)
    return Trial(int(job.name), figure_at(job.metrics, study.goal.path).value, tuple(costs))


def values(job: Job) -> dict[str, str]:
    """Returns the job's overrides by their keys."""
    return dict(filter(None, map(parse, job.overrides)))


def setting(job: Job) -> dict[str, str]:
    """Returns the job's overrides without what is asked and the seed."""
    return {key: value for key, value in values(job).items() if not _of_phase(key)}


def _of_phase(key: str) -> bool:
    return key in PHASE or key.startswith("evaluation.")
