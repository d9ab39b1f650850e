"""The page in a browser, where there is one: its policy lets its own script run."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from unlearning.report.sweep import write_sweep_report

from .sweeps import grid, write_sweep

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_the_script_runs_under_the_pages_own_policy(tmp_path):
    page = write_sweep_report(write_sweep(tmp_path / "sweep", grid()))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'b'}"]
    done = subprocess.run(
        [str(BROWSER), *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    dom = done.stdout
    assert "Content Security Policy" not in done.stderr
    heads = re.findall(r"<th scope=\"col\"[^>]*>(?:<button|[^<])", dom)
    sortable = [head for head in heads if head.endswith("<button")]
    assert len(sortable) >= 20  # three tables; heat maps have plain headings
    assert '<form class="budget form" aria-label="Budget">' in dom  # no longer hidden
    # The same answer as the server's, and its mark in both plots.
    (chosen,) = re.findall(
        r'<article class="best" data-setting="(\d+)"[^>]*data-broken="[^"]*">', dom
    )
    marks = re.findall(r'class="mark[^"]*chosen" data-setting="(\d+)"', dom)
    assert marks == [chosen, chosen] == ["6", "6"]
    assert re.search(r'<p class="note past">', dom)  # its interval reaches past 5 %
