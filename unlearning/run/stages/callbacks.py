"""Builds the callbacks of the unlearning stage."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback
from omegaconf import DictConfig, OmegaConf

from unlearning.callbacks import (
    BleuEvaluation,
    CollapseGuard,
    GracefulStop,
    HarmEvaluation,
    LossCurve,
    RetainUtility,
    SampleGenerations,
)
from unlearning.callbacks.budget import LABELS
from unlearning.callbacks.checkpoint import KeepCheckpoints
from unlearning.callbacks.guarded_terms import watches_kl
from unlearning.checkpoints import check_kept
from unlearning.classifier.scorer import HarmScorer
from unlearning.data.template import template_of
from unlearning.run.config.build import build_template, evaluation_settings
from unlearning.run.config.method import objective_of
from unlearning.run.stages.user_callbacks import unlearning_callbacks
from unlearning.run.stages.watched import Watched
from unlearning.types import Example, Role

Callbacks = dict[str, Callback]
OF_LOSSES = [limit for limit in LABELS if limit != "retain_utility"]
CHECKPOINTS, LOSSES = "checkpoints", "losses.csv"


def callbacks(
    config: DictConfig,
    folder: Path,
    tokenizer: Any,
    watched: Watched | None,
    scorer: HarmScorer | None,
    stop_at: float | None = None,
    after_save: Callable[[], None] | None = None,
    retain: Sequence[Example] = (),
) -> Callbacks:
    """Returns the callbacks by name, in the order in which they are called.

    Args:
        watched: prompts to answer during the training.
        stop_at: BLEU that the model before fine-tuning has on them; there the training stops.
        after_save: called on rank 0 after each checkpoint.
        retain: prompts that the guard measures retain utility on; none where it has no such limit.
    """
    settings = config.callbacks
    examples = watched.examples if watched else []
    template = build_template(config)
    if watched is not None:
        template = template_of(watched.prompt_set(0), template)
    answering = evaluation_settings(config)
    answers: dict[str, Any] = {
        "template": template, "max_new_tokens": answering.max_new_tokens,
        "batch_size": answering.batch_size, "stop_strings": answering.stop,
    }  # fmt: skip
    found: Callbacks = {}
    if settings.guard:  # first: no other callback may save weights that it is about to restore
        found["guard"] = build_guard(config, _retain_utility(config, tokenizer, retain))
    found["losses"] = LossCurve(folder / LOSSES)
    if settings.harm and scorer is not None and watched and watched.kind == "harmful":
        chosen, every = examples[: settings.harm.prompts], settings.harm.every_n_steps
        found["harm"] = HarmEvaluation(chosen, tokenizer, scorer, every_n_steps=every, **answers)
    if settings.bleu and watched and watched.kind == "copyright":
        found["bleu"] = BleuEvaluation(
            examples[: settings.bleu.prompts], tokenizer,
            every_n_steps=settings.bleu.every_n_steps, stop_at=stop_at,
            patience=settings.bleu.patience, **answers,
        )  # fmt: skip
    if settings.samples and examples:
        found["samples"] = SampleGenerations(
            examples[: settings.samples.prompts], tokenizer, folder / "samples.jsonl",
            every_n_steps=settings.samples.every_n_steps, **answers,
        )  # fmt: skip
    found.update(unlearning_callbacks(config))
    if settings.checkpoint:
        found["checkpoint"] = build_checkpoints(config, folder, after_save)
    # Last: its checkpoint holds everybody's state of the step it is of.
    found["interrupt"] = GracefulStop(
        folder / CHECKPOINTS, f"unlearn resume={shlex.quote(str(folder))}"
    )
    return found


def stop_reason(callbacks: Mapping[str, Callback]) -> str | None:
    """Explains why the training ended before its last step; None where it did not."""
    reasons = (getattr(callback, "reason", None) for callback in callbacks.values())
    return next((str(reason) for reason in reasons if reason), None)


def kept_steps(callbacks: Mapping[str, Callback], steps: int) -> int:
    """Returns the number of optimizer steps in the weights: without those that a guard undid."""
    guards = (found for found in callbacks.values() if isinstance(found, CollapseGuard))
    return min((guard.kept_steps(steps) for guard in guards), default=steps)


def _retain_utility(
    config: DictConfig, tokenizer: Any, retain: Sequence[Example]
) -> RetainUtility | None:
    if not retain:
        return None
    return RetainUtility(
        retain, tokenizer, config.callbacks.guard.retain_utility.perplexity,
        build_template(config), config.data.max_length, config.evaluation.batch_size,
        config.cache_dir,
    )  # fmt: skip


def build_guard(config: DictConfig, retain_utility: RetainUtility | None = None) -> CollapseGuard:
    """Builds the collapse guard, without limits on what this objective does not compute (a term
    of weight 0).

    Args:
        retain_utility: what is measured of held-out prompts, which needs the data sets.
    """
    settings: dict[str, Any] = OmegaConf.to_container(config.callbacks.guard)  # type: ignore[assignment]
    settings["retain_utility"] = retain_utility
    objective = objective_of(config)
    if objective is None:  # a module of its own, whose metrics are not known here
        return CollapseGuard(**{**settings, **dict.fromkeys(OF_LOSSES)})
    watched: dict[str, Role] = {"retain_perplexity": "retain", "forget_nll": "forget"}
    absent = {limit for limit, role in watched.items() if role not in objective.roles}
    # Towards the model before fine-tuning the KL starts wherever the fine-tuning has left it.
    of_base = config.finetune is not None and config.reference.of == "base"
    if of_base or not any(watches_kl(term) for term in objective.terms.values()):
        absent.add("retain_kl")
    return CollapseGuard(**{**settings, **dict.fromkeys(absent)})


def build_checkpoints(
    config: DictConfig, folder: Path, after_save: Callable[[], None] | None = None
) -> KeepCheckpoints:
    """Builds the callback that saves checkpoints.

    Raises:
        ConfigError: settings that make no sense, of a finished run's checkpoints as well.
    """
    settings: dict[str, Any] = OmegaConf.to_container(config.callbacks.checkpoint)  # type: ignore[assignment]
    check_kept(settings.pop("finished", "last"))
    return KeepCheckpoints(folder / CHECKPOINTS, **settings, after_save=after_save)
