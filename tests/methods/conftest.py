"""Configurations as the command line composes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from unlearning.run.config.overrides import config_folder


@pytest.fixture(scope="session")
def compose_config() -> Callable[..., DictConfig]:
    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            return compose("config", overrides=["experiment=demo", *overrides])

    return composed
