"""Checks the `logger` node of the configuration before anything starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.imports import import_object
from unlearning.run.config.arguments import check_arguments
from unlearning.run.config.targets import check_target
from unlearning.run.tracking.secrets import logins

# Of the logger, where the rest goes to `wandb.init`.
OF_LOGGER = ("log_model", "checkpoint_name", "add_file_policy")
OWN = (
    "id", "dir", "save_dir", "version", "mode", "resume", "settings", "config", "prefix",
    "experiment", "reinit", "force",
)  # fmt: skip
NO_SERVER = ("offline", "dryrun", "disabled")  # values of WANDB_MODE


def check_tracking(config: DictConfig) -> list[str]:
    """Checks the configured loggers before anything starts; returns a line for each.

    Raises:
        ConfigError: a logger cannot be made, or its settings are not the user's to choose.
    """
    nodes = logger_nodes(config)
    for name, node in nodes.items():
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise ConfigError(
                f"logger.{name}={node!r} must be a mapping with the _target_ of a logger, as in "
                "conf/logger. Several at once: logger=[wandb,csv]."
            )
        target = check_target(node, Logger, f"logger.{name}")
        if issubclass(target, TensorBoardLogger) and not _installed("tensorboard", "tensorboardX"):
            raise ConfigError(
                f"logger.{name} needs TensorBoard, which is not installed: pip install tensorboard."
            )
        if is_wandb(node):
            _check_wandb(name, node)
    if sum(map(is_wandb, nodes.values())) > 1:
        raise ConfigError("There can be one logger for W&B, and logger has more.")
    return [f"logger: {', '.join(nodes)}"] if nodes else []


def _check_wandb(name: str, node: Mapping[str, Any]) -> None:
    import wandb  # takes half a second: only where it is wanted

    known = {*inspect.signature(wandb.init).parameters, "_target_", "offline"}
    for key in node:
        if key in OWN:
            raise ConfigError(f"logger.{name}.{key} is set by the run itself; leave it out.")
        if key not in known and key not in OF_LOGGER:
            raise ConfigError(
                f"logger.{name} takes no {key!r}. It takes {', '.join(sorted(known - set(OWN)))}."
            )
    own = {n: v for n, v in node.items() if n in inspect.signature(wandb.init).parameters}
    check_arguments(wandb.init, own, f"logger.{name}")
    if node.get("log_model") and node.get("offline"):
        raise ConfigError(
            f"logger.{name}.log_model=true uploads checkpoints, which offline=true rules out. Set "
            "one of them to false."
        )
    if not (node.get("offline") or os.environ.get("WANDB_MODE") in NO_SERVER or _has_key()):
        raise ConfigError(
            f"logger.{name} needs a key of W&B's, and there is none: set WANDB_API_KEY or run "
            f"`wandb login` once, or track offline (logger.{name}.offline=true)."
        )


def _has_key() -> bool:
    """Whether W&B finds a key without asking for one on the terminal."""
    import wandb

    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    address = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    return any(host == urlsplit(address).hostname for host, _ in logins())


def _installed(*names: str) -> bool:
    return any(find_spec(name) is not None for name in names)


def logger_nodes(config: DictConfig) -> dict[str, Any]:
    """Returns the configured loggers by name, as plain values."""
    node = OmegaConf.select(config, "logger")
    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    plain = {} if plain is None else plain
    if not isinstance(plain, dict):
        raise ConfigError(f"logger={plain!r} must be a mapping: choose one of conf/logger.")
    return {str(name): settings for name, settings in plain.items() if settings is not None}


def is_wandb(node: Mapping[str, Any]) -> bool:
    """Whether the node is Lightning's logger for W&B."""
    target = import_object(node["_target_"])
    return inspect.isclass(target) and issubclass(target, WandbLogger)
