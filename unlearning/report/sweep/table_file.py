"""Writes `metrics.csv` and `summary.csv`: one row per job, for a spreadsheet or a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unlearning.report.cells import table
from unlearning.report.ending import kept_steps
from unlearning.report.figures import Figure, figure, number, section
from unlearning.report.stages import models
from unlearning.report.sweep.folder import Job, SweepFolder
from unlearning.report.sweep.rows import measured
from unlearning.report.sweep.swept import UNSET, Swept, command
from unlearning.report.verdict import verdicts

_STAGES = ("original", "before", "after", "change", "change_from_original")
_WITHOUT_INTERVALS = ("original", "before")


def metrics_csv(sweep: SweepFolder, swept: Swept) -> str:
    """Returns every measured value of every job as CSV; a blank cell was not measured.

    Columns: the job, its folder and how it ended, the swept keys, then
    `<stage>/<prompt set>/<metric>` with `.low` and `.high` for the ends of its 95 % interval over
    prompts. The figures of a reverted job are those of the model that it began with.
    """
    rows = [
        {
            **_job(job, sweep, swept),
            "peak_memory_mb": _cell(number(job.written.get("peak_memory_mb"))),
            "command": command(sweep, swept, job),
            **dict(_figures(job.written)),
        }
        for job in sweep.jobs
    ]
    return _table(rows)


def summary_csv(sweep: SweepFolder, swept: Swept) -> str:
    """Returns the measures of the sweep's page as CSV, with `.low` and `.high` as above.

    Of several held-out sets the worst speaks for a job, see `unlearning.report.sweep.measures`. A
    job that failed or was reverted has blank figures.
    """
    measures = measured(sweep.jobs)
    rows = []
    for job in sweep.jobs:
        judged = verdicts(job.metrics) if job.metrics else []
        figures = {measure.key: measure.read(job.metrics) for measure in measures}
        rows.append({
            **_job(job, sweep, swept),
            "checks_passed": sum(v.ok is True for v in judged) if judged else "",
            "checks": len(judged) if judged else "",
            **{name: text for key, each in figures.items() for name, text in _bounds(key, each)},
        })  # fmt: skip
    return _table(rows)


def _table(rows: list[dict[str, Any]]) -> str:
    return table(list(dict.fromkeys(column for row in rows for column in row)), rows)


def _job(job: Job, sweep: SweepFolder, swept: Swept) -> dict[str, Any]:
    values = {k: "" if v == UNSET else v for k, v in swept.values[job.name].items()}
    objectives = {f"objective_{n}": _cell(value) for n, value in enumerate(job.objectives)}
    kept = kept_steps(job.written)
    return {
        "job": job.name,
        "folder": (sweep.path / job.name).resolve(),
        "status": job.status,
        "exit_code": "" if job.exit_code is None else job.exit_code,
        "stop_reason": job.written.get("stop_reason") or "",
        "steps": _cell(number(job.written.get("steps"))),
        "kept_steps": "" if kept is None else kept,
        "seconds": _cell(job.seconds),
        **values,
        **objectives,
    }


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stage in dict.fromkeys((*models(metrics), *_STAGES)):
        for name, raw in section(metrics, stage).items():
            bounds = list(_bounds(f"{stage}/{name}", figure(raw)))
            yield from bounds[:1] if stage in _WITHOUT_INTERVALS else bounds


def _bounds(name: str, shown: Figure) -> Iterator[tuple[str, str]]:
    """Yields the value and, where there is an interval, its ends."""
    yield name, _cell(shown.value)
    if shown.has_interval:
        yield f"{name}.low", _cell(shown.low)
        yield f"{name}.high", _cell(shown.high)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"
