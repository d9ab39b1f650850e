"""Chooses the held-out retain prompts that the guard's `retain_utility` is measured on.

They are the first of the retain data's validation split whatever the evaluation asks, so that runs
which are asked other prompts, such as the trials and tests of a comparison, end at the same step.
"""

from __future__ import annotations

from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf

from unlearning.data.examples import ExampleDataModule
from unlearning.errors import ConfigError
from unlearning.run.config.method import edits_weights
from unlearning.run.config.prompt_sets import one_per_prompt
from unlearning.types import Example

KEY = "callbacks.guard.retain_utility"


def utility_examples(
    config: DictConfig, data: Mapping[str, ExampleDataModule | None]
) -> list[Example]:
    """Returns prompts with gold answers that nothing is trained on; none where no limit is set.

    Raises:
        ConfigError: a limit is set, and the retain data has no such prompts.
    """
    settings, retain = OmegaConf.select(config, KEY), data["retain"]
    limit = settings.perplexity if settings else None  # absent in configurations of version 0.9
    if limit is None or retain is None or edits_weights(config):
        return []
    where = f"{KEY}.perplexity={limit} is measured on the validation split of data.retain"
    found = one_per_prompt([retain.examples("validation")], settings.prompts)
    if not found:
        raise ConfigError(
            f"{where}, which is empty. Give it a share, such as data.retain.fractions=[0.7,0.1,0.2]"
            " (of joined data sets one of them), or set no limit: null."
        )
    answered = [example for example in found if example.response]
    if not answered:
        raise ConfigError(f"{where}, whose prompts have no gold answers. Set no limit: null.")
    return answered
