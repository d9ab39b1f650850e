"""Trains the retain oracle: the same fine-tuning without the forget set.

What unlearning should come to, if it came to what retraining does; metrics such as TOFU's forget
quality (arXiv 2401.06121, Section 2.2) compare with it. It is as free of the forget set as the
base model is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.run.checks.weights import check_local
from unlearning.run.stages.answers import evaluate_kept
from unlearning.run.stages.context import KEPT, RunContext
from unlearning.run.stages.finetune import finetuned_model
from unlearning.run.stages.models import Judge, ordinary_folder
from unlearning.run.stages.taught import Sets, finetuned_sets
from unlearning.types import Generation

STAGE = "oracle"
BASE_IS_ORACLE = "the base model, since fine-tuning is on the forget set alone"


@dataclass(frozen=True)
class Oracle:
    """Answers of the oracle, and where it came from; None where none was asked for."""

    answers: list[Generation] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def oracle_sets(config: DictConfig) -> Sets:
    """Returns the splits that the fine-tuning trains on, without the forget set."""
    return {name: splits for name, splits in finetuned_sets(config).items() if name != "forget"}


def trains_oracle(config: DictConfig) -> bool:
    """Whether there is one to be trained: not where a model is named or is the base model."""
    return config.oracle is True and bool(oracle_sets(config))


def evaluate_oracle(run: RunContext, judge: Judge, base: str) -> Oracle:
    """Runs the stages `oracle` and `evaluate oracle`, where one is asked for."""
    config = run.config
    if not config.oracle:
        return Oracle()
    if not trains_oracle(config):
        named = config.oracle is not True
        model, facts = (config.oracle,) * 2 if named else (base, BASE_IS_ORACLE)
        model = ordinary_folder(run.store, model)
        return Oracle(evaluate_kept(run, judge, model, STAGE), {"model": facts})
    with run.stage(STAGE) as notes:
        model, facts, kept = finetuned_model(
            config, run.store, base, run.data, run.tracking, oracle_sets(config), STAGE
        )
        run.tracking.evaluated(STAGE, facts)
        notes += [KEPT] * kept + [f"{facts['steps']} steps"]
    return Oracle(evaluate_kept(run, judge, model, STAGE), {"model": "retrained", **facts})


def check_oracle(config: DictConfig) -> str | None:
    """Checks the oracle; returns a line about it, None where none is asked for.

    Raises:
        ConfigError: it is neither true, false nor a model, or there is no recipe to repeat.
    """
    if config.oracle in (None, False):
        return None
    if config.oracle is not True:
        if not isinstance(config.oracle, str):
            raise ConfigError(f"oracle={config.oracle!r}: expected true, false or a model's name.")
        check_local(config.oracle, config.model.tokenizer, "oracle")
        return f"oracle: {config.oracle}"
    if config.finetune is None:
        raise ConfigError(
            "oracle=true repeats the fine-tuning without the forget set, and there is none. Choose "
            "a finetune=, or name a retrained model: oracle=<hub id or folder>."
        )
    if config.finetune.load is not None:
        raise ConfigError(
            f"oracle=true: how {config.finetune.load} was trained is not known, so it cannot be "
            "repeated. Name a retrained model: oracle=<hub id or folder>."
        )
    if "forget" not in finetuned_sets(config):
        raise ConfigError(
            "oracle=true: finetune.sets leaves the forget set out, so the fine-tuned model is its "
            "own oracle. Set finetune.sets.forget=train, or oracle=false."
        )
    sets = oracle_sets(config)
    return f"oracle: fine-tuned on {', '.join(sets)}" if sets else f"oracle: {BASE_IS_ORACLE}"
