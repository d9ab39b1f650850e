"""`trainer=debug`: runs every stage with a few steps and prompts."""

from __future__ import annotations

import copy

from omegaconf import DictConfig, OmegaConf

from unlearning.run.config.answers import alternates_of_model

NEW_TOKENS = 8
"""Of an alternate answer: each forget prompt has some."""


def limited(config: DictConfig) -> DictConfig:
    """Applies the debug limits to a configuration that has them.

    Every stage then sees ordinary settings, and keeps its result under another key than a full run.
    """
    if config.debug is None:
        return config
    config, steps = copy.deepcopy(config), config.debug.steps
    changes = {
        "unlearn.max_steps": steps,
        "unlearn.warmup_steps": 0,
        "callbacks.harm.every_n_steps": steps,
        "callbacks.bleu.every_n_steps": steps,
        "callbacks.samples.every_n_steps": steps,
        "callbacks.checkpoint.every_n_steps": steps,
        "classifier.train.max_steps": steps,
        "classifier.train.warmup_steps": 0,
        "finetune.max_steps": steps,
        "finetune.warmup_steps": 0,
        "finetune.require": None,  # so few steps teach nothing
        "model.base.max_steps": steps,
        "model.base.training.warmup_steps": 0,
    }
    if "answers" in config.data:
        # Drawn and kept as they are: greedily, a model that has learned nothing says one thing.
        enough = max(config.debug.prompts, config.data.mismatch_per_prompt)
        changes |= {
            "data.answers.limit": enough, "data.answers.keep_broken": True,
            "data.answers.temperature": 1.0,
        }  # fmt: skip
    if (alternate := alternates_of_model(config)) is not None:
        # One more than is drawn, since what such a model says can be empty.
        changes |= {
            "data.alternate.samples": min(
                alternate.samples, config.data.alternates_per_prompt + 1
            ),
            "data.alternate.max_new_tokens": min(alternate.max_new_tokens, NEW_TOKENS),
            "data.alternate.keep_broken": True,
        }  # fmt: skip
    for name in config.evaluation.prompt_sets:
        changes[f"evaluation.prompt_sets.{name}.limit"] = config.debug.prompts
    for key, value in changes.items():
        if OmegaConf.select(config, key.rpartition(".")[0]) is not None:
            OmegaConf.update(config, key, value, force_add=key.endswith(".limit"))
    return config
