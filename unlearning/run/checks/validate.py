"""`validate=true`: checks the whole configuration and every file before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearning.errors import ConfigError
from unlearning.models.adapter import check_adapter_settings
from unlearning.nested import leaves
from unlearning.run.checks.architecture import check_architecture
from unlearning.run.checks.data import Data, check_data, check_together, on_hub
from unlearning.run.checks.evaluation import check_evaluation
from unlearning.run.checks.models import check_models
from unlearning.run.checks.numbers import check_whole_number
from unlearning.run.config.build import (
    build_template,
    build_trainer,
    check_targets,
    comparison_settings,
)
from unlearning.run.config.evaluate import EVALUATE
from unlearning.run.config.method import check_method
from unlearning.run.config.prompt_sets import aggregates, prompt_sets
from unlearning.run.stages.callbacks import build_checkpoints, build_guard
from unlearning.run.stages.user_callbacks import check_user_callbacks, unlearning_callbacks
from unlearning.run.tracking.config import check_tracking
from unlearning.training.optimizers import build_optimizer, build_schedule
from unlearning.training.settings import check_settings
from unlearning.types import PromptSet


def validate(config: DictConfig) -> list[str]:
    """Checks the configuration; returns a line for each thing that was checked.

    Raises:
        ConfigError: for the first thing that is wrong: what it is, and what to do.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    missing = sorted(path for path, value in leaves(plain) if value == "???")
    if missing:
        raise ConfigError(
            f"These keys need a value: {', '.join(missing)}. Give them on the command line, "
            f"for example {missing[0]}=..."
        )
    try:
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"The configuration does not resolve: {error}") from error
    if config.task == EVALUATE:
        return check_evaluation(config)
    if config.compare_with is not None:
        raise ConfigError(
            f"compare_with={config.compare_with}: two models are compared by unlearn evaluate; a "
            "run compares its own. Leave it out."
        )
    build_template(config)
    check_targets(config.logger, "logger")
    found = [check_method(config), _optimizer(config), *check_tracking(config)]
    found += check_user_callbacks(config)
    _training(config)
    lines, data = check_data(config)
    return [*found, *lines, *check_models(config, data)]


def look_through(config: DictConfig, data: Data) -> list[PromptSet]:
    """Checks what a hub has of the data sets and the model; returns the prompt sets.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    if on_hub(data):  # the rest was looked through already
        check_together(config, data)
    check_architecture(config, online=True)
    sets = prompt_sets(config, data)
    aggregates(config, sets)
    return sets


def _optimizer(config: DictConfig) -> str:
    settings, reference = config.unlearn, config.reference
    for name in ("max_steps", "batch_size", "accumulate_grad_batches"):
        check_whole_number(f"unlearn.{name}", settings[name])
    if settings.retain_batch_size is not None:
        check_whole_number("unlearn.retain_batch_size", settings.retain_batch_size)
    for name in ("learning_rate", "warmup_steps"):
        if isinstance(settings[name], (str, bool)):
            raise ConfigError(f"unlearn.{name}={settings[name]!r} must be a number.")
    check_settings(
        settings.reduction, reference.mode, reference.dtype, settings.schedule,
        settings.learning_rate, chunk_size=1,
    )  # fmt: skip
    if config.model.lora is not None:
        check_adapter_settings(OmegaConf.to_container(config.model.lora))  # type: ignore[arg-type]
    _reference(config)
    parameter = torch.nn.Parameter(torch.zeros(1))
    options = OmegaConf.to_container(settings.optimizer_options)
    optimizer = build_optimizer([parameter], settings.optimizer, settings.learning_rate, options)  # type: ignore[arg-type]
    build_schedule(optimizer, settings.schedule, settings.warmup_steps, settings.max_steps)
    return f"optimizer: {settings.optimizer}, {settings.schedule}, {settings.max_steps} steps"


def _reference(config: DictConfig) -> None:
    reference = config.reference
    if reference.of not in ("finetuned", "base"):
        raise ConfigError(f"reference.of={reference.of!r}: choose finetuned or base.")
    if reference.mode != "adapter_off":
        return
    if config.model.lora is None:
        raise ConfigError("reference.mode=adapter_off needs a LoRA policy: set model.lora={}.")
    if reference.of == "base":
        raise ConfigError(
            "reference.mode=adapter_off is the fine-tuned model; with reference.of=base choose "
            "cached or copy."
        )


def _training(config: DictConfig) -> None:
    """Checks what would fail only in the middle of the run: judges, callbacks, the trainer."""
    comparison_settings(config)
    evaluation, callbacks = config.evaluation, config.callbacks
    positive = {
        "evaluation.max_new_tokens": evaluation.max_new_tokens,
        "data.max_length": config.data.max_length,
    }
    if evaluation.batch_size is not None:
        positive["evaluation.batch_size"] = evaluation.batch_size
    for name in ("harm", "bleu", "samples"):
        if callbacks[name]:
            positive[f"callbacks.{name}.every_n_steps"] = callbacks[name].every_n_steps
            positive[f"callbacks.{name}.prompts"] = callbacks[name].prompts
    if callbacks.bleu:
        positive["callbacks.bleu.patience"] = callbacks.bleu.patience
    if callbacks.checkpoint:
        for name in ("every_n_steps", "keep"):
            positive[f"callbacks.checkpoint.{name}"] = callbacks.checkpoint[name]
    for key, value in positive.items():
        check_whole_number(key, value)
    if callbacks.guard:
        build_guard(config)
    if callbacks.checkpoint:
        build_checkpoints(config, Path())
    try:
        build_trainer(config, max_steps=1, callbacks=[*unlearning_callbacks(config).values()])
    except RuntimeError as error:  # two callbacks whose states would have one name
        raise ConfigError(f"The callbacks do not go together: {error}") from error
