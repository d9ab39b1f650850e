"""Misspelt keys are found before Hydra starts, and the nearest is named."""

from __future__ import annotations

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.run.config.overrides import check_overrides, searched


@pytest.mark.parametrize(
    "override, nearest",
    [
        ("objective.forget.wieght=1", "objective.forget.weight"),
        ("unlearn.max_step=3", "unlearn.max_steps"),
        ("weight=1", "objective.forget.weight"),
        ("sed=1", "seed"),
    ],
)
def test_the_nearest_key_is_named(override, nearest):
    with pytest.raises(ConfigError, match=rf"Unknown configuration key .*'{nearest}'"):
        check_overrides(["experiment=demo", override])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["experiment=demo", "objective.forget.weight=1"],
        ["-m", "experiment=demo", "objective.forget.weight=0.1,1", "model=tiny,local"],
        ["-m", "model=choice(tiny,local)", "seed=range(0,3)", "unlearn=glob(*)"],
        ["-m", "objective.forget.weight=tag(log,interval(0.1,1))", "seed=shuffle(1,2)"],
        ["-m", "logger=none,csv", "hydra.launcher.n_jobs=2", "sweep.resume=/tmp/x"],
        ["-m", "hydra/launcher=basic", "+trainer.num_nodes=1,2"],
        ["method=npo", "objective.forget.options.beta=0.2"],
        ["+objective.forget.options.cap=3"],
        ["model.lora={}"],
        ["hydra.run.dir=/tmp/x"],
        ["experiment=demo", "--cfg", "job"],
    ],
)
def test_what_hydra_takes_passes(arguments):
    check_overrides(arguments)


def test_an_unknown_choice_lists_the_known_ones():
    with pytest.raises(ConfigError, match="harmful"):
        check_overrides(["experiment=harmfull"])


def test_a_broken_override_is_named():
    with pytest.raises(ConfigError, match="lr"):
        check_overrides(["unlearn.lr=[1,"])


@pytest.mark.parametrize("swept", ["model=tiny,locl", "model=choice(locl,tiny)", "model=glob(x*)"])
def test_every_choice_of_a_swept_group_is_looked_up(swept):
    with pytest.raises(ConfigError, match=r"there is .*local"):
        check_overrides(["-m", swept])


@pytest.mark.parametrize("swept", ["seeed=0,1", "unlearn.max_step=range(1,3)"])
def test_a_sweep_over_no_key_is_refused(swept):
    with pytest.raises(ConfigError, match=r"Did you mean 'seed'|'unlearn.max_steps'"):
        check_overrides(["-m", swept])


def test_the_keys_of_a_search_are_looked_up(monkeypatch):
    params = {"unlearn.learning_rat": "interval(0,1)"}
    made = searched(OmegaConf.create({"hydra": {"sweeper": {"params": params}}}))
    monkeypatch.setattr("unlearning.run.config.overrides.searched", lambda _: made)
    with pytest.raises(ConfigError, match=r"'unlearn.learning_rat'.*'unlearn.learning_rate'"):
        check_overrides(["-m"])


def test_the_keys_of_a_search_may_be_nested():
    params = {"unlearn.learning_rate": "interval(0,1)", "objective": {"retain": {"weight": 2}}}
    params |= {"evaluation": {"stop": ["a", "b"]}}
    made = searched(OmegaConf.create({"hydra": {"sweeper": {"params": params}}}))
    assert [word.key_or_group for word in made] == [
        "unlearn.learning_rate", "objective.retain.weight", "evaluation.stop",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["logger=null", "model=tiny.x"])
def test_what_is_no_choice_of_a_group(word):
    with pytest.raises(ConfigError, match=word):
        check_overrides([word])


@pytest.mark.parametrize("choice", ["hydra/launcher=slurm", "hydra/sweeper=pareto"])
def test_a_missing_plugin_says_what_to_install(choice):
    code = (
        "import sys\nsys.modules['hydra_plugins'] = None\n"
        "from unlearning.run.config.overrides import check_overrides\n"
        f"check_overrides([{choice!r}])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'unlearning[sweeps]'" in result.stderr.splitlines()[-1], result.stderr


@pytest.mark.parametrize("word", ["~logger", "~trainer=cpu", "~seed"])
def test_a_whole_node_cannot_be_removed(word):
    with pytest.raises(ConfigError, match="none can be removed"):
        check_overrides(["experiment=demo", word])


@pytest.mark.parametrize("trainer", ["ddp", "fsdp", "deepspeed"])
def test_several_machines_can_be_asked_for(trainer):
    check_overrides(["experiment=demo", f"trainer={trainer}", "trainer.num_nodes=2"])


@pytest.mark.parametrize("group", ["logger", "finetune", "model"])
def test_null_is_no_choice_of_a_group(group):
    with pytest.raises(ConfigError, match=f"{group}=null.*that is none: logger=none"):
        check_overrides(["experiment=demo", f"{group}=null"])


def test_a_sweep_over_no_value_is_refused():
    with pytest.raises(ConfigError, match=r"range\(3,3\) holds no value"):
        check_overrides(["-m", "experiment=demo", "seed=range(3,3)"])
