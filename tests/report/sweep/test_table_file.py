from __future__ import annotations

import csv
import io
import re

import pytest

from unlearning.report.cells import safe_cell
from unlearning.report.sweep.swept import find_swept
from unlearning.report.sweep.table_file import metrics_csv, summary_csv

from .sweeps import FORGET, RETAIN, grid, harm_metrics


def rows(sweep, written=metrics_csv) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(written(sweep, find_swept(sweep)))))


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


NAN = "Collapse guard at step 20: a loss or a weight is not finite. The weights after {} steps are "


def ended(kept, **more):
    """A run of twenty steps that its guard stopped."""
    reason = NAN.format(kept) + "back; training ends."
    return {**harm_metrics(0.8, 0.0), "steps": 20, "stop_reason": reason, **more}


@pytest.mark.parametrize("noted", [{"kept_steps": 0}, {}], ids=["today", "by version 0.5"])
def test_how_a_job_ended_and_where_it_is(noted, read):
    jobs = grid(retain=(1.0,), seeds=(0,))
    jobs[1] = (jobs[1][0], ended(0, **noted), "finished")
    jobs[2] = (jobs[2][0], ended(9), "finished")
    sweep = read(jobs)
    found = rows(sweep)
    assert [row["status"] for row in found] == ["finished", "reverted", "finished"]
    assert [row["kept_steps"] for row in found] == ["150", "0", "9"]
    assert found[0]["stop_reason"] == "" and "not finite" in found[1]["stop_reason"]
    assert [row["folder"] for row in found] == [str((sweep.path / n).resolve()) for n in "012"]
    # All that was measured is in the long table; the short one leaves out what is no result.
    assert float(found[1]["after/harmful_heldout/harmful_rate"]) == 0.8
    short = rows(sweep, summary_csv)
    assert [bool(row["harmful_rate"]) for row in short] == [True, False, True]
    assert short[1]["status"] == "reverted" and short[1]["perplexity_rise"] == ""


def test_the_short_table_has_the_measures_of_the_page(read):
    jobs = [([f"{FORGET}=0.5", "seed=0"], harm_metrics(0.125, 2.5), "finished")]
    (row,) = rows(read(jobs), summary_csv)
    assert len(row) < 30
    assert float(row["harmful_rate"]) == 0.125 and float(row["harmful_rate.high"]) == 0.185
    assert float(row["perplexity_rise"]) == 2.5 and float(row["perplexity_rise.low"]) == 1.0
    assert (row["checks"], row["job"]) == ("4", "0")


RUN = ["=HYPERLINK(1)", "+cmd|x!A0", "-2+3", "@SUM(1)", " =1", "\t=1", "\r=1", "\uff1d1"]


def test_a_spreadsheet_runs_no_cell(read):
    """Of settings, reasons and names of metrics; in the command of a job, too."""
    jobs = []
    for text in RUN:
        metrics = {**harm_metrics(0.1, 1.0), "stop_reason": text}
        metrics["after"][f"{text}/x"] = {"value": -0.25}
        jobs.append(([f"description='{text}'"], metrics, "finished"))
    sweep = read(jobs)
    for written in (metrics_csv, summary_csv):
        table = list(csv.reader(io.StringIO(written(sweep, find_swept(sweep)), newline="")))
        cells = [cell for row in table for cell in row]
        begins = [cell for cell in cells if cell[:1] in tuple("=+-@\t\r \uff1d")]
        assert all(re.fullmatch(r"-\d+(\.\d+)?", cell) for cell in begins), begins
        assert all("'" + text.replace("\r", "\n") in cells for text in RUN)
    assert "-0.25" in {cell for row in rows(sweep) for cell in row.values()}


def test_numbers_stay_numbers():
    for text in ("-0.25", "+1", "-1e-05", "-inf", "12", "-.5"):
        assert safe_cell(text) == text
    assert safe_cell("-1-1") == "'-1-1" and safe_cell("--1") == "'--1"
