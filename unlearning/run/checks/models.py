"""Checks whether the models that a run starts from exist and fit its settings."""

from __future__ import annotations

from omegaconf import DictConfig
from transformers import OPTConfig

from unlearning.classifier.pretrained import check_local_classifier
from unlearning.errors import ConfigError
from unlearning.models.load import check_local_model
from unlearning.run.checks.architecture import check_architecture
from unlearning.run.checks.finetune import check_finetune
from unlearning.run.checks.weights import check_local
from unlearning.run.config.aggregates import check_against
from unlearning.run.config.build import (
    Data,
    build_base_data,
    build_classifier_data,
    build_classifier_tokenizer,
)
from unlearning.run.config.method import needed_models, tuning_config
from unlearning.run.stages.oracle import check_oracle


def check_models(config: DictConfig, data: Data) -> list[str]:
    """Checks the models; returns a line for each thing that was checked.

    Args:
        data: the data sets, on which a fine-tuning trains.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    stages = {"original": config.finetune, "oracle": config.oracle, "before": True, "after": True}
    check_against(config, [stage for stage, there in stages.items() if there])
    found = [_base(config), *_finetune(config, data), *check_classifier(config)]
    check_architecture(config)
    for need in needed_models(config):
        _check_needed(tuning_config(config, need), need.path, data)
    return found


def _check_needed(config: DictConfig, path: str | None, data: Data) -> None:
    """Checks a model that a weight edit needs: its folder, or how it is to be tuned."""
    if path is not None:
        check_local_model(path)
        return
    check_finetune(config, data)
    check_architecture(config)


def _base(config: DictConfig) -> str:
    if isinstance(config.model.base, str):
        raise ConfigError(
            f"model.base={config.model.base}: a run starts from model.name_or_path; model.base is "
            "the recipe of a model from scratch. A name there is an adapter's base, and for "
            "unlearn evaluate alone."
        )
    if config.model.base is not None:
        if config.model.name_or_path is not None:
            raise ConfigError(
                f"model.name_or_path={config.model.name_or_path} and model.base, a recipe for a "
                "model from scratch, are both given. Set model.base=null, or leave the name out."
            )
        check_base_recipe(config)
        return "model: trained from scratch"
    if config.model.name_or_path is None:
        raise ConfigError("model.name_or_path is empty and model.base gives no recipe for a model.")
    check_local(config.model.name_or_path, config.model.tokenizer)
    return f"model: {config.model.name_or_path}"


def check_base_recipe(config: DictConfig) -> None:
    """Checks the recipe of a model from scratch.

    Raises:
        ConfigError: its data cannot be read, or its shape is none.
    """
    build_base_data(config).check()
    shape = config.model.base.architecture
    ours = {"dropout", "vocab_size", "word_embed_proj_dim"}  # set by the recipe itself
    if unknown := sorted(set(map(str, shape)) - (set(OPTConfig().to_dict()) - ours)):
        raise ConfigError(
            f"model.base.architecture.{unknown[0]}: OPTConfig has no such field, or the recipe "
            "sets it itself. Remove it."
        )
    if shape.hidden_size % shape.num_attention_heads:
        raise ConfigError(
            f"model.base.architecture: hidden_size={shape.hidden_size} is no multiple of "
            f"num_attention_heads={shape.num_attention_heads}."
        )


def _finetune(config: DictConfig, data: Data) -> list[str]:
    lines = (check_finetune(config, data), check_oracle(config))
    return [line for line in lines if line is not None]


def check_classifier(config: DictConfig) -> list[str]:
    """Checks that the classifier is there, or can be trained; returns a line about it.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    settings = config.classifier
    if settings.train is not None:
        if settings.model is not None:
            check_local_classifier(settings.model, trained=False)
        build_classifier_data(config).check()
        if settings.tiny is not None:
            build_classifier_tokenizer(config)
        return [f"classifier: {settings.model or 'tiny'}, to be trained"]
    if settings.model is None:
        return []
    check_local_classifier(settings.model)
    return [f"classifier: {settings.model}, as it is"]
