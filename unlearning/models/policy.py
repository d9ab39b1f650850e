"""Prepares a model for training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel, prepare_model_for_kbit_training

from unlearning.errors import ConfigError
from unlearning.models.adapter import add_adapter
from unlearning.models.decoder import CausalLM, is_eight_bit, unwrap
from unlearning.models.load import disable_dropout, load_model

log = logging.getLogger(__name__)


def prepare_policy(
    model: CausalLM | str,
    adapter: Mapping[str, Any] | None = None,
    keep_dropout: bool = False,
    gradient_checkpointing: bool = False,
) -> CausalLM:
    """Prepares a model for training: train mode, adapter, dropout, fp32, gradient checkpointing.

    Args:
        model: a model, changed in place, or its name or path.
        adapter: arguments of `add_adapter`; None trains what is trainable already.
        keep_dropout: leave the model's own dropout rates alone; an adapter's always are.
        gradient_checkpointing: compute activations again in the backward pass: slower, smaller.

    Raises:
        ConfigError: from `add_adapter`; nothing is trainable; an 8-bit model without an adapter; a
            model wrapped by `torch.compile`.
    """
    policy: CausalLM = (
        load_model(model, keep_dropout=keep_dropout) if isinstance(model, str) else model
    )
    if "_orig_mod" in dict(policy.named_children()):
        raise ConfigError(
            "The model is the output of torch.compile, which renames its weights. Give the model "
            "itself, and call compile(...) of the module that trains it."
        )
    policy.train()
    if not keep_dropout:
        disable_dropout(policy)
    if is_eight_bit(policy) and not isinstance(policy, PeftModel):
        if adapter is None:
            raise ConfigError(
                "The model is in 8 bits, which cannot be trained themselves. Give an adapter "
                "(lora={}), or load the model with eight_bit=False."
            )
        policy = prepare_model_for_kbit_training(policy, use_gradient_checkpointing=False)
    if adapter is not None:
        policy = add_adapter(policy, **adapter)  # type: ignore[arg-type]
    if not is_eight_bit(policy):
        train_in_fp32(policy)
    if gradient_checkpointing:
        # Re-entrant checkpointing breaks under DDP with two forwards.
        unwrap(policy).gradient_checkpointing_enable({"use_reentrant": False})
        unwrap(policy).enable_input_require_grads()
    if not any(p.requires_grad for p in policy.parameters()):
        raise ConfigError(
            "The model has no trainable weight; load the adapter with is_trainable=True."
        )
    return policy


def train_in_fp32(policy: CausalLM) -> None:
    """Casts a model whose trained weights are in half precision to fp32, in place.

    A bf16 weight has 8 bits of precision and an fp16 weight 11: at a learning rate of 2e-6 most
    updates are smaller than half of the last one and lost. What an adapter is on may stay in bf16;
    fp16 may not, since small gradients vanish in it. `Trainer(precision="bf16-true")` computes in
    bf16 all the same, beside fp32 copies of the trained weights.
    """
    trained = {p.dtype for p in policy.parameters() if p.requires_grad}
    half = trained & {torch.float16, torch.bfloat16} or {unwrap(policy).dtype} & {torch.float16}
    if not half:
        return
    log.warning(
        "The model is in %s, in which most updates would be lost to rounding: it is trained in "
        "fp32. Trainer(precision='bf16-true') computes in bf16 beside fp32 copies.",
        " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in half)),
    )
    policy.float()
