"""Chooses which weights of a model are trained, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from peft import PeftModel

from unlearning.errors import ConfigError
from unlearning.models.decoder import CausalLM, unwrap
from unlearning.models.layers import blocks


def choose_trained(model: CausalLM, patterns: Sequence[str]) -> list[str]:
    """Freezes every weight whose name no pattern matches; names of those that are trained.

    Args:
        patterns: regular expressions, each searched in the weight's name and, for a weight of a
            decoder block, in `blocks.<number>.<the rest of its name>`, which is the same for every
            architecture: `blocks.[567].` are all weights of three blocks.

    Raises:
        ConfigError: a pattern matches nothing or is no regular expression, or the model has an
            adapter, which says by itself what is trained.
    """
    if isinstance(model, PeftModel):
        raise ConfigError(
            f"trained={list(patterns)} is for full fine-tuning. With LoRA, choose the adapter's "
            "target_modules."
        )
    try:
        searches = {pattern: re.compile(pattern).search for pattern in patterns}
    except re.error as error:
        raise ConfigError(f"trained={list(patterns)}: no regular expression: {error}.") from error
    aliases = _block_names(model)
    found: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    for name, _ in model.named_parameters():
        for pattern, search in searches.items():
            if search(name) or search(aliases.get(name, name)):
                found[pattern].append(name)
    missing = [pattern for pattern, names in found.items() if not names]
    if missing or not patterns:
        examples = list(aliases.values())[:8]
        raise ConfigError(
            f"trained={missing or list(patterns)} matches no weight. Among others there are "
            f"{examples}."
        )
    chosen = {name for names in found.values() for name in names}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return [name for name, _ in model.named_parameters() if name in chosen]


def _block_names(model: CausalLM) -> dict[str, str]:
    """`blocks.<number>.<rest>` by the names of the weights of decoder blocks."""
    names = {id(p): name for name, p in unwrap(model).named_parameters()}
    return {
        names[id(parameter)]: f"blocks.{number}.{rest}"
        for number, block in enumerate(blocks(model))
        for rest, parameter in block.named_parameters()
    }
