"""Identifies models by a digest of their weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from unlearning.models.decoder import CausalLM, unwrap

LEFT_OUT = ("_name_or_path", "architectures", "dtype", "transformers_version", "use_cache")
"""Of a configuration: where a model lies and how it was saved."""
WRAPPED = re.compile(r"(\.base_layer)+\.")


def weights_fingerprint(model: CausalLM) -> str:
    """Returns a digest of every weight, so that a cache is never read for another model."""
    return _digest(model.state_dict())


def base_fingerprint(model: CausalLM) -> str:
    """Returns a digest of the weights under an adapter; without an adapter, the same as
    `weights_fingerprint`.

    PEFT's `base_layer` is removed from the names of weights; a tensor of routed experts can have
    several.
    """
    base = {
        WRAPPED.sub(".", name): weight
        for name, weight in unwrap(model).state_dict().items()
        if ".lora_" not in name and ".ranknum." not in name  # the latter is AdaLoRA's
    }
    return _digest(base)


def settings_fingerprint(model: CausalLM, with_adapter: bool) -> str:
    """Returns a digest of what the model computes with its weights: its configuration.

    Args:
        with_adapter: and how an adapter's update is scaled, which is none of its weights.
    """
    settings = unwrap(model).config.to_dict()
    kept = {name: value for name, value in settings.items() if name not in LEFT_OUT}
    scales = [
        scale
        for module in (model.modules() if with_adapter else ())
        if isinstance(scale := getattr(module, "scaling", None), dict)  # else an attention's own
    ]
    text = json.dumps([kept, scales], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _digest(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()
