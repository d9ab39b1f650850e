"""Rank allocation and orthogonality penalty of AdaLoRA (arXiv 2303.10512).

An update is P diag(e) Q. A penalty keeps P and Q orthogonal, so that the entries of e can be judged
one by one, and after every step the least important ones of all layers are set to zero, until as
many are left as were asked for. PEFT adds the penalty only where the model computes its own loss,
and leaves the allocation to the training loop; here the modules that train a policy call both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import AdaLoraConfig, AdaLoraModel, PeftModel
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.models.decoder import CausalLM

SCORES = ("exp_avg_ipt", "exp_avg_unc")  # PEFT's running means of importance and its uncertainty


def is_adalora(policy: CausalLM) -> bool:
    """Whether the policy has a trainable AdaLoRA adapter."""
    return (
        isinstance(policy, PeftModel)
        and isinstance(policy.base_model, AdaLoraModel)
        and not _config(policy).inference_mode
    )


def plan_ranks(policy: CausalLM, steps: float) -> None:
    """Scales the rank schedule to the number of steps of a run, in the same proportions.

    Raises:
        ConfigError: too few steps to judge the ranks before they are fixed.
    """
    config = _config(policy)
    assert config.total_step is not None, "PEFT makes none without"
    warmup, final = (round(n / config.total_step * steps) for n in (config.tinit, config.tfinal))
    if steps - final < max(2, warmup + 1):
        raise ConfigError(
            f"AdaLoRA allocates its ranks over {steps - final:.0f} of {steps:.0f} steps, {warmup} "
            "of them warm-up; it needs two, and one after the warm-up. Train longer, lower "
            "final_fraction, or use kind=lora."
        )
    config.tinit, config.tfinal, config.total_step = warmup, final, int(steps)


def allocate_ranks(policy: CausalLM, step: int) -> None:
    """Updates the importance of the ranks from this step's gradients, and zeroes the least
    important.

    Args:
        step: number of the optimizer step just made, from 1; its gradients are still there.
    """
    allocator, places = _tuner(policy).rankallocator, dict(_tuner(policy).model.named_parameters())
    for name in SCORES:  # those of a checkpoint are on the CPU
        scores = getattr(allocator, name)
        for key, value in scores.items():
            scores[key] = value.to(places[key].device)
    _tuner(policy).update_and_allocate(step)


def orthogonality(policy: CausalLM) -> Tensor:
    """Computes AdaLoRA's orthogonality penalty: weight * mean over all P and Q of || P^T P - I ||_F
    (arXiv 2303.10512, Eq. 4).

    The mean, and the norm without a square, are PEFT's.
    """
    distances = []
    with torch.autocast(policy.device.type, enabled=False):
        for name, weight in policy.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                rows = weight if ".lora_A." in name else weight.T
                identity = torch.eye(len(rows), device=rows.device, dtype=rows.dtype)
                distances.append(torch.linalg.matrix_norm(rows @ rows.T - identity))
    return _config(policy).orth_reg_weight * torch.stack(distances).mean()


def rank_state(policy: CausalLM) -> dict[str, Any]:
    """Returns the allocator's state that a checkpoint needs beside the weights for an exact
    resume."""
    allocator = _tuner(policy).rankallocator
    scores = {name: dict(getattr(allocator, name)) for name in SCORES}
    return {**scores, "rank_pattern": _config(policy).rank_pattern}


def load_rank_state(policy: CausalLM, state: Mapping[str, Any]) -> None:
    """Restores what `rank_state` returned."""
    allocator = _tuner(policy).rankallocator
    for name in SCORES:
        setattr(allocator, name, dict(state[name]))
    # Overwritten at every step; where a weight is missing here, PEFT clears its means, too.
    allocator.ipt = dict(state[SCORES[0]])
    _config(policy).rank_pattern = state["rank_pattern"]


def _tuner(policy: CausalLM) -> Any:
    assert isinstance(policy, PeftModel)
    return policy.base_model


def _config(policy: CausalLM) -> AdaLoraConfig:
    assert isinstance(policy, PeftModel)
    config = policy.peft_config[policy.active_adapter]
    assert isinstance(config, AdaLoraConfig)
    return config
