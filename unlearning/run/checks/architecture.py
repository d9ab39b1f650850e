"""Checks whether a model's architecture takes the adapters and lengths asked for.

The model is built on the `meta` device from its configuration: it has every layer and no weight,
so that hours of work are not spent before a layer's name proves wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from transformers import AutoModelForCausalLM, OPTConfig, PreTrainedModel

from unlearning.errors import ConfigError
from unlearning.loading import load_config
from unlearning.models.adalora import is_adalora, plan_ranks
from unlearning.models.adapter import add_adapter
from unlearning.models.decoder import output_head
from unlearning.models.gguf import gguf_config, is_gguf
from unlearning.run.checks.weights import is_here


def check_architecture(config: DictConfig, online: bool = False) -> None:
    """Checks the model that a run starts from, without its weights.

    Args:
        online: a hub id is looked up; else it is taken as it is.

    Raises:
        ConfigError: it lacks an adapter's target modules, or its context is too short.
    """
    if config.model.base is None and not (online or is_here(config.model.name_or_path)):
        return
    model, finetune = _without_weights(config), config.finetune
    lengths = scored_lengths(config)
    trained = finetune is not None and finetune.load is None
    if trained:
        lengths["finetune.context_length"] = finetune.context_length
    context = getattr(model.config, "max_position_embeddings", None)
    for key, length in lengths.items():
        if context is not None and length > context:
            raise ConfigError(f"{key}={length} is above the model's context, {context}.")
    if trained and finetune.adapter is not None:
        _check_adapter(config, "finetune.adapter", finetune.adapter, finetune.max_steps)
    if config.model.lora is not None:
        _check_adapter(config, "model.lora", config.model.lora, config.unlearn.max_steps)


def scored_lengths(config: DictConfig) -> dict[str, int]:
    """Returns the lengths of prompts with an answer that is scored, by key."""
    sets = config.evaluation.prompt_sets.items()
    own = {name: node.get("max_length") for name, node in sets if node is not None}
    found = {f"evaluation.prompt_sets.{name}.max_length": n for name, n in own.items() if n}
    return {"data.max_length": config.data.max_length, **found}


def check_context_length(
    name: str, revision: str | None, lengths: Mapping[str, int], key: str
) -> None:
    """Checks a model to be evaluated by its configuration alone; a hub id is looked up.

    Raises:
        ConfigError: it is no causal language model, or its context is too short.
    """
    context = getattr(_described(name, revision, key), "max_position_embeddings", None)
    for each, length in lengths.items():
        if context is not None and length > context:
            raise ConfigError(f"{each}={length} is above the context of {name}, {context}.")


def _check_adapter(config: DictConfig, key: str, settings: Any, steps: int) -> None:
    """Adds the adapter to a model of its own, since PEFT changes what it is given."""
    plain: Mapping[str, Any] = OmegaConf.to_container(settings, resolve=True)  # type: ignore[assignment]
    try:
        policy = add_adapter(_without_weights(config), **plain)
        output_head(policy)
        if is_adalora(policy) and steps > 0:  # -1: as many as the epochs have
            plan_ranks(policy, steps)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _without_weights(config: DictConfig) -> PreTrainedModel:
    recipe = config.model.base
    with torch.device("meta"):
        if recipe is None:
            described = _described(config.model.name_or_path, config.model.revision)
            return AutoModelForCausalLM.from_config(described, trust_remote_code=False)
        shape: dict[str, Any] = OmegaConf.to_container(recipe.architecture, resolve=True)  # type: ignore[assignment]
        width = shape["hidden_size"]
        described = OPTConfig(vocab_size=recipe.vocab_size, word_embed_proj_dim=width, **shape)
        return AutoModelForCausalLM.from_config(described)


def _described(name: str, revision: str | None, key: str = "model.name_or_path") -> Any:
    options = {} if revision is None or Path(name).is_dir() else {"revision": revision}
    try:
        described = gguf_config(name) if is_gguf(name) else load_config(name, **options)
    except ConfigError as error:
        raise ConfigError(f"{key}={name}: {error}") from error
    if type(described) not in AutoModelForCausalLM._model_mapping:
        raise ConfigError(
            f"{key}={name}: a {described.model_type!r} model is no causal language "
            "model. Give one that is, such as OPT, Llama or GPT-2."
        )
    return described
