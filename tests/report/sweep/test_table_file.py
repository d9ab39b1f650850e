from __future__ import annotations

import csv
import io

from unlearning.report.sweep.swept import find_swept
from unlearning.report.sweep.table_file import metrics_csv

from .sweeps import FORGET, RETAIN, grid, harm_metrics


def rows(sweep) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(metrics_csv(sweep, find_swept(sweep)))))


def test_every_job_has_a_row_with_its_values_and_figures(read):
    jobs = grid(seeds=(0,))
    jobs[4] = (jobs[4][0], None, "failed")
    jobs[5] = (jobs[5][0], harm_metrics(0.125, 2.5), "finished")
    found = rows(read(jobs))
    assert len(found) == 9
    row = found[5]
    assert (row["job"], row["status"], row[FORGET], row[RETAIN]) == ("5", "finished", "0.25", "15")
    assert float(row["after/harmful_heldout/harmful_rate"]) == 0.125
    assert float(row["after/harmful_heldout/harmful_rate.low"]) == 0.065
    assert float(row["change/retain_heldout/perplexity_relative"]) == 2.5
    assert row["command"] == f"unlearn experiment=demo {FORGET}=0.25 {RETAIN}=15.0 seed=0"


def test_failed_jobs_have_blank_figures(read):
    jobs = grid(retain=(1.0,), seeds=(0,))
    jobs[1] = (jobs[1][0], None, "failed")
    row = rows(read(jobs))[1]
    assert (row["status"], row["exit_code"]) == ("failed", "1")
    assert row["after/harmful_heldout/harmful_rate"] == "" and row[FORGET] == "0.25"


def test_a_value_with_a_comma_stays_in_its_cell(read):
    jobs = [([f"data.forget.chapters=[1,{n}]"], harm_metrics(0.1, 1.0), "finished") for n in (5, 9)]
    assert [row["data.forget.chapters"] for row in rows(read(jobs))] == ["[1,5]", "[1,9]"]
