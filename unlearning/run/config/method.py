"""Builds the method of a run from `method` and `objective` of the configuration."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from lightning import LightningModule
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.imports import import_object
from unlearning.methods.weight_edit import ModelNeed, WeightEdit
from unlearning.models.decoder import CausalLM
from unlearning.module import UnlearningModule
from unlearning.objective import Objective
from unlearning.reference.choose import check_split
from unlearning.run.config.targets import check_target
from unlearning.training.step_rule import make_rule

METHODS = (LightningModule, WeightEdit)
OF_TRAINER = (
    "max_steps", "batch_size", "retain_batch_size", "accumulate_grad_batches", "gradient_clip_val",
)  # fmt: skip
"""Keys of `unlearn` that are no arguments of the module."""


def method_class(config: DictConfig) -> type:
    """Imports what `method._target_` names.

    Raises:
        ConfigError: it is neither a LightningModule nor a WeightEdit.
    """
    path = str(config.method.get("_target_"))
    found = import_object(path)
    if not (inspect.isclass(found) and issubclass(found, METHODS)):
        raise ConfigError(
            f"method._target_={path} must be a LightningModule, such as UnlearningModule or a "
            "subclass of it, or a WeightEdit; see unlearning.methods."
        )
    return found


def edits_weights(config: DictConfig) -> bool:
    """Whether the method changes the weights without an unlearning step."""
    return issubclass(method_class(config), WeightEdit)


def objective_of(config: DictConfig) -> Objective | None:
    """Builds the objective of the training; None for a method that has none.

    Raises:
        ConfigError: a term is not well-formed, or none has a weight.
    """
    return Objective(_plain(config.objective)) if _has_objective(config) else None


def _has_objective(config: DictConfig) -> bool:
    return issubclass(method_class(config), UnlearningModule)


def mismatch_per_prompt(config: DictConfig) -> int:
    """Returns how many mismatch answers a prompt gets: none where no term is on them, since each
    would be a branch of every forward."""
    objective = objective_of(config)
    unused = objective is not None and "mismatch" not in objective.roles
    return 0 if unused else int(config.data.mismatch_per_prompt)


def build_module(
    config: DictConfig, policy: CausalLM, reference: CausalLM | None
) -> LightningModule:
    """Builds the module that unlearns, of `unlearn`, `reference`, `objective` and `method`.

    A module that is no `UnlearningModule` gets the arguments that it names beside those of
    `method`; it keeps the model it trains as `policy` and logs its loss as `train/total`.

    Raises:
        ConfigError: it does not take an argument, refuses its value, or has no policy.
    """
    settings = module_settings(config)
    if reference is not None:
        settings["reference_model"] = reference
    if not _has_objective(config):
        named = inspect.signature(method_class(config)).parameters
        settings = {name: value for name, value in settings.items() if name in named}
    module = _made(config, policy, **{**settings, **_arguments(config)})
    if not isinstance(getattr(module, "policy", None), torch.nn.Module):
        raise ConfigError(
            f"method: {config.method._target_} has no attribute `policy`, the model it trains."
        )
    return module


def build_edit(config: DictConfig) -> WeightEdit:
    """Builds a method that edits weights."""
    return _made(config, **_arguments(config))


def needed_models(config: DictConfig) -> list[ModelNeed]:
    """The models that a weight edit needs; none for a method that trains."""
    return list(build_edit(config).needs.values()) if edits_weights(config) else []


def tuning_config(config: DictConfig, need: ModelNeed) -> DictConfig:
    """The configuration with the recipe of a model that a weight edit needs as its fine-tuning."""
    changed = config.copy()
    changed.finetune = OmegaConf.create(dict(need.tuning))
    return changed


def module_settings(config: DictConfig) -> dict[str, Any]:
    """Returns the arguments of an `UnlearningModule` that stand outside of `method`."""
    settings = _plain(config.unlearn)
    return {
        **{name: value for name, value in settings.items() if name not in OF_TRAINER},
        "reference": config.reference.mode,
        "reference_dtype": config.reference.dtype,
        "terms": _plain(config.objective),
        "lora": None if config.model.lora is None else _plain(config.model.lora),
        "cache_dir": config.cache_dir,
    }


def check_method(config: DictConfig) -> str:
    """Checks the method before anything is loaded; returns a line about it.

    Raises:
        ConfigError: naming the key, and what it takes.
    """
    name = method_class(config).__name__
    check_target({"_target_": config.method._target_, **_arguments(config)}, METHODS, "method")
    if edits_weights(config):
        if config.model.lora is not None:
            raise ConfigError(f"method {name} edits the weights themselves: set model.lora=null.")
        build_edit(config)
        return f"method: {name}, no unlearning step"
    objective = objective_of(config)
    terms = {} if objective is None else objective.terms
    rule = make_rule(_arguments(config).get("rule"))
    if rule is not None:
        rule.check(list(terms))
    parts = " + ".join(f"{term.weight:g} x {term_name}" for term_name, term in terms.items())
    with_rule = "" if rule is None else f" with {type(rule).__name__}"
    return f"method: {name}{with_rule}: {parts or 'its own loss'}"


def further_logs(config: DictConfig) -> set[str]:
    """Returns what the method and its step rule log besides the objective's terms."""
    found: Any = method_class(config)
    rule = make_rule(_arguments(config).get("rule"))
    return {*found.logs, *(() if rule is None else rule.logs)}


def check_method_split(config: DictConfig) -> None:
    """Checks that the method, and the reference that its objective needs, can work with weights
    that are split over devices.

    Raises:
        ConfigError: naming what to take instead.
    """
    found, arguments = method_class(config), _arguments(config)
    if issubclass(found, UnlearningModule):
        found.check_split(arguments)
        rule = make_rule(arguments.get("rule"))
        if rule is not None:
            rule.check_strategy(sharded=True, masters=False)
    objective = objective_of(config)
    if objective is not None:
        of_base = config.finetune is not None and config.reference.of == "base"
        check_split(objective, config.model.lora is not None, of_base)


def _made(config: DictConfig, *inputs: Any, **arguments: Any) -> Any:
    target = method_class(config)
    try:
        inspect.signature(target).bind(*inputs, **arguments)
    except TypeError as error:
        raise ConfigError(
            f"method: {config.method._target_} cannot take {sorted(arguments)}: {error}."
        ) from error
    return target(*inputs, **arguments)


def _arguments(config: DictConfig) -> dict[str, Any]:
    """What stands beside `_target_`; a null is left out where the class has no such argument, since
    `method.rule: null` of `UnlearningModule` cannot be removed on the command line."""
    named = inspect.signature(method_class(config)).parameters
    given = _plain(config.method)
    given.pop("_target_")
    takes_all = any(p.kind is p.VAR_KEYWORD for p in named.values())
    return {n: v for n, v in given.items() if v is not None or n in named or takes_all}


def _plain(node: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    return found
