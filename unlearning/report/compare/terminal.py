"""The results of a comparison as a table for the terminal."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from unlearning.report.compare.results import Results
from unlearning.report.figures import DASH, write_interval, write_number

WIDTH = 200  # what does not fit is the terminal's to wrap


def text_table(results: Results) -> str:
    """Returns a row a method: its picked trial, and its figures on the test prompts with their
    intervals."""
    table = Table(box=None, pad_edge=False, header_style="", show_edge=False)
    for heading in ("method", "trials", "picked"):
        table.add_column(heading)
    for measure in results.measures:
        table.add_column(measure.short, justify="right")
    for arm in results.arms:
        picked = DASH
        if arm.picked is not None:
            where = "within the budget" if arm.picked.within else "nearest to the budget"
            picked = f"job {arm.picked.trial.job}, {where}"
        figures = []
        for measure in results.measures:
            mean = results.means[arm.method, measure.key]
            interval = write_interval(mean.figure, measure.unit, measure.difference)
            value = write_number(mean.value, measure.unit, measure.difference)
            figures.append(f"{value}\n({interval})" if interval else value)
        table.add_row(arm.method, str(len(arm.trials)), picked, *figures)
    written = io.StringIO()
    Console(file=written, width=WIDTH, highlight=False, markup=False).print(table)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())
