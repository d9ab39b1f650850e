"""`validate=true`: checks what the schema cannot, with the classes and files at hand, before
anything is loaded."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.models.adapter import check_adapter_settings
from unlearning.run.checks.architecture import check_architecture
from unlearning.run.checks.data import check_data, check_together, on_hub
from unlearning.run.checks.evaluation import check_evaluation
from unlearning.run.checks.figures import check_figures
from unlearning.run.checks.lengths import check_lengths, tokenizer_named
from unlearning.run.checks.models import check_models
from unlearning.run.checks.objective import check_best, check_loss_options
from unlearning.run.checks.targets import check_targets
from unlearning.run.checks.tokens import token_lines
from unlearning.run.checks.weights import is_here
from unlearning.run.checks.work import answers_line
from unlearning.run.config.build import (
    Data,
    build_template,
    build_trainer,
    comparison_settings,
)
from unlearning.run.config.evaluate import EVALUATE
from unlearning.run.config.method import check_method
from unlearning.run.config.prompt_sets import prompt_sets
from unlearning.run.stages.callbacks import build_checkpoints, build_guard
from unlearning.run.stages.user_callbacks import check_user_callbacks, unlearning_callbacks
from unlearning.run.stages.utility import utility_examples
from unlearning.run.stages.watched import check_watched
from unlearning.run.tracking.config import check_tracking
from unlearning.training.optimizers import build_optimizer, build_schedule
from unlearning.types import PromptSet


def validate(config: DictConfig) -> list[str]:
    """Checks the configuration; returns a line for each thing that was checked.

    Raises:
        ConfigError: for the first thing that is wrong: what it is, and what to do.
    """
    check_targets(config)
    if config.task == EVALUATE:
        return check_evaluation(config)
    build_template(config)
    check_loss_options(config)
    found = [check_method(config), _optimizer(config), *check_tracking(config)]
    found += check_user_callbacks(config)
    _training(config)
    lines, data = check_data(config)
    sets = [] if on_hub(data) else prompt_sets(config, data)
    if sets:
        check_figures(config, sets)
        found.append(answers_line(config, sets))
    found += [*lines, *check_models(config, data)]
    if config.validate:
        found += token_lines(config, data, config.model.name_or_path)
    named = config.model.tokenizer or config.model.name_or_path
    if named is None or not is_here(named) or on_hub(data):
        return found  # what is made, or on a hub, is looked at when it is there
    return found + check_lengths(config, data, sets, tokenizer_named(config, named))


def look_through(config: DictConfig, data: Data) -> list[PromptSet]:
    """Checks what a hub has of the data sets and the model; returns the prompt sets.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    if on_hub(data):  # the rest was looked through already
        check_together(config, data)
    check_architecture(config, online=True)
    sets = prompt_sets(config, data)
    check_figures(config, sets, online=True)
    check_watched(config, data, sets)
    utility_examples(config, data)
    named = config.model.tokenizer or config.model.name_or_path
    if named is not None:
        check_lengths(config, data, sets, tokenizer_named(config, named))
    return sets


def _optimizer(config: DictConfig) -> str:
    settings = config.unlearn
    if config.model.lora is not None:
        check_adapter_settings(OmegaConf.to_container(config.model.lora))  # type: ignore[arg-type]
    parameter = torch.nn.Parameter(torch.zeros(1))
    options = OmegaConf.to_container(settings.optimizer_options)
    optimizer = build_optimizer([parameter], settings.optimizer, settings.learning_rate, options)  # type: ignore[arg-type]
    build_schedule(optimizer, settings.schedule, settings.warmup_steps, settings.max_steps)
    return f"optimizer: {settings.optimizer}, {settings.schedule}, {settings.max_steps} steps"


def _training(config: DictConfig) -> None:
    """Checks what would fail only in the middle of the run: judges, callbacks, the trainer."""
    comparison_settings(config)
    callbacks = config.callbacks
    if callbacks.guard:
        build_guard(config)
    if callbacks.checkpoint:
        build_checkpoints(config, Path())
        check_best(config)
    try:
        build_trainer(config, max_steps=1, callbacks=[*unlearning_callbacks(config).values()])
    except RuntimeError as error:  # two callbacks whose states would have one name
        raise ConfigError(f"The callbacks do not go together: {error}") from error
