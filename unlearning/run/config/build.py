"""Builds objects from the composed configuration; errors name the key."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from unlearning.data.examples import ExampleDataModule
from unlearning.data.template import Template, unescaped
from unlearning.errors import ConfigError
from unlearning.evaluation import EvaluationSettings
from unlearning.imports import import_object
from unlearning.metrics.settings import ComparisonSettings
from unlearning.module import UnlearningModule
from unlearning.nested import walk
from unlearning.run.process.ranks import surroundings

RENAMED = {"teach": "finetune_on"}
"""Arguments by the names that configurations of version 0.4 have for them."""


def build(config: DictConfig | Mapping[str, Any], **overrides: Any) -> Any:
    """Builds the object that a node with a `_target_` names; Hydra's `instantiate` with plain
    values.

    Raises:
        ConfigError: the target does not exist, does not take an argument, or refuses its value.
    """
    check_targets(config)
    try:
        return instantiate(config, **overrides, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(str(error)) from error


def check_targets(config: Any, key: str = "") -> None:
    """Checks that every `_target_` below a node exists and takes the arguments it is given.

    Hydra would find a misspelt argument only when it makes the object, after hours perhaps.

    Raises:
        ConfigError: naming the key, and the nearest argument.
    """
    plain = (
        OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    )
    node: Any
    for path, node in [(key, plain), *walk(plain, key)]:
        if not (isinstance(node, Mapping) and "_target_" in node):
            continue
        target = import_object(node["_target_"])
        known = _parameters(target)
        for name in map(str, node):
            if known is not None and not name.startswith("_") and name not in known:
                near = get_close_matches(RENAMED.get(name, name), known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigError(
                    f"{path or 'configuration'}: {node['_target_']} takes no {name!r}.{hint} It "
                    f"takes {', '.join(sorted(known))}."
                )


def _parameters(target: Any) -> set[str] | None:
    """Returns the names of the arguments; those of base classes too, where `**settings` are
    passed on."""
    found: set[str] = set()
    for owner in inspect.getmro(target) if inspect.isclass(target) else (target,):
        function = owner.__init__ if inspect.isclass(owner) else owner
        parameters = inspect.signature(function).parameters.values()
        found |= {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found - {"self"}
        if not (
            inspect.isclass(owner) and issubclass(owner, (ExampleDataModule, UnlearningModule))
        ):
            return None  # takes anything
    return found - {"self"}


def build_data(config: DictConfig) -> dict[str, ExampleDataModule | None]:
    """Builds all data sets under `data`, by name, and those that stand right in a prompt set.

    `forget`, `retain` and `related` are always among them, None where there is none.
    """
    names = ["forget", "retain", "related"]
    others = [name for name in config.data if name not in (*names, "alternate")]
    names += [name for name in others if _is_target(config.data[name])]
    found = {name: _built(config.data.get(name)) for name in map(str, names)}
    for name, settings in config.evaluation.prompt_sets.items():
        if settings is not None and _is_target(settings.get("source")):
            found[own_source(str(name))] = _built(settings.source)
    return found


def own_source(prompt_set: str) -> str:
    """Names a data set that is defined inside a prompt set."""
    return f"evaluation.{prompt_set}"


def _is_target(node: Any) -> bool:
    return isinstance(node, DictConfig) and "_target_" in node


def _built(node: DictConfig | None) -> ExampleDataModule | None:
    return None if node is None else build(node)


def build_alternate(config: DictConfig) -> Any:
    """Builds the alternate answers to the forget prompts: texts, a data set, or None."""
    node = config.data.get("alternate")
    if node is None:
        return None
    if OmegaConf.is_list(node):
        return [str(text) for text in node]
    found = build(node)
    if not isinstance(found, ExampleDataModule):
        raise ConfigError(
            f"data.alternate must be a list of texts or a data set, not a {type(found).__name__}."
        )
    return found


def build_template(config: DictConfig) -> Template:
    """Builds the template: a `PromptTemplate`, or what `data.template._target_` names.

    Raises:
        ConfigError: it is none, or does not take a setting.
    """
    node: dict[str, Any] = OmegaConf.to_container(config.data.template, resolve=True)  # type: ignore[assignment]
    found = build({"_target_": "unlearning.data.PromptTemplate", **node})
    if not isinstance(found, Template):
        raise ConfigError(
            f"data.template._target_={node['_target_']} is a {type(found).__name__}; expected a "
            "Template, for example unlearning.data.ChatTemplate."
        )
    return found


def stop_strings(config: DictConfig) -> tuple[str, ...]:
    r"""Returns `evaluation.stop`, the texts before which an answer ends; `\n` is a newline."""
    value = config.evaluation.get("stop")  # absent in configurations of version 0.5
    found = [] if value is None else [value] if isinstance(value, str) else value
    return tuple(unescaped(text) for text in found)


def evaluation_settings(config: DictConfig) -> EvaluationSettings:
    return EvaluationSettings(
        max_new_tokens=config.evaluation.max_new_tokens,
        batch_size=config.evaluation.batch_size,
        max_length=config.data.max_length,
        cache_dir=config.cache_dir,
        stop=stop_strings(config),
    )


def comparison_settings(config: DictConfig) -> ComparisonSettings:
    return ComparisonSettings(
        harm_threshold=config.classifier.threshold,
        rouge_threshold=config.evaluation.rouge_threshold,
        n_resamples=config.evaluation.resamples,
    )


def build_trainer(config: DictConfig, alone: bool = False, **settings: Any) -> Trainer:
    """Builds a Trainer with the configured devices and precision, see `trainer_options`."""
    try:
        return Trainer(**trainer_options(config, alone, **settings))
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"The trainer cannot be made of these settings: {error}") from error


def trainer_options(config: DictConfig, alone: bool = False, **settings: Any) -> dict[str, Any]:
    """Returns the arguments of `lightning.Trainer`.

    Args:
        alone: on one device, whatever the configuration says: for what rank 0 trains by itself.
        settings: more of them, which come before the configuration's.
    """
    options: dict[str, Any] = OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[assignment]
    environment = surroundings()
    if alone:
        devices = options.get("devices", 1)
        if isinstance(devices, str) and "," in devices:  # "2,3" names GPUs, as a list does
            devices = [int(number) for number in devices.split(",") if number.strip()]
        one = devices[:1] if isinstance(devices, list) else 1
        options.update(devices=one, num_nodes=1, strategy="auto")
        environment = LightningEnvironment()
    elif not isinstance(options.get("strategy", "auto"), str):
        options["strategy"] = build(options["strategy"])
    options = {
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,  # ours counts the steps of a stage
        "logger": False,
        **options,
        **settings,
    }
    if environment is not None:  # decided in one place, not guessed again
        options["plugins"] = [*options.get("plugins", []), environment]
    options.setdefault("precision", "auto")
    if options["precision"] == "auto":
        options["precision"] = precision(config)
    return options


def precision(config: DictConfig) -> str:
    """Resolves `trainer.precision`; `auto` is bf16 on a GPU that supports it, else fp32."""
    if config.trainer.precision != "auto":
        return str(config.trainer.precision)
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"


def numerics(config: DictConfig) -> dict[str, Any]:
    """Returns the trainer's settings that change the result of a training on one device."""
    return {
        "precision": precision(config),
        "deterministic": config.trainer.get("deterministic", False),
        "device": config.trainer.accelerator if config.trainer.accelerator != "auto" else None,
    }
