"""The schema says which key is wrong, what was expected and what to do; all of it at once."""

from __future__ import annotations

from typing import get_args

import pytest
from omegaconf import OmegaConf

from unlearning.checkpoints.folder import Kept
from unlearning.errors import ConfigError
from unlearning.losses import Reduction
from unlearning.metrics.kinds import KINDS
from unlearning.reference import Mode
from unlearning.run.config.schema import check_schema
from unlearning.run.config.schema.callbacks import Checkpoint
from unlearning.run.config.schema.evaluation import PromptSet
from unlearning.run.config.schema.finetune import Schedule
from unlearning.run.config.schema.kinds import Roles
from unlearning.run.config.schema.run import Reference
from unlearning.run.config.schema.unlearn import Unlearn
from unlearning.terms import ROLES
from unlearning.training import optimizers

from .small import checked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("seed=-1", r"^seed=-1 must be a whole number of at least 0 and at most 4294967295\.$"),
        ("seed=abc", r"^seed='abc' must be a whole number"),
        ("seed=1.5", r"^seed=1\.5 must be a whole number"),
        ("seed=true", r"^seed=true must be a whole number"),
        ("unlearn.learning_rate=nan", r"^unlearn\.learning_rate=nan must be a finite number"),
        ("unlearn.learning_rate=0", r"^unlearn\.learning_rate=0 must be a number above 0\.$"),
        ("callbacks.guard.retain_kl=inf", r"^callbacks\.guard\.retain_kl=inf must be a finite"),
        ("data.mismatch_per_prompt=2.5", r"^data\.mismatch_per_prompt=2\.5 must be a whole number"),
        ("data.mismatch_per_prompt=0", r"draws no mismatch answers, and objective\.mismatch"),
        ("data.max_length=8", r"^data\.max_length=8 must be a whole number of at least 16"),
        ("objective.forget.options.cap=-1", r"^objective\.forget\.options\.cap=-1 must be a num"),
        ("objective.retain.weight=-1", r"^objective\.retain\.weight=-1 must be 0 or a positive"),
        ("classifier.batch_size=0", r"^classifier\.batch_size=0 must be a whole number of"),
        ("classifier.threshold=0", r"^classifier\.threshold=0 must be a number above 0 and"),
        ("model.gguf=book.txt", r"^model.gguf='book.txt' must be the path of a file that ends"),
        ("cache_dir=null", r"^cache_dir=null must be a path"),
        ("callbacks.checkpoint.best=foo", r"best='foo' is not logged.* There are .*train/total"),
        ("callbacks.checkpoint.best=train/forgt", r"Did you mean 'train/forget'"),
        ("evaluation.prompt_sets.related.limit=-2", r"limit=-2 must be .* at least 1 or null"),
        ("validate=no", r"^validate='no' must be true or false\. .* write validate=false"),
        ("unlearn.gradient_checkpointing=off", r"write unlearn\.gradient_checkpointing=false"),
        ("name=../..", r"^name='\.\./\.\.' must be a name without slashes"),
        ("+debug={steps: 3}", r"^debug\.prompts is missing"),
        ("logger=[]", r"^logger is missing"),
        ("trainer.accelerator=tpu", r"must be one of auto, cpu, gpu, cuda, mps"),
        ("evaluation.rouge_threshold=2", r"must be a number above 0 and at most 1"),
        ("trainer.devices=0", r"^trainer\.devices=0 must be a whole number of at least 1"),
        ("+trainer.max_epochs=3", r"^trainer\.max_epochs is set by each stage itself\. Use"),
        ("+trainer.limit_train_batchs=3", r"takes no 'limit_train_batchs'\. Did you mean"),
        ("+trainer.max_depth=3", r"takes no 'max_depth'"),
        ("+trainer.benchmark=3", r"^trainer\.benchmark=3 must be true or false"),
        ("model.revision=123", r"It is a number: quote it twice, model\.revision"),
        ("unlearn.schedule=lineer", r"Did you mean 'linear'"),
        ("~unlearn.optimizer", r"^unlearn\.optimizer is missing"),
        ("+unlearn.epochs=3", r"^Unknown key 'unlearn\.epochs'"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_what_to_do(compose_config, words, message):
    with pytest.raises(ConfigError, match=message):
        checked(compose_config("experiment=demo", words.replace("+debug", "debug")))


@pytest.mark.parametrize(
    ("method", "best"),
    [
        ("gru", "train/cosine"),
        ("pdu", "train/dual"),
        ("rerouting", "train/retain_above"),
        ("on_policy", "train/nll_forget"),
        ("altpo", "train/nll_alternate"),
    ],
)
def test_a_checkpoint_can_be_the_best_by_whatever_the_method_logs(compose_config, method, best):
    words = ("experiment=demo", f"method={method}")
    checked(compose_config(*words, f"callbacks.checkpoint.best={best}"))
    with pytest.raises(ConfigError, match=f"Did you mean '{best}'.* There are .*train/total"):
        checked(compose_config(*words, f"callbacks.checkpoint.best={best}s"))


def test_a_method_logs_nothing_of_anothers(compose_config):
    for method, best in (("paper", "train/cosine"), ("gru", "train/dual")):
        words = (f"method={method}", f"callbacks.checkpoint.best={best}")
        with pytest.raises(ConfigError, match=f"best='{best}' is not logged"):
            checked(compose_config("experiment=demo", *words))


def test_all_that_is_wrong_is_said_at_once(compose_config):
    words = ("seed=-1", "unlearn.max_steps=0", "evaluation.batch_size=many")
    with pytest.raises(ConfigError, match=r"^3 settings are wrong:\n  seed=-1") as refused:
        check_schema(compose_config("experiment=demo", *words))
    assert all(word.split("=")[0] in str(refused.value) for word in words)


def test_a_run_of_an_earlier_version_is_still_read(compose_config):
    values = OmegaConf.to_container(compose_config("experiment=demo"))
    for key in ("alternate", "alternates_per_prompt"):  # younger than 0.4
        del values["data"][key]
    check_schema(OmegaConf.create(values))


def test_the_configuration_of_a_run_has_no_part_of_hydras(compose_config):
    values = OmegaConf.to_container(compose_config("experiment=demo"))
    with pytest.raises(ConfigError, match=r"^hydra: a run's own configuration"):
        check_schema(OmegaConf.create({**values, "hydra": {"run": {"dir": "x"}}}))


def choices(model, key):
    return {choice for choice in get_args(model.model_fields[key].annotation) if choice}


def test_choices_are_those_of_the_code():
    assert get_args(Schedule) == get_args(optimizers.Schedule)
    assert get_args(Roles) == ROLES
    assert choices(Reference, "mode") == set(get_args(Mode))
    assert choices(Unlearn, "reduction") == set(get_args(Reduction))
    assert choices(Checkpoint, "finished") == set(get_args(Kept))
    kinds, _ = get_args(PromptSet.model_fields["kind"].annotation)
    assert set(get_args(kinds)) == set(KINDS)


@pytest.mark.parametrize("precision", ["32", "16", "64", "'32'", "32-true", "bf16-mixed"])
def test_precisions_of_lightnings_are_taken(compose_config, precision):
    check_schema(compose_config("experiment=demo", f"trainer.precision={precision}"))
