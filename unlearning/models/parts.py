"""Finds the decoder inside a causal language model."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from unlearning.errors import ConfigError


def decoder_of(base: PreTrainedModel) -> Any:
    """Returns the decoder under the output head.

    Some classes have no decoder by transformers' own account, or a linear layer of that name; there
    it is the one model inside.

    Raises:
        ConfigError: there is none, or more than one.
    """
    found = base.get_decoder()
    if found is not base and not isinstance(found, nn.Linear):
        return found
    inside = [child for child in base.children() if isinstance(child, PreTrainedModel)]
    if len(inside) != 1:
        raise ConfigError(
            f"{type(base).__name__} has no decoder apart from its output head. Choose another "
            "model; docs/models.md has a table of those that work."
        )
    return inside[0]
