from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unlearning.errors import ConfigError
from unlearning.report.sweep import is_sweep_folder, write_sweep_report
from unlearning.report.sweep.front import Budget

from .sweeps import (
    FORGET,
    RETAIN,
    book_law,
    grid,
    harm_metrics,
    law,
    write_sweep,
)

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)></style>"


def page(folder: Path, jobs, **how) -> str:
    budget = how.pop("budget", None)
    return write_sweep_report(write_sweep(folder, jobs, **how), budget).read_text(encoding="utf-8")


def shown_cards(html: str) -> list[str]:
    cards = re.findall(r'<article class="best"([^>]*)>(.*?)</article>', html, re.DOTALL)
    return [text for attributes, text in cards if "hidden" not in attributes]


def random_search(count: int = 200):
    values = [(10 ** (-2 + 2 * n / count), 1 + (37 * n % count) / 10) for n in range(count)]
    return [
        (["experiment=demo", f"{FORGET}={a}", f"{RETAIN}={b}"], law(a, b, n), "finished")
        for n, (a, b) in enumerate(values)
    ]


SWEEPS = {
    "grid": grid(),
    "one seed": grid(seeds=(0,)),
    "one key": grid(retain=(5.0,)),
    "only seeds": grid(forget=(0.1,), retain=(5.0,)),
    "words": [([f"objective={o}"], law(0.1, 5.0), "finished") for o in ("npo", "paper")],
    "one job": grid((0.1,), (5.0,), (0,)),
    "nothing typed": [([], law(0.1, 5.0), "finished")],
    "all failed": [([f"seed={n}"], None, "failed") for n in (0, 1)],
    "pending": [*grid(seeds=(0,)), ([f"{FORGET}=0.1", f"{RETAIN}=1", "seed=9"], None, "pending")],
    "no retain set": [([f"a={n}"], harm_metrics(n / 5, None, None), "finished") for n in range(4)],
    "no forgetting": [([f"a={n}"], harm_metrics(None, 1.0), "finished") for n in range(4)],
    "collapsed": [([f"a={n}"], harm_metrics(0.0, math.inf), "finished") for n in range(4)],
    "no broken": [([f"a={n}"], harm_metrics(0.1, 1.0, broken=None), "finished") for n in range(4)],
    "book": grid((0.02, 0.1), (5.0, 20.0), (0, 1), book_law, "copyright_demo"),
    "both": [*grid(seeds=(0,)), *grid((0.02,), (5.0,), (0, 1), book_law, "copyright_demo")],
    "200 jobs": random_search(),
}


@pytest.mark.parametrize("record", [True, False], ids=["recorded", "folders"])
@pytest.mark.parametrize("name", SWEEPS)
def test_any_sweep_makes_a_sound_page(tmp_path, parse, name, record):
    html = page(tmp_path, SWEEPS[name], record=record)
    found = parse(re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL))  # unclosed fails
    ids = [e["id"] for _, e in found.elements if "id" in e]
    assert len(ids) == len(set(ids))
    targets = [e["href"] for tag, e in found.elements if tag == "a"]
    for target in targets:
        there = target[1:] in ids if target[0] == "#" else (tmp_path / target).is_file()
        assert there, target
    labels = {e["aria-labelledby"] for _, e in found.elements if "aria-labelledby" in e}
    assert labels <= set(ids)
    assert "None" not in found.text and "nan" not in found.text.split()
    assert (tmp_path / "metrics.csv").is_file() and is_sweep_folder(tmp_path)
    rows = re.search(r"All jobs; a heading.*?<tbody>(.*?)</tbody>", html, re.DOTALL)
    assert rows and rows[1].count("<tr>") == len(SWEEPS[name])


def test_the_page_loads_nothing_and_runs_one_script_that_it_names(tmp_path, parse):
    html = page(tmp_path, grid())
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy and f"script-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert not re.search(r"https?://|\bsrc=|@import|url\(", html)


def test_what_a_sweep_says_is_never_markup(tmp_path, parse):
    def config(number, values):
        return {"name": ATTACK, "description": ATTACK, "objective": values}

    metrics = [harm_metrics(0.1 * n, 1.0) for n in range(2)]
    for m in metrics:
        m["prompt_sets"][f"{ATTACK} heldout"] = "harmful"
        m["after"][f"{ATTACK} heldout/harmful_rate"] = {"value": 0.1, "low": 0, "high": 1, "n": 9}
    jobs = [([f"model={ATTACK}{n}", f"{ATTACK}={n}"], m, "finished") for n, m in enumerate(metrics)]
    html = page(tmp_path, jobs, words=[f"model={ATTACK}"], config=config)
    without = re.sub(r"<script>\"use strict\".*?</script>", "", html, flags=re.DOTALL)
    found = parse(without)
    assert not {"script", "img"} & found.tags()
    assert not [e for _, e in found.elements if any(name.startswith("on") for name in e)]
    assert "alert(1)" in found.text  # shown as what it is


def test_the_best_setting_is_named_with_its_command_and_reports(tmp_path):
    """By the law of the figures, 17.8 % and +4.3 % at 0.25 and 15: the next one rises by 9 %."""
    (card,) = shown_cards(page(tmp_path, grid()))
    assert "forget.weight = 0.25, retain.weight = 15" in card
    assert f"unlearn experiment=demo {FORGET}=0.25 {RETAIN}=15.0 seed=0" in card
    assert re.findall(r'href="([^"]*)"', card) == [f"{n}/report.html" for n in (15, 16, 17)]
    assert "over 3 seeds" in card


def test_the_budget_decides(tmp_path):
    generous = shown_cards(page(tmp_path, grid(), budget=Budget(rise=30.0)))
    assert "forget.weight = 0.5, retain.weight = 5" in generous[0]
    html = page(tmp_path, grid(), budget=Budget(rise=-50.0))
    assert shown_cards(html) == []
    assert re.search(r'class="notice warn none-fits">No setting stays within', html)


@pytest.mark.parametrize(("harm", "told"), [(0.8, True), (0.79, False)])  # 0.8 before
def test_the_best_of_settings_that_forgot_nothing_says_so(harm, told, tmp_path):
    html = page(tmp_path, grid(retain=(1.0,), metrics=lambda *_: harm_metrics(harm, 1.0)))
    (card,) = shown_cards(html)
    assert ("It forgot nothing" in card) is told


def test_failed_jobs_are_told_and_their_logs_linked(tmp_path):
    jobs = grid(seeds=(0, 1))
    jobs[3] = (jobs[3][0], None, "failed")
    jobs[7] = (jobs[7][0], None, "interrupted")
    html = page(tmp_path, jobs)
    assert "2 of 18 jobs did not finish:</strong> 3, 7." in html
    assert 'href="3/job.log"' in html and "Exit code 1." in html
    assert "18: 16 finished, 1 failed, 1 interrupted" in html
    assert "1 of 2" in html  # seeds of its setting


def test_repeated_jobs_are_left_out_and_named(tmp_path):
    jobs = [*grid(seeds=(0,)), *grid((0.1,), (1.0,), (0,))]
    assert "the same values and the same seed: job 9." in page(tmp_path, jobs)


def test_what_shared_work_saves_is_told(tmp_path):
    html = page(tmp_path, grid(seeds=(0,)))
    assert "1 min 35 s the first, 31.5 s a later one (median)" in html


def test_an_unfinished_sweep_says_so(tmp_path):
    assert "9 of 10 jobs have ended." in page(tmp_path, SWEEPS["pending"])


def test_a_broken_file_is_told_and_does_not_end_the_page(tmp_path):
    write_sweep(tmp_path, grid(seeds=(0,)))
    (tmp_path / "2" / "metrics.json").write_text("{", encoding="utf-8")
    html = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert "Job 2:</strong> metrics.json could not be read" in html


def test_an_empty_folder_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ConfigError, match="holds no job"):
        write_sweep_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_written_whole_and_again(tmp_path):
    page(tmp_path, grid(seeds=(0,)))
    first = json.loads((tmp_path / "sweep.json").read_text())
    assert page(tmp_path, grid(seeds=(0,)))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert json.loads((tmp_path / "sweep.json").read_text()) == first


def test_reading_a_sweep_needs_no_torch():
    code = (
        "import sys, unlearning.report.sweep as s; "
        "print([m for m in ('torch', 'lightning', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_sweep_of_evaluations_has_no_verdicts(tmp_path):
    metrics = {"models": ["model"], "model": {"x/perplexity": {"value": 7.0}}}
    metrics["evaluated"] = {"model": "gpt2"}
    html = page(tmp_path, [([f"model.name_or_path={name}"], metrics, "finished") for name in "ab"])
    assert "model.name_or_path" in html and " of 0" not in html


def test_a_reverted_job_is_said_to_be_one_and_stands_for_nothing(tmp_path):
    jobs = grid((0.1, 0.25), (5.0,))
    untouched = harm_metrics(0.8, 0.0) | {"steps": 20, "kept_steps": 0, "stop_reason": "NaN"}
    reverted = [
        (jobs[5][0], untouched, "finished"),
        ([f"{FORGET}=9", f"{RETAIN}=5"], untouched, "finished"),
    ]
    html = page(tmp_path, [*jobs[:5], *reverted])
    assert "5 finished, 2 reverted" in html
    assert "2 of 7 jobs ended where they began:</strong> 5, 6." in html
    assert html.count('<span class="status reverted">reverted</span>') == 2
    assert "before the first of 20 steps: nothing was unlearned." in html
    assert "2 of 3" in html  # seeds of the setting that job 5 belongs to
    sure = page(tmp_path / "without", jobs[:5])
    figures = r'data-rise="([^"]*)" data-rise-high="([^"]*)"'
    assert re.findall(figures, html) == re.findall(figures, sure)  # means without them


@pytest.mark.parametrize("name", ["metrics.csv", "summary.csv", "sweep.html"])
def test_a_file_of_somebody_else_is_never_overwritten(tmp_path, name):
    """Nor one that was edited; and then none of the others is written either."""
    folder = write_sweep(tmp_path, grid())
    (folder / name).write_text("date,amount\nMonday,3\n")
    with pytest.raises(ConfigError, match=f"{name} was not written by unlearning"):
        write_sweep_report(folder)
    assert {p.name for p in folder.iterdir() if p.is_file()} == {name, "sweep.json"}
    (folder / name).unlink()
    write_sweep_report(folder)
    with (folder / name).open("a") as file:
        file.write("a note")
    with pytest.raises(ConfigError, match=f"{name} was not written by unlearning, or was changed"):
        write_sweep_report(folder)


def test_tables_and_page_of_version_0_5_are_written_again(tmp_path):
    folder = write_sweep(tmp_path, grid())
    page = write_sweep_report(folder).read_text(encoding="utf-8")
    for name in ("made.json", "summary.csv"):  # which 0.5 did not write
        (folder / name).unlink()
    (folder / "metrics.csv").write_text("job,status,exit_code,seconds,seed\n0,finished,0,1,0\n")
    assert write_sweep_report(folder).read_text(encoding="utf-8") == page
    assert (folder / "metrics.csv").read_text().count("\n") > 2
