"""Checks the configured fine-tuning before anything is loaded."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from unlearning.data.bookcorpus import BookCorpusDataModule
from unlearning.data.records.source import is_hub_id
from unlearning.errors import ConfigError
from unlearning.models.adapter import check_adapter_settings
from unlearning.models.adapter_io import check_adapter_folder
from unlearning.models.load import check_eight_bit
from unlearning.run.config.build import Data
from unlearning.run.stages.finetune import method
from unlearning.run.stages.taught import Sets, finetuned_sets
from unlearning.training.optimizers import build_optimizer, build_schedule


def check_finetune(config: DictConfig, data: Data) -> str | None:
    """Checks the fine-tuning; returns a line about it, or None where there is none.

    Raises:
        ConfigError: settings that do not fit together, or data that cannot be trained on.
    """
    settings = config.finetune
    if settings is None:
        return None
    sets = finetuned_sets(config)
    _check_sets(sets, data)
    if settings.load is not None:
        check_adapter_folder(settings.load)
        return f"finetune: {settings.load}, as it is"
    _check_training(settings)
    if settings.adapter is not None:
        check_adapter_settings(OmegaConf.to_container(settings.adapter))  # type: ignore[arg-type]
    if settings.eight_bit:
        check_eight_bit()
    return f"finetune: {method(settings)}, on {', '.join(sets)}"


def _check_sets(sets: Sets, data: Data) -> None:
    """Checks that each split named in `finetune.sets` has something to train on."""
    if not sets:
        raise ConfigError(
            "finetune.sets names no data set. Set finetune.sets.forget=train, or finetune=none."
        )
    for name, splits in sets.items():
        module = data.get(name)
        if module is None:
            present = [known for known, found in data.items() if found is not None]
            raise ConfigError(
                f"finetune.sets.{name}: there is no data.{name}; there is {', '.join(present)}. "
                f"Configure it, or set finetune.sets.{name}=null."
            )
        if isinstance(module, BookCorpusDataModule) and module.streaming:
            raise ConfigError(
                f"finetune.sets.{name}: {module.source} is streamed, and fine-tuning goes through "
                f"a data set as a whole. Set data.{name}.streaming=false, or leave it out."
            )
        on_hub = bool(module.source) and is_hub_id(module.source)  # looked into when it is here
        if not on_hub and not any(module.examples(split) for split in splits):
            raise ConfigError(
                f"finetune.sets.{name}: data.{name} has no example in {' or '.join(splits)}. "
                f"Change data.{name}.fractions, or leave it out."
            )


def _check_training(settings: DictConfig) -> None:
    """Checks optimizer and schedule."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    options: Any = OmegaConf.to_container(settings.optimizer_options)
    # How many steps the epochs have is known when the book is in windows.
    steps = settings.warmup_steps if settings.max_steps == -1 else settings.max_steps
    try:
        optimizer = build_optimizer(
            [parameter], settings.optimizer, settings.learning_rate, options
        )
        build_schedule(optimizer, settings.schedule, settings.warmup_steps, steps)
    except ConfigError as error:
        raise ConfigError(f"finetune: {error}") from error
