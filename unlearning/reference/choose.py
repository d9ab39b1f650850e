"""Chooses the reference of a training, and prepares it for the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import PeftModel

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.token_store import token_counts
from unlearning.errors import ConfigError
from unlearning.models.decoder import CausalLM, output_head
from unlearning.models.load import load_model
from unlearning.objective import Objective
from unlearning.reference import CACHEABLE, Mode, build_reference
from unlearning.reference.base import Reference
from unlearning.types import Role, TokenizedExample


def choose_reference(
    mode: Mode,
    policy: CausalLM,
    model: CausalLM | str | None,
    objective: Objective,
    data: UnlearningDataModule | None = None,
    cache_dir: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    sharded: bool = False,
) -> Reference:
    """Builds the reference that an objective needs, prepared for a training on the data.

    Args:
        model: what the reference is, or its name or path; None is the policy as it is.
        data: set up; None, or a role whose data are streamed, leaves nothing to cache for.
        dtype: of cached states.
        sharded: the policy will be split over the ranks.

    Raises:
        ConfigError: the mode cannot serve this policy, these roles or these data.
    """
    if isinstance(model, str):
        model = load_model(model)
    if sharded:
        check_split(objective, isinstance(policy, PeftModel), model is not None)
    inner = {role for roles in objective.reference_layers.values() for role in roles}
    roles = objective.reference_roles | inner
    sequences: dict[Role, Sequence[TokenizedExample]] = {}
    if data is not None:
        sequences = {role: items for role, items in data.sequences.items() if role in roles}
    if roles - sequences.keys() and mode in ("auto", "cached"):
        if mode == "cached" and roles <= CACHEABLE:
            raise ConfigError(
                "reference=cached needs an UnlearningDataModule whose data are not streamed, to "
                "cache for. Use copy, or adapter_off with LoRA, or streaming=false."
            )
        if mode == "auto":
            mode = "adapter_off" if isinstance(policy, PeftModel) and model is None else "copy"
    width = output_head(policy if model is None else model).weight.shape[1]
    reference = build_reference(
        mode, policy, cache_dir=cache_dir, dtype=dtype,
        cache_bytes=_tokens(sequences) * width * dtype.itemsize, passes=_passes(roles, data),
        roles=roles, model=model, sharded=sharded,
        inner=bool(inner) or (data is not None and data.validate),
    )  # fmt: skip
    if sequences and data is not None:
        reference.prepare(sequences, data.pad_token_id)
    return reference


def check_split(objective: Objective, adapter: bool, other: bool) -> None:
    """Checks that a policy which is split over devices can have the reference that an objective
    needs: one that is cached, or the policy without its adapter.

    Args:
        adapter: the policy has one.
        other: the reference is another model than the policy before its first step.

    Raises:
        ConfigError: what is not cached, and what to take instead.
    """
    apart = objective.reference_roles - CACHEABLE
    if objective.reference_layers:
        compared = "hidden states of inner layers"
    elif apart:
        compared = f"{' and '.join(sorted(apart))} answers"
    else:
        return
    if adapter and not other:
        return
    instead = "" if adapter else "train an adapter (model.lora={})"
    if other:
        instead += f"{' and ' if instead else ''}take reference.of=finetuned"
    raise ConfigError(
        "With trainer=fsdp the reference has to be cached, or the policy without its adapter: a "
        f"second model would be whole on every device. Here a loss compares {compared} with the "
        f"reference's, and those are not cached. Either {instead}, or take trainer=ddp."
    )


def _tokens(sequences: Mapping[Role, Sequence[TokenizedExample]]) -> int:
    return sum(int(token_counts(items)[1].sum()) for items in sequences.values())


def _passes(roles: set[Role], data: UnlearningDataModule | None) -> float:
    """Returns how often the training meets each sequence, as far as that is known."""
    if (
        data is None
        or data.trainer is None
        or roles != {"retain"}
        or "retain" not in data.sequences
    ):
        return 0.0
    return data.retain_pairs_drawn() / len(data.sequences["retain"])
