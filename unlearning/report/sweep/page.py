"""Writes `sweep.html`, `metrics.csv` and `summary.csv`, readable without a network.

What overrides, configurations and logs say is untrusted text, as in the report of a run. It reaches
the page through the template engine's escaping alone, and the page's content policy runs no script
but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

from unlearning.files.made import Made
from unlearning.report.describe import describe
from unlearning.report.ending import REVERTED
from unlearning.report.own import is_page_or_table
from unlearning.report.page import environment
from unlearning.report.sweep.blocks import find_blocks
from unlearning.report.sweep.folder import Job, SweepFolder, read_sweep_folder
from unlearning.report.sweep.front import Budget
from unlearning.report.sweep.heat import LEVELS
from unlearning.report.sweep.rows import job_rows, measured
from unlearning.report.sweep.swept import Swept, find_swept
from unlearning.report.sweep.table_file import metrics_csv, summary_csv
from unlearning.report.sweep.words import show
from unlearning.report.tables import write_seconds

PAGE, TABLE, SUMMARY = "sweep.html", "metrics.csv", "summary.csv"
_SCRIPT = Path(__file__).with_name("page.js")


def write_sweep_report(folder: Path, budget: Budget | None = None) -> Path:
    """Reads a sweep folder, and writes the page and its two tables into it atomically.

    Args:
        folder: holds one run folder a job and, if our own launcher ran it, `sweep.json`.
        budget: what the page opens with; its reader can change it.

    Returns:
        The path of the page.

    Raises:
        ConfigError: the folder holds no jobs, its record cannot be parsed, or there is a
            page or table of that name that was not written here, or was changed since.
    """
    sweep = read_sweep_folder(Path(folder))
    swept = find_swept(sweep)
    page = render(sweep, swept, budget or Budget())
    texts = {TABLE: metrics_csv(sweep, swept), SUMMARY: summary_csv(sweep, swept), PAGE: page}
    # A lone surrogate cannot be encoded; it becomes a question mark.
    contents = {name: text.encode("utf-8", errors="replace") for name, text in texts.items()}
    Made(sweep.path).write(contents, recognised=is_page_or_table)
    return sweep.path / PAGE


def render(sweep: SweepFolder, swept: Swept, budget: Budget) -> str:
    """Renders the page as text."""
    templates = environment()
    templates.filters["show"] = show
    script = _SCRIPT.read_text(encoding="utf-8")
    measures = measured(sweep.jobs)
    return (
        templates.get_template("sweep/page.html.j2")
        .render(
            script=Markup(script),  # ours, and the only text on the page that is not escaped
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            title=_title(sweep),
            date=_finished(sweep),
            name=sweep.path.resolve().name,
            typed=shlex.join(["unlearn", "-m", *sweep.words]) if sweep.words else "",
            swept=swept,
            complete=sweep.recorded or bool(sweep.words),
            counts=_counts(sweep.jobs),
            total_time=_total(sweep.jobs),
            time_note=_time_note(sweep.jobs),
            budget=budget,
            blocks=find_blocks(sweep, swept, budget),
            levels=range(LEVELS),
            measures=measures,
            jobs=job_rows(sweep, swept, measures),
        )
        .lstrip()
    )


def _title(sweep: SweepFolder) -> str:
    titles = {describe(job.config, job.written).title for job in sweep.jobs if job.config}
    return titles.pop() if len(titles) == 1 else f"Sweep {sweep.path.resolve().name}"


def _finished(sweep: SweepFolder) -> str:
    """Returns when the last job that has metrics wrote them."""
    files = [sweep.path / job.name / "metrics.json" for job in sweep.jobs if job.written]
    if not files:
        return ""
    last = max(path.stat().st_mtime for path in files)
    return f"{datetime.fromtimestamp(last, tz=UTC):%d %B %Y, %H:%M} UTC"


def _counts(jobs: Sequence[Job]) -> Mapping[str, Any]:
    """Describes how many jobs ended how, and which failed."""
    by_status = Counter(job.status for job in jobs)
    order = ("finished", REVERTED, "failed", "interrupted", "running", "pending")
    known = [status for status in order if by_status[status]]
    ordered = [*known, *(status for status in by_status if status not in order)]
    return {
        "all": len(jobs),
        "text": ", ".join(f"{by_status[status]} {status}" for status in ordered),
        "failed": [job.name for job in jobs if job.status in ("failed", "interrupted")],
        "reverted": [job.name for job in jobs if job.status == REVERTED],
        "open": sum(by_status[status] for status in ("running", "pending", "unknown")),
        "unreadable": [(job.name, job.problem) for job in jobs if job.problem],
    }


def _total(jobs: Sequence[Job]) -> str:
    known = [job.seconds for job in jobs if job.seconds is not None]
    return write_seconds(sum(known)) if known else ""


def _time_note(jobs: Sequence[Job]) -> str:
    """Describes the time of a job without the work that all jobs share."""
    known = [job.seconds for job in jobs if job.seconds is not None and job.written]
    if len(known) < 2:
        return ""
    first, rest = known[0], median(known[1:])
    return f"{write_seconds(first)} the first, {write_seconds(rest)} a later one (median)"
