"""A comparison of methods over stand-ins: fair shares, picks, tests, and going on after a kill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sweep.conftest import calls, jobs

optuna = pytest.importorskip("optuna")
pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

from unlearning.report.compare import read_results  # noqa: E402
from unlearning.sweep import multirun, processes  # noqa: E402

STAND_IN = Path(__file__).with_name("compare_stand_in.py")
COMPARE = ["-m", "hydra/sweeper=compare", "experiment=demo", "hydra.sweep.dir=s"]
TWO = [*COMPARE, "hydra.sweeper.methods=[paper,npo]", "hydra.sweeper.n_trials=2"]
LEFT_OUT = "evaluation.prompt_sets.related=null"


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Every job is a stand-in; works in an empty folder, which it returns."""
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, str(STAND_IN)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words_of(sweep: Path) -> list[dict[str, str]]:
    """The first command line of every job."""
    found = [calls(sweep / str(number))[0]["words"] for number in sorted(jobs(sweep))]
    return [dict(word.split("=", 1) for word in words) for words in found]


def parts(sweep: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Trials and tests."""
    words = words_of(sweep)
    trials = [each for each in words if each.get("evaluation") == "validation"]
    return trials, [each for each in words if each not in trials]


def told_to(sweep: Path, method: str) -> int:
    return len(optuna.load_study(method, f"sqlite:///{sweep}/study.db").trials)


def test_every_method_has_the_same_trials_steps_and_seeds(runs, capsys):
    command = [
        *COMPARE, "hydra.sweeper.methods=[paper,npo,task_vector]", "hydra.sweeper.n_trials=3",
        "+hydra.sweeper.own.npo.objective.forget.options.beta=0.2", LEFT_OUT, "seed=5",
        "unlearn.max_steps=40", "unlearn.learning_rate=interval(1e-4,1e-3)",
    ]  # fmt: skip
    assert multirun(command) == 0
    trials, tests = parts(runs / "s")
    methods = {"paper": 3, "npo": 3, "task_vector": 3}
    assert Counter(each["method"] for each in trials) == methods
    assert Counter(each["method"] for each in tests) == methods  # three seeds
    assert [told_to(runs / "s", method) for method in methods] == [3, 3, 3]
    assert {each["unlearn.max_steps"] for each in (*trials, *tests)} == {"40"}
    assert {each["seed"] for each in trials} == {"5"}
    assert sorted(each["seed"] for each in tests) == sorted("678" * 3)
    searched = {"unlearn.learning_rate", "objective.retain.weight"}
    for each in (*trials, *tests):
        own = searched if each["method"] != "task_vector" else {"method.alpha"}
        assert own == set(each) & {*searched, "method.alpha"}
        beta = each.get("objective.forget.options.beta")
        assert beta == ("0.2" if each["method"] == "npo" else None)
    drawn = {
        method: {e["unlearn.learning_rate"] for e in trials if e["method"] == method}
        for method in ("paper", "npo")
    }
    assert all(1e-4 <= float(rate) <= 1e-3 for rate in drawn["paper"])
    assert len(drawn["paper"] & drawn["npo"]) >= 2, "the first draws are not the same"
    printed = capsys.readouterr().out
    assert "nearest to the budget" in printed  # the stand-in's task vector
    assert (runs / "s/comparison.html").is_file() and not (runs / "s/sweep.html").exists()
    assert not (runs / "s/optimization_results.yaml").exists()


def test_the_picked_setting_alone_is_tested_and_on_other_prompts(runs):
    assert multirun([*TWO, LEFT_OUT]) == 0
    results = read_results(runs / "s")
    trials, tests = parts(runs / "s")
    assert all("evaluation" not in each and each[LEFT_OUT[:-5]] == "null" for each in tests)
    assert all(LEFT_OUT[:-5] not in each for each in trials)  # that evaluation has no such set
    for arm in results.arms:
        chosen = words_of(runs / "s")[arm.picked.trial.job]
        mine = [each for each in tests if each["method"] == arm.method]
        for key in ("unlearn.learning_rate", "objective.retain.weight"):
            assert {each[key] for each in mine} == {chosen[key]}
        # By the stand-in's law the one with the least weight on retaining whose rise is 5 or less.
        fits = [t for t in trials if t["method"] == arm.method and arm.picked.within]
        least = min(float(t["objective.retain.weight"]) for t in fits)
        assert float(chosen["objective.retain.weight"]) == least
    asked = [set(job.metrics["prompt_sets"]) for arm in results.arms for job in arm.runs]
    assert asked == [{"harmful_heldout", "retain_heldout"}] * 6


def test_the_grid_of_the_demo_is_tried_whole(runs):
    command = [*COMPARE, "hydra/sweeper=compare_demo", "hydra.sweeper.methods=[paper,rmu]"]
    command.remove("hydra/sweeper=compare")
    assert multirun(command) == 0
    trials, tests = parts(runs / "s")
    tried = {method: [e for e in trials if e["method"] == method] for method in ("paper", "rmu")}
    searched = {"paper": "objective.retain.weight", "rmu": "method.scale"}
    for method, key in searched.items():
        pairs = {(e["unlearn.learning_rate"], e[key]) for e in tried[method]}
        assert len(pairs) == len(tried[method]) == 4
        assert [len(set(each)) for each in zip(*pairs, strict=True)] == [2, 2]
    assert {e["method.layer"] for e in tried["rmu"]} == {"2"}
    assert len(tests) == 6


def test_the_demo_compares_every_method_that_it_can():
    conf = Path(__file__).parents[2] / "conf"
    sweeper = OmegaConf.load(conf / "hydra/sweeper/compare_demo.yaml")
    named = {path.stem for path in (conf / "method").glob("*.yaml")}
    presets = {name for name in named if name.startswith(("bounded_", "to_", "match_"))}
    assert set(sweeper.methods) == named - presets - {"dpo", "loku"}
    assert set(sweeper.own) <= set(sweeper.methods)


def test_failed_and_reverted_trials_are_told_and_not_run_again(runs, monkeypatch, capsys):
    monkeypatch.setenv("FAIL_ABOVE", "9")  # draws are 9.3 and 4.7
    assert multirun(TWO) == 0
    printed = capsys.readouterr().out
    assert "job 0 failed (exit code 1)" in printed and "forgot most" in printed
    found = json.loads((runs / "s/comparison.json").read_text())
    assert found["complete"]
    for arm in found["methods"].values():
        assert sorted(trial["status"] for trial in arm["trials"]) == ["failed", "finished"]
    monkeypatch.delenv("FAIL_ABOVE")
    assert multirun(["-m", "sweep.resume=s"]) == 0
    assert {len(calls(runs / f"s/{n}")) for n in jobs(runs / "s")} == {1}


def test_where_every_trial_fails_there_is_no_verdict(runs, monkeypatch, capsys):
    monkeypatch.setenv("REVERT_ABOVE", "0")
    assert multirun(TWO) == 1
    printed = capsys.readouterr().out
    assert "No verdict yet: paper: none of its trials has all figures" in printed
    assert [job["status"] for job in jobs(runs / "s").values()] == ["reverted"] * 4


def test_a_failed_test_runs_again_and_only_then_there_is_a_verdict(runs, monkeypatch, capsys):
    assert multirun([*TWO, "hydra.sweeper.seeds=2"]) == 0
    number = max(jobs(runs / "s"))
    record = json.loads((runs / "s/sweep.json").read_text())
    record["jobs"][str(number)] |= {"status": "failed", "exit_code": 1}
    (runs / "s/sweep.json").write_text(json.dumps(record))
    (runs / f"s/{number}/metrics.json").unlink()
    (runs / f"s/{number}/config.yaml").unlink()
    monkeypatch.setenv("FAIL_ABOVE", "0")
    capsys.readouterr()
    assert multirun(["-m", "sweep.resume=s"]) == 1
    printed = capsys.readouterr().out
    assert "No verdict yet: npo: 1 of 2 tests" in printed and "forgot most" not in printed
    monkeypatch.delenv("FAIL_ABOVE")
    assert multirun(["-m", "sweep.resume=s"]) == 0
    printed = capsys.readouterr().out
    assert "forgot most" in printed and "not known (fewer than 3 seeds)" in printed
    counts = [len(calls(runs / f"s/{n}")) for n in sorted(jobs(runs / "s"))]
    assert counts == [*[1] * number, 3]


@pytest.mark.parametrize("begun", [3, 6])  # in the search of the second method, in the tests
def test_killed_and_gone_on_with_it_repeats_nothing(runs, begun):
    code = (
        "import sys\nfrom unlearning.sweep import multirun, processes\n"
        f"processes.COMMAND = [sys.executable, {str(STAND_IN)!r}]\n"
        "sys.exit(multirun(sys.argv[1:]))"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, *TWO, "hydra.launcher.n_jobs=1"],
        env={**os.environ, "KILL_AT": str(begun)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert killed.returncode == -9
    before = {n: (runs / f"s/{n}/metrics.json").stat().st_mtime_ns for n in range(begun - 1)}
    assert not (runs / f"s/{begun - 1}/metrics.json").exists()
    assert multirun(["-m", "sweep.resume=s"]) == 0
    assert {n: (runs / f"s/{n}/metrics.json").stat().st_mtime_ns for n in before} == before
    started = {n: len(calls(runs / f"s/{n}")) for n in jobs(runs / "s")}
    assert started == {n: 2 if n == begun - 1 else 1 for n in range(10)}
    trials, tests = parts(runs / "s")
    assert Counter(each["method"] for each in trials) == {"paper": 2, "npo": 2}
    assert Counter(each["method"] for each in tests) == {"paper": 3, "npo": 3}


def test_more_trials_later_are_more_for_all(runs):
    assert multirun([*TWO, "hydra.sweeper.seeds=1"]) == 0
    assert multirun(["-m", "sweep.resume=s", "hydra.sweeper.n_trials=3"]) == 0
    trials, _ = parts(runs / "s")
    assert Counter(each["method"] for each in trials) == {"paper": 3, "npo": 3}
    assert {len(calls(runs / f"s/{n}")) for n in jobs(runs / "s")} == {1}


def test_a_path_that_no_trial_has_ends_it_after_one_method(runs, capsys):
    words = ["hydra.sweeper.forget=minimize after.harmful_validation/harmfull_rate"]
    assert multirun([*TWO, *words]) == 2
    error = capsys.readouterr().err
    assert "None of the 2 finished trials of paper has all of after.harmful_validation/h" in error
    assert len(jobs(runs / "s")) == 2


BOOK = [
    "-m", "hydra/sweeper=compare", "experiment=copyright_demo", "hydra.sweep.dir=s",
    "hydra.sweeper.methods=[paper,npo]", "hydra.sweeper.n_trials=2", "hydra.sweeper.seeds=1",
    "hydra.sweeper.validation=copyright_validation",
    "hydra.sweeper.forget=minimize after.book_validation/bleu_to_target",
    "hydra.sweeper.budget=['change_from_original.retain_validation/perplexity_relative <= 5']",
]  # fmt: skip
IN_PART = "evaluation.prompt_sets.{}.part"


def test_of_what_was_taught_a_part_chooses_and_the_other_reports(runs):
    assert multirun(BOOK) == 0
    words = words_of(runs / "s")
    trials = [each for each in words if each.get("evaluation") == "copyright_validation"]
    tests = [each for each in words if each not in trials]
    parts_of = [f"++{IN_PART.format(name)}" for name in ("book_train", "retain_heldout")]
    assert len(trials) == 4 and len(tests) == 2
    assert all(each[key] == "test" for each in tests for key in parts_of)
    assert not any(IN_PART.format("")[:12] in key for each in trials for key in each)
    results = read_results(runs / "s")
    assert results.study.in_parts == ["book_train", "retain_heldout"] and not results.missing
    assert [measure.key for measure in results.main] == ["bleu_to_target", "perplexity_rise"]
    for arm in results.arms:  # each figure is of the sets of its own phase
        assert results.main[0].sets(arm.trials[0].metrics) == ["book_validation"]
        assert results.main[0].sets(arm.runs[0].metrics) == ["book_train"]
    page = (runs / "s/comparison.html").read_text(encoding="utf-8")
    assert "as book_train and retain_heldout; all that was taught is unlearned." in page
    assert "BLEU to the book: 50.0 before unlearning, 2.0 before fine-tuning" in page
    assert multirun(["-m", "sweep.resume=s"]) == 0
    assert {len(calls(runs / f"s/{n}")) for n in jobs(runs / "s")} == {1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+evaluation.prompt_sets.book_train.part=validation"], "book_validation asks prompts of"),
        (["evaluation.prompt_sets.book_train.split=all"], "book_validation asks prompts of the tr"),
        (["evaluation.prompt_sets.book_train=null"], "asks no prompt set of taught passages"),
    ],
)
def test_a_book_that_cannot_be_compared_is_one_sentence(words, said, runs, capsys):
    assert multirun([*BOOK, *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(runs.glob("s/*/calls.jsonl"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.sweeper.methods=[paper]"], "must be two or more different choices"),
        (["hydra.sweeper.methods=[npo,npo]"], "must be two or more different choices"),
        (["hydra.sweeper.methods=[npo,nope]"], "there is no method=nope; there is adaptive_rmu"),
        (["hydra.sweeper.n_trials=0"], "n_trials=0 must be a whole number"),
        (["hydra.sweeper.seeds=0"], "seeds=0 must be a whole number"),
        (["hydra.sweeper.validation=none"], "there is no evaluation=none"),
        (["hydra.sweeper.validation=default"], "harmful_train asks prompts of the train split"),
        (["hydra.sweeper.forget=after.x"], "hydra.sweeper.forget='after.x' must be"),
        (["hydra.sweeper.budget=[after.x]"], "hydra.sweeper.budget: 'after.x' must be"),
        (["hydra.sweeper.forget=minimize after.x/y"], "not asked a prompt set 'x'"),
        (["method=npo"], "method=npo: the methods are those of"),
        (["seed=0,1"], "seed=0,1: it is no part of a method"),
        (["+hydra.sweeper.own.npo.evaluation.max_new_tokens=9"], "it is no part of a method"),
        (["+hydra.sweeper.own.npo.unlearn.max_steps=90"], "max_steps is 90 for npo and 150"),
        (["+hydra.sweeper.own.npo.callbacks.guard.retain_kl=9"], "equal terms: callbacks is"),
        (["+hydra.sweeper.own.nope.method.x=9"], "hydra.sweeper.own: there is no method=nope"),
        (
            ["unlearn.learning_rate=1e-4", "objective.retain.weight=1"],
            "nothing to search for paper",
        ),
        (["unlearn.learning_rate=interval(-1,1)"], "paper with .*unlearn.learning_rate"),
        (["sweep.objectives=[x]"], "leave out sweep.objectives"),
        (["hydra/launcher=basic"], "BasicLauncher does not keep"),
        (["hydra.sweeper.methods=null"], "two or more"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_before_any_job(words, said, runs, capsys):
    assert multirun([*TWO, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(said, error), error
    assert not list((runs).glob("s/*/calls.jsonl"))


def test_a_key_that_a_method_lacks_is_named_with_the_remedy(runs, capsys):
    assert multirun([*TWO, "+hydra.sweeper.own.npo.objective.x.weight=1"]) == 2
    assert "npo: {objective.x.weight: null}" in capsys.readouterr().err
