"""Computes a report's figures from made-up answers, so that what cannot be computed is said before
any work."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.metrics.comparison import AGGREGATES, compare
from unlearning.metrics.embedding import check_embedding
from unlearning.metrics.prompt_sets import needs_of
from unlearning.run.config.aggregates import STAGES, aggregates
from unlearning.run.config.build import comparison_settings
from unlearning.run.config.evaluate import EVALUATE, evaluated_models
from unlearning.run.stages.answers import load_similarities, metrics_by_set
from unlearning.types import AlternativeScore, Example, Generation, PromptSet

log = logging.getLogger(__name__)
TRIED = 4  # prompts of each set
RESAMPLES = 50


def check_figures(config: DictConfig, sets: list[PromptSet], online: bool = False) -> None:
    """Computes every metric and aggregate of the prompt sets once, of made-up answers.

    Args:
        online: load the models of `evaluation.embedding` and `evaluation.bleurt` as well.

    Raises:
        ConfigError: two figures have one name, a metric lacks what it needs (labels, choices), an
            aggregate is of a figure that no model has or does not take its arguments, or a
            similarity model or its package is not there.
    """
    _check_embedding(config)
    if any(each.name == AGGREGATES for each in sets):
        raise ConfigError(
            f"evaluation.prompt_sets.{AGGREGATES}: figures of several sets are called so; take "
            "another name."
        )
    similarities = load_similarities(config) if online else dict.fromkeys(_named(config), _similar)
    answers = {stage: _made_up(config, sets, stage) for stage in _stages(config)}
    # Whether a run has the model that an aggregate is against is looked at elsewhere.
    joint = aggregates(config, sets, {s: _made_up(config, sets, s) for s in STAGES} | answers)
    settings = replace(comparison_settings(config), n_resamples=RESAMPLES)
    try:
        with np.errstate(all="ignore"):
            compare(answers, metrics_by_set(config, sets, similarities), settings, joint)
    except ConfigError as error:
        raise ConfigError(f"evaluation: {error}") from error
    except TypeError as error:
        raise ConfigError(
            "evaluation: a metric, an aggregate or an interval does not take what it is given: "
            f"{error}. Its function gets the answers (or the statistics) and its options."
        ) from error
    except Exception as error:
        # A metric of one's own may want more of an answer than is made up here.
        log.warning("Not all metrics could be tried before the run: %r", error)


def _check_embedding(config: DictConfig) -> None:
    if not config.evaluation.embedding:
        return
    try:
        check_embedding(config.evaluation.embedding)
    except ConfigError as error:
        raise ConfigError(f"evaluation.embedding: {error}") from error


def _named(config: DictConfig) -> list[str]:
    return [name for name in ("embedding", "bleurt") if config.evaluation[name]]


def _similar(hypotheses: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    return np.full(len(hypotheses), 0.5)


def _stages(config: DictConfig) -> list[str]:
    """Returns the models whose answers are compared, in the order of the report."""
    if config.task == EVALUATE:
        return list(evaluated_models(config))
    return [*(["original"] if config.finetune is not None else []), "before", "after"]


def _made_up(config: DictConfig, sets: list[PromptSet], stage: str) -> list[Generation]:
    judged = config.classifier.model is not None or config.classifier.train is not None
    return [
        _answer(stage, each, index, example, judged)
        for each in sets
        for index, example in enumerate(each.examples[:TRIED])
    ]


def _answer(stage: str, asked: PromptSet, index: int, example: Example, judged: bool) -> Generation:
    needs = needs_of(asked)
    likelihoods: dict[str, Any] = {
        "target_nll": 2.0 + index, "target_tokens": 3, "target_matches": 1, "target_suffix": 1,
        "verbatim_tokens": 1,
    }  # fmt: skip
    alternatives = {
        name: [AlternativeScore(text, 2.0 + n, 2, 0.1) for n, text in enumerate(texts)]
        for name, texts in example.named_alternatives()
    }
    return Generation(
        stage, asked.name, index, example.conversation, example.response, example.response,
        num_tokens=3, harm_probability=0.9 * (index % 2) if judged else None, split=asked.split,
        label=example.label,
        alternatives=alternatives if "alternatives" in needs else {},
        **(likelihoods if "target" in needs and example.response else {}),
    )  # fmt: skip
