"""References that run a model at every step: the policy without its adapter, or a second model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from peft import PeftModel
from torch import Tensor, nn

from unlearning.errors import ConfigError
from unlearning.head.logits import Head
from unlearning.models.adapter import is_fresh
from unlearning.models.decoder import CausalLM, frozen_copy, output_head
from unlearning.reference.base import (
    Reference,
    check_reference_model,
    hidden_states,
    states_in_layers,
)
from unlearning.terms import Layer
from unlearning.types import Batch, Role


class AdapterOff(Reference):
    """Reference by the policy itself with its adapter switched off.

    Raises:
        ConfigError: the policy has no adapter, or one that was trained already: that one is part
            of the model before unlearning, and switching it off would give another model.
    """

    def __init__(self, policy: CausalLM) -> None:
        if not isinstance(policy, PeftModel):
            raise ConfigError("reference=adapter_off needs a LoRA policy; use cached or copy.")
        if not is_fresh(policy):
            raise ConfigError(
                "reference=adapter_off needs a fresh adapter, and this one was trained already: it "
                "is part of the reference. Merge it (merge_adapter) and add a new one, or use copy."
            )
        trained = [n for n, p in policy.named_parameters() if p.requires_grad and "lora_" not in n]
        if trained:
            raise ConfigError(
                f"reference=adapter_off would change with {trained[0]} and {len(trained) - 1} more "
                "weights that are trained beside the adapter. Freeze them, or use cached or copy."
            )
        # In a tuple, the policy is no submodule of whatever holds this reference.
        self._policy = (policy,)

    def hidden(self, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
        with _adapter_off(self._policy[0]):
            return hidden_states(self._policy[0], batch, roles)

    def layers(
        self, batch: Batch, wanted: Mapping[Layer, set[Role]]
    ) -> dict[Layer, dict[Role, Tensor]]:
        with _adapter_off(self._policy[0]):
            return states_in_layers(self._policy[0], batch, wanted)

    def head(self) -> Head:
        return output_head(self._policy[0])  # frozen: adapters on the head are refused


@contextmanager
def _adapter_off(policy: PeftModel) -> Iterator[None]:
    """Switches the adapter off within the block, and leaves every weight as trainable as it was.

    PEFT makes all of an adapter trainable when it switches it on again, also what is frozen since
    no loss depends on it (above the layers of RMU, say).
    """
    frozen = [p for p in policy.parameters() if not p.requires_grad]
    try:
        with policy.disable_adapter():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


class Copy(Reference):
    """Reference by a second, frozen model: a copy of the policy, or another model.

    Args:
        policy: the model before its first step.
        model: the reference, where that is another model; it is frozen in place.
    """

    def __init__(self, policy: CausalLM, model: CausalLM | None = None) -> None:
        if model is not None:
            check_reference_model(policy, model)
            model.eval().requires_grad_(False)
        self._model = (frozen_copy(policy) if model is None else model,)

    def hidden(self, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
        return hidden_states(self._on(batch), batch, roles)

    def layers(
        self, batch: Batch, wanted: Mapping[Layer, set[Role]]
    ) -> dict[Layer, dict[Role, Tensor]]:
        return states_in_layers(self._on(batch), batch, wanted)

    def _on(self, batch: Batch) -> CausalLM:
        """Returns the model on the batch's device, where Lightning does not move it."""
        if self._model[0].device != batch.rows.input_ids.device:
            nn.Module.to(self._model[0], batch.rows.input_ids.device)
        return self._model[0]

    def head(self) -> Head:
        return output_head(self._model[0])
