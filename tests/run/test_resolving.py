"""A value that does not resolve is told in one sentence; what it lacks, and which key gives it."""

from __future__ import annotations

import re

import pytest
from omegaconf import OmegaConf

from unlearning.errors import ConfigError
from unlearning.run.config.schema import check_schema
from unlearning.run.pipeline import effective_config


@pytest.mark.parametrize("task", [(), ("task=evaluate", "model.name_or_path=m")])
def test_an_environment_variable_that_is_not_set(task, compose_config, monkeypatch):
    monkeypatch.delenv("UNLEARNING_DATA", raising=False)
    config = compose_config("experiment=real_harmful", "sources=folder", *task)
    for check in (check_schema, effective_config):
        with pytest.raises(ConfigError, match=_whole(
            "sources.folder is taken from the environment variable UNLEARNING_DATA, which is not "
            "set. Set it, or give sources.folder=... on the command line."
        )):  # fmt: skip
            check(config)
    monkeypatch.setenv("UNLEARNING_DATA", "/data")
    check_schema(config)
    assert effective_config(config).data.forget.source == "/data/pku_saferlhf/pairs.jsonl"


def test_a_value_that_names_a_key_which_is_not_there(compose_config):
    config = compose_config("experiment=demo")
    OmegaConf.update(config, "data.max_length", "${nowhere}")
    with pytest.raises(ConfigError, match=_whole(
        "The configuration does not resolve: Interpolation key 'nowhere' not found "
        "(in data.max_length)."
    )):  # fmt: skip
        check_schema(config)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sources.folder=null", "sources.folder=null must be a path."),
        ("sources.folder=3", "sources.folder=3 must be a path."),
        ("sources.pku=null", "sources.pku=null must be a path."),
    ],
)
@pytest.mark.parametrize("task", [(), ("task=evaluate", "model.name_or_path=m")])
def test_sources_are_paths(word, message, task, compose_config):
    config = compose_config("experiment=real_harmful", "sources=folder", "sources.folder=/x", *task)
    key, value = word.split("=")
    OmegaConf.update(config, key, {"null": None, "3": 3}[value])
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_schema(config)


def _whole(message: str) -> str:
    return f"^{re.escape(message)}$"
