"""Finds the decoder inside a causal language model."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def decoder_of(base: PreTrainedModel) -> Any:
    """Returns the decoder under the output head.

    Some classes have no decoder by transformers' own account, or a linear layer of that name; there
    it is the one model inside. A class without either is returned itself.
    """
    found = base.get_decoder()
    if found is not base and not isinstance(found, nn.Linear):
        return found
    inside = [child for child in base.children() if isinstance(child, PreTrainedModel)]
    return inside[0] if len(inside) == 1 else base
