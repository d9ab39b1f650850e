"""A real comparison in a few steps: no prompt that a pick went by is asked in the test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

from run.small import SMALL

from unlearning.data import StoryDataModule
from unlearning.report.compare import read_results
from unlearning.sweep import multirun


def asked(run: Path) -> set[str]:
    lines = (run / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["prompt"] for line in lines}


def compared(folder, monkeypatch, *words: str):
    """Trials and tests of two methods, and what each was asked."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UNLEARNING_CACHE", str(folder / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    common = ["trainer=debug", "evaluation.max_new_tokens=4",
              "hydra.sweeper.n_trials=1", "hydra.sweeper.seeds=1", "hydra.sweep.dir=s"]  # fmt: skip
    assert multirun(["-m", "hydra/sweeper=compare", *words, *common]) == 0
    results = read_results(folder / "s")
    trials = [asked(job.folder) for arm in results.arms for job in arm.trials]
    tests = [asked(job.folder) for arm in results.arms for job in arm.runs]
    assert len(trials) == len(tests) == 2
    assert trials[0] == trials[1] and tests[0] == tests[1]
    assert not set().union(*trials) & set().union(*tests)
    page = (folder / "s/comparison.html").read_text(encoding="utf-8")
    assert page.count('<g class="trial') == 2 and "No verdict yet" not in page
    return trials[0], tests[0]


@pytest.mark.slow
def test_prompts_of_trials_and_tests_are_apart(tmp_path, monkeypatch):
    """The judge of three steps calls nothing harmful, and the perplexity hardly moves."""
    trials, tests = compared(
        tmp_path, monkeypatch, "experiment=demo", "debug.prompts=200",
        "hydra.sweeper.methods=[paper,rmu]", "+hydra.sweeper.own.rmu.method.layer=2",
    )  # fmt: skip
    assert len(trials) > 80 and len(tests) > 180


@pytest.mark.slow
def test_passages_of_a_book_that_choose_are_in_no_test_and_all_are_unlearned(tmp_path, monkeypatch):
    trials, tests = compared(
        tmp_path, monkeypatch, "experiment=copyright_demo", *SMALL, "debug.steps=2",
        "debug.prompts=12", "hydra.launcher.n_jobs=2",
        "hydra.sweeper.methods=[npo,graddiff]",
        "hydra.sweeper.validation=copyright_validation",
        "hydra.sweeper.forget=minimize after.book_validation/bleu_to_target",
        "hydra.sweeper.budget=['change_from_original.retain_validation/perplexity_relative <= 5']",
    )  # fmt: skip
    taught = {e.conversation for e in StoryDataModule(chapters=[1, 10]).examples("train")}
    assert len(trials & taught) == len(tests & taught) == 12
    for job in range(4):
        noted = json.loads((tmp_path / f"s/{job}/fingerprints.json").read_text())
        assert noted["forget"] == StoryDataModule(chapters=[1, 10]).fingerprint()
