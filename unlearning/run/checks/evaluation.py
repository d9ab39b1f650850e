"""Checks what `unlearn evaluate` is given before anything is loaded."""

from __future__ import annotations

from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.metrics.prompt_sets import is_judged
from unlearning.models.adapter_io import check_adapter_folder, is_adapter_folder
from unlearning.run.checks.architecture import check_context_length, scored_lengths
from unlearning.run.checks.data import describe_sources, on_hub
from unlearning.run.checks.figures import check_figures
from unlearning.run.checks.lengths import check_lengths, tokenizer_named
from unlearning.run.checks.models import check_base_recipe, check_classifier
from unlearning.run.checks.tokens import token_lines
from unlearning.run.checks.weights import check_local, is_here
from unlearning.run.config.aggregates import check_against
from unlearning.run.config.build import (
    Data,
    build_data,
    build_template,
    build_trainer,
    comparison_settings,
)
from unlearning.run.config.evaluate import evaluated_models
from unlearning.run.config.prompt_sets import prompt_sets
from unlearning.run.stages.evaluated import adapter_base, makes_base, tokenizer_of
from unlearning.run.tracking.config import check_tracking
from unlearning.types import PromptSet


def check_evaluation(config: DictConfig) -> list[str]:
    """Checks the configuration of an evaluation; returns a line for each thing that was checked.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    build_template(config)
    comparison_settings(config)
    build_trainer(config, max_steps=1)  # says which device
    found = [*check_tracking(config), *check_evaluated_models(config)]
    data = build_data(config)
    found += describe_sources(data)
    if config.validate:
        found += _tokens(config, data)
    if on_hub(data):
        return found
    sets = evaluated_sets(config, data)
    check_figures(config, sets)
    check_against(config, evaluated_models(config))
    found += [f"prompt set {each.name}: {len(each.examples)} prompts" for each in sets]
    found += _lengths(config, data, sets, online=False)
    return found + (check_classifier(config) if measures_harm(sets) else [])


def check_evaluated_models(config: DictConfig, online: bool = False) -> list[str]:
    """Checks that the models are there with their tokenizers, and long enough.

    Args:
        online: hub ids are looked up, too.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    keys = {"after": "compare_with"}
    if makes_base(config):
        check_base_recipe(config)
    return [
        _check_model(config, name, keys.get(stage, "model.name_or_path"), online)
        for stage, name in evaluated_models(config).items()
    ]


def look_through_evaluation(config: DictConfig, data: Data) -> list[PromptSet]:
    """Checks what a hub has of an evaluation; returns its prompt sets.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    check_evaluated_models(config, online=True)
    sets = evaluated_sets(config, data)
    check_against(config, evaluated_models(config))
    check_figures(config, sets, online=True)
    _lengths(config, data, sets, online=True)
    return sets


def _lengths(config: DictConfig, data: Data, sets: list[PromptSet], online: bool) -> list[str]:
    """Checks the prompts' lengths by every model's tokenizer that is there (or is asked for)."""
    found: list[str] = []
    made = "" if makes_base(config) else None
    for name in filter(None, evaluated_models(config).values()):
        where = tokenizer_of(config, name, adapter_base(config, name, made))
        if is_here(where) or (online and where):
            found += check_lengths(config, data, sets, tokenizer_named(config, where))
    return list(dict.fromkeys(found))


def _tokens(config: DictConfig, data: Data) -> list[str]:
    """Describes the tokens of the first model's prompts and answers."""
    name = next(iter(evaluated_models(config).values()))
    base = None if name is None else adapter_base(config, name, "" if makes_base(config) else None)
    return token_lines(config, data, name if base is None else base or None)


def evaluated_sets(config: DictConfig, data: Data) -> list[PromptSet]:
    """Builds the prompt sets of an evaluation.

    Raises:
        ConfigError: there is none, since no data set is configured that one is from.
    """
    sets = prompt_sets(config, data)
    if not sets:
        asked = {name: s.source for name, s in config.evaluation.prompt_sets.items() if s}
        raise ConfigError(
            "There is nothing to ask: "
            + ("; ".join(f"prompt set {n} is from data.{s}" for n, s in asked.items()) or "no set")
            + ", and no such data set is configured. Choose data=... or evaluation=..."
        )
    return sets


def measures_harm(sets: list[PromptSet]) -> bool:
    """Whether the harm classifier is needed."""
    return any(is_judged(prompt_set) for prompt_set in sets)


def _check_model(config: DictConfig, name: str | None, key: str, online: bool) -> str:
    if name is None:
        if config.model.base is None:
            raise ConfigError(
                "No model to evaluate. Name one: unlearn evaluate <hub id or folder>, or give a "
                "recipe for one in model.base."
            )
        return "model: trained from scratch"
    base, made = None, makes_base(config)
    if is_adapter_folder(name):
        check_adapter_folder(name)
        base = adapter_base(config, name, made="the model of model.base" if made else None)
    whole = base or name
    if not (base and made):
        check_local(whole, tokenizer_of(config, name, base), key)
        if online or is_here(whole):
            check_context_length(whole, config.model.revision, scored_lengths(config), key)
    return f"model: {name}" + (f", an adapter on {base}" if base else "")
