"""The logger node: what composes, what is refused, and W&B's own sweeps."""

from __future__ import annotations

import pytest
import wandb.sdk.launch.sweeps.utils as agent
import yaml
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.run.config.overrides import check_overrides, config_folder
from unlearning.run.tracking import config as tracking_config
from unlearning.run.tracking.config import check_tracking
from unlearning.run.tracking.trackers import Tracking

WANDB = {"_target_": "lightning.pytorch.loggers.WandbLogger"}
CSV = {"_target_": "lightning.pytorch.loggers.CSVLogger"}


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.parametrize(
    ("choice", "names"),
    [("none", []), ("wandb", ["wandb"]), ("csv", ["csv"]), ("tensorboard", ["tensorboard"]),
     ("[wandb,csv]", ["wandb", "csv"]), ("[csv,tensorboard]", ["csv", "tensorboard"])],
)  # fmt: skip
def test_one_logger_or_several(choice, names, compose_config, tmp_path):
    config = compose_config("experiment=demo", f"logger={choice}")
    assert list(config.logger) == names
    assert check_tracking(config) == ([f"logger: {', '.join(names)}"] if names else [])
    if "wandb" not in names:  # what is composed can be made
        assert len(Tracking(config, tmp_path).loggers("unlearn")) == len(names)


def test_a_missing_key_is_said_and_found_wherever_wandb_finds_it(monkeypatch, tmp_path):
    node = OmegaConf.create({"logger": {"wandb": WANDB}})
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example:8080/")
    assert check_tracking(node)  # offline
    monkeypatch.delenv("WANDB_MODE")
    assert check_tracking(OmegaConf.create({"logger": {"wandb": {**WANDB, "offline": True}}}))
    netrc = tmp_path / ".netrc"
    for login in ("", "machine elsewhere login user password x"):
        netrc.write_text(login)
        with pytest.raises(ConfigError, match="WANDB_API_KEY or run `wandb login`"):
            check_tracking(node)
    netrc.write_text("machine wandb.example login user password x")
    assert check_tracking(node)
    netrc.unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert check_tracking(node)


def test_settings_of_one_among_several(compose_config):
    config = compose_config(
        "logger=[wandb,csv]", "logger.wandb.entity=us", "+logger.wandb.notes=why"
    )
    assert (config.logger.wandb.entity, config.logger.wandb.notes) == ("us", "why")
    assert check_tracking(config)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ({"wandb": {**WANDB, "id": "x"}}, "logger.wandb.id is set by the run"),
        ({"wandb": {**WANDB, "save_dir": "."}}, "logger.wandb.save_dir is set by the run"),
        ({"wandb": {**WANDB, "projekt": "x"}}, "takes no 'projekt'.* project,"),
        ({"wandb": {**WANDB, "log_model": True, "offline": True}}, "log_model=true uploads"),
        ({"wandb": WANDB, "more": WANDB}, "one logger for W&B"),
        ({"csv": "yes"}, "must be a mapping"),
        ({"csv": {"save_dir": "."}}, "_target_ of a logger"),
        ("csv", "choose one of conf/logger"),
        ({"csv": {"_target_": "lightning.pytorch.loggers.CsvLogger"}}, "CsvLogger"),
    ],
)
def test_what_cannot_be(nodes, reason):
    with pytest.raises(ConfigError, match=reason):
        check_tracking(OmegaConf.create({"logger": nodes}))


def test_tensorboard_that_is_not_installed(monkeypatch, compose_config):
    monkeypatch.setattr(tracking_config, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        check_tracking(compose_config("logger=tensorboard"))


def test_a_sweep_of_wandbs_drives_us(compose_config):
    """The command that `wandb agent` makes of the file composes to what the server asked for."""
    path = config_folder() / "wandb_sweep.yaml"
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    asked = {"objective.forget.weight": 0.123, "objective.retain.weight": 1e-05, "seed": 2}
    assert set(asked) == set(sweep["parameters"])
    words = agent.create_sweep_command_args(
        {"args": {name: {"value": value} for name, value in asked.items()}}
    )
    filled = {"${env}": ["/usr/bin/env"], "${args_no_hyphens}": words["args_no_hyphens"]}
    command = [
        part
        for word in agent.create_sweep_command(sweep["command"])
        for part in filled.get(word, [word])
    ]
    assert command[:2] == ["/usr/bin/env", sweep["program"]]
    check_overrides(command[2:])
    config = compose_config(*command[2:])
    assert {name: OmegaConf.select(config, name) for name in asked} == asked
    assert list(config.logger) == ["wandb"]
    # The metric is one of those that a run's summary has.
    stage, name, value = sweep["metric"]["name"].split(".")
    prompt_set, metric = name.split("/")
    assert (stage, value, metric) == ("after", "value", "harmful_rate")
    assert prompt_set in config.evaluation.prompt_sets
