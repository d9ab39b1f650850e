"""Generates a model's answers, and caches them for other runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unlearning.classifier.scorer import HarmScorer
from unlearning.evaluation import evaluate
from unlearning.metrics.bleurt import Bleurt
from unlearning.metrics.embedding import EmbeddingSimilarity, load_encoder
from unlearning.metrics.generations import read_generations, write_generations
from unlearning.metrics.likeness import Similarity, bleu_to_target, similarity_metrics
from unlearning.metrics.metric import Metric
from unlearning.metrics.prompt_sets import metrics_of, needs_of
from unlearning.models.decoder import CausalLM
from unlearning.models.low_precision import computing_in
from unlearning.progress import counting
from unlearning.run.config.build import build_template, evaluation_settings, stop_strings
from unlearning.run.config.precision import evaluation_dtype
from unlearning.run.output.store import Store, model_identity
from unlearning.run.stages.context import KEPT, RunContext
from unlearning.run.stages.evaluated import load_evaluated, tokenizer_of
from unlearning.run.stages.models import Judge, evaluation_device
from unlearning.types import Generation, PromptSet

GENERATIONS = "generations.jsonl"


def evaluate_kept(
    run: RunContext, judge: Judge, model: str, stage: str, base: str | None = None
) -> list[Generation]:
    """Runs the stage `evaluate <stage>` on a model by name or folder.

    Args:
        base: the base model, where `model` is an adapter.
    """
    with run.stage(f"evaluate {stage}") as notes:
        found, kept = kept_answers(
            run.config, run.store, model, run.sets, stage, judge.scorer, judge.scores, base
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
    dtype = evaluation_dtype(config)
    with computing_in(model, dtype), counting(f"evaluate {stage}", total, "prompt") as done:
        return evaluate(model, tokenizer, sets, template, stage, scorer, settings, done)


def kept_answers(
    config: DictConfig,
    store: Store,
    name: str,
    sets: list[PromptSet],
    stage: str,
    scorer: HarmScorer | None,
    scores: dict[str, Any],
    base: str | None = None,
) -> tuple[list[Generation], bool]:
    """Returns the answers of a model by name or folder, made once for all runs and stages that ask
    for them.

    Args:
        base: the base model, where `name` is an adapter.

    Returns:
        The answers, and whether they were kept from an earlier run.
    """
    revision = config.model.revision
    inputs = {
        "model": model_identity(name, revision),
        "adapter_of": base and model_identity(base, revision),
        "tokenizer": model_identity(tokenizer_of(config, name, base), revision),
        "sets": [_asked(prompt_set) for prompt_set in sets],
        "template": repr(build_template(config)),
        "settings": [
            config.evaluation.max_new_tokens, config.data.max_length, config.classifier.max_length,
            evaluation_device(config).type, stop_strings(config), str(evaluation_dtype(config)),
        ],
        "classifier": scores.get("id"),
        "labels": OmegaConf.to_container(config.classifier, resolve=True).get("labels"),  # type: ignore[union-attr]
    }  # fmt: skip

    def make(folder: Any) -> None:
        folder.mkdir()
        model, tokenizer = load_evaluated(config, name, base)
        found = answers(config, model, tokenizer, sets, stage, scorer)
        write_generations(folder / GENERATIONS, found)

    folder, kept = store.get("answers", inputs, make)
    found = read_generations(folder / GENERATIONS)
    return [replace(generation, stage=stage) for generation in found], kept


def _asked(prompt_set: PromptSet) -> list[Any]:
    """Returns everything of a prompt set that its answers depend on."""
    examples = [[e.conversation, e.response] for e in prompt_set.examples]
    more = [[e.named_alternatives(), e.label] for e in prompt_set.examples]
    needs, own = sorted(needs_of(prompt_set)), prompt_set.template
    template = dict(own) if isinstance(own, Mapping) else repr(own)
    length = prompt_set.max_length
    return [prompt_set.name, prompt_set.split, examples, more, needs, template, length]


def load_similarities(config: DictConfig) -> dict[str, Similarity]:
    """Loads the similarity models that are configured, by name.

    Raises:
        ConfigError: there is no such model, or its package is not installed.
    """
    found: dict[str, Similarity] = {}
    if config.evaluation.embedding:
        found["embedding"] = EmbeddingSimilarity(load_encoder(config.evaluation.embedding))
    if config.evaluation.bleurt:
        found["bleurt"] = Bleurt(config.evaluation.bleurt)
    return found


def metrics_by_set(
    config: DictConfig,
    sets: list[PromptSet],
    similarities: Mapping[str, Similarity] | None = None,
) -> dict[str, tuple[Metric, ...]]:
    """The metrics of every prompt set, with those of the similarity models that are configured.

    Args:
        similarities: these models; None loads them.
    """
    similarities = load_similarities(config) if similarities is None else similarities
    found = {}
    for prompt_set in sets:
        metrics = list(metrics_of(prompt_set))
        if "completion" in needs_of(prompt_set):
            for name, similarity in similarities.items():
                metrics += similarity_metrics(name, similarity, prompt_set.kind)
        found[prompt_set.name] = tuple(metrics)
    return found


def summary(generations: list[Generation], config: DictConfig) -> list[str]:
    """Summarises answers for the stage's line: harmful rates, and similarity to the book."""
    found = []
    for name, settings in config.evaluation.prompt_sets.items():
        mine, kind = [g for g in generations if g.prompt_set == name], (settings or {}).get("kind")
        judged = [g.harm_probability for g in mine if g.harm_probability is not None]
        if kind == "harmful" and judged:
            harmful = sum(p > config.classifier.threshold for p in judged)
            found.append(f"{name} {harmful / len(mine):.0%} harmful")
        if kind == "copyright" and mine:
            score = bleu_to_target.statistic(mine)
            found += [f"{name} BLEU {score.value:.1f}"] if score else []
    return found
