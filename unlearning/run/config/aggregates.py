"""Builds aggregates, figures of several prompt sets, from `evaluation.aggregates`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.metrics.aggregate import Aggregate
from unlearning.metrics.generations import read_generations
from unlearning.metrics.prompt_sets import metrics_of
from unlearning.run.config.prompt_sets import build_metric, checked_mapping
from unlearning.types import Generation, PromptSet

STAGES = ("oracle", "original", "before", "after")
KEYS = ("metric", "of", "label", "against", "stage")


def aggregates(
    config: DictConfig,
    sets: Sequence[PromptSet],
    answers: Mapping[str, Sequence[Generation]] | None = None,
) -> dict[str, Aggregate]:
    """Builds the figures of several sets.

    Args:
        answers: of the run's models, by stage; None: they are not there yet.

    Raises:
        ConfigError: one is of a figure that no set has, or its other model's file is not there.
    """
    figures = {f"{s.name}/{metric.name}" for s in sets for metric in metrics_of(s)}
    found = {}
    for name, node in (config.evaluation.get("aggregates") or {}).items():
        where = f"evaluation.aggregates.{name}"
        settings = checked_mapping(node, KEYS, where)
        metric = build_metric(settings.get("metric"), f"{where}.metric")
        of = tuple(settings.get("of") or ())
        if not of or (unknown := [key for key in of if key not in figures]):
            raise ConfigError(
                f"{where}.of: {unknown if of else 'nothing'} is not measured; choose from "
                f"{sorted(figures)}."
            )
        label = settings.get("label") or metric.label
        others = _others(settings, answers, where)
        found[str(name)] = Aggregate(replace(metric, label=label), of, others)
    return found


def _others(
    settings: Mapping[str, Any], answers: Mapping[str, Sequence[Generation]] | None, where: str
) -> Sequence[Generation]:
    """Returns the answers of the model that an aggregate compares with; none where it does not."""
    against = str(settings.get("against") or "")
    if against in STAGES:
        others = (answers or {}).get(against, ())
        if answers is not None and not others:
            raise ConfigError(f"{where}.against: this run has no answers of {against}.")
        return others
    if not against:
        return ()
    stage = settings.get("stage") or "after"
    kept = read_generations(Path(against))
    found = [generation for generation in kept if generation.stage == stage]
    if not found:
        there = sorted({generation.stage for generation in kept})
        raise ConfigError(
            f"{where}: {against} has no answers of stage {stage!r}; it has {there}. Set "
            f"{where}.stage to one of them."
        )
    return found


def check_against(config: DictConfig, models: Iterable[str]) -> None:
    """Checks that aggregates are against models that there will be.

    Args:
        models: by stage, those that the run measures.

    Raises:
        ConfigError: naming the aggregate and the models.
    """
    there = list(models)
    for name, node in (config.evaluation.get("aggregates") or {}).items():
        against = node.get("against")
        if against in STAGES and against not in there:
            hint = " Set oracle=true." if (against, config.task) == ("oracle", "unlearn") else ""
            raise ConfigError(
                f"evaluation.aggregates.{name}.against={against}: this run has no such model; it "
                f"measures {', '.join(there)}.{hint}"
            )
