"""Adds LoRA and AdaLoRA adapters to a model, prepares it for training, and merges them."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer, its weight transposed

from unlearning.errors import ConfigError
from unlearning.models.decoder import is_eight_bit, unwrap
from unlearning.models.load import full_precision, quiet_about_ranks
from unlearning.models.lora_targets import Targets, check_targets, default_targets, explain_refusal
from unlearning.models.wrapping import unchanged_on_failure


def add_adapter(model: PreTrainedModel, kind: str = "lora", **settings: Any) -> PeftModel:
    """Adds a fresh adapter, which changes nothing yet: LoRA or, with `kind="adalora"`, AdaLoRA.

    Raises:
        ConfigError: for settings that it does not take, or that do not fit the model.
    """
    check_adapter_settings({"kind": kind, **settings})
    return ADAPTERS[kind](model, **settings)


def add_lora(
    model: PreTrainedModel,
    r: int = 16,
    alpha: float = 32,
    dropout: float = 0.05,
    target_modules: Targets = None,
) -> PeftModel:
    """Adds a fresh LoRA adapter (arXiv 2106.09685). The defaults are those of arXiv 2405.15152,
    Section 4.

    Args:
        target_modules: names of linear layers, or `all-linear` for all but the output head; None
            takes PEFT's choice for the architecture, and where it has none, the linear layers of
            the decoder blocks, see `default_targets`.

    Raises:
        ConfigError: the model has an adapter, or lacks the target modules.
    """
    settings = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=target_modules,  # type: ignore[arg-type]
        task_type="CAUSAL_LM", fan_in_fan_out=_has_conv1d(model),
    )  # fmt: skip
    return _put_on(model, settings, target_modules)


def add_adalora(
    model: PreTrainedModel,
    r: int = 16,
    alpha: float = 32,
    dropout: float = 0.05,
    target_modules: Targets = None,
    initial_r: int | None = None,
    warmup_fraction: float = 0.1,
    final_fraction: float = 0.3,
    interval: int = 1,
    orthogonality: float = 0.5,
    total_steps: int = 10_000,
) -> PeftModel:
    """Adds a fresh AdaLoRA adapter (arXiv 2303.10512), which starts with more ranks than it keeps.

    `OptimizedModule` trains it; see `unlearning.models.adalora` for another training loop's part.

    Args:
        r: mean rank of a layer in the end.
        alpha: an update is scaled by alpha / initial_r, all along.
        target_modules: see `add_lora`.
        initial_r: rank of every layer in the beginning; None is 1.5 r (the paper's Section 3.3).
        warmup_fraction: share of the steps before the first rank goes.
        final_fraction: share of the steps after the last one went.
        interval: steps between two allocations.
        orthogonality: weight of the penalty (gamma, which the paper takes from 0.1 to 0.5).
        total_steps: of the training; a Trainer's own replace it.

    Raises:
        ConfigError: the model has an adapter, or lacks the target modules.
    """
    settings = AdaLoraConfig(
        target_r=r, init_r=math.ceil(1.5 * r) if initial_r is None else initial_r,
        tinit=round(warmup_fraction * total_steps), tfinal=round(final_fraction * total_steps),
        deltaT=interval, orth_reg_weight=orthogonality, total_step=total_steps,
        lora_alpha=alpha, lora_dropout=dropout, target_modules=target_modules,  # type: ignore[arg-type]
        task_type="CAUSAL_LM", fan_in_fan_out=_has_conv1d(model),
    )  # fmt: skip
    return _put_on(model, settings, target_modules)


ADAPTERS = {"lora": add_lora, "adalora": add_adalora}


def check_adapter_settings(settings: Mapping[str, Any]) -> None:
    """Checks the arguments of `add_adapter` before a model is loaded.

    Raises:
        ConfigError: naming the argument, and what it may be.
    """
    kind = settings.get("kind", "lora")
    if kind not in ADAPTERS:
        raise ConfigError(f"Unknown adapter kind {kind!r}; choose one of {', '.join(ADAPTERS)}.")
    signature = inspect.signature(ADAPTERS[kind]).parameters
    defaults = {name: p.default for name, p in signature.items() if name != "model"}
    for name in settings:
        if name not in ("kind", *defaults):
            title = {"lora": "LoRA", "adalora": "AdaLoRA"}[kind]
            raise ConfigError(f"{title} takes no {name!r}; it takes {', '.join(defaults)}.")
    given = {**defaults, **settings}
    r, warmup = given["r"], given.get("warmup_fraction", 0)
    wanted = {
        "r": ("a whole number of at least 1", _whole),
        "alpha": ("above 0", lambda v: _number(v) and v > 0),
        "dropout": ("at least 0 and below 1", lambda v: _number(v) and 0 <= v < 1),
        "initial_r": (f"above r={r}, or None", lambda v: v is None or (_whole(v) and v > r)),
        "warmup_fraction": ("at least 0 and below 1", lambda v: _number(v) and 0 <= v < 1),
        "final_fraction": (
            "at least 0, and below 1 together with warmup_fraction",
            lambda v: _number(v) and 0 <= v < 1 - warmup,
        ),
        "interval": ("a whole number of at least 1", _whole),
        "orthogonality": ("at least 0", lambda v: _number(v) and v >= 0),
    }
    for name, (expected, fits) in wanted.items():
        if name in given and not fits(given[name]):
            raise ConfigError(f"The adapter's {name}={given[name]!r} must be {expected}.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _put_on(
    model: PreTrainedModel, settings: LoraConfig | AdaLoraConfig, targets: Targets
) -> PeftModel:
    if isinstance(model, PeftModel):
        raise ConfigError("The model has an adapter already; merge it with merge_adapter first.")
    check_targets(model, targets)
    if targets is None:
        kind = "adalora" if isinstance(settings, AdaLoraConfig) else "lora"
        found = default_targets(model, kind)
        chosen = found if isinstance(found, str) else set(found)  # as PEFT has it
        settings.target_modules = chosen  # type: ignore[assignment]
    try:
        with unchanged_on_failure(model), quiet_about_ranks():
            return get_peft_model(model, settings)  # type: ignore[return-value]
    except ValueError as error:
        raise explain_refusal(error, model, targets) from error


def _has_conv1d(model: nn.Module) -> bool:
    return any(isinstance(module, Conv1D) for module in model.modules())


def is_fresh(model: PeftModel) -> bool:
    """Whether the adapter still changes nothing: a factor of every update is zero."""
    factor = "lora_E" if any("lora_E" in name for name, _ in model.named_parameters()) else "lora_B"
    weights = [p for name, p in model.named_parameters() if factor in name]
    return bool(weights) and all(bool((p == 0).all()) for p in weights)


def merge_adapter(model: PeftModel, base: PreTrainedModel | None = None) -> PreTrainedModel:
    """Merges the adapter into the model's weights, and makes every weight trainable.

    Never into weights of 8 or 16 bits, which would round the update away: of 8 bits the adapter
    goes onto the model in full precision, and those of 16 become fp32.

    Args:
        base: of an 8-bit model, the same in full precision; None loads it by its name.
    """
    if is_eight_bit(model):
        model = transfer_adapter(model, full_precision(model) if base is None else base)
    if unwrap(model).dtype in (torch.float16, torch.bfloat16):
        model.float()
    merged: PreTrainedModel = model.merge_and_unload()  # type: ignore[operator]
    return merged.requires_grad_(True)


def transfer_adapter(model: PeftModel, base: PreTrainedModel) -> PeftModel:
    """Copies the adapter to another copy of its base model."""
    with quiet_about_ranks():
        weights = get_peft_model_state_dict(model, save_embedding_layers=False)
        settings = copy.deepcopy(model.peft_config[model.active_adapter])
        moved: PeftModel = get_peft_model(base, settings)  # type: ignore[assignment]
        result: Any = set_peft_model_state_dict(moved, weights)
    assert not result.unexpected_keys, result.unexpected_keys
    return moved
