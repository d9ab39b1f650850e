"""Computes with a model in another precision for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from unlearning.models.decoder import CausalLM, is_eight_bit


@contextmanager
def computing_in(model: CausalLM, dtype: torch.dtype) -> Iterator[None]:
    """Context in which a model computes in another dtype; its weights come back bit for bit.

    Buffers stay as they are: of rotary frequencies in bf16, angles would be off by up to a radian
    at position 300. A model in 8 bits is left alone. Needs the memory of both copies.
    """
    kept = {
        name: parameter.data
        for name, parameter in model.named_parameters()
        if parameter.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and parameter.dtype != dtype
        and not is_eight_bit(model)
    }
    parameters = dict(model.named_parameters())
    try:
        for name, value in kept.items():
            parameters[name].data = value.to(dtype)
        yield
    finally:
        for name, value in kept.items():
            parameters[name].data = value
