"""Contents of `comparison.json`."""

from __future__ import annotations

import math
from typing import Any

from unlearning.report.compare.arms import Arm, values
from unlearning.report.compare.paths import figure_at
from unlearning.report.compare.results import Results
from unlearning.report.figures import Figure
from unlearning.report.sweep.folder import Job
from unlearning.version import __version__


def contents(results: Results) -> dict[str, Any]:
    """Returns everything that was found; `verdict` is null while something is missing."""
    return {
        "version": __version__,
        "study": results.study.to_json(),
        "complete": not results.missing,
        "missing": list(results.missing),
        "methods": {arm.method: _arm(results, arm) for arm in results.arms},
        "differences": [
            {
                "figure": each.measure.key, "first": each.first, "second": each.second,
                **_figure(each.figure), "differs": each.differs, "why": each.why or None,
            }
            for each in results.differences
        ],
        "verdict": list(results.verdict) or None,
    }  # fmt: skip


def _arm(results: Results, arm: Arm) -> dict[str, Any]:
    picked = arm.picked
    return {
        "trials": [_trial(results, arm, job) for job in arm.trials],
        "picked": None if picked is None else {
            "job": picked.trial.job,
            "within_budget": picked.within,
            "excess": picked.excess,
            "setting": searched(results, arm, arm.job(picked.trial.job)),
        },
        "tests": [
            {"job": int(job.name), "seed": seed, "status": job.status}
            for seed, job in sorted(arm.tests.items())
        ],
        "figures": {
            measure.key: {
                "label": measure.label,
                **_figure(results.means[arm.method, measure.key].figure),
                "over": results.means[arm.method, measure.key].told or None,
            }
            for measure in results.measures
        },
    }  # fmt: skip


def _trial(results: Results, arm: Arm, job: Job) -> dict[str, Any]:
    study = results.study
    return {
        "job": int(job.name),
        "status": job.status,
        "setting": searched(results, arm, job),
        study.goal.path: figure_at(job.metrics, study.goal.path).value,
        **{limit.path: figure_at(job.metrics, limit.path).value for limit in study.budget},
    }


def searched(results: Results, arm: Arm, job: Job) -> dict[str, str]:
    """Returns the job's values of the keys that its method may try or has set."""
    space = results.study.space[arm.method]
    return {key: value for key, value in values(job).items() if key in space}


def _figure(figure: Figure) -> dict[str, float | None]:
    return {name: _plain(getattr(figure, name)) for name in ("value", "low", "high")}


def _plain(value: float | None) -> float | None:
    """Returns null for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else None
