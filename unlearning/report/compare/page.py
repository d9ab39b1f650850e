"""Writes `comparison.html`, `comparison.json` and the tables of the jobs.

What overrides, configurations and logs say is untrusted text; it reaches the page through the
template engine's escaping alone, and the page's content policy allows neither scripts nor loads.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from unlearning.files.made import Made
from unlearning.report.compare.arms import Arm
from unlearning.report.compare.contents import contents, searched
from unlearning.report.compare.differences import Difference
from unlearning.report.compare.picture import COLOURS, find_marks, picture
from unlearning.report.compare.results import Results, read_results
from unlearning.report.compare.study import RECORD
from unlearning.report.describe import describe
from unlearning.report.figures import write_number
from unlearning.report.own import is_page_or_table
from unlearning.report.page import environment
from unlearning.report.panels import Panel
from unlearning.report.sweep.rows import job_rows, link, measured
from unlearning.report.sweep.swept import find_swept
from unlearning.report.sweep.table_file import metrics_csv, summary_csv
from unlearning.report.sweep.words import show
from unlearning.report.tables import Cell, cell

PAGE = "comparison.html"


@dataclass(frozen=True)
class ArmRow:
    """A method in the page's tables.

    Args:
        colour: number of its colour in the picture.
        setting: keys and values of the picked trial.
        validation: its figures there.
        cells: the means on the test prompts, and what their intervals are over.
        ended: how many trials ended how.
        tests: links to the reports.
    """

    arm: Arm
    colour: int
    setting: tuple[tuple[str, str], ...]
    validation: tuple[Cell, ...]
    cells: tuple[tuple[Cell, str], ...]
    ended: str
    tests: tuple[tuple[str, str], ...]


def write_comparison(folder: Path) -> Path:
    """Reads a comparison's folder, and writes its page, record and tables into it atomically.

    Returns:
        The path of the page.

    Raises:
        ConfigError: a record cannot be read, or a file there was not written here or was changed.
    """
    results = read_results(Path(folder))
    swept = find_swept(results.sweep)
    texts = {
        RECORD: json.dumps(contents(results), indent=2, ensure_ascii=False) + "\n",
        "metrics.csv": metrics_csv(results.sweep, swept),
        "summary.csv": summary_csv(results.sweep, swept),
        PAGE: render(results),
    }
    files = {name: text.encode("utf-8", errors="replace") for name, text in texts.items()}
    Made(folder).write(files, recognised=is_page_or_table)
    return Path(folder) / PAGE


def render(results: Results) -> str:
    """Renders the page as text."""
    templates = environment()
    templates.filters["show"] = show
    swept, measures = find_swept(results.sweep), measured(results.sweep.jobs)
    page = templates.get_template("compare/page.html.j2").render(
        title=_title(results),
        name=results.sweep.path.resolve().name,
        typed=shlex.join(["unlearn", "-m", *results.sweep.words]),
        r=results,
        rows=[_row(results, arm, number) for number, arm in enumerate(results.arms)],
        panels=_panels(results),
        began=_began(results),
        alike=[d for d in results.differences if d.differs is not True],
        pairs=[(d, _cell(d)) for d in results.differences],
        swept=swept,
        measures=measures,
        jobs=job_rows(results.sweep, swept, measures),
    )
    return page.lstrip()


def _row(results: Results, arm: Arm, number: int) -> ArmRow:
    setting: tuple[tuple[str, str], ...] = ()
    validation: tuple[Cell, ...] = ()
    if arm.picked is not None:
        job = arm.job(arm.picked.trial.job)
        setting = tuple(searched(results, arm, job).items())
        read = ((m, m.read(job.metrics)) for m in results.main)
        validation = tuple(cell(figure, m.unit, m.difference) for m, figure in read)
    means = ((m, results.means[arm.method, m.key]) for m in results.measures)
    return ArmRow(
        arm=arm,
        colour=number % COLOURS,
        setting=setting,
        validation=validation,
        cells=tuple((cell(mean.figure, m.unit, m.difference), mean.told) for m, mean in means),
        ended=_ended([job.status for job in arm.trials]),
        tests=tuple(
            (f"seed {seed}", link(job, "report.html")) for seed, job in sorted(arm.tests.items())
        ),
    )


def _ended(statuses: Sequence[str]) -> str:
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _panels(results: Results) -> list[Panel]:
    """Draws forgetting against every part of the budget."""
    panels, goal = [], (results.main or (None,))[0]
    for limit, cost in zip(results.study.budget, results.main[1:], strict=False):
        drawn = picture(results, cost, limit.bound)
        if drawn is not None and goal is not None:
            all_trials = sum(len(arm.trials) for arm in results.arms)
            left = all_trials - len(find_marks(results, cost))
            note = f"Not drawn: {left} trials without finite figures." if left else ""
            panels.append(Panel(f"{goal.label} against {cost.in_words}", drawn, note))
    return panels


def _began(results: Results) -> str:
    """Says what the goal's figure was before, which a BLEU to a book, say, is to be held to."""
    runs = [job.metrics for arm in results.arms for job in arm.runs]
    if not runs or results.main[0].difference:
        return ""
    goal, said = results.main[0], []
    for stage, when in (("before", "before unlearning"), ("original", "before fine-tuning")):
        found = [value for metrics in runs if (value := goal.at(metrics, stage)) is not None]
        if found:
            said.append(f"{write_number(fmean(found), goal.unit)} {when}")
    return f"{goal.label}: {', '.join(said)}, on the same prompts." if said else ""


def _cell(difference: Difference) -> Cell:
    return cell(difference.figure, difference.measure.unit, True)


def _title(results: Results) -> str:
    jobs = results.sweep.jobs
    titles = {describe(job.config, job.written).title for job in jobs if job.config}
    subject = f": {titles.pop()}" if len(titles) == 1 else ""
    return f"{len(results.arms)} methods compared{subject}"
