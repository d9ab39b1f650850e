"""Gathers the whole model from its shards: temporarily on every rank, or for good on rank 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning import LightningModule, Trainer
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP  # noqa: N817

from unlearning.fsdp.state import offloads
from unlearning.models.decoder import CausalLM

MARK = "_is_fsdp_managed_module"


@contextmanager
def gathered(trainer: Trainer, module: LightningModule) -> Iterator[CausalLM]:
    """Context in which the policy of a module in training is whole, without FSDP's wrappers.

    Within it, each rank may run any number of forwards; through the wrappers all ranks would have
    to run the same number. Changes of the weights are lost. Where the model is sharded, all ranks
    have to enter; elsewhere this is the policy itself.
    """
    policy: CausalLM = module.policy  # type: ignore[assignment]
    root = _root(trainer)
    if root is None:
        yield policy
        return
    with FSDP.summon_full_params(root, writeback=False):
        units = _unwrap(policy)
        try:
            yield policy
        finally:
            for owner, name, unit in units:
                owner._modules[name] = unit
            _mark(policy, True)


def whole_policy(trainer: Trainer, module: LightningModule) -> CausalLM | None:
    """Returns the trained policy on rank 0 as an ordinary model to be saved; None on the others.

    Where the model is sharded, all ranks have to call it, and the module cannot be trained any
    further: the returned model is in the host's memory and needs no process group.
    """
    policy: CausalLM = module.policy  # type: ignore[assignment]
    root, leads = _root(trainer), trainer.is_global_zero
    if root is None:
        return policy if leads else None
    offload = offloads(root)
    with FSDP.summon_full_params(root, writeback=False, rank0_only=True, offload_to_cpu=offload):
        if not leads:
            return None
        # By identity: a tied weight is one weight, before and after.
        kept = {id(p): _copy(p) for p in policy.parameters()}
        places = [
            (owner, name, kept[id(p)])
            for owner in policy.modules()
            for name, p in owner._parameters.items()
            if p is not None
        ]
    _unwrap(policy)
    for owner, name, parameter in places:
        owner._parameters[name] = parameter
    return policy.cpu()  # the buffers


def _root(trainer: Trainer) -> FSDP | None:
    model = trainer.strategy.model
    return model if isinstance(model, FSDP) else None


def _unwrap(policy: nn.Module) -> list[tuple[nn.Module, str, FSDP]]:
    """Removes the FSDP wrappers from the module tree, and returns where they were."""
    units = [
        (owner, name, child)
        for owner in policy.modules()
        for name, child in owner.named_children()
        if isinstance(child, FSDP)
    ]
    for owner, name, unit in units:
        owner._modules[name] = unit.module
    _mark(policy, False)
    return units


def _mark(policy: nn.Module, managed: bool) -> None:
    """Sets FSDP's mark, by which `generate` of transformers continues until all ranks are done."""
    for module in policy.modules():
        if MARK in vars(module):
            setattr(module, MARK, managed)


def _copy(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().cpu().clone(), parameter.requires_grad)
