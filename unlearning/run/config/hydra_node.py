"""Checks Hydra's own part of a configuration, which may come from somebody else's folder.

Hydra calls what stands there: callbacks, launcher and sweeper with all that is nested in them, and
the factories of its logging.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.nested import walk

TARGETS = ("hydra_plugins.", "hydra._internal.", "optuna.samplers.", "optuna.pruners.")
LOGGING = ("logging.", "colorlog.", "hydra.")
CALLED = ("()", "class")  # words of logging's dictConfig


def check_hydra(config: DictConfig) -> None:
    """Checks what Hydra would import and call.

    Args:
        config: composed, with its `hydra` node.

    Raises:
        ConfigError: it is none of Hydra's plugins, samplers or log handlers.
    """
    plain: Any = OmegaConf.to_container(config.hydra, resolve=False)
    if plain.get("callbacks"):
        raise ConfigError(
            "hydra.callbacks is not taken: what is called there is nobody's to check. Callbacks of "
            "a training are callbacks.<name>."
        )
    for key, value in walk(plain, "hydra"):
        name, part = key.rpartition(".")[2], key.split(".")[1]
        logs = part in ("job_logging", "hydra_logging") and name in CALLED
        if name == "_target_" and not str(value).startswith(TARGETS):
            raise ConfigError(
                f"{key}={value} is not taken: expected a plugin of Hydra's or a sampler of "
                "Optuna's. It was not called."
            )
        if logs and not str(value).startswith(LOGGING):
            raise ConfigError(
                f"{key}={value} is not taken: expected a class of logging. It was not called."
            )
