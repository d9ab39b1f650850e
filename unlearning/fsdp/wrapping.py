"""Chooses which modules FSDP gathers as units."""

from __future__ import annotations

from collections.abc import Callable

from peft import PeftModel
from torch import nn

from unlearning.models.decoder import CausalLM, unwrap
from unlearning.models.parts import decoder_of

WrapPolicy = Callable[[nn.Module, bool, int], bool]


def wrap_policy(policy: CausalLM) -> WrapPolicy:
    """Returns the wrap policy: each layer of the decoder is a unit, and each factor of an adapter.

    Everything else, embeddings and head included, belongs to the root unit, which is whole during a
    training step: the losses use the head's weight without calling the head.

    An adapter's factors are units of their own, apart from their frozen layer: a unit with one
    trained weight has gradients, and optimizer traffic, for all of its weights, and a frozen unit
    has none. This also lets `adapter_off` switch the factors off without FSDP.
    """
    apart = set(decoder_layers(policy))
    if isinstance(policy, PeftModel):
        apart |= {module for module in policy.modules() if _is_factor(module)}

    def wrap(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
        return recurse or module in apart

    return wrap


def decoder_layers(policy: CausalLM) -> list[nn.Module]:
    """Returns the repeated layers: the children of the module list that holds most of the
    weights."""
    lists = [m for m in decoder_of(unwrap(policy)).modules() if isinstance(m, nn.ModuleList)]
    sizes = [sum(p.numel() for p in each.parameters()) for each in lists]
    return list(lists[sizes.index(max(sizes))]) if lists else []


def _is_factor(module: nn.Module) -> bool:
    trained = [p.requires_grad for p in module.parameters()]
    return bool(trained) and all(trained) and not list(module.children())
