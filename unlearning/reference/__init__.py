"""The frozen reference model of the KL term: adapter off, cached hidden states, or a copy.

| mode          | how                                                                | costs       |
|---------------|--------------------------------------------------------------------|-------------|
| `adapter_off` | the policy with its fresh LoRA adapter switched off                | a forward   |
| `cached`      | its hidden states at the loss positions, computed once             | disk        |
| `copy`        | a second model                                                     | a model     |

All three give the same hidden states. None is ever in the policy's `state_dict`, its optimizer or
a DDP bucket, and none is the policy itself: in the authors' released code the reference was the
very object that PEFT rewires in place, so that their KL term had no gradient.

The reference is the policy before its first step, unless another model is given: that from before
a fine-tuning, say, for a policy that was fine-tuned on what it is to forget.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel

from unlearning.errors import ConfigError
from unlearning.models.adapter import is_fresh
from unlearning.models.decoder import CausalLM
from unlearning.reference.base import Reference
from unlearning.reference.cached import Cached
from unlearning.reference.live import AdapterOff, Copy
from unlearning.types import Role

__all__ = ["AdapterOff", "Cached", "Copy", "Mode", "Reference", "build_reference"]

Mode = Literal["auto", "adapter_off", "cached", "copy"]
CACHEABLE: frozenset[Role] = frozenset({"forget", "retain"})
"""Roles whose answers meet the same prompt in every epoch."""


def build_reference(
    mode: Mode,
    policy: CausalLM,
    *,
    cache_dir: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    cache_bytes: int = 0,
    cache_limit: int = 8 << 30,
    passes: float = 0.0,
    roles: frozenset[Role] | set[Role] = frozenset({"retain"}),
    model: CausalLM | None = None,
    sharded: bool = False,
    inner: bool = False,
) -> Reference:
    """Builds the reference for a mode; `auto` chooses the cheapest.

    `auto`: the states are cached if `cache_bytes` stay below `cache_limit`, with a LoRA policy only
    if the data are passed often enough; otherwise a LoRA policy is its own reference with the
    adapter off; otherwise a second model is kept.

    Args:
        passes: how often the training uses each sequence. Caching takes one forward of each, so
            that below 1 a forward in every step is cheaper.
        model: the reference, where it is another model than the policy before its first step.
        sharded: the policy will be split over the ranks. A second model would be whole on each of
            them, so that `copy` is refused and `auto` does not take it.
        inner: hidden states of inner layers are needed, or those of held-out answers, which are not
            cached.

    Raises:
        ConfigError: the mode cannot serve this policy or these roles.
    """
    if mode == "auto":
        fits, able = cache_bytes <= cache_limit, roles <= CACHEABLE and not inner
        if isinstance(policy, PeftModel) and model is None:
            pays = passes >= 1 and is_fresh(policy)
            mode = "cached" if able and fits and pays else "adapter_off"
        else:
            mode = "cached" if able and (fits or sharded) else "copy"
    if mode == "adapter_off":
        if model is not None:
            raise ConfigError(
                "reference=adapter_off is the policy without its adapter, and another model was "
                "given as the reference. Use cached or copy."
            )
        return AdapterOff(policy)
    if mode == "copy":
        if sharded:
            raise ConfigError(
                "The reference would be a second model (reference=copy), whole on every device, "
                "which is what splitting the first one avoids. Take adapter_off with LoRA, or "
                "cached: that needs a retain set that is not streamed, and no KL on mismatch "
                "answers."
            )
        return Copy(policy, model)
    if mode == "cached":
        if not roles <= CACHEABLE:
            raise ConfigError(
                "reference=cached cannot serve a term on mismatch or alternate answers: they meet "
                "other prompts every epoch. Use copy, or adapter_off with LoRA."
            )
        if inner:
            raise ConfigError(
                "reference=cached keeps the states under the output head of the training split "
                "alone: none of inner layers, and none of held-out answers. Use copy, or "
                "adapter_off with LoRA."
            )
        return Cached(policy, cache_dir, dtype, model=model)
    raise ConfigError(f"Unknown reference {mode!r}; choose auto, adapter_off, cached or copy.")
