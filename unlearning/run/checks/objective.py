"""Checks the options of losses, and the metric by which a checkpoint is the best."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.module import UnlearningModule
from unlearning.quantities import declared
from unlearning.run.config.arguments import check_arguments
from unlearning.run.config.method import further_logs, method_class
from unlearning.run.stages.user_callbacks import SETTINGS
from unlearning.terms import import_loss


def check_loss_options(config: DictConfig) -> None:
    """Checks the options of every term against the annotations of its loss; nothing is called.

    Raises:
        ConfigError: naming the option, and what it may be.
    """
    terms: Any = OmegaConf.to_container(config.objective, resolve=True)
    for name, term in terms.items():
        loss = import_loss(term["loss"])
        inputs = 1 if isinstance(term["role"], str) else len(term["role"])
        if declared(loss, "token_quantity", False):
            inputs = 3 if declared(loss, "needs_reference") else 2
        check_arguments(loss, term.get("options") or {}, f"objective.{name}.options", inputs)


def check_best(config: DictConfig) -> None:
    """Checks that `callbacks.checkpoint.best` is a metric that will be logged.

    A module or callback of the user's own may log others, which only a run can tell.

    Raises:
        ConfigError: naming those that there are.
    """
    checkpoint, callbacks = config.callbacks.checkpoint, config.callbacks
    best = None if checkpoint is None else checkpoint.best
    own = any(node is not None for name, node in callbacks.items() if name not in SETTINGS)
    if best is None or own or not _logs_as_usual(config):
        return
    logged = sorted(_logged(config))
    if best not in logged:
        near = get_close_matches(best, logged, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"callbacks.checkpoint.best={best!r} is not logged.{hint} There are "
            f"{', '.join(logged)}; null for none."
        )


def _logs_as_usual(config: DictConfig) -> bool:
    """Whether the method logs nothing but the objective's terms and what its `logs` names."""
    found: Any = method_class(config)
    return issubclass(found, UnlearningModule) and all(
        getattr(found, name).__module__.partition(".")[0] == __name__.partition(".")[0]
        for name in ("training_step", "_log", "add_penalty")
    )


def _logged(config: DictConfig) -> set[str]:
    found = {"train/total"}
    for name, term in config.objective.items():
        if term.weight > 0:
            roles = [term.role] if isinstance(term.role, str) else term.role
            found |= {f"train/{name}", f"train/{name}_weighted"}
            found |= {f"train/nll_{role}" for role in roles}
    found |= {f"train/{name}" for name in further_logs(config)}
    if config.model.lora is not None and config.model.lora.get("kind") == "adalora":
        found.add("train/orthogonality")
    if config.callbacks.harm is not None:
        found |= {"harm/rate", "harm/broken_rate"}
    if config.callbacks.bleu is not None:
        found.add("bleu/forget")
    return found
