"""One method of each kind from the command line's configuration to its report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from unlearning.errors import ConfigError
from unlearning.run.config.build import build_data, build_template
from unlearning.run.config.method import mismatch_per_prompt
from unlearning.run.output.run_folder import METRICS, REPORT
from unlearning.run.pipeline import effective_config, run
from unlearning.run.stages.facts import fingerprints

from .small import checked

DEMO = ("experiment=demo", "trainer=debug")
METHODS = {
    "paper": ("method=paper",),
    "npo": ("method=npo",),
    "sam": ("method=sam",),
    "rmu": ("method=rmu", "method.layer=2", "method.scale=2.0"),
    "task_vector": ("method=task_vector", "method.tuning.learning_rate=1e-3"),
    "simnpo": ("method=simnpo",),
    "ceu": ("method=ceu",),
    "undial": ("method=undial",),
    "jensun": ("method=jensun",),
    "idk_dpo": ("method=idk_dpo",),
    "kto": ("method=kto",),
    "rerouting": ("method=rerouting", "method.layers=[0,1]"),
}


@pytest.fixture(scope="module")
def runs(compose_config, tmp_path_factory):
    """A run of each method, with one base model and one judge."""
    root = tmp_path_factory.mktemp("methods")
    for name, words in METHODS.items():
        run(compose_config(*DEMO, *words, f"cache_dir={root}/cache"), root / name)
    return root


def metrics(folder) -> dict:
    return json.loads((folder / METRICS).read_text())


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/model.safetensors")


def base(root) -> dict[str, torch.Tensor]:
    (found,) = (root / "cache/base").glob("*/model.safetensors")
    return load_file(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in METHODS if n != "paper"])
def test_every_method_writes_the_same_report(runs, name):
    ours, papers = metrics(runs / name), metrics(runs / "paper")
    assert ours.keys() == papers.keys()
    for part in ("before", "after", "change"):
        assert ours[part].keys() == papers[part].keys()
    assert ours["before"] == papers["before"]
    page = (runs / name / REPORT).read_text()
    assert page.count("<h2") == (runs / "paper" / REPORT).read_text().count("<h2")
    changed = {n for n, w in weights(runs / name).items() if not torch.equal(w, base(runs)[n])}
    assert changed
    AutoModelForCausalLM.from_pretrained(runs / name / "model")


@pytest.mark.slow
def test_rmu_moves_the_weights_of_its_blocks_alone(runs):
    changed = {n for n, w in weights(runs / "rmu").items() if not torch.equal(w, base(runs)[n])}
    assert changed and all(".fc2." in name for name in changed)
    assert {name.split(".fc2.")[0][-1] for name in changed} == {"0", "1", "2"}


@pytest.mark.slow
def test_a_task_vector_is_the_arithmetic_of_the_kept_models(runs, compose_config):
    start, found = base(runs), weights(runs / "task_vector")
    (tuned,) = (load_file(p) for p in (runs / "cache/tuned").glob("*/merged/model.safetensors"))
    assert any(not torch.equal(tuned[n], start[n]) for n in start)
    for name, weight in found.items():
        torch.testing.assert_close(weight, 2 * start[name] - tuned[name], atol=1e-6, rtol=1e-5)
    # Another alpha takes the same tuned model.
    words = (*METHODS["task_vector"], "method.alpha=0.5", f"cache_dir={runs}/cache")
    run(compose_config(*DEMO, *words), runs / "half")
    assert len([p for p in (runs / "cache/tuned").iterdir() if p.is_dir()]) == 1
    for name, weight in weights(runs / "half").items():
        expected = 1.5 * start[name] - 0.5 * tuned[name]
        torch.testing.assert_close(weight, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_a_task_vector_goes_on_after_its_model_was_saved(runs, compose_config):
    """Killed in the evaluation: the saved model is taken, and the report is the same."""
    words = (*METHODS["task_vector"], f"cache_dir={runs}/cache")
    config = compose_config(*DEMO, *words)
    again = runs / "again"
    shutil.copytree(runs / "task_vector", again)
    for name in (METRICS, REPORT, "generations.jsonl"):
        (again / name).unlink()
    run(config, again, resume=True)
    assert metrics(again)["after"] == metrics(runs / "task_vector")["after"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("method._target_=torch.nn.Linear",), "LightningModule or .*WeightEdit"),
        (("method._target_=unlearning.NoSuchModule",), "has no 'NoSuchModule'"),
        (("method=sam", "method.rule.terms=[forgt]"), "SAM perturbs the terms"),
        (("method=sam", "method.rule.rho=0"), "rho=0 must be"),
        (("method=sam", "+method.rule.radius=0"), "takes no 'radius'"),
        (("method=paper", "+method.lr=0"), "takes no 'lr'"),
        (("method=on_policy", "reference.mode=cached"), "on-policy ones change with the policy"),
        (("method=on_policy", "method.refresh_every=0"), "refresh_every=0 must be"),
        (("method=task_vector", "method.alpha=0"), "alpha=0 must be"),
        (("method=task_vector", "model.lora={}"), "set model.lora=null"),
        (("method=task_vector", "method.tuning.context_length=4096"), "above the model's context"),
        (("method=paper", "objective.forget.role=alternate"), "data.alternate has none"),
        (("method=rmu", "objective.forget.layer=null"), "do not fit together"),
    ],
)
def test_a_method_that_cannot_work_is_refused_before_anything_is_loaded(
    compose_config, words, message
):
    with pytest.raises(ConfigError, match=message):
        checked(compose_config("experiment=demo", *words))


def test_alternate_answers_from_the_configuration(compose_config):
    words = ("method=paper", "objective.mismatch.role=alternate", "data.alternate=[I do not know]")
    lines = checked(compose_config("experiment=demo", *words))
    assert any("mismatch" in line for line in lines)


OWN = '''
import torch
from lightning import LightningModule


class Own(LightningModule):
    """Ordinary ascent on the answers to forget, in a module of somebody's own."""

    def __init__(self, model, learning_rate, strength=1.0):
        super().__init__()
        self.policy, self.learning_rate, self.strength = model, learning_rate, strength

    def training_step(self, batch, batch_idx):
        rows, answers = batch.rows, batch.answers["forget"]
        logits = self.policy(
            input_ids=rows.input_ids, position_ids=rows.position_ids,
            attention_mask=rows.attention_mask,
        ).logits.flatten(0, 1)[answers.loss_index]
        loss = -self.strength * torch.nn.functional.cross_entropy(logits, answers.targets)
        self.log("train/total", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.policy.parameters(), lr=self.learning_rate)
'''


@pytest.mark.slow
def test_a_module_of_ones_own_from_the_command_line(runs, compose_config, tmp_path, monkeypatch):
    (tmp_path / "own_method.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    words = ("method._target_=own_method.Own", "+method.strength=2.0")
    run(compose_config(*DEMO, *words, f"cache_dir={runs}/cache"), runs / "own")
    found = metrics(runs / "own")
    assert found["steps"] == metrics(runs / "paper")["steps"]
    assert found["after"].keys() == metrics(runs / "paper")["after"].keys()
    assert any(not torch.equal(w, base(runs)[n]) for n, w in weights(runs / "own").items())


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_task_vector_on_two_ranks(runs, tmp_path):
    """Both ranks tune the model; the one that leads edits, saves and reports."""
    devices = ("trainer.devices=2", "trainer.strategy=ddp", f"hydra.run.dir={tmp_path}/two")
    words = [*DEMO, *METHODS["task_vector"], *devices, f"cache_dir={runs}/cache"]
    done = subprocess.run(
        [sys.executable, "-m", "unlearning", *words], text=True, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    folders = [p for p in (runs / "cache/tuned").iterdir() if p.is_dir()]
    tuned = [load_file(p / "merged/model.safetensors") for p in folders]
    found, start = weights(tmp_path / "two"), base(runs)
    errors = [
        max(float((found[n] - (2 * start[n] - other[n])).abs().max()) for n in start)
        for other in tuned
    ]
    assert len(tuned) == 2 and min(errors) < 1e-5  # tuned by two ranks, under a key of its own
    assert metrics(tmp_path / "two")["after"].keys() == metrics(runs / "paper")["after"].keys()


def test_interpolations_are_resolved_before_anything_goes_by_them(compose_config):
    words = ("+word=Question", "data.template.prompt_format='${word}: {prompt}'")
    config = effective_config(compose_config(*DEMO, *words))
    assert build_template(config).prompt("Who?") == "Question: Who?"


def test_alternates_are_looked_at_before_anything_and_are_part_of_a_runs_data(compose_config):
    wrong = {"_target_": "unlearning.data.JsonlDataModule", "sorce": "x.jsonl"}
    config = compose_config(*DEMO)
    config.data.alternate = wrong
    with pytest.raises(ConfigError, match="takes no 'sorce'"):
        checked(config)
    found = []
    for text in ("no", "never"):
        config.data.alternate = [text]
        found.append(fingerprints(config, build_data(config)))
    assert found[0].keys() >= {"forget", "retain", "alternate"}
    assert found[0]["alternate"] != found[1]["alternate"]
    assert found[0]["forget"] == found[1]["forget"]


@pytest.mark.parametrize(
    ("words", "drawn"),
    [
        ((), 5),
        (("objective.mismatch.weight=0",), 0),
        (("method=graddiff",), 0),
        (("method=rmu",), 0),
        (("method=kto",), 1),
    ],
)
def test_mismatch_answers_are_drawn_where_a_term_is_on_them(words, drawn, compose_config):
    """Each would be a branch of every forward, computed for nothing."""
    config = compose_config("experiment=demo", *words)
    if not words:
        assert config.data.mismatch_per_prompt == drawn
    assert mismatch_per_prompt(config) == drawn


def test_npo_has_its_own_papers_terms(compose_config):
    terms = compose_config("method=npo").objective
    assert terms.forget.weight == 1.0 and terms.forget.options == {"beta": 0.1}
    assert terms.mismatch.weight == 0.0, "of arXiv 2405.15152 alone"
    assert (terms.retain.loss, terms.retain.weight) == ("unlearning.losses.nll", 1.0)
