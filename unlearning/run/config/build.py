"""Builds objects from the composed configuration; errors name the key."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from unlearning.data.digests import digests
from unlearning.data.examples import ExampleDataModule
from unlearning.data.split import SPLITS
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.evaluation import EvaluationSettings
from unlearning.imports import import_object
from unlearning.metrics.settings import ComparisonSettings
from unlearning.module import UnlearningModule
from unlearning.run.process.ranks import surroundings
from unlearning.types import Example, PromptSet

KINDS = get_args(get_type_hints(PromptSet)["kind"])

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
    for path, node in _nodes(plain, key):
        if "_target_" not in node:
            continue
        target = import_object(node["_target_"])
        known = _parameters(target)
        for name in node:
            if known is not None and not name.startswith("_") and name not in known:
                near = get_close_matches(RENAMED.get(name, name), known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigError(
                    f"{path or 'configuration'}: {node['_target_']} takes no {name!r}.{hint} It "
                    f"takes {', '.join(sorted(known))}."
                )


def _nodes(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        yield path, node
        for name, child in node.items():
            yield from _nodes(child, f"{path}.{name}" if path else str(name))
    elif isinstance(node, list):
        for number, child in enumerate(node):
            yield from _nodes(child, f"{path}[{number}]")


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
    """Builds the data sets `forget`, `retain` and `related` (None where there is none)."""
    return {
        name: None if config.data[name] is None else build(config.data[name])
        for name in ("forget", "retain", "related")
    }


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


def build_template(config: DictConfig) -> PromptTemplate:
    return PromptTemplate(**OmegaConf.to_container(config.data.template))  # type: ignore[arg-type]


def prompt_sets(
    config: DictConfig, data: Mapping[str, ExampleDataModule | None]
) -> list[PromptSet]:
    """Builds the prompt sets. A set whose source is absent is left out.

    Raises:
        ConfigError: a set is empty, or asks for a source or kind that does not exist.
    """
    found = []
    for name, settings in config.evaluation.prompt_sets.items():
        if settings.source not in data or settings.kind not in KINDS:
            raise ConfigError(
                f"evaluation.prompt_sets.{name}: source={settings.source!r} must be one of "
                f"{sorted(data)} and kind={settings.kind!r} one of {', '.join(KINDS)}."
            )
        module = data[settings.source]
        if module is None:
            continue
        splits = SPLITS if settings.split == "all" else (settings.split,)
        parts = [module.examples(split) for split in splits]
        examples = _one_per_prompt(parts, settings.limit)
        if not examples:
            raise ConfigError(
                f"evaluation.prompt_sets.{name}: {settings.source} has no example in its "
                f"{settings.split} split. Change data.{settings.source}.fractions, or remove the "
                "set."
            )
        found.append(PromptSet(str(name), settings.kind, examples))
    return found


def _one_per_prompt(parts: Sequence[Sequence[Example]], limit: int | None) -> list[Example]:
    """Keeps the first Example of each prompt: greedy answers to one prompt are all the same.

    Prompts come in the order in which they stand for the last time. Only what is returned is held.
    """
    prompts = digests(example.prompt for part in parts for example in part)
    first = np.unique(prompts, return_index=True)[1]
    last = len(prompts) - 1 - np.unique(prompts[::-1], return_index=True)[1]
    chosen = first[np.argsort(last)][:limit].tolist()
    wanted = set(chosen)
    numbered = enumerate(chain.from_iterable(parts))
    found = {number: example for number, example in numbered if number in wanted}
    return [found[number] for number in chosen]


def evaluation_settings(config: DictConfig) -> EvaluationSettings:
    return EvaluationSettings(
        max_new_tokens=config.evaluation.max_new_tokens,
        batch_size=config.evaluation.batch_size,
        max_length=config.data.max_length,
        cache_dir=config.cache_dir,
    )


def comparison_settings(config: DictConfig) -> ComparisonSettings:
    return ComparisonSettings(
        harm_threshold=config.classifier.threshold,
        rouge_threshold=config.evaluation.rouge_threshold,
        n_resamples=config.evaluation.resamples,
        seed=config.seed,
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
