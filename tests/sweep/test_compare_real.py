"""A real comparison in a few steps: no prompt that a pick went by is asked in the test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

from unlearning.report.compare import read_results
from unlearning.sweep import multirun


def asked(run: Path) -> set[str]:
    lines = (run / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["prompt"] for line in lines}


@pytest.mark.slow
def test_prompts_of_trials_and_tests_are_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNLEARNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = [
        "experiment=demo", "trainer=debug", "debug.prompts=200", "evaluation.max_new_tokens=4",
        "hydra.sweeper.methods=[paper,rmu]", "+hydra.sweeper.own.rmu.method.layer=2",
        "hydra.sweeper.n_trials=1", "hydra.sweeper.seeds=1", "hydra.sweep.dir=s",
    ]  # fmt: skip
    # The judge of three steps calls nothing harmful, and the perplexity hardly moves.
    assert multirun(["-m", "hydra/sweeper=compare", *words]) == 0
    results = read_results(tmp_path / "s")
    trials = [asked(job.folder) for arm in results.arms for job in arm.trials]
    tests = [asked(job.folder) for arm in results.arms for job in arm.runs]
    assert len(trials) == len(tests) == 2
    assert len(trials[0]) > 80 and len(tests[0]) > 180
    assert not set().union(*trials) & set().union(*tests)
    assert trials[0] == trials[1] and tests[0] == tests[1]
    page = (tmp_path / "s/comparison.html").read_text(encoding="utf-8")
    assert page.count('<g class="trial') == 2 and "No verdict yet" not in page
