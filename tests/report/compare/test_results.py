"""What a comparison's folder says: picks, tests, verdict, and what is missing for one."""

from __future__ import annotations

import json

import pytest

from unlearning.errors import ConfigError
from unlearning.report.compare import read_results, text_table, write_comparison

from .comparisons import write_comparison_folder

GOOD = [(0.5, 1.0), (0.2, 4.0), (0.1, 20.0)]
POOR = [(0.6, 9.0), (0.1, 40.0), (None, None)]
NEAR = [(0.2, 2.0), (0.21, 2.2), (0.22, 1.8)]
FAR = [(0.5, 8.0), (0.52, 9.0), (0.51, 8.4)]
ABOVE = [(0.205, 7.0), (0.207, 7.2), (0.222, 7.1)]


def compared(folder, **how):
    methods = {"paper": (GOOD, NEAR), "npo": (GOOD, ABOVE), "rmu": (POOR, FAR)}
    return write_comparison_folder(folder, methods, **how)


def test_picks_and_verdict(tmp_path):
    results = read_results(compared(tmp_path))
    assert [(a.picked.trial.job, a.picked.within) for a in results.arms] == [
        (1, True), (7, True), (12, False),
    ]  # fmt: skip
    assert results.missing == ()
    verdict = " ".join(results.verdict)
    assert verdict.startswith("paper forgot most of those within the budget: harmful answers 21.0")
    assert "It cannot be told apart from npo." in verdict
    assert "No trial of rmu was within the budget: tested was the one nearest to it." in verdict
    assert "On the test prompts npo (+7.1\N{NO-BREAK SPACE}%) went past the budget" in verdict
    assert "rmu (" not in verdict  # which never was within it


def test_the_figures_are_of_the_test_prompts_alone(tmp_path):
    """No figure of a trial, whose harm is 0.2 and 0.6, is in a mean."""
    results = read_results(compared(tmp_path))
    means = {m: results.means[m, "harmful_rate"].value for m in results.study.methods}
    assert means == pytest.approx({"paper": 0.21, "npo": 0.6340 / 3, "rmu": 0.51})
    for arm in results.arms:
        for job in arm.runs:
            assert not [name for name in job.metrics["prompt_sets"] if "validation" in name]
        for job in arm.trials:
            assert not [name for name in job.metrics.get("prompt_sets", ()) if "heldout" in name]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"told": {"paper": 3, "npo": 3}}, "rmu: its search of 3 trials has not ended."),
        ({"told": {"paper": 3, "npo": 2, "rmu": 3}}, "npo: 2 trials have ended, and others had 3"),
        (
            {"told": {"paper": 4, "npo": 3, "rmu": 4}, "n_trials": 3},
            "npo: 3 trials have ended, and others had 4. Go on with hydra.sweeper.n_trials=4",
        ),
        ({"seeds": [1, 2, 3, 4]}, "paper: 3 of 4 tests of its setting have figures."),
    ],
)
def test_no_verdict_before_every_method_is_done(tmp_path, how, said):
    results = read_results(compared(tmp_path, **how))
    assert any(said in line for line in results.missing) and results.verdict == ()


def test_a_missing_test_or_pick_is_told(tmp_path):
    methods = {"paper": (GOOD, [*NEAR[:2], None]), "npo": ([(None, None)] * 3, [])}
    results = read_results(write_comparison_folder(tmp_path, methods))
    assert "paper: 2 of 3 tests" in results.missing[0]
    assert "npo: none of its trials has all figures" in results.missing[1]
    html = write_comparison(tmp_path).read_text()
    assert "No verdict yet." in html and 'class="said"' not in html


def test_what_is_left_of_another_pick_is_no_test(tmp_path):
    """More trials may make another pick; the runs of the one before stay, and count no more."""
    folder = compared(tmp_path)
    record = json.loads((folder / "sweep.json").read_text())
    record["jobs"]["3"]["overrides"][0] = "objective.retain.weight=77"  # a test of paper
    (folder / "sweep.json").write_text(json.dumps(record))
    results = read_results(folder)
    assert [job.name for job in results.arms[0].runs] == ["4", "5"]
    assert "paper: 2 of 3 tests" in results.missing[0]


def test_none_within_the_budget(tmp_path):
    methods = {"paper": (POOR, FAR), "npo": (POOR, FAR)}
    results = read_results(write_comparison_folder(tmp_path, methods))
    assert results.verdict[0].startswith("No method has a trial within the budget")


def test_comparison_json(tmp_path):
    write_comparison(compared(tmp_path))
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["complete"] and found["missing"] == [] and found["verdict"]
    paper = found["methods"]["paper"]
    assert paper["picked"] == {
        "job": 1, "within_budget": True, "excess": pytest.approx(-0.2),
        "setting": {"objective.retain.weight": "2.5"},
    }  # fmt: skip
    assert [t["after.harmful_validation/harmful_rate"] for t in paper["trials"]] == [0.5, 0.2, 0.1]
    assert [t["seed"] for t in paper["tests"]] == [1, 2, 3]
    assert paper["figures"]["harmful_rate"]["value"] == pytest.approx(0.21)
    alike = {(d["first"], d["second"]) for d in found["differences"] if d["differs"] is not True}
    assert ("paper", "npo") in alike and ("paper", "rmu") not in alike
    write_comparison(tmp_path)  # it reads what it wrote
    assert json.loads((tmp_path / "comparison.json").read_text()) == found


def test_another_figure_may_be_the_goal(tmp_path):
    """And is read from the set of its kind on the test prompts."""
    results = read_results(compared(tmp_path, forget="maximize after.retain_validation/perplexity"))
    assert results.arms[0].picked.trial.job == 1
    goal = results.main[0]
    assert goal.more_is_better and goal.read(results.arms[0].runs[0].metrics).value == 4.08


def test_the_terminals_table(tmp_path):
    lines = text_table(read_results(compared(tmp_path))).splitlines()
    assert lines[0].split()[:3] == ["method", "trials", "picked"]
    row = next(line for line in lines if line.startswith("rmu"))
    assert "job 12, nearest to the budget" in row and "51.0" in row and "+8.5" in row


def test_a_record_that_was_edited_is_named(tmp_path):
    (compared(tmp_path) / "comparison.json").write_text('{"study": {"space": {}}}')
    with pytest.raises(ConfigError, match=r"comparison.json cannot be read.*Was it edited"):
        read_results(tmp_path)


def test_a_trial_never_stands_for_a_test(tmp_path):
    """Not even where its seed is one of theirs."""
    arm = read_results(compared(tmp_path, seeds=[0, 1, 2])).arms[0]
    assert sorted(arm.tests) == [1, 2] and not arm.tested
