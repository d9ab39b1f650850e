"""How much there is to do, before it starts: counts alone, since no time is known yet."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from unlearning.metrics.prompt_sets import needs_of
from unlearning.types import PromptSet


def answers_line(config: DictConfig, sets: Sequence[PromptSet]) -> str:
    """Says how many prompts are answered, by how many models."""
    asked = {each.name: len(each.examples) for each in sets if needs_of(each) & ANSWERED}
    models = 2 + (config.finetune is not None) + bool(config.oracle)
    listed = ", ".join(f"{name} {number}" for name, number in asked.items())
    return (
        f"answers: {sum(asked.values())} prompts ({listed}) by {models} models, "
        f"{config.evaluation.max_new_tokens} tokens at most"
    )


ANSWERED = frozenset({"completion", "harm"})
"""What a metric needs an answer for; likelihoods need none."""
