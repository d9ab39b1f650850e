"""The reference as hidden states that are computed once and cached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from unlearning.data.layout import padded_batch
from unlearning.data.token_store import token_counts
from unlearning.errors import ConfigError
from unlearning.head.logits import Head
from unlearning.models.adapter import is_fresh
from unlearning.models.decoder import CausalLM, evaluating, output_head
from unlearning.models.fingerprint import (
    base_fingerprint,
    settings_fingerprint,
    weights_fingerprint,
)
from unlearning.progress import counting
from unlearning.reference.base import Reference, check_reference_model, hidden_states
from unlearning.reference.hidden_store import HiddenStore
from unlearning.types import Batch, Role, TokenizedExample


class Cached(Reference):
    """Reference with cached hidden states of all training sequences, and a frozen output head.

    Exact: the KL is over the whole vocabulary, not over a few stored logits.

    Args:
        policy: the model before its first step.
        cache_dir: where the states are kept; None keeps them in memory.
        dtype: of the stored states; bf16 halves the space and moves the KL by about 1e-6.
        batch_size: sequences in a forward while computing.
        model: the reference, where that is another model; released once its states are computed.
    """

    runs = False

    def __init__(
        self,
        policy: CausalLM,
        cache_dir: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 16,
        model: CausalLM | None = None,
    ) -> None:
        if model is not None:
            check_reference_model(policy, model)
        self._policy = (policy,)
        self._model: tuple[CausalLM] | None = (policy if model is None else model,)
        weight, bias, softcap = output_head(self._model[0])
        self._head = Head(_frozen(weight), None if bias is None else _frozen(bias), softcap)
        self.cache_dir, self.dtype, self.batch_size = cache_dir, dtype, batch_size
        self.stores: dict[Role, HiddenStore] = {}

    @torch.no_grad()
    def prepare(
        self, sequences: Mapping[Role, Sequence[TokenizedExample]], pad_token_id: int
    ) -> None:
        assert self._model is not None, "prepared once"
        model = self._model[0]
        model.to(self._policy[0].device)  # type: ignore[arg-type]
        key = None
        if self.cache_dir is not None:
            # A fresh adapter changes nothing yet: the states are those of the model under it,
            # whatever the adapter begins with.
            fresh = isinstance(model, PeftModel) and is_fresh(model)
            weights = base_fingerprint(model) if fresh else weights_fingerprint(model)
            # The same weights with other positions, another window or scale have other states.
            settings = settings_fingerprint(model, with_adapter=not fresh)
            key = f"{weights}-{settings}-{_precision(model)}"
        for role, items in sequences.items():
            self.stores[role] = HiddenStore.open_or_build(
                items, self._states(model, items, pad_token_id, role), self._head.weight.shape[1],
                self.dtype, self.cache_dir, key,
            )  # fmt: skip
        self._model = None

    def _states(
        self, model: CausalLM, items: Sequence[TokenizedExample], pad_token_id: int, role: Role
    ) -> Iterator[tuple[int, Tensor]]:
        """Yields (sequence number, [tokens, D]), long sequences first to save padding."""
        prompts, responses = token_counts(items)
        order = np.argsort(-(prompts + responses), kind="stable")
        with (
            evaluating(model),
            counting(f"hidden states of the reference, {role}", len(order), "answer") as done,
        ):
            for start in range(0, len(order), self.batch_size):
                numbers = order[start : start + self.batch_size].tolist()
                batch = padded_batch([("retain", [(n, items[n]) for n in numbers])], pad_token_id)
                batch = batch.to(model.device)
                states = hidden_states(model, batch, {"retain"})["retain"].to(self.dtype).cpu()
                lengths = responses[numbers].tolist()
                yield from zip(numbers, states.split(lengths), strict=True)
                done(len(numbers))

    def hidden(self, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
        device = batch.rows.input_ids.device
        unknown = [
            r
            for r in roles
            if r not in self.stores or max(batch.answers[r].examples) >= len(self.stores[r])
        ]
        if unknown:
            raise ConfigError(
                f"The cached reference has no states of these {unknown[0]} answers: it knows those "
                "of the training split only. Take reference=copy, or adapter_off with LoRA."
            )
        rows = {role: self.stores[role].rows(batch.answers[role].examples) for role in roles}
        return {role: sent(states, device) for role, states in rows.items()}

    def head(self) -> Head:
        device = self._policy[0].device
        if self._head.weight.device != device:
            weight, bias, softcap = self._head
            self._head = Head(weight.to(device), None if bias is None else bias.to(device), softcap)
        return self._head


def sent(states: Tensor, device: torch.device) -> Tensor:
    """Moves states to a device, through pinned memory, so that the copy is asynchronous."""
    if device.type != "cuda":
        return states.to(device)
    return states.pin_memory().to(device, non_blocking=True)


def _frozen(parameter: Tensor) -> Tensor:
    """Returns the tensor itself where it is frozen already (LoRA), else a frozen copy."""
    return parameter.detach().clone() if parameter.requires_grad else parameter.detach()


def _precision(model: CausalLM) -> str:
    """Names the precision the states are computed in: a bf16 run must not read an fp32 run's."""
    kind = model.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype
    return str(dtype).removeprefix("torch.")
