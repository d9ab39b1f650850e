"""A budget by retain utility, from the command line to the guard: prompts, refusals, and a run."""

from __future__ import annotations

import json

import pytest
from omegaconf import open_dict

from unlearning.errors import ConfigError
from unlearning.run.config.build import build_data
from unlearning.run.config.schema import check_schema
from unlearning.run.pipeline import run
from unlearning.run.stages.callbacks import callbacks
from unlearning.run.stages.utility import utility_examples

from .small import SMALL, checked

LIMIT = "callbacks.guard.retain_utility.perplexity=1.05"
FEW = "callbacks.guard.retain_utility.prompts=9"


def prompts(examples):
    return [example.conversation for example in examples]


def test_it_is_off_by_default_and_on_by_one_word(compose_config, tokenizer, tmp_path):
    config = compose_config("experiment=demo", FEW, f"cache_dir={tmp_path}")
    data = build_data(config)
    assert utility_examples(config, data) == []
    assert callbacks(config, tmp_path, tokenizer, None, None)["guard"].budget.retain_utility is None
    config = compose_config("experiment=demo", LIMIT, FEW, f"cache_dir={tmp_path}")
    found = utility_examples(config, data)
    assert len(found) == 9 and all(example.response for example in found)
    held_out = prompts(data["retain"].examples("validation"))
    assert set(prompts(found)) <= set(held_out) - set(prompts(data["retain"].examples("train")))
    guard = callbacks(config, tmp_path, tokenizer, None, None, retain=found)["guard"]
    assert guard.budget.retain_utility == 1.05 and guard.budget.retain_kl == 2.0
    asked = compose_config("experiment=demo", LIMIT, FEW, "evaluation=validation")
    assert prompts(utility_examples(asked, data)) == prompts(found)  # whatever is asked


def test_a_method_that_takes_no_steps_needs_no_prompts(compose_config):
    config = compose_config("experiment=copyright_demo", "method=task_vector", LIMIT)
    assert utility_examples(config, build_data(config)) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"perplexity=1\.05 is measured on the validation split of data\.retain, which is e"),
        (["callbacks.guard.retain_utility.perplexity=1"], "must be a number above 1"),
        (["callbacks.guard.retain_utility.perplexity=0.9"], "must be a number above 1"),
        (["callbacks.guard.retain_utility.prompts=0"], r"retain_utility\.prompts=0 must"),
        (["+callbacks.guard.retain_utility.bleu=1"], r"retain_utility\.bleu"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(compose_config, words, message):
    """The story's prose has no validation split."""
    with pytest.raises(ConfigError, match=message):
        checked(compose_config("experiment=copyright_demo", LIMIT, *words))


def test_a_validation_split_is_all_it_takes(compose_config):
    checked(compose_config("experiment=copyright_demo", LIMIT, "data.retain.fractions=[.7,.1,.2]"))


def test_a_guard_of_nothing_else_is_one_mapping(compose_config, tokenizer, tmp_path):
    """Where the experiment has no guard."""
    config = compose_config("experiment=demo", "callbacks.guard=null", f"cache_dir={tmp_path}")
    with open_dict(config):
        config.callbacks.guard = {"retain_utility": {"perplexity": 1.05}}
    with pytest.raises(ConfigError, match=r"guard\.retain_utility\.prompts is missing"):
        check_schema(config)  # the number has one place, conf/callbacks/default.yaml
    with open_dict(config):
        config.callbacks.guard.retain_utility.prompts = 7
    checked(config)
    found = utility_examples(config, build_data(config))
    assert len(found) == 7
    guard = callbacks(config, tmp_path, tokenizer, None, None, retain=found)["guard"]
    assert guard.budget.limits == {"retain_utility": 1.05} and guard.action == "stop"


def test_prompts_without_gold_answers_are_refused(compose_config, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"What is {n}?"}) + "\n" for n in range(30)))
    source = f"_target_: unlearning.data.PromptsDataModule, source: {path}"
    retain = f"+data.retain={{{source}, fractions: [.6, .2, .2]}}"
    words = ["experiment=demo", "data/answers=model", "~data.retain", retain, LIMIT]
    with pytest.raises(ConfigError, match="whose prompts have no gold answers"):
        checked(compose_config(*words))


def test_an_older_run_is_resumed_without_it(compose_config):
    config = compose_config("experiment=demo")
    with open_dict(config):
        del config.callbacks.guard["retain_utility"]
    check_schema(config)
    assert utility_examples(config, {"retain": None}) == []
    checked(config)


@pytest.mark.slow
def test_a_breach_is_told_in_log_metrics_and_report(compose_config, tmp_path, caplog):
    """At a high learning rate the third step is too far: the weights of the check before count."""
    words = [
        "experiment=demo", "trainer=debug", "classifier=none", *SMALL, FEW,
        "callbacks.guard.retain_utility.perplexity=1.001", "callbacks.guard.every_n_steps=1",
        "unlearn.learning_rate=0.05", "unlearn.gradient_clip_val=null",
        f"cache_dir={tmp_path}/cache", "evaluation.max_new_tokens=4",
    ]  # fmt: skip
    run(compose_config(*words), tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["steps"] == 3 and metrics["kept_steps"] < 2
    said = "the perplexity of retain answers held out, relative to that before unlearning"
    assert said in metrics["stop_reason"]
    warned = [record for record in caplog.records if record.name == "unlearning.callbacks.guard"]
    assert [said in record.getMessage() for record in warned] == [True]
    assert said in (tmp_path / "run/report.html").read_text()
