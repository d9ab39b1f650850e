"""What a comparison found: figures of every method with intervals, differences, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unlearning.report.compare.arms import Arm, find_arms
from unlearning.report.compare.differences import Difference, differences
from unlearning.report.compare.paths import measure_of
from unlearning.report.compare.study import Study, read_study
from unlearning.report.compare.verdict import left_to_do, verdict
from unlearning.report.sweep.folder import SweepFolder, read_sweep_folder
from unlearning.report.sweep.measures import FORGETTING, Measure
from unlearning.report.sweep.rows import measured
from unlearning.report.sweep.settings import Mean, mean_over_seeds
from unlearning.report.sweep.two_level import crossed_resamples


@dataclass(frozen=True)
class Results:
    """All that the page, the table in the terminal and `comparison.json` say.

    Args:
        main: the measures of the goal and of the budget; empty before any trial has ended.
        measures: those and what else was measured on the test prompts.
        means: by method and the measure's key.
        missing: what there still has to be before there is a verdict, in sentences.
        verdict: in sentences; empty while something is missing.
    """

    study: Study
    sweep: SweepFolder
    arms: tuple[Arm, ...]
    main: tuple[Measure, ...]
    measures: tuple[Measure, ...]
    means: dict[tuple[str, str], Mean]
    differences: tuple[Difference, ...]
    missing: tuple[str, ...]
    verdict: tuple[str, ...]


def read_results(folder: Path) -> Results:
    """Reads a comparison's folder, which may be unfinished.

    Raises:
        ConfigError: its records cannot be read.
    """
    study, sweep = read_study(folder), read_sweep_folder(folder)
    arms = find_arms(study, sweep.jobs)
    main = _main(study, arms)
    runs = [job for arm in arms for job in arm.runs]
    keys = {measure.key for measure in main}
    others = [m for m in measured(runs) if m.key not in keys and m not in FORGETTING]
    measures = [*main, *others]
    means = {
        (arm.method, measure.key): mean_over_seeds(
            [measure.read(job.metrics) for job in arm.runs],
            measure,
            crossed_resamples(arm.runs, measure) if arm.runs else None,
        )
        for arm in arms
        for measure in measures
    }
    pairs = differences([arm for arm in arms if arm.runs], main)
    missing = left_to_do(study, arms)
    said = [] if missing else verdict(study, arms, main, means, pairs)
    return Results(
        study, sweep, tuple(arms), tuple(main), tuple(measures), means, tuple(pairs),
        tuple(missing), tuple(said),
    )  # fmt: skip


def _main(study: Study, arms: Sequence[Arm]) -> list[Measure]:
    """Returns the measures of the goal and of every part of the budget."""
    trial = next((job.metrics for arm in arms for job in arm.trials if job.metrics), None)
    if trial is None:
        return []
    goal = measure_of(study.goal.path, trial, study.goal.direction == "maximize")
    costs = [measure_of(limit.path, trial, limit.sign == ">=") for limit in study.budget]
    return [goal, *costs]
