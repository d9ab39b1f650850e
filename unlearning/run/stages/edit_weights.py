"""The stage that unlearns by weight arithmetic, without training the policy."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.methods.weight_edit import ModelNeed
from unlearning.run.config.build import Data
from unlearning.run.config.method import build_edit, tuning_config
from unlearning.run.output.store import Store
from unlearning.run.stages.finetune import finetuned_model
from unlearning.run.stages.models import load_base
from unlearning.run.stages.taught import finetuned_sets
from unlearning.run.stages.unlearned import Unlearned, keep_unlearned
from unlearning.run.tracking.trackers import Tracking

REFERENCE = "none: weight arithmetic"


def edit_weights(
    config: DictConfig, folder: Path, start: str, data: Data, store: Store, tracking: Tracking
) -> Unlearned:
    """Changes the weights of the model `start` by the method.

    All ranks enter, and make the models that it needs; the one that leads edits and saves.

    Raises:
        ConfigError: a model does not fit, or the edited weights are not finite.
    """
    method = build_edit(config)
    paths = {
        name: need.path or _tuned(config, start, data, need, store, tracking)
        for name, need in method.needs.items()
    }
    if not store.ranks.leads:
        return Unlearned(None, None, 0, None, [], REFERENCE)
    policy, tokenizer = load_base(config, start)
    method.edit(policy, {name: load_base(config, path)[0] for name, path in paths.items()})
    if not all(bool(torch.isfinite(p).all()) for p in policy.parameters()):
        raise ConfigError(
            f"{type(method).__name__} left weights that are not finite. Take a smaller alpha, or "
            "another tuned model."
        )
    result = Unlearned(policy, tokenizer, 0, None, [], REFERENCE)
    keep_unlearned(config, folder, result)
    return result


def _tuned(
    config: DictConfig, start: str, data: Data, need: ModelNeed, store: Store, tracking: Tracking
) -> str:
    """Returns the model `start`, fine-tuned on the forget set, and kept for the next run."""
    recipe, sets = tuning_config(config, need), finetuned_sets(tuning_config(config, need))
    model, _, _ = finetuned_model(recipe, store, start, data, tracking, sets, stage="tuned")
    return model
