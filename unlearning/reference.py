"""The frozen reference model of the KL term, as cheaply as it can be had.

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

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel
from torch import Tensor, nn

from unlearning.adapter import is_fresh
from unlearning.backbone import CausalLM, decode, evaluating, frozen_copy, output_head
from unlearning.data.layout import padded_batch
from unlearning.errors import ConfigError
from unlearning.fingerprint import weights_fingerprint
from unlearning.reference_cache import HiddenStore
from unlearning.token_losses import Head
from unlearning.types import Batch, Role, Rows, Sequence

Mode = Literal["auto", "adapter_off", "cached", "copy"]


class Reference(ABC):
    """Hidden states of the model before unlearning at the loss positions of a role."""

    @abstractmethod
    def hidden(self, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
        """Per role [N, D], in the order of the batch's `loss_index`; without gradient."""

    @abstractmethod
    def head(self) -> Head:
        """The reference's output head: weight [V, D], bias [V] or None."""

    def prepare(self, sequences: Mapping[Role, list[Sequence]], pad_token_id: int) -> None:
        """Compute ahead what can be, from the training sequences. The policy is untrained yet."""
        return None  # most have nothing to compute


class AdapterOff(Reference):
    """The policy without its adapter.

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
        with self._policy[0].disable_adapter():
            return _hidden(self._policy[0], batch, roles)

    def head(self) -> Head:
        return output_head(self._policy[0])  # frozen: adapters on the head are refused


class Copy(Reference):
    """A second, frozen model: a copy of the policy, or another one.

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
        model = self._model[0]
        if model.device != batch.rows.input_ids.device:
            nn.Module.to(model, batch.rows.input_ids.device)  # Lightning does not see it
        return _hidden(self._model[0], batch, roles)

    def head(self) -> Head:
        return output_head(self._model[0])


class Cached(Reference):
    """Hidden states computed once for each training sequence, and a frozen output head.

    Exact: the KL is over the whole vocabulary, not over a few stored logits.

    Args:
        policy: the model before its first step.
        cache_dir: where the states are kept; None keeps them in memory.
        dtype: of the stored states; bf16 halves the space and moves the KL by about 1e-6.
        batch_size: sequences in a forward while computing.
        model: the reference, where that is another model; let go once its states are computed.
    """

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
        weight, bias = output_head(self._model[0])
        self._head: Head = (_frozen(weight), None if bias is None else _frozen(bias))
        self.cache_dir, self.dtype, self.batch_size = cache_dir, dtype, batch_size
        self.stores: dict[Role, HiddenStore] = {}

    @torch.no_grad()
    def prepare(self, sequences: Mapping[Role, list[Sequence]], pad_token_id: int) -> None:
        assert self._model is not None, "prepared once"
        model = self._model[0]
        model.to(self._policy[0].device)  # type: ignore[arg-type]
        key = None
        if self.cache_dir is not None:
            key = f"{weights_fingerprint(model)}-{_precision(model)}"
        for role, items in sequences.items():
            self.stores[role] = HiddenStore.open_or_build(
                items, self._states(model, items, pad_token_id), self._head[0].shape[1],
                self.dtype, self.cache_dir, key,
            )  # fmt: skip
        self._model = None

    def _states(
        self, model: CausalLM, items: list[Sequence], pad_token_id: int
    ) -> Iterator[tuple[int, Tensor]]:
        """(sequence number, [tokens, D]), long sequences first: few pads in a batch."""
        order = sorted(
            range(len(items)), key=lambda n: -len(items[n].prompt_ids + items[n].response_ids)
        )
        with evaluating(model):
            for start in range(0, len(order), self.batch_size):
                numbers = order[start : start + self.batch_size]
                batch = padded_batch([("retain", [(n, items[n]) for n in numbers])], pad_token_id)
                batch = batch.to(model.device)
                states = _hidden(model, batch, {"retain"})["retain"].to(self.dtype).cpu()
                lengths = [len(items[n].response_ids) for n in numbers]
                yield from zip(numbers, states.split(lengths), strict=True)

    def hidden(self, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
        device = batch.rows.input_ids.device
        return {
            role: self.stores[role].rows(batch.answers[role].examples).to(device) for role in roles
        }

    def head(self) -> Head:
        device = self._policy[0].device
        if self._head[0].device != device:
            weight, bias = self._head
            self._head = (weight.to(device), None if bias is None else bias.to(device))
        return self._head


def build_reference(
    mode: Mode,
    policy: CausalLM,
    *,
    cache_dir: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    cache_bytes: int = 0,
    cache_limit: int = 8 << 30,
    roles: frozenset[Role] | set[Role] = frozenset({"retain"}),
    model: CausalLM | None = None,
) -> Reference:
    """The reference in a mode; `auto` takes what costs least.

    `auto`: a LoRA policy is its own reference with the adapter off; otherwise the states are cached
    if `cache_bytes` stay below `cache_limit`; otherwise a second model is kept.

    Args:
        model: the reference, where it is another model than the policy before its first step.

    Raises:
        ConfigError: the mode cannot serve this policy or these roles.
    """
    if mode == "auto":
        fits = cache_bytes <= cache_limit and "mismatch" not in roles
        own = isinstance(policy, PeftModel) and model is None
        mode = "adapter_off" if own else "cached" if fits else "copy"
    if mode == "adapter_off":
        if model is not None:
            raise ConfigError(
                "reference=adapter_off is the policy without its adapter, and another model was "
                "given as the reference. Use cached or copy."
            )
        return AdapterOff(policy)
    if mode == "copy":
        return Copy(policy, model)
    if mode == "cached":
        if "mismatch" in roles:
            raise ConfigError(
                "reference=cached cannot serve a term on mismatch answers: they meet other prompts "
                "every epoch. Use copy, or adapter_off with LoRA."
            )
        return Cached(policy, cache_dir, dtype, model=model)
    raise ConfigError(f"Unknown reference {mode!r}; choose auto, adapter_off, cached or copy.")


def check_reference_model(policy: CausalLM, model: CausalLM) -> None:
    """Refuse a reference that would move with the policy, or that speaks of other tokens.

    Raises:
        ConfigError: it shares weights with the policy, or has another vocabulary.
    """
    ours = {p.data_ptr() for p in policy.parameters()}
    shared = [name for name, p in model.named_parameters() if p.data_ptr() in ours]
    if shared:
        raise ConfigError(
            f"The reference shares {len(shared)} weights with the policy ({shared[0]}), so it "
            "would change with it. Give a model that was loaded apart."
        )
    sizes = [output_head(one)[0].shape[0] for one in (policy, model)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"The policy has {sizes[0]} tokens and the reference {sizes[1]}; a KL between them "
            "needs one vocabulary. Give the model that the policy was fine-tuned from."
        )


@torch.no_grad()
def _hidden(model: CausalLM, batch: Batch, roles: set[Role]) -> dict[Role, Tensor]:
    """One forward, on the retain rows alone where no other role is asked for."""
    first = batch.retain_start if roles == {"retain"} else 0
    rows = batch.rows
    if first:
        rows = Rows(rows.input_ids[first:], rows.position_ids[first:], rows.attention_mask[first:])
    with evaluating(model):
        states = decode(model, rows).flatten(0, 1)
    shift = first * rows.input_ids.shape[1]
    return {role: states[batch.answers[role].loss_index - shift] for role in roles}


def _frozen(parameter: Tensor) -> Tensor:
    """The tensor itself where it is frozen already (LoRA), a copy where it will be trained."""
    return parameter.detach().clone() if parameter.requires_grad else parameter.detach()


def _precision(model: CausalLM) -> str:
    """In what the states are computed: a bf16 run must not read an fp32 run's."""
    kind = model.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype
    return str(dtype).removeprefix("torch.")
