"""What each seed moves: a sweep's seeds leave data, judge and base model as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from unlearning.run.config.build import build_data, comparison_settings
from unlearning.run.output.same_run import config_differences, load_config
from unlearning.run.pipeline import effective_config
from unlearning.run.process.ranks import Ranks
from unlearning.run.stages.finetune import finetuned_model
from unlearning.run.stages.models import base_model, classifier

from .small import SMALL

DEMO = ("experiment=demo", "trainer=debug", "model.tokenizer=unused", *SMALL)


class AskedError(Exception):
    """Carries what a stage would keep its result under."""


class Keys:
    """A store that makes nothing."""

    ranks = Ranks()

    def get(self, stage, inputs, make, together=False):
        raise AskedError(inputs)


class Made(Keys):
    """A store that always makes."""

    def __init__(self, folder):
        self.folder = folder

    def get(self, stage, inputs, make, together=False):
        make(self.folder)
        return self.folder, False


class Silent:
    def loggers(self, stage):
        return []


def inputs_of(stage, config):
    with pytest.raises(AskedError) as asked:
        if stage == "finetune":
            finetuned_model(config, Keys(), "base", build_data(config), Silent())
        else:
            {"classifier": classifier, "base": base_model}[stage](config, Keys(), Silent())
    return asked.value.args[0]


@pytest.mark.parametrize(
    ("stage", "own"),
    [("classifier", "classifier.seed"), ("base", "model.base.seed"), ("finetune", "finetune.seed")],
)
def test_what_a_stage_is_kept_under_follows_its_own_seed(stage, own, compose_config, tmp_path):
    def inputs(*words):
        return inputs_of(
            stage, compose_config(*DEMO, "finetune=tiny", f"cache_dir={tmp_path}", *words)
        )

    first = inputs()
    assert first["seed"] == 0
    follows = stage == "finetune"  # the training that the run is about, as the unlearning is
    assert (inputs("seed=3") == first) != follows
    assert inputs(f"{own}=3") != first
    assert inputs(f"{own}=3")["seed"] == inputs("seed=3", f"{own}=${{seed}}")["seed"] == 3
    if follows:
        assert inputs("seed=3", f"{own}=0") == first


def splits(config):
    modules = build_data(config)
    return {
        (name, split): [e.prompt for e in modules[name].examples(split)]
        for name in ("forget", "retain")
        for split in ("train", "test")
    }


def test_the_split_moves_when_asked_only(compose_config):
    def asked(*words):
        return splits(compose_config(*DEMO, *words))

    first = asked()
    assert asked("seed=3") == first
    moved = asked("data.seed=3")
    assert moved != first and moved == asked("seed=3", "data.seed=${seed}")


def test_a_judge_is_the_same_whatever_the_run_s_seed(compose_config, tmp_path):
    """Its dropout too, which draws from the global state that the run's seed has set."""
    weights = []
    for seed, own in ((0, 0), (5, 0), (5, 1)):
        words = (f"seed={seed}", f"classifier.seed={own}", "classifier.train.max_steps=3")
        torch.manual_seed(seed)
        made = Made(tmp_path / f"{seed}{own}")
        classifier(effective_config(compose_config(*DEMO, *words)), made, Silent())
        weights.append(load_file(made.folder / "model.safetensors"))
    same, other = ([torch.equal(weights[0][n], w[n]) for n in w] for w in weights[1:])
    assert all(same) and not all(other)


def test_intervals_draw_the_same_prompts_whatever_the_run_s_seed(compose_config):
    assert comparison_settings(compose_config(*DEMO, "seed=4")).seed == 0


def test_a_run_of_0_5_goes_on_with_the_one_seed_it_had(compose_config, tmp_path):
    given = effective_config(compose_config(*DEMO, "finetune=tiny", "seed=2"))
    old = OmegaConf.to_container(given)
    for node in (old["data"], old["classifier"], old["finetune"], old["model"]["base"]):
        del node["seed"]
    for node in (old["data"]["forget"], old["data"]["retain"], old["classifier"]["train"]["data"]):
        node["seed"] = 2
    Path(tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(old)))
    seeds = ("data.seed=2", "classifier.seed=2", "model.base.seed=2")
    same = effective_config(compose_config(*DEMO, "finetune=tiny", "seed=2", *seeds))
    assert config_differences(load_config(tmp_path), same) == []
    keys = {difference.key for difference in config_differences(load_config(tmp_path), given)}
    assert {"data.seed", "data.forget.seed", "classifier.seed", "model.base.seed"} <= keys
