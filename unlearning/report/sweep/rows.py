"""The tables of the sweep's page: every job, and every setting with its means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from unlearning.report.ending import put_back
from unlearning.report.figures import DASH
from unlearning.report.sweep.folder import Job, SweepFolder
from unlearning.report.sweep.measures import MEASURES, Measure, own_measures
from unlearning.report.sweep.settings import Mean, Setting
from unlearning.report.sweep.swept import UNSET, Swept, command
from unlearning.report.sweep.words import as_number, show
from unlearning.report.tables import Cell, cell, write_seconds
from unlearning.report.verdict import verdicts


@dataclass(frozen=True)
class Sortable:
    """A cell of a table that sorts: what is shown, and what it is sorted by ("" comes last)."""

    text: str
    key: str
    title: str = ""


@dataclass(frozen=True)
class JobRow:
    """One job as the table shows it.

    Args:
        report: link to its own report, or "".
        log: link to what it printed, or "".
        why: of a job without figures, or with the weights of an earlier step.
        values: of the swept keys and seeds.
        figures: of the measures that any job has.
    """

    name: str
    report: str
    log: str
    status: str
    why: str
    values: tuple[Sortable, ...]
    figures: tuple[tuple[Cell, str], ...]
    checks: Sortable
    time: Sortable


@dataclass(frozen=True)
class SettingRow:
    """One setting: its name on the front, values, means, and the runs behind them."""

    setting: Setting
    letter: str
    values: tuple[Sortable, ...]
    means: tuple[tuple[Cell, str, str], ...]
    seeds: str
    runs: tuple[tuple[str, str], ...]
    command: str


def measured(jobs: Sequence[Job]) -> list[Measure]:
    """Returns the measures that any of the jobs has a figure of."""
    own = own_measures([job.metrics for job in jobs])
    return [
        m for m in (*MEASURES, *own) if any(m.read(job.metrics).value is not None for job in jobs)
    ]


def job_rows(sweep: SweepFolder, swept: Swept, measures: Sequence[Measure]) -> list[JobRow]:
    """Returns all jobs in their order, failed ones too."""
    return [_job_row(job, swept, measures) for job in sweep.jobs]


def _job_row(job: Job, swept: Swept, measures: Sequence[Measure]) -> JobRow:
    figures = [(m, m.read(job.metrics)) for m in measures]
    log = next((name for name in ("job.log", "run.log") if name in job.files), "")
    return JobRow(
        name=job.name,
        report=link(job, "report.html"),
        log=link(job, log) if log else "",
        status=job.status,
        why=_why(job),
        values=tuple(map(sortable, swept.of(job, (*swept.keys, *swept.seeds)))),
        figures=tuple((cell(f, m.unit, m.difference), sort_key(f.value)) for m, f in figures),
        checks=_checks(job),
        time=Sortable(write_seconds(job.seconds), sort_key(job.seconds)),
    )


def _why(job: Job) -> str:
    said = [job.problem] if job.problem else []
    if job.exit_code:
        said.append(f"Exit code {job.exit_code}.")
    said.append(put_back(job.written))
    return " ".join(filter(None, said))


def _checks(job: Job) -> Sortable:
    """Returns how many of the run report's verdicts a job passes, and which it does not."""
    judged = verdicts(job.metrics) if job.metrics else []
    if not judged:  # of a model that was evaluated as it is, there is nothing to judge
        return Sortable(DASH, "")
    passed = sum(verdict.ok is True for verdict in judged)
    others = [verdict.headline for verdict in judged if verdict.ok is not True]
    return Sortable(f"{passed} of {len(judged)}", str(passed / len(judged)), ", ".join(others))


def setting_rows(
    settings: Sequence[Setting],
    letters: Mapping[int, str],
    measures: Sequence[Measure],
    sweep: SweepFolder,
    swept: Swept,
) -> list[SettingRow]:
    """Returns the settings in the given order."""
    return [
        SettingRow(
            setting=s,
            letter=letters.get(s.number, ""),
            values=tuple(map(sortable, s.values)),
            means=tuple(_mean(s.mean(m), m) for m in measures),
            seeds=_seeds(s),
            runs=tuple((_run_name(job, swept), link(job, "report.html")) for job in s.runs),
            command=command(sweep, swept, s.runs[0]),
        )
        for s in settings
    ]


def _mean(mean: Mean, measure: Measure) -> tuple[Cell, str, str]:
    """Returns the cell, its sort key, and what its interval is over."""
    shown = cell(mean.figure, measure.unit, measure.difference)
    return shown, sort_key(mean.value), mean.over if shown.interval else ""


def _seeds(setting: Setting) -> str:
    """Returns the number of seeds, and of how many if some have no figures."""
    missing = sum(not job.metrics for job in setting.jobs)
    measured = len(setting.runs)
    return f"{measured} of {measured + missing}" if missing else str(measured)


def _run_name(job: Job, swept: Swept) -> str:
    seeds = swept.of(job, swept.seeds)
    pairs = zip(swept.seeds, seeds, strict=True)
    told = ", ".join(f"{key.label} {show(value)}" for key, value in pairs)
    return f"job {job.name}" + (f" ({told})" if told else "")


def link(job: Job, name: str) -> str:
    """Returns a relative link, so that the sweep's folder can be moved; "" where there is no
    such file."""

    return f"{quote(job.name)}/{name}" if name in job.files else ""


def sortable(value: str) -> Sortable:
    """Makes a swept value sortable."""
    number = as_number(value)
    text = DASH if value == UNSET else show(value)
    key = "" if value == UNSET else value if number is None else repr(number)
    return Sortable(text, key, value if text != value else "")


def sort_key(value: float | None) -> str:
    """Returns what the page's script reads as a number."""
    if value is None:
        return ""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return f"{value:.10g}"
