"""Builds the user's own Lightning callbacks: `+callbacks.<name>={_target_: package.Callback}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Callback
from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.run.config.targets import build

SETTINGS = ("guard", "harm", "bleu", "samples", "checkpoint")
"""Names in `callbacks` that hold settings of the package's own."""
TAKEN = (*SETTINGS, "losses", "interrupt")


def unlearning_callbacks(config: DictConfig) -> dict[str, Callback]:
    """Builds the user's callbacks of the unlearning stage, by name, in the order they are given.

    Raises:
        ConfigError: a node names no Lightning callback.
    """
    nodes = {n: node for n, node in config.callbacks.items() if n not in SETTINGS}
    return _built(nodes, "callbacks")


def finetuning_callbacks(config: DictConfig) -> dict[str, Callback]:
    """Builds the callbacks of the fine-tuning, `+finetune.callbacks.<name>=...`; they are part of
    the kept model's key, and do not run again where it is used.

    Raises:
        ConfigError: a node names no Lightning callback.
    """
    nodes = None if config.finetune is None else config.finetune.get("callbacks")
    return _built(nodes or {}, "finetune.callbacks")


def check_user_callbacks(config: DictConfig) -> list[str]:
    """Checks the user's callbacks; returns a line for each stage that has some.

    Raises:
        ConfigError: a node names no Lightning callback, or its constructor refuses its arguments.
    """
    found = {
        "callbacks": unlearning_callbacks(config),
        "finetune.callbacks": finetuning_callbacks(config),
    }
    return [
        f"{key}: {len(callbacks)} of your own ({', '.join(callbacks)})"
        for key, callbacks in found.items()
        if callbacks
    ]


def _built(nodes: Mapping[Any, Any], key: str) -> dict[str, Callback]:
    found: dict[str, Callback] = {}
    for name, node in nodes.items():
        if node is None:  # switched off
            continue
        if name in TAKEN:
            raise ConfigError(f"{key}.{name}: {name!r} is taken by the package; use another name.")
        found[str(name)] = build(node, Callback, f"{key}.{name}")
    return found
