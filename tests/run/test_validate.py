"""Bad input gets a clear error before anything is loaded or trained."""

from __future__ import annotations

import json

import pytest

from unlearning.errors import ConfigError
from unlearning.run.config.debug import limited
from unlearning.run.output.run_folder import check_folder
from unlearning.run.pipeline import run

from .small import checked


def write_jsonl(path, pairs):
    path.write_text("\n".join(json.dumps({"prompt": p, "response": r}) for p, r in pairs))
    return str(path)


def test_the_demo_is_valid(compose_config):
    assert any("0.25 x forget" in line for line in checked(compose_config("experiment=demo")))


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["objective.forget.weight=-1"], "weight=-1 must be 0 or a positive number"),
        (["objective.forget.weight=0", "objective.mismatch.weight=0", "objective.retain.weight=0"],
         "All weights are 0"),
        (["objective.forget.loss=unlearning.losses.gradient_ascnt"], "gradient_ascent"),
        (["unlearn.optimizer=torch.optim.AdamX"], "AdamX"),
        (["unlearn.schedule=lineer"], "lineer"),
        (["unlearn.max_steps=0"], "max_steps"),
        (["unlearn.warmup_steps=100000"], "warmup_steps"),
        (["reference.mode=adapter_off"], "model.lora"),
        (["reference.mode=x"], "adapter_off, cached, copy"),
        (["data.mismatch_per_prompt=100000"], "mismatch_per_prompt"),
        (["data.layout=x"], "auto, tree, padded"),
        (["data.max_length=1000"], "above the model's context"),
        (["data.max_length=abc"], "data.max_length"),
        (["unlearn.learning_rate=abc"], "unlearn.learning_rate"),
        (["unlearn.retain_batch_size=0"], "retain_batch_size"),
        (["unlearn.reduction=men"], "reduction"),
        (["model.lora={rank:8}"], "rank"),
        (["callbacks.harm.every_n_steps=0"], "callbacks.harm.every_n_steps"),
        (["callbacks.guard.action=halt"], "halt"),
        (["classifier.threshold=5"], "threshold"),
        (["evaluation.rouge_threshold=7"], "threshold"),
        (["evaluation.batch_size=0"], "evaluation.batch_size"),
        (["evaluation.prompt_sets.related.split=tset"], "tset"),
        (["trainer.precision=bf17"], "bf17"),
        (["model.base.architecture.hidden_size=161"], "num_attention_heads"),
        (["data.template.prompt_format=hello"], "{prompt}"),
        (["data.retain.part=harmful"], "retain"),
        (["model=local"], "model.name_or_path"),
        (["model=local", "model.name_or_path=/no/such/model"], "/no/such/model"),
        (["data=jsonl", "data.forget.source=/no/file.jsonl", "data.retain.source=/no/other.jsonl"],
         "/no/file.jsonl"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(compose_config, overrides, message):
    with pytest.raises(ConfigError, match=message):
        checked(compose_config("experiment=demo", *overrides))


def test_a_model_folder_without_weights(compose_config, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="no weights"):
        checked(compose_config("experiment=demo", "model=local", f"model.name_or_path={tmp_path}"))


def test_the_same_text_in_forget_and_retain(compose_config, tmp_path):
    forget = write_jsonl(tmp_path / "f.jsonl", [(f"bad {n}", "x") for n in range(9)])
    retain = write_jsonl(tmp_path / "r.jsonl", [(f"BAD  {n}", f"{n}") for n in range(9)])
    sources = [f"data.forget.source={forget}", f"data.retain.source={retain}"]
    with pytest.raises(ConfigError, match="also in the retain set"):
        checked(compose_config("experiment=demo", "data=jsonl", *sources))


def test_a_term_of_weight_0_takes_its_limit_out_of_the_guard(compose_config):
    checked(compose_config("experiment=demo", "objective.retain.weight=0"))


def test_an_interrupted_run_is_not_run_over(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/interrupted.ckpt").write_text("x")
    with pytest.raises(ConfigError, match="unlearn resume="):
        check_folder(tmp_path)
    check_folder(tmp_path, resume=True)


def test_a_finished_run_is_never_overwritten(compose_config, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ConfigError, match="never overwritten"):
        check_folder(tmp_path)
    with pytest.raises(ConfigError, match="never overwritten"):
        run(compose_config("experiment=demo", "trainer=debug"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_validate_loads_and_writes_nothing(compose_config, tmp_path):
    config = compose_config("experiment=demo", "validate=true", f"cache_dir={tmp_path}/cache")
    assert run(config, tmp_path / "run") is None
    assert list(tmp_path.iterdir()) == []


def test_debug_limits_every_stage_and_only_where_asked(compose_config):
    config = compose_config("experiment=demo")
    assert limited(config) is config
    short = limited(compose_config("experiment=demo", "trainer=debug"))
    assert short.unlearn.max_steps == short.model.base.max_steps == 3
    assert short.classifier.train.max_steps == 3
    assert {s.limit for s in short.evaluation.prompt_sets.values()} == {4}
