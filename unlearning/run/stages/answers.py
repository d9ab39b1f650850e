"""Generates a model's answers, and caches them for other runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unlearning.classifier.scorer import HarmScorer
from unlearning.evaluation import evaluate
from unlearning.metrics.bleurt import Bleurt
from unlearning.metrics.embedding import EmbeddingSimilarity, load_encoder
from unlearning.metrics.generations import read_generations, write_generations
from unlearning.metrics.similarity import corpus_bleu
from unlearning.models.decoder import CausalLM
from unlearning.run.config.build import build_template, evaluation_settings
from unlearning.run.output.progress import counting
from unlearning.run.output.store import Store, model_identity
from unlearning.run.stages.context import KEPT, RunContext
from unlearning.run.stages.models import Judge, evaluation_device, load_base
from unlearning.types import Generation, PromptSet

GENERATIONS = "generations.jsonl"


def evaluate_kept(run: RunContext, judge: Judge, model: str, stage: str) -> list[Generation]:
    """Runs the stage `evaluate <stage>` on a model by name or folder."""
    with run.stage(f"evaluate {stage}") as notes:
        found, kept = kept_answers(
            run.config, run.store, model, run.sets, stage, judge.scorer, judge.scores
        )
        notes += [KEPT] * kept + summary(found, run.config)
    return found


def evaluate_loaded(
    run: RunContext, judge: Judge, model: CausalLM | None, tokenizer: Any, stage: str
) -> list[Generation]:
    """Runs the stage `evaluate <stage>` on a model in memory, whose answers are not kept."""
    assert model is not None  # rank 0 has it whole
    with run.stage(f"evaluate {stage}") as notes:
        found = answers(run.config, model, tokenizer, run.sets, stage, judge.scorer)
        notes += summary(found, run.config)
    return found


def answers(
    config: DictConfig,
    model: CausalLM,
    tokenizer: Any,
    sets: list[PromptSet],
    stage: str,
    scorer: HarmScorer | None,
) -> list[Generation]:
    """Generates a model's answers to every prompt."""
    template, settings = build_template(config), evaluation_settings(config)
    model.to(evaluation_device(config))  # type: ignore[arg-type]
    total = sum(len(prompt_set.examples) for prompt_set in sets)
    with counting(f"evaluate {stage}", total) as done:
        return evaluate(model, tokenizer, sets, template, stage, scorer, settings, done)


def kept_answers(
    config: DictConfig,
    store: Store,
    name: str,
    sets: list[PromptSet],
    stage: str,
    scorer: HarmScorer | None,
    scores: dict[str, Any],
) -> tuple[list[Generation], bool]:
    """Returns the answers of a model by name or folder, made once for all runs and stages that ask
    for them.

    Returns:
        The answers, and whether they were kept from an earlier run.
    """
    inputs = {
        "model": model_identity(name, config.model.revision),
        "tokenizer": model_identity(config.model.tokenizer or name, config.model.revision),
        "sets": [[s.name, s.kind, [[e.prompt, e.response] for e in s.examples]] for s in sets],
        "template": OmegaConf.to_container(config.data.template),
        "settings": [
            config.evaluation.max_new_tokens, config.data.max_length, config.classifier.max_length,
            evaluation_device(config).type,
        ],
        "classifier": scores.get("id"),
        "labels": OmegaConf.to_container(config.classifier, resolve=True).get("labels"),  # type: ignore[union-attr]
    }  # fmt: skip

    def make(folder: Any) -> None:
        folder.mkdir()
        model, tokenizer = load_base(config, name)
        found = answers(config, model, tokenizer, sets, stage, scorer)
        write_generations(folder / GENERATIONS, found)

    folder, kept = store.get("answers", inputs, make)
    found = read_generations(folder / GENERATIONS)
    return [replace(generation, stage=stage) for generation in found], kept


def similarities(config: DictConfig) -> dict[str, Callable[..., Any]]:
    """Builds the similarity metrics that need a model of their own, where one is configured."""
    found: dict[str, Callable[..., Any]] = {}
    if config.evaluation.embedding:
        found["embedding"] = EmbeddingSimilarity(load_encoder(config.evaluation.embedding))
    if config.evaluation.bleurt:
        found["bleurt"] = Bleurt(config.evaluation.bleurt)
    return found


def summary(generations: list[Generation], config: DictConfig) -> list[str]:
    """Summarises answers for the stage's line: harmful rates, and similarity to the book."""
    found = []
    for name, settings in config.evaluation.prompt_sets.items():
        mine = [g for g in generations if g.prompt_set == name]
        judged = [g.harm_probability for g in mine if g.harm_probability is not None]
        if settings.kind == "harmful" and judged:
            harmful = sum(p > config.classifier.threshold for p in judged)
            found.append(f"{name} {harmful / len(mine):.0%} harmful")
        if settings.kind == "copyright" and mine:
            score = corpus_bleu([g.completion for g in mine], [g.target for g in mine])
            found.append(f"{name} BLEU {score:.1f}")
    return found
