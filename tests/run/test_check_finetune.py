"""What is wrong with a fine-tuning is found before it, or told in words."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from unlearning.data import ProseDataModule, StoryDataModule
from unlearning.errors import ConfigError
from unlearning.run.checks.finetune import check_finetune
from unlearning.run.config.schema import check_schema
from unlearning.run.output.store import Store
from unlearning.run.stages.callbacks import build_guard
from unlearning.run.stages.finetune import finetuned_model
from unlearning.run.tracking.trackers import Tracking

from .small import checked

DEMO = "experiment=copyright_demo"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schedule", "lineer", "finetune.schedule='lineer' .*Did you mean 'linear'"),
        ("optimizer", "adam", "finetune: Unknown optimizer 'adam'"),
        ("learning_rate", "2e-4", "finetune.learning_rate='2e-4' must be a number"),
        ("learning_rate", None, "finetune.learning_rate=null must be a number"),
        ("warmup_steps", -1, "finetune.warmup_steps=-1"),
        ("max_steps", 0, "finetune.max_steps=0"),
        ("max_steps", 5, r"finetune.warmup_steps=20 must lie in 0\.\.5"),
        ("context_length", 1, "finetune.context_length=1 .* at least 2"),
        ("batch_size", 2.5, "finetune.batch_size=2.5"),
    ],
)
def test_settings(compose_config, key, value, message):
    config = compose_config(DEMO)
    data = {"forget": StoryDataModule()}
    assert check_finetune(config, data).startswith("finetune: LoRA")
    config.finetune[key] = value
    with pytest.raises(ConfigError, match=message):
        check_schema(config)
        check_finetune(config, data)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"forget": None}, "finetune.sets names no data set"),
        ({"retained": "train"}, "there is no data.retained; there is forget, retain. Configure"),
        ({"related": "train"}, "finetune.sets.related: there is no data.related"),
        ({"retain": "heldout"}, "finetune.sets.retain='heldout' must be one of train, validation"),
        ({"forget": "validation"}, "data.forget has no example in validation. Change data.forget"),
        ({"retain": "train"}, "is streamed, and fine-tuning .* Set data.retain.streaming=false"),
    ],
)
def test_sets(compose_config, sets, message):
    config = compose_config(DEMO)
    retain = ProseDataModule(streaming=True)
    data = {"forget": StoryDataModule(), "retain": retain, "related": None}
    config.finetune.sets = sets
    with pytest.raises(ConfigError, match=message):
        check_schema(config)
        check_finetune(config, data)


def test_an_adapter_of_defaults_is_described(compose_config):
    config = compose_config(DEMO)
    config.finetune.adapter = OmegaConf.create({})
    line = check_finetune(config, {"forget": StoryDataModule()})
    assert line == "finetune: LoRA, rank 16, on forget"


def test_patience_is_checked_before_anything_is_trained(compose_config):
    with pytest.raises(ConfigError, match=r"callbacks\.bleu\.patience=0"):
        checked(compose_config(DEMO, "callbacks.bleu.patience=0"))


def test_states_of_a_stream_are_not_cached(compose_config, library):
    common = ["experiment=copyright_scratch", f"book={library}/book.txt"]
    common += [f"prose={library}/prose", "data.retain.section_windows=3", "reference.mode=cached"]
    with pytest.raises(ConfigError, match=r"data\.retain is streamed"):
        checked(compose_config(*common))
    checked(compose_config(*common, "data.retain.streaming=false"))


def test_the_guard_watches_the_kl_unless_it_is_to_another_model(compose_config):
    for overrides, watched in (
        (["experiment=demo"], True),
        (["experiment=demo", "reference.of=base"], True),  # without fine-tuning, the same model
        ([DEMO, "reference.of=base"], False),
        ([DEMO, "reference.of=finetuned"], True),
    ):
        limits = build_guard(compose_config(*overrides)).budget.limits
        assert ("retain_kl" in limits) == watched, overrides


def test_a_fine_tuning_that_diverges_says_so_and_keeps_nothing(
    compose_config, opt_folder, tmp_path
):
    config = compose_config(
        DEMO, "model=local", f"model.name_or_path={opt_folder}", "model.base=null", "finetune=full",
        "finetune.context_length=64", "finetune.max_steps=3", "data.max_length=64",
        "finetune.learning_rate=1.0e30",
    )  # fmt: skip
    store, data = Store(tmp_path), {"forget": StoryDataModule(chapters=[1, 5])}
    with pytest.raises(ConfigError, match=r"diverged: its loss is nan .*finetune.learning_rate"):
        finetuned_model(config, store, str(opt_folder), data, Tracking(config, tmp_path))
    assert not list((tmp_path / "finetune").glob("*/inputs.json"))


def test_a_name_beside_a_recipe_is_not_ignored(compose_config, opt_folder):
    config = compose_config(DEMO, f"model.name_or_path={opt_folder}")
    with pytest.raises(ConfigError, match=r"both given\. Set model\.base=null"):
        checked(config)
