"""Loads the models that `unlearn evaluate` measures: whole ones, and adapters on their base."""

from __future__ import annotations

from omegaconf import DictConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearning.models.adapter import merge_adapter
from unlearning.models.adapter_io import is_adapter_folder, load_adapter, named_base
from unlearning.models.load import has_tokenizer
from unlearning.run.config.evaluate import evaluated_models
from unlearning.run.stages.models import load_base


def makes_base(config: DictConfig) -> bool:
    """Whether the recipe `model.base` is followed: for the model itself, or an adapter's base."""
    names = evaluated_models(config).values()
    wanted = any(name is None or is_adapter_folder(name) for name in names)
    return wanted and isinstance(config.model.base, DictConfig)


def adapter_base(config: DictConfig, name: str, made: str | None = None) -> str | None:
    """Returns the base model of an adapter folder, None for a whole model.

    Args:
        made: the model of the recipe `model.base`.

    Raises:
        ConfigError: neither the configuration nor the adapter names one.
    """
    if not is_adapter_folder(name):
        return None
    given = config.model.base if isinstance(config.model.base, str) else made
    return given or named_base(name)


def tokenizer_of(config: DictConfig, name: str, base: str | None) -> str:
    """Returns where a model's tokenizer is: as configured, with the model, or with its base."""
    if config.model.tokenizer:
        return str(config.model.tokenizer)
    return name if base is None or has_tokenizer(name) else base


def load_evaluated(
    config: DictConfig, name: str, base: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a model and its tokenizer by name or folder; an adapter is merged into its base.

    Args:
        base: of an adapter, see `adapter_base`.

    Raises:
        ConfigError: they do not belong together, or `data.max_length` is above the context.
    """
    tokenizer_name = tokenizer_of(config, name, base)
    model, tokenizer = load_base(config, base or name, tokenizer=tokenizer_name)
    return (model if base is None else merge_adapter(load_adapter(model, name))), tokenizer
