"""Writes `metrics.csv`: one row per job, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from unlearning.report.figures import figure, number, section
from unlearning.report.stages import models
from unlearning.report.sweep.folder import Job, SweepFolder
from unlearning.report.sweep.swept import UNSET, Swept, command

_STAGES = ("original", "before", "after", "change", "change_from_original")
_WITHOUT_INTERVALS = ("original", "before")


def metrics_csv(sweep: SweepFolder, swept: Swept) -> str:
    """Returns every measured value of every job as CSV; a blank cell was not measured.

    Columns: the job, the swept keys, then `<stage>/<prompt set>/<metric>` with `.low` and `.high`
    for the ends of its 95 % interval over prompts.
    """
    rows = [{**_job(job, sweep, swept), **dict(_figures(job.metrics))} for job in sweep.jobs]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def _job(job: Job, sweep: SweepFolder, swept: Swept) -> dict[str, Any]:
    values = {k: "" if v == UNSET else v for k, v in swept.values[job.name].items()}
    objectives = {f"objective_{n}": _cell(value) for n, value in enumerate(job.objectives)}
    return {
        "job": job.name,
        "status": job.status,
        "exit_code": "" if job.exit_code is None else job.exit_code,
        "seconds": _cell(job.seconds),
        **values,
        **objectives,
        "steps": _cell(number(job.metrics.get("steps"))),
        "peak_memory_mb": _cell(number(job.metrics.get("peak_memory_mb"))),
        "command": command(sweep, swept, job),
    }


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stage in dict.fromkeys((*models(metrics), *_STAGES)):
        for name, raw in section(metrics, stage).items():
            shown = figure(raw)
            yield f"{stage}/{name}", _cell(shown.value)
            if stage not in _WITHOUT_INTERVALS and shown.has_interval:
                yield f"{stage}/{name}.low", _cell(shown.low)
                yield f"{stage}/{name}.high", _cell(shown.high)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"
