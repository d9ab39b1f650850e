"""A benchmark of one's own in a run: a file of records, a file of code, and YAML."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from unlearning.metrics.generations import read_generations
from unlearning.run.config.build import build_data
from unlearning.run.config.prompt_sets import prompt_sets
from unlearning.run.pipeline import run

MODULE = """
from unlearning.metrics.metric import metric


@metric("Shouted answers", unit="fraction", direction="lower")
def shouted(answers):
    return [g.completion.endswith("!") for g in answers]
"""


@pytest.mark.slow
def test_a_run_with_a_set_of_its_own(compose_config, tmp_path, monkeypatch):
    """From YAML to the report: a benchmark in one file of records, metrics in one of code."""
    (tmp_path / "my_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [{"q": f"Is {n} a number?", "options": ["yes", "no"], "label": "A"} for n in range(5)]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = compose_config("experiment=demo", "trainer=debug", f"cache_dir={tmp_path}/cache")
    OmegaConf.set_struct(config, False)
    config.evaluation.prompt_sets.facts = {
        "source": {
            "_target_": "unlearning.data.JsonlDataModule", "source": str(tmp_path / "facts.jsonl"),
            "prompt_column": "q", "response_column": None, "alternatives": {"choices": "options"},
            "label_column": "label", "fractions": [1.0, 0.0, 0.0],
        },
        "metrics": ["unlearning.metrics.choice.choice_accuracy"],
    }  # fmt: skip
    config.evaluation.prompt_sets.harmful_heldout.metrics = ["my_metrics.shouted"]
    config.evaluation.aggregates = {
        "utility": {
            "metric": "unlearning.metrics.harmonic_mean.harmonic_mean", "label": "Utility",
            "of": ["facts/choice_accuracy", "retain_heldout/rouge_l_to_target"],
        }
    }  # fmt: skip
    assert len(prompt_sets(config, build_data(config))) == 5
    page = run(config, tmp_path / "run").read_text()
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    keys = {"facts/choice_accuracy", "harmful_heldout/shouted", "aggregates/utility"}
    assert keys <= metrics["before"].keys() & metrics["after"].keys()
    assert metrics["prompt_sets"]["facts"]["generated"] is False
    card = (tmp_path / "run/model/README.md").read_text()
    for label in ("Right choices", "Shouted answers", "Utility"):
        assert label in page and label in card
    lines = read_generations(tmp_path / "run/generations.jsonl")
    assert {g.split for g in lines if g.prompt_set == "facts"} == {"all"}
    assert "choices: yes: " in page and "empty answer</p>" not in page.split("facts</strong>")[1]
    assert "evaluation.facts" in metrics["fingerprints"]
